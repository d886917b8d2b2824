"""Sizes of the shared encoders, as options of a model: `debug` trains on a CPU in seconds, `base` is the paper's."""

from typing import Any

Sizes = dict[str, dict[str, Any]]
"""Name of a size -> the options that make it."""

# No stage narrower than 16 channels: below, torch 2.15's strided 1x1 convolution corrupts memory in its CPU backward.
_NARROW = {"channels": (16, 32, 64, 128)}
_LIGHT = {"channels": (32, 64, 128, 256)}
_SHALLOW = {"layers": (1, 1, 1, 1), "stem_type": "deep"}

RESNET18: Sizes = {
    "debug": {"page_encoder_options": {**_NARROW, **_SHALLOW, "stem_width": 8}},
    "small": {"page_encoder_options": {**_LIGHT, **_SHALLOW, "stem_width": 16}},
    "base": {},
}

MOBILENETV3: Sizes = {
    "debug": {"page_encoder": "mobilenetv3_small_050"},
    "small": {"page_encoder": "mobilenetv3_small_100"},
    "base": {"page_encoder": "mobilenetv3_large_100"},
}

RESNET1D: Sizes = {
    "debug": {"signal_encoder": "resnet1d10", "signal_encoder_options": _NARROW},
    "small": {"signal_encoder": "resnet1d10", "signal_encoder_options": _LIGHT},
    "base": {},
}


def joined(*sizes: Sizes) -> Sizes:
    """The options of several parts, size by size."""
    return {name: {key: value for part in sizes for key, value in part[name].items()} for name in sizes[0]}
