"""What a search shows: what matters on 24 lines, a line for every trial that ends, and never a dead search."""

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from rich.console import Console

from vizecg.platform.search.config import SearchConfig
from vizecg.platform.search.journal import Journal
from vizecg.platform.search.ranking import Results, rank
from vizecg.platform.search.space import Parameter
from vizecg.platform.search_display import SearchDisplay
from vizecg.platform.search_progress import SearchState, TimeLeft, TrialState, look_at
from vizecg.platform.search_table import leaderboard_notes, leaderboard_table, parameter_columns

METRIC = "val_image_macro_auroc"
SPACE = {
    "objective.lambda_kd": {"log_ratio": [0.1, 10.0], "to": "objective.lambda_cls"},
    "model.options.attention_depth": {"choice": [1, 2]},
    "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]},
}
POINT = {"objective.lambda_kd": 0.25, "model.options.attention_depth": 2, "optimizer.learning_rate": 3e-4}
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def make_search(**values: object) -> SearchConfig:
    base = {"model": {"size": "debug"}, "epochs": 8}
    return SearchConfig.model_validate({"base": base, "space": SPACE, "num_trials": 100, **values})


class Shown:
    """A display with a clock of its own, and a journal that it follows."""

    def __init__(
        self, out: Path, terminal: bool = True, width: int = 80, height: int = 24, search: SearchConfig | None = None
    ):
        self.now, self.out, self.file = 1e12, out, io.StringIO()  # Later than all that these tests write.
        console = Console(file=self.file, force_terminal=terminal, width=width, height=height, highlight=False)
        self.search = search or make_search()
        self.display = SearchDisplay(console, self.search, METRIC, out, clock=lambda: self.now)
        self.journal = Journal(out, self.display.change)

    def trial(self, name: str, values: list[float], status: str | None = None, **facts: Any) -> None:
        begin(self.journal, name, values)
        if status:
            self.journal.add("ended", name, status=status, **facts)

    def progress(self, name: str, epoch: int, step: int, phase: str = "training", age_s: float = 0.0) -> Path:
        row = {"epoch": epoch, "step": step, "steps_per_epoch": 100, "phase": phase, "time": self.now - age_s}
        path = self.out / "trials" / name / "progress.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row))
        return path

    def drawn(self) -> list[str]:
        """Lines of the live part."""
        width, height = self.display.console.size
        console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
        with console.capture() as captured:
            console.print(self.display._draw())
        return [line.rstrip() for line in captured.get().splitlines()]

    def said(self) -> list[str]:
        """Lines that stay."""
        return CONTROL.sub("", self.file.getvalue()).splitlines()


def begin(journal: Journal, name: str, values: list[float], seconds: float = 100.0, **facts: Any) -> None:
    """A trial with so many epochs."""
    journal.add("begun", name, point=POINT, **facts)
    for epoch, value in enumerate(values, 1):
        row = {"epoch": epoch, METRIC: value, "spent_s": seconds, "devices": 2.0, "latency_ms": 3.5, "finished": False}
        journal.add("epoch", name, row=row)


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    shown = Shown(tmp_path)
    yield shown
    shown.journal.close()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 16)])
def test_a_hundred_trials_fit_into_a_terminal(tmp_path: Path, width: int, height: int):
    shown = Shown(tmp_path, width=width, height=height, search=make_search(budget_device_hours=20))
    shown.journal.add("start", nodes={"a": 24}, at_once=12)
    for number in range(72):
        status = None if number >= 60 else "failed" if number == 3 else ("finished", "stopped")[number % 2]
        shown.trial(f"{number:04}", [0.5, 0.5 + number / 200], status)
        if not status:
            shown.progress(f"{number:04}", epoch=3, step=250)
    lines = shown.drawn()
    text = "\n".join(lines)
    assert len(lines) < height and max(map(len, lines)) <= width
    assert "60/100" in text and "8.00/20" in text, "144 epochs of 100 s on 2 devices"
    assert "12 running  30 finished  29 stopped  1 failed" in text
    assert f"best {0.5 + 71 / 200:.4f} in trial 0071" in text
    top = [line for line in lines if re.match(r"00\d\d .* (running|finished|stopped) ", line)]
    rows = [line for line in lines if re.match(r"00\d\d .*━", line)]
    assert [line[:4] for line in top] == ["0071", "0070", "0069", "0068", "0067"][: len(top)] and len(top) >= 2
    assert len(rows) == (8 if height >= 24 else len(rows)) and f"and {12 - len(rows)} more" in lines[-1]
    if height >= 24:
        assert len(top) == 5 and "best 0.8550 in trial 0071: lambda_kd / lambda_cls 0.25, attention_depth 2" in text
        assert all("3/8" in line and line.split()[-3:] == ["0.25", "2", "0.0003"] for line in rows)


