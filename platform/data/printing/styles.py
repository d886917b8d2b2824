"""Some way in which a page may be printed, drawn by lot: layouts, paper, inks, type and text as devices vary them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from .device_text import device_text
from .layout import LAYOUTS
from .measurements import Measurements
from .style import (
    BARE_SIDE_MM,
    GRID_COLOURS,
    LONGEST_ROW_MM,
    PULSE_SIDE_MM,
    PageStyle,
    Pulse,
    Rgb,
    usual_duration_s,
)

T = TypeVar("T")

ONE_PAGE_LAYOUTS = tuple(name for name, pages in LAYOUTS.items() if len(pages) == 1)

_LAYOUT_WEIGHT = {"3x4+1": 5.0, "3x4": 2.0, "3x4+3": 2.0, "6x2": 2.0}
"""How often devices print a layout, roughly; 1 where nothing is said."""
_GRID_SHARES = {
    "pink": 0.34, "orange": 0.12, "green": 0.1, "blue": 0.1, "grey": 0.12, "black": 0.08, "dots": 0.08, "none": 0.06,
}  # fmt: skip
_TRACES: tuple[Rgb, ...] = ((22, 22, 30), (10, 10, 10), (30, 36, 90), (60, 50, 50))
_SCALES: tuple[tuple[float, float, float | None, float], ...] = (
    (25.0, 10.0, None, 0.74),
    (25.0, 5.0, None, 0.07),
    (25.0, 20.0, None, 0.05),
    (25.0, 10.0, 5.0, 0.04),
    (50.0, 10.0, None, 0.08),
    (50.0, 5.0, None, 0.02),
)
"""Paper speed, gain, gain of the chest leads, and how often."""


def page_style(
    rng: np.random.Generator, width_px: int, height_px: int, layouts: Sequence[str] = ONE_PAGE_LAYOUTS
) -> PageStyle:
    """Some style of one of `layouts`, at its first page."""
    layout = _pick(rng, layouts, [_LAYOUT_WEIGHT.get(layout, 1.0) for layout in layouts])
    scale = _pick(rng, _SCALES, [share for *_, share in _SCALES])
    speed_mm_per_s, gain_mm_per_mv, chest_gain_mm_per_mv, _ = scale
    pulse: Pulse = _pick(rng, ("left", "right", "none"), (0.6, 0.2, 0.2))
    needed_mm = LONGEST_ROW_MM + BARE_SIDE_MM + (BARE_SIDE_MM if pulse == "none" else PULSE_SIDE_MM)
    style = PageStyle(
        layout=layout,
        timing="sequential" if rng.random() < 0.85 else "simultaneous",
        duration_s=usual_duration_s(speed_mm_per_s),
        width_px=width_px,
        height_px=height_px,
        paper_speed_mm_per_s=speed_mm_per_s,
        gain_mm_per_mv=gain_mm_per_mv,
        chest_gain_mm_per_mv=chest_gain_mm_per_mv,
        channel_mm=float(rng.uniform(18, 30)) if rng.random() < 0.15 else None,
        paper_width_mm=float(rng.uniform(needed_mm, needed_mm + 22)),
        paper_height_mm=float(rng.uniform(195, 217)),
        pulse=pulse,
        **_inks(rng),
        **_lettering(rng),
    )
    return with_text(style, rng)


def with_text(style: PageStyle, rng: np.random.Generator, measurements: Measurements | None = None) -> PageStyle:
    """The style with a header, a footer, both or none, as devices print them; `measurements` are in the header."""
    text = device_text(
        rng,
        paper_speed_mm_per_s=style.paper_speed_mm_per_s,
        gain_mm_per_mv=style.gain_mm_per_mv,
        chest_gain_mm_per_mv=style.chest_gain_mm_per_mv,
        measurements=measurements,
    )
    has_header = measurements is not None or rng.random() < 0.5
    spoken = replace(style, header=text.header if has_header else (), footer=text.footer)
    may_be_silent = style.is_standard_scale or style.pulse != "none"
    return replace(spoken, footer="") if may_be_silent and rng.random() < 0.2 else spoken


def _inks(rng: np.random.Generator) -> dict[str, Any]:
    """Colours near those of a known grid, and the trace's ink and width."""
    colours = GRID_COLOURS[_pick(rng, tuple(_GRID_SHARES), tuple(_GRID_SHARES.values()))]
    paper, fine, bold = (
        np.array(colours.get(name, getattr(PageStyle, name))) for name in ("paper_rgb", "fine_rgb", "bold_rgb")
    )
    bold = bold + rng.integers(-12, 13, 3)
    fine = bold + (paper - bold) * np.clip(rng.normal(0.5, 0.12), 0.2, 0.75) if "grid" not in colours else fine
    trace = np.array(colours.get("trace_rgb", _TRACES[rng.integers(len(_TRACES))]))
    return {
        "grid": colours.get("grid", "lines"),
        "paper_rgb": _rgb(paper - rng.integers(0, 7, 3)),
        "fine_rgb": _rgb(fine),
        "bold_rgb": _rgb(bold),
        "trace_rgb": _rgb(trace + rng.integers(-10, 11, 3)),
        "trace_width_mm": float(rng.uniform(0.2, 0.55)),
        "grid_shift_mm": (float(rng.uniform(-2.5, 2.5)), float(rng.uniform(-2.5, 2.5)))
        if rng.random() < 0.4
        else (0.0, 0.0),
        "grid_behind_text": bool(rng.random() < 0.75),
    }


def _lettering(rng: np.random.Generator) -> dict[str, Any]:
    below = rng.random() < 0.2
    return {
        "separator": _pick(rng, ("tick", "line", "dashed", "none"), (0.4, 0.15, 0.1, 0.35)),
        "lead_names": bool(rng.random() < 0.97),
        "name_rise_mm": float(rng.uniform(-7, -4) if below else rng.uniform(5, 11)),
        "font": _pick(rng, ("bold", "sans", "serif", "mono")),
        "text_height_mm": float(rng.uniform(2.4, 3.6)),
    }


def _pick(rng: np.random.Generator, choices: Sequence[T], weights: Sequence[float] | None = None) -> T:
    shares = None if weights is None else np.array(weights) / np.sum(weights)
    return choices[int(rng.choice(len(choices), p=shares))]


def _rgb(colour: np.ndarray) -> Rgb:
    red, green, blue = np.clip(np.rint(colour), 0, 255).astype(int).tolist()
    return red, green, blue
