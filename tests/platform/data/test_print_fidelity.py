"""What a reader measures on a page at 200 dpi, with nothing but its pixels, is what the signal says."""

import numpy as np
import pytest
from scipy.signal import find_peaks, peak_widths

from vizecg.platform.data import heart, patients, practice
from vizecg.platform.data.page import GRID_COLOURS, LEADS, PageStyle, draw_page

DPI = 200.0
RATE_HZ = 500.0
AMPLITUDE_MV, INTERVAL_S = 0.05, 0.010


@pytest.fixture(scope="module")
def signals_mv() -> list[np.ndarray]:
    """Of the practice archive: (12, n) each."""
    recorder = heart.Recorder.of(int(RATE_HZ), 10.0)
    return [practice.draw_signal(patients.plan_record(5, index), recorder).T / 1000 for index in range(8)]


def read_back(page: np.ndarray, style: PageStyle, row: int, start_s: float, end_s: float) -> tuple[np.ndarray, ...]:
    """Time in seconds, and the top and bottom of the ink in mV, for every pixel column of a strip."""
    columns = np.arange(int(style.x_px(style.time_mm(start_s))) + 12, int(style.x_px(style.time_mm(end_s))) - 6)
    middle_px, half_px = style.y_px(style.baseline_mm(row)), 14 * style.px_per_mm
    top = int(middle_px - half_px)
    dark = page[top : int(middle_px + half_px), columns].max(axis=2) < 0.3 * max(style.trace_rgb) + 0.7 * min(
        style.bold_rgb
    )
    first, last = dark.argmax(axis=0), len(dark) - 1 - dark[::-1].argmax(axis=0)
    half_line_px = style.trace_width_mm * style.px_per_mm / 2
    scale = style.px_per_mm * style.gain_mm_per_mv
    time_s = ((columns + 0.5) / style.px_per_mm - style.time_mm(0.0)) / style.paper_speed_mm_per_s
    high = (middle_px - (top + first + half_line_px)) / scale
    low = (middle_px - (top + last + 1 - half_line_px)) / scale
    return time_s, np.where(dark.any(axis=0), high, np.nan), np.where(dark.any(axis=0), low, np.nan)


@pytest.mark.parametrize("colour", ["pink", "green", "black"])
@pytest.mark.parametrize(("speed", "gain"), [(25.0, 10.0), (50.0, 10.0), (25.0, 5.0)])
def test_amplitudes_and_intervals(signals_mv: list[np.ndarray], speed: float, gain: float, colour: str) -> None:
    style = PageStyle.at_dpi(
        DPI, layout="6x2", paper_speed_mm_per_s=speed, gain_mm_per_mv=gain, duration_s=250 / speed, separator="none",
        lead_names=False, **GRID_COLOURS[colour],
    )  # fmt: skip
    num_amplitudes, num_intervals = 0, 0
    for signal_mv, strip in [(signal_mv, strip) for signal_mv in signals_mv for strip in style.strips]:
        lead_mv = signal_mv[LEADS.index(strip.lead)]
        if np.abs(lead_mv).max() * gain > 13:
            continue  # It meets its neighbours, and takes a reader who knows them apart.
        alone = np.where(np.arange(12)[:, None] == LEADS.index(strip.lead), signal_mv, np.nan)
        page = draw_page(alone, RATE_HZ, style)
        time_s, high_mv, low_mv = read_back(page, style, strip.row, strip.start_s, strip.end_s)
        shown_mv = lead_mv[round(time_s[0] * RATE_HZ) : round(time_s[-1] * RATE_HZ)]
        assert np.nanmax(high_mv) == pytest.approx(shown_mv.max(), abs=AMPLITUDE_MV)
        assert np.nanmin(low_mv) == pytest.approx(shown_mv.min(), abs=AMPLITUDE_MV)
        num_amplitudes += 2
        on_page = beats(high_mv, speed * style.px_per_mm)
        in_signal = beats(shown_mv, RATE_HZ)
        if shown_mv.max() > 0.5 and len(on_page) == len(in_signal) > 1:
            np.testing.assert_allclose(np.diff(on_page), np.diff(in_signal), atol=INTERVAL_S)
            num_intervals += len(on_page) - 1
    assert num_amplitudes >= 60 and num_intervals >= 20


def beats(wave_mv: np.ndarray, per_s: float) -> np.ndarray:
    """Seconds of the R waves: the middles of their widths at half height, for the very peak of a broad one is noise."""
    known = np.isfinite(wave_mv)
    wave_mv = np.interp(np.arange(len(wave_mv)), np.flatnonzero(known), wave_mv[known])
    peaks = find_peaks(wave_mv, height=0.6 * wave_mv.max(), distance=0.3 * per_s)[0]
    _, _, left, right = peak_widths(wave_mv, peaks, rel_height=0.5, wlen=int(0.3 * per_s))
    return (left + right) / 2 / per_s
