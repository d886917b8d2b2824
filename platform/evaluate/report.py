"""What a person reads about a model: metrics.json, metrics.md and report.html, one file that loads nothing else."""

import base64
import json
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from ..files import write_atomically
from .metrics import MEASURES, EvaluationResult, Measures
from .plots import Chart, LabelCurves, Line

MEASURE_NAMES = {"auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "precision": "Precision", "recall": "Recall"}
STREAM_COLORS = {"image": 1, "signal": 2, "fused": 3}
MAX_BARS = 10


@dataclass(frozen=True, kw_only=True)
class ExamplePage:
    """One page with what the model said. `truth` maps labels to true, false or None where unknown."""

    title: str
    page: bytes
    """PNG, JPEG or WebP."""
    probabilities: dict[str, float]
    thresholds: dict[str, float]
    truth: dict[str, bool | None] = field(default_factory=dict)

    @property
    def picture(self) -> str:
        """The page as a data URI."""
        kind = "jpeg" if self.page.startswith(b"\xff\xd8") else "webp" if self.page[8:12] == b"WEBP" else "png"
        return f"data:image/{kind};base64,{base64.b64encode(self.page).decode()}"

    @property
    def bars(self) -> list[str]:
        """Label keys worth a bar: all, or of many the true ones and the most probable, in the labels' order."""
        by_worth = sorted(self.probabilities, key=lambda key: (not self.truth.get(key), -self.probabilities[key]))
        shown = set(by_worth[:MAX_BARS])
        return [key for key in self.probabilities if key in shown]

    def verdict(self, key: str) -> str:
        """How yes or no compares with the truth: `hit`, `miss`, `false`, `quiet`, or `open` where it is unknown."""
        claimed, truth = self.probabilities[key] >= self.thresholds[key], self.truth.get(key)
        if truth is None:
            return "open"
        return ("hit" if claimed else "miss") if truth else ("false" if claimed else "quiet")


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """The parts of a report; those left empty do not appear."""

    title: str
    summary: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    """What was measured on what: model, dataset, records, page size, dates."""
    streams: dict[str, EvaluationResult] = field(default_factory=dict)
    """By stream; the first is the deployed one, which the tables by label show."""
    label_names: dict[str, str] = field(default_factory=dict)
    curves: tuple[LabelCurves, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    """Metrics of every epoch, as training writes them."""
    examples: tuple[ExamplePage, ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def deployed(self) -> EvaluationResult | None:
        """Result of the first stream."""
        return next(iter(self.streams.values()), None)


def write_report(out: Path, data: ReportData) -> Path:
    """Write `report.html`, and `metrics.json` and `metrics.md` if there are metrics, into `out`; the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    if data.streams:
        metrics = {"facts": data.facts, "streams": {name: result.to_dict() for name, result in data.streams.items()}}
        write_atomically(out / "metrics.json", json.dumps(metrics, indent=2, allow_nan=False) + "\n")
        write_atomically(out / "metrics.md", render_markdown(data))
    write_atomically(out / "report.html", render_report(data))
    return out / "report.html"


def render_report(data: ReportData) -> str:
    """The report as one HTML page."""
    return _template().render(
        data=data,
        measures=MEASURE_NAMES,
        charts=_learning_charts(data.history),
        curves={curves.key: curves for curves in data.curves},
        remarks=_remarks(data.deployed),
        longest_s=max(data.timings_s.values(), default=1.0) or 1.0,
        stream_color=lambda name: STREAM_COLORS.get(name, 4),
    )


def render_markdown(data: ReportData) -> str:
    """The metrics as Markdown tables."""
    head = ["stream", *MEASURE_NAMES.values()]
    rows = [[name, *_cells(result.macro)] for name, result in data.streams.items()]
    parts = [f"# {data.title}", _markdown_table(head, rows)]
    if data.deployed:
        head = ["label", "records", "positives", "threshold", *MEASURE_NAMES.values()]
        rows = [
            [label.key, str(label.records), str(label.positives), f"{label.threshold:.3f}", *_cells(label)]
            for label in data.deployed.labels
        ]
        parts += [f"Labels, stream `{next(iter(data.streams))}`:", _markdown_table(head, rows)]
    return "\n\n".join([*parts, *_remarks(data.deployed)]) + "\n"


def _markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cells(measures: Measures) -> list[str]:
    return [_number(getattr(measures, name)) for name in MEASURES]


def _remarks(result: EvaluationResult | None) -> list[str]:
    """What a reader must know to read the means right."""
    if result is None:
        return []
    remarks = []
    total = len(result.labels)
    if result.left_out:
        keys = ", ".join(result.left_out)
        remarks.append(
            f"Macro means count {total - len(result.left_out)} of {total} labels. "
            f"The others do not have both positive and negative records here: {keys}."
        )
    silent = [label.key for label in result.labels if label.has_both_classes and label.precision is None]
    if silent:
        remarks.append(
            f"No record reached the threshold of {', '.join(silent)}, so precision is undefined there and its mean "
            f"counts {result.macro_labels['precision']} labels."
        )
    return remarks


def _learning_charts(history: tuple[dict[str, Any], ...]) -> list[Chart]:
    """Loss with its parts and validation AUROC by stream, over epochs."""
    epochs = [float(line["epoch"]) for line in history]
    names = list(dict.fromkeys(name for line in history for name in line))

    def lines(chosen: list[tuple[str, str, int]]) -> tuple[Line, ...]:
        return tuple(
            Line(name=shown, x=epochs, y=[line.get(name) for line in history], color=color)
            for name, shown, color in chosen
        )

    parts = [name for name in names if name.startswith("train_") and name != "train_loss"]
    losses = [("train_loss", "total", 5)] if "train_loss" in names else []
    losses += [(name, name.removeprefix("train_"), _color_of(name)) for name in parts]
    ends = ("val_", "_macro_auroc")
    areas = [name for name in names if name.startswith(ends[0]) and name.endswith(ends[1])]
    streams = [(name, name[len(ends[0]) : -len(ends[1])], _color_of(name)) for name in areas]
    charts = [("Training loss", lines(losses)), ("Validation macro AUROC", lines(streams))]
    return [Chart(title=title, x_label="epoch", lines=chart) for title, chart in charts if chart]


def _color_of(name: str) -> int:
    return next((color for stream, color in STREAM_COLORS.items() if stream in name), 4)


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "duration": _duration}
    source = resources.files(__package__ or "").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)
