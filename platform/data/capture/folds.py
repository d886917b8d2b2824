"""Paper that was folded, creased or crumpled: a relief, which shades the sheet and moves what is printed on it.

A relief is a height (rows, cols) in widths of the sheet on a coarse lattice, R nodes across, whatever the page's size.
Light from one side and a look from aside make brightness and displacement out of the same heights, so they agree.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .geometry import Image
from .layers import pixels

Heights = NDArray[np.floating]
"""float32."""
Line = NDArray[np.floating]

NODES_ACROSS = 144
LIGHT = 1.15
"""Brightness gained per unit of slope towards the light."""
PARALLAX = 0.35
"""Widths by which a place moves per width of height: the tangent of how far from above it is looked at."""
DARKEST, BRIGHTEST = 0.55, 1.3
NEUTRAL = 128
RIDGE_MM = 0.35
SHEET_MM = 280.0


@dataclass(frozen=True, eq=False)
class Lattice:
    """Where the nodes stand on the sheet, in its widths."""

    x: Heights
    y: Heights

    @classmethod
    def of(cls, width_px: int, height_px: int) -> "Lattice":
        """The lattice of a sheet with this shape."""
        rows = max(2, round(NODES_ACROSS * height_px / width_px))
        x = (np.arange(NODES_ACROSS, dtype=np.float32) + 0.5) / NODES_ACROSS
        y = (np.arange(rows, dtype=np.float32) + 0.5) / NODES_ACROSS
        return cls(x[None, :], y[:, None])

    @property
    def height(self) -> float:
        """Of the sheet, in its widths."""
        return self.y.size / NODES_ACROSS


@dataclass(frozen=True, eq=False)
class Relief:
    """Heights, and along which lines (2, 2), in widths of the sheet, the paper broke and how much."""

    heights: Heights
    ridges: tuple[tuple[Line, float], ...] = ()

    def __add__(self, other: "Relief") -> "Relief":
        return Relief(self.heights + other.heights, self.ridges + other.ridges)

    def bend(self, rng: np.random.Generator, width_px: int) -> Heights:
        """How far in pixels what is seen at a place comes from, (rows, cols, 2), for a random look from aside."""
        look = _direction(rng) * (PARALLAX * width_px)
        smooth = cv2.GaussianBlur(self.heights, (0, 0), 1.5, borderType=cv2.BORDER_REPLICATE)
        smooth -= np.float32(smooth.mean())
        return np.stack([smooth * np.float32(look[0]), smooth * np.float32(look[1])], axis=2)

    def shade(self, sheet: Image, rng: np.random.Generator) -> Image:
        """The sheet, uint8 RGB (H, W, 3), under a light from a random side."""
        light = _direction(rng) * (LIGHT * NODES_ACROSS * NEUTRAL)
        slopes = np.zeros_like(self.heights)
        slopes[:, :-1] += np.diff(self.heights, axis=1) * np.float32(light[0])
        slopes[:-1] += np.diff(self.heights, axis=0) * np.float32(light[1])
        slopes[:, -1], slopes[-1] = slopes[:, -2], slopes[-2]
        # White paper cannot get brighter than white: bent paper is on the whole a little darker than flat paper.
        slopes += np.float32(NEUTRAL - 0.6 * np.abs(slopes).mean())
        np.clip(slopes, DARKEST * NEUTRAL, BRIGHTEST * NEUTRAL, out=slopes)
        height_px, width_px = sheet.shape[:2]
        coarse = np.rint(slopes).astype(np.uint8)
        fine = pixels(cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_LINEAR))
        self._draw_ridges(fine, rng)
        return pixels(cv2.multiply(sheet, cv2.merge([fine] * 3), scale=1 / NEUTRAL))

    def _draw_ridges(self, shade: NDArray[np.uint8], rng: np.random.Generator) -> None:
        """A fold's broken edge: worn, bright in places, with its own narrow shadow."""
        width_px = shade.shape[1]
        thick_px = max(1, round(RIDGE_MM * width_px / SHEET_MM))
        for line, strength in self.ridges:
            points = line[0] + (line[1] - line[0]) * np.linspace(0, 1, 24)[:, None]
            points = points * width_px + rng.normal(0, 0.0004 * width_px, points.shape)
            tones = rng.uniform(0.2, 1.0, len(points)) * strength
            for offset_px, tone in ((thick_px, -38), (0, 26)):
                fixed = np.rint((points + offset_px) * 16).astype(np.int32)
                for start, end, share in zip(fixed[:-1], fixed[1:], tones, strict=False):
                    value = int(NEUTRAL + tone * share)
                    cv2.line(shade, start.tolist(), end.tolist(), (value,), thick_px, cv2.LINE_AA, 4)


