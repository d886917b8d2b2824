"""What a recorder prints around the traces: numbers, dates, settings and empty fields, all of them invented.

Worded after real prints, of hospital systems, report programs, chart recorders and small portable ones. Nothing depends
on the record but measurements that the caller hands in: no name, no interpretation, no age or sex, whose fields stay
empty as on pages made anonymous. ASCII alone, which is all that stroke fonts have.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import numpy as np

from .measurements import Measurements

MOST_COLUMNS, MOST_LINES, MOST_CHARACTERS, MOST_FOOTER_CHARACTERS = 4, 5, 32, 110
"""Columns of a header, lines of a column, characters of a line and of the footer: what a page must have room for."""

T = TypeVar("T")
Column = list[str]

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_FILTERS = (
    "0.67~25Hz AC50", "0.05~35Hz AC50", "40Hz", "100Hz", "0.05-150 Hz", "0.05-40 Hz", "F 60~ 0.15-100 Hz",
    "F 50~ 0.05-40 Hz", "35 Hz  DRIFT", "Filter: 40 Hz  50 Hz", "LP 150 Hz  HP 0.05 Hz", "AC 60Hz  MF 35Hz", "",
)  # fmt: skip
_MODELS = ("REC-12", "R12", "EKG-6C", "T12", "CART 4", "P-12B", "UNIT 7", "12L-300")


@dataclass(frozen=True)
class DeviceText:
    """`header`: columns from left to right, each of lines from top to bottom. `footer` always tells the scale."""

    header: tuple[tuple[str, ...], ...]
    footer: str


def device_text(
    rng: np.random.Generator,
    *,
    paper_speed_mm_per_s: float,
    gain_mm_per_mv: float,
    chest_gain_mm_per_mv: float | None = None,
    measurements: Measurements | None = None,
) -> DeviceText:
    """The text of a device that `rng` chooses; measurements are one more column and change nothing else.

    `gain_mm_per_mv` is that of the limb leads, and of the chest leads too where `chest_gain_mm_per_mv` is None.
    """
    device = _device(rng)
    columns = _pick(rng, _HEADERS)(rng, device)
    scale = _pick(rng, _SCALES)(paper_speed_mm_per_s, gain_mm_per_mv, chest_gain_mm_per_mv)
    footer = _footer(rng, scale, device)
    if measurements is not None:
        columns.insert(1, _pick(rng, _MEASUREMENT_FORMS)(measurements))
    return DeviceText(tuple(tuple(column) for column in columns if column), footer)


def scale_text(speed_mm_per_s: float, gain_mm_per_mv: float, chest_gain_mm_per_mv: float | None = None) -> str:
    """The plain footer: "25 mm/s   10 mm/mV", or "25 mm/s   limb 10 mm/mV   chest 5 mm/mV" where gains differ."""
    if chest_gain_mm_per_mv in (None, gain_mm_per_mv):
        return f"{speed_mm_per_s:g} mm/s   {gain_mm_per_mv:g} mm/mV"
    return f"{speed_mm_per_s:g} mm/s   limb {gain_mm_per_mv:g} mm/mV   chest {chest_gain_mm_per_mv:g} mm/mV"


def _tight_scale(speed: float, gain: float, chest: float | None) -> str:
    chest_text = "" if chest in (None, gain) else f" Chest {chest:g}mm/mV"
    return f"{speed:g}mm/s {gain:g}mm/mV{chest_text}"


def _worded_scale(speed: float, gain: float, chest: float | None) -> str:
    return f"Speed: {speed:g} mm/sec  Limb: {gain:g} mm/mV  Chest: {gain if chest is None else chest:g} mm/mV"


_SCALES = (scale_text, _tight_scale, _worded_scale)


def _footer(rng: np.random.Generator, scale: str, device: str) -> str:
    """The scale, alone or among filter, device and page number."""
    filtered = _pick(rng, _FILTERS)
    orders = (
        (scale,),
        (scale, filtered),
        (filtered, scale),
        (filtered, scale, device),
        (device, scale, filtered),
        (scale, filtered, device, "Page 1 of 1"),
    )
    return "   ".join(part for part in _pick(rng, orders) if part)


def _hospital_header(rng: np.random.Generator, device: str) -> list[Column]:
    """A hospital's system: who and where, on the right who is to sign."""
    who = [f"ID: {_digits(rng)}", _moment(rng), "", _numbered(rng, "Room"), _numbered(rng, "Loc")]
    staff = [_numbered(rng, "Technician"), "Test ind:", "", "Referred by:"]
    return [who, staff, [_pick(rng, ("Unconfirmed", "Confirmed by:", "Reviewed by:"))]]


