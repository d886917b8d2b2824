"""Every layout, scale and style prints what it says, and its truth is where the ink is."""

from dataclasses import replace

import numpy as np
import pytest

from vizecg.platform.data.dataset_info import shard_config
from vizecg.platform.data.page import GRID_COLOURS, LAYOUTS, LEADS, PageStyle, draw_page, page_truth, print_page
from vizecg.platform.data.printing.layout import strips
from vizecg.platform.data.printing.paper import _kept, _kept_large
from vizecg.platform.data.printing.style import Font
from vizecg.platform.data.printing.styles import ONE_PAGE_LAYOUTS, page_style
from vizecg.platform.errors import UserError

RATE_HZ = 500.0
BARE = {"lead_names": False, "separator": "none", "pulse": "left", "footer": "", **GRID_COLOURS["none"]}
EVERY_PAGE = [(layout, page) for layout, pages in LAYOUTS.items() for page in range(len(pages))]


@pytest.fixture(scope="module")
def signal_mv() -> np.ndarray:
    """Smooth, another one in every lead, within 0.6 mV so that rows do not touch."""
    time_s = np.arange(int(10 * RATE_HZ)) / RATE_HZ
    own_hz = 0.7 + 0.11 * np.arange(12)[:, None]
    waves = 0.4 * np.sin(2 * np.pi * own_hz * time_s + np.arange(12)[:, None]) + 0.2 * np.sin(9 * time_s)
    return waves.astype(np.float32)


def ink_centres(page: np.ndarray, columns: np.ndarray, top_px: float, bottom_px: float) -> np.ndarray:
    """Middle of the ink in every pixel column, between two heights; NaN where there is none."""
    top = max(0, int(top_px))
    part = 255.0 - page[top : int(bottom_px), columns].min(axis=2)
    part[part < 60] = 0
    weight = part.sum(axis=0)
    rows = (np.arange(len(part)) + 0.5)[:, None]
    return np.where(weight > 0, (part * rows).sum(axis=0) / np.maximum(weight, 1e-9) + top, np.nan)


@pytest.mark.parametrize(("layout", "page"), EVERY_PAGE)
@pytest.mark.parametrize("timing", ["sequential", "simultaneous"])
def test_truth_is_where_the_ink_is(signal_mv: np.ndarray, layout: str, page: int, timing: str) -> None:
    style = PageStyle.at_dpi(150, layout=layout, page=page, timing=timing, gain_mm_per_mv=5.0, **BARE)
    picture, truth = draw_page(signal_mv, RATE_HZ, style), page_truth(signal_mv, RATE_HZ, style)
    assert [(lead.lead, lead.row) for lead in truth.leads] == [(strip.lead, strip.row) for strip in style.strips]
    for lead in truth.leads:
        left, top, right, bottom = lead.box
        columns = np.arange(int(left) + 3, int(right) - 3)
        expected = np.interp(columns + 0.5, lead.polyline[:, 0], lead.polyline[:, 1])
        found = ink_centres(picture, columns, top, bottom)
        assert np.isfinite(found).all()
        assert np.abs(found - expected).max() < 0.5, lead.lead
        assert len(lead.polyline) == round((lead.end_s - lead.start_s) * RATE_HZ)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_show_every_lead_once_and_for_its_share_of_the_time(layout: str) -> None:
    shown = [strip for page in range(len(LAYOUTS[layout])) for strip in strips(layout, page, 10.0, "sequential")]
    columns = [strip for strip in shown if strip.end_s - strip.start_s < 10 or "x1" in layout]
    assert sorted(strip.lead for strip in columns) == sorted(LEADS)
    assert all(strip.at_s == strip.start_s for strip in shown)
    together = [strip for page in range(len(LAYOUTS[layout])) for strip in strips(layout, page, 10.0, "simultaneous")]
    assert {strip.start_s for strip in together} == {0.0}
    assert [strip.at_s for strip in together] == [strip.at_s for strip in shown]


def test_boxes_of_names_and_pulses_hold_their_ink(signal_mv: np.ndarray) -> None:
    bare = PageStyle.at_dpi(200, **{**BARE, "pulse": "left"})
    nothing = np.full_like(signal_mv, np.nan)
    empty = draw_page(nothing, RATE_HZ, replace(bare, pulse="none", paper_width_mm=bare.paper_width_mm))
    for style, marks in (
        (bare, page_truth(nothing, RATE_HZ, bare).pulses),
        (replace(bare, lead_names=True, pulse="none"), None),
    ):
        marks = marks if marks is not None else page_truth(nothing, RATE_HZ, style).names
        changed = (draw_page(nothing, RATE_HZ, style) != empty).any(axis=2)
        inside = np.zeros_like(changed)
        for mark in marks:
            left, top, right, bottom = mark.box
            box = (slice(int(top) - 2, int(bottom) + 3), slice(int(left) - 2, int(right) + 3))
            assert changed[box].any()
            inside[box] = True
        assert not changed[~inside].any()
    assert [mark.text for mark in page_truth(nothing, RATE_HZ, replace(bare, lead_names=True)).names] == [
        strip.lead for strip in bare.strips
    ]


