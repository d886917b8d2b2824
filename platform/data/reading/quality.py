"""How far a page may be trusted, before any model reads it: its layout, and what is wrong with the picture.

Everything is measured on a small grey picture, in a few milliseconds, and only what can be told reliably is said:
a page without warnings is not for that a good one. docs/pages.md has how often each is right.

Shapes: h x w pixels of the picture, b squares of it, H x W pixels of a layout's look, s strips of it, a slopes.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .finder import PageFinding
from .layout import LOOK_HEIGHT_PX, LOOK_WIDTH_PX, find_layout, look_of_layout
from .look import Floats, Pixels

WORK_PX = 1024
SQUARE_PX = 16
INKED_SHARE = 0.15
"""Of the squares, those of the most contrast: traces and text run through them."""
LEAST_SIDE_PX = 420
"""1.5 pixels a millimetre of the usual sheets: a P wave is no higher."""
MOST_BLUR = 0.0035
"""Width of edges over the long side: about a millimetre. A P wave is three wide, a Q wave one."""
MOST_BLUR_PX = 3.2
"""Small pictures that are sharp have edges as wide as this."""
LEAST_CONTRAST = 0.22
"""Of the darkest ink to the paper around it."""
MOST_TILT_DEG = 3.0
LEAST_TILT_PEAK = 2.5
"""By how much the rows stand out at the best slope, over all slopes."""
LEAST_LIKE = 0.35
"""Score of the finder below which a page, though accepted, is a strange one."""
PARTIAL_LAYOUTS = {"6x1": "six", "3x2+1": "six"}
STRIP_PX, ROW_PX = 32, 2
SLOPES: NDArray[np.float64] = np.arange(-0.24, 0.2401, 0.02)

TEXTS = {
    "low_resolution": "The picture is only {long_px} pixels long: small waves may be lost.",
    "blurred": "The picture is blurred: small waves may be lost.",
    "low_contrast": "The traces are hardly darker than the paper.",
    "tilted": "The page is tilted by about {tilt_deg:.0f} degrees; a straight picture, or rectify, reads better.",
    "turn_unclear": "It is not clear which way up the page is; it was read as it came.",
    "strange_page": "The page looks unlike the pages that are known; the reading may mean little.",
    "leads_missing": "The page shows only {leads} of the twelve leads; its other page is not read with it.",
}
"""Sentence by code."""


@dataclass(frozen=True, kw_only=True)
class PageQuality:
    """What was seen of an upright page."""

    layout: str | None = None
    """Name as in `LAYOUTS`, of layouts of several pages that page's own part (`6x1`); None where it is not sure."""
    warnings: tuple[tuple[str, str], ...] = ()
    """(code of `TEXTS`, sentence for people) of everything that makes a reading less sure."""


def page_quality(image: Pixels, finding: PageFinding | None = None) -> PageQuality:
    """Judge an upright picture, RGB (h, w, 3), of which the finder said `finding`.

    Without it nobody knows whether the picture shows an ECG at all, and some layout may be told of a tiled wall.
    """
    long_px = max(image.shape[:2])
    grey = _small(image)
    look = look_of_layout(grey)
    edge_px, contrast = edges_of(grey)
    tilt_deg = tilt_of(look, grey.shape)
    is_strange = finding is not None and finding.ecg_score < LEAST_LIKE
    layout = None if is_strange else find_layout(look)
    seen = {
        "low_resolution": long_px < LEAST_SIDE_PX,
        "blurred": edge_px > max(MOST_BLUR_PX, MOST_BLUR * max(grey.shape)),
        "low_contrast": contrast < LEAST_CONTRAST,
        "tilted": abs(tilt_deg) >= MOST_TILT_DEG,
        "turn_unclear": finding is not None and not finding.is_turn_clear,
        "strange_page": is_strange,
        "leads_missing": layout in PARTIAL_LAYOUTS,
    }
    facts = {"long_px": long_px, "tilt_deg": abs(tilt_deg), "leads": PARTIAL_LAYOUTS.get(layout or "")}
    warnings = tuple((code, TEXTS[code].format(**facts)) for code, is_so in seen.items() if is_so)
    return PageQuality(layout=layout, warnings=warnings)


