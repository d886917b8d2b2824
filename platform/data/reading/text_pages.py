"""Pages with invented text all over them, and where it stands: what fit_text.py learns from.

Shapes: h x w pixels; ink of text is bool (h, w).
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..artefacts import CODING, LIGHT, PRESETS, SENSOR, Recipe, wear_page
from ..capture.marks import handwriting, stamps
from ..page import PageStyle, draw_page
from ..printing.device_text import device_text
from .fit_pages import Recording, random_style
from .look import Pixels
from .other_pictures import Rng, colour

Mask = NDArray[np.bool_]
Ink = NDArray[np.float32]

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "STIXGeneral", "STIXGeneralItalic",
    "STIXGeneralBol", "cmr10", "cmss10", "cmtt10", "cmti10",
)  # fmt: skip
STROKE_FONTS = (0, 1, 2, 5, 6, 0 | cv2.FONT_ITALIC)
"""OpenCV's. The others of both kinds are kept for judging."""
LEAST_CONTRAST = 14
"""Grey levels by which a pixel must differ for being called ink."""
LEAST_LETTERS = 3


@dataclass(frozen=True, eq=False)
class TextPage:
    """A picture, uint8 RGB (h, w, 3), and the ink of its text."""

    image: Pixels
    text: Mask


def text_page(recordings: Sequence[Recording], real: Sequence[TextPage], rng: Rng) -> TextPage:
    """A page drawn in any style, or a real one, with more text than any has, worn and at the size of a sheet."""
    page = real[int(rng.integers(len(real)))] if real and rng.random() < 0.25 else drawn_page(recordings, rng)
    image, text = page.image.copy(), page.text.copy()
    if rng.random() < 0.85:
        for _ in range(int(rng.integers(1, 12))):
            text |= write_line(image, line_of(rng), rng, FONTS, STROKE_FONTS)
    for mark, share in ((handwriting, 0.3), (stamps, 0.1)):
        if rng.random() < share:
            marked = mark(image, rng, float(rng.uniform(0.4, 1)))
            text |= differs(marked, image)
            image = marked
    return shrunk(leaning(TextPage(image, text), rng), rng)


def drawn_page(recordings: Sequence[Recording], rng: Rng) -> TextPage:
    """A page of a recording, some of them faster and larger than hearts are, with its device's text."""
    chosen = recordings[int(rng.integers(len(recordings)))]
    faster = int(rng.choice([1, 1, 1, 2, 3]))
    signal_mv = np.tile(chosen.signal_mv[:, ::faster], (1, faster)) * rng.choice([1, 1, 1.6, 2.5])
    signal_mv = signal_mv + rng.normal(0, rng.choice([0, 0, 0.02, 0.06]), signal_mv.shape)
    style = random_style(rng)
    while not (style.is_standard_scale or style.pulse == "left"):
        style = random_style(rng)  # One that tells its scale in its text alone could not be printed without it.
    width_px = int(rng.integers(140, 300) if rng.random() < 0.2 else rng.integers(420, 1200))
    height_px = max(64, round(width_px * style.paper_height_mm / style.paper_width_mm))
    style = replace(style, width_px=width_px, height_px=height_px)
    image = draw_page(signal_mv, chosen.sampling_rate_hz, style)
    return TextPage(image, differs(image, draw_page(signal_mv, chosen.sampling_rate_hz, without_text(style))))


def without_text(style: PageStyle) -> PageStyle:
    """The same page but for its header and footer: lines keep their places, and traces stay where they are."""
    empty = tuple(tuple("" for _ in column) for column in style.header)
    return replace(style, header=empty, footer="")


def differs(image: Pixels, other: Pixels) -> Mask:
    """Where two pictures clearly differ: bool (h, w)."""
    return np.asarray(cv2.absdiff(image, other).max(axis=2) >= LEAST_CONTRAST)


def line_of(rng: Rng) -> str:
    """What a line may say: names, dates, numbers, a device's settings."""
    kind = rng.random()
    if kind < 0.3:
        spoken = device_text(rng, paper_speed_mm_per_s=25.0, gain_mm_per_mv=10.0)
        lines = [line for column in spoken.header for line in column if len(line) >= LEAST_LETTERS] + [spoken.footer]
        return lines[int(rng.integers(len(lines)))]
    if kind < 0.5:
        return "".join(rng.choice(list(string.digits * 3 + "-/.: "), int(rng.integers(LEAST_LETTERS, 16))))
    words = ["".join(rng.choice(list(string.ascii_lowercase), int(rng.integers(2, 10)))) for _ in range(4)]
    line = " ".join(word.capitalize() if rng.random() < 0.6 else word for word in words[: int(rng.integers(1, 5))])
    line = line.upper() if rng.random() < 0.3 else line
    return line if len(line) >= LEAST_LETTERS else line + " 123"


