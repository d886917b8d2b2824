"""How far two runs agree: label by label, counted share by share.

Shapes: n rows that both runs have, B bins of a chart's side.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .changes import Joined

BINS = 30
REACH = 6.0
"""Log-odds at the ends of a chart: probabilities of 0.25 % and 99.75 %; what lies beyond stands in the last bins."""


@dataclass(kw_only=True)
class LabelAgreement:
    """One label over the pages that both runs have scored."""

    key: str
    pages: int = 0
    both: int = 0
    only_old: int = 0
    only_new: int = 0
    total_change: float = 0.0
    """Sum of the absolute changes of its probability."""
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(5))
    """Of old, new, old squared, new squared and old times new."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((BINS, BINS), np.int64))
    """Pages by old (rows) and new probability (B, B), in even bins of log-odds."""

    def add(self, old: NDArray[np.float64], new: NDArray[np.float64], was: NDArray[Any], is_now: NDArray[Any]) -> None:
        """Probabilities (n,) and whether it was among the findings (n,)."""
        self.pages += len(old)
        self.both += int((was & is_now).sum())
        self.only_old += int((was & ~is_now).sum())
        self.only_new += int((is_now & ~was).sum())
        self.total_change += float(np.abs(new - old).sum())
        self.sums += [old.sum(), new.sum(), (old * old).sum(), (new * new).sum(), (old * new).sum()]
        places = _bins(old) * BINS + _bins(new)
        self.counts += np.bincount(places, minlength=BINS * BINS).reshape(BINS, BINS)

    @property
    def kappa(self) -> float | None:
        """Cohen's; None where both runs say one and the same of every page."""
        if not self.pages:
            return None
        old, new = (self.both + self.only_old) / self.pages, (self.both + self.only_new) / self.pages
        observed = 1 - (self.only_old + self.only_new) / self.pages
        by_chance = old * new + (1 - old) * (1 - new)
        return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else None

    @property
    def correlation(self) -> float | None:
        """Pearson's, of the probabilities; None where one of them never changes."""
        old, new, old_squared, new_squared, product = self.sums / max(self.pages, 1)
        variances = (old_squared - old * old) * (new_squared - new * new)
        # Sums of squares leave rounding errors where nothing varies.
        return float(np.clip((product - old * new) / math.sqrt(variances), -1, 1)) if variances > 1e-18 else None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "both": self.both,
            "only_old": self.only_old,
            "only_new": self.only_new,
            "kappa": self.kappa,
            "mean_change": self.total_change / self.pages if self.pages else None,
            "correlation": self.correlation,
        }


class Agreement:
    """Everything counted of two runs."""

    def __init__(self, keys: list[str]):
        self.labels = {key: LabelAgreement(key=key) for key in keys}
        self.pages = self.scored = self.changed = 0
        self.only_in = [0, 0]
        self.rejected_by: dict[str, Counter[str]] = {"old": Counter(), "new": Counter()}
        self.rejected_by_both = 0

    def add(self, joined: Joined) -> None:
        """One more share."""
        was_scored, is_scored = joined.scored
        both = was_scored & is_scored
        self.pages += len(both)
        self.scored += int(both.sum())
        self.changed += int((joined.changed & both).sum())
        self.only_in[0] += joined.only_old
        self.only_in[1] += joined.only_new
        self.rejected_by_both += int((~was_scored & ~is_scored).sum())
        self.rejected_by["old"].update(_reasons(joined.old, ~was_scored & is_scored))
        self.rejected_by["new"].update(_reasons(joined.new, was_scored & ~is_scored))
        for number, label in enumerate(self.labels.values()):
            old, new = (joined.probability(number, side)[both].astype(np.float64) for side in ("old", "new"))
            label.add(old, new, joined.was[both, number], joined.is_now[both, number])

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "pages": self.pages,
            "scored_by_both": self.scored,
            "changed_findings": self.changed,
            "rejected_by_both": self.rejected_by_both,
            "rejected_by_old_only": dict(self.rejected_by["old"].most_common()),
            "rejected_by_new_only": dict(self.rejected_by["new"].most_common()),
            "pages_in_old_only": self.only_in[0],
            "pages_in_new_only": self.only_in[1],
            "labels": {key: label.to_dict() for key, label in self.labels.items()},
        }


@dataclass(frozen=True)
class Chart:
    """Squares of a chart of old (across) against new (up), 0 to `BINS` each way: x, y from the top, opacity, pages."""

    squares: list[tuple[int, int, float, int]]
    ticks: list[tuple[float, str]]


def chart_of(label: LabelAgreement) -> Chart:
    """Darker by the logarithm of the pages in a square: one changed page among millions shows."""
    most = math.log1p(int(label.counts.max()))
    squares = [
        (int(x), BINS - 1 - int(y), round(0.18 + 0.82 * math.log1p(int(n)) / most, 3), int(n))
        for (x, y) in np.argwhere(label.counts)
        for n in [label.counts[x, y]]
    ]
    ticks = [(BINS / 2 * (1 + math.log(p / (1 - p)) / REACH), f"{100 * p:g} %") for p in (0.01, 0.1, 0.5, 0.9, 0.99)]
    return Chart(squares, ticks)


def _reasons(table: pa.Table, rows: NDArray[np.bool_]) -> list[str]:
    return table["reason"].filter(pa.array(rows)).to_pylist()


def _bins(probability: NDArray[np.float64]) -> NDArray[np.intp]:
    with np.errstate(divide="ignore"):
        log_odds = np.log(probability) - np.log1p(-probability)
    return np.clip((log_odds + REACH) * BINS / (2 * REACH), 0, BINS - 1).astype(np.intp)
