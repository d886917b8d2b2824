"""Evidence that people can check: how many rows of traces a picture shows. It puts a rejection into words.

Shapes: S = `LOOK_PX`.
"""

import cv2
import numpy as np

from .look import Floats

DARK = 1.2
"""In units of a look: above the grid's lines on most paper."""
LONGEST_GAP_PX = 3
MIN_LENGTH_PX = 36
MIN_HEIGHT_PX = 4
"""Ruled lines are flatter."""
MAX_THICKNESS_PX = 9.0
MIN_PITCH_PX = 8


def trace_rows(look: Floats) -> int:
    """Rows of an upright look (S, S) along which long, thin, dark, connected curves run."""
    dark = (look > DARK).astype(np.uint8)
    joined = cv2.morphologyEx(dark, cv2.MORPH_CLOSE, np.ones((1, LONGEST_GAP_PX), np.uint8))
    _, _, found, centres = cv2.connectedComponentsWithStats(joined)
    length_px, height_px, area_px = (
        found[1:, column] for column in (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT, cv2.CC_STAT_AREA)
    )
    is_trace = (length_px >= MIN_LENGTH_PX) & (height_px >= MIN_HEIGHT_PX) & (length_px > height_px)
    is_trace &= area_px <= MAX_THICKNESS_PX * length_px
    heights_px = np.sort(centres[1:, 1][is_trace])
    return int((np.diff(heights_px) > MIN_PITCH_PX).sum()) + 1 if len(heights_px) else 0
