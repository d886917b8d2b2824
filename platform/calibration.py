"""From a model's logits to probabilities that mean what they say, label by label.

Every kind is one strictly increasing map of log-odds to log-odds, so that no calibration changes the order of records,
and with it no AUROC. Element by element in float64, so that a page has the same bits alone and in any batch.

Shapes: B records, K labels, m knots.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import expit, logit

_INSIDE = (np.finfo(np.float32).tiny, np.nextafter(np.float32(1), np.float32(0)))
"""The least and the greatest probability in float32 that is neither 0 nor 1."""

_FAR = 1e4
"""No logit of a model lies farther out."""


class LabelCalibration(BaseModel):
    """How the logit z of one label becomes a probability, and how many records say so.

    identity      sigmoid(z)
    temperature   sigmoid(slope * z), Guo et al. 2017
    platt         sigmoid(slope * z + intercept), Platt 1999
    isotonic      sigmoid(g(z) + intercept): g links the knots by straight lines in log-odds and goes on with slope 1
                  beyond them; the knots come from centred isotonic regression, Oron and Flournoy 2017
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["identity", "temperature", "platt", "isotonic"] = "identity"
    slope: float = Field(1.0, gt=0)
    intercept: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()
    """Logit and probability, both rising from knot to knot."""
    positives: int = Field(0, ge=0)
    """Records with the label that this was fitted on."""
    negatives: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _fields_of_its_kind(self) -> "LabelCalibration":
        if self.slope != 1 and self.kind in ("identity", "isotonic"):
            raise ValueError(f"calibration of kind {self.kind} has no slope")
        if self.intercept and self.kind in ("identity", "temperature"):
            raise ValueError(f"calibration of kind {self.kind} has no intercept")
        if (self.kind == "isotonic") != bool(self.knots) or len(self.knots) == 1:
            raise ValueError(
                f"calibration of kind {self.kind} with {len(self.knots)} knots; isotonic alone has 2 or more"
            )
        if not all(0 < probability < 1 for _, probability in self.knots):
            raise ValueError("the probability of a calibration knot does not lie between 0 and 1")
        if not all(low[0] < high[0] and low[1] < high[1] for low, high in pairwise(self.knots)):
            raise ValueError("the calibration knots do not rise in logit and probability")
        return self

    def log_odds(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated log-odds of logits, both (B,)."""
        if not self.knots:
            return self.slope * logits + self.intercept
        return np.interp(logits, *self._curve) + self.intercept

    @cached_property
    def _curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Logits and log-odds (m + 2,) of the knots, and of one far out at either end with slope 1 up to it."""
        x, probability = np.array(self.knots).T
        y = logit(probability)
        return np.r_[x[0] - _FAR, x, x[-1] + _FAR], np.r_[y[0] - _FAR, y, y[-1] + _FAR]

    def shifted(self, shift: float, positives: int, negatives: int) -> "LabelCalibration":
        """The same map with `shift` added to the log-odds: what another prevalence asks for."""
        kind = "isotonic" if self.kind == "isotonic" else "platt"
        return LabelCalibration(
            kind=kind, slope=self.slope, intercept=self.intercept + shift, knots=self.knots,
            positives=positives, negatives=negatives,
        )  # fmt: skip


def apply_calibration(logits: NDArray[np.floating], calibrations: Sequence[LabelCalibration]) -> NDArray[np.float32]:
    """Probabilities float32 (B, K) of logits (B, K), strictly between 0 and 1; without calibrations their sigmoid."""
    log_odds = np.array(logits, np.float64)
    assert len(calibrations) in (0, log_odds.shape[1]), (len(calibrations), log_odds.shape)
    for k, calibration in enumerate(calibrations):
        log_odds[:, k] = calibration.log_odds(log_odds[:, k])
    return np.clip(expit(log_odds).astype(np.float32), *_INSIDE)
