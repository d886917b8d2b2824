"""Abstention leaves the share that was asked for, around the threshold, and what is answered is more often right."""

import json

import numpy as np
import pytest
from scipy.special import expit

from vizecg.platform.evaluate.abstention import abstention_band, coverage_curve, is_answered
from vizecg.platform.evaluate.metrics import evaluate_predictions

THRESHOLDS = np.array([0.3, 0.5, 0.05])


def calibrated(seed: int, records: int = 1000) -> tuple[np.ndarray, ...]:
    """Probabilities that mean what they say, of three labels, the last one rare."""
    rng = np.random.default_rng(seed)
    probability = expit(2 * rng.standard_normal((records, 3)) + [0, 0.5, -3])
    target = (rng.random((records, 3)) < probability).astype(np.float64)
    return probability, target, rng.random((records, 3)) < 0.8


@pytest.mark.parametrize("coverage", [1.0, 0.9, 0.5, 0.05])
def test_the_band_answers_the_share_that_was_asked_for(coverage: float) -> None:
    probability, _, known = calibrated(0)
    widths = abstention_band(probability, known, THRESHOLDS, coverage)
    answered = is_answered(probability, THRESHOLDS, widths)
    for k in range(3):
        assert answered[known[:, k], k].sum() == np.ceil(coverage * known[:, k].sum() - 1e-9)


def test_a_share_is_not_rounded_up_by_the_last_bit() -> None:
    assert 0.55 * 100 > 55
    probability, half = np.linspace(0.51, 0.9, 100)[:, None], np.array([0.5])
    widths = abstention_band(probability, np.ones((100, 1), bool), half, 0.55)
    assert is_answered(probability, half, widths).sum() == 55


def test_the_band_is_symmetric_in_logits() -> None:
    probability = expit(np.array([[-2.0], [-0.5], [0.0], [0.5], [2.0]]))
    known = np.ones((5, 1), bool)
    widths = abstention_band(probability, known, np.array([0.5]), 0.4)
    assert 0.5 < widths[0] < 2.0
    assert is_answered(probability, np.array([0.5]), widths)[:, 0].tolist() == [True, False, False, False, True]
    # Two are as near as each other: both or none.
    assert (
        is_answered(probability, np.array([0.5]), abstention_band(probability, known, np.array([0.5]), 0.6)).sum() == 4
    )


def test_what_is_unknown_has_no_part_and_nothing_known_no_band() -> None:
    probability, _, known = calibrated(1)
    known[:, 1] = False
    widths = abstention_band(probability, known, THRESHOLDS, 0.5)
    assert widths[1] == 0.0 and is_answered(probability, THRESHOLDS, widths)[:, 1].all()
    elsewhere = np.where(known, probability, 0.5)
    assert (abstention_band(elsewhere, known, THRESHOLDS, 0.5) == widths).all()


def test_certainty_itself_is_finite() -> None:
    probability = np.array([[0.0], [1.0], [0.4]], np.float32)
    widths = abstention_band(probability, np.ones((3, 1), bool), np.array([1.0]), 0.3)
    assert np.isfinite(widths).all()
    assert is_answered(probability, np.array([0.5]), np.array([5.0]))[:, 0].tolist() == [True, True, False]


def test_full_coverage_is_the_evaluation() -> None:
    probability, target, known = calibrated(2)
    curve = coverage_curve(probability, target, known, THRESHOLDS)
    result = evaluate_predictions(probability, target, known, ["a", "b", "c"], THRESHOLDS)
    wrong = [((probability >= THRESHOLDS) != (target > 0.5))[known[:, k], k].mean() for k in range(3)]
    assert curve.coverage[0] == 1.0
    assert curve.f1[0] == pytest.approx(result.macro.f1)
    assert curve.error_rate[0] == pytest.approx(np.mean(wrong))
    assert json.loads(json.dumps(curve.to_dict(), allow_nan=False))["coverage"][0] == 1.0


def test_fewer_answers_are_better_ones() -> None:
    probability, target, known = calibrated(3, 5000)
    curve = coverage_curve(probability, target, known, np.array([0.5, 0.5, 0.5]))
    assert curve.coverage == pytest.approx(np.linspace(1.0, 0.05, 20), abs=1e-3)
    assert (np.diff(curve.error_rate) <= 0.002).all()
    half = curve.coverage.index(min(curve.coverage, key=lambda share: abs(share - 0.5)))
    assert curve.error_rate[half] < 0.4 * curve.error_rate[0]
    frequent = coverage_curve(probability[:, :2], target[:, :2], known[:, :2], np.array([0.5, 0.5]))
    assert frequent.f1[half] > frequent.f1[0] + 0.05


def test_ties_are_answered_together() -> None:
    probability = np.array([[0.9]] * 6 + [[0.6]] * 4)
    target = np.array([[1.0]] * 5 + [[0.0]] * 3 + [[1.0]] * 2)
    curve = coverage_curve(probability, target, np.ones((10, 1), bool), np.array([0.5]))
    assert set(curve.coverage) == {1.0, 0.6}
    assert curve.error_rate[-1] == pytest.approx(1 / 6)
    assert curve.f1[-1] == pytest.approx(10 / 11)


def test_labels_without_both_classes_are_left_out() -> None:
    probability, target, known = calibrated(4)
    one = coverage_curve(probability[:, :1], target[:, :1], known[:, :1], THRESHOLDS[:1])
    target[:, 1], known[:, 2] = 0, False
    assert coverage_curve(probability, target, known, THRESHOLDS) == one
    assert coverage_curve(probability[:, 1:], target[:, 1:], known[:, 1:], THRESHOLDS[1:]).coverage == ()
