"""A network of timm on the page alone: ResNet18 and MobileNetV3, the two image baselines that VizECGNet's paper names.

Sources: He et al. 2016 (arXiv 1512.03385); Howard et al. 2019 (arXiv 1905.02244). Both as timm builds them, pooling and
classifier included, with random weights; ink in place of colours, as everywhere here.

Shapes: B records, K labels, H x W pixels.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..batch import EcgBatch, Prediction
from ..encoders import as_ink, page_backbone
from ..options import require_range
from ..sizes import MOBILENETV3, RESNET18

RESNET18_SIZES = RESNET18
MOBILENETV3_SIZES = MOBILENETV3


@dataclass(frozen=True, kw_only=True)
class PageCnnConfig:
    page_encoder: str = "resnet18"
    """Any timm model."""
    page_encoder_options: dict[str, Any] = field(default_factory=dict)
    dropout: float = 0.1
    """In front of timm's classifier."""

    def __post_init__(self) -> None:
        """Raises ValueError for numbers out of range."""
        require_range(self, dropout=(0, 1))


class PageCnn(nn.Module):
    inputs = frozenset({"page"})
    deployed_stream = "image"
    streams = ("image",)

    def __init__(self, config: PageCnnConfig, num_labels: int):
        super().__init__()
        self.config = config
        options = {**config.page_encoder_options, "num_classes": num_labels, "drop_rate": config.dropout}
        self.backbone = page_backbone(config.page_encoder, options)

    def forward(self, batch: EcgBatch) -> Prediction:
        """Logits of the page."""
        return Prediction(logits={"image": self.forward_deployed(batch.page)})

    def forward_deployed(self, page: Tensor) -> Tensor:
        """page uint8 (B, 3, H, W) -> logits (B, K); all that inference needs."""
        return self.backbone(as_ink(page, self.backbone))
