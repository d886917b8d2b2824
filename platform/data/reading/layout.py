"""In which rows and columns a page shows its leads: a small network in numpy, as the page finder's (fit_layout.py).

Shapes: h x w pixels of the picture, H = `LOOK_HEIGHT_PX`, W = `LOOK_WIDTH_PX`, B pictures, C channels, K layouts.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ..printing.layout import LAYOUTS
from .look import FAINTEST, STRONGEST, Floats, Pixels, halve

WEIGHTS = Path(__file__).with_name("layout.npz")
LOOK_WIDTH_PX, LOOK_HEIGHT_PX = 448, 320
"""Fine enough for lead names and ticks; pages of another shape are stretched, which changes no layout."""
NEAR_PX, WIDE_PX = 41, 97
"""What counts as the paper around a stroke, and as the surroundings by whose contrast it is judged."""
CELL_PX = 4
FIELDS = (5, 7)
"""Rows and columns of the fields over which the last layer is averaged."""
LEAST_SURE = 0.85
"""Chance of the best layout from which it is told."""

NAMES = tuple(dict.fromkeys(name for names in LAYOUTS for name in names.split(",")))
"""The layouts that are told; behind them the network has one more answer, another layout."""


def find_layout(look: Floats) -> str | None:
    """One of `NAMES` for the look (H, W) of an upright page, None where none is sure."""
    chances = layout_chances(look)
    best = int(chances.argmax())
    return NAMES[best] if best < len(NAMES) and chances[best] >= LEAST_SURE else None


def layout_chances(look: Floats) -> Floats:
    """A look (H, W) -> chances (K + 1,) of `NAMES` and of another layout."""
    logits = layout_logits(look[None], _weights())[0]
    shares: Floats = np.exp(logits - logits.max())
    return shares / shares.sum()


def look_of_layout(grey: Pixels) -> Floats:
    """Grey (h, w) -> (H, W): darkness against the paper around it, in units of the contrast there."""
    while grey.shape[1] >= 2 * LOOK_WIDTH_PX and grey.shape[0] >= 2 * LOOK_HEIGHT_PX:
        # Halving is exact and ten times faster than the general case of INTER_AREA.
        height_px, width_px = (side_px // 2 for side_px in grey.shape)
        even = grey[: 2 * height_px, : 2 * width_px]
        grey = np.asarray(cv2.resize(even, (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8)
    small = cv2.resize(grey, (LOOK_WIDTH_PX, LOOK_HEIGHT_PX), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    ink = cv2.blur(small, (NEAR_PX, NEAR_PX), borderType=cv2.BORDER_REPLICATE) - small
    # Running sums of squares end a little below zero where all is even.
    power = np.maximum(cv2.blur(ink * ink, (WIDE_PX, WIDE_PX), borderType=cv2.BORDER_REPLICATE), 0)
    return np.clip(ink / (np.sqrt(power) + FAINTEST), -STRONGEST, STRONGEST).astype(np.float32, copy=False)


def layout_logits(looks: Floats, weights: Mapping[str, Floats]) -> Floats:
    """Looks (B, H, W) -> logits (B, K + 1): cells of 4 x 4 pixels, 3 x 3 convolutions of stride 2, a linear layer."""
    batch, height_px, width_px = looks.shape
    cells = looks.reshape(batch, height_px // CELL_PX, CELL_PX, width_px // CELL_PX, CELL_PX).swapaxes(2, 3)
    flat = cells.reshape(batch, height_px // CELL_PX, width_px // CELL_PX, CELL_PX**2)
    maps = np.maximum(flat @ weights["cells"] + weights["cells_bias"], 0)
    for layer in range(sum(name.startswith("kernel") for name in weights)):
        maps = np.maximum(halve(maps, weights[f"kernel{layer}"]) + weights[f"bias{layer}"], 0)
    rows, columns = FIELDS
    _, height, width, channels = maps.shape
    fields = maps.reshape(batch, rows, height // rows, columns, width // columns, channels).mean(axis=(2, 4))
    features = np.concatenate([fields.reshape(batch, -1), maps.max(axis=(1, 2))], axis=1)
    logits: Floats = features @ weights["head"] + weights["head_bias"]
    return logits


@lru_cache(maxsize=1)
def _weights() -> dict[str, Floats]:
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}
