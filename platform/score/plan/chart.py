"""Time and cost over the size of the cluster, as SVG; colours are CSS variables of the page around it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from .facts import OVERNIGHT_H, Plan
from .text import money, span
from .work import Estimate, Option

_WIDTH, _HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 14, 40
_HOURS = (1 / 60, 5 / 60, 0.25, 1.0, 4.0, 12.0, 48.0, 168.0, 720.0, 8760.0, 87600.0)
"""Where a clock and a calendar have their marks."""


@dataclass(frozen=True)
class _Axis:
    """Where a value stands between the lower and the upper edge."""

    low: float
    high: float
    ticks: Sequence[float]
    is_log: bool = False

    def y(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.is_log:
            low, high, at = log10(low), log10(high), log10(max(value, self.low))
        return _HEIGHT - _BOTTOM - (at - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def time_chart(plan: Plan) -> str:
    """Hours over nodes, logarithmic: on linear work a straight line down."""
    values = [end for option in plan.options for end in option.hours]
    low, high = min(values) / 1.3, max(values) * 1.3
    axis = _Axis(low, high, [hours for hours in _HOURS if low <= hours <= high], is_log=True)
    overnight = _rule("dash", axis.y(OVERNIGHT_H)) if low < OVERNIGHT_H < high else ""
    return _chart("Time", plan, axis, lambda option: option.hours, span, overnight)


def cost_chart(plan: Plan) -> str:
    """Money over nodes, from zero."""
    high = max(option.cost.high for option in plan.options) or 1.0
    step = _step(high)
    axis = _Axis(0, ceil(high / step) * step, [step * n for n in range(ceil(high / step) + 1)])
    return _chart(f"Cost, {plan.prices.currency}", plan, axis, lambda option: option.cost, money)


def _chart(
    title: str, plan: Plan, axis: _Axis, figure: Callable[[Option], Estimate], shown: Callable[[float], str],
    below: str = "",
) -> str:  # fmt: skip
    counts = sorted({option.nodes for option in plan.options})
    x = {count: _LEFT + (_WIDTH - _LEFT - _RIGHT) * (n + 0.5) / len(counts) for n, count in enumerate(counts)}
    parts = [
        _grid(axis, shown),
        below,
        *(_text(at, _HEIGHT - _BOTTOM + 17, f"{count:,}", "middle") for count, at in x.items()),
    ]
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 4, "nodes", "end"))
    for with_gpus, kind in ((False, "cores"), (True, "gpus")):
        chosen = [option for option in plan.options if bool(option.gpus) is with_gpus]
        places = [(x[option.nodes], axis.y(figure(option).value)) for option in chosen]
        parts += [
            f'<line class="curve {kind}" x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"/>'
            for a, b in pairwise(places)
        ]
        parts += [_mark(option, x[option.nodes], axis, figure(option), kind, shown) for option in chosen]
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title} over nodes">{"".join(parts)}</svg>'


def _mark(
    option: Option, x: float, axis: _Axis, figure: Estimate, kind: str, shown: Callable[[float], str]
) -> str:  # fmt: skip
    low, middle, high = (axis.y(value) for value in (figure.low, figure.value, figure.high))
    tip = f"{option.nodes:,} nodes: {shown(figure.value)} ({shown(figure.low)} – {shown(figure.high)})"
    return (
        f'<line class="bar {kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        f'<circle class="dot {kind}" cx="{x:.1f}" cy="{middle:.1f}" r="4"><title>{tip}</title></circle>'
    )


def _grid(axis: _Axis, shown: Callable[[float], str]) -> str:
    rules = [_rule("grid", axis.y(tick)) for tick in axis.ticks]
    return "".join([*rules, *(_text(_LEFT - 8, axis.y(tick) + 4, shown(tick), "end") for tick in axis.ticks)])


def _rule(kind: str, y: float) -> str:
    return f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _step(high: float) -> float:
    """1, 2 or 5 times a power of ten, about four to the height."""
    power = 10.0 ** floor(log10(high / 4))
    return min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(high / step - 4))
