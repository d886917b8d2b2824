"""How a sheet lies before the lens: turned, tilted, cut off, and what lies under it.

A view is a homography (3, 3) from sheet to picture, in pixels from the top left corner; it may show what lies around
the sheet, for which there are grounds: uint8 RGB of GROUND_SIZE, to be stretched. Strengths are in (0, 1].
"""

from collections.abc import Callable

import cv2
import numpy as np

from .geometry import Image, Matrix, apply
from .layers import pixels

Size = tuple[int, int]
"""Width and height in pixels."""
Rgb = tuple[int, int, int]

GROUND_SIZE: Size = (320, 240)
"""Enough for anything that lies out of focus at a page's edge."""
MAX_ROTATION_DEG = 4.0
MAX_SHEAR = 0.03
MAX_TILT_DEG = 24.0
MAX_ROLL_DEG = 5.0
CAMERA_DISTANCE_WIDTHS = (1.3, 2.2)
MAX_CROP = 0.05
MAX_MARGIN = 0.14
MAX_BARREL = 0.05

_WOODS: tuple[tuple[Rgb, Rgb], ...] = (
    ((120, 78, 46), (186, 138, 94)),
    ((66, 40, 26), (112, 72, 48)),
    ((168, 130, 92), (214, 182, 142)),
)
_DARK: tuple[tuple[Rgb, Rgb], ...] = (((24, 24, 28), (58, 58, 64)), ((34, 26, 24), (70, 56, 50)))
_CLOTHS: tuple[tuple[Rgb, Rgb], ...] = (
    ((38, 62, 92), (82, 112, 146)),
    ((70, 120, 110), (124, 172, 160)),
    ((176, 178, 184), (226, 228, 232)),
)
_DESKS: tuple[tuple[Rgb, Rgb], ...] = (((186, 184, 178), (216, 214, 208)), ((150, 154, 160), (188, 192, 198)))


def upside_down(rng: np.random.Generator, strength: float, size: Size) -> Matrix:
    """Turned by 180 degrees, whatever the strength."""
    width, height = size
    return np.array([(-1.0, 0.0, width), (0.0, -1.0, height), (0.0, 0.0, 1.0)])


def rotation(rng: np.random.Generator, strength: float, size: Size) -> Matrix:
    """Laid on the glass askew."""
    angle = np.deg2rad(MAX_ROTATION_DEG) * _signed(rng, strength)
    turn = np.array([(np.cos(angle), -np.sin(angle), 0.0), (np.sin(angle), np.cos(angle), 0.0), (0.0, 0.0, 1.0)])
    return _about_centre(turn, size)


def skew(rng: np.random.Generator, strength: float, size: Size) -> Matrix:
    """Drawn in askew by a feeder: rows slide, and the rollers stretch the sheet a little."""
    shear = MAX_SHEAR * _signed(rng, strength)
    stretch = 1 + MAX_SHEAR / 2 * strength * rng.uniform(-1, 1)
    return _about_centre(np.array([(1.0, shear, 0.0), (0.0, stretch, 0.0), (0.0, 0.0, 1.0)]), size)


def perspective(rng: np.random.Generator, strength: float, size: Size) -> Matrix:
    """Seen from a phone held by hand: rolled, and tilted to the side and more often away from the reader."""
    roll = np.deg2rad(MAX_ROLL_DEG) * strength * rng.uniform(-1, 1)
    away = np.deg2rad(MAX_TILT_DEG) * strength * rng.uniform(-0.5, 1.0)
    aside = np.deg2rad(MAX_TILT_DEG) * _signed(rng, strength) * 0.7
    distance_px = size[0] * rng.uniform(*CAMERA_DISTANCE_WIDTHS)
    columns = (cv2.Rodrigues(np.array(axis))[0] for axis in ((-away, 0, 0), (0, aside, 0), (0, 0, roll)))
    first, second, third = columns
    turned = (first @ second @ third)[:, :2]
    view = np.column_stack([turned, (0.0, 0.0, distance_px)])
    view[:2] *= distance_px
    return _about_centre(view, size)


def margins(rng: np.random.Generator, strength: float, size: Size) -> Matrix:
    """Something of what lies around the sheet is seen."""
    width, height = size
    scale = 1 - MAX_MARGIN * strength * rng.uniform(0.5, 1.0)
    left, top = (1 - scale) * width * rng.uniform(0.1, 0.9), (1 - scale) * height * rng.uniform(0.1, 0.9)
    return np.array([(scale, 0.0, left), (0.0, scale, top), (0.0, 0.0, 1.0)])


def crop(rng: np.random.Generator, strength: float, size: Size) -> Matrix:
    """A corner or an edge lies outside the picture."""
    width, height = size
    scale = 1 / (1 - MAX_CROP * strength * rng.uniform(0.6, 1.0))
    left, top = rng.choice((0.0, 0.5, 1.0)), rng.choice((0.0, 0.5, 1.0))
    return np.array([(scale, 0.0, (1 - scale) * width * left), (0.0, scale, (1 - scale) * height * top), (0, 0, 1.0)])


