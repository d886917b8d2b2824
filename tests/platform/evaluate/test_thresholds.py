"""Thresholds agree with brute force over every score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from vizecg.platform.evaluate.thresholds import FALLBACK, choose_thresholds


def random_predictions(seed: int, records: int, levels: int | None) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    target = (rng.random((records, 4)) < [0.5, 0.2, 0.05, 0.9]).astype(np.float32)
    probability = np.clip(0.35 * target + 0.65 * rng.random((records, 4)), 0, 1).astype(np.float32)
    if levels:
        probability = np.round(probability * levels) / levels
    return probability, target, rng.random((records, 4)) < 0.8


def brute_force_f1(score: np.ndarray, truth: np.ndarray) -> float:
    return max(reference.f1_score(truth, score >= limit, zero_division=0) for limit in np.unique(score))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), records=st.integers(1, 40), levels=st.sampled_from([None, 5, 2, 1]))
def test_thresholds_reach_the_greatest_f1(seed: int, records: int, levels: int | None) -> None:
    probability, target, known = random_predictions(seed, records, levels)
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


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    records=st.integers(1, 40),
    levels=st.sampled_from([None, 5, 1]),
    target_recall=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
)
def test_thresholds_are_the_highest_that_reach_a_recall(
    seed: int, records: int, levels: int | None, target_recall: float
) -> None:
    probability, target, known = random_predictions(seed, records, levels)
    thresholds = choose_thresholds(probability, target, known, target_recall)
    for k, threshold in enumerate(thresholds):
        score, truth = probability[known[:, k], k], target[known[:, k], k]
        if truth.sum() == 0:
            assert threshold == FALLBACK
            continue
        assert reference.recall_score(truth, score >= threshold) >= target_recall
        claimed_less = score > score[score >= threshold].min()
        assert reference.recall_score(truth, claimed_less) < target_recall


def test_a_recall_trades_precision_for_hits() -> None:
    probability = np.array([[0.9], [0.8], [0.6], [0.4], [0.2]])
    target = np.array([[1.0], [0.0], [0.0], [1.0], [0.0]])
    known = np.ones((5, 1), bool)
    assert choose_thresholds(probability, target, known, 0.5) == pytest.approx([0.85])
    assert choose_thresholds(probability, target, known, 0.51) == pytest.approx([0.3])
    assert choose_thresholds(probability, target, known, 1.0) == pytest.approx([0.3])
