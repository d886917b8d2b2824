"""The sheet of paper in a photo: a bright quadrangle on a darker table."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .grid import FloatArray

WORK_PX = 400
LEAST_SHARE, MOST_SHARE = 0.25, 0.97
"""Of the picture: less is no page, more is the picture itself."""
LEAST_CONTRAST = 30.0
LEAST_FILLED, MOST_FILLED = 0.93, 1.06
"""Of the quadrangle by the bright region: other shapes are no sheets."""
EDGE_PX = 2


def find_sheet(image: NDArray[np.uint8]) -> FloatArray | None:
    """Corners (4, 2) of the sheet in a picture, uint8 RGB (h, w, 3): clockwise from the top left, pixels (x, y).

    None unless all four corners are seen and the region is bright, filled and has straight sides.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shrink = max(1.0, max(grey.shape) / WORK_PX)
    small = cv2.resize(grey, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    small = cv2.morphologyEx(small, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))  # traces and text are no holes
    _, bright = cv2.threshold(small, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    region = max(contours, key=cv2.contourArea)
    corners = _quadrangle(region)
    if corners is None or not _is_sheet(small, bright, region, corners):
        return None
    return (corners + 0.5) * (image.shape[1] / small.shape[1], image.shape[0] / small.shape[0])


def sheet_sides_px(corners: FloatArray) -> tuple[float, float]:
    """Width and height of the sheet set square: its longer sides, so that nothing is made coarser."""
    lengths = np.hypot(*(corners - np.roll(corners, -1, axis=0)).T)
    return float(max(lengths[0], lengths[2])), float(max(lengths[1], lengths[3]))


def _quadrangle(region: NDArray[Any]) -> FloatArray | None:
    """The four corners of a region's hull, from the top left clockwise."""
    hull = cv2.convexHull(region)
    around = cv2.arcLength(hull, True)
    for tolerance in (0.02, 0.03, 0.05):
        corners = cv2.approxPolyDP(hull, tolerance * around, True)[:, 0].astype(np.float64)
        if len(corners) == 4:
            turned = np.arctan2(*(corners - corners.mean(axis=0)).T[::-1])
            corners = corners[np.argsort(turned)]
            return np.roll(corners, -int(corners.sum(axis=1).argmin()), axis=0)
    return None


def _is_sheet(small: NDArray[Any], bright: NDArray[Any], region: NDArray[Any], corners: FloatArray) -> bool:
    height_px, width_px = small.shape
    area = cv2.contourArea(corners.astype(np.float32))
    if not LEAST_SHARE < area / small.size < MOST_SHARE:
        return False
    if not LEAST_FILLED < cv2.contourArea(region) / area < MOST_FILLED:
        return False
    inside = (corners >= EDGE_PX) & (corners <= np.array([width_px, height_px]) - 1 - EDGE_PX)
    if not inside.all():
        return False
    return float(small[bright > 0].mean() - small[bright == 0].mean()) > LEAST_CONTRAST
