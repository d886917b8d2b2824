"""What a model said where it was calibrated: against it the scores of an archive are held to see whether they drifted.

Shapes: N records, K labels, E edges between E + 1 bins.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator
from scipy.special import expit

LOG_ODDS_EDGES = tuple(half / 2 for half in range(-19, 20))
"""Between 40 bins, of which the outermost are open. In log-odds, because nearly all probabilities of a rare label
would share one bin of equal width in probability; half a unit is 12 % at even odds and a factor of 1.6 far out."""


class Reference(BaseModel):
    """The deployed stream on the validation split, or on the site's records after a recalibration."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    num_records: int
    """With a probability; how many of them know a label differs."""
    prevalence: list[float | None]
    """Per label, the share of positives among the records that know it; None where none does."""
    flagged: list[float]
    """Per label, the share of all records whose probability reaches the threshold."""
    mean_probability: list[float]
    """Per label, of all records."""
    log_odds_edges: tuple[float, ...] = LOG_ODDS_EDGES
    histogram: list[list[int]]
    """Per label, records by calibrated probability, in the bins between these edges."""

    @model_validator(mode="after")
    def _counts_of_all_records(self) -> "Reference":
        num_labels, num_bins = len(self.prevalence), len(self.log_odds_edges) + 1
        if not len(self.flagged) == len(self.mean_probability) == len(self.histogram) == num_labels:
            raise ValueError("the reference has not one entry for every label")
        if any(len(counts) != num_bins or sum(counts) != self.num_records for counts in self.histogram):
            raise ValueError(f"a histogram of the reference has not {self.num_records} records in {num_bins} bins")
        if any(low >= high for low, high in pairwise(self.log_odds_edges)):
            raise ValueError("the edges of the reference's histograms do not rise")
        return self


def probability_edges(log_odds_edges: tuple[float, ...] = LOG_ODDS_EDGES) -> NDArray[np.float32]:
    """The edges (E,) as the probabilities that `bin_counts` takes."""
    return expit(np.array(log_odds_edges)).astype(np.float32)


def bin_counts(probability: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many of the probabilities (N,) lie in each bin (E + 1,); one on an edge counts above it."""
    return np.bincount(np.searchsorted(edges, probability, side="right"), minlength=len(edges) + 1)


def reference_of(
    probability: NDArray[np.float32],
    target: NDArray[np.floating],
    known: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> Reference | None:
    """The reference of calibrated probabilities (N, K), with targets (N, K) where known (N, K) and thresholds (K,).

    None without records.
    """
    if not len(probability):
        return None
    edges, positive = probability_edges(), (target > 0.5) & known
    counts = zip(positive.sum(0).tolist(), known.sum(0).tolist(), strict=True)
    return Reference(
        num_records=len(probability),
        prevalence=[hits / records if records else None for hits, records in counts],
        flagged=(probability >= thresholds.astype(np.float32)).mean(0).tolist(),
        mean_probability=probability.mean(0, dtype=np.float64).tolist(),
        histogram=[bin_counts(column, edges).tolist() for column in probability.T],
    )
