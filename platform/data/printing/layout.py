"""Which lead stands where: the layouts in which recorders print twelve leads."""

from typing import Literal, NamedTuple

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

Rows = tuple[tuple[str, ...], ...]
"""The leads of every row, side by side."""

Timing = Literal["sequential", "simultaneous"]
"""Whether the leads side by side on a row follow each other in time, or all show the row's first seconds."""


class Strip(NamedTuple):
    """One lead's window of time on one row: [start_s, end_s) of the record, printed `at_s` after the row's begin."""

    lead: str
    row: int
    at_s: float
    start_s: float
    end_s: float


_THREE: Rows = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
_SIX: Rows = tuple(zip(LEADS[:6], LEADS[6:], strict=True))

LAYOUTS: dict[str, tuple[Rows, ...]] = {
    "3x4": (_THREE,),
    "3x4+1": ((*_THREE, ("II",)),),
    "3x4+3": ((*_THREE, ("V1",), ("II",), ("V5",)),),
    "6x2": (_SIX,),
    "6x2+1": ((*_SIX, ("II",)),),
    "12x1": (tuple((lead,) for lead in LEADS),),
    "6x1,6x1": (tuple((lead,) for lead in LEADS[:6]), tuple((lead,) for lead in LEADS[6:])),
    "3x2+1,3x2+1": (
        (*(row[:2] for row in _THREE), ("II",)),
        (*(row[2:] for row in _THREE), ("II",)),
    ),
}
"""By name, the rows of every page; a comma parts the pages: limb leads on the first, chest leads on the second."""


def strips(layout: str, page: int, duration_s: float, timing: Timing) -> tuple[Strip, ...]:
    """What a page of a layout shows, row by row. A lead that has a row to itself shows all of `duration_s`."""
    found = []
    for row, leads in enumerate(LAYOUTS[layout][page]):
        column_s = duration_s / len(leads)
        for column, lead in enumerate(leads):
            at_s = column * column_s
            start_s = at_s if timing == "sequential" else 0.0
            found.append(Strip(lead, row, at_s, start_s, start_s + column_s))
    return tuple(found)
