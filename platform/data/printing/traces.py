"""Traces: where a signal runs over the paper, and its ink.

Shapes: L = 12 leads in the order of `LEADS`, n samples, m points.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .layout import LEADS, Strip
from .style import PageStyle
from .truth import LeadTrace, Points, outline_of

FloatArray = NDArray[np.floating]

FULL_INK = 15
_SUBPIXEL_BITS = 6
_SUBPIXELS = 1 << _SUBPIXEL_BITS


class Track(NamedTuple):
    """Where a strip's trace runs, in pixels."""

    lead: int
    strip: Strip
    left_px: float
    """Where the record's first sample would stand."""
    top_px: float
    baseline_px: float
    bottom_px: float
    px_per_mv: float


def tracks_of(style: PageStyle) -> tuple[Track, ...]:
    """The tracks of a page, strip by strip."""
    return tuple(_track(style, strip) for strip in style.strips)


def _track(style: PageStyle, strip: Strip) -> Track:
    """Beyond its channel, and beyond the printed area, a recorder draws a flat line."""
    baseline_mm = style.baseline_mm(strip.row)
    top_mm, bottom_mm = style.rows_mm
    if style.channel_mm is not None:
        top_mm, bottom_mm = max(top_mm, baseline_mm - style.channel_mm), min(bottom_mm, baseline_mm + style.channel_mm)
    return Track(
        lead=LEADS.index(strip.lead),
        strip=strip,
        left_px=style.x_px(style.time_mm(strip.at_s - strip.start_s)),
        top_px=style.y_px(min(top_mm, baseline_mm)),
        baseline_px=style.y_px(baseline_mm),
        bottom_px=style.y_px(max(bottom_mm, baseline_mm)),
        px_per_mv=style.gain_of(strip.lead) * style.px_per_mm,
    )


def draw_traces(
    ink: NDArray[np.uint8],
    signal_mv: FloatArray,
    sampling_rate_hz: float,
    style: PageStyle,
    tracks: tuple[Track, ...],
    lead_present: NDArray[np.bool_] | None,
) -> None:
    """Draw all leads of a page onto its ink (H, W)."""
    signal_mv = signal_mv[:, : round(style.duration_s * sampling_rate_hz) + 1]
    whole = bool(np.isfinite(signal_mv).all())
    if not whole:
        signal_mv = np.where(np.isfinite(signal_mv), signal_mv, np.nan)
    px_per_sample = style.paper_speed_mm_per_s * style.px_per_mm / sampling_rate_hz
    at, height_mv = _thinned(signal_mv, int(1 / px_per_sample))
    x = at * (px_per_sample * _SUBPIXELS)
    spans = np.searchsorted(at, np.array([(t.strip.start_s, t.strip.end_s) for t in tracks]) * sampling_rate_hz)
    lines: list[Points] = []
    for track, (first, last) in zip(tracks, spans.tolist(), strict=True):
        if lead_present is not None and not lead_present[track.lead]:
            continue
        shown = slice(first, last + 1)
        line = np.empty((len(at[shown]), 2))
        np.add(x[shown], track.left_px * _SUBPIXELS, out=line[:, 0])
        y = line[:, 1]
        np.multiply(height_mv[track.lead, shown], -track.px_per_mv * _SUBPIXELS, out=y)
        y += track.baseline_px * _SUBPIXELS
        np.minimum(np.maximum(y, track.top_px * _SUBPIXELS, out=y), track.bottom_px * _SUBPIXELS, out=y)
        lines += [line] if whole else _finite_runs(line)
    _draw(ink, lines, style.trace_width_mm * style.px_per_mm)


def trace_truth(
    signal_mv: FloatArray,
    sampling_rate_hz: float,
    style: PageStyle,
    tracks: tuple[Track, ...],
    lead_present: NDArray[np.bool_] | None,
) -> tuple[LeadTrace, ...]:
    """Where every sample of every strip is drawn; leads that are absent have NaN."""
    found = []
    for track in tracks:
        lead = signal_mv[track.lead]
        if lead_present is not None and not lead_present[track.lead]:
            lead = lead[:0]
        strip = track.strip
        found.append(
            LeadTrace(
                lead=strip.lead,
                row=strip.row,
                start_s=strip.start_s,
                end_s=strip.end_s,
                gain_mm_per_mv=style.gain_of(strip.lead),
                outline=_outline(style, strip),
                polyline=_polyline(lead, sampling_rate_hz, style, track),
            )
        )
    return tuple(found)


