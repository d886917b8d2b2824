"""Whether one model is better than another, on the same records.

Shapes: N records, K labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.labels import LabelSpace
from ..errors import UserError
from .bootstrap import Difference, paired_bootstrap
from .metrics import EvaluationResult, FloatArray, evaluate_predictions

COMPARED = ("auroc", "auprc", "f1", "precision", "recall")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The evaluated model against another one: differences of macro means are this one's minus the other's."""

    other: str
    """What the other is, for people."""
    result: EvaluationResult
    """Of the other."""
    differences: dict[str, Difference]
    """By measure."""
    num_resamples: int
    num_patients: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "other": self.other,
            "macro": asdict(self.result.macro),
            "differences": {name: asdict(difference) for name, difference in self.differences.items()},
            "num_resamples": self.num_resamples,
            "num_patients": self.num_patients,
        }


def compare_predictions(
    first: tuple[FloatArray, Sequence[float]],
    second: tuple[FloatArray, Sequence[float]],
    target: FloatArray,
    known: NDArray[np.bool_],
    patients: NDArray[np.integer],
    label_keys: Sequence[str],
    other: str,
    num_resamples: int = 1000,
) -> Comparison:
    """Compare two models' probabilities (N, K), each with its thresholds (K,), on the same targets (N, K)."""
    (ours, our_limits), (theirs, their_limits) = first, second
    differences = paired_bootstrap(
        ours, theirs, target, known, our_limits, their_limits, patients, num_resamples=num_resamples
    )
    return Comparison(
        other=other,
        result=evaluate_predictions(theirs, target, known, label_keys, their_limits),
        differences={name: differences[name] for name in COMPARED},
        num_resamples=num_resamples,
        num_patients=len(np.unique(patients)),
    )


def require_same_labels(bundle: str, labels: LabelSpace, other: str, other_labels: LabelSpace) -> None:
    """UserError where two bundles do not tell the same labels apart, in the same order and by the same codes."""
    if labels.keys == other_labels.keys:
        pairs = zip(labels.labels, other_labels.labels, strict=True)
        differing = [label.key for label, theirs in pairs if set(label.codes) != set(theirs.codes)]
        reason = f"other codes mean {', '.join(differing[:5])}" if differing else ""
    else:
        lacking = sorted(set(labels.keys) ^ set(other_labels.keys))
        reason = f"only one of them knows {', '.join(lacking[:5])}" if lacking else "they stand in another order"
    if reason:
        raise UserError(
            f"--against {other}: its labels ({other_labels.name}) are not those of {bundle} ({labels.name}): {reason}; "
            "compare models of one label_space"
        )