def test_bars_follow_progress_within_the_epoch(shown: Shown):
    shown.trial("0000", [0.6, 0.7])
    trial = shown.display._state.trials["0000"]

    def look() -> tuple[bool, float]:
        running = look_at(trial, shown.out, since=shown.now - 1)
        return running.active, running.done

    assert look() == (False, 2), "nothing is known"
    path = shown.progress("0000", epoch=3, step=250)
    assert look() == (True, 2.5)
    shown.progress("0000", epoch=2, step=200, phase="validate")
    assert look() == (True, 2.0)
    shown.progress("0000", epoch=1, step=50)
    assert look() == (True, 2.0), "the journal is ahead"
    shown.progress("0000", epoch=3, step=250, age_s=60)
    assert look() == (False, 2.5) and "waiting" in shown.drawn()[-1], "was cut off, and did not go on yet"
    path.write_text('{"epoch": 3, "st')
    assert look() == (False, 2)
    path.write_text("[]")
    assert look() == (False, 2)


@pytest.mark.parametrize("terminal", [True, False])
def test_every_trial_that_ends_is_one_line(tmp_path: Path, terminal: bool):
    shown = Shown(tmp_path, terminal)
    shown.journal.add("start", nodes={"a": 2}, at_once=2)
    for number in range(98):
        shown.trial(f"{number:04}", [0.625] * 2, "stopped")
    shown.trial("0098", [0.7])
    shown.journal.add("failure", "0098", reason="\x1b[31mworker died\x1b[0m\nnode 3\n" + "x " * 2000)
    shown.journal.add("ended", "0098", status="failed", reason="out of\nmemory")
    lines = shown.said()
    assert len(lines) == 100 and all(re.match(rf"00{number:02} stopped ", lines[number]) for number in range(98))
    assert "0.6250   2 epochs    3:20" in lines[0]
    assert lines[98].startswith("0098 starts again: worker died node 3 x") and len(lines[98]) < 350
    assert re.match(r"0098 failed +0\.7000 +1 epoch +1:40  out of memory  ", lines[99])
    if terminal:
        assert max(map(len, lines)) <= 80 and "kd / cls 0.25, attention depth 2" in lines[0]
        assert "\x1b[33m0098 starts again" in shown.file.getvalue(), "yellow"
    else:
        assert lines[0].endswith("lambda_kd / lambda_cls 0.25, attention_depth 2, learning_rate 0.0003")
        assert "\x1b" not in shown.file.getvalue()


def test_a_pipe_hears_at_most_every_thirty_seconds_that_it_goes_on(tmp_path: Path):
    shown = Shown(tmp_path, terminal=False)
    with shown.display as display:
        shown.now += 30
        display.say_still()
        shown.journal.add("start", nodes={"a": 2}, at_once=1)
        shown.trial("0000", [0.6] * 4, "stopped")
        begin(shown.journal, "0001", [0.7])
        shown.progress("0001", epoch=2, step=150)
        for _ in range(120):
            shown.now += 0.5
            display.say_still()
        shown.journal.add("ended", "0001", status="stopped")
        shown.now += 29
        display.say_still()
    starting, *lines = shown.said()
    assert starting == "still starting: 0 of 100 trials are done, 0 running"
    assert len(lines) == 4 and lines[1] == lines[2] and lines[0].startswith("0000") and lines[3].startswith("0001")
    left = (400 - 150) + 98 * 400
    expected = f"{left // 3600}:{left % 3600 // 60:02}:{left % 60:02}"
    assert lines[1] == (
        f"still searching: 1 of 100 trials are done, 1 running, best 0.7000 (trial 0001), about {expected} left"
    )


@pytest.mark.parametrize("first_event", ["start", "ended"])
def test_a_search_that_goes_on_says_where_it_was_and_repeats_nothing(tmp_path: Path, first_event: str):
    before = Journal(tmp_path)
    before.add("start", nodes={"a": 2}, at_once=2)
    for number in range(13):
        begin(before, f"{number:04}", [0.6])
        if number < 12:
            before.add("ended", f"{number:04}", status="finished")
    before.close()
    shown = Shown(tmp_path, search=make_search(num_trials=40))
    if first_event == "start":
        shown.journal.add("start", nodes={"a": 2}, at_once=2)
        assert shown.said() == ["going on: 12 of 40 trials are done"]
        assert "0 running  1 waiting  12 finished" in "\n".join(shown.drawn())
    shown.journal.add("ended", "0012", status="stopped")
    done = 12 if first_event == "start" else 13
    assert [line[:12] for line in shown.said()] == [f"going on: {done}", "0012 stopped"]
    shown.journal.close()


