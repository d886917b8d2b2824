"""The metrics as Markdown tables: metrics.md."""

from collections.abc import Iterator, Mapping

from .bootstrap import Interval
from .compare import Comparison
from .condition_scores import MEASURES as CONDITION_MEASURES
from .condition_scores import Conditions
from .metrics import FREQUENT_POSITIVES, MEASURES, EvaluationResult, Measures
from .report_data import ReportData
from .report_text import MEASURE_NAMES, constant_traits, interval_text, number, remarks, scores
from .subgroups import Subgroup


def render_markdown(data: ReportData) -> str:
    """All tables, each with its intervals."""
    return "\n\n".join([f"# {data.title}", *_parts(data)]) + "\n"


def _parts(data: ReportData) -> Iterator[str]:
    yield _means(data)
    result, intervals = data.deployed, data.deployed_intervals
    if result is None:
        return
    if intervals:
        counts = f"{intervals.num_resamples:,} resamples of {intervals.num_patients:,} patients"
        yield f"In brackets: 95 % intervals from {counts}."
    if scores(result):
        yield ", ".join(f"{name} {number(value)}" for name, value in scores(result).items()) + "."
    yield f"Labels, stream `{next(iter(data.streams))}`:"
    yield _labels(data, result)
    yield from remarks(result)
    if data.comparison:
        yield f"Against {data.comparison.other}, macro means on the same records:"
        yield _comparison(result, data.comparison)
    if data.conditions:
        yield data.conditions.told
        yield _conditions(data.conditions)
    if data.subgroups:
        yield "Subgroups, macro means over the labels that have both classes in each:"
        yield _subgroups(data.subgroups)


def _means(data: ReportData) -> str:
    rows = []
    for stream, result in data.streams.items():
        intervals = data.intervals.get(stream)
        rows.append([stream, *_cells(result.macro, intervals.macro if intervals else {})])
        if result is data.deployed:
            if result.frequent:
                name = f"{stream}, labels with at least {FREQUENT_POSITIVES} positives"
                rows.append([name, *_cells(result.macro_frequent, data.frequent_intervals)])
            rows.append([f"{stream}, all pairs pooled (micro)", *_cells(result.micro, {})])
    return _table(["stream", *MEASURE_NAMES.values()], rows)


def _labels(data: ReportData, result: EvaluationResult) -> str:
    by_label = data.deployed_intervals.labels if data.deployed_intervals else {}
    rows = [
        [
            label.key,
            *(f"{label.records}", f"{label.positives}", f"{label.threshold:.3f}"),
            *_cells(label, by_label.get(label.key, {})),
        ]
        for label in result.labels
    ]
    return _table(["label", "records", "positives", "threshold", *MEASURE_NAMES.values()], rows)


def _comparison(result: EvaluationResult, comparison: Comparison) -> str:
    rows = []
    for name, difference in comparison.differences.items():
        values = [getattr(result.macro, name), getattr(comparison.result.macro, name), difference.value]
        rows.append(
            [MEASURE_NAMES[name], *map(number, values), interval_text(difference.interval), number(difference.p_value)]
        )
    return _table(["measure", "this", "other", "difference", "95 % interval", "p"], rows)


def _conditions(conditions: Conditions) -> str:
    rows = []
    for line in conditions.scores:
        difference = line.differences.get("auroc")
        rows.append(
            [
                f"{line.condition}: {line.meaning}",
                *(_cell(line.macro[name], line.intervals[name]) for name in CONDITION_MEASURES),
                _cell(difference.value, difference.interval) if difference else "",
            ]
        )
    return _table(["condition", *(MEASURE_NAMES[name] for name in CONDITION_MEASURES), "AUROC against clean"], rows)


def _subgroups(subgroups: tuple[Subgroup, ...]) -> str:
    rows = [
        [
            f"{group.trait}: {group.value}",
            *map(str, (group.records, group.positives, group.labels)),
            _cell(group.auroc, group.auroc_interval),
            _cell(group.f1, group.f1_interval),
        ]
        for group in subgroups
        if group.trait not in constant_traits(subgroups)
    ]
    return _table(["group", "records", "positives", "labels", "AUROC", "F1"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cells(measures: Measures, intervals: Mapping[str, Interval | None]) -> list[str]:
    return [_cell(getattr(measures, name), intervals.get(name)) for name in MEASURES]


def _cell(value: float | None, interval: Interval | None) -> str:
    return f"{number(value)} ({interval_text(interval)})" if interval else number(value)
