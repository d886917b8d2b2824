"""Intervals: weights count as copies would, and 95 % of them hold the truth, if patients are what is drawn."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from vizecg.platform.evaluate import bootstrap
from vizecg.platform.evaluate.bootstrap import MEASURES, Interval, Intervals, bootstrap_intervals, paired_bootstrap
from vizecg.platform.evaluate.metrics import evaluate_predictions

KEYS = ["AF", "SB", "LBBB", "RBBB"]
THRESHOLDS = np.array([0.3, 0.5, 0.6, 0.4])


def random_predictions(seed: int, *, records: int = 200, levels: int | None = None) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    target = (rng.random((records, 4)) < [0.5, 0.2, 0.05, 0.9]).astype(np.float32)
    probability = np.clip(0.35 * target + 0.65 * rng.random((records, 4)), 0, 1).astype(np.float32)
    if levels:
        probability = np.round(probability * levels) / levels
    return probability, target, rng.random((records, 4)) < 0.8


@pytest.fixture
def one_resample(monkeypatch: pytest.MonkeyPatch):
    """Makes the next bootstrap draw a single resample with given weights, so that its interval is a value."""
    return lambda weights: monkeypatch.setattr(bootstrap, "_weights", lambda *_: iter([weights[None].astype(float)]))


def values_of(intervals: Intervals) -> dict[str, dict[str, float | None]]:
    measured = {"macro": intervals.macro, **intervals.labels}
    assert all(
        interval is None or interval.low == interval.high for part in measured.values() for interval in part.values()
    )
    return {key: {name: part[name] and part[name].low for name in MEASURES} for key, part in measured.items()}


@pytest.mark.parametrize("levels", [None, 20, 1])
@pytest.mark.parametrize("seed", range(3))
def test_weights_of_one_are_the_evaluation(seed: int, levels: int | None, one_resample) -> None:
    probability, target, known = random_predictions(seed, levels=levels)
    one_resample(np.ones(200))

    values = values_of(bootstrap_intervals(probability, target, known, KEYS, THRESHOLDS, np.arange(200)))

    result = evaluate_predictions(probability, target, known, KEYS, THRESHOLDS)
    for name in MEASURES:
        for part in (result.macro, *result.labels):
            value = values[getattr(part, "key", "macro")][name]
            # The squares are summed by the linear algebra library, in its own order.
            assert value == (pytest.approx(getattr(part, name), rel=1e-14) if name == "brier" else getattr(part, name))


@pytest.mark.parametrize("levels", [None, 10])
@pytest.mark.parametrize("seed", range(3))
def test_weights_are_copies(seed: int, levels: int | None, one_resample) -> None:
    probability, target, known = random_predictions(seed, levels=levels)
    weights = np.random.default_rng(seed).poisson(1.0, 200)
    weights[((target[:, 2] == 1) & known[:, 2]) | ((target[:, 3] == 0) & known[:, 3])] = 0
    one_resample(weights)

    values = values_of(bootstrap_intervals(probability, target, known, KEYS, THRESHOLDS, np.arange(200)))

    copies = np.repeat(np.arange(200), weights)
    result = evaluate_predictions(probability[copies], target[copies], known[copies], KEYS, THRESHOLDS)
    assert result.left_out == ("LBBB", "RBBB")
    for part in (result.macro, *result.labels):
        expected = {name: getattr(part, name) for name in MEASURES}
        assert values[getattr(part, "key", "macro")] == pytest.approx(expected, abs=1e-12)


def test_patients_are_drawn_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_BLOCK", 70)
    patients = np.array([7, 7, 3, 900, 3, 7, 12])
    blocks = list(bootstrap._weights(patients, 2000, 1))
    weights = np.concatenate(blocks)
    assert len(blocks) == 200 and weights.shape == (2000, 7)
    first = [0, 2, 3, 6]
    assert (weights == weights[:, [0, 0, 2, 3, 2, 0, 6]]).all()
    assert (weights[:, first].sum(1) == 4).all()
    assert weights.mean(0) == pytest.approx(np.ones(7), abs=0.08)
    assert np.var(weights[:, 3]) == pytest.approx(0.75, abs=0.08)


def test_a_seed_is_an_answer_and_all_of_it_is_json() -> None:
    probability, target, known = random_predictions(0)
    arguments = probability, target, known, KEYS, THRESHOLDS, np.arange(200) // 2
    first, again, other = (bootstrap_intervals(*arguments, 50, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert (first.num_resamples, first.num_patients) == (50, 100)
    written = json.loads(json.dumps(first.to_dict(), allow_nan=False))
    assert set(written["macro"]) == set(written["labels"]["AF"]) == set(MEASURES)
    assert written["macro"]["auroc"]["low"] < written["macro"]["auroc"]["high"]


def test_what_is_undefined_has_no_interval() -> None:
    probability, target, known = random_predictions(7)
    target[:, 0], known[:, 2] = 0, False
    intervals = bootstrap_intervals(probability, target, known, KEYS, [0.5, 0.5, 0.5, 2.0], np.arange(200), 100)
    assert intervals.labels["AF"]["auroc"] is None and intervals.labels["AF"]["f1"] == Interval(0.0, 0.0)
    assert set(intervals.labels["LBBB"].values()) == {None}
    assert intervals.labels["RBBB"]["precision"] is None and intervals.labels["RBBB"]["recall"] == Interval(0.0, 0.0)
    assert intervals.macro["auroc"] is not None
    nothing = np.zeros((0, 4))
    empty = bootstrap_intervals(nothing, nothing, nothing.astype(bool), KEYS, THRESHOLDS, np.zeros(0, int), 10)
    assert set(empty.macro.values()) == {None} and empty.num_patients == 0


def binormal(
    rng: np.random.Generator, patients: int, records: int, correlation: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 30 % positives a standard deviation higher; those of one patient share their truth and some luck."""
    positive = np.repeat(rng.random(patients) < 0.3, records)
    shared = np.repeat(rng.standard_normal(patients), records)
    luck = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * rng.standard_normal(len(shared))
    return norm.cdf(luck + positive)[:, None], positive[:, None].astype(np.float64)


