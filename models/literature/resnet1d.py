"""ResNet1D: the signal alone, through the same encoder and head as VizECGNet's signal stream.

Source: the residual network of He et al. 2016 (arXiv 1512.03385) over time, as in the CODE study (Ribeiro et al. 2020,
doi 10.1038/s41467-020-15432-4). Which signal models VizECGNet's paper compares with could not be recovered.

Shapes: B records, K labels, N signal tokens, D channels.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..batch import EcgBatch, Prediction
from ..encoders import signal_encoder
from ..heads import classification_head, masked_mean
from ..norms import encode_signals
from ..options import require_range
from ..sizes import RESNET1D

SIZES = RESNET1D


@dataclass(frozen=True, kw_only=True)
class ResNet1dConfig:
    signal_encoder: str = "resnet1d18"
    signal_encoder_options: dict[str, Any] = field(default_factory=dict)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Raises ValueError for numbers out of range."""
        require_range(self, dropout=(0, 1))


class ResNet1dClassifier(nn.Module):
    inputs = frozenset({"signal"})
    deployed_stream = "signal"
    streams = ("signal",)

    def __init__(self, config: ResNet1dConfig, num_labels: int):
        super().__init__()
        self.config = config
        self.signal_encoder = signal_encoder(config.signal_encoder, None, config.signal_encoder_options)
        self.signal_head = classification_head(self.signal_encoder.dim, num_labels, config.dropout)

    def forward(self, batch: EcgBatch) -> Prediction:
        """Logits of the signal."""
        tokens, _, valid = encode_signals(self.signal_encoder, batch)
        pooled = masked_mean(tokens, valid)
        return Prediction(logits={"signal": self.signal_head(pooled)}, features={"signal": pooled})
