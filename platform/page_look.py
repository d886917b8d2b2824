"""How a page looks to its model, in nine numbers, and whether the model learned from pages that look like it.

Measured is what printing, scanning and shrinking change and no heart does: how dark and how fine the lines are, and how
coloured the paper is. A page far from those of training is read, but its reading may mean little: lines of a width that
a network never saw can cost it more than half of what it knows (docs/pages.md has figures).

Shapes: N pages, F numbers, H x W pixels of the model's page.
"""

from collections.abc import Iterable
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .data.read_page import Pixels

NUMBERS = ("p1", "p5", "p25", "p50", "p95", "across", "down", "curvature", "colour")
"""Percentiles of grey; mean difference of neighbours, mean Laplacian and mean saturation, all in grey levels."""
LEAST_PAGES = 100
"""Of fewer, the spread and what is usual are too uncertain: every tenth page like them would seem unlike."""
MOST_UNLIKE = 1.5
"""Unlikeness of a page that is still like those of training."""
_PERCENTILES = (0.01, 0.05, 0.25, 0.5, 0.95)
_SLACK, _SLACK_LEVELS = 0.02, 0.5
"""Of every number, and in grey levels: differences that mean nothing where all pages of training were printed alike."""


class LearnedPages(BaseModel):
    """The pages that a model learned from, last: one that goes on learning forgets."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    num_pages: int
    mean: tuple[float, ...]
    """Of the numbers, (F,)."""
    covariance: tuple[tuple[float, ...], ...]
    """Of the numbers, (F, F)."""
    usual: float = Field(gt=0)
    """Mahalanobis distance within which 99 % of these pages lie."""

    @model_validator(mode="after")
    def _has_all_numbers(self) -> "LearnedPages":
        if [len(self.mean), *map(len, self.covariance)] != [len(NUMBERS)] * (1 + len(NUMBERS)):
            raise ValueError(f"learned_pages has not {len(NUMBERS)} numbers; the bundle was edited by hand")
        return self

    @cached_property
    def _precision(self) -> NDArray[np.floating]:
        return _precision_of(np.array(self.mean), np.array(self.covariance))

    def unlikeness(self, page: Pixels) -> float:
        """Of a page uint8 RGB (3, H, W): its distance, in units of the usual; up to 1 for nearly all of training."""
        return float(_distance(numbers_of(page) - self.mean, self._precision)) / self.usual


def learned_from(pages: Iterable[Pixels]) -> LearnedPages | None:
    """Of pages uint8 RGB (3, H, W) as training saw them; None of fewer than `LEAST_PAGES`."""
    numbers = np.array([numbers_of(page) for page in pages])
    if len(numbers) < LEAST_PAGES:
        return None
    mean, covariance = numbers.mean(0), np.cov(numbers.T)
    distance = _distance(numbers - mean, _precision_of(mean, covariance))
    return LearnedPages(
        num_pages=len(numbers),
        mean=tuple(mean.tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        # Pages that are all the same lie at no distance; there the slack is what is usual.
        usual=max(1.0, float(np.quantile(distance, 0.99))),
    )


def numbers_of(page: Pixels) -> NDArray[np.float64]:
    """`NUMBERS` of a page uint8 RGB (3, H, W): (F,)."""
    grey = cv2.cvtColor(cv2.merge(list(page)), cv2.COLOR_RGB2GRAY)
    below = np.cumsum(cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel()) / grey.size
    curvature = cv2.Laplacian(grey, cv2.CV_16S)
    colour = cv2.norm(cv2.max(cv2.max(*page[:2]), page[2]), cv2.min(cv2.min(*page[:2]), page[2]), cv2.NORM_L1)
    across = cv2.norm(grey[:, 1:], grey[:, :-1], cv2.NORM_L1)
    down = cv2.norm(grey[1:], grey[:-1], cv2.NORM_L1)
    means = np.array([across, down, cv2.norm(curvature, cv2.NORM_L1), colour]) / grey.size
    return np.concatenate([np.searchsorted(below, _PERCENTILES).astype(np.float64), means])


def _distance(away: NDArray[np.float64], precision: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mahalanobis' of differences from the mean (..., F): (...)."""
    return np.sqrt(np.einsum("...f,fg,...g->...", away, precision, away))


def _precision_of(mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> NDArray[np.floating]:
    return np.linalg.inv(covariance + np.diag((_SLACK * np.abs(mean) + _SLACK_LEVELS) ** 2))