def edges_of(grey: Pixels) -> tuple[float, float]:
    """Width of the ink's edges in pixels, contrast over steepness, and the contrast as a share of the paper's light.

    Of a grey picture (h, w), by squares; medians over those of most contrast. A line blurred by a Gaussian of sigma
    pixels has a width of 1.6 sigma, the end of something wide 2.5 sigma.
    """
    across, down = cv2.absdiff(grey[:, 1:], grey[:, :-1])[1:], cv2.absdiff(grey[1:], grey[:-1])[:, 1:]
    light, dark = _by_squares(np.maximum, grey[1:, 1:]), _by_squares(np.minimum, grey[1:, 1:])
    steep = _by_squares(np.maximum, np.asarray(cv2.max(across, down), np.uint8))
    contrast = light - dark
    inked = contrast >= np.quantile(contrast, 1 - INKED_SHARE)
    share = contrast[inked] / np.maximum(light[inked], 1)
    return float(np.median(contrast[inked] / np.maximum(steep[inked], 1))), float(np.median(share))


def _by_squares(most: np.ufunc, values: Pixels) -> Floats:
    """The largest or smallest value (h, w) of every whole square: (b,)."""
    rows, columns = (side // SQUARE_PX for side in values.shape)
    whole = values[: rows * SQUARE_PX, : columns * SQUARE_PX]
    by_rows = most.reduce(whole.reshape(rows, SQUARE_PX, -1), axis=1)  # first along memory: ten times faster
    return most.reduce(by_rows.reshape(rows * columns, SQUARE_PX), axis=1).astype(np.float32)


def tilt_of(look: Floats, shape: tuple[int, ...]) -> float:
    """How far the rows of an upright picture (h, w) are turned clockwise, in degrees; 0 where no slope stands out.

    Along the right slope, what is dark in one strip of the look (H, W) is dark in all others at the same height.
    """
    rows, strips = LOOK_HEIGHT_PX // ROW_PX, LOOK_WIDTH_PX // STRIP_PX
    profiles = cv2.resize(np.maximum(look, 0), (strips, rows), interpolation=cv2.INTER_AREA)
    profiles -= profiles.mean(axis=0)
    power = np.square(profiles.ravel()[_places()].sum(axis=2)).sum(axis=1)
    best = int(power.argmax())
    if power[best] < LEAST_TILT_PEAK * power.mean() or best in (0, len(SLOPES) - 1):
        return 0.0
    before, peak, after = power[best - 1 : best + 2].tolist()
    slope = SLOPES[best] + (SLOPES[1] - SLOPES[0]) * (before - after) / (2 * (before + after - 2 * peak) - 1e-9)
    stretch = (shape[0] / LOOK_HEIGHT_PX) / (shape[1] / LOOK_WIDTH_PX)
    return float(np.degrees(np.arctan(slope * stretch)))


@lru_cache(maxsize=1)
def _places() -> NDArray[np.intp]:
    """Which of the profiles' values (rows x s) lie on a line of a slope: (a, rows, s)."""
    rows, strips = LOOK_HEIGHT_PX // ROW_PX, LOOK_WIDTH_PX // STRIP_PX
    across_px = (np.arange(strips) + 0.5) * STRIP_PX - LOOK_WIDTH_PX / 2
    at = np.arange(rows)[:, None] + SLOPES[:, None, None] * across_px / ROW_PX
    places: NDArray[np.intp] = np.clip(np.rint(at), 0, rows - 1).astype(np.intp) * strips + np.arange(strips)
    return places


def _small(image: Pixels) -> Pixels:
    """Grey (h, w), its longer side below 1.5 x `WORK_PX`; halved, because that is exact and fast."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    while max(grey.shape) >= 1.5 * WORK_PX:
        height_px, width_px = (side_px // 2 for side_px in grey.shape)
        even = grey[: 2 * height_px, : 2 * width_px]
        grey = cv2.resize(even, (width_px, height_px), interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)