def write_line(image: Pixels, line: str, rng: Rng, fonts: Sequence[str], stroke_fonts: Sequence[int]) -> Mask:
    """Write a line anywhere onto `image`, in any type, size and ink; its ink."""
    height_px, width_px = image.shape[:2]
    # From what is just legible on a small page to a headline.
    capital_px = max(4.5, width_px / 480 * float(np.exp(rng.uniform(np.log(3.8), np.log(16)))))
    layer = lettered(line, capital_px, rng, fonts, stroke_fonts)
    layer = np.rot90(layer) if rng.random() < 0.06 else layer
    layer = layer[: height_px - 1, : width_px - 1]
    bands = (rng.uniform(0, 1), rng.uniform(0, 0.12), rng.uniform(0.9, 1))
    top = int((height_px - layer.shape[0]) * rng.choice(bands, p=(0.6, 0.25, 0.15)))
    left = int((width_px - layer.shape[1]) * rng.random())
    place = image[top : top + layer.shape[0], left : left + layer.shape[1]]
    before = place.copy()
    if rng.random() < 0.08:
        place[:] = colour(rng, 180, 255)
    ink = np.array(colour(rng, 0, 90) if rng.random() < 0.6 else colour(rng, 0, 170), np.float32)
    if rng.random() < 0.05 and before.mean() < 150:
        ink = 255 - ink
    share = (layer * rng.uniform(0.55, 1))[..., None]
    place[:] = np.rint(place * (1 - share) + ink * share)
    found = np.zeros((height_px, width_px), bool)
    found[top : top + layer.shape[0], left : left + layer.shape[1]] = layer > 0.25
    return found


def lettered(line: str, capital_px: float, rng: Rng, fonts: Sequence[str], stroke_fonts: Sequence[int]) -> Ink:
    """A line's own ink in one of these types, 0 to 1."""
    if rng.random() < 0.4:
        return stroked(line, capital_px, int(rng.choice(stroke_fonts)), float(rng.uniform(0.05, 0.16)))
    return typeset(line, capital_px, str(rng.choice(fonts)))


def stroked(line: str, capital_px: float, font: int, thickness: float = 0.1) -> Ink:
    """In a type of OpenCV's; thickness of its strokes as a share of a capital's height."""
    thick_px, scale = max(1, round(capital_px * thickness)), capital_px / 21
    (width_px, height_px), below_px = cv2.getTextSize(line, font, scale, thick_px)
    layer = np.zeros((height_px + below_px + 2 * thick_px, width_px + 2 * thick_px), np.uint8)
    cv2.putText(layer, line, (thick_px, height_px + thick_px), font, scale, (255,), thick_px, cv2.LINE_AA)
    return (layer / 255).astype(np.float32)


def typeset(line: str, capital_px: float, name: str) -> Ink:
    """In a font that comes with matplotlib."""
    font = typeface(name, max(4, round(capital_px / 0.7)))
    left, top, right, bottom = (round(side) for side in font.getbbox(line))
    picture = Image.new("L", (max(1, right - left + 2), max(1, bottom - top + 2)))
    ImageDraw.Draw(picture).text((1 - left, 1 - top), line, fill=255, font=font)
    return (np.asarray(picture) / 255).astype(np.float32)


@lru_cache(maxsize=256)
def typeface(name: str, size_px: int) -> ImageFont.FreeTypeFont:
    """One of the fonts that come with matplotlib."""
    spec = find_spec("matplotlib")
    assert spec is not None and spec.origin is not None, "matplotlib is a dependency"
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"{name}.ttf"), size_px, layout_engine=ImageFont.Layout.BASIC)


def leaning(page: TextPage, rng: Rng) -> TextPage:
    """Half of the pages turned a little and seen from the side."""
    if rng.random() < 0.5:
        return page
    height_px, width_px = page.text.shape
    size = np.array([width_px, height_px], np.float32)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    there = corners + rng.normal(0, rng.choice([0.004, 0.03]), (4, 2)).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners * size, there.astype(np.float32) * size)
    table = rng.integers(0, 256, 3).tolist()
    image = cv2.warpPerspective(page.image, matrix, (width_px, height_px), borderValue=table)
    text = cv2.warpPerspective(page.text.astype(np.uint8), matrix, (width_px, height_px)) > 0
    return TextPage(np.asarray(image, np.uint8), np.asarray(text))


def shrunk(page: TextPage, rng: Rng) -> TextPage:
    """At the size of a sheet, sides multiples of 8, and with what light, sensor and file do to it."""
    is_small = page.text.shape[1] <= 300
    width_px = int(rng.integers(*((40, 44) if is_small else (36, 84)))) * 8
    height_px = max(8, round(page.text.shape[0] * width_px / page.text.shape[1] / 8) * 8)
    first = is_small or rng.random() < 0.5
    how = cv2.INTER_LINEAR if is_small else cv2.INTER_AREA
    image = _captured(page.image, rng) if first else page.image
    image = np.asarray(cv2.resize(image, (width_px, height_px), interpolation=how), np.uint8)
    covered = cv2.resize(page.text.astype(np.float32), (width_px, height_px), interpolation=how)
    return TextPage(image if first else _captured(image, rng), np.asarray(covered > 0.12))


def _captured(image: Pixels, rng: Rng) -> Pixels:
    recipe = PRESETS[str(rng.choice(list(PRESETS)))]
    steps = tuple(step for step in recipe.steps if step.name in (*LIGHT, *SENSOR, *CODING))
    return wear_page(image, Recipe(steps), rng)[0]
