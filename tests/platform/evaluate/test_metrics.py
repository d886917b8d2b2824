"""Metrics agree with scikit-learn, Fmax with the definition of the PTB-XL benchmark."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from vizecg.platform.evaluate.metrics import (
    ECE_BINS,
    MEASURES,
    calibration_error,
    evaluate_predictions,
    fmax,
    macro_auroc,
)

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
        assert label.brier == pytest.approx(reference.brier_score_loss(truth, score.astype(np.float64)), abs=1e-9)
        if claimed.any():
            assert label.precision == pytest.approx(reference.precision_score(truth, claimed), abs=1e-9)
    assert result.macro.auroc == pytest.approx(np.mean([label.auroc for label in result.labels]), abs=1e-12)
    assert result.micro.auroc == pytest.approx(reference.roc_auc_score(target[known], probability[known]), abs=1e-9)
    assert result.micro.auprc == pytest.approx(
        reference.average_precision_score(target[known], probability[known]), abs=1e-9
    )
    pooled = probability[known].astype(np.float64)
    assert result.micro.brier == pytest.approx(reference.brier_score_loss(target[known], pooled), abs=1e-9)
    assert macro_auroc(probability, target, known) == result.macro.auroc


@pytest.mark.parametrize("levels", [None, 20])
@pytest.mark.parametrize("seed", range(3))
def test_macro_and_micro_agree_with_scikit_learn(seed: int, levels: int | None) -> None:
    probability, target, known = random_predictions(seed, levels=levels)
    known[:] = True
    thresholds = np.array([0.3, 0.5, 0.6, 0.4])
    result = evaluate_predictions(probability, target, known, KEYS, thresholds)
    for average, ours in [("macro", result.macro), ("micro", result.micro)]:
        precision, recall, f1, _ = reference.precision_recall_fscore_support(
            target, probability >= thresholds, average=average
        )
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx((precision, recall, f1), abs=1e-9)


def literal_calibration_error(probability: np.ndarray, target: np.ndarray) -> float:
    error = 0.0
    for number in range(ECE_BINS):
        low, high = number / ECE_BINS, (number + 1) / ECE_BINS
        inside = (probability >= low) & ((probability < high) | (number == ECE_BINS - 1))
        if inside.any():
            error += inside.mean() * abs(probability[inside].mean() - target[inside].mean())
    return error


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_is_its_definition(seed: int) -> None:
    probability, target, known = random_predictions(seed)
    result = evaluate_predictions(probability, target, known, KEYS, [0.5] * 4)
    expected = [literal_calibration_error(probability[known[:, k], k], target[known[:, k], k]) for k in range(4)]
    assert [label.ece for label in result.labels] == pytest.approx(expected, abs=1e-6)
    assert result.macro.ece == pytest.approx(np.mean(expected), abs=1e-6)
    assert result.micro.ece == pytest.approx(literal_calibration_error(probability[known], target[known]), abs=1e-6)


def test_calibration_error_of_calibrated_and_of_boastful_probabilities() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(100_000)
    target = (rng.random(100_000) < probability).astype(np.float64)
    assert calibration_error(probability, target) < 0.01
    assert calibration_error(np.ones(4), np.array([1.0, 0, 0, 0])) == 0.75
    assert calibration_error(np.zeros(0), np.zeros(0)) is None


def test_frequent_labels_have_ten_positives_and_both_classes() -> None:
    target = np.zeros((40, 4), np.float32)
    target[:10, 0] = target[:9, 1] = target[:, 2] = target[:30, 3] = 1
    probability = np.random.default_rng(3).random((40, 4))
    result = evaluate_predictions(probability, target, np.ones((40, 4), bool), KEYS, [0.5] * 4)
    assert result.frequent == ("AF", "RBBB") and result.left_out == ("LBBB",)
    for name in MEASURES:
        values = [getattr(label, name) for label in result.labels]
        assert getattr(result.macro_frequent, name) == np.mean([values[0], values[3]])
        assert getattr(result.macro, name) == np.mean([values[0], values[1], values[3]])
    few = evaluate_predictions(probability[:, 1:3], target[:, 1:3], np.ones((40, 2), bool), KEYS[:2], [0.5] * 2)
    assert few.frequent == () and few.macro_frequent.auroc is None and few.macro.auroc is not None


def literal_fmax(probability: np.ndarray, target: np.ndarray) -> float:
    """As the PTB-XL benchmark defines it, record by record."""
    scores = []
    for threshold in np.arange(0.0, 1.01, 0.01):
        precisions, recalls = [], []
        for score, truth in zip(probability, target, strict=True):
            claimed = score >= threshold
            hits = float((claimed & (truth == 1)).sum())
            if claimed.any():
                precisions.append(hits / claimed.sum())
            recalls.append(hits / float(truth.sum()))
        precision, recall = np.mean(precisions) if precisions else np.nan, np.mean(recalls)
        if precision + recall > 0:
            scores.append(2 * precision * recall / (precision + recall))
    return max(scores)


@pytest.mark.parametrize("levels", [None, 100, 10])
@pytest.mark.parametrize("seed", range(3))
def test_fmax_is_that_of_the_benchmark(seed: int, levels: int | None) -> None:
    probability, target, known = random_predictions(seed, records=60)
    probability, known[:] = probability.astype(np.float64), True
    if levels:
        probability = np.round(probability * levels) / levels
    labelled = target.any(1)
    assert 0 < labelled.sum() < 60
    expected = literal_fmax(probability[labelled], target[labelled])
    assert fmax(probability, target, known) == pytest.approx(expected, abs=1e-9)
    assert evaluate_predictions(probability, target, known, KEYS, [0.5] * 4).fmax == fmax(probability, target, known)


def test_fmax_knows_what_is_unknown() -> None:
    target = np.eye(4)
    assert fmax(0.2 + 0.6 * target, target, np.ones((4, 4), bool)) == 1.0
    blurred = np.where(target > 0, 0.8, 0.2)
    blurred[0, 1] = 0.9
    known = np.ones((4, 4), bool)
    assert fmax(blurred, target, known) < 1.0
    known[0, 1] = False
    assert fmax(blurred, target, known) == 1.0
    assert fmax(blurred, np.zeros((4, 4)), known) is None
    assert fmax(np.zeros((4, 4)), target, known) == pytest.approx(2 * 0.25 / 1.25, abs=0.05)


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
    assert result.macro_labels == {
        "auroc": 1, "auprc": 1, "f1": 1, "precision": 0, "recall": 1, "brier": 1, "ece": 1,
    }  # fmt: skip
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["labels"][0]["key"] == "AF"


def test_no_records_and_nan_scores() -> None:
    nothing = np.zeros((0, 4))
    result = evaluate_predictions(nothing, nothing, nothing.astype(bool), KEYS, [0.5] * 4)
    assert result.macro.auroc is None and result.micro.f1 is None and len(result.left_out) == 4
    probability, target, known = random_predictions(1)
    probability[3, 0], known[3, 0] = np.nan, True
    with pytest.raises(ValueError, match=r"1 of .* scores are NaN"):
        macro_auroc(probability, target, known)
