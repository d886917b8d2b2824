"""What a terminal shows of a search: where it is, the best trials and those that run, and a line for each that ends."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .search.config import SearchConfig
from .search.journal import Journal
from .search_progress import HOUR_S, Running, SearchState, TimeLeft, TrialState, look_at
from .search_table import STYLES, TrialTable, on_one_line, parameters_text, value_text
from .training_display import STILL_EVERY_S, duration

TOP, MAX_RUNNING = 5, 8
"""Rows, where the terminal is high enough."""
MIN_TOP = 2
BEST_LINES = 3


class SearchDisplay:
    """Live while its block runs; `change` takes the journal after every event.

    What goes wrong here is logged once, and the search goes on without a display.
    """

    def __init__(
        self, console: Console, search: SearchConfig, metric: str, out: Path,
        clock: Callable[[], float] = time.time,
    ):  # fmt: skip
        self.console = console
        self._search, self._metric, self._out, self._clock = search, metric, out.absolute(), clock
        self._state, self._time_left = SearchState(), TimeLeft(search)
        self._num_events = 0
        self._begun_at = self._said_at = clock()
        self._in_terminal = console.is_terminal and not console.is_dumb_terminal
        self._live: Live | None = None
        self._lock, self._over = Lock(), Event()
        self._still = Thread(target=self._say_still_often, daemon=True)
        self._failed = False

    def __enter__(self) -> "SearchDisplay":
        if self._in_terminal:
            self._live = Live(
                get_renderable=self._draw_safely, console=self.console, transient=True, refresh_per_second=2
            )
            self._live.start()
        else:
            self._still.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        with self._logged():
            if self._live:
                self._live.stop()
            else:
                self._still.join()

    def change(self, journal: Journal) -> None:
        """Show what is new in the journal, which has one event more than at the call before; never raises."""
        with self._lock, self._logged():
            if self._failed:
                return
            goes_on = self._num_events == 0 and any(event["event"] == "begun" for event in journal.events[:-1])
            events = journal.events[self._num_events :]
            self._num_events = len(journal.events)
            self._state = self._state.after(events, self._metric)
            if goes_on:
                self._print(Text(f"going on: {self._done()} trials are done", style="cyan"))
            for event in events[-1:] if goes_on else events:
                if event["event"] == "ended":
                    self._print(self._ended_line(self._state.trials[event["trial"]]))
                elif event["event"] == "failure":
                    self._print(Text(f"{event['trial']} starts again: {on_one_line(event['reason'])}", style="yellow"))

    def _doing(self) -> str:
        return "searching" if self._state.trials else "starting"

    def _done(self) -> str:
        ended = sum(trial.ended for trial in self._state.main)
        return f"{ended} of {self._search.trials_wanted}"

    def _ended_line(self, trial: TrialState) -> Text:
        return Text.assemble(
            (trial.id, "bold"), " ", (f"{trial.status:<8}", STYLES[trial.status]),
            (f"{value_text(trial.value):>7}", "bold"), f"{trial.epochs:>4} epoch{'s' if trial.epochs != 1 else ' '}",
            (f"{duration(trial.seconds):>8}", "cyan"),
            (f"  {on_one_line(trial.reason)}", "red") if trial.reason else "",
            f"  {parameters_text(trial.point, self._search.space, short=self._in_terminal)}",
        )  # fmt: skip

    def _print(self, line: Text) -> None:
        """Above what is live, cut to one line of a terminal; whole in a pipe."""
        if self._in_terminal:
            self.console.print(line, no_wrap=True, overflow="ellipsis", highlight=False)
        else:
            self.console.print(line, soft_wrap=True, highlight=False)
        self._said_at = self._clock()

    @contextmanager
    def _logged(self) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:  # rich leaves the program where its pipe is closed.
            self._failed = True
            logging.getLogger("vizecg").warning("the search goes on without its display: %r", error)

    def _say_still_often(self) -> None:
        while not self._over.wait(1.0) and not self._failed:
            with self._lock, self._logged():
                self.say_still()

    def say_still(self) -> None:
        """In a pipe or a log: that the search goes on, where nothing else was said for a while."""
        if self._clock() - self._said_at < STILL_EVERY_S:
            return
        running, best = self._running(), self._state.winner
        parts = [
            f"still {self._doing()}: {self._done()} trials are done", f"{sum(one.active for one in running)} running",
            *([f"best {value_text(best.value)} (trial {best.id})"] if best else []),
            *self._left_text(running),
        ]  # fmt: skip
        self._print(Text(", ".join(parts)))

    def _running(self) -> list[Running]:
        """Trials that have not ended, those first that train now."""
        trials = [trial for trial in self._state.trials.values() if not trial.ended]
        running = [look_at(trial, self._out, self._begun_at) for trial in trials]
        return sorted(running, key=lambda one: not one.active)

    def _left_text(self, running: list[Running]) -> list[str]:
        left_s = self._time_left.seconds(self._state, running)
        return [] if left_s is None else [f"about {duration(left_s)} left"]

    def _draw_safely(self) -> RenderableType:
        if not self._failed:
            with self._logged():
                return self._draw()
        return Text("the search goes on without its display", style="yellow")

    def _draw(self) -> Group:
        state, running = self._state, self._running()
        head = [self._bars(state, running), self._counts(state, running), *self._best(state)]
        # Beside them: two lines of header, a gap, "and N more", and the last trial that ended.
        room = self.console.height - sum(len(self.console.render_lines(part, pad=False)) for part in head) - 5
        top = state.best[: min(TOP, max(room - len(running), room - MAX_RUNNING, MIN_TOP))]
        shown = running[: min(MAX_RUNNING, max(room - len(top), 1))]
        trials = [*top, *(one.trial for one in shown)]
        table = TrialTable(self._search, self._metric, self.console.width, trials, self._time_left.num_epochs)
        for trial in top:
            table.add_best(trial)
        if top and shown:
            table.add_gap()
        for one in shown:
            table.add_running(one)
        more = [Text(f"and {len(running) - len(shown)} more", style="dim")] if len(running) > len(shown) else []
        return Group(*head, *([table.table] if trials else []), *more)

    def _bars(self, state: SearchState, running: list[Running]) -> Table:
        bars = Table.grid(padding=(0, 1))
        wanted, ended = self._search.trials_wanted, sum(trial.ended for trial in state.main)
        times = ", ".join([f"{duration(self._clock() - self._begun_at)} elapsed", *self._left_text(running)])
        bars.add_row(f"[bold]{self._doing()}[/]", self._bar(ended, wanted), f"{ended}/{wanted}", f"[cyan]{times}[/]")
        if state.confirming:
            wanted, ended = state.confirming_wanted(self._search), sum(trial.ended for trial in state.confirming)
            bars.add_row("[bold]confirming[/]", self._bar(ended, wanted), f"{ended}/{wanted}", "")
        if budget := self._search.budget_device_hours:
            hours = state.device_s / HOUR_S
            bars.add_row("[bold]budget[/]", self._bar(hours, budget), f"{hours:.2f}/{budget:g}", "device hours")
        return bars

    def _bar(self, done: float, total: float) -> ProgressBar:
        return ProgressBar(total, min(done, total), width=min(max(self.console.width - 62, 8), 40))

    def _counts(self, state: SearchState, running: list[Running]) -> Text:
        ended = [trial.status for trial in state.trials.values() if trial.ended]
        active = sum(one.active for one in running)
        counts = {"running": active, "waiting": len(running) - active}
        counts |= {status: ended.count(status) for status in ("finished", "stopped", "failed")}
        words = [(f"{count} {word}  ", STYLES[word]) for word, count in counts.items() if count or word == "running"]
        hours = "" if self._search.budget_device_hours else f"{state.device_s / HOUR_S:.2f} device hours"
        return Text.assemble(*words, (hours, "cyan"), no_wrap=True, overflow="ellipsis")

    def _best(self, state: SearchState) -> list[Text]:
        best = state.winner
        if best is None:
            return []
        text = Text.assemble(
            ("best ", "bold"), (value_text(best.value), "bold green"), f" in trial {best.id}: ",
            parameters_text(best.best_point, self._search.space),
        )  # fmt: skip
        lines = list(text.wrap(self.console, self.console.width))
        if len(lines) > BEST_LINES:
            lines[BEST_LINES - 1].right_crop(1)
            lines[BEST_LINES - 1].append("…")
        return [*lines[:BEST_LINES], Text("")]
