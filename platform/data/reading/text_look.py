"""Where a page may hold text: the network that tells letters from traces and grid, in numpy as the page finder's.

Shapes: h x w pixels, C channels, D outputs; a cell is a square of `CELL_PX` pixels.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from .look import FAINTEST, STRONGEST, Floats, Pixels

WEIGHTS = Path(__file__).with_name("text.npz")
CELL_PX = 4
NEAR_PX, WIDE_PX = 33, 97
"""What counts as the paper around a stroke, and as the surroundings by whose contrast it is judged."""
DILATIONS = (1, 2, 4, 1)
"""Of the layers at an eighth of the size: together they see 130 pixels to every side, some words of a line."""


def text_scores(image: Pixels) -> Floats:
    """RGB (h, w, 3), sides multiples of 8, -> chance of text in every cell (h / 4, w / 4)."""
    logits = cell_logits(ink_of(image), _weights())
    return (1 / (1 + np.exp(-np.clip(logits, -30, 30)))).astype(np.float32)


def ink_of(image: Pixels) -> Floats:
    """RGB (h, w, 3) -> darkness of each channel against the paper around it, in units of the contrast there."""
    levels = image.astype(np.float32)
    ink = cv2.blur(levels, (NEAR_PX, NEAR_PX), borderType=cv2.BORDER_REPLICATE) - levels
    power = cv2.blur((ink * ink).mean(axis=2), (WIDE_PX, WIDE_PX), borderType=cv2.BORDER_REPLICATE)
    # Running sums of squares end a little below zero where all is even.
    contrast = np.sqrt(np.maximum(power, 0))[..., None]
    found: Floats = np.clip(ink / (contrast + FAINTEST), -STRONGEST, STRONGEST)
    return found


def cell_logits(ink: Floats, weights: Mapping[str, Floats]) -> Floats:
    """Ink (h, w, 3) -> logits (h / 4, w / 4); fit_text.py trains the same in torch."""
    half = _convolved(ink, weights, "to_half", stride=2)
    quarter = _convolved(half, weights, "to_quarter", stride=2)
    eighth = _convolved(quarter, weights, "to_eighth", stride=2)
    for number, dilation in enumerate(DILATIONS):
        eighth = _convolved(eighth, weights, f"wide{number}", dilation=dilation)
    both = np.concatenate([quarter, eighth.repeat(2, axis=0).repeat(2, axis=1)], axis=2)
    logits: Floats = _convolved(both, weights, "joined") @ weights["head"] + weights["head_bias"]
    return logits[..., 0]


def _convolved(maps: Floats, weights: Mapping[str, Floats], name: str, stride: int = 1, dilation: int = 1) -> Floats:
    """3 x 3 convolution and rectifier: (h, w, C) -> (h / stride, w / stride, D), zeros around the picture."""
    kernel = weights[f"{name}_kernel"]
    height_px, width_px, channels = maps.shape
    padded = np.pad(maps, ((dilation, dilation), (dilation, dilation), (0, 0)))
    total = np.zeros((height_px // stride * (width_px // stride), kernel.shape[-1]), np.float32)
    for down in range(3):
        for right in range(3):
            top, left = down * dilation, right * dilation
            seen = padded[top : top + height_px : stride, left : left + width_px : stride]
            total += seen.reshape(-1, channels) @ kernel[down, right]
    rectified: Floats = np.maximum(total + weights[f"{name}_bias"], 0)
    return rectified.reshape(height_px // stride, width_px // stride, -1)


@lru_cache(maxsize=1)
def _weights() -> dict[str, Floats]:
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}