def test_pulse_is_one_millivolt_of_both_gains() -> None:
    style = PageStyle.at_dpi(254, gain_mm_per_mv=10.0, chest_gain_mm_per_mv=5.0)
    assert style.px_per_mm == 10.0
    (pulse, *_) = page_truth(np.zeros((12, 10), np.float32), RATE_HZ, style).pulses
    left, top, right, bottom = pulse.box
    assert bottom - top == pytest.approx(100, abs=0.5)
    assert right - left == pytest.approx(100 + 50, abs=0.5), "two steps of 5 mm, and 2.5 mm at either side"


def test_chest_leads_have_their_own_gain(signal_mv: np.ndarray) -> None:
    style = PageStyle.at_dpi(200, layout="12x1", chest_gain_mm_per_mv=5.0, **BARE)
    by_lead = {lead.lead: lead for lead in page_truth(signal_mv, RATE_HZ, style).leads}
    for name, gain_mm_per_mv in (("aVF", 10.0), ("V1", 5.0)):
        expected = np.ptp(signal_mv[LEADS.index(name)]) * gain_mm_per_mv * style.px_per_mm
        assert np.ptp(by_lead[name].polyline[:, 1]) == pytest.approx(expected, rel=1e-4)
        assert by_lead[name].gain_mm_per_mv == gain_mm_per_mv


@pytest.mark.parametrize("channel_mm", [None, 12.0])
def test_a_trace_beyond_its_channel_runs_flat(channel_mm: float | None) -> None:
    style = PageStyle.at_dpi(150, channel_mm=channel_mm, **BARE)
    signal = np.zeros((12, 5000), np.float32)
    signal[:, 500:900] = 30.0
    picture, truth = draw_page(signal, RATE_HZ, style), page_truth(signal, RATE_HZ, style)
    lead = truth.leads[0]
    limit_mm = style.baseline_mm(0) - channel_mm if channel_mm else style.rows_mm[0]
    assert lead.polyline[500:900, 1] == pytest.approx(style.y_px(limit_mm))
    columns = np.arange(int(lead.polyline[520, 0]), int(lead.polyline[880, 0]))
    row = int(style.y_px(limit_mm))
    assert (picture[row - 1 : row + 2, columns].min(axis=(0, 2)) < 120).all()


@pytest.mark.parametrize("dpi", [72, 100, 200, 300])
def test_millimetres_are_exact_at_any_dpi(dpi: float) -> None:
    style = PageStyle.at_dpi(dpi, paper_width_mm=297.0, paper_height_mm=210.0)
    assert style.px_per_mm == dpi / 25.4
    assert style.x_px(200.0) - style.x_px(100.0) == pytest.approx(100 * dpi / 25.4, abs=1e-9)
    assert abs(style.width_px - 297 * dpi / 25.4) <= 0.5


FAST = {"paper_speed_mm_per_s": 50.0, "duration_s": 5.0}


def test_an_unusual_scale_is_always_told() -> None:
    for scale in (FAST, {"gain_mm_per_mv": 5.0}, {"chest_gain_mm_per_mv": 5.0}):
        for footer in ("", "   ", "hello"):
            with pytest.raises(ValueError, match="must say so"):
                PageStyle(pulse="none", footer=footer, **scale)
        PageStyle(pulse="none", **scale)
        PageStyle(footer="", **scale)
    PageStyle(pulse="none", footer="50mm/s 10.0mm/mV", **FAST)
    with pytest.raises(ValueError, match="must say so"):
        PageStyle(footer="", chest_gain_mm_per_mv=5.0, **FAST)  # No room for a pulse of two times 0.2 s.
    styles = [page_style(np.random.default_rng(seed), 400, 300) for seed in range(400)]
    assert any(not style.footer for style in styles) and all(style.tells_scale for style in styles)


@pytest.mark.parametrize("speed_mm_per_s", [25.0, 50.0])
def test_a_pulse_lasts_a_fifth_of_a_second(speed_mm_per_s: float) -> None:
    style = PageStyle.at_dpi(254, paper_speed_mm_per_s=speed_mm_per_s, duration_s=5.0, **BARE)
    picture = draw_page(np.full((12, 10), np.nan), RATE_HZ, style)
    top = picture[int(style.y_px(style.baseline_mm(0) - 10.0)), : int(style.x_px(style.left_mm))].max(axis=1) < 120
    assert top.sum() == pytest.approx(0.2 * speed_mm_per_s * style.px_per_mm, abs=4)


