"""Trials as rows that fit into a terminal, and their values and parameters in words."""

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from .search.config import SearchConfig
from .search.ranking import Ranked, Results
from .search.space import Parameter, Point, named
from .search_progress import Running, TrialState
from .training_display import short_name

STYLES = {"running": "cyan", "waiting": "dim", "finished": "green", "stopped": "yellow", "failed": "red"}
"""Of what a trial does."""
MAX_VALUE = 16
"""Characters of a parameter's value."""
MAX_REASON = 300
BAR_WIDTH = 9
GAP = 2
LATENCY = "ms a\npage"


def value_text(value: float | None) -> str:
    """A metric."""
    return "-" if value is None else f"{value:.4f}"


def setting_text(value: Any) -> str:
    """The value of a parameter."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def parameters_text(point: Point, space: dict[str, Parameter], *, short: bool = False) -> str:
    """A point as people read it, on one line."""
    names = _short_names(space) if short else {key: named(key, parameter) for key, parameter in space.items()}
    return ", ".join(f"{name} {setting_text(point[key])}" for key, name in names.items() if key in point)


def on_one_line(reason: str) -> str:
    """A reason without colours and line ends, and not endless."""
    return textwrap.shorten(Text.from_ansi(reason).plain, MAX_REASON, placeholder=" ...")


def parameter_columns(space: dict[str, Parameter], points: Sequence[Point], room: int) -> dict[str, Column]:
    """A column for every parameter that fits into `room` characters, by its key, in the order of the space."""
    columns: dict[str, Column] = {}
    for key, name in _short_names(space).items():
        width = max((len(setting_text(point[key])) for point in points if key in point), default=1)
        width = max(min(width, MAX_VALUE), _width_of_two_lines(name))
        room -= width + GAP
        if room < 0:
            break
        columns[key] = Column("\n".join(textwrap.wrap(name, width)), width=width, no_wrap=True, overflow="ellipsis")
    return columns


def _short_names(space: dict[str, Parameter]) -> dict[str, str]:
    """The last words of every parameter's name where these are its own, such as `kd / cls` and `learning rate`."""
    names = {key: named(key, parameter) for key, parameter in space.items()}
    last = {key: re.sub(r"\b(?:\w+\.)+", "", name) for key, name in names.items()}
    last = {key: re.sub(r"^(\w+_)(\w+ / )\1", r"\2", name) for key, name in last.items()}
    counts = Counter(last.values())
    return {key: re.sub(r"[_.]", " ", last[key] if counts[last[key]] == 1 else names[key]) for key in space}


def _width_of_two_lines(header: str) -> int:
    """The least with which a header takes two lines at most, its words whole."""
    least = max(map(len, header.split()))
    return next(width for width in range(least, len(header) + 1) if len(textwrap.wrap(header, width)) <= 2)


class TrialTable:
    """The best trials, and below them those that run, in the same columns."""

    def __init__(
        self, search: SearchConfig, metric: str, width: int, trials: Sequence[TrialState],
        num_epochs: Callable[[TrialState], int],
    ):  # fmt: skip
        self._num_epochs, self._with_latency = num_epochs, search.minimize_latency
        columns = [
            _column("trial", [trial.id for trial in trials]),
            _column(short_name(metric).replace(" ", "\n"), width=6),
            *([_column(LATENCY, width=6)] if self._with_latency else []),
            _column("epoch", [self._epochs_text(trial) for trial in trials]),
            _column("", width=BAR_WIDTH),
        ]
        self._parameters = parameter_columns(search.space, [trial.point for trial in trials], _room(width, columns))
        self.table = _table([*columns, *self._parameters.values()])

    def add_best(self, trial: TrialState) -> None:
        """What came of a trial, whether it goes on or not."""
        doing = Text(trial.status, style=STYLES[trial.status])
        self._add(trial, trial.best_point, self._epochs_text(trial), doing)

    def add_running(self, one: Running) -> None:
        """Where a trial is."""
        trial, epochs = one.trial, self._num_epochs(one.trial)
        if one.active:
            doing = ProgressBar(epochs, one.done, width=BAR_WIDTH)
            self._add(trial, trial.point, f"{min(int(one.done) + 1, epochs)}/{epochs}", doing)
        else:
            self._add(trial, trial.point, self._epochs_text(trial), Text("waiting", style=STYLES["waiting"]))

    def add_gap(self) -> None:
        """An empty row."""
        self.table.add_row()

    def _add(self, trial: TrialState, point: Point, epochs: str, doing: Text | ProgressBar) -> None:
        settings = [setting_text(point[key]) if key in point else "" for key in self._parameters]
        value = Text(value_text(trial.value), style="bold")
        latency = [_latency_text(trial.latency_ms)] if self._with_latency else []
        self.table.add_row(trial.id, value, *latency, epochs, doing, *settings)

    def _epochs_text(self, trial: TrialState) -> str:
        return f"{trial.epochs}/{self._num_epochs(trial)}"


