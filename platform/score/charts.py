"""Histograms of an archive over those of the reference, as inline SVG; its colours are those of the report's style.

Probabilities stand in log-odds, and heights grow with the square root of the share: what one page in a thousand has
can be seen beside what nearly all have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

from markupsafe import Markup, escape

_TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
_LEAST_SHARE = 5e-4
"""Bins on the outside that hold less for every label are not drawn."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The bins that all histograms of a report show, and how large each one is."""

    edges: tuple[float, ...]
    """In log-odds."""
    first: int
    last: int
    width: float = 300
    height: float = 132
    bottom: float = 20

    def x_at(self, log_odds: float) -> float:
        """What lies outside stands at the end."""
        step = self.edges[1] - self.edges[0]
        share = ((log_odds - self.edges[0]) / step + 1 - self.first) / (self.last - self.first + 1)
        return min(max(share, 0.0), 1.0) * self.width

    def outline(self, shares: Sequence[float], greatest: float) -> list[tuple[float, float]]:
        """Corners of the steps, from the axis on the left to the axis on the right."""
        floor, room = self.height - self.bottom, self.height - self.bottom - 4
        width = self.width / (self.last - self.first + 1)
        corners = [(0.0, floor)]
        for number, share in enumerate(shares[self.first : self.last + 1]):
            y = floor - room * sqrt(share / greatest)
            corners += [(number * width, y), ((number + 1) * width, y)]
        return [*corners, (self.width, floor)]


def frame_of(labels: Mapping[str, Mapping[str, Any]], edges: Sequence[float], **size: float) -> Frame:
    """Of the histograms in summary.json, so that all labels can be compared by eye."""
    histograms = [shares for label in labels.values() for shares in _both(label) if shares]
    shown = [n for n in range(len(edges) + 1) if any(shares[n] >= _LEAST_SHARE for shares in histograms)] or [0]
    return Frame(edges=tuple(edges), first=min(shown), last=max(shown), **size)


def histogram(label: Mapping[str, Any], frame: Frame, title: str = "") -> Markup:
    """One label of summary.json: the archive filled, the reference as a line, the threshold upright.

    With a `title`, which screen readers say, it gets an axis of probabilities in percent.
    """
    here, there = _both(label)
    greatest = max([*here, *there]) or 1.0
    floor = frame.height - frame.bottom
    at = frame.x_at(_log_odds(label["threshold"]))
    parts = [
        f'<path class="here" d="{_path(frame.outline(here, greatest))}Z"/>',
        f'<path class="there" d="{_path(frame.outline(there, greatest))}"/>' if there else "",
        f'<line class="floor" x1="0" x2="{frame.width:g}" y1="{floor:g}" y2="{floor:g}"/>',
        f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{floor:g}"/>',
    ]
    about = f'role="img" aria-label="{escape(title)}"' if title else 'aria-hidden="true"'
    ticks = _axis(frame) if title else ""
    return Markup(f'<svg class="histogram" viewBox="0 0 {frame.width:g} {frame.height:g}" {about}>')  + Markup(
        "".join(parts) + ticks + "</svg>"
    )  # fmt: skip


def _both(label: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Shares of the archive and of the reference, which is empty where there is none."""
    return _shares(label["histogram"]), _shares(label["reference"]["histogram"]) if label["reference"] else []


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [count / total for count in counts]


def _path(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)


def _axis(frame: Frame) -> str:
    floor = frame.height - frame.bottom
    inside = [(tick, x) for tick in _TICKS if 8 < (x := frame.x_at(_log_odds(tick))) < frame.width - 8]
    return "".join(
        f'<line class="floor" x1="{x:.1f}" x2="{x:.1f}" y1="{floor:g}" y2="{floor + 4:g}"/>'
        f'<text x="{x:.1f}" y="{floor + 16:g}" text-anchor="middle">{100 * tick:g}</text>'
        for tick, x in inside
    )


def _log_odds(probability: float) -> float:
    inside = min(max(probability, 1e-9), 1 - 1e-9)
    return log(inside / (1 - inside))
