"""What a terminal shows of a scoring run: one line of where it is and one of whom; in a log a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from .score.job import Progress
from .training_display import STILL_EVERY_S, duration

REASONS_SHOWN = 3


class ScoringDisplay:
    """Live while its block runs; call it with every Progress."""

    def __init__(self, console: Console, what: str, clock: Callable[[], float] = time.monotonic):
        self.console = console
        self._what = what
        self._clock = clock
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=min(max(console.width - 70, 8), 36)),
            TextColumn("{task.fields[count]}", table_column=Column(justify="right", no_wrap=True)),
            TextColumn("{task.fields[note]}", style="cyan", table_column=Column(justify="right", no_wrap=True)),
            console=console,
        )
        self._bar = self._bars.add_task(escape(what), total=None, count="", note="starting")
        self._live: Live | None = None
        self._last: Progress | None = None
        self._said_at = clock()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._draw, console=self.console, transient=True, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._live:
            self._live.stop()
        if self._last is not None:
            self._say(f"{self._what}, {'stopped: ' if kind else ''}{end_of(self._last)}")

    def __call__(self, progress: Progress) -> None:
        """Where the run is."""
        is_first, self._last = self._last is None, progress
        self._bars.update(
            self._bar, completed=progress.items, total=progress.num_items,
            count=f"{progress.items:,}/{progress.num_items:,}", note=", ".join(speed_and_rest(progress)),
        )  # fmt: skip
        if not self._live and (is_first or self._clock() - self._said_at >= STILL_EVERY_S):
            self._say(f"{self._what}: {line_of(progress)}")

    def _say(self, line: str) -> None:
        self._said_at = self._clock()
        # Never folded: a log is searched line by line.
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _draw(self) -> Group:
        below = Text(no_wrap=True, overflow="ellipsis")
        if self._last is not None:
            below = Text.assemble("  ", *_facts(self._last), no_wrap=True, overflow="ellipsis")
        return Group(self._bars, below)


@contextmanager
def scoring_display(what: str, console: Console | None = None) -> Iterator[Callable[[Progress], None]]:
    """`with scoring_display("scoring scans") as on_progress`: shows a run until the block ends, then its last line."""
    with ScoringDisplay(console or Console(highlight=False), what) as display:
        yield display


def speed_and_rest(progress: Progress) -> list[str]:
    """Such as 54 pages/s, 1:12:30 left."""
    speed = [f"{_rate(progress.pages_per_s)} pages/s"] if progress.pages_per_s else []
    is_going = progress.eta_s is not None and progress.items < progress.num_items
    return speed + ([f"{duration(progress.eta_s or 0)} left"] if is_going else [])


def workers(progress: Progress) -> str:
    """Such as 12 predictors on 3 nodes."""
    at_work = _count(progress.predictors, "predictor")
    return f"{at_work} on {_count(progress.nodes, 'node')}" if progress.nodes > 1 else at_work


def rejects(progress: Progress) -> str:
    """Such as 31 rejected (20 not_an_ecg, 11 truncated); nothing where none was."""
    if not (total := sum(progress.rejected.values())):
        return ""
    ranked = sorted(progress.rejected.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count:,} {reason}" for reason, count in ranked[:REASONS_SHOWN]]
    more = total - sum(count for _, count in ranked[:REASONS_SHOWN])
    return f"{total:,} rejected ({', '.join(named)}{f', {more:,} others' if more else ''})"


def line_of(progress: Progress) -> str:
    """Everything in one line."""
    share = progress.items / max(progress.num_items, 1)
    # Rounded down: what is not done is not 100 %.
    done = f"{progress.items:,} of {progress.num_items:,} ({int(100 * share)} %)"
    at_work = [workers(progress)] if progress.predictors else []
    parts = [done, *speed_and_rest(progress), rejects(progress), *at_work]
    return ", ".join(part for part in parts if part)


def end_of(progress: Progress) -> str:
    """How it went, when it is over."""
    mine = progress.items - progress.resumed_items
    rate = f", {_rate(mine / progress.elapsed_s)} a second" if mine and progress.elapsed_s else ""
    before = f", {progress.resumed_items:,} of them in earlier starts" if progress.resumed_items else ""
    done = f"{progress.items:,} of {progress.num_items:,} done{before}, in {duration(progress.elapsed_s)}{rate}"
    parts = [done, f"{progress.scored:,} pages scored", rejects(progress)]
    return ", ".join(part for part in parts if part)


def _facts(progress: Progress) -> list[tuple[str, str]]:
    """Parts of the second line, each in its style."""
    resumed = f"{progress.resumed_items:,} done before" if progress.resumed_items else ""
    at_work = workers(progress) if progress.predictors else "waiting for predictors"
    scored = f"{progress.scored:,} pages scored"
    parts = [(scored, "green"), (rejects(progress), "yellow"), (at_work, "dim"), (resumed, "dim")]
    return [(f"{words}  ", style) for words, style in parts if words]


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _rate(per_s: float) -> str:
    return f"{per_s:.3g}" if per_s < 100 else f"{per_s:,.0f}"
