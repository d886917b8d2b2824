"""What the sheet itself suffers: age, stains, tears, holes, and the print of its other side.

Sizes are those of an A4 sheet, 297 mm along the picture's longer side. `marks.py` has what people put on it.
"""

from collections.abc import Mapping
from types import MappingProxyType

import cv2
import numpy as np

from . import marks
from .layers import Field, Pixels, Points, Step, axes, clouds, diagonal_px, gray, ink, pixels, shade, tinted

LONGER_SIDE_MM = 297.0
RING_PX, SPOT_PX = 128, 64
"""Sides of the square in which a stain is made, before it is stretched to its size."""
COFFEE_RGB = (148, 98, 52)
BACKINGS = ((246, 246, 244), (38, 36, 36), (128, 100, 74), (92, 66, 48), (150, 156, 162), (66, 78, 92))
"""What shows where paper is missing: the scanner's lid, wood, cloth, metal."""


def yellowing(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Aged paper: yellow to brown, more so at the edges and in patches."""
    x, y = axes(image)
    edge = np.minimum(np.minimum(x, 1 - x) * 1.33, np.minimum(y, 1 - y))
    patches = clouds(rng, edge.shape, rng.uniform(3.0, 7.0))
    age = 0.6 + 0.12 * patches + 0.5 * np.exp(-edge * rng.uniform(9.0, 25.0)) * (1.0 + 0.6 * patches)
    blue = rng.uniform(0.6, 0.76)
    return shade(image, tinted(strength * age, (blue + 0.23, blue + 0.16, blue)))


def stains(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Rings of a cup, drops and water marks; what is printed below stays readable."""
    result = image.copy()
    width = image.shape[1]
    ring = rng.random() < 0.7
    for number in range(7):
        density, share, rgb = _coffee_ring(rng) if number == 0 and ring else _spot(rng)
        if number >= 2 + 5 * strength:
            break
        size = max(4, round(share * width))
        left, top = rng.uniform(0.0, width), rng.uniform(0.0, image.shape[0])
        mask = cv2.resize(np.clip(255 * strength * density, 0, 255).astype(np.uint8), (size, size))
        ink(result, pixels(mask), rgb, round(left) - size // 2, round(top) - size // 2)
    return result


def _stain_grid(rng: np.random.Generator, side: int, wobble: float, hills: float) -> tuple[Field, Field]:
    """Distance from an uneven stain's centre, 1 at its rim, and a field of -1 to 1: both (side, side)."""
    at = np.linspace(-1.35, 1.35, side, dtype=np.float32)
    uneven = clouds(rng, (side, side), hills)
    return np.sqrt(at[None, :] ** 2 + at[:, None] ** 2) + wobble * uneven, uneven


def _coffee_ring(rng: np.random.Generator) -> tuple[Field, float, tuple[int, int, int]]:
    """Density (side, side) of 0 to 1, width as a share of the page's, colour: a thin ring with gaps."""
    distance, _ = _stain_grid(rng, RING_PX, 0.02, 4.0)
    around = np.clip(0.55 + 0.7 * clouds(rng, distance.shape, 3.0), 0.05, 1.0)
    thin = np.exp(-(((distance - 1.0) / 0.022) ** 2))
    broad = 0.45 * np.exp(-(((distance - 0.95) / 0.05) ** 2))
    return 0.7 * (thin + broad) * around + 0.07 * (distance < 1.0), rng.uniform(0.27, 0.37), COFFEE_RGB


def _spot(rng: np.random.Generator) -> tuple[Field, float, tuple[int, int, int]]:
    """The same for a drop, which dries to a darker rim: coffee, tea or water."""
    distance, uneven = _stain_grid(rng, SPOT_PX, rng.uniform(0.1, 0.35), rng.uniform(3.0, 5.0))
    inside = 0.5 - 0.5 * np.tanh((distance - 0.85) * rng.uniform(12.5, 30.0))
    rim = np.exp(-(((distance - 0.83) / 0.035) ** 2))
    size = rng.uniform(0.02, 0.06) if rng.random() < 0.7 else rng.uniform(0.12, 0.3)
    rgb = ((168, 116, 62), (186, 146, 88), (196, 190, 172))[int(rng.integers(3))]
    return inside * (0.42 + 0.15 * uneven) + rim * 0.33, size, rgb


def tears(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Pieces missing at the edges and corners, with the white fibres of torn paper along them."""
    result = image.copy()
    middle_px = np.array(image.shape[1::-1]) / 2
    backing = BACKINGS[int(rng.integers(len(BACKINGS)))]
    for _ in range(int(rng.integers(1, 4))):
        edge_px = _tear_px(image, rng, strength)
        inwards = middle_px - edge_px.mean(axis=0)
        inwards *= rng.uniform(0.5, 1.0) * 0.009 * strength * diagonal_px(image) / max(1.0, float(np.hypot(*inwards)))
        _fill(result, edge_px + inwards * rng.uniform(0.2, 1.4, (len(edge_px), 1)), (250, 248, 244))
        _fill(result, edge_px, _darker(backing, 0.82))
        _fill(result, edge_px - inwards, backing)
    return result


def _darker(rgb: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(round(level * share) for level in rgb)


def _fill(image: Pixels, outline_px: Points, rgb: tuple[int, ...]) -> None:
    fixed = np.rint(outline_px * 16).astype(np.int32)
    cv2.fillPoly(image, [fixed], rgb, cv2.LINE_AA, 4)


def _tear_px(image: Pixels, rng: np.random.Generator, strength: float) -> Points:
    """Outline (n, 2) of a missing piece: a corner or a bite at the top, then turned to one of the four sides."""
    size = np.array(image.shape[1::-1], float)
    reach = strength * diagonal_px(image)
    upright, corner = rng.random(2) < 0.5
    if corner:
        a, b = rng.uniform(0.05, 0.14, 2) * reach
        path = [[a, 0.0], [0.45 * a, 0.5 * b], [0.0, b]]
        outside = [[-reach, b], [-reach, -reach], [a, -reach]]
    else:
        at, lean = rng.uniform(0.0, size[1] if upright else size[0]), rng.uniform(-0.5, 0.5)
        half, depth = rng.uniform((0.02, 0.01), (0.12, 0.06)) * reach
        path = [[at - half, 0.0], [at + lean * half, depth], [at + half, 0.0]]
        outside = [[at + half, -reach], [at - half, -reach]]
    outline = np.vstack([_ragged(np.array(path), rng), outside])
    if upright:
        outline = outline[:, ::-1]
    return np.where(rng.random(2) < 0.5, size - outline, outline)


def _ragged(path: Points, rng: np.random.Generator) -> Points:
    """A path (n, 2) whose steps are halved again and again, each time with the new points a little off."""
    for _ in range(5):
        step = np.hypot(*np.diff(path, axis=0).T)
        middle = (path[1:] + path[:-1]) / 2 + rng.normal(0.0, 0.13, (len(step), 2)) * step[:, None]
        path = np.insert(path, np.arange(1, len(path)), middle, axis=0)
    return path


def hole_punches(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Two holes 80 mm apart (ISO 838) or four, at one edge; with more strength they come further into the picture."""
    result = image.copy()
    upright = rng.random() < 0.5
    along_px, across_px = image.shape[:2] if upright else image.shape[1::-1]
    px_per_mm = max(along_px, across_px) / LONGER_SIDE_MM
    at_mm = np.array([-40.0, 40.0])
    if rng.random() < 0.4:
        at_mm = np.array([-120.0, -40.0, 40.0, 120.0] if along_px > 260 * px_per_mm else [-56.0, -35.0, 35.0, 56.0])
    inset_px = (strength * rng.uniform(13.0, 17.0) - 3.0) * px_per_mm
    across = across_px - inset_px if rng.random() < 0.5 else inset_px
    backing = BACKINGS[int(rng.integers(len(BACKINGS)))]
    for along in along_px / 2 + (at_mm + rng.uniform(-6.0, 6.0)) * px_per_mm:
        centre = np.array([across, along] if upright else [along, across])
        _disc(result, centre, 3.25 * px_per_mm, (176, 172, 168))
        _disc(result, centre, 3.0 * px_per_mm, _darker(backing, 0.7))
        _disc(result, centre + np.array([0.3, 0.4]) * px_per_mm, 2.6 * px_per_mm, backing)
    return result


def _disc(image: Pixels, centre_px: Points, radius_px: float, rgb: tuple[int, ...]) -> None:
    centre = np.rint(centre_px * 16).astype(int).tolist()
    cv2.circle(image, centre, max(1, round(radius_px * 16)), rgb, -1, cv2.LINE_AA, 4)


def bleed_through(image: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """The other side's print, mirrored, faint and soft: the page's own with another place and side up."""
    height, width = image.shape[:2]
    scale = 224 / max(height, width)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    small = cv2.resize(gray(image), size, interpolation=cv2.INTER_AREA)[:, ::-1]
    if rng.random() < 0.5:
        small = small[::-1]
    small = np.roll(small, rng.integers(-16, 17, 2), (0, 1))
    soft = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.6, 1.0)).astype(np.float32)
    paper = float(soft.mean())
    printed = np.clip(1.0 - soft / max(1.0, paper), 0.0, 1.0)
    printed *= 0.75 + 0.5 * clouds(rng, printed.shape, 4.0)
    return shade(image, 1.0 - np.clip(strength * rng.uniform(0.25, 0.4) * printed, 0.0, 0.35))


STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "yellowing": yellowing,
        "stains": stains,
        "tears": tears,
        "hole-punches": hole_punches,
        "bleed-through": bleed_through,
        **marks.STEPS,
    }
)
