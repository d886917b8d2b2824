"""Drift is measured as its sources say, and is not seen where there is none."""

from math import log

import numpy as np
import pytest
from scipy.special import expit, logit

from vizecg.platform.drift import (
    SHIFTED,
    VERY_DIFFERENT,
    difference_interval,
    index_bins,
    label_drift,
    merged,
    stability_index,
)
from vizecg.platform.reference import bin_counts, probability_edges

EDGES = probability_edges()


def answers(rng: np.random.Generator, count: int, prevalence: float = 0.1, shift: float = 0.0) -> np.ndarray:
    """Histogram of the probabilities of so many records, moved by `shift` in log-odds."""
    positive = rng.random(count) < prevalence
    log_odds = rng.normal(np.where(positive, 2.0, -2.0), 1.5) + logit(prevalence) + shift
    return bin_counts(expit(log_odds).astype(np.float32), EDGES)


def test_index_against_its_formula() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 50, (2, 7))
        total = 0.0
        for one, other in zip(a, b, strict=True):
            p, q = (one + 0.5) / (sum(a) + 3.5), (other + 0.5) / (sum(b) + 3.5)
            total += (p - q) * log(p / q)
        assert stability_index(a, b) == pytest.approx(total)
        assert stability_index(a, b) == pytest.approx(stability_index(b, a))
        assert stability_index(a, a) == 0.0


def test_index_without_drift_is_what_its_source_says() -> None:
    """(1/N + 1/M) times a chi-square of B - 1 degrees of freedom: its mean and its 99th percentile."""
    rng = np.random.default_rng(1)
    shares, num_bins = np.full(10, 0.1), 10
    found = [stability_index(rng.multinomial(3000, shares), rng.multinomial(800, shares)) for _ in range(2000)]
    scale = 1 / 3000 + 1 / 800
    assert np.mean(found) == pytest.approx((num_bins - 1) * scale, rel=0.05)
    assert np.quantile(found, 0.99) == pytest.approx(21.67 * scale, rel=0.1)


@pytest.mark.parametrize(("pages", "records"), [(150, 150), (400, 120), (20_000, 60), (5000, 5000)])
@pytest.mark.parametrize("prevalence", [0.3, 0.01])
def test_splits_of_the_same_records_are_alike(pages: int, records: int, prevalence: float) -> None:
    """Nearly never called shifted; said to be alike where there are records enough to say it."""
    rng = np.random.default_rng(2)
    splits = [
        label_drift(answers(rng, pages, prevalence), answers(rng, records, prevalence), 0, 0.0) for _ in range(200)
    ]
    words = [found.word for found in splits if found]
    assert len(words) == 200
    assert sum(word in ("shifted", "very different") for word in words) < 10
    if min(pages, records) >= 150 or pages > 10_000:
        assert words.count("like the training data") > 190


def test_it_rises_with_the_shift_up_to_very_different() -> None:
    rng = np.random.default_rng(3)
    reference = answers(rng, 3000)
    found = [label_drift(answers(rng, 10_000, shift=shift), reference, 0, 0.0) for shift in (0, 0.5, 1, 1.5, 3)]
    index, ks = [drift.psi for drift in found if drift], [drift.ks for drift in found if drift]
    assert index == sorted(index) and ks == sorted(ks) and index[0] < 0.01 < VERY_DIFFERENT < index[-1]
    words = [drift.word for drift in found if drift]
    assert words[0] == "like the training data" and words[-1] == "very different"
    for drift in found:
        assert drift is not None
        assert (drift.word == "shifted") == (SHIFTED <= drift.psi < VERY_DIFFERENT)


def test_small_archives_are_not_judged_unless_the_drift_is_plain() -> None:
    rng = np.random.default_rng(4)
    reference = answers(rng, 3000)
    alike, far = (label_drift(answers(rng, 20, shift=shift), reference, 0, 0.0) for shift in (0, 6))
    assert alike is not None and alike.word is None and alike.psi_by_chance > VERY_DIFFERENT
    assert far is not None and far.word == "very different"
    assert label_drift(np.zeros_like(reference), reference, 0, 0.0) is None


def test_answers_that_leave_the_only_full_bin_are_seen() -> None:
    reference, moved, below = np.zeros((3, len(EDGES) + 1), np.int64)
    reference[7], moved[30], below[0] = 500, 500, 500
    for archive in (moved, below):
        found = label_drift(archive, reference, 0, 0.0)
        assert found is not None and found.word == "very different" and found.ks == 1.0
    same = label_drift(10 * reference, reference, 0, 0.0)
    assert same is not None and same.word == "like the training data" and same.ks == same.psi == 0.0


def test_bins_of_the_index_hold_about_the_same_and_lose_nothing() -> None:
    rng = np.random.default_rng(5)
    for records in (1, 30, 90, 500, 20_000):
        reference = answers(rng, records, 0.3)
        begins = index_bins(reference)
        assert begins[0] == 0 and 2 <= len(begins) <= 12
        counts = merged(reference, begins)
        assert counts.sum() == records
        # No more than one share and the largest bin of the histogram, which cannot be divided.
        assert counts.max() <= records / min(max(records // 20, 2), 10) + reference.max()


def test_kolmogorov_smirnov_is_that_of_scipy() -> None:
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(6)
    a, b = answers(rng, 700), answers(rng, 300, shift=0.4)
    found = label_drift(a, b, 0, 0.0)
    expected = ks_2samp(*(np.repeat(np.arange(len(a)), counts) for counts in (a, b))).statistic
    assert found is not None and found.ks == pytest.approx(expected)


def test_bins_of_the_histogram_count_an_edge_above_it_and_are_open_outside() -> None:
    probability = np.array([1e-30, 0.5, np.nextafter(np.float32(0.5), np.float32(0)), 1 - 1e-7], np.float32)
    assert np.flatnonzero(bin_counts(probability, EDGES)).tolist() == [0, 19, 20, 39]


def test_interval_of_a_difference_is_newcombes() -> None:
    """Newcombe 1998, table II, example (a): 56/70 against 48/80, 0.0524 to 0.3339; and (h): 10/10 against 0/10."""
    assert difference_interval((56 / 70, 70), (48 / 80, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert difference_interval((1.0, 10), (0.0, 10)) == pytest.approx((0.6075, 1.0), abs=1e-4)
