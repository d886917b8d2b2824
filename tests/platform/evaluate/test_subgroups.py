"""Subgroups part the records, and each is measured as its own records would be."""

from types import SimpleNamespace

import numpy as np
import pytest

from vizecg.platform.evaluate.metrics import evaluate_predictions
from vizecg.platform.evaluate.subgroups import AGE_BANDS, Subgroup, age_band, groups_by_trait, subgroup_metrics

N = 400


def traits() -> SimpleNamespace:
    rng = np.random.default_rng(3)
    age = np.where(rng.random(N) < 0.1, np.nan, rng.uniform(0, 100, N)).astype(np.float32)
    return SimpleNamespace(
        age=age,
        sex=[["F", "M", None, "X"][i] for i in rng.integers(4, size=N)],
        source=["a" if i else "b" for i in rng.integers(2, size=N)],
        page_layout=["3x4+1"] * N,
    )


def measured(groups: dict[str, list[str]]) -> tuple[tuple[Subgroup, ...], tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(0)
    target = (rng.random((N, 3)) < [0.4, 0.2, 0.02]).astype(np.float32)
    probability = np.clip(0.3 * target + 0.7 * rng.random((N, 3)), 0, 1).astype(np.float32)
    known = rng.random((N, 3)) < 0.9
    patients = rng.integers(150, size=N)
    return subgroup_metrics(probability, target, known, [0.5] * 3, patients, groups, num_resamples=40), (
        probability, target, known, patients
    )  # fmt: skip


def test_every_trait_parts_all_records() -> None:
    found, (_, target, known, _) = measured(groups_by_trait(traits()))

    assert {group.trait for group in found} == {"sex", "age", "source", "page"}
    for trait in ("sex", "age", "source", "page"):
        parts = [group for group in found if group.trait == trait]
        assert sum(group.records for group in parts) == N
        assert sum(group.positives for group in parts) == ((target > 0.5) & known).sum()
    assert [group.value for group in found if group.trait == "sex"] == ["female", "male", "unknown"]
    assert [group.value for group in found if group.trait == "age"] == [*(name for _, name in AGE_BANDS), "unknown"]


def test_a_group_is_measured_as_its_records_alone() -> None:
    groups = groups_by_trait(traits())
    found, (probability, target, known, patients) = measured(groups)

    for group in found:
        rows = np.array(groups[group.trait]) == group.value
        alone = evaluate_predictions(probability[rows], target[rows], known[rows], list("abc"), [0.5] * 3)
        assert (group.auroc, group.f1) == (alone.macro.auroc, alone.macro.f1)
        assert group.patients == len(set(patients[rows].tolist()))
        assert group.labels == sum(label.has_both_classes for label in alone.labels)
        assert group.auroc_interval is not None and group.auroc is not None
        assert group.auroc_interval.low <= group.auroc_interval.high <= 1
    whole = next(group for group in found if group.trait == "page")
    assert whole.auroc_interval is not None and whole.auroc_interval.low < whole.auroc < whole.auroc_interval.high


def test_a_group_without_both_classes_is_undefined() -> None:
    target = np.zeros((4, 1), np.float32)
    found = subgroup_metrics(target, target, target == 0, [0.5], np.arange(4), {"sex": ["female"] * 4}, 5)
    assert [(group.auroc, group.labels, group.positives, group.auroc_interval) for group in found] == [
        (None, 0, 0, None)
    ]


@pytest.mark.parametrize(
    ("age", "band"),
    [(0, "below 40"), (39.9, "below 40"), (40, "40 to 59"), (60, "60 to 79"), (80, "80 and above"),
     (97, "80 and above"), (float("nan"), "unknown")],
)  # fmt: skip
def test_ages_fall_into_bands(age: float, band: str) -> None:
    assert age_band(age) == band
