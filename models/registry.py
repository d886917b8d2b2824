"""Name -> constructor. Every entry has a `debug` size that trains on a CPU in seconds."""

import difflib
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from torch import nn

from .vizecgnet import VizEcgNet, VizEcgNetConfig

# No stage narrower than 16 channels: below, torch 2.15's strided 1x1 convolution corrupts memory in its CPU backward.
_NARROW = {"channels": (16, 32, 64, 128)}
_LIGHT = {"channels": (32, 64, 128, 256)}
_SHALLOW = {"layers": (1, 1, 1, 1), "stem_type": "deep"}

VIZECGNET_SIZES: dict[str, dict[str, Any]] = {
    "debug": {
        "page_encoder_options": {**_NARROW, **_SHALLOW, "stem_width": 8},
        "signal_encoder": "resnet1d10",
        "signal_encoder_options": _NARROW,
        "dim": 128,
        "num_heads": 4,
    },
    "small": {
        "page_encoder_options": {**_LIGHT, **_SHALLOW, "stem_width": 16},
        "signal_encoder": "resnet1d10",
        "signal_encoder_options": _LIGHT,
        "dim": 256,
        "num_heads": 4,
    },
    "base": {},
}


def _vizecgnet(size: str, num_labels: int, options: dict[str, Any]) -> nn.Module:
    known = [field.name for field in fields(VizEcgNetConfig)]
    for key in options:
        _require(key, known, "model.options")
        _require_type(key, options[key], getattr(VizEcgNetConfig(), key))
    _require(size, list(VIZECGNET_SIZES), "model.size")
    return VizEcgNet(VizEcgNetConfig(**{**VIZECGNET_SIZES[size], **options}), num_labels)


MODELS: dict[str, Callable[[str, int, dict[str, Any]], nn.Module]] = {
    "vizecgnet": _vizecgnet,
}


def build_model(name: str, size: str, num_labels: int, options: dict[str, Any] | None = None) -> nn.Module:
    """A new model with random weights.

    Raises:
        ValueError: unknown name, size or option; the sentence names the nearest valid one.
    """
    _require(name, list(MODELS), "model.name")
    return MODELS[name](size, num_labels, dict(options or {}))


def _require(value: str, valid: list[str], place: str) -> None:
    if value not in valid:
        near = difflib.get_close_matches(value, valid, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(valid)}"
        raise ValueError(f"{place}: unknown value {value!r}; {hint}")


def _require_type(key: str, value: Any, default: Any) -> None:
    """`value` is of the kind of `default`; a whole number passes for a float, true and false for no number."""
    fits = isinstance(value, (int, float)) if isinstance(default, float) else isinstance(value, type(default))
    if not fits or isinstance(value, bool) != isinstance(default, bool):
        raise ValueError(f"model.options.{key} = {value!r}: expected {type(default).__name__}, such as {default!r}")