def test_trouble_with_the_display_is_logged_once_and_kills_no_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    for terminal, error in ((True, OSError("the terminal is gone")), (False, SystemExit(1))):
        (tmp_path / str(terminal)).mkdir()
        shown = Shown(tmp_path / str(terminal), terminal)

        def broken(*arguments: Any, error: BaseException = error, **settings: Any) -> None:
            raise error

        caplog.clear()
        with caplog.at_level(logging.WARNING, "vizecg"), shown.display:
            monkeypatch.setattr(shown.display.console, "print", broken)
            for name in ("0000", "0001"):
                shown.trial(name, [0.5], "stopped")
            monkeypatch.undo()
        assert len(shown.journal.events) == 6 and len(caplog.records) == 1
        assert "the search goes on without its display" in caplog.text
        assert "without its display" in str(shown.display._draw_safely())


def test_drawing_beside_the_driver_never_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    shown = Shown(tmp_path)
    with shown.display as display:
        over = Event()

        def refresh() -> None:
            while not over.is_set() and display._live:
                display._live.refresh()

        thread = Thread(target=refresh)
        thread.start()
        for number in range(12):
            shown.trial(f"{number:04}", [0.5] * 2, "stopped" if number % 3 else None)
        over.set()
        thread.join()
    assert not caplog.records and not display._failed
    assert "\x1b[?25h" in shown.file.getvalue(), "the cursor is back"


def test_states_agree_with_the_journal(shown: Shown):
    shown.trial("0000", [0.5, 0.9, 0.7], "finished")
    shown.trial("0001", [0.5], "failed", reason="because")
    shown.trial("0002", [])
    shown.journal.add("begun", "0000-seed1", point=POINT, seed=1)
    states = shown.display._state.trials
    assert states.keys() == shown.journal.trials.keys()
    for name, trial in shown.journal.trials.items():
        state, best = states[name], trial.best(METRIC)
        assert (state.status, state.reason, state.epochs) == (trial.status, trial.reason, trial.epochs)
        assert (state.point, state.device_s) == (trial.point, trial.device_s)
        assert state.value == (best[METRIC] if best else None) and state.confirms == (trial.confirms is not None)
    assert shown.display._state.device_s == shown.journal.device_s


def test_the_best_of_a_population_keeps_the_values_that_it_had_then(shown: Shown):
    begin(shown.journal, "0000", [0.5, 0.8])
    shown.journal.add("changed", "0000", point={**POINT, "objective.lambda_kd": 9.0}, source="0001")
    shown.journal.add("epoch", "0000", row={"epoch": 3, METRIC: 0.6, "spent_s": 1.0, "devices": 1.0})
    (trial,) = shown.display._state.best
    assert (trial.value, trial.best_point, trial.point["objective.lambda_kd"]) == (0.8, POINT, 9.0)
    assert "best 0.8000 in trial 0000: lambda_kd / lambda_cls 0.25" in "\n".join(shown.drawn())


def test_a_trial_that_failed_is_best_only_where_all_did(shown: Shown):
    shown.trial("0000", [0.9], "failed")
    assert "best 0.9000 in trial 0000" in "\n".join(shown.drawn())
    shown.trial("0001", [0.5])
    lines = "\n".join(shown.drawn())
    assert "best 0.5000 in trial 0001" in lines and lines.index("0000   0.9000") < lines.index("0001   0.5000")