@pytest.mark.parametrize("slope", [-3.0, -1.0, 0.0, 1.0, 3.0])
@pytest.mark.parametrize(("dpi", "width_mm"), [(200, 0.3), (200, 0.5), (300, 0.4), (400, 0.55)])
def test_strokes_of_every_direction_are_equally_wide(dpi: float, width_mm: float, slope: float) -> None:
    style = PageStyle.at_dpi(dpi, layout="3x4", trace_width_mm=width_mm, **{**BARE, "pulse": "none"})
    time_s = np.arange(5000) / RATE_HZ
    signal = np.full((12, 5000), np.nan)
    run = (time_s > 1.0) & (time_s < 1.4)
    signal[0, run] = (time_s[run] - 1.2) * slope * 2.5  # At a slope of 1 it runs at 45 degrees: 25 mm/s, 10 mm/mV.
    ink = (255.0 - draw_page(signal, RATE_HZ, style)).max(axis=2).sum() / (255.0 - min(style.trace_rgb))
    length_px = 0.4 * 25.0 * style.px_per_mm * np.hypot(1.0, slope)
    assert ink / length_px == pytest.approx(width_mm * style.px_per_mm, rel=0.2)


def test_rows_need_room() -> None:
    with pytest.raises(ValueError, match="paper_height_mm of at least"):
        PageStyle(layout="12x1", paper_height_mm=10.0)
    with pytest.raises(ValueError, match="paper_height_mm of at least"):
        PageStyle(header=(("line",) * 60,))


@pytest.mark.parametrize("font", ["bold", "sans", "serif", "mono"])
def test_footers_stay_on_the_page(font: Font) -> None:
    style = PageStyle(width_px=160, height_px=120, font=font, footer="25 mm/s   10 mm/mV   " * 4, grid="none")
    blank = draw_page(np.full((12, 10), np.nan), RATE_HZ, style)
    assert (blank[-12:, -1] == blank[0, 0]).all() and (blank[-12:] != blank[0, 0]).any()


def test_large_papers_are_not_hoarded() -> None:
    before = _kept.cache_info().currsize
    print_page(np.zeros((12, 10)), RATE_HZ, PageStyle(width_px=1300, height_px=1000))
    assert _kept.cache_info().currsize == before and _kept_large.cache_info().maxsize == 2


def test_styles_by_lot_are_printable_readable_and_varied(signal_mv: np.ndarray) -> None:
    styles = [page_style(np.random.default_rng(seed), 400, 300) for seed in range(200)]
    assert len(set(styles)) == 200
    assert {style.layout for style in styles} == set(ONE_PAGE_LAYOUTS)
    for name in ("timing", "grid", "pulse", "separator", "font", "gain_mm_per_mv", "paper_speed_mm_per_s"):
        assert len({getattr(style, name) for style in styles}) > 1, name
    for style in styles[:40]:
        page = print_page(signal_mv, RATE_HZ, style)
        assert (page.planes() == page.rgb().transpose(2, 0, 1)).all()
        blank = draw_page(np.full_like(signal_mv, np.nan), RATE_HZ, style).astype(int)
        changed = blank.sum(axis=2) - page.rgb().astype(int).sum(axis=2)
        assert (changed > 150).mean() > 0.005, "ink is darker than grid and paper"


def test_truth_is_plain_values(signal_mv: np.ndarray) -> None:
    import json

    signal_mv = signal_mv.copy()
    signal_mv[0, 10:20] = np.nan
    plain = json.loads(json.dumps(page_truth(signal_mv, RATE_HZ, PageStyle()).to_dict(), allow_nan=False))
    assert plain["leads"][0]["polyline"][15] == [None, None]
    assert plain["layout"] == "3x4+1" and len(plain["names"]) == 13 and len(plain["pulses"]) == 4


def test_shards_print_one_style_or_another_for_every_record() -> None:
    usual = shard_config(page={"layout": "6x2", "paper_speed_mm_per_s": 50, "pulse": "right", "grid": "black"}).page
    assert usual.style("a") == usual.style("b")
    assert (usual.style("a").duration_s, usual.style("a").bold_rgb) == (5.0, GRID_COLOURS["black"]["bold_rgb"])
    varied = shard_config(page={"varied": True, "width_px": 300, "height_px": 200}).page
    assert varied.style("a") == varied.style("a") != varied.style("b")
    assert (varied.style("a").width_px, varied.style("a").height_px) == (300, 200)
    for wrong, said in (
        ({"grid": "mauve"}, "grid 'mauve' is not one of pink"),
        ({"layout": "6x1,6x1"}, "is not one of"),
    ):
        with pytest.raises(UserError, match=said):
            shard_config(page=wrong)
    with pytest.raises(UserError, match="width_px"):
        shard_config(page={"width_px": 10})
