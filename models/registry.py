"""Name -> model. Every entry has a `debug` size that trains on a CPU in seconds.

A new system is a module with a configuration (a frozen dataclass with defaults), a model and its sizes, and one line
here. What a model must have stands in `Model`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import nn

from .batch import EcgBatch, Prediction
from .literature import late_fusion, page_cnn, resnet1d
from .options import require, require_fields
from .sizes import Sizes
from .vizecgnet import SIZES as VIZECGNET_SIZES
from .vizecgnet import VizEcgNet, VizEcgNetConfig


class Model(Protocol):
    """What training, evaluation, scoring and serving ask of a model; it is a torch module besides.

    One that reads the page alone for its deployed stream also has `forward_deployed(page) -> logits`.
    """

    inputs: ClassVar[frozenset[str]]
    """Of `page` and `signal`: what it reads."""
    streams: ClassVar[tuple[str, ...]]
    """The keys of its logits, in order."""
    deployed_stream: ClassVar[str]
    config: Any
    """The dataclass it was built from, with every option spelled out."""

    def __call__(self, batch: EcgBatch) -> Prediction: ...


@dataclass(frozen=True)
class ModelEntry:
    model: Callable[[Any, int], nn.Module]
    """(config, number of labels) -> module; a class with what `Model` says."""
    config: type
    sizes: Sizes


MODELS: dict[str, ModelEntry] = {
    "vizecgnet": ModelEntry(VizEcgNet, VizEcgNetConfig, VIZECGNET_SIZES),
    "resnet1d": ModelEntry(resnet1d.ResNet1dClassifier, resnet1d.ResNet1dConfig, resnet1d.SIZES),
    "resnet18": ModelEntry(page_cnn.PageCnn, page_cnn.PageCnnConfig, page_cnn.RESNET18_SIZES),
    "mobilenetv3": ModelEntry(page_cnn.PageCnn, page_cnn.PageCnnConfig, page_cnn.MOBILENETV3_SIZES),
    "late-fusion": ModelEntry(late_fusion.LateFusion, late_fusion.LateFusionConfig, late_fusion.SIZES),
}


def build_model(name: str, size: str, num_labels: int, options: dict[str, Any] | None = None) -> nn.Module:
    """A new model with random weights; `options` go over those of the size.

    Raises:
        ValueError: unknown name, size or option; the sentence names the nearest valid one.
    """
    require(name, list(MODELS), "model.name")
    entry = MODELS[name]
    require_fields(options or {}, entry.config)
    require(size, list(entry.sizes), "model.size")
    return entry.model(entry.config(**{**entry.sizes[size], **(options or {})}), num_labels)
