"""ECG pages and other pictures by the thousand, as the page finder sees them: what fit.py learns from.

Shapes: L = 12 leads, n samples, h x w pixels, S = `LOOK_PX`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..artefacts import PRESETS, wear_page
from ..page import LAYOUTS, LEADS, PageStyle, draw_page
from ..printing.styles import page_style
from .look import STRONGEST, Pixels, look_of
from .other_pictures import Rng
from .other_traces import KINDS

STORED = 127 / STRONGEST
"""Looks are kept as int8 in these units."""
MIN_ROW_MM = 10.0
PAGES_PER_STYLE = 3
"""Paper with its grid and text costs ten times more than the traces."""


@dataclass(frozen=True)
class Recording:
    """What pages are drawn of: (L, n) in mV."""

    signal_mv: NDArray[np.float32]
    sampling_rate_hz: float


@dataclass(frozen=True, eq=False)
class Looks:
    """Looks (N, S, S) as int8 in units of 1 / `STORED`, all upright, and whether each shows an ECG (N,)."""

    looks: NDArray[np.int8]
    is_ecg: NDArray[np.bool_]

    def __add__(self, other: "Looks") -> "Looks":
        return Looks(np.concatenate([self.looks, other.looks]), np.concatenate([self.is_ecg, other.is_ecg]))


def stored_looks(pictures: Sequence[Pixels], *, is_ecg: bool) -> Looks:
    """What the finder sees of pictures."""
    looks = np.stack([np.rint(look_of(picture) * STORED).astype(np.int8) for picture in pictures])
    return Looks(looks, np.full(len(pictures), is_ecg))


def drawn_pages(recordings: Sequence[Recording], rng: Rng) -> list[Pixels]:
    """Some pages in one random style, each of another recording and worn in another way."""
    style = random_style(rng)
    chosen = [recordings[int(rng.integers(len(recordings)))] for _ in range(PAGES_PER_STYLE)]
    pages = [draw_page(each.signal_mv, each.sampling_rate_hz, style) for each in chosen]
    return [worn(page, rng) for page in pages]


def other_pictures(rng: Rng) -> list[Pixels]:
    """One of every kind that is no page, among them a page on which no lead was printed."""
    empty = draw_page(np.full((len(LEADS), 1000), np.nan), 100.0, random_style(rng))
    return [worn(picture, rng) for picture in (empty, *(make(rng, *_size_px(rng)) for make in KINDS.values()))]


def _size_px(rng: Rng) -> tuple[int, int]:
    width_px = int(np.exp(rng.uniform(np.log(300), np.log(1000))))
    return int(width_px * rng.uniform(0.45, 1.4)), width_px


def random_style(rng: Rng) -> PageStyle:
    """Any way of printing that the drawing knows, on sheets of more shapes and sizes than devices have."""
    width_px = int(np.exp(rng.uniform(np.log(160), np.log(1000))))
    # Half a record is the hardest to set upright.
    layouts = [*LAYOUTS, *(name for name, pages in LAYOUTS.items() if len(pages) > 1)]
    style = page_style(rng, width_px, width_px, layouts)
    widths_mm = style.paper_width_mm + float(rng.uniform(0, 20))
    shapes = [rng.uniform(0.62, 0.82), rng.uniform(0.4, 0.62), rng.uniform(0.82, 1.4)]
    shape = float(rng.choice(shapes, p=[0.5, 0.3, 0.2]))
    return replace(
        style,
        page=int(rng.integers(len(LAYOUTS[style.layout]))),
        height_px=max(64, round(width_px * shape)),
        paper_width_mm=widths_mm,
        paper_height_mm=max(widths_mm * shape, MIN_ROW_MM * style.rows + style.rows_mm[0]),
        trace_width_mm=style.trace_width_mm * float(rng.uniform(0.9, 1.5)),
    )


def worn(image: Pixels, rng: Rng) -> Pixels:
    """What befalls a picture on its way here; it stays upright."""
    if rng.random() < 0.5:
        image, _ = wear_page(image, PRESETS[str(rng.choice(list(PRESETS)))], rng)
        return _cropped(image, rng) if rng.random() < 0.3 else image
    if rng.random() < 0.5:
        image = _cropped(image, rng)
    if rng.random() < 0.5:
        image = _leaning(image, rng)
    if rng.random() < 0.5:
        image = _unevenly_lit(image, rng)
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.6))), np.uint8)
    if rng.random() < 0.5:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 95))])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)
    return image


def _cropped(image: Pixels, rng: Rng) -> Pixels:
    height_px, width_px = image.shape[:2]
    left, right = (int(width_px * rng.uniform(0, 0.1)) for _ in range(2))
    top, bottom = (int(height_px * rng.uniform(0, 0.12)) for _ in range(2))
    return np.ascontiguousarray(image[top : height_px - bottom, left : width_px - right])


def _leaning(image: Pixels, rng: Rng) -> Pixels:
    """Turned a little and seen from the side, before a table of one colour."""
    height_px, width_px = image.shape[:2]
    size = np.array([width_px, height_px], np.float32)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    seen = corners + rng.normal(0, 0.03, (4, 2)).astype(np.float32) - 0.5
    angle, zoom = float(rng.normal(0, 0.06)), float(rng.uniform(0.55, 1.15))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    there = (zoom * seen * size) @ turn.T + size / 2 + rng.normal(0, 0.04, 2).astype(np.float32) * size
    matrix = cv2.getPerspectiveTransform(corners * size, there.astype(np.float32))
    table = rng.integers(0, 256, 3).tolist()
    return np.asarray(cv2.warpPerspective(image, matrix, (width_px, height_px), borderValue=table), np.uint8)


def _unevenly_lit(image: Pixels, rng: Rng) -> Pixels:
    height_px, width_px = image.shape[:2]
    light = cv2.resize(rng.uniform(0.45, 1.1, (3, 3, 3)).mean(axis=2, keepdims=True), (width_px, height_px))
    tint, noise = rng.uniform(0.75, 1.0, 3), rng.normal(0, rng.uniform(0, 9), image.shape)
    return np.clip(image * light[..., None] * tint + noise, 0, 255).astype(np.uint8)
