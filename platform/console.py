"""What the verbs show in a terminal: progress while they work, tables when they are done."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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

from .data.dataset_info import DatasetInfo
from .evaluate.metrics import LOWER_IS_BETTER
from .evaluate.report_data import ReportData
from .evaluate.report_text import MEASURE_NAMES, interval_text, number
from .search.config import SearchConfig
from .search.ranking import Results
from .search_display import SearchDisplay
from .search_table import leaderboard_notes, leaderboard_table
from .training_display import TrainingDisplay


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
    """Counts of findings and of rejected pages."""
    table = Table("finding", "pages", title=f"{summary['scored']} of {summary['pages']} pages scored")
    for key, count in summary["findings"].items():
        table.add_row(key, str(count))
    _console().print(table)
    for reason, count in summary["rejected"].items():
        _console().print(f"[yellow]rejected[/] {count}: {reason}")
