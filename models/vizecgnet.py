"""VizECGNet: a page stream and a signal stream in training, the page alone at inference (arXiv 2408.02888, ICIP 2024).

    page   -> encoder -> p_0 -> SMAM_1 -> p_1 ... SMAM_d -> p_d -> pool -> image head      (deployed)
    signal -> encoder -> s_0 -> SMAM_1 -> s_1 ... SMAM_d -> s_d -> pool -> signal head
    fused, page side     c_r = CMAM_r(c_(r-1) + p_r, s_r), c_0 = 0
    fused, signal side   e_r = CMAM_r(e_(r-1) + s_r, p_r), e_0 = 0      pool(c_d), pool(e_d) -> fused head

The image head never sees what CMAM made, so what is deployed is exactly what was trained; the fused head sees both and
can teach. Of the paper's wiring only the idea could be recovered: every choice here is a field of the configuration.

Shapes: B records, K labels, N page tokens, M signal tokens, D channels.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .attention import CrossModalAttention, SelfModalAttention
from .batch import EcgBatch, Prediction
from .encoders import PageEncoder, signal_encoder
from .heads import classification_head, masked_mean
from .norms import encode_signals
from .options import require_range
from .sizes import RESNET1D, RESNET18, joined

SIZES = joined(
    RESNET18,
    RESNET1D,
    {"debug": {"dim": 128, "num_heads": 4}, "small": {"dim": 256, "num_heads": 4}, "base": {}},
)


@dataclass(frozen=True, kw_only=True)
class VizEcgNetConfig:
    page_encoder: str = "resnet18"
    """Any timm model."""
    page_encoder_options: dict[str, Any] = field(default_factory=dict)
    signal_encoder: str = "resnet1d18"
    signal_encoder_options: dict[str, Any] = field(default_factory=dict)
    dim: int = 512
    """Channels of a token, in both streams."""
    num_heads: int = 8
    attention_depth: int = 1
    """Rounds of SMAM and CMAM; 0 leaves the plain encoders."""
    use_smam: bool = True
    use_cmam: bool = True
    attention_dropout: float = 0.0
    dropout: float = 0.1
    """On the pooled features in front of every head."""
    cross_in_image_path: bool = False
    """Let the image head read CMAM's page tokens in training, dropped per record with `modality_dropout`."""
    modality_dropout: float = 0.5

    def __post_init__(self) -> None:
        """Raises ValueError for numbers out of range."""
        require_range(self, dim=(4, None), num_heads=(1, None), attention_depth=(0, None))
        require_range(self, attention_dropout=(0, 1), dropout=(0, 1), modality_dropout=(0, 1))


class VizEcgNet(nn.Module):
    inputs = frozenset({"page", "signal"})
    deployed_stream = "image"
    streams = ("image", "signal", "fused")

    def __init__(self, config: VizEcgNetConfig, num_labels: int):
        super().__init__()
        self.config = config
        self.page_encoder = PageEncoder(config.page_encoder, config.dim, config.page_encoder_options)
        self.signal_encoder = signal_encoder(config.signal_encoder, config.dim, config.signal_encoder_options)
        self.page_smam = self._rounds(SelfModalAttention, config.use_smam)
        self.signal_smam = self._rounds(SelfModalAttention, config.use_smam)
        self.page_cmam = self._rounds(CrossModalAttention, config.use_cmam)
        self.signal_cmam = self._rounds(CrossModalAttention, config.use_cmam)
        self.image_head = classification_head(config.dim, num_labels, config.dropout)
        self.signal_head = classification_head(config.dim, num_labels, config.dropout)
        self.fused_head = classification_head(2 * config.dim, num_labels, config.dropout)

    def _rounds(self, module: type[nn.Module], used: bool) -> nn.ModuleList:
        config = self.config
        depth = config.attention_depth if used else 0
        return nn.ModuleList(module(config.dim, config.num_heads, config.attention_dropout) for _ in range(depth))

    def forward(self, batch: EcgBatch) -> Prediction:
        """Logits of the image, the signal and the fused head."""
        page_chain, page_position = self._page_chain(batch.page)
        tokens, signal_position, valid = encode_signals(self.signal_encoder, batch)
        signal_chain = self._self_attend(self.signal_smam, tokens, signal_position, valid)
        page_fused, signal_fused = self._cross_attend(page_chain, signal_chain, page_position, signal_position, valid)
        pooled_page_fused = page_fused.mean(1)
        pooled_image = self._image_features(page_chain[-1].mean(1), pooled_page_fused, batch.signal_known)
        pooled_signal = masked_mean(signal_chain[-1], valid)
        pooled_fused = torch.cat([pooled_page_fused, masked_mean(signal_fused, valid)], dim=1)
        logits = {
            "image": self.image_head(pooled_image),
            "signal": self.signal_head(pooled_signal),
            "fused": self.fused_head(pooled_fused),
        }
        return Prediction(logits=logits, features={"image": pooled_image, "signal": pooled_signal})

    def forward_deployed(self, page: Tensor) -> Tensor:
        """page uint8 (B, 3, H, W) -> logits (B, K) of the image head; all that inference needs."""
        page_chain, _ = self._page_chain(page)
        return self.image_head(page_chain[-1].mean(1))

    def _page_chain(self, page: Tensor) -> tuple[list[Tensor], Tensor]:
        tokens, position = self.page_encoder(page)
        return self._self_attend(self.page_smam, tokens, position), position

    def _self_attend(
        self, rounds: nn.ModuleList, tokens: Tensor, position: Tensor, valid: Tensor | None = None
    ) -> list[Tensor]:
        """The private chain of one stream, attention_depth + 1 long, also where SMAM is switched off."""
        chain = [tokens]
        for r in range(self.config.attention_depth):
            chain.append(rounds[r](chain[-1], position, valid) if len(rounds) else chain[-1])
        return chain

    def _cross_attend(
        self, page_chain: list[Tensor], signal_chain: list[Tensor],
        page_position: Tensor, signal_position: Tensor, valid: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        if not len(self.page_cmam):
            return page_chain[-1], signal_chain[-1]
        page_fused, signal_fused = torch.zeros_like(page_chain[0]), torch.zeros_like(signal_chain[0])
        rounds = zip(self.page_cmam, self.signal_cmam, page_chain[1:], signal_chain[1:], strict=True)
        for page_cmam, signal_cmam, page, signal in rounds:
            page_fused = page_cmam(page_fused + page, signal, page_position, signal_position, valid)
            signal_fused = signal_cmam(signal_fused + signal, page, signal_position, page_position)
        return page_fused, signal_fused

    def _image_features(self, private: Tensor, crossed: Tensor, signal_known: Tensor) -> Tensor:
        if not (self.training and self.config.cross_in_image_path):
            return private
        kept = torch.rand(len(private), device=private.device) >= self.config.modality_dropout
        return torch.where((kept & signal_known)[:, None], crossed, private)