def coverage_of(*, patients: int, records: int, correlation: float, by_record: bool = False) -> float:
    """Share of 200 datasets whose interval holds the true AUROC."""
    truth, rng, held = norm.cdf(1 / np.sqrt(2)), np.random.default_rng(11), 0
    number = np.arange(patients * records) // (1 if by_record else records)
    for _ in range(200):
        probability, target = binormal(rng, patients, records, correlation)
        known = np.ones(target.shape, bool)
        interval = bootstrap_intervals(probability, target, known, ["AF"], [0.5], number, 200).macro["auroc"]
        assert interval is not None
        held += interval.low <= truth <= interval.high
    return held / 200


def test_intervals_hold_the_truth() -> None:
    assert 0.90 <= coverage_of(patients=150, records=1, correlation=0.0) <= 0.99


def test_intervals_hold_the_truth_because_patients_are_drawn() -> None:
    by_patient = coverage_of(patients=100, records=4, correlation=0.8)
    by_record = coverage_of(patients=100, records=4, correlation=0.8, by_record=True)
    assert 0.90 <= by_patient <= 0.99
    assert by_record < by_patient - 0.15


def test_a_model_does_not_differ_from_itself() -> None:
    probability, target, known = random_predictions(0)
    differences = paired_bootstrap(probability, probability, target, known, THRESHOLDS, THRESHOLDS, np.arange(200), 100)
    assert set(differences) == set(MEASURES)
    for difference in differences.values():
        assert (difference.value, difference.interval, difference.p_value) == (0.0, Interval(0.0, 0.0), 1.0)


def test_differences_are_of_the_evaluations_and_change_sign_with_the_order() -> None:
    probability, target, known = random_predictions(0)
    other = np.clip(probability + 0.2 * np.random.default_rng(1).random(probability.shape), 0, 1)
    limits = THRESHOLDS + 0.1
    forth = paired_bootstrap(probability, other, target, known, THRESHOLDS, limits, np.arange(200), 200)
    back = paired_bootstrap(other, probability, target, known, limits, THRESHOLDS, np.arange(200), 200)
    ours = evaluate_predictions(probability, target, known, KEYS, THRESHOLDS).macro
    theirs = evaluate_predictions(other, target, known, KEYS, limits).macro
    for name in MEASURES:
        assert forth[name].value == pytest.approx(getattr(ours, name) - getattr(theirs, name), abs=1e-14)
        assert back[name].value == -forth[name].value and back[name].p_value == forth[name].p_value
        assert (back[name].interval.low, back[name].interval.high) == pytest.approx(
            (-forth[name].interval.high, -forth[name].interval.low)
        )


def test_pairs_find_what_separate_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random((400, 1)) < 0.4).astype(np.float64)
    score = rng.standard_normal((400, 1))
    worse, better = (norm.cdf(score + gain * target) for gain in (1.0, 1.15))
    known, patients = np.ones((400, 1), bool), np.arange(400)
    first, second = (
        bootstrap_intervals(values, target, known, ["AF"], [0.5], patients).macro["auroc"] for values in (better, worse)
    )
    assert first.low < second.high
    difference = paired_bootstrap(better, worse, target, known, [0.5], [0.5], patients)["auroc"]
    assert difference.interval.low > 0 and difference.p_value == pytest.approx(2 / 1001)


def test_chance_is_seldom_significant() -> None:
    rng, small = np.random.default_rng(5), 0
    for _ in range(100):
        target = (rng.random((120, 1)) < 0.4).astype(np.float64)
        first, second = (norm.cdf(rng.standard_normal((120, 1)) + target) for _ in range(2))
        known = np.ones((120, 1), bool)
        differences = paired_bootstrap(first, second, target, known, [0.5], [0.5], np.arange(120), 200)
        small += differences["auroc"].p_value < 0.05
    assert small <= 12


def test_a_label_that_one_model_never_claims_counts_for_neither() -> None:
    """Else leaving out the hard label would look like a gain in precision."""
    rng = np.random.default_rng(3)
    target = (rng.random((300, 2)) < 0.4).astype(np.float32)
    probability = np.clip(0.6 * target + 0.4 * rng.random((300, 2)), 0, 1)
    probability[:, 1] = rng.random(300)
    known, patients = np.ones((300, 2), bool), np.arange(300)
    difference = paired_bootstrap(probability, probability, target, known, [0.5, 1.5], [0.5, 0.5], patients, 50)
    assert difference["precision"].value == 0
    assert difference["recall"].value != 0