def _report_header(rng: np.random.Generator, device: str) -> list[Column]:
    """A report program: a form whose fields nobody filled in."""
    return [
        [f"ID : {_digits(rng)}", "Age:        Years", "Exam.Room:", f"Date: {_moment(rng)}"],
        ["Sex:", "     cm        kg", "     /      mmHg", "Medication:"],
        [_numbered(rng, "Room No."), _numbered(rng, "Dept"), "Technician :", "Ref-Phys. :", "Report Confirmed by:"],
    ]


def _chart_header(rng: np.random.Generator, device: str) -> list[Column]:
    """A recorder on a trolley: the labels that its keyboard asks for."""
    return [
        ["Name:", f"ID: {_digits(rng)}", "Age:", "Sex:"],
        [f"Date: {_moment(rng)}", "Height:", "Weight:"],
        [device, _numbered(rng, "Location")],
    ]


def _portable_header(rng: np.random.Generator, device: str) -> list[Column]:
    """A small one: two lines at most."""
    return [[_moment(rng)], [f"ID {_digits(rng)}"] if rng.random() < 0.5 else [], [device]]


def _no_header(rng: np.random.Generator, device: str) -> list[Column]:
    return []


_HEADERS: tuple[Callable[[np.random.Generator, str], list[Column]], ...] = (
    _hospital_header, _report_header, _chart_header, _portable_header, _no_header,
)  # fmt: skip


def _long_measurements(m: Measurements) -> Column:
    return [
        f"Vent. rate     {m.rate_bpm} bpm",
        f"PR interval    {_or_star(m.pr_ms)} ms",
        f"QRS duration   {m.qrs_ms} ms",
        f"QT/QTc         {m.qt_ms}/{m.qtc_ms} ms",
        f"P-R-T axes     {_or_star(m.p_axis_deg)} {m.axis_deg} {m.t_axis_deg}",
    ]


def _short_measurements(m: Measurements) -> Column:
    return [
        f"HR   {m.rate_bpm} bpm",
        f"PR   {_or_star(m.pr_ms)} ms",
        f"QRS  {m.qrs_ms} ms",
        f"QT/QTcB {m.qt_ms}/{m.qtc_ms} ms",
        f"P/QRS/T {_or_star(m.p_axis_deg)}/{m.axis_deg}/{m.t_axis_deg} deg",
    ]


def _computed_measurements(m: Measurements) -> Column:
    return [
        f"RR: {round(60000 / m.rate_bpm)} ms   HR: {m.rate_bpm} /min",
        f"PQ: {_or_star(m.pr_ms)} ms   QRS: {m.qrs_ms} ms",
        f"QT: {m.qt_ms} ms   QTc: {m.qtc_ms} ms",
        f"Axis: P {_or_star(m.p_axis_deg)}  QRS {m.axis_deg}  T {m.t_axis_deg}",
    ]


_MEASUREMENT_FORMS = (_long_measurements, _short_measurements, _computed_measurements)


def _or_star(value: int | None) -> str:
    """Recorders print a star for what they did not find."""
    return "*" if value is None else str(value)


def _moment(rng: np.random.Generator) -> str:
    """A date between 1988 and 2025 and a time, mostly of the working day, in one of several national forms."""
    day = datetime(1988, 1, 1) + timedelta(days=int(rng.integers(13800)))
    at = day + timedelta(seconds=int(min(max(rng.normal(12.0, 3.5), 0), 23.9) * 3600))
    half, hour = "AM" if at.hour < 12 else "PM", at.hour % 12 or 12
    return _pick(rng, (
        f"{at:%Y-%m-%d %H:%M:%S}",
        f"{at:%Y/%m/%d %H:%M}",
        f"{at:%d.%m.%Y %H:%M}",
        f"{at:%d.%m.%y}  {at:%H:%M:%S}",
        f"{at:%d/%m/%Y %H:%M:%S}",
        f"{at:%m/%d/%Y} {hour}:{at:%M:%S} {half}",
        f"{at.day:02}-{_MONTHS[at.month - 1]}-{at.year} {at:%H:%M:%S}",
    ))  # fmt: skip


def _digits(rng: np.random.Generator) -> str:
    """An id of 5 to 9 digits, which may begin with zeros."""
    return "".join(str(digit) for digit in rng.integers(10, size=rng.integers(5, 10)))


def _numbered(rng: np.random.Generator, field: str) -> str:
    """A field with a small number, or left empty."""
    number = int(math.exp(rng.uniform(0, 4)))
    return f"{field}: {number}" if rng.random() < 0.5 else f"{field}:"


def _device(rng: np.random.Generator) -> str:
    """A made-up model and the version of its program."""
    major, minor = rng.integers(1, 8), rng.integers(10)
    versions = (f"V{major}.{minor}", f"{major:02}{minor}C", f"SW {major}.{minor}.2", f"REV {minor}")
    return f"{_pick(rng, _MODELS)} {_pick(rng, versions)}"


def _pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]
