"""What the page finder sees of a picture: its ink, small and evenly lit, and the network that judges it.

Shapes: h x w pixels of the picture, S = `LOOK_PX`, B pictures, C channels.
"""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

LOOK_PX = 256
NEAR_PX, WIDE_PX = 33, 65
"""What counts as the paper around a stroke, and as the surroundings by whose contrast it is judged."""
FAINTEST = 2.0
"""Grey levels; contrast below it is noise and stays small."""
STRONGEST = 4.0
POOLED = 4
"""The last layer is averaged over 4 x 4 fields: where something stands says which way is up."""

TURNS_DEG = (0, 90, 180, 270)


def look_of(image: Pixels) -> Floats:
    """RGB (h, w, 3) -> (S, S): darkness against the paper around it, in units of the contrast there; 0 beside it."""
    height_px, width_px = image.shape[:2]
    scale = LOOK_PX / max(height_px, width_px)
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    while max(grey.shape) >= 4 * LOOK_PX and min(grey.shape) >= 2:
        # Halving is exact and ten times faster than the general case of INTER_AREA.
        height_px, width_px = (side_px // 2 for side_px in grey.shape)
        grey = cv2.resize(grey[: 2 * height_px, : 2 * width_px], (width_px, height_px), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(grey, size, interpolation=how).astype(np.float32)
    ink = cv2.blur(small, (NEAR_PX, NEAR_PX), borderType=cv2.BORDER_REPLICATE) - small
    # Running sums of squares end a little below zero where all is even.
    contrast = np.sqrt(np.maximum(cv2.blur(ink * ink, (WIDE_PX, WIDE_PX), borderType=cv2.BORDER_REPLICATE), 0))
    ink = np.clip(ink / (contrast + FAINTEST), -STRONGEST, STRONGEST)
    look = np.zeros((LOOK_PX, LOOK_PX), np.float32)
    left, top = (LOOK_PX - size[0]) // 2, (LOOK_PX - size[1]) // 2
    look[top : top + size[1], left : left + size[0]] = ink
    return look


def judge(looks: Floats, weights: Mapping[str, Floats]) -> Floats:
    """Looks (B, S, S) -> logits (B, 5): of the four turns that would set each upright, and of being an ECG.

    Convolutions of stride 2 with rectifiers, then a linear layer; fit.py trains the same in torch.
    """
    maps = looks[..., None]
    for layer in range(sum(name.startswith("kernel") for name in weights)):
        maps = np.maximum(halve(maps, weights[f"kernel{layer}"]) + weights[f"bias{layer}"], 0)
    batch, side, _, channels = maps.shape
    fields = maps.reshape(batch, POOLED, side // POOLED, POOLED, side // POOLED, channels).mean(axis=(2, 4))
    features = np.concatenate([fields.reshape(batch, -1), maps.max(axis=(1, 2))], axis=1)
    logits: Floats = features @ weights["head"] + weights["head_bias"]
    return logits


def halve(maps: Floats, kernel: Floats) -> Floats:
    """Convolution of stride 2: (B, H, W, C) with (K, K, C, D) -> (B, H/2, W/2, D); K odd, zeros around the picture."""
    width, half = kernel.shape[0], kernel.shape[0] // 2
    padded = np.pad(maps, ((0, 0), (half, half), (half, half), (0, 0)))
    height_px, width_px = maps.shape[1:3]
    patches = [
        padded[:, down : down + height_px : 2, right : right + width_px : 2]
        for down in range(width)
        for right in range(width)
    ]
    return np.concatenate(patches, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
