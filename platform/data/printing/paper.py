"""Everything on a page that no signal changes: grid, names, separators, pulses, header and footer.

Shapes: H x W pixels. A page is held as one byte a pixel: the high four bits are the tone of the ruled paper, the low
four how much ink covers it, and a palette says which colours these are. Drawing, copying and compressing one byte
costs a third of three, and a print has no more tones than that: the steps are those of the edges of lines.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .device_text import scale_text
from .lettering import Lettering
from .style import MOST_PULSE_MM, PULSE_SIDE_MM, SQUARE_MM, PageStyle
from .traces import FULL_INK, Track, draw_lines, tracks_of
from .truth import Mark, Points, outline_of

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

KEPT_PAPERS = 32
MOST_KEPT_PX = 1 << 20
"""All that is kept takes at most 64 MiB, and two large sheets."""
PAPER_TONES = 16
INK_TONES = FULL_INK + 1
NAME_INDENT_MM = 1.5
BESIDE_MM = 8.0
"""Left and right of the header."""
SEPARATOR_HALF_MM = 2.5


@dataclass(frozen=True, eq=False)
class Paper:
    """A page without its traces. Arrays are read-only."""

    tones: Pixels
    """(H, W): tone of the ruled paper in the high four bits."""
    ink: Pixels
    """(H, W): how much ink covers it, 0-15."""
    palette: Pixels
    """(256, 3) RGB."""
    tracks: tuple[Track, ...]
    names: tuple[Mark, ...]
    pulses: tuple[Mark, ...]


def paper_of(style: PageStyle) -> Paper:
    """The paper of a style; the last few are kept, of large ones only two."""
    return _kept(style) if style.width_px * style.height_px <= MOST_KEPT_PX else _kept_large(style)


@lru_cache(maxsize=KEPT_PAPERS)
def _kept(style: PageStyle) -> Paper:
    return _make_paper(style)


@lru_cache(maxsize=2)
def _kept_large(style: PageStyle) -> Paper:
    return _make_paper(style)


def _make_paper(style: PageStyle) -> Paper:
    tones, colours = _tones(style)
    ink = np.zeros((style.height_px, style.width_px), np.uint8)
    pulses = tuple(_draw_pulse(ink, style, row) for row in range(style.rows)) if style.pulse != "none" else ()
    _draw_separators(ink, style)
    names = _write(ink, style)
    tones.setflags(write=False)
    ink.setflags(write=False)
    return Paper(tones, ink, _palette(colours, style), tracks_of(style), names, pulses)


def _palette(paper_rgb: Floats, style: PageStyle) -> Pixels:
    share = np.linspace(0, 1, INK_TONES, dtype=np.float32)[None, :, None]
    mixed = paper_rgb[:, None, :] * (1 - share) + np.array(style.trace_rgb, np.float32) * share
    return np.rint(mixed).astype(np.uint8).reshape(PAPER_TONES * INK_TONES, 3)


def _tones(style: PageStyle) -> tuple[Pixels, Floats]:
    """Ruled paper (H, W) in steps of 16, and the colours (16, 3) that they mean."""
    paper, fine_rgb, bold_rgb = (np.array(rgb, np.float32) for rgb in (style.paper_rgb, style.fine_rgb, style.bold_rgb))
    if style.grid == "none":
        return np.zeros((style.height_px, style.width_px), np.uint8), np.tile(paper, (PAPER_TONES, 1))
    fine, bold = _coverage(style)
    # Where a page is dark on its way from paper to bold ink, in 256 steps, of which the best sixteen stay.
    reach = float(np.clip((paper - fine_rgb).sum() / max(1.0, (paper - bold_rgb).sum()), 0.0, 1.0))
    depth = np.rint((bold + fine * reach * (1 - bold)) * 255).astype(np.uint8)
    step, centres = _best_tones(cv2.calcHist([depth], [0], None, [256], [0, 256]).ravel().astype(np.float32))
    share = (centres / 255)[:, None]
    through_fine = np.where(share < reach, share / max(reach, 1e-6), 1.0)
    beyond = np.clip((share - reach) / max(1 - reach, 1e-6), 0, 1)
    colours = paper + (fine_rgb - paper) * through_fine + (bold_rgb - fine_rgb) * beyond
    return cv2.LUT(depth, step << 4).astype(np.uint8, copy=False), colours.astype(np.float32)


def _best_tones(counts: Floats) -> tuple[Pixels, NDArray[np.float64]]:
    """Sixteen of 256 depths that lose least, by Lloyd's rule: depth -> tone (256,), and the tones' depths (16,)."""
    depths = np.flatnonzero(counts)
    weights = counts[depths] ** 0.5
    if len(depths) <= PAPER_TONES:
        centres = np.resize(depths, PAPER_TONES).astype(np.float64)
        centres.sort()
    else:
        places = (np.arange(PAPER_TONES) + 0.5) / PAPER_TONES
        centres = np.interp(places, np.cumsum(weights) / weights.sum(), depths)
        for _ in range(12):
            nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, depths)
            sums = np.bincount(nearest, weights * depths, PAPER_TONES)
            sizes = np.bincount(nearest, weights, PAPER_TONES)
            centres = np.sort(np.where(sizes > 0, sums / np.maximum(sizes, 1e-9), centres))
    step = np.searchsorted((centres[1:] + centres[:-1]) / 2, np.arange(256)).astype(np.uint8)
    return step, centres


def _coverage(style: PageStyle) -> tuple[Floats, Floats]:
    """Share of every pixel (H, W) under fine and under bold lines."""
    scale = style.px_per_mm
    # Below two pixels a period the fine lines would beat against the pixels: they fade into their mean tint.
    visible = float(np.clip((scale - 1.5) / 1.5, 0.0, 1.0))
    dots = style.grid == "dots"
    fine_mm, bold_mm = (0.35, 0.5) if dots else (0.12, 0.22)
    covered: list[Floats] = []
    for pitch_mm, width_mm, least_px, contrast in (
        (1.0, fine_mm, 0.0, visible),
        (SQUARE_MM, bold_mm, 0.7, 1.0),
    ):
        width_px = max(width_mm * scale, least_px)
        x_px, y_px = (style.x_px(style.grid_shift_mm[0]), style.y_px(style.grid_shift_mm[1]))
        x = _line_coverage(style.width_px, x_px, pitch_mm * scale, width_px, contrast)
        y = _line_coverage(style.height_px, y_px, pitch_mm * scale, width_px, contrast)
        covered.append(_crossed(x, y, dots))
    fine, bold = covered
    if not style.grid_behind_text:
        top, bottom = (round(style.y_px(mm)) for mm in (style.rows_mm[0] - 2.0, style.paper_height_mm - 2 * SQUARE_MM))
        for part in covered:
            part[: max(0, top)] = 0
            part[max(0, bottom) :] = 0
    return fine, bold


def _crossed(x: Floats, y: Floats, dots: bool) -> Floats:
    """Coverage (H, W) by lines across and down, or by the dots where they meet."""
    both = y[:, None] * x
    return (both if dots else y[:, None] + x - both).astype(np.float32, copy=False)


def _line_coverage(pixels: int, origin_px: float, pitch_px: float, width_px: float, contrast: float) -> Floats:
    """Share of every pixel (pixels,) that lies under periodic lines; at contrast 0 all pixels get the mean."""
    edges_px = np.arange(pixels + 1) - origin_px + width_px / 2
    periods = np.floor(edges_px / pitch_px)
    covered_px = periods * width_px + np.minimum(edges_px - periods * pitch_px, width_px)
    mean = width_px / pitch_px
    return (mean + contrast * (np.diff(covered_px) - mean)).astype(np.float32)


def _draw_pulse(ink: Pixels, style: PageStyle, row: int) -> Mark:
    """The calibration pulse of a row: 1 mV for 0.2 s, and with another gain of the chest leads a second step."""
    gains_mm = [style.gain_mm_per_mv]
    if style.chest_gain_mm_per_mv not in (None, style.gain_mm_per_mv):
        gains_mm.append(style.chest_gain_mm_per_mv or 0.0)
    width_mm = min(0.2 * style.paper_speed_mm_per_s, MOST_PULSE_MM / len(gains_mm))
    total_mm = width_mm * len(gains_mm)
    right_side_mm = style.time_mm(style.duration_s)
    left_mm = (
        (style.left_mm - total_mm) / 2 if style.pulse == "left" else right_side_mm + (PULSE_SIDE_MM - total_mm) / 2
    )
    baseline_mm = style.baseline_mm(row)
    foot_mm = min(2.5, (PULSE_SIDE_MM - total_mm) / 2)
    path = [(left_mm - foot_mm, baseline_mm), (left_mm, baseline_mm)]
    for step, gain_mm in enumerate(gains_mm):
        path += [(left_mm + (step + side) * width_mm, baseline_mm - gain_mm) for side in (0, 1)]
    path += [(left_mm + total_mm, baseline_mm), (left_mm + total_mm + foot_mm, baseline_mm)]
    points_px = np.array([(style.x_px(x), style.y_px(y)) for x, y in path])
    draw_lines(ink, [points_px], style.trace_width_mm * style.px_per_mm)
    return Mark(text="pulse", outline=outline_of(*points_px.min(axis=0), *points_px.max(axis=0)))


def _draw_separators(ink: Pixels, style: PageStyle) -> None:
    """What stands between two leads of a row."""
    lines: list[Points] = []
    for strip in style.strips:
        if strip.at_s == 0 or style.separator == "none":
            continue
        x_px, baseline_mm = style.x_px(style.time_mm(strip.at_s)), style.baseline_mm(strip.row)
        if style.separator == "tick":
            spans_mm = [(-SEPARATOR_HALF_MM, SEPARATOR_HALF_MM)]
        else:
            half_mm = (style.baseline_mm(1) - style.baseline_mm(0)) / 2 if style.rows > 1 else 4 * SEPARATOR_HALF_MM
            whole = style.separator == "line"
            spans_mm = [(-half_mm, half_mm)] if whole else [(at, at + 1.5) for at in np.arange(-half_mm, half_mm, 3.0)]
        lines += [np.array([(x_px, style.y_px(baseline_mm + at)) for at in span]) for span in spans_mm]
    draw_lines(ink, lines, style.trace_width_mm * style.px_per_mm)


def _write(ink: Pixels, style: PageStyle) -> tuple[Mark, ...]:
    """Lead names, header and footer; returns the names."""
    letters = Lettering(ink, style.font, max(style.text_height_mm * style.px_per_mm, 6.0))
    pitch_mm = style.baseline_mm(1) - style.baseline_mm(0) if style.rows > 1 else 4 * SQUARE_MM
    rise_mm = float(np.clip(style.name_rise_mm, -0.35 * pitch_mm, 0.45 * pitch_mm))
    names = []
    for strip in style.strips if style.lead_names else ():
        x_mm, y_mm = style.time_mm(strip.at_s) + NAME_INDENT_MM, style.baseline_mm(strip.row) - rise_mm
        names.append(Mark(text=strip.lead, outline=letters.write(strip.lead, style.x_px(x_mm), style.y_px(y_mm))))
    _write_around(ink, style)
    return tuple(names)


def _write_around(ink: Pixels, style: PageStyle) -> None:
    """Header in columns of equal width, and a footer."""
    letters = Lettering(ink, style.font, 0.8 * style.text_height_mm * style.px_per_mm)
    column_mm = (style.paper_width_mm - 2 * BESIDE_MM) / max(1, len(style.header))
    for column, lines in enumerate(style.header):
        for line, text in enumerate(lines):
            x_mm, y_mm = BESIDE_MM + column * column_mm, 4.0 + (line + 0.6) * style.line_mm
            letters.write(text, style.x_px(x_mm), style.y_px(y_mm))
    if style.footer != "":
        footer = Lettering(ink, style.font, max(0.8 * style.text_height_mm * style.px_per_mm, 5.0))
        left_px = style.x_px(max(style.left_mm, BESIDE_MM))
        scale = style.paper_speed_mm_per_s, style.gain_mm_per_mv, style.chest_gain_mm_per_mv
        text = style.footer if style.footer is not None else scale_text(*scale)
        room_px = style.width_px - left_px
        footer.write(text, left_px, style.y_px(style.paper_height_mm - 4.0), room_px)
