"""Reliability bins hold every record, and what they say adds up to the ECE."""

import numpy as np
import pytest
from scipy.stats import binomtest

from vizecg.platform.evaluate.abstention import CoverageCurve
from vizecg.platform.evaluate.reliability import coverage_chart, reliability_of


def test_bins_add_up_to_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random((500, 2)).astype(np.float32)
    target = (rng.random((500, 2)) < probability**2).astype(np.float32)
    known = np.stack([rng.random(500) < 0.8, np.zeros(500, bool)], 1)

    af, nothing = reliability_of(probability, target, known, ["AF", "SB"])

    records = known[:, 0].sum()
    assert sum(part.records for part in af.bins) == records
    gap = sum(part.records * abs(part.observed - part.probability) for part in af.bins) / records
    assert af.ece == pytest.approx(gap, abs=1e-9) and af.ece > 0.1
    assert nothing.bins == () and nothing.ece is None and nothing.bars == [] and nothing.line == ""
    assert len(af.bars) == len(af.bins) and max(height for _, height in af.bars) == pytest.approx(100)


def test_intervals_are_wilsons() -> None:
    probability, target = np.full((7, 1), 0.5), np.array([[1.0]] * 2 + [[0.0]] * 5)
    (entry,) = reliability_of(probability, target, np.ones((7, 1), bool), ["AF"])
    expected = binomtest(2, 7).proportion_ci(method="wilson")
    (part,) = entry.bins
    assert (part.low, part.high) == pytest.approx((expected.low, expected.high), abs=1e-4)
    assert part.observed == pytest.approx(2 / 7) and part.probability == 0.5


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    (entry,) = reliability_of(np.array([[1.0], [0.97]]), np.ones((2, 1)), np.ones((2, 1), bool), ["AF"])
    assert [part.records for part in entry.bins] == [2] and entry.bars[0][0] == pytest.approx(100 * 14 / 15, abs=0.01)


def test_the_chart_of_coverage_ends_where_half_is_answered() -> None:
    curve = CoverageCurve(coverage=(1.0, 0.75, 0.5, 0.25), error_rate=(0.2, 0.1, 0.0, None), f1=(0.8, 0.9, 1.0, None))
    f1, wrong = coverage_chart(curve).lines
    assert f1.x == wrong.x == [100, 75, 50] and f1.y == [0.8, 0.9, 1.0] and wrong.y == [0.2, 0.1, 0.0]
