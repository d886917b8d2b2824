"""What the verbs show in a terminal: progress while they work, tables when they are done."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ..serve.keys import ApiKey
from .data.dataset_info import DatasetInfo
from .evaluate.metrics import LOWER_IS_BETTER
from .evaluate.report_data import ReportData
from .evaluate.report_text import MEASURE_NAMES, interval_text, number
from .score.plan.facts import Plan
from .score.plan.text import assumptions, decisions, facts, plan_table
from .score.report_text import drift_words, percent
from .scoring_display import ScoringDisplay
from .search.config import SearchConfig
from .search.ranking import Results
from .search_display import SearchDisplay
from .search_table import leaderboard_notes, leaderboard_table
from .training_display import TrainingDisplay

_MAX_LABELS = 20
"""Rows of the table of scores."""
_DRIFT_LOOK = {
    "like the training data": "like the training data",
    "shifted": "[yellow]shifted[/]",
    "very different": "[red]very different[/]",
}


class _RateColumn(ProgressColumn):
    """How many a second, over the whole time: rich's own speed is that of the last steps, which come in bursts."""

    def render(self, task: Task) -> Text:
        elapsed_s = task.finished_time if task.finished else task.elapsed
        if not elapsed_s or not task.completed:
            return Text("")
        speed = task.completed / elapsed_s
        return Text(f"{speed:.3g}/s" if speed < 100 else f"{speed:,.0f}/s")


def _console() -> Console:
    return Console(highlight=False)


def _progress(unit: str) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _RateColumn(),
        TimeRemainingColumn(),
        console=_console(),
    )