def _polyline(lead_mv: FloatArray, sampling_rate_hz: float, style: PageStyle, track: Track) -> Points:
    """A point for every sample of the strip, (m, 2) pixels; NaN where there is none."""
    start_s, end_s = track.strip.start_s, track.strip.end_s
    first, end = (math.ceil(time_s * sampling_rate_hz - 1e-9) for time_s in (start_s, end_s))
    height_mv = np.full(end - first, np.nan)
    shown = lead_mv[first:end]
    height_mv[: len(shown)] = np.where(np.isfinite(shown), shown, np.nan)
    y_px = np.clip(track.baseline_px - height_mv * track.px_per_mv, track.top_px, track.bottom_px)
    px_per_sample = style.paper_speed_mm_per_s * style.px_per_mm / sampling_rate_hz
    x_px = np.where(np.isfinite(y_px), track.left_px + np.arange(first, end) * px_per_sample, np.nan)
    return np.stack([x_px, y_px], axis=1)


def _outline(style: PageStyle, strip: Strip) -> Points:
    """A strip's own share of the page: half way to its neighbours."""
    half_mm = (style.baseline_mm(1) - style.baseline_mm(0)) / 2 if style.rows > 1 else style.paper_height_mm / 4
    baseline_mm, end_s = style.baseline_mm(strip.row), strip.at_s + strip.end_s - strip.start_s
    return outline_of(
        style.x_px(style.time_mm(strip.at_s)),
        style.y_px(baseline_mm - half_mm),
        style.x_px(style.time_mm(end_s)),
        style.y_px(baseline_mm + half_mm),
    )


def draw_lines(ink: NDArray[np.uint8], lines: Sequence[Points], width_px: float) -> None:
    """Draw polylines (m, 2) in pixels onto ink (H, W)."""
    _draw(ink, [line * _SUBPIXELS for line in lines], width_px)


def _draw(ink: NDArray[np.uint8], lines: Sequence[Points], width_px: float) -> None:
    """Draw polylines in parts of a pixel.

    OpenCV's antialiased line costs seven times more at thickness 2 than at 1, so a wider line is several thin ones.
    """
    # OpenCV's whole numbers are the centres of pixels.
    fixed = [np.rint(line - _SUBPIXELS / 2).astype(np.int32) for line in lines]
    for shift in _pen(width_px):
        moved = [line + shift for line in fixed] if shift.any() else fixed
        cv2.polylines(ink, moved, False, FULL_INK, 1, cv2.LINE_AA, _SUBPIXEL_BITS)


@lru_cache(maxsize=64)
def _pen(width_px: float) -> NDArray[np.int32]:
    """Where the thin lines of a wide one run, (k, 2) in parts of a pixel: round like a pen, so that strokes of every
    direction are equally wide, and so close that no paper shows between them."""
    radius_px = max(0.0, width_px - 1.0) / 2
    if radius_px < 0.125:
        return np.zeros((1, 2), np.int32)
    # An odd number: seen from any side, the corners of an even polygon hide behind each other.
    count = 3 if radius_px < 0.4 else max(5, math.ceil(2 * math.pi * radius_px / 1.2) | 1)
    radius_px *= math.pi / (count * math.sin(math.pi / count))  # A polygon's mean width is its perimeter over pi.
    angle = 2 * np.pi * np.arange(count) / count
    return np.rint(radius_px * _SUBPIXELS * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.int32)


def _finite_runs(line: Points) -> list[Points]:
    if not len(line):
        return []
    finite = np.isfinite(line).all(axis=1)
    if finite.all():
        return [line]
    runs = np.split(line, np.flatnonzero(np.diff(finite)) + 1)
    return [run for run in runs if np.isfinite(run[0]).all()]


def _thinned(signal_mv: FloatArray, bin_samples: int) -> tuple[FloatArray, FloatArray]:
    """The samples worth drawing: places (m,) and heights (L, m).

    Of those that share a pixel the lowest and the highest, in the order of the trace's direction, so no peak is lost.
    """
    leads, samples = signal_mv.shape
    bins = samples // max(1, bin_samples)
    if bin_samples < 3 or bins == 0:
        return np.arange(samples, dtype=np.float64), signal_mv
    binned = signal_mv[:, : bins * bin_samples].reshape(leads, bins, bin_samples).transpose(2, 0, 1).copy()
    low, high = np.fmin.reduce(binned), np.fmax.reduce(binned)
    rising = binned[-1] >= binned[0]
    rest = signal_mv[:, bins * bin_samples :]
    heights = np.empty((leads, 2 * bins + rest.shape[1]), signal_mv.dtype)
    heights[:, 0 : 2 * bins : 2] = np.where(rising, low, high)
    heights[:, 1 : 2 * bins : 2] = np.where(rising, high, low)
    heights[:, 2 * bins :] = rest
    quarter = (bin_samples - 1) / 4
    starts = np.arange(bins) * bin_samples
    places = np.stack([starts + quarter, starts + 3 * quarter], axis=1).ravel()
    return np.concatenate([places, np.arange(bins * bin_samples, samples)]), heights
