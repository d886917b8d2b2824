"""Which label a model takes for which: of the records with one label, how many it also or instead gives another.

A record may have several labels, so this is no matrix whose rows add up to one: every pair (i, j) counts the records
that have i and, as far as is known, not j.

Shapes: N records, K labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .metrics import FloatArray

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts (K, K), rows by what is true, columns by what is claimed; the diagonal is what was found."""

    label_keys: tuple[str, ...]
    records: Counts
    """Records that have the row's label and do not have the column's; on the diagonal all that have it."""
    also: Counts
    """Those that the model gives both labels; on the diagonal those it finds."""
    instead: Counts
    """Those that the model gives the column's label and not the row's; zero on the diagonal."""

    @property
    def share(self) -> NDArray[np.float64]:
        """(K, K): share of the records that the model gives the column's label, NaN where there is none."""
        claimed = (self.also + self.instead).astype(np.float64)
        return np.divide(claimed, self.records, out=np.full(claimed.shape, np.nan), where=self.records > 0)

    def of_most_frequent(self, count: int) -> "Confusion":
        """The labels with the most positive records, at most `count` of them, in their own order; none without any."""
        positives = self.records.diagonal()
        kept = [k for k in sorted(np.argsort(-positives, kind="stable")[:count]) if positives[k]]
        square = np.ix_(kept, kept)
        return Confusion(
            label_keys=tuple(self.label_keys[k] for k in kept),
            records=self.records[square],
            also=self.also[square],
            instead=self.instead[square],
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        counts = {"records": self.records, "also": self.also, "instead": self.instead}
        return {"label_keys": self.label_keys, **{name: values.tolist() for name, values in counts.items()}}


def confusion_of(
    claimed: NDArray[np.bool_], target: FloatArray, known: NDArray[np.bool_], label_keys: Sequence[str]
) -> Confusion:
    """Confusion of what a model claims (N, K) against targets (N, K) where known (N, K)."""
    positive = (target > 0.5) & known
    negative = (target <= 0.5) & known
    found, missed = positive & claimed, positive & ~claimed
    records, also, instead = (_pairs(*sides) for sides in (
        (positive, negative), (found, negative & claimed), (missed, negative & claimed)
    ))  # fmt: skip
    np.fill_diagonal(records, positive.sum(0))
    np.fill_diagonal(also, found.sum(0))
    return Confusion(label_keys=tuple(label_keys), records=records, also=also, instead=instead)


def _pairs(rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> Counts:
    """(K, K): records in which both hold."""
    # Floats go through BLAS; whole numbers of this size are exact in them.
    return np.rint(rows.T.astype(np.float64) @ columns.astype(np.float64)).astype(np.int64)
