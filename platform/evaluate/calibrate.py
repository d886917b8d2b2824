"""Calibration fitted on labelled records: of validation after training, of another site's pages later.

How much is fitted depends on what the rarer class of a label can carry: from 100 records on centred isotonic
regression, below Platt's two parameters, and nothing where a handful of records would decide.

Shapes: N records, K labels, n records that know one label, m distinct logits.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize, root_scalar
from scipy.special import expit, logit

from ..calibration import LabelCalibration
from .ranking import FloatArray

MIN_FOR_ISOTONIC = 100
MIN_FOR_PLATT = 5
MIN_FOR_REFIT = 10
"""At another site, fewer records of either class only move the old calibration; they do not replace it."""

_MIN_SLOPE = 0.01
"""Per standard deviation of the logits: those that tell nothing, or the wrong way round, become nearly one probability,
in the same order."""


class Refit(NamedTuple):
    """A label's calibration for another site."""

    calibration: LabelCalibration
    how: Literal["refitted", "shifted", "kept"]
    shift: float
    """What was added to the old log-odds."""


def fit_calibration(logits: FloatArray, target: FloatArray, known: NDArray[np.bool_]) -> list[LabelCalibration]:
    """One calibration a label for logits (N, K) against targets (N, K) where known (N, K)."""
    return [_fit(*column) for column in _columns(logits, target, known)]


def refit_calibration(
    logits: FloatArray, target: FloatArray, known: NDArray[np.bool_], old: Sequence[LabelCalibration]
) -> list[Refit]:
    """The same for records of another site: what they cannot carry stays as `old` (K,) has it.

    A label without positives or negatives keeps its calibration; with fewer than `MIN_FOR_REFIT` of either, the old
    one is shifted so that the mean probability is the share of positives.
    """
    columns = _columns(logits, target, known)
    return [_refit(*column, calibration) for column, calibration in zip(columns, old, strict=True)]


def _columns(
    logits: FloatArray, target: FloatArray, known: NDArray[np.bool_]
) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Logits (n,) and truth (n,) of every label."""
    assert logits.shape == target.shape == known.shape, (logits.shape, target.shape, known.shape)
    return [(logits[rows, k].astype(np.float64), target[rows, k] > 0.5) for k, rows in enumerate(known.T)]


def _fit(z: NDArray[np.float64], positive: NDArray[np.bool_]) -> LabelCalibration:
    positives, negatives = int(positive.sum()), int((~positive).sum())
    counts = {"positives": positives, "negatives": negatives}
    if min(positives, negatives) >= MIN_FOR_ISOTONIC:
        knots = centred_isotonic(z, positive)
        if len(knots) > 1:
            return LabelCalibration(kind="isotonic", knots=knots, **counts)
    if min(positives, negatives) >= MIN_FOR_PLATT:
        slope, intercept = platt(z, positive)
        return LabelCalibration(kind="platt", slope=slope, intercept=intercept, **counts)
    return LabelCalibration(**counts)


def _refit(z: NDArray[np.float64], positive: NDArray[np.bool_], old: LabelCalibration) -> Refit:
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not (positives and negatives):
        return Refit(old, "kept", 0.0)
    if min(positives, negatives) >= MIN_FOR_REFIT:
        return Refit(_fit(z, positive), "refitted", 0.0)
    shift = prior_shift(old.log_odds(z), positives / len(z))
    return Refit(old.shifted(shift, positives, negatives), "shifted", shift)


def platt(z: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope, always above zero, and intercept of the most likely sigmoid for logits (n,) of both classes.

    Against Platt's targets, which are less sure than 0 and 1 and so have a finite optimum for separable classes too
    (Platt 1999; Lin, Lin and Weng 2007).
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    wanted = np.where(positive, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, scale = float(z.mean()), float(z.std()) or 1.0
    u = (z - centre) / scale

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_odds = parameters[0] * u + parameters[1]
        residual = expit(log_odds) - wanted
        value = np.mean(np.logaddexp(0, log_odds) - wanted * log_odds)
        return float(value), np.array([np.mean(residual * u), np.mean(residual)])

    start = np.array([1.0, logit(wanted.mean())])
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
    bounds = [(_MIN_SLOPE, None), (None, None)]
    slope, intercept = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return float(slope / scale), float(intercept - slope * centre / scale)


def centred_isotonic(z: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Knots (logit, probability) that rise in both, for logits (n,); one knot where the logits tell nothing.

    Isotonic regression gives steps, on which records would tie. Each step becomes one knot, at the mean logit of its
    records (Oron and Flournoy 2017). A step without a positive stands for less than one in its records, not for never.
    """
    values, place = np.unique(z, return_inverse=True)
    weight = np.bincount(place).astype(np.float64)
    share = np.bincount(place, weights=positive) / weight
    steps = isotonic_regression(share, weights=weight)
    count, first = steps.weights, steps.blocks[:-1]
    x, y = np.add.reduceat(weight * values, first) / count, steps.x[first]
    if len(first) > 1 and y[0] <= 0:
        y[0] = min(1 / (count[0] + 2), y[1] / 2)
    if len(first) > 1 and y[-1] >= 1:
        y[-1] = max(1 - 1 / (count[-1] + 2), (1 + y[-2]) / 2)
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


def prior_shift(log_odds: NDArray[np.float64], prevalence: float) -> float:
    """What to add to log-odds (n,) so that the mean probability is `prevalence`, which is neither 0 nor 1.

    The most likely shift; where only prevalence differs between two sites, the difference of its log-odds.
    """
    wanted = float(logit(prevalence))
    low, high = wanted - float(log_odds.max()) - 1, wanted - float(log_odds.min()) + 1
    solved = root_scalar(lambda shift: expit(log_odds + shift).mean() - prevalence, bracket=(low, high), xtol=1e-12)
    return float(solved.root)
