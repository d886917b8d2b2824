"""What a training run shows: lines that fit, bars that start where the run does, plain text where nobody looks."""

import io
from typing import Any

import pytest
from rich.console import Console

from vizecg.platform.training_display import EpochTable, TrainingDisplay, duration, short_name

METRIC = "val_signal_macro_auroc"


def epoch_row(epoch: int, best_epoch: int = 1) -> dict[str, Any]:
    parts = {f"train_{name}": 0.123456 for name in ("cls_image", "cls_signal", "cls_fused", "kd")}
    metrics = {f"val_{stream}_macro_auroc": 0.87654 for stream in ("image", "signal", "fused")}
    return parts | metrics | {
        "train_loss": 12.3456, "epoch": epoch, "best_epoch": best_epoch, "best": 0.87654, "seconds": 36_000.0,
        "records_per_second": 12345.6,
    }  # fmt: skip


def progress_row(epoch: int, steps: int, phase: str = "training", rate: float | None = 97.2) -> dict[str, Any]:
    return {
        "epoch": epoch, "num_epochs": 4, "step": (epoch - 1) * 100 + steps, "steps_per_epoch": 100,
        "records_in_epoch": steps * 16, "num_train": 1600, "records_per_second": rate,
        "losses": {"train_kd": 0.25, "train_loss": 0.5}, "learning_rate": 1e-3, "phase": phase, "time": 0.0,
    }  # fmt: skip


class Shown:
    """A display on a terminal, or in a pipe, of 80 columns."""

    def __init__(self, terminal: bool, width: int = 80):
        self.now = 0.0
        self.file = io.StringIO()
        console = Console(file=self.file, force_terminal=terminal, width=width, color_system=None)
        self.display = TrainingDisplay(console, 4, METRIC, clock=lambda: self.now)

    def bars(self) -> str:
        """What the bars say now."""
        console = Console(file=io.StringIO(), width=80, color_system=None)
        with console.capture() as captured:
            console.print(self.display._doing, self.display._bars)
        return captured.get()


@pytest.mark.parametrize("width", [50, 80, 120])
def test_lines_of_epochs_fit_and_stand_below_their_header(width: int):
    table = EpochTable(METRIC, width)
    header, first = (line.plain for line in table.lines(epoch_row(1)))
    (second,) = (line.plain for line in table.lines(epoch_row(2)))
    assert len(header) <= width and len(first) == len(second) == len(header)
    assert "0.877*" in first and "*" not in second, "the best epoch so far is starred"
    assert first.split()[:2] == ["1", "12.346"] and header.split()[:2] == ["epoch", "loss"]
    assert first.split()[-2:] == ["12346", "10:00:00"]
    assert header.index("signal auroc") + len("signal auroc") == first.index("0.877") + 5, "aligned"
    assert ("image" in header) == (width >= 80) and ("fused auroc" in header) == (width >= 120)


def test_all_parts_of_the_loss_have_room_in_eighty_columns():
    header, _ = (line.plain for line in EpochTable(METRIC, 80).lines(epoch_row(1)))
    assert header.split() == ["epoch", "loss", "image", "signal", "fused", "kd", "signal", "auroc", "rec/s", "time"]


def test_a_metric_that_is_undefined_is_a_dash_and_the_header_returns():
    table = EpochTable(METRIC, 80)
    lines = [line.plain for epoch in range(1, 31) for line in table.lines(epoch_row(epoch) | {METRIC: None})]
    assert len(lines) == 32 and sum("epoch" in line for line in lines) == 2
    assert lines[2].split()[6] == "-"


def test_bars_of_a_run_that_goes_on_start_where_it_does():
    shown = Shown(terminal=True)
    with shown.display as display:
        assert "starting workers" in shown.bars()
        display.progress(progress_row(3, 50, "starting", rate=None))
        run, epoch = display._bars.tasks
        assert run.completed == 2.5 and (epoch.completed, epoch.total) == (50, 100)
        assert "left" not in shown.bars(), "nothing is known of its speed"
        display.progress(progress_row(3, 50))
        shown.now = 100.0
        display.progress(progress_row(4, 0))
        assert "epoch 4/4" in shown.bars() and "97 records/s" in shown.bars()
        assert "3:20 left" in shown.bars(), "half an epoch took 100 s, and one is left"
        display.progress(progress_row(4, 100, "validate"))
        assert "validating  loss 0.500  kd 0.250" in shown.bars()
        display.epoch(epoch_row(4))
    assert "0.877" in shown.file.getvalue()


def test_bars_fit_in_narrow_terminals():
    for width in (60, 80):
        shown = Shown(terminal=True, width=width)
        shown.display._live = object()  # type: ignore[assignment]
        shown.display.progress(progress_row(1, 50))
        console = Console(file=io.StringIO(), width=width, color_system=None)
        with console.capture() as captured:
            console.print(shown.display._doing, shown.display._bars)
        assert len(captured.get().splitlines()) == 3


def test_a_pipe_gets_plain_lines_at_most_every_thirty_seconds():
    shown = Shown(terminal=False)
    with shown.display as display:
        for half_second in range(121):
            shown.now = half_second / 2
            display.progress(progress_row(3, 45))
        display.epoch(epoch_row(3))
        shown.now += 29
        display.progress(progress_row(4, 1, rate=None))
        shown.now += 1
        display.progress(progress_row(4, 2, "validate", rate=None))
    lines = shown.file.getvalue().splitlines()
    assert lines[:2] == ["still training, epoch 3: 45%, 97 records/s"] * 2
    assert lines[2].split()[0] == "epoch" and lines[3].split()[0] == "3"
    assert lines[4:] == ["still validating, epoch 4: 2%"]
    assert "\x1b" not in shown.file.getvalue() and max(map(len, lines)) <= 80


def test_names_are_short_and_times_read_like_clocks():
    assert [short_name(f"train_{name}") for name in ("cls_image", "kd", "loss")] == ["image", "kd", "loss"]
    assert short_name("val_image_macro_auroc") == "image auroc"
    assert [duration(seconds) for seconds in (4.4, 725, 10_890)] == ["0:04", "12:05", "3:01:30"]
