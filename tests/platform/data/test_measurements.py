"""What is measured agrees with what the practice archive put into the signal."""

from collections import Counter

import numpy as np
import pytest

from vizecg.platform.data import heart, patients, practice
from vizecg.platform.data.printing.measurements import Measurements, measure, printed_measurements, random_measurements

NUM_RECORDS = 120


def recordings(rate_hz: int, count: int) -> list[tuple[patients.Truth, np.ndarray]]:
    """Truth and signal (12, n) mV."""
    recorder = heart.Recorder.of(rate_hz, 10.0)
    plans = [patients.plan_record(23, index) for index in range(count)]
    return [(plan.truth, practice.draw_signal(plan, recorder).T / 1000) for plan in plans]


@pytest.fixture(scope="module")
def measured() -> list[tuple[patients.Truth, Measurements]]:
    pairs = [(truth, measure(signal_mv, 500)) for truth, signal_mv in recordings(500, NUM_RECORDS)]
    found = [(truth, m) for truth, m in pairs if m is not None]
    assert len(found) >= 0.97 * NUM_RECORDS
    return found


def error(values: list[tuple[float, float]]) -> tuple[float, float]:
    """Median and mean absolute difference of (measured, true)."""
    difference = np.abs(np.subtract(*np.transpose(values)))
    return float(np.median(difference)), float(difference.mean())


def test_rate_and_axis(measured: list[tuple[patients.Truth, Measurements]]) -> None:
    assert error([(m.rate_bpm, truth.heart_rate_bpm) for truth, m in measured])[1] < 0.6
    turns = [((m.axis_deg - truth.axis_deg + 180) % 360, 180) for truth, m in measured]
    assert error(turns)[0] < 2 and error(turns)[1] < 4


def test_intervals(measured: list[tuple[patients.Truth, Measurements]]) -> None:
    ordinary = [(truth, m) for truth, m in measured if truth.conduction == "normal"]
    assert error([(m.qrs_ms, truth.qrs_ms) for truth, m in ordinary])[1] < 5
    assert error([(m.qrs_ms, truth.qrs_ms) for truth, m in measured])[0] < 5
    sinus = [(truth, m) for truth, m in measured if truth.pr_ms is not None]
    assert error([(m.qt_ms, truth.qt_ms) for truth, m in sinus])[1] < 6
    # Mean: at fast rates P begins within T, and a part of it is missed.
    median, mean = error([(m.pr_ms, truth.pr_ms) for truth, m in sinus if m.pr_ms and truth.pr_ms])
    assert median < 4 and mean < 10


def test_p_waves_are_found_where_they_are(measured: list[tuple[patients.Truth, Measurements]]) -> None:
    counts = Counter((truth.pr_ms is not None, m.pr_ms is not None) for truth, m in measured)
    assert counts[True, True] > 0.95 * (counts[True, True] + counts[True, False])
    assert counts[False, False] > 0.85 * (counts[False, True] + counts[False, False])


def test_qtc_is_bazetts(measured: list[tuple[patients.Truth, Measurements]]) -> None:
    for _, m in measured:
        assert m.qtc_ms == pytest.approx(m.qt_ms / np.sqrt(60 / m.rate_bpm), rel=0.02)


@pytest.mark.parametrize("rate_hz", [100, 360, 1000])
def test_other_sampling_rates_agree(rate_hz: int) -> None:
    for (_, other), (_, reference) in zip(recordings(rate_hz, 10), recordings(500, 10), strict=True):
        # The same beats with other noise.
        a, b = measure(other, rate_hz), measure(reference, 500)
        assert a is not None and b is not None
        assert abs(a.rate_bpm - b.rate_bpm) <= 1 and abs(a.qt_ms - b.qt_ms) <= 15 and abs(a.qrs_ms - b.qrs_ms) <= 20


def test_absent_leads_and_wander_change_little() -> None:
    for _, signal_mv in recordings(500, 10):
        whole = measure(signal_mv, 500)
        poorer = signal_mv + 0.4 * np.sin(np.arange(5000) / 500)
        poorer[8:10] = np.nan
        part = measure(poorer, 500)
        assert whole is not None and part is not None
        assert abs(part.rate_bpm - whole.rate_bpm) <= 1 and abs(part.axis_deg - whole.axis_deg) <= 8


def test_nothing_sensible_gives_none() -> None:
    rng = np.random.default_rng(0)
    (_, signal_mv), *_ = recordings(500, 1)
    without_limbs = signal_mv.copy()
    without_limbs[:6] = 0
    spike = np.zeros((12, 5000))
    spike[:, 2500] = 1
    for nothing in (np.zeros((12, 5000)), np.full((12, 5000), np.nan), signal_mv[:, :400], signal_mv[:, :3], spike):
        assert measure(nothing, 500) is None
    assert measure(without_limbs, 500) is None
    for scale in (1e-9, 0.01, 1, 1e4):
        measure(scale * rng.normal(size=(12, 5000)), 500)  # whatever it says, it says something


def test_random_ones_are_plausible_and_qt_follows_rate() -> None:
    rng = np.random.default_rng(1)
    drawn = [random_measurements(rng) for _ in range(2000)]
    assert all(38 <= m.rate_bpm <= 165 and 68 <= m.qrs_ms <= 200 and 150 < m.qt_ms < 650 for m in drawn)
    assert all(m.pr_ms is None or 100 <= m.pr_ms <= 340 for m in drawn)
    assert all((m.pr_ms is None) == (m.p_axis_deg is None) for m in drawn)
    assert np.corrcoef([m.rate_bpm for m in drawn], [m.qt_ms for m in drawn])[0, 1] < -0.6
    assert abs(np.median([m.qtc_ms for m in drawn]) - 415) < 15


def test_half_of_the_pages_print_random_values() -> None:
    (_, signal_mv), *_ = recordings(500, 1)
    truth = measure(signal_mv, 500)
    printed = [printed_measurements(np.random.default_rng(seed), signal_mv, 500) for seed in range(100)]
    assert 35 < sum(m == truth for m in printed) < 65
    assert printed[7] == printed_measurements(np.random.default_rng(7), signal_mv, 500)
    assert len({printed_measurements(np.random.default_rng(seed), 0 * signal_mv, 500) for seed in range(20)}) == 20