@contextmanager
def counting(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that follows (done, total)."""
    with _progress(unit) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def stages(unit: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for every stage that (stage, done, total) names."""
    tasks: dict[str, TaskID] = {}
    with _progress(unit) as progress:

        def follow(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield follow


def training_display(num_epochs: int, metric: str) -> TrainingDisplay:
    """`with training_display(...) as display`: `display.epoch` and `display.progress` follow a training run."""
    return TrainingDisplay(_console(), num_epochs, metric)


def search_display(search: SearchConfig, metric: str, out: Path) -> SearchDisplay:
    """`with search_display(...) as display`: `display.change` follows the journal of the search in `out`."""
    return SearchDisplay(_console(), search, metric, out)


def scoring_display(what: str) -> ScoringDisplay:
    """`with scoring_display(...) as on_progress`: called with every Progress of a scoring run."""
    return ScoringDisplay(_console(), what)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner where nothing can be counted."""
    with _console().status(what):
        yield


def finished(where: str, then: str) -> None:
    """The last lines of every verb."""
    console = _console()
    console.print(f"[bold green]done[/] {where}")
    console.print(f"[dim]next[/] {then}")


def show_markdown(text: str) -> None:
    """A page of Markdown."""
    _console().print(Markdown(text))


def show_dataset(info: DatasetInfo) -> None:
    """Records by split, and why others were rejected."""
    table = Table("split", "records", title=", ".join(info.sources))
    for split, count in info.counts.items():
        table.add_row(split, f"{count:,}")
    _console().print(table)
    show_rejected(info.rejected_counts, "dataset.json")


def show_rejected(counts: Mapping[str, int], listed_in: str) -> None:
    """How many records were rejected for which reason, and the file that says more."""
    for reason, count in counts.items():
        _console().print(f"[yellow]rejected[/] {count}: {reason} ({listed_in} says which and why)")


def show_evaluation(data: ReportData) -> None:
    """Macro figures by stream with intervals, how they differ from another model's, then figures by label."""
    shown = [name for name in MEASURE_NAMES if name not in LOWER_IS_BETTER]
    table = Table("", *(MEASURE_NAMES[name] for name in shown), title=data.title)
    for stream, result in data.streams.items():
        table.add_row(f"[bold]{stream}[/], macro", *(number(getattr(result.macro, name)) for name in shown))
        if stream in data.intervals:
            spread = data.intervals[stream].macro
            table.add_row("[dim]95 % interval[/]", *(f"[dim]{interval_text(spread.get(name), 2)}[/]" for name in shown))
        if data.comparison and result is data.deployed:
            values = [data.comparison.differences[name].value for name in shown]
            table.add_row("over the other", *("" if value is None else f"{value:+.3f}" for value in values))
    table.add_section()
    for label in data.deployed.labels if data.deployed else ():
        table.add_row(f"{label.key} ({label.positives})", *(number(getattr(label, name)) for name in shown))
    table.add_section()
    for line in data.conditions.scores if data.conditions else ():
        table.add_row(line.condition, *(number(line.macro[name]) for name in shown if name in line.macro))
    _console().print(table)


def show_leaderboard(results: Results, search: SearchConfig) -> None:
    """The first ten trials, and how many failed or did not come to their end."""
    console = _console()
    console.print(leaderboard_table(results, search, console.width))
    for line in leaderboard_notes(results, search):
        console.print(line)


def show_scores(summary: dict[str, Any]) -> None:
    """What was found, against the training data and how it drifted; rejected pages by reason."""
    console = _console()
    console.print(_scores_table(summary))
    console.print(Text(drift_words(summary)), style="dim")
    for reason, count in sorted(summary["rejected"].items(), key=lambda item: -item[1]):
        console.print(f"[yellow]rejected[/] {count:,} ({percent(count / summary['pages'])}): {reason}")
    if summary["duplicates"]:
        console.print(f"[yellow]twice in the input[/] {summary['duplicates']:,} pages; every one has its row")


def _scores_table(summary: dict[str, Any]) -> Table:
    """The labels found on most pages."""
    table = Table("label", title=f"{summary['scored']:,} of {summary['pages']:,} pages scored")
    for heading in ("found", "share", *(["in training"] if summary["drift"] else [])):
        table.add_column(heading, justify="right")
    if summary["drift"]:
        table.add_column("drift")
    rows = sorted(summary["labels"].items(), key=lambda item: -item[1]["found"])
    for key, label in rows[:_MAX_LABELS]:
        cells = [key, f"{label['found']:,}", percent(label["share"])]
        if summary["drift"]:
            word = label["drift"] and label["drift"]["word"]
            cells += [percent(label["reference"]["share"]), _DRIFT_LOOK.get(word, "[dim]too few pages to tell[/]")]
        table.add_row(*cells)
    if len(rows) > _MAX_LABELS:
        table.caption = f"and {len(rows) - _MAX_LABELS} more labels in summary.json"
    return table


def show_plan(plan: Plan) -> None:
    """Time and cost by size of cluster, what most people ask, what was measured, and what all of it rests on."""
    console = _console()
    console.print(plan_table(plan, console.width))
    for name, words in decisions(plan):
        console.print(f"[bold]{name}[/] {words}")
    console.print()
    for name, words in facts(plan):
        console.print(f"[dim]{name:<12}[/] {words}")
    console.print()
    for words in assumptions(plan):
        console.print(f"- {words}", style="dim")


def show_changes(changes: dict[str, Any]) -> None:
    """How far two scorings of one archive agree, label by label."""
    console = _console()
    table = Table("label", title=f"findings changed on {changes['changed_findings']:,} of {changes['pages']:,} pages")
    for heading in ("both", "only old", "only new", "kappa", "mean change"):
        table.add_column(heading, justify="right")
    for key, label in changes["labels"].items():
        counts = [f"{label[name]:,}" for name in ("both", "only_old", "only_new")]
        table.add_row(key, *counts, number(label["kappa"]), number(label["mean_change"]))
    console.print(table)
    for side in ("old", "new"):
        for reason, count in changes[f"rejected_by_{side}_only"].items():
            console.print(f"[yellow]rejected by the {side} one alone[/] {count:,}: {reason}")
        if keys := changes[f"only_in_{side}"]:
            console.print(f"[dim]labels of the {side} one alone[/] {', '.join(keys)}")


def show_keys(keys: Sequence[ApiKey]) -> None:
    """API keys by name, without the keys."""
    table = Table("name", "made", "expires", "requests a minute", "SHA-256 begins", title=f"{len(keys)} API keys")
    now = datetime.now(UTC)
    for key in keys:
        end = f"{key.expires:%Y-%m-%d %H:%M}" if key.expires else "never"
        state = "" if key.is_valid(now) else " [red](expired)[/]"
        limit = str(key.requests_per_minute or "no limit")
        table.add_row(key.name, f"{key.created:%Y-%m-%d}", end + state, limit, key.sha256[:8])
    _console().print(table)
