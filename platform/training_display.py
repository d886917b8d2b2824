"""What a terminal shows of a training run: bars while it goes on, and a line for every finished epoch."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column
from rich.text import Text

Row = dict[str, Any]

STILL_EVERY_S = 30.0
"""Where nothing moves, in a pipe or a log: how often to say that the run goes on."""
HEADER_EVERY = 25
"""Lines between two headers."""
MAX_NAME = 8
"""Characters of a loss's name."""

_DOING = {
    "starting": "starting workers",
    "validate": "validating",
    "checkpoint": "writing a checkpoint",
    "finished": "writing the bundle",
    "stopped": "stopping",
}
"""Phases in words, where they are not words already."""


class TrainingDisplay:
    """Live while its block runs; `epoch` and `progress` take the rows of platform/history.py: watch_run."""

    def __init__(self, console: Console, num_epochs: int, metric: str, clock: Callable[[], float] = time.monotonic):
        self.console = console
        self._clock = clock
        self._table = EpochTable(metric, console.width)
        self._bars = _bars(console)
        self._run = self._bars.add_task("run", total=num_epochs, count=f"epoch 0/{num_epochs}", note="")
        self._epoch = self._bars.add_task("epoch", total=None, count="", note="")
        self._doing = Progress(SpinnerColumn(), TextColumn("{task.description}", table_column=_cut()), console=console)
        self._phase = self._doing.add_task(_DOING["starting"])
        self._live: Live | None = None
        self._remaining = _Remaining()
        self._said_at = clock()

    def __enter__(self) -> "TrainingDisplay":
        if self.console.is_terminal:
            self._live = Live(
                Group(self._doing, self._bars), console=self.console, transient=True, refresh_per_second=8
            )
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def epoch(self, row: Row) -> None:
        """A finished epoch: its metrics, as the training loop reports them."""
        for line in self._table.lines(row):
            self.console.print(line, no_wrap=True, overflow="ellipsis", highlight=False)
        self._bars.update(self._run, completed=row["epoch"])
        self._said_at = self._clock()

    def progress(self, row: Row) -> None:
        """Where the run is: progress.json, as train/tracking.py writes it."""
        if not self._live:
            self._say_still(row)
            return
        epochs, first_step = row["num_epochs"], (row["epoch"] - 1) * row["steps_per_epoch"]
        steps = min(max(row["step"] - first_step, 0), row["steps_per_epoch"])
        done = row["epoch"] - 1 + steps / row["steps_per_epoch"]
        rate = row["records_per_second"]
        left = None if rate is None else self._remaining.seconds(done, epochs, self._clock())
        self._bars.update(
            self._run, completed=done, count=f"epoch {row['epoch']}/{epochs}",
            note="" if left is None else f"{duration(left)} left",
        )  # fmt: skip
        self._bars.update(
            self._epoch, completed=steps, total=row["steps_per_epoch"],
            count=f"step {steps}/{row['steps_per_epoch']}", note="" if rate is None else f"{rate:.0f} records/s",
        )  # fmt: skip
        self._doing.update(self._phase, description=_status(row))

    def _say_still(self, row: Row) -> None:
        if self._clock() - self._said_at < STILL_EVERY_S:
            return
        self._said_at = self._clock()
        share, rate = row["records_in_epoch"] / max(row["num_train"], 1), row["records_per_second"]
        speed = "" if rate is None else f", {rate:.0f} records/s"
        self.console.print(f"still {_doing(row)}, epoch {row['epoch']}: {share:.0%}{speed}", highlight=False)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("  {task.description}", style="dim"),
        BarColumn(bar_width=min(max(console.width - 48, 8), 36)),
        TextColumn("{task.fields[count]}", table_column=Column(justify="right", no_wrap=True)),
        TextColumn("{task.fields[note]}", style="cyan", table_column=Column(justify="right", no_wrap=True)),
        console=console,
    )


def _cut() -> Column:
    return Column(no_wrap=True, overflow="ellipsis")


