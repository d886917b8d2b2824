"""The comparison: every variant's measures over its seeds, and how far it is from the reference.

All figures are macro means of the deployed stream on the test split. Intervals are 95 % percentiles of a bootstrap over
patients of the mean over seeds: they say what other patients would have changed. What another seed would have changed
is the standard deviation beside them, and in no interval.

Shapes: N records, K labels, S seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import stdev
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..evaluate.bootstrap import Difference, Interval, bootstrap_intervals, paired_bootstrap
from ..evaluate.metrics import evaluate_predictions
from .config import ReproduceConfig
from .results import RunResult

MEASURES = {"precision": "Precision", "recall": "Recall", "f1": "F1", "auroc": "AUROC"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measure of one variant; None where undefined."""

    seeds: tuple[float | None, ...]
    mean: float | None
    """Over seeds."""
    deviation: float | None
    """Standard deviation over seeds; None below two."""
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant."""

    key: str
    title: str
    family: str
    cells: dict[str, Cell]
    """By measure."""
    gains: dict[str, Difference] | None
    """By measure, as the configuration's `gain` says; None for the reference."""
    reported: dict[str, float | None]
    """The paper's gain over this family by measure, a percentage; empty where it reports none."""


@dataclass(frozen=True, kw_only=True)
class ComparisonTable:
    config: ReproduceConfig
    label_space: str
    num_records: int
    num_patients: int
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "config": self.config.model_dump(mode="json"),
            "label_space": self.label_space,
            "num_records": self.num_records,
            "num_patients": self.num_patients,
            "rows": [asdict(row) for row in self.rows],
        }


def compare(
    config: ReproduceConfig, results: dict[str, list[RunResult]], on_variant: Callable[[int], None] = lambda done: None
) -> ComparisonTable:
    """The table of the results of every variant, one a seed; all of the same records and labels."""
    first = results[config.reference][0]
    for runs in results.values():
        for run in runs:
            assert run.label_keys == first.label_keys and np.array_equal(run.patients, first.patients)
    reference = _pooled(results[config.reference])
    rows = []
    for number, variant in enumerate(config.variants, 1):
        rows.append(_row(config, variant, results[variant], reference))
        on_variant(number)
    return ComparisonTable(
        config=config,
        label_space=first.label_space,
        num_records=len(first.target),
        num_patients=len(np.unique(first.patients)),
        rows=tuple(rows),
    )


def _row(config: ReproduceConfig, variant: str, runs: list[RunResult], reference: "_Pooled") -> Row:
    own, patients = _pooled(runs), runs[0].patients
    macros = [run.evaluated().macro for run in runs]
    means = evaluate_predictions(own.probability, own.target, own.known, own.keys, own.thresholds).macro
    intervals = bootstrap_intervals(
        own.probability, own.target, own.known, own.keys, own.thresholds, patients, config.num_resamples
    )
    gains = None
    if variant != config.reference:
        first, second = (reference, own) if config.gain == "of_reference" else (own, reference)
        gains = paired_bootstrap(
            first.probability, second.probability, own.target, own.known, first.thresholds, second.thresholds,
            patients, config.num_resamples,
        )  # fmt: skip
    reported = None if variant == config.reference else config.reported_for(variant)
    return Row(
        key=variant,
        title=config.variants[variant].title,
        family=config.variants[variant].family,
        cells={
            name: Cell(
                seeds=(seeds := tuple(getattr(macro, name) for macro in macros)),
                mean=getattr(means, name),
                deviation=_deviation(seeds),
                interval=intervals.macro[name],
            )
            for name in MEASURES
        },
        gains=gains and {name: gains[name] for name in MEASURES},
        reported={name: getattr(reported, name, None) for name in MEASURES} if reported else {},
    )


def _deviation(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return stdev(defined) if len(defined) > 1 else None


class _Pooled(NamedTuple):
    """All seeds of a variant side by side as S * K labels, whose macro mean is the mean over seeds of macro means.

    So one resample of patients hits all seeds alike, as it should: they were tested on the same patients.
    """

    probability: NDArray[np.floating]
    target: NDArray[np.floating]
    known: NDArray[np.bool_]
    thresholds: list[float]
    keys: list[str]


def _pooled(runs: list[RunResult]) -> _Pooled:
    return _Pooled(
        probability=np.concatenate([run.probability for run in runs], 1),
        target=np.concatenate([run.target for run in runs], 1),
        known=np.concatenate([run.known for run in runs], 1),
        thresholds=[threshold for run in runs for threshold in run.thresholds],
        keys=[f"{key}, seed {number}" for number, run in enumerate(runs) for key in run.label_keys],
    )
