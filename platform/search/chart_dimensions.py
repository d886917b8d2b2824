"""The metric over every dimension: trials as dots, and means with 95 % intervals where several lie together."""

import re
from math import sqrt
from statistics import fmean, stdev
from typing import Any

from .chart_parts import Axis, Chart, Frame, circle, line
from .config import SearchConfig
from .journal import Journal
from .leaderboard import text_of
from .ranking import Results, Sample, comparable
from .space import Point, named

_BINS = 5
_MIN_TRIALS = 3
"""Fewer have no interval worth drawing."""
Dots = list[tuple[float, float]]
"""Place on the axis between 0 and 1, and metric."""


def dimension_charts(search: SearchConfig, results: Results, journal: Journal) -> list[Chart]:
    """One chart a dimension."""
    samples = [sample for sample in comparable(search, journal.main, results.metric) if sample.trials]
    if search.scheduler == "pbt" or not samples:
        trials, values = [e.trial for e in results.ranked], [e.value for e in results.ranked]
        samples = [Sample(title="in the best epoch", epoch=None, trials=trials, values=values)]
    return [_chart(search, results, key, samples) for key in search.space]


def _chart(search: SearchConfig, results: Results, key: str, samples: list[Sample]) -> Chart:
    """A panel a sample, each with its own range of the metric: what epochs differ in would hide what values do."""
    points = {entry.trial.id: entry.point for entry in results.ranked}
    parts: list[str] = []
    legend: list[tuple[str, str]] = []
    top = 0.0
    for sample in reversed(samples):
        kind = "stopped" if sample.epoch is not None else "finished"
        x, y = Axis.of(search.space[key]), Axis.over(sample.values)
        frame = Frame(x=x, y=y, height=210 if len(samples) == 1 else 170, bottom=24)
        dots = [(x.at(points[t.id][key]), value) for t, value in zip(sample.trials, sample.values, strict=True)]
        marks = [frame.grid(""), _means(frame, dots, kind), _dots(frame, results, key, points, sample, kind)]
        parts.append(f'<g transform="translate(0 {top:g})">{"".join(marks)}</g>')
        legend.append((kind, f"{sample.title} ({len(dots)})"))
        top += frame.height + 6
    return Chart(
        name=f"metric-over-{re.sub('[^A-Za-z0-9]+', '-', key)}",
        title=named(key, search.space[key]),
        body="".join(parts),
        width=400,
        height=top - 6,
        legend=[("best", "the result"), *legend],
    )


def _dots(frame: Frame, results: Results, key: str, points: dict[str, Point], sample: Sample, kind: str) -> str:
    """The chosen one is on top; trials with the same of a few values stand beside each other."""
    parts: list[str] = []
    last = ""
    seen: dict[Any, int] = {}
    for trial, metric in zip(sample.trials, sample.values, strict=True):
        value = points[trial.id][key]
        number = seen[value] = seen.get(value, -1) + 1
        aside = (number % 5 - 2) * 4 if frame.x.values is not None else 0
        tip = f"{trial.id}: {metric:.4f}, {text_of(value)}"
        place = (frame.x_at(value) + aside, frame.y_at(metric))
        if results.winner is not None and trial is results.winner.trial:
            last = circle(*place, 4.5, "best dot", tip)
        else:
            parts.append(circle(*place, 3, f"{kind} dot faint", tip))
    return "".join([*parts, last])


def _means(frame: Frame, dots: Dots, kind: str) -> str:
    """A mean with its interval for every value, or for even pieces of the axis."""
    pieces = len(frame.x.values) if frame.x.values is not None else _BINS
    wide = frame.width - frame.left - frame.right
    parts = []
    for piece in range(pieces):
        inside = [value for share, value in dots if min(int(share * pieces), pieces - 1) == piece]
        if len(inside) < _MIN_TRIALS:
            continue
        mean, half = mean_and_half(inside)
        x = frame.left + wide * (piece + 0.5) / pieces
        half_px = min(wide / pieces * 0.3, 14)
        tip = f"mean {mean:.4f} ± {half:.4f} of {len(inside)} trials"
        low, high = (frame.y_at(min(max(end, frame.y.low), frame.y.high)) for end in (mean - half, mean + half))
        parts.append(line(x, low, x, high, f"{kind} path"))
        parts.append(line(x - half_px, frame.y_at(mean), x + half_px, frame.y_at(mean), f"{kind} path thick"))
        parts.append(circle(x, frame.y_at(mean), 1.5, f"{kind} dot", tip))
    return "".join(parts)


def mean_and_half(values: list[float]) -> tuple[float, float]:
    """Mean, and half its 95 % interval by Student's t."""
    from scipy.stats import t

    return fmean(values), float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