def test_time_left_comes_from_the_trials_so_far(tmp_path: Path):
    search = make_search(num_trials=10)

    def state(*trials: tuple[int, str], at_once: int | None = 2) -> SearchState:
        made = [
            TrialState(
                id=str(number), point=POINT, confirms=False, status=status, epochs=epochs, seconds=100.0 * epochs,
                device_s=100.0 * epochs, value=0.5,
            )
            for number, (epochs, status) in enumerate(trials)
        ]  # type: ignore[arg-type]  # fmt: skip
        return SearchState({trial.id: trial for trial in made}, at_once)

    def left(state: SearchState, search: SearchConfig = search) -> float | None:
        running = [look_at(trial, tmp_path, 0) for trial in state.main if not trial.ended]
        return TimeLeft(search).seconds(state, running)

    assert left(state()) is None and left(state((0, "running"))) is None
    assert left(state((2, "running"), at_once=None)) is None, "the cluster is not known yet"
    assert left(state((2, "running"))) == (600 + 9 * 800) / 2, "whole trials, while none has ended"
    assert left(state((2, "stopped"), (8, "finished"))) == 8 * 500 / 2, "as those that ended did on average"
    ended = [(2, "stopped")] * 8 + [(8, "finished")]
    assert left(state(*ended, (4, "running"))) == 400, "one that outlasted most goes on to the end, alone"
    assert left(state(*ended, (1, "running"))) == pytest.approx((8 * 200 + 800) / 9 - 100)
    budget = make_search(num_trials=10, budget_device_hours=0.5)
    assert left(state((2, "stopped"), (8, "finished")), budget) == (1800 - 1000) / 2
    confirm = make_search(num_trials=2, confirm={"top": 5, "seeds": 3})
    assert left(state((2, "stopped"), (8, "finished")), confirm) == 2 * 3 * 800 / 2


def test_confirming_has_its_own_bar(tmp_path: Path):
    shown = Shown(tmp_path, search=make_search(num_trials=2, confirm={"top": 5, "seeds": 2}))
    shown.journal.add("start", nodes={"a": 2}, at_once=2)
    shown.trial("0000", [0.5], "finished")
    shown.trial("0001", [0.6], "finished")
    assert "confirming" not in "\n".join(shown.drawn())
    begin(shown.journal, "0001-seed1", [0.7], seed=1)
    shown.journal.add("ended", "0001-seed1", status="finished")
    begin(shown.journal, "0001-seed2", [], seed=2)
    lines = shown.drawn()
    assert lines[0].split()[2] == "2/2" and lines[1].split()[0] == "confirming" and lines[1].split()[-1] == "1/4"
    assert "best 0.6000 in trial 0001" in "\n".join(lines), "another seed's luck is not the search's best"


def ranked(tmp_path: Path, search: SearchConfig, confirm: bool = False) -> Results:
    journal = Journal(tmp_path)
    for number in range(12):
        begin(journal, f"{number:04}", [0.5, 0.5 + number / 100])
        if number < 11:
            journal.add("ended", f"{number:04}", status="failed" if number == 2 else "finished")
    for seed in (1, 2) if confirm else ():
        begin(journal, f"0010-seed{seed}", [0.5 + seed / 10], seed=seed)
        journal.add("ended", f"0010-seed{seed}", status="finished")
    journal.close()
    return rank(search, journal)


def text_of(results: Results, search: SearchConfig, width: int) -> tuple[list[str], list[str]]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as captured:
        console.print(leaderboard_table(results, search, width))
    return captured.get().splitlines(), [line.plain for line in leaderboard_notes(results, search)]


def test_parameters_that_do_not_fit_are_left_out_whole():
    keys = {f"model.options.page_encoder_{number}": Parameter(choice=["efficientnet_b0"]) for number in range(9)}
    points = [dict.fromkeys(keys, "efficientnet_b0")]
    assert len(parameter_columns(keys, points, 60)) == 3 and len(parameter_columns(keys, points, 1000)) == 9
    assert [column.width for column in parameter_columns(keys, points, 60).values()] == [15] * 3
    (column,) = parameter_columns({"optimizer.learning_rate": Parameter(uniform=(0, 1))}, [], 60).values()
    assert column.header == "learning\nrate"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_leaderboard_shows_ten_trials_and_tells_of_the_others(tmp_path: Path, width: int):
    search = make_search(num_trials=15, budget_device_hours=3)
    lines, notes = text_of(ranked(tmp_path, search), search, width)
    assert max(map(len, lines)) <= width and len(lines) == 2 + 10
    assert lines[2].split() == ["1", "0011", "0.6100", "2", "0.25", "2", "0.0003"]
    assert "highest" in notes[0] and notes[1] == "1 trial failed; trials.csv says which and why"
    assert notes[2] == (
        "the budget of 3 device hours is used up: 1 trial unfinished, 3 trials not begun; "
        "the same command with --set budget_device_hours=6 goes on"
    )
    assert len(notes) == 3


def test_leaderboard_of_confirmed_trials_has_mean_and_spread(tmp_path: Path):
    search = make_search(num_trials=12, confirm={"top": 2, "seeds": 2}, minimize_latency=True)
    lines, notes = text_of(ranked(tmp_path, search, confirm=True), search, 80)
    row = next(line for line in lines if " 0010 " in line)
    assert "0.6500 ± 0.0707" in row and " 3.5 " in row
    assert notes[-1] == "1 trial unfinished, 1 trial not confirmed; the same command goes on"
