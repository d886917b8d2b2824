"""Who a model reads less well: its measures by sex, age, source and form of page.

Shapes: N records, K labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Interval, bootstrap_intervals
from .metrics import FloatArray, evaluate_predictions

UNKNOWN = "unknown"
AGE_BANDS = ((0, "below 40"), (40, "40 to 59"), (60, "60 to 79"), (80, "80 and above"))
"""First year of each band and its name."""
_SEXES = {"F": "female", "M": "male"}


class Traits(Protocol):
    """What is known of the records besides their labels: each (N,)."""

    @property
    def age(self) -> NDArray[np.floating]: ...
    @property
    def sex(self) -> Sequence[str | None]: ...
    @property
    def source(self) -> Sequence[str]: ...
    @property
    def page_layout(self) -> Sequence[str]: ...


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """One part of the records. Its macro means count the labels that have both classes in it."""

    trait: str
    value: str
    records: int
    patients: int
    positives: int
    """Known pairs of record and label that are positive."""
    labels: int
    """How many the macro means count."""
    auroc: float | None
    f1: float | None
    auroc_interval: Interval | None
    f1_interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def groups_by_trait(traits: Traits) -> dict[str, list[str]]:
    """By trait, the group of every record (N,); each trait parts all of them."""
    return {
        "sex": [_SEXES.get(sex or "", UNKNOWN) for sex in traits.sex],
        "age": [age_band(float(age)) for age in traits.age],
        "source": [source or UNKNOWN for source in traits.source],
        "page": [layout or UNKNOWN for layout in traits.page_layout],
    }


def age_band(age: float) -> str:
    """The band of an age in years; NaN is unknown."""
    return next((name for first, name in reversed(AGE_BANDS) if age >= first), UNKNOWN)


def subgroup_metrics(
    probability: FloatArray,
    target: FloatArray,
    known: NDArray[np.bool_],
    thresholds: Sequence[float] | FloatArray,
    patients: NDArray[np.integer],
    groups: dict[str, list[str]],
    num_resamples: int = 200,
) -> tuple[Subgroup, ...]:
    """Measures of probabilities (N, K) in every group of every trait, in the order of `AGE_BANDS` or the alphabet."""
    keys = [str(k) for k in range(probability.shape[1])]
    found = []
    for trait, values in groups.items():
        column = np.array(values)
        for value in sorted(set(values), key=_order):
            rows = np.flatnonzero(column == value)
            part = (probability[rows], target[rows], known[rows], keys, thresholds)
            result = evaluate_predictions(*part)
            spread = bootstrap_intervals(*part, patients[rows], num_resamples).macro
            found.append(
                Subgroup(
                    trait=trait,
                    value=value,
                    records=len(rows),
                    patients=len(np.unique(patients[rows])),
                    positives=sum(label.positives for label in result.labels),
                    labels=sum(label.has_both_classes for label in result.labels),
                    auroc=result.macro.auroc,
                    f1=result.macro.f1,
                    auroc_interval=spread["auroc"],
                    f1_interval=spread["f1"],
                )
            )
    return tuple(found)


def _order(value: str) -> tuple[int, int, str]:
    bands = [name for _, name in AGE_BANDS]
    return (value == UNKNOWN, bands.index(value) if value in bands else 0, value)
