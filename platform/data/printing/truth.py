"""What a page truly shows: where every lead, name and pulse stands in the picture, and the path of every trace.

Points are (x, y) in pixels from the picture's top left corner; pixel i covers [i, i + 1), so its centre is i + 0.5.
An outline is (8, 2): corners and middles of the sides, clockwise from the top left corner, so that it also follows
what bends a page.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
PointMap = Callable[[Points], Points]
"""Where points (m, 2) of a picture lie after something was done to it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mark:
    """Something printed beside the traces: a lead's name, a calibration pulse."""

    text: str
    outline: Points

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return box_of(self.outline)


@dataclass(frozen=True, kw_only=True, eq=False)
class LeadTrace:
    """One lead on one row. `polyline` (m, 2) has a point for every sample of [start_s, end_s); NaN where nothing is."""

    lead: str
    row: int
    start_s: float
    end_s: float
    gain_mm_per_mv: float
    outline: Points
    polyline: Points

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of what the trace may use, whatever its signal."""
        return box_of(self.outline)


@dataclass(frozen=True, kw_only=True, eq=False)
class PageTruth:
    """All of one page. `paper` is the outline of the sheet; `px_per_mm` is the scale at its middle."""

    layout: str
    page: int
    width_px: int
    height_px: int
    px_per_mm: float
    paper_speed_mm_per_s: float
    paper: Points
    leads: tuple[LeadTrace, ...]
    names: tuple[Mark, ...]
    pulses: tuple[Mark, ...]

    def moved(self, where: PointMap, width_px: int, height_px: int) -> "PageTruth":
        """The truth of a picture of width_px x height_px whose points `where` tells."""
        return replace(
            self,
            width_px=width_px,
            height_px=height_px,
            px_per_mm=self.px_per_mm * _enlargement(where, self.paper),
            paper=where(self.paper),
            leads=tuple(
                replace(lead, outline=where(lead.outline), polyline=where(lead.polyline)) for lead in self.leads
            ),
            names=tuple(replace(mark, outline=where(mark.outline)) for mark in self.names),
            pulses=tuple(replace(mark, outline=where(mark.outline)) for mark in self.pulses),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; points rounded to a hundredth of a pixel, None where a trace has a gap."""
        marks = {
            kind: [
                {"text": mark.text, "box": _plain(np.array(mark.box)), "outline": _plain(mark.outline)} for mark in of
            ]
            for kind, of in (("names", self.names), ("pulses", self.pulses))
        }
        leads = [
            {
                "lead": lead.lead,
                "row": lead.row,
                "start_s": lead.start_s,
                "end_s": lead.end_s,
                "gain_mm_per_mv": lead.gain_mm_per_mv,
                "box": _plain(np.array(lead.box)),
                "outline": _plain(lead.outline),
                "polyline": _plain(lead.polyline),
            }
            for lead in self.leads
        ]
        facts = ("layout", "page", "width_px", "height_px", "px_per_mm", "paper_speed_mm_per_s")
        return {name: getattr(self, name) for name in facts} | {"paper": _plain(self.paper), "leads": leads} | marks


def outline_of(left: float, top: float, right: float, bottom: float) -> Points:
    """The outline of a box."""
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    return np.array(
        [
            (left, top), (middle_x, top), (right, top), (right, middle_y),
            (right, bottom), (middle_x, bottom), (left, bottom), (left, middle_y),
        ],
        dtype=np.float64,
    )  # fmt: skip


def box_of(outline: Points) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the smallest upright box around an outline."""
    left, top = outline.min(axis=0).tolist()
    right, bottom = outline.max(axis=0).tolist()
    return left, top, right, bottom


def _enlargement(where: PointMap, paper: Points) -> float:
    """By how much lengths grow around the middle of a sheet: the root of the map's area there.

    Over a fifth of the sheet, because folds are steep where they are.
    """
    reach = np.ptp(paper, axis=0) / 10
    moved = where(paper.mean(axis=0) + reach * np.array([(-1, 0), (1, 0), (0, -1), (0, 1)]))
    across, down = (moved[1] - moved[0]) / (2 * reach[0]), (moved[3] - moved[2]) / (2 * reach[1])
    return float(np.sqrt(abs(across[0] * down[1] - across[1] * down[0])))


def _plain(points: Points) -> list[Any]:
    rounded, finite = np.round(points, 2), np.isfinite(points)
    if finite.all():
        return rounded.tolist()
    gapped = rounded.astype(object)
    gapped[~finite] = None
    return gapped.tolist()
