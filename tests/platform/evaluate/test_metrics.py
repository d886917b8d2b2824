"""Metrics agree with scikit-learn, thresholds with brute force."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from vizecg.platform.evaluate.metrics import evaluate_predictions, macro_auroc
from vizecg.platform.evaluate.thresholds import FALLBACK, choose_thresholds

KEYS = ["AF", "SB", "LBBB", "RBBB"]


def random_predictions(seed: int, *, records: int = 300, levels: int | None = None) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    target = (rng.random((records, 4)) < [0.5, 0.2, 0.05, 0.9]).astype(np.float32)
    probability = np.clip(0.35 * target + 0.65 * rng.random((records, 4)), 0, 1).astype(np.float32)
    if levels:
        probability = np.round(probability * levels) / levels
    return probability, target, rng.random((records, 4)) < 0.8


@pytest.mark.parametrize("levels", [None, 20, 3, 1])
@pytest.mark.parametrize("seed", range(3))
def test_every_measure_agrees_with_scikit_learn(seed: int, levels: int | None) -> None:
    probability, target, known = random_predictions(seed, levels=levels)
    thresholds = np.array([0.3, 0.5, 0.6, 0.4])
    result = evaluate_predictions(probability, target, known, KEYS, thresholds)
    for k, label in enumerate(result.labels):
        truth, score = target[known[:, k], k], probability[known[:, k], k]
        claimed = score >= thresholds[k]
        assert (label.key, label.records, label.positives) == (KEYS[k], known[:, k].sum(), truth.sum())
        assert label.auroc == pytest.approx(reference.roc_auc_score(truth, score), abs=1e-9)
        assert label.auprc == pytest.approx(reference.average_precision_score(truth, score), abs=1e-9)
        assert label.f1 == pytest.approx(reference.f1_score(truth, claimed), abs=1e-9)
        assert label.recall == pytest.approx(reference.recall_score(truth, claimed), abs=1e-9)
        if claimed.any():
            assert label.precision == pytest.approx(reference.precision_score(truth, claimed), abs=1e-9)
    assert result.macro.auroc == pytest.approx(np.mean([label.auroc for label in result.labels]), abs=1e-12)
    assert result.micro.auroc == pytest.approx(reference.roc_auc_score(target[known], probability[known]), abs=1e-9)
    assert macro_auroc(probability, target, known) == result.macro.auroc


def test_macro_auroc_is_the_same_for_logits() -> None:
    probability, target, known = random_predictions(5)
    clipped = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    assert macro_auroc(np.log(clipped / (1 - clipped)), target, known) == pytest.approx(
        macro_auroc(clipped, target, known)
    )


def test_what_is_undefined_is_none_and_named() -> None:
    probability, target, known = random_predictions(7)
    target[:, 0], target[:, 1] = 0, 1
    known[:, 2] = False
    result = evaluate_predictions(probability, target, known, KEYS, [0.5, 0.5, 0.5, 2.0])
    af, sb, lbbb, rbbb = result.labels
    assert result.left_out == ("AF", "SB", "LBBB")
    assert af.auroc is None and af.auprc is None and af.recall is None and af.f1 == 0.0
    assert sb.auroc is None and sb.recall is not None
    assert (lbbb.records, lbbb.prevalence, lbbb.precision, lbbb.recall, lbbb.f1) == (0, None, None, None, None)
    assert rbbb.precision is None and rbbb.recall == 0.0 and rbbb.f1 == 0.0
    assert result.macro.auroc == rbbb.auroc and result.macro.precision is None
    assert result.macro_labels == {"auroc": 1, "auprc": 1, "f1": 1, "precision": 0, "recall": 1}
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["labels"][0]["key"] == "AF"


def test_no_records_and_nan_scores() -> None:
    nothing = np.zeros((0, 4))
    result = evaluate_predictions(nothing, nothing, nothing.astype(bool), KEYS, [0.5] * 4)
    assert result.macro.auroc is None and result.micro.f1 is None and len(result.left_out) == 4
    probability, target, known = random_predictions(1)
    probability[3, 0], known[3, 0] = np.nan, True
    with pytest.raises(ValueError, match=r"1 of .* scores are NaN"):
        macro_auroc(probability, target, known)


def brute_force_f1(score: np.ndarray, truth: np.ndarray) -> float:
    return max(reference.f1_score(truth, score >= limit, zero_division=0) for limit in np.unique(score))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), records=st.integers(1, 40), levels=st.sampled_from([None, 5, 2, 1]))
def test_thresholds_reach_the_greatest_f1(seed: int, records: int, levels: int | None) -> None:
    probability, target, known = random_predictions(seed, records=records, levels=levels)
    thresholds = choose_thresholds(probability, target, known)
    assert (thresholds == choose_thresholds(probability, target, known)).all()
    for k, threshold in enumerate(thresholds):
        score, truth = probability[known[:, k], k], target[known[:, k], k]
        if truth.sum() == 0:
            assert threshold == FALLBACK
        else:
            reached = reference.f1_score(truth, score >= threshold)
            assert reached == pytest.approx(brute_force_f1(score, truth), abs=1e-12)


def test_thresholds_lie_between_scores_and_ignore_unknown_labels() -> None:
    probability = np.array([[0.9], [0.8], [0.2], [0.1], [0.95]])
    target = np.array([[1.0], [1.0], [0.0], [0.0], [0.0]])
    known = np.array([[True], [True], [True], [True], [False]])
    assert choose_thresholds(probability, target, known) == pytest.approx([0.5])
    neighbours = np.array([[np.nextafter(0.5, 1)], [0.5]])
    threshold = choose_thresholds(neighbours, np.array([[1.0], [0.0]]), np.ones((2, 1), bool))
    assert ((neighbours >= threshold)[:, 0] == [True, False]).all()
