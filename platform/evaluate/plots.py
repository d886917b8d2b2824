"""Line charts as inline SVG: the colours are CSS variables of the page around them, so one suits light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10

import numpy as np
from numpy.typing import NDArray

from .ranking import FloatArray, Ranking, rank

CURVE_POINTS = 120


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart; values that are None or not finite leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    color: int = 1
    """Which of the page's series colours, from 1."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart with axes; the template draws it."""

    title: str
    x_label: str
    lines: tuple[Line, ...]
    width: int = 400
    height: int = 250
    left: int = 44
    bottom: int = 34

    @property
    def x_range(self) -> tuple[float, float]:
        """Smallest and greatest x of any line."""
        return _widened([x for line in self.lines for x in line.x])

    @property
    def y_range(self) -> tuple[float, float]:
        """Range of y, out to whole ticks."""
        low, high = _widened([y for line in self.lines for y in line.y if y is not None and isfinite(y)])
        step = _step(high - low)
        return float(np.floor(low / step + 1e-9) * step), float(np.ceil(high / step - 1e-9) * step)

    def x_at(self, x: float) -> float:
        """Where x stands in the picture."""
        low, high = self.x_range
        return round(self.left + (x - low) / (high - low) * (self.width - self.left - 10), 1)

    def y_at(self, y: float) -> float:
        """Where y stands in the picture."""
        low, high = self.y_range
        return round(10 + (high - y) / (high - low) * (self.height - self.bottom - 10), 1)

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Position and text: whole numbers only, because x counts epochs or trials."""
        low, high = self.x_range
        step = max(1.0, _step(high - low))
        ticks = np.arange(np.ceil(low / step) * step, high + step / 1e6, step)
        return [(self.x_at(tick), f"{tick:g}") for tick in ticks]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Position and text."""
        low, high = self.y_range
        step = _step(high - low)
        digits = max(0, -int(np.floor(log10(step) + 1e-9)))
        count = round((high - low) / step) + 1
        return [(self.y_at(low + i * step), f"{low + i * step:.{digits}f}") for i in range(count)]

    def paths(self, line: Line) -> list[str]:
        """SVG points of a line, one string for each stretch without a gap."""
        pieces: list[list[str]] = [[]]
        for x, y in zip(line.x, line.y, strict=True):
            if y is None or not isfinite(y):
                pieces.append([])
            else:
                pieces[-1].append(f"{self.x_at(x)},{self.y_at(y)}")
        return [" ".join(piece) for piece in pieces if piece]


@dataclass(frozen=True, kw_only=True)
class LabelCurves:
    """ROC and precision-recall curve of one label as SVG points in a square of 100 x 100; empty where undefined."""

    key: str
    roc: str
    precision_recall: str
    prevalence: float


def label_curves(
    probability: FloatArray, target: FloatArray, known: NDArray[np.bool_], label_keys: Sequence[str]
) -> tuple[LabelCurves, ...]:
    """Curves of every label from probabilities (N, K), targets (N, K) and where they are known (N, K)."""
    columns = range(len(label_keys))
    rankings = [rank(probability[known[:, k], k], target[known[:, k], k]) for k in columns]
    return tuple(_curves_of(key, ranking) for key, ranking in zip(label_keys, rankings, strict=True))


def _curves_of(key: str, ranking: Ranking) -> LabelCurves:
    if not (ranking.positives and ranking.negatives):
        return LabelCurves(key=key, roc="", precision_recall="", prevalence=0.0)
    prevalence = ranking.positives / (ranking.positives + ranking.negatives)
    return LabelCurves(
        key=key,
        roc=_square_points(*ranking.roc()),
        precision_recall=_square_points(*ranking.precision_recall()),
        prevalence=prevalence,
    )


def _square_points(x: FloatArray, y: FloatArray) -> str:
    """At most `CURVE_POINTS` points, even along the curve's own length, so that steep parts keep their shape."""
    if len(x) > CURVE_POINTS:
        length = np.r_[0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))]
        kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS)).clip(0, len(x) - 1))
        x, y = x[kept], y[kept]
    return " ".join(f"{100 * px:.1f},{100 * (1 - py):.1f}" for px, py in zip(x, y, strict=True))


def _step(span: float) -> float:
    """Distance of ticks: 1, 2 or 5 times a power of ten, about four to a span."""
    power = 10.0 ** floor(log10(span / 4))
    return min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(span / step - 4))


def _widened(values: list[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
