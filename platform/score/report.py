"""report.html: what came out of a scoring run, as one page that loads nothing else."""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from ..bundle_facts import Bundle
from ..evaluate.report_data import data_uri
from ..storage import filesystem_of, write_whole
from .charts import frame_of, histogram
from .report_text import count, duration, percent, points, reference_of, verdict

REPORT = "report.html"
MAX_SAMPLES = 6
"""Rejected pages shown for one reason."""
_OPEN = 12
"""Labels whose large histograms are open at first."""


@dataclass(frozen=True)
class Sample:
    """A rejected page to look at."""

    reason: str
    id: str
    error: str
    thumbnail: bytes | None
    """PNG, JPEG or WebP with names masked; None where the page cannot be drawn."""


def write_report(
    out: str, summary: Mapping[str, Any], bundle: Bundle, samples: Sequence[Sample], links: Mapping[str, str]
) -> None:
    """OUT/report.html, whole or not at all; OUT is a local folder or a URI.

    Args:
        links: what else lies in OUT -> its path there, such as a worklist.
    """
    filesystem, path = filesystem_of(out)
    page = render_report(summary, bundle, samples, links)
    write_whole(filesystem, posixpath.join(path, REPORT), page.encode())


def render_report(
    summary: Mapping[str, Any], bundle: Bundle, samples: Sequence[Sample] = (), links: Mapping[str, str] | None = None
) -> str:
    """The page."""
    labels, edges = summary["labels"], summary["log_odds_edges"]
    small = frame_of(labels, edges, width=132, height=30, bottom=0.5)
    large = frame_of(labels, edges)
    rows = sorted(labels.items(), key=lambda item: -item[1]["found"])
    return _template().render(
        summary=summary,
        title=f"Scores of {_place_name(summary)}",
        facts=_facts(summary, bundle),
        links=links or {},
        headline=_headline(summary),
        rows=[(key, label, histogram(label, small)) for key, label in rows],
        charts=[(key, label, histogram(label, large, f"Probabilities of {key}")) for key, label in _by_drift(rows)],
        open_charts=_OPEN,
        verdict=verdict(summary, bundle),
        reference=reference_of(bundle),
        there="training" if bundle.recalibration is None else "recalibration",
        checks=_checks(summary),
        rejected=_rejected(summary, samples),
    )


def _place_name(summary: Mapping[str, Any]) -> str:
    place = str(summary.get("input", {}).get("place", ""))
    return posixpath.basename(place.rstrip("/")) or place or "an archive"


def _facts(summary: Mapping[str, Any], bundle: Bundle) -> dict[str, str]:
    """Name -> value, of what was read and by whom."""
    read, model = summary.get("input", {}), bundle.model
    left_out = [f"{count(number)} {what}" for what, number in read.get("left_out", {}).items()]
    facts = {
        "Input": str(read.get("place", "–")),
        "Holds": f"{count(read.get('items', 0))} items, read as {read.get('kind', '–')}",
        "Left out": ", ".join(left_out),
        "Model": f"{model.name} ({model.size}), label space {bundle.label_space.name}",
        "Bundle": bundle.content_hash[:16],
        "Calibrated on": reference_of(bundle),
        "Computed with": ", ".join(summary["backends"]),
        "Scored at": _span(summary["first_scored_at"], summary["last_scored_at"]),
        "Table": f"scores/, {count(summary['num_files'])} Parquet file{'s' if summary['num_files'] != 1 else ''}",
    }
    return {name: value for name, value in facts.items() if value}


def _span(first: str | None, last: str | None) -> str:
    """In UTC, to the minute."""
    if first is None or last is None:
        return ""
    (day, start), (last_day, end) = ((stamp[:10], stamp[11:16]) for stamp in (first, last))
    return f"{day}, {start} to {end if day == last_day else f'{last_day}, {end}'} UTC"


def _headline(summary: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Figure -> what it counts, and a word on it."""
    pages, scored, rejected = summary["pages"], summary["scored"], summary["pages"] - summary["scored"]
    figures = {"pages": (count(pages), "")}
    figures["scored"] = (count(scored), percent(scored / pages) if pages else "")
    figures["rejected"] = (count(rejected), percent(rejected / pages) if pages else "")
    if drift := summary["drift"]:
        moved = len(drift["shifted"]) + len(drift["very_different"])
        figures["drifted"] = (f"{moved} of {len(summary['labels'])}", "labels")
    if (seconds := summary.get("seconds")) is not None:
        figures["time"] = (duration(seconds), f"{summary.get('pages_per_s') or 0.0:,.0f} pages a second")
    return figures


def _by_drift(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """What drifted most first."""
    return sorted(rows, key=lambda row: -row[1]["drift"]["psi"] if row[1]["drift"] else 0.0)


def _checks(summary: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What was noticed about scored pages -> how many, and what it means."""
    scored = summary["scored"] or 1

    def of_scored(name: str) -> str:
        return f"{count(summary[name])} ({percent(summary[name] / scored)})"

    checks = {
        "Near a threshold": (
            of_scored("uncertain"), "so that for at least one label a person had better decide; by label in the table",
        ),
        "Turned upright": (of_scored("turned"), "lay on a side or upside down"),
        "Same id as an earlier page": (count(summary["duplicates"]), "in the input more than once; each has its row"),
    }  # fmt: skip
    if summary["noted"]:
        checks["With a note"] = (count(summary["noted"]), "what was undone of rotation, skew and perspective")
    return checks


def _rejected(summary: Mapping[str, Any], samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Reasons, the most frequent first, with samples."""
    most = max(summary["rejected"].values(), default=1)
    return [
        {
            "reason": reason, "pages": number, "share": number / summary["pages"], "bar": number / most,
            "samples": [sample for sample in samples if sample.reason == reason][:MAX_SAMPLES],
        }
        for reason, number in sorted(summary["rejected"].items(), key=lambda item: -item[1])
    ]  # fmt: skip


def _breakable(name: str) -> Markup:
    """A path that a line may end in."""
    return Markup(re.sub(r"(?<=[_./\\-])", "<wbr>", str(escape(name))))


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {
        "count": count, "percent": percent, "points": points, "uri": data_uri, "breakable": _breakable,
    }  # fmt: skip
    environment.filters |= filters
    return environment.get_template("report.html.j2")


def _source(name: str) -> str:
    """Of this folder, or evaluate/..., whose looks the report shares."""
    platform = (__package__ or "").rpartition(".")[0]
    folder = f"{platform}.evaluate" if name.startswith("evaluate/") else f"{platform}.score"
    return resources.files(folder).joinpath(posixpath.basename(name)).read_text(encoding="utf-8")
