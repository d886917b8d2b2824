"""What the verbs show in a terminal: progress while they work, tables when they are done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from .data.dataset_info import DatasetInfo
from .evaluate.report import MEASURE_NAMES, ReportData


def _console() -> Console:
    return Console(highlight=False)


def _progress(unit: str) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
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


@contextmanager
def epochs(num_epochs: int, metric: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar over epochs, with a line for each: losses, metric, speed."""
    with _progress("epochs") as progress:
        task = progress.add_task("starting workers", total=num_epochs)

        def follow(row: dict[str, Any]) -> None:
            progress.console.print(epoch_line(row, metric))
            progress.update(task, completed=row["epoch"], description="training")

        yield follow


def epoch_line(row: dict[str, Any], metric: str) -> str:
    """One epoch in one line."""
    losses = [name for name in row if name.startswith("train_") and name != "train_loss"]
    parts = "  ".join(f"{name.removeprefix('train_')} {row[name]:.3f}" for name in losses)
    value = row.get(metric)
    shown = "undefined" if value is None else f"{value:.3f}"
    star = " *" if row["best_epoch"] == row["epoch"] else ""
    return (
        f"epoch {row['epoch']:>3}  loss {row['train_loss']:.3f} ({parts})  {metric.removeprefix('val_')} {shown}"
        f"  {row['records_per_second']:.0f} records/s{star}"
    )


@contextmanager
def trials(num_trials: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar over trials that have begun, with the best metric so far."""
    best: dict[str, float] = {}
    with _progress("trials") as progress:
        task = progress.add_task("starting trials", total=num_trials)

        def follow(row: dict[str, Any]) -> None:
            best[row["trial"]] = max(best.get(row["trial"], 0.0), row["metric"] or 0.0)
            progress.update(task, completed=len(best), description=f"searching, best {max(best.values()):.3f}")

        yield follow


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


def show_dataset(info: DatasetInfo) -> None:
    """Records by split, and why others were rejected."""
    table = Table("split", "records", title=", ".join(info.sources))
    for split, count in info.counts.items():
        table.add_row(split, f"{count:,}")
    _console().print(table)
    for reason, count in info.rejected_counts.items():
        _console().print(f"[yellow]rejected[/] {count}: {reason} (dataset.json says which and why)")


def show_evaluation(data: ReportData) -> None:
    """Macro figures by stream, then those of the deployed stream by label."""
    table = Table("", *MEASURE_NAMES.values(), title=data.title)
    for stream, result in data.streams.items():
        table.add_row(f"[bold]{stream}[/], macro", *_cells(result.macro))
    table.add_section()
    for label in data.deployed.labels if data.deployed else ():
        table.add_row(f"{label.key} ({label.positives})", *_cells(label))
    _console().print(table)


def _cells(measures: Any) -> list[str]:
    values = [getattr(measures, name) for name in MEASURE_NAMES]
    return ["-" if value is None else f"{value:.3f}" for value in values]


def show_leaderboard(ranked: list[dict[str, Any]]) -> None:
    """The first ten trials."""
    table = Table("rank", *ranked[0], title="leaderboard")
    for rank, trial in enumerate(ranked[:10], 1):
        table.add_row(str(rank), *(f"{v:.4g}" if isinstance(v, float) else str(v) for v in trial.values()))
    _console().print(table)


def show_scores(summary: dict[str, Any]) -> None:
    """Counts of findings and of rejected pages."""
    table = Table("finding", "pages", title=f"{summary['scored']} of {summary['pages']} pages scored")
    for key, count in summary["findings"].items():
        table.add_row(key, str(count))
    _console().print(table)
    for reason, count in summary["rejected"].items():
        _console().print(f"[yellow]rejected[/] {count}: {reason}")