def barrel_of(rng: np.random.Generator, strength: float) -> float:
    """A lens: mostly barrel distortion, as wide phone lenses have it, at times its opposite."""
    return float(MAX_BARREL * strength * rng.choice((1.0, 1.0, -0.6)) * rng.uniform(0.5, 1.0))


def fitted(view: Matrix, size: Size) -> Matrix:
    """The view moved and scaled so that the whole sheet just fits into the picture."""
    width, height = size
    corners = apply(view, np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64))
    low, high = corners.min(axis=0), corners.max(axis=0)
    scale = float((np.array(size) / (high - low)).min())
    left, top = (np.array(size) - scale * (low + high)) / 2
    return np.array([(scale, 0.0, left), (0.0, scale, top), (0.0, 0.0, 1.0)]) @ view


def lid(rng: np.random.Generator) -> Image:
    """The white, at times grey underside of a scanner's lid."""
    grey = int(rng.choice((252, 246, 238, 205)))
    return np.full((GROUND_SIZE[1], GROUND_SIZE[0], 3), grey, np.uint8)


def monitor(rng: np.random.Generator) -> Image:
    """Around a page on a screen: the viewer's dark surface, unevenly bright as it is seen from aside."""
    dark = np.full(GROUND_SIZE[::-1], rng.integers(25, 60), np.uint8)
    glow = _mixed(dark, _noise(rng, (2, 2)), 0.08)
    return np.stack([glow, glow + np.uint8(2), glow + np.uint8(6)], axis=2)


def table(rng: np.random.Generator) -> Image:
    """Wood, a dark table, cloth or a laminated desk."""
    kind = rng.choice(len(_TABLES), p=(0.4, 0.2, 0.15, 0.25))
    grain, palettes = _TABLES[kind]
    low, high = (np.array(colour, np.float32) for colour in palettes[rng.integers(len(palettes))])
    colours = low + (high - low) * np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    return pixels(cv2.LUT(cv2.merge([grain(rng)] * 3), np.rint(colours).astype(np.uint8)[None]))


def _wood(rng: np.random.Generator) -> Image:
    """Long fibres that wander."""
    if rng.random() < 0.6:
        return _mixed(_noise(rng, (5, 160)), _noise(rng, (3, 12)))
    return _noise(rng, (140, 5))


def _plain(rng: np.random.Generator) -> Image:
    """Light falls off over a smooth surface."""
    return _noise(rng, (3, 3))


def _woven(rng: np.random.Generator) -> Image:
    """Threads across and down, and soft waves."""
    threads = _mixed(_noise(rng, (250, 14)), _noise(rng, (14, 250)))
    return _mixed(threads, _noise(rng, (5, 4)), 0.35)


def _speckled(rng: np.random.Generator) -> Image:
    """Fine grains of a laminate."""
    return _mixed(_noise(rng, (300, 225)), _noise(rng, (3, 3)))


_TABLES = ((_wood, _WOODS), (_plain, _DARK), (_woven, _CLOTHS), (_speckled, _DESKS))


def _mixed(one: Image, other: Image, share: float = 0.5) -> Image:
    return pixels(cv2.addWeighted(one, 1 - share, other, share, 0))


def _noise(rng: np.random.Generator, cells: Size) -> Image:
    """Smooth noise with so many cells across and down: uint8 of GROUND_SIZE."""
    coarse = rng.integers(0, 256, (cells[1], cells[0]), np.uint8)
    return pixels(cv2.resize(coarse, GROUND_SIZE, interpolation=cv2.INTER_LINEAR))


def _signed(rng: np.random.Generator, strength: float) -> float:
    """Up to the strength in either direction, and at least half of it."""
    return float(rng.choice((-1.0, 1.0)) * strength * rng.uniform(0.5, 1.0))


def _about_centre(matrix: Matrix, size: Size) -> Matrix:
    """A homography whose origin is the middle of the picture."""
    to_corner = np.array([(1.0, 0.0, size[0] / 2), (0.0, 1.0, size[1] / 2), (0.0, 0.0, 1.0)])
    return to_corner @ matrix @ np.linalg.inv(to_corner)


View = Callable[[np.random.Generator, float, Size], Matrix]
Ground = Callable[[np.random.Generator], Image]

TURNS: dict[str, View] = {
    "upside-down": upside_down,
    "rotation": rotation,
    "skew": skew,
    "perspective": perspective,
}
"""How the sheet stands to the lens; the whole of it is then fitted into the picture."""
ZOOMS: dict[str, View] = {"margins": margins, "table": margins, "monitor": margins, "crop": crop}
"""What of it and of its surroundings the picture shows."""
GROUNDS: dict[str, Ground] = {"margins": lid, "table": table, "monitor": monitor}
"""What lies under the sheet; the scanner's lid if nothing else is said."""
