"""What a terminal and a log show of a scoring run."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from vizecg.platform.score.job import Progress
from vizecg.platform.scoring_display import ScoringDisplay, rejects

NOW = Progress(
    pages=12_300, scored=12_000, rejected={"not_an_ecg": 200, "truncated": 90, "too_large": 7, "broken": 3},
    items=12_345, num_items=100_000, resumed_items=345, elapsed_s=240.0, pages_per_s=51.2, items_per_s=50.0,
    eta_s=1753.0, predictors=6, nodes=3,
)  # fmt: skip


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def log() -> tuple[io.StringIO, Console]:
    file = io.StringIO()
    return file, Console(file=file, width=60, force_terminal=False)


def test_a_log_gets_a_line_every_half_minute():
    file, console = log()
    clock = Clock()
    with ScoringDisplay(console, "scoring scans", clock) as display:
        for second in range(300):
            clock.now = float(second)
            display(replace(NOW, items=NOW.items + second))
        lines = file.getvalue().splitlines()
    assert len(lines) == 10, "the first at once, then one in 30 s of 300"
    assert lines[0] == (
        "scoring scans: 12,345 of 100,000 (12 %), 51.2 pages/s, 29:13 left, "
        "300 rejected (200 not_an_ecg, 90 truncated, 7 too_large, 3 others), 6 predictors on 3 nodes"
    ), "in one line, however narrow the log"
    assert "12,644 of 100,000" in file.getvalue().splitlines()[-1], "the end is said"


def test_a_log_has_no_control_characters():
    file, console = log()
    with ScoringDisplay(console, "scoring [scans]") as display:
        display(NOW)
    assert "\x1b" not in file.getvalue() and "\r" not in file.getvalue()
    assert file.getvalue().startswith("scoring [scans]: "), "brackets of a path are no markup"


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_terminal_shows_two_lines(width: int):
    file = io.StringIO()
    display = ScoringDisplay(Console(file=file, width=width, force_terminal=True), "scoring scans")
    display(NOW)
    shown = Console(file=io.StringIO(), width=width, color_system=None)
    with shown.capture() as captured:
        shown.print(display._draw())
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert len(lines) == 2 and max(map(len, lines)) <= width
    assert "12,345/100,000" in lines[0] and "51.2 pages/s, 29:13 left" in lines[0]
    assert "12,000 pages scored" in lines[1]
    if width >= 120:
        assert "300 rejected (200 not_an_ecg, 90 truncated, 7 too_large, 3 others)  6 predictors on 3" in lines[1]


def test_the_end_says_how_it_went():
    file, console = log()
    done = replace(NOW, items=100_000, eta_s=0.0, rejected={}, predictors=1, nodes=1)
    with ScoringDisplay(console, "scoring") as display:
        display(done)
    lines = file.getvalue().splitlines()
    assert lines[0] == "scoring: 100,000 of 100,000 (100 %), 51.2 pages/s, 1 predictor", "nothing is left"
    # 99,655 in 240 s: those of earlier starts took none of this time.
    assert lines[-1] == (
        "scoring, 100,000 of 100,000 done, 345 of them in earlier starts, in 4:00, 415 a second, 12,000 pages scored"
    )


def test_a_stopped_run_says_where():
    file, console = log()
    with pytest.raises(KeyboardInterrupt), ScoringDisplay(console, "scoring") as display:
        display(NOW)
        raise KeyboardInterrupt
    assert file.getvalue().splitlines()[-1].startswith("scoring, stopped: 12,345 of 100,000 done")


def test_nothing_is_said_where_nothing_began():
    file, console = log()
    with ScoringDisplay(console, "scoring"):
        pass
    assert file.getvalue() == ""


def test_almost_all_is_not_all():
    file, console = log()
    with ScoringDisplay(console, "scoring") as display:
        display(replace(NOW, items=99_999))
    assert "99,999 of 100,000 (99 %)" in file.getvalue()


def test_rejects_of_few_kinds_are_all_named():
    assert rejects(replace(NOW, rejected={"truncated": 1, "broken": 2})) == "3 rejected (2 broken, 1 truncated)"
    assert rejects(replace(NOW, rejected={})) == ""
