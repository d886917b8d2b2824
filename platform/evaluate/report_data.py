"""The parts of a report, as `vizecg evaluate` fills them and report.py shows them."""

import base64
from dataclasses import asdict, dataclass, field
from typing import Any

from .abstention import CoverageCurve
from .bootstrap import Interval, Intervals
from .compare import Comparison
from .condition_scores import Conditions
from .confusion import Confusion
from .metrics import EvaluationResult
from .plots import LabelCurves
from .reliability import Reliability
from .subgroups import Subgroup

MAX_BARS = 10


def data_uri(picture: bytes) -> str:
    """A PNG, JPEG or WebP as an address that holds the picture itself."""
    kind = "jpeg" if picture.startswith(b"\xff\xd8") else "webp" if picture[8:12] == b"WEBP" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """The page again, with what a model looked at."""

    caption: str
    picture: bytes


@dataclass(frozen=True, kw_only=True)
class ExamplePage:
    """One page with what the model said. `truth` maps labels to true, false or None where unknown."""

    title: str
    page: bytes
    """PNG, JPEG or WebP."""
    probabilities: dict[str, float]
    thresholds: dict[str, float]
    truth: dict[str, bool | None] = field(default_factory=dict)
    overlays: tuple[Overlay, ...] = ()

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
class WrongReading:
    """One page that was read wrongly; nothing of it but its record id says whose it is."""

    record_id: str
    thumbnail: bytes
    false: dict[str, float]
    """Labels that were claimed and are not there, with their probabilities."""
    missed: dict[str, float]
    """Labels that are there and were not claimed."""
    found: tuple[str, ...]
    """Labels that are there and were claimed."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, without the picture."""
        values = asdict(self)
        del values["thumbnail"]
        return values


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """The parts of a report; those left empty do not appear."""

    title: str
    summary: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    """What was measured on what: model, dataset, records, page size, dates."""
    streams: dict[str, EvaluationResult] = field(default_factory=dict)
    """By stream; the first is the deployed one, which the tables by label show."""
    intervals: dict[str, Intervals] = field(default_factory=dict)
    """Of macro means and labels, by stream."""
    frequent_intervals: dict[str, Interval | None] = field(default_factory=dict)
    """Of the deployed stream's means over frequent labels, by measure."""
    comparison: Comparison | None = None
    conditions: Conditions | None = None
    label_names: dict[str, str] = field(default_factory=dict)
    curves: tuple[LabelCurves, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    coverage: CoverageCurve | None = None
    subgroups: tuple[Subgroup, ...] = ()
    confusion: Confusion | None = None
    errors: tuple[WrongReading, ...] = ()
    """The surest first."""
    examples: tuple[ExamplePage, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    """Metrics of every epoch, as training writes them."""
    timings_s: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def deployed(self) -> EvaluationResult | None:
        """Result of the first stream."""
        return next(iter(self.streams.values()), None)

    @property
    def deployed_intervals(self) -> Intervals | None:
        """Intervals of the first stream."""
        return self.intervals.get(next(iter(self.streams), ""))

    def metrics(self) -> dict[str, Any]:
        """Everything that is a number, ready for JSON."""
        return {
            "facts": self.facts,
            "streams": {name: result.to_dict() for name, result in self.streams.items()},
            "intervals": {name: intervals.to_dict() for name, intervals in self.intervals.items()},
            "frequent_intervals": {
                name: asdict(interval) if interval else None for name, interval in self.frequent_intervals.items()
            },
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "conditions": self.conditions.to_dict() if self.conditions else None,
            "subgroups": [group.to_dict() for group in self.subgroups],
            "abstention": self.coverage.to_dict() if self.coverage else None,
            "confusion": self.confusion.to_dict() if self.confusion else None,
            "errors": [error.to_dict() for error in self.errors],
        }
