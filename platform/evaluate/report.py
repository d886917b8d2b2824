"""What a person reads about a model: metrics.json, metrics.md and report.html, one file that loads nothing else."""

import json
import re
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from ..files import write_atomically
from .bootstrap import Interval
from .learning_curves import STREAM_COLORS, learning_charts
from .markdown import render_markdown
from .metrics import FREQUENT_POSITIVES, LOWER_IS_BETTER
from .reliability import coverage_chart
from .report_data import ReportData, data_uri
from .report_text import MEASURE_NAMES, constant_traits, duration, interval_text, number, remarks, scores

MAX_CONFUSED = 16
"""Labels in the table of confusions; metrics.json has them all."""
MAX_OPEN = 12
"""Labels whose curves are open at first."""


def write_report(out: Path, data: ReportData) -> Path:
    """Write `report.html`, and `metrics.json` and `metrics.md` if there are metrics, into `out`; the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    if data.streams:
        write_atomically(out / "metrics.json", json.dumps(data.metrics(), indent=2, allow_nan=False) + "\n")
        write_atomically(out / "metrics.md", render_markdown(data))
    write_atomically(out / "report.html", render_report(data))
    return out / "report.html"


def render_report(data: ReportData) -> str:
    """The report as one HTML page."""
    body = _template("report_body.html.j2").render(_context(data))
    sections = dict(re.findall(r'<section id="(\w+)"[^>]*>\s*<h2>(.*?)</h2>', body))
    return _template("report.html.j2").render(data=data, body=Markup(body), sections=sections)


def _context(data: ReportData) -> dict[str, Any]:
    """What the templates know."""
    confusion = data.confusion.of_most_frequent(MAX_CONFUSED) if data.confusion else None
    return {
        "data": data,
        "measures": MEASURE_NAMES,
        "named_scores": scores(data.deployed) if data.deployed else {},
        "lower_is_better": LOWER_IS_BETTER,
        "frequent_positives": FREQUENT_POSITIVES,
        "constant": constant_traits(data.subgroups),
        "curves": [curves for curves in data.curves if curves.roc],
        "reliability": [entry for entry in data.reliability if entry.bins],
        "coverage": coverage_chart(data.coverage) if data.coverage and len(data.coverage.coverage) > 1 else None,
        "confusion": confusion if confusion and len(confusion.label_keys) > 1 else None,
        "auroc_axis": _axis(data, "auroc"),
        "f1_axis": _axis(data, "f1"),
        "difference_axis": _difference_axis(data),
        "condition_axis": _condition_axis(data),
        "charts": learning_charts(data.history),
        "remarks": remarks(data.deployed),
        "max_open": MAX_OPEN,
        "longest_s": max(data.timings_s.values(), default=1.0) or 1.0,
        "stream_color": lambda name: STREAM_COLORS.get(name, 4),
    }


def _axis(data: ReportData, measure: str) -> tuple[float, float]:
    """From the tenth below every value and interval of the subgroups up to 1."""
    ends = [getattr(group, measure) for group in data.subgroups]
    ends += [found.low for group in data.subgroups if (found := getattr(group, f"{measure}_interval"))]
    return min(int(10 * min((end for end in ends if end is not None), default=0.0)) / 10, 0.9), 1.0


def _condition_axis(data: ReportData) -> tuple[float, float]:
    """From the tenth below every AUROC and interval of the conditions up to 1."""
    lines = data.conditions.scores if data.conditions else ()
    ends = [end for line in lines if (end := line.macro["auroc"]) is not None]
    ends += [found.low for line in lines if (found := line.intervals["auroc"])]
    return min(int(10 * min(ends, default=0.0)) / 10, 0.9), 1.0


def _difference_axis(data: ReportData) -> tuple[float, float]:
    """As far to the left of zero as to the right."""
    differences = data.comparison.differences.values() if data.comparison else ()
    ends = [abs(end) for d in differences if d.interval for end in (d.interval.low, d.interval.high)]
    reach = max([*ends, *(abs(d.value) for d in differences if d.value is not None)], default=0.0) * 1.05 or 0.01
    return -reach, reach


def _place(value: float, axis: tuple[float, float]) -> str:
    """Where a value stands on an axis, in percent of its length."""
    return f"{100 * (value - axis[0]) / (axis[1] - axis[0]):.1f}"


def _extent(interval: Interval, axis: tuple[float, float]) -> str:
    """How long an interval is on an axis, in percent."""
    return f"{100 * (interval.high - interval.low) / (axis[1] - axis[0]):.1f}"


@lru_cache(maxsize=2)
def _template(name: str) -> Template:
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {
        "number": number, "duration": duration, "interval": interval_text, "uri": data_uri,
        "place": _place, "extent": _extent,
    }  # fmt: skip
    environment.filters |= filters
    return environment.get_template(name)


def _source(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")