def leaderboard_table(results: Results, search: SearchConfig, width: int, num_rows: int = 10) -> Table:
    """The first trials, with as many of their parameters as fit; the one that won stands out."""
    entries = results.ranked[:num_rows]
    cells: dict[str, Callable[[Ranked], str]] = {
        "rank": lambda entry: str(entry.rank),
        "trial": lambda entry: entry.trial.id,
        short_name(results.metric).replace(" ", "\n"): lambda entry: value_text(entry.value),
        "epoch": lambda entry: str(entry.best_epoch),
    }
    if any(entry.num_seeds for entry in entries):
        cells["other\nseeds"] = _spread_text
    if search.minimize_latency:
        cells[LATENCY] = lambda entry: _latency_text(entry.latency_ms)
    columns = [_column(header, [cell(entry) for entry in entries]) for header, cell in cells.items()]
    parameters = parameter_columns(search.space, [entry.point for entry in entries], _room(width, columns))
    table = _table([*columns, *parameters.values()])
    for entry in entries:
        settings = [setting_text(entry.point[key]) for key in parameters]
        won = results.winner is not None and entry.rank == results.winner.rank
        table.add_row(*(cell(entry) for cell in cells.values()), *settings, style="bold green" if won else "")
    return table


def leaderboard_notes(results: Results, search: SearchConfig) -> Iterator[Text]:
    """Which trial won and why, and what became of the others, in words."""
    yield Text(results.best_reason)
    if results.failed:
        yield Text(f"{_counted(len(results.failed))} failed; trials.csv says which and why", style="red")
    known = {trial.id for trial in (*(entry.trial for entry in results.ranked), *results.failed, *results.unfinished)}
    confirmed = results.ranked[: search.confirm.top] if search.confirm else []
    counts = {
        "unfinished": len(results.unfinished),
        "not begun": max(search.trials_wanted - len(known), 0),
        "not confirmed": sum(not entry.is_confirmed for entry in confirmed),
    }
    left = ", ".join(f"{_counted(count)} {what}" for what, count in counts.items() if count)
    if left and search.budget_device_hours:
        more = f"--set budget_device_hours={2 * search.budget_device_hours:g}"
        used = f"the budget of {search.budget_device_hours:g} device hours is used up"
        yield Text(f"{used}: {left}; the same command with {more} goes on", style="yellow")
    elif left:
        yield Text(f"{left}; the same command goes on", style="yellow")


def _counted(count: int) -> str:
    return f"{count} trial{'s' if count > 1 else ''}"


def _spread_text(entry: Ranked) -> str:
    """Mean and standard deviation of the metric with other seeds."""
    if entry.mean is None:
        return "-"
    return f"{entry.mean:.4f}" + ("" if entry.std is None else f" ± {entry.std:.4f}")


def _latency_text(latency_ms: float | None) -> str:
    return "-" if latency_ms is None else f"{latency_ms:.1f}"


def _column(header: str, texts: Iterable[str] = (), width: int = 0) -> Column:
    """As wide as what it holds."""
    width = max([width, *map(len, texts), *map(len, header.splitlines())])
    return Column(header, width=width, no_wrap=True, overflow="ellipsis")


def _room(width: int, columns: Sequence[Column]) -> int:
    """What columns leave of a terminal's width."""
    return width - sum((column.width or 0) + GAP for column in columns)


def _table(columns: Sequence[Column]) -> Table:
    return Table(*columns, box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
