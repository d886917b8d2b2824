"""Late fusion: a signal model and a page model that learn on their own; their logits are averaged.

The plainest way to use both inputs, and so the floor of every hybrid model. Nothing flows back from the fused logits
into the two models: with `objective.lambda_kd: 0` each learns what it would learn alone. The fused stream is what is
deployed, so inference needs the signal beside the page; a record without a signal gets the page's logits.

Shapes: B records, K labels.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..batch import EcgBatch, Prediction
from ..options import require, require_range
from ..sizes import RESNET1D, RESNET18, joined
from .page_cnn import PageCnn, PageCnnConfig
from .resnet1d import ResNet1dClassifier, ResNet1dConfig

SIZES = joined(RESNET18, RESNET1D)


@dataclass(frozen=True, kw_only=True)
class LateFusionConfig:
    page_encoder: str = "resnet18"
    page_encoder_options: dict[str, Any] = field(default_factory=dict)
    signal_encoder: str = "resnet1d18"
    signal_encoder_options: dict[str, Any] = field(default_factory=dict)
    dropout: float = 0.1
    """In front of both classifiers."""
    fusion: str = "mean"
    """`mean` of the two logits, or `learned`: a weight for every label, which starts at the mean."""

    def __post_init__(self) -> None:
        """Raises ValueError for numbers out of range and unknown words."""
        require_range(self, dropout=(0, 1))
        require(self.fusion, ("mean", "learned"), "model.options.fusion")


class LateFusion(nn.Module):
    inputs = frozenset({"page", "signal"})
    deployed_stream = "fused"
    streams = ("image", "signal", "fused")

    def __init__(self, config: LateFusionConfig, num_labels: int):
        super().__init__()
        self.config = config
        page = PageCnnConfig(
            page_encoder=config.page_encoder, page_encoder_options=config.page_encoder_options, dropout=config.dropout
        )
        signal = ResNet1dConfig(
            signal_encoder=config.signal_encoder,
            signal_encoder_options=config.signal_encoder_options,
            dropout=config.dropout,
        )
        self.page_model = PageCnn(page, num_labels)
        self.signal_model = ResNet1dClassifier(signal, num_labels)
        self.page_weight = nn.Parameter(torch.zeros(num_labels)) if config.fusion == "learned" else None

    def forward(self, batch: EcgBatch) -> Prediction:
        """Logits of the page, of the signal, and of both."""
        page, signal = self.page_model(batch), self.signal_model(batch)
        logits = page.logits | signal.logits
        fused = self._fuse(logits["image"].detach(), logits["signal"].detach(), batch.signal_known)
        return Prediction(logits={**logits, "fused": fused}, features=signal.features)

    def _fuse(self, image: Tensor, signal: Tensor, signal_known: Tensor) -> Tensor:
        share = 0.5 if self.page_weight is None else torch.sigmoid(self.page_weight)
        return torch.where(signal_known[:, None], share * image + (1 - share) * signal, image)