def folds(rng: np.random.Generator, strength: float, lattice: Lattice) -> Relief:
    """Folded for an envelope or a pocket: one to three straight folds right across."""
    where = ((0.5, None), (1 / 3, 2 / 3, None), (None, 0.5), (None, 1 / 3, 2 / 3), (0.5, None, 0.5))
    pattern = where[rng.integers(len(where))]
    middle = pattern.index(None)
    lines = [(place, True) for place in pattern[:middle]] + [(place, False) for place in pattern[middle + 1 :]]
    relief = Relief(np.zeros((lattice.y.size, lattice.x.size), np.float32))
    for place, upright in lines:
        assert place is not None
        tilt, place = rng.normal(0, 0.008), place + rng.normal(0, 0.015)
        if upright:
            line = np.array([(place - tilt, 0.0), (place + tilt, lattice.height)])
        else:
            line = np.array([(0.0, lattice.height * place - tilt), (1.0, lattice.height * place + tilt)])
        slope = rng.choice((-1.0, 1.0)) * rng.uniform(0.15, 0.3) * strength
        away = np.abs(_distance(line, lattice))
        heights = np.exp(away * np.float32(-1 / rng.uniform(0.02, 0.07)))
        heights *= np.float32(slope * 0.045)
        heights += away * np.float32(slope * -0.07)
        relief += Relief(heights, ((line, strength),))
    return relief


def creases(rng: np.random.Generator, strength: float, lattice: Lattice) -> Relief:
    """Short sharp kinks where a hand held the sheet or something pressed on it."""
    total = np.zeros((lattice.y.size, lattice.x.size), np.float32)
    for _ in range(2 + round(5 * strength)):
        centre = rng.uniform((0.0, 0.0), (1.0, lattice.height))
        half = _direction(rng) * rng.uniform(0.05, 0.16)
        low = np.floor((centre - np.abs(half) - 0.06) * NODES_ACROSS).clip(0).astype(int)
        high = np.ceil((centre + np.abs(half) + 0.06) * NODES_ACROSS).astype(int)
        part = Lattice(lattice.x[:, low[0] : high[0]], lattice.y[low[1] : high[1]])
        along = ((part.x - centre[0]) * half[0] + (part.y - centre[1]) * half[1]) / (half @ half)
        away = np.abs(_distance(np.stack([centre - half, centre + half]), part))
        kink = np.exp(away * np.float32(-1 / 0.014)) * np.clip(1 - along**2, 0, 1).astype(np.float32)
        kink *= np.float32(rng.choice((-1.0, 1.0)) * rng.uniform(0.2, 0.4) * strength * 0.014)
        total[low[1] : high[1], low[0] : high[0]] += kink
    return Relief(total)


def wrinkles(rng: np.random.Generator, strength: float, lattice: Lattice) -> Relief:
    """Soft waves of paper that was damp or lay badly, sharper on their backs than in their valleys."""
    across = rng.random() < 0.5
    waves = _smooth(rng, lattice, (3, 7) if across else (9, 2))
    fine = _smooth(rng, lattice, (7, 15) if across else (19, 5))
    backs = np.sqrt(waves * waves + np.float32(0.09))
    return Relief(backs * np.float32(-0.005 * strength) + fine * np.float32(0.0012 * strength))


def crumple(rng: np.random.Generator, strength: float, lattice: Lattice) -> Relief:
    """Squeezed into a ball and smoothed out again: flat facets with sharp edges, large and small ones."""
    across, down = 5.0, 5.0 * lattice.height
    cells = int(across / 2) + 1, int(down / 2) + 1
    x = (lattice.x + np.float32(0.35) * lattice.y) * across + _smooth(rng, lattice, cells) * np.float32(0.3)
    y = lattice.y * across + _smooth(rng, lattice, cells) * np.float32(0.3)
    heights = _facets(rng, x - x.min(), y - y.min()) * np.float32(0.012 * strength)
    x, y = (x + y * np.float32(0.4)) * np.float32(2.2), (y - x * np.float32(0.4)) * np.float32(2.2)
    heights += _facets(rng, x - x.min(), y - y.min()) * np.float32(0.0035 * strength)
    return Relief(heights)


STEPS: dict[str, Callable[[np.random.Generator, float, Lattice], Relief]] = {
    "folds": folds,
    "creases": creases,
    "wrinkles": wrinkles,
    "crumple": crumple,
}


def _facets(rng: np.random.Generator, x: Heights, y: Heights) -> Heights:
    """Random heights of -1 to 1 at whole numbers of x and y, linear in each of the triangles between them."""
    column, row = x.astype(np.int32), y.astype(np.int32)
    share_x, share_y = x - np.floor(x), y - np.floor(y)
    width = int(column.max()) + 2
    corners = rng.uniform(-1, 1, (int(row.max()) + 2) * width).astype(np.float32)
    at = row * width + column
    along = corners[at + np.where(share_x > share_y, 1, width)]
    more, less = np.maximum(share_x, share_y), np.minimum(share_x, share_y)
    return corners[at] * (1 - more) + along * (more - less) + corners[at + width + 1] * less


def _smooth(rng: np.random.Generator, lattice: Lattice, cells: tuple[int, int]) -> Heights:
    """Smooth noise of standard deviation about 0.7 with so many cells across and down."""
    coarse = rng.normal(0, 1, (cells[1] + 1, cells[0] + 1)).clip(-2, 2).astype(np.float32)
    fine = cv2.resize(coarse, (lattice.x.size, lattice.y.size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine, np.float32)


def _distance(line: Line, lattice: Lattice) -> Heights:
    """Signed distance of every node to a line through two points (2, 2)."""
    along = (line[1] - line[0]) / np.hypot(*(line[1] - line[0]))
    return (lattice.x - np.float32(line[0, 0])) * np.float32(along[1]) - (
        lattice.y - np.float32(line[0, 1])
    ) * np.float32(along[0])


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array((np.cos(angle), np.sin(angle)))
