"""Pages are exact in millimetres: what was drawn is measured back from dark pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vizecg.platform.data.page import LEADS, PageStyle, draw_page, encode_page

RATE_HZ = 500.0
LARGE = PageStyle(width_px=2200, height_px=1650)


def flat(seconds: float = 10.0) -> np.ndarray:
    return np.zeros((12, int(seconds * RATE_HZ)), np.float32)


def trace_rows(page: np.ndarray, style: PageStyle, time_s: float, *, row: int) -> np.ndarray:
    """Dark pixel rows at one time on one row of the layout, within 2 mV of its baseline."""
    x = int(style.x_px(style.time_mm(time_s)))
    middle, reach = style.y_px(style.baseline_mm(row)), 2 * style.gain_mm_per_mv * style.px_per_mm
    low = max(0, int(middle - reach))
    dark = page[low : int(middle + reach), x].max(axis=1) < 120
    return np.flatnonzero(dark) + low + 0.5


def column_of(lead: str) -> tuple[int, float]:
    strip = next(strip for strip in LARGE.strips if strip.lead == lead and strip.row < 3)
    return strip.row, strip.start_s


@pytest.mark.parametrize("gain", [5.0, 10.0])
@pytest.mark.parametrize("size", [(512, 384), (1024, 768), (2200, 1650)])
def test_one_millivolt_is_gain_millimetres_tall(size: tuple[int, int], gain: float) -> None:
    style = PageStyle(width_px=size[0], height_px=size[1], gain_mm_per_mv=gain)
    level = np.ones_like(flat())
    for lead in LEADS:
        row, start_s = column_of(lead)
        zero = trace_rows(draw_page(flat(), RATE_HZ, style), style, start_s + 1.2, row=row).mean()
        one = trace_rows(draw_page(level, RATE_HZ, style), style, start_s + 1.2, row=row).mean()
        assert zero == pytest.approx(style.y_px(style.baseline_mm(row)), abs=1.0)
        assert zero - one == pytest.approx(gain * style.px_per_mm, abs=1.0)


@pytest.mark.parametrize("rate_hz", [100.0, 250.0, 500.0, 1000.0])
def test_peaks_of_a_train_stand_where_their_times_belong(rate_hz: float) -> None:
    time_s = np.arange(int(10 * rate_hz)) / rate_hz
    peaks_s = np.arange(0.35, 10, 0.5)
    pulse = sum(np.exp(-0.5 * ((time_s - peak) / 0.015) ** 2) for peak in peaks_s)
    page = draw_page(np.tile(pulse, (12, 1)).astype(np.float32), rate_hz, LARGE)
    y = int(LARGE.y_px(LARGE.baseline_mm(3) - 0.93 * LARGE.gain_mm_per_mv))
    dark = np.flatnonzero(page[y, int(LARGE.x_px(LARGE.time_mm(0.2))) :].max(axis=1) < 120)
    x = dark + int(LARGE.x_px(LARGE.time_mm(0.2))) + 0.5
    centres = np.array([group.mean() for group in np.split(x, np.flatnonzero(np.diff(x) > 20) + 1)])
    assert centres == pytest.approx([LARGE.x_px(LARGE.time_mm(peak)) for peak in peaks_s], abs=1.0)


@pytest.mark.parametrize("width_px", [320, 512, 1024])
def test_a_single_high_sample_keeps_its_height_when_many_share_a_pixel(width_px: int) -> None:
    style = PageStyle(width_px=width_px, height_px=width_px * 3 // 4)
    signal = flat()
    signal[LEADS.index("II"), 2503] = 1.5
    dark = (
        draw_page(signal, RATE_HZ, style)[..., 0].astype(int)
        < draw_page(flat(), RATE_HZ, style)[..., 0].astype(int) - 20
    )
    x, baseline_mm = style.x_px(style.time_mm(2503 / RATE_HZ)), style.baseline_mm(3)
    top = np.flatnonzero(
        dark[:, int(x) - 1 : int(x) + 2].any(axis=1) & (np.arange(len(dark)) > style.y_px(baseline_mm - 20))
    )[0]
    assert top == pytest.approx(style.y_px(baseline_mm - 15), abs=1.6)


def test_rows_and_columns_hold_their_leads() -> None:
    blank = draw_page(np.full_like(flat(), np.nan), RATE_HZ, LARGE)
    for lead, name in enumerate(LEADS):
        signal = np.full_like(flat(), np.nan)
        signal[lead] = 0.0
        ys, xs = np.nonzero((draw_page(signal, RATE_HZ, LARGE) != blank).any(axis=2))
        rows, start_s = column_of(name)
        first_row = ys < LARGE.y_px(LARGE.baseline_mm(rows) + 10)
        assert ys[first_row].mean() == pytest.approx(LARGE.y_px(LARGE.baseline_mm(rows)), abs=1.0)
        assert xs[first_row].min() == pytest.approx(LARGE.x_px(LARGE.time_mm(start_s)), abs=3.0)
        assert xs[first_row].max() == pytest.approx(LARGE.x_px(LARGE.time_mm(start_s + 2.5)), abs=3.0)
        assert (ys > LARGE.y_px(LARGE.baseline_mm(3) - 10)).any() == (name == "II")


def test_grid_lines_are_five_millimetres_apart() -> None:
    page = draw_page(np.full_like(flat(), np.nan), RATE_HZ, LARGE)
    green = page[3, :, 1].astype(int)
    assert {int(LARGE.x_px(5.0 * line)) for line in range(1, 54)} <= set(np.flatnonzero(green < 150)) | set(
        np.flatnonzero(green < 150) + 1
    )


def test_fine_lines_fade_at_small_scale_and_bold_lines_stay() -> None:
    small = draw_page(np.full_like(flat(), np.nan), RATE_HZ, PageStyle(width_px=320, height_px=240))
    green = small[1, :, 1].astype(float)
    spectrum = np.abs(np.fft.rfft(green - green.mean()))
    bold = round(320 / (5 * PageStyle(width_px=320, height_px=240).px_per_mm))
    assert abs(int(spectrum.argmax()) - bold) <= 1
    below = spectrum[1 : bold - 3]
    assert below.max() < 0.15 * spectrum.max(), "a beat slower than the large squares is moire"


def test_absent_leads_and_nan_leave_a_gap() -> None:
    present = np.ones(12, bool)
    present[LEADS.index("V1")] = False
    page = draw_page(flat(), RATE_HZ, LARGE, present)
    assert len(trace_rows(page, LARGE, 6.2, row=0)) == 0
    assert len(trace_rows(page, LARGE, 3.7, row=0)) > 0
    hole = flat()
    hole[:, 500:1000] = np.nan
    page = draw_page(hole, RATE_HZ, LARGE)
    assert len(trace_rows(page, LARGE, 1.5, row=0)) == 0
    assert len(trace_rows(page, LARGE, 0.5, row=0)) > 0 and len(trace_rows(page, LARGE, 2.2, row=0)) > 0


def test_short_records_end_early_and_long_ones_show_their_first_seconds() -> None:
    page = draw_page(flat(4.0), RATE_HZ, LARGE)
    assert len(trace_rows(page, LARGE, 3.5, row=3)) > 0 and len(trace_rows(page, LARGE, 4.5, row=3)) == 0
    long = np.concatenate([flat(10.1), np.full((12, 5000), 3.0, np.float32)], axis=1)
    assert (draw_page(long, RATE_HZ, LARGE) == draw_page(flat(10.1), RATE_HZ, LARGE)).all()


def test_drawing_is_deterministic_and_leaves_the_cache_alone() -> None:
    signal = np.random.default_rng(0).normal(0, 0.3, (12, 5000)).astype(np.float32)
    first = draw_page(signal, RATE_HZ, PageStyle())
    blank = draw_page(np.zeros((12, 0), np.float32), RATE_HZ, PageStyle())
    blank[:] = 0
    assert encode_page(first) == encode_page(draw_page(signal, RATE_HZ, PageStyle()))


@settings(max_examples=25, deadline=None)
@given(
    width_px=st.integers(64, 900),
    height_px=st.integers(64, 900),
    samples=st.integers(0, 6000),
    rate_hz=st.sampled_from([50.0, 100.0, 500.0]),
    odd=st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e9, -1e30]),
)
def test_any_size_and_any_signal_gives_a_page(
    width_px: int, height_px: int, samples: int, rate_hz: float, odd: float
) -> None:
    signal = np.random.default_rng(samples).normal(0, 1, (12, samples)).astype(np.float32)
    signal[:, samples // 3 : samples // 2] = odd
    page = draw_page(signal, rate_hz, PageStyle(width_px=width_px, height_px=height_px))
    assert page.shape == (height_px, width_px, 3) and page.dtype == np.uint8 and page.flags.writeable


def test_impossible_styles_are_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match="'4x3' is not one of 3x4"):
        PageStyle(layout="4x3")
    with pytest.raises(ValueError, match="paper_width_mm of at least 520"):
        PageStyle(paper_speed_mm_per_s=50.0)
    with pytest.raises(ValueError, match="gain_mm_per_mv must be positive"):
        PageStyle(gain_mm_per_mv=0.0)
