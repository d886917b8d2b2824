"""Parts of charts as SVG: axes, marks, legend and frame; colours are CSS variables, so one suits light and dark."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Any

from .leaderboard import text_of
from .space import Parameter

LIGHT = (
    "--card: #ffffff; --ink: #1d2129; --soft: #636b78; --line: #d9d5d1; --grid: #efecea; "
    "--c1: #c8364f; --c2: #2767a8; --c3: #2e8461; --c4: #b7791f; --c5: #9aa1ab; --c6: #7b5ea7; "
    "--q0: #d5dce4; --q1: #b3c8de; --q2: #86addb; --q3: #5089c6; --q4: #1f5a99;"
)
DARK = (
    "--card: #1b1e24; --ink: #e8e9ec; --soft: #9aa2af; --line: #3a404a; --grid: #262a32; "
    "--c1: #f07389; --c2: #6fb0ee; --c3: #62c79b; --c4: #dcae55; --c5: #737b88; --c6: #b79be0; "
    "--q0: #343a44; --q1: #3b516b; --q2: #45719c; --q3: #5b98d0; --q4: #9ccfff;"
)
STYLE = """
svg text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; fill: var(--soft);
  font-variant-numeric: tabular-nums }
svg .halo { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round }
svg .name { fill: var(--ink) } svg .heading { fill: var(--ink); font-weight: 600; font-size: 13px }
.grid { stroke: var(--grid) } .rule { stroke: var(--line) } .dash { stroke: var(--soft); stroke-dasharray: 2 3 }
.finished { --mark: var(--c2) } .stopped { --mark: var(--c5) } .failed { --mark: var(--c4) }
.unfinished { --mark: var(--c3) } .best { --mark: var(--c1) }
.q0 { --mark: var(--q0) } .q1 { --mark: var(--q1) } .q2 { --mark: var(--q2) } .q3 { --mark: var(--q3) }
.q4 { --mark: var(--q4) } .again { --mark: var(--c6) }
.dot { fill: var(--mark) } .ring { fill: var(--card); stroke: var(--mark); stroke-width: 1.5 }
.idle { fill: var(--grid); opacity: 0.6 }
.path { fill: none; stroke: var(--mark); stroke-width: 1.5; stroke-linejoin: round; stroke-linecap: round }
.thick { stroke-width: 3 } .faint { opacity: 0.45 } .bar { fill: var(--mark) }
"""
KINDS = {
    "best": "the result", "finished": "finished", "stopped": "stopped early", "failed": "failed",
    "unfinished": "unfinished",
}  # fmt: skip
"""Class of a mark -> what it means."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Where values stand between 0 and 1: evenly, by their logarithm, or one place for each of `values`."""

    low: float = 0.0
    high: float = 1.0
    is_log: bool = False
    values: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, parameter: Parameter) -> "Axis":
        """Of a dimension of the search."""
        if parameter.values is not None:
            return cls(values=tuple(parameter.values))
        low, high = parameter.range or (0.0, 1.0)
        return cls(low=low, high=high, is_log=parameter.is_log)

    @classmethod
    def over(cls, numbers: Iterable[float], at_least: float = 0.0) -> "Axis":
        """Out to whole ticks; `at_least` wide, so that noise is not drawn as a difference."""
        found = list(numbers) or [0.0, 1.0]
        low, high = min(found), max(found)
        if high - low < (least := at_least or abs(high) * 1e-3 or 1e-3):
            low, high = (low + high - least) / 2, (low + high + least) / 2
        step = _step(high - low)
        return cls(low=floor(low / step + 1e-9) * step, high=ceil(high / step - 1e-9) * step)

    def at(self, value: Any) -> float:
        """Between 0 and 1; what lies outside stands at the end."""
        if self.values is not None:
            return (self.values.index(value) + 0.5) / len(self.values)
        low, high, x = self.low, self.high, value
        if self.is_log:
            low, high, x = log10(low), log10(high), log10(max(value, self.low))
        return min(max((x - low) / (high - low), 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Place and text."""
        if self.values is not None:
            return [(self.at(value), text_of(value)) for value in self.values]
        if self.is_log:
            return [(self.at(tick), f"{tick:g}") for tick in self._log_ticks()]
        step = _step(self.high - self.low)
        digits = max(0, -floor(log10(step) + 1e-9))
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [(self.at(i * step), f"{i * step:.{digits}f}") for i in range(first, last + 1)]

    def _log_ticks(self) -> list[float]:
        powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        for factors in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
            ticks = [f * 10.0**power for power in powers for f in factors]
            inside = [tick for tick in ticks if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9)]
            if len(inside) >= 3:
                return inside[:: ceil(len(inside) / 6)]
        return [self.low, self.high]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture with its name and what it shows."""

    name: str
    title: str
    body: str
    width: float
    height: float
    note: str = ""
    legend: Sequence[tuple[str, str]] = ()
    """Class of a mark, and what it means."""

    def inline(self) -> str:
        """For a page that has the style."""
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(self.title)}">'
            f"{self.body}</svg>"
        )

    def standalone(self) -> str:
        """A file of its own, with title and legend."""
        marks, rows = self._legend_marks()
        top = 34 + 20 * rows
        width, height = self.width + 24, self.height + top + 10
        variables = f"svg {{ {LIGHT} }} @media (prefers-color-scheme: dark) {{ svg {{ {DARK} }} }}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">'
            f"<title>{escape(self.title)}</title><style>{variables}{STYLE}</style>"
            f'<rect width="100%" height="100%" style="fill: var(--card)"/>{text(12, 20, self.title, "heading")}'
            f'{marks}<g transform="translate(12 {top})">{self.body}</g></svg>\n'
        )

    def _legend_marks(self) -> tuple[str, int]:
        """Broken into as many rows as the width asks for, and how many these are."""
        parts: list[str] = []
        x, rows = 16.0, 1 if self.legend else 0
        for kind, meaning in self.legend:
            room = 26 + 5.8 * len(meaning)
            if x > 16 and x + room > self.width + 12:
                x, rows = 16.0, rows + 1
            parts += [circle(x, 18 + 20 * rows, 4, f"{kind} dot"), text(x + 9, 22 + 20 * rows, meaning)]
            x += room
        return "".join(parts), rows


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The place of a chart with two axes."""

    x: Axis
    y: Axis
    width: float = 400
    height: float = 240
    left: float = 46
    right: float = 12
    top: float = 10
    bottom: float = 36

    def x_at(self, value: Any) -> float:
        return self.left + self.x.at(value) * (self.width - self.left - self.right)

    def y_at(self, value: Any) -> float:
        return self.height - self.bottom - self.y.at(value) * (self.height - self.top - self.bottom)

    def grid(self, x_label: str) -> str:
        """Lines, numbers and the name of what goes to the right."""
        parts: list[str] = []
        for share, name in self.y.ticks():
            y = self.height - self.bottom - share * (self.height - self.top - self.bottom)
            parts += [
                line(self.left, y, self.width - self.right, y, "grid"),
                text(self.left - 7, y + 4, name, "", "end"),
            ]
        ticks = self.x.ticks()
        room = (self.width - self.left - self.right) / max(1, len(ticks)) / 6.2
        for share, name in ticks:
            x = self.left + share * (self.width - self.left - self.right)
            parts += [line(x, self.height - self.bottom, x, self.height - self.bottom + 4, "rule")]
            parts.append(text(x, self.height - self.bottom + 16, shortened(name, room), "", "middle"))
        parts.append(
            line(self.left, self.height - self.bottom, self.width - self.right, self.height - self.bottom, "rule")
        )
        return "".join([*parts, text(self.width - self.right, self.height - 4, x_label, "", "end")])


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor != "start" else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(words)}</text>'


def circle(x: float, y: float, radius: float, kind: str, tip: str = "") -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{_tip(tip)}</circle>'


def rect(x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect class="{kind}" {place} rx="1">{_tip(tip)}</rect>'


def path(points: Sequence[tuple[float, float]], kind: str, tip: str = "") -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind} path" points="{places}">{_tip(tip)}</polyline>'


def shortened(words: str, room: float) -> str:
    """At most so many letters."""
    return words if len(words) <= max(room, 4) else words[: max(3, int(room) - 1)] + "…"


def _tip(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""


def _step(span: float) -> float:
    """Distance of ticks: 1, 2 or 5 times a power of ten, about four to a span."""
    power = 10.0 ** floor(log10(span / 4))
    return min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(span / step - 4))
