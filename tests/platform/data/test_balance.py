"""Rare labels come more often, as a pure function of the seed and the epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vizecg.platform.data.balance import balanced_counts, label_weights, row_weights
from vizecg.platform.data.dataset_info import shard_files
from vizecg.platform.data.labels import load_label_space
from vizecg.platform.data.order import RowGroup, epoch_plan

N = 2000
ONE_LABEL = np.eye(3, dtype=np.float32)[np.random.default_rng(0).choice(3, N, p=[0.9, 0.09, 0.01])]
"""Three labels, a record each."""


@given(
    weights=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60), seed=st.integers(0, 99), epoch=st.integers(0, 99)
)
@settings(max_examples=200, deadline=None)
def test_counts_are_whole_add_up_and_stay_by_their_expectation(weights: list[float], seed: int, epoch: int) -> None:
    share = np.array(weights) / np.sum(weights)

    counts = balanced_counts(np.array(weights), seed, epoch)

    assert counts.dtype == np.int64
    assert counts.min() >= 0
    assert counts.sum() == len(weights)
    assert np.abs(counts - share * len(weights)).max() < 1 + 1e-6


def test_counts_depend_on_seed_and_epoch_alone() -> None:
    weights = np.random.default_rng(0).uniform(0.1, 3, N)

    drawn = {key: balanced_counts(weights, *key).tobytes() for key in ((0, 0), (0, 1), (1, 0))}

    assert drawn[0, 1] == balanced_counts(weights.copy(), 0, 1).tobytes()
    assert len(set(drawn.values())) == 3
    mean = np.mean([balanced_counts(weights, 0, epoch) for epoch in range(400)], axis=0)
    np.testing.assert_allclose(mean, weights / weights.mean(), atol=0.15)


@pytest.mark.parametrize(("balance", "expected"), [(0.0, [0.9, 0.09, 0.01]), (1.0, [1 / 3] * 3)])
def test_balance_goes_from_frequencies_to_equal_shares(balance: float, expected: list[float]) -> None:
    weights = ONE_LABEL @ label_weights(ONE_LABEL, balance)

    counts = balanced_counts(weights, 0, 0)

    np.testing.assert_allclose(counts @ ONE_LABEL / N, expected, atol=0.015)
    assert balance or (counts == 1).all()


def test_weights_of_real_shards_are_in_the_order_of_their_rows(small_dataset) -> None:
    import pyarrow.parquet as pq

    space, files = load_label_space("practice"), shard_files(small_dataset, "train")
    rows = [row for file in files for row in pq.read_table(file, columns=["codes", "code_set"]).to_pylist()]
    target = np.stack([space.targets(row["codes"], row["code_set"])[0] for row in rows])

    weights = row_weights(files, space, 1.0)

    frequency = target.mean(axis=0)
    for labels, weight in zip(target.astype(bool), weights, strict=True):
        expected = np.mean(1 / frequency[labels]) if labels.any() else 1 / frequency.max()
        assert weight == pytest.approx(expected)
    assert (row_weights(files, space, 0.0) == 1).all()


def test_a_balanced_plan_shows_the_rare_more_often() -> None:
    groups = [RowGroup("a", number, 100) for number in range(N // 100)]
    counts = balanced_counts(ONE_LABEL @ label_weights(ONE_LABEL, 1.0), 3, 5)

    plan = epoch_plan(groups, 3, 5, 64, counts=counts)

    used = [rows for lane in plan for window in lane for rows in np.array(places_of(window))[window.drawn]]
    assert len(used) == N
    np.testing.assert_allclose(ONE_LABEL[used].mean(axis=0), 1 / 3, atol=0.015)


def places_of(window) -> list[int]:
    return [100 * group + row for _, group, first, end in window.slices for row in range(first, end)]