def _doing(row: Row) -> str:
    return _DOING.get(row["phase"], row["phase"])


def _status(row: Row) -> str:
    losses = sorted(row["losses"].items(), key=lambda item: short_name(item[0]) != "loss")
    parts = "".join(f"  [dim]{escape(short_name(name))}[/] {value:.3f}" for name, value in losses)
    return f"[bold]{_doing(row)}[/]{parts}"


class _Remaining:
    """How long a run still takes, from what it took since the first call, validation and all."""

    def __init__(self) -> None:
        self._begun: tuple[float, float] | None = None

    def seconds(self, epochs_done: float, num_epochs: int, now: float) -> float | None:
        if self._begun is None:
            self._begun = now, epochs_done
        elapsed, done = now - self._begun[0], epochs_done - self._begun[1]
        return elapsed / done * (num_epochs - epochs_done) if done > 0 else None


@dataclass(frozen=True)
class _Cell:
    name: str
    text: str
    style: str = ""
    width: int = 8


class EpochTable:
    """A line for every epoch, under a header, as many columns as the terminal has room for."""

    def __init__(self, metric: str, width: int):
        self._metric, self._width = metric, width
        self._num_lines = 0
        self._header = ""

    def lines(self, row: Row) -> Iterable[Text]:
        """The line of an epoch, below the header where that is due."""
        cells = self._that_fit(row)
        header = Text("".join(f"{cell.name:>{cell.width}}" for cell in cells), style="dim")
        if header.plain != self._header or self._num_lines % HEADER_EVERY == 0:
            self._header, self._num_lines = header.plain, 0
            yield header
        self._num_lines += 1
        yield Text.assemble(*((f"{cell.text:>{cell.width}}", cell.style) for cell in cells))

    def _that_fit(self, row: Row) -> list[_Cell]:
        """In the order in which they are read; where room is short, other metrics go first, then parts of the loss."""
        first = [_Cell("epoch", str(row["epoch"]), width=7), _Cell("loss", _number(row["train_loss"]))]
        losses = [name for name in row if name.startswith("train_") and name != "train_loss"]
        others = [name for name in row if name.startswith("val_") and name != self._metric]
        metric, speed = [self._metric_cell(row)], _speed(row)
        room = self._width - sum(cell.width for cell in [*first, *metric, *speed])
        parts, room = _fitting([_Cell(short_name(name), _number(row[name]), "dim") for name in losses], room)
        more, _ = _fitting([_titled(short_name(name), _number(row[name]), "dim") for name in others], room)
        return [*first, *parts, *metric, *more, *speed]

    def _metric_cell(self, row: Row) -> _Cell:
        best = row["best_epoch"] == row["epoch"]
        value = f"{_number(row.get(self._metric))}{'*' if best else ' '}"
        return _titled(f"{short_name(self._metric)} ", value, "bold green" if best else "bold")


def _fitting(cells: list[_Cell], room: int) -> tuple[list[_Cell], int]:
    """The first cells that fit, and the room that they leave."""
    kept = []
    for cell in cells:
        if cell.width > room:
            break
        kept.append(cell)
        room -= cell.width
    return kept, room


def _titled(name: str, text: str, style: str) -> _Cell:
    return _Cell(name, text, style, max(len(name), 6) + 2)


def _speed(row: Row) -> list[_Cell]:
    seconds = row.get("seconds")
    rate = row.get("records_per_second")
    return [
        _Cell("rec/s", "-" if rate is None else f"{rate:.0f}", "cyan"),
        _Cell("time", "-" if seconds is None else duration(seconds), "cyan", 9),
    ]


def short_name(name: str) -> str:
    """`train_cls_image` as image, `val_image_macro_auroc` as image auroc."""
    if name.startswith("val_"):
        return name.removeprefix("val_").replace("macro_", "").replace("_", " ")
    return name.removeprefix("train_").removeprefix("cls_")[: MAX_NAME - 1]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Such as 0:42, 12:05 or 3:01:30."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
