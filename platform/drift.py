"""Whether pages are read as those were that the model was calibrated on: per label, from two histograms.

Of an archive, or of what an endpoint was sent in a day.

Drift of answers is no verdict on them: more positives, other devices and worse pictures all move them. And answers that
stay alike may still be wrong.

Shapes: E + 1 bins of the histograms, B bins of the index.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

Word = Literal["like the training data", "shifted", "very different"]
Counts = NDArray[np.int64]

SHIFTED, VERY_DIFFERENT = 0.1, 0.25
"""Of the stability index: the limits in use since Lewis 1994, An Introduction to Credit Scoring."""
_MAX_BINS = 10
_RECORDS_A_BIN = 20
_BEYOND_CHANCE = 0.99
_Z = 1.96


@dataclass(frozen=True, kw_only=True)
class LabelDrift:
    """One label of an archive against the reference."""

    psi: float
    """Population stability index, with what chance alone adds taken off; at least 0."""
    psi_by_chance: float
    """What the index would stay below in 99 of 100 archives of this size without drift."""
    ks: float
    """Greatest distance of the two cumulative histograms (Kolmogorov-Smirnov), 0 to 1."""
    flagged_difference: float
    """Share of pages with the label among their findings, less the reference's."""
    flagged_interval: tuple[float, float]
    """Its 95 % interval, as if every page were another patient's."""
    word: Word | None
    """None where the archive, or the reference, is too small to tell."""


def label_drift(archive: Counts, reference: Counts, found: int, reference_flagged: float) -> LabelDrift | None:
    """Drift between histograms (E + 1,) of probabilities, for `found` findings; None without scored pages."""
    pages, records = int(archive.sum()), int(reference.sum())
    if not pages:
        return None
    groups = index_bins(reference)
    index, per_bin = stability_index(merged(archive, groups), merged(reference, groups)), 1 / pages + 1 / records
    by_chance = float(chi2.ppf(_BEYOND_CHANCE, len(groups) - 1)) * per_bin
    psi = max(0.0, index - (len(groups) - 1) * per_bin)
    share = found / pages
    return LabelDrift(
        psi=psi,
        psi_by_chance=by_chance,
        ks=float(np.abs(np.cumsum(archive) / pages - np.cumsum(reference) / records).max()),
        flagged_difference=share - reference_flagged,
        flagged_interval=difference_interval((share, pages), (reference_flagged, records)),
        word=_word(psi, by_chance, index > by_chance),
    )


def stability_index(a: Counts, b: Counts) -> float:
    """Sum over bins (B,) of (p - q) ln(p / q), for shares p and q of two samples' counts; symmetric, 0 where equal.

    Half a count is added to every bin, so that an empty one is no infinity. Without drift the index is about
    (1/N + 1/M) times a chi-square of B - 1 degrees of freedom (Yurdakul and Naranjo 2020, Statistical properties of the
    population stability index, Journal of Risk Model Validation 14(4)), so B - 1 times that on average.
    """
    p, q = ((counts + 0.5) / (counts.sum() + len(counts) / 2) for counts in (a, b))
    return float(np.sum((p - q) * np.log(p / q)))


def index_bins(reference: Counts) -> NDArray[np.intp]:
    """Where bins (B,) of the index begin in the histogram (E + 1,): up to ten of about equal counts, never one alone.

    Few where the reference is small, since every bin adds noise to the index.
    """
    total, number = int(reference.sum()), np.arange(len(reference))
    num_bins = min(max(total // _RECORDS_A_BIN, 2), _MAX_BINS)
    group = np.minimum((np.cumsum(reference) - reference) * num_bins // max(total, 1), num_bins - 1)
    # A bin that holds nearly everything stands alone: else what leaves it for an empty one would go unseen.
    fullest = int(np.argmax(reference))
    begins = (np.diff(group, prepend=-1) > 0) | np.isin(number, (fullest, fullest + 1))
    return np.flatnonzero(begins)


def merged(histogram: Counts, begins: NDArray[np.intp]) -> Counts:
    """Counts (B,) of a histogram (E + 1,) in the bins of the index."""
    return np.add.reduceat(histogram, begins)


def difference_interval(one: tuple[float, int], other: tuple[float, int]) -> tuple[float, float]:
    """95 % interval of the difference of two shares, each with its number of pages (Newcombe 1998, method 10)."""
    (p, (p_low, p_high)), (q, (q_low, q_high)) = ((share, _wilson(share, count)) for share, count in (one, other))
    return p - q - sqrt((p - p_low) ** 2 + (q_high - q) ** 2), p - q + sqrt((p_high - p) ** 2 + (q - q_low) ** 2)


def _wilson(share: float, count: int) -> tuple[float, float]:
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * sqrt(share * (1 - share) / count + (_Z / (2 * count)) ** 2)
    return centre - half, centre + half


def _word(psi: float, by_chance: float, is_beyond_chance: bool) -> Word | None:
    if is_beyond_chance and psi >= SHIFTED:
        return "very different" if psi >= VERY_DIFFERENT else "shifted"
    return "like the training data" if by_chance < VERY_DIFFERENT else None
