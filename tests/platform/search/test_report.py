"""Charts, importance, nodes and the report: true to the trials, well formed, and harmless whatever stands in them."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import optuna
import pytest
from scipy import stats

from vizecg.platform.search import journal as journal_module
from vizecg.platform.search.chart_dimensions import mean_and_half
from vizecg.platform.search.chart_nodes import lanes
from vizecg.platform.search.chart_parts import Axis
from vizecg.platform.search.config import SearchConfig
from vizecg.platform.search.importance import importances
from vizecg.platform.search.journal import Journal
from vizecg.platform.search.ranking import comparable
from vizecg.platform.search.results import write_results
from vizecg.platform.search.space import Parameter
from vizecg.platform.search.utilisation import Stretch, node_uses, span_s, stretches

METRIC = "val_image_macro_auroc"
DEPTH, RATE, MUTUAL = "model.options.attention_depth", "optimizer.learning_rate", "objective.mutual"
SPACE = {DEPTH: {"integers": [1, 4]}, RATE: {"log_uniform": [1e-4, 1e-2]}, MUTUAL: {"choice": [True, False]}}


class Clock:
    """What the journal takes for the time."""

    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(journal_module, "time", clock)
    return clock


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


def make_search(**changes: Any) -> SearchConfig:
    return SearchConfig.model_validate({"base": {"epochs": 3}, "space": SPACE, "num_trials": 12} | changes)


def add_epoch(
    journal: Journal, trial: str, epoch: int, value: float | None, spent_s: float = 5.0, node: str = "a"
) -> None:
    row = {"epoch": epoch, METRIC: value, "node": node, "spent_s": spent_s, "devices": 1, "latency_ms": None}
    journal.add("epoch", trial, row=row)


def add_random_trials(journal: Journal, count: int, finished: int) -> None:
    """The metric depends on depth alone; those that do not finish stop after the first epoch."""
    draw = random.Random(0)
    journal.add("start", nodes={"a": 1}, at_once=1)
    for number in range(count):
        name, depth = f"{number:04d}", draw.randint(1, 4)
        point = {DEPTH: depth, RATE: 10 ** draw.uniform(-4, -2), MUTUAL: draw.random() < 0.5}
        journal.add("begun", name, point=point)
        for epoch in range(1, 4 if number < finished else 2):
            add_epoch(journal, name, epoch, 0.5 + 0.05 * depth + 0.02 * epoch + draw.gauss(0, 0.002))
        journal.add("ended", name, status="finished" if number < finished else "stopped")


def test_importance_finds_what_the_metric_depends_on(journal: Journal):
    add_random_trials(journal, count=24, finished=8)
    early, late = importances(make_search(), journal.main, METRIC)
    assert (early.num_trials, late.num_trials) == (24, 8) and "epoch 1" in early.title
    assert next(iter(early.shares)) == DEPTH and early.shares[DEPTH] > 0.9
    assert sum(early.shares.values()) == pytest.approx(1) and set(early.shares) == set(SPACE)


def test_importance_of_few_finished_trials_is_left_out(journal: Journal):
    add_random_trials(journal, count=12, finished=7)
    assert [found.num_trials for found in importances(make_search(), journal.main, METRIC)] == [12]


def test_importance_leaves_optuna_as_loud_as_it_was(journal: Journal):
    add_random_trials(journal, count=8, finished=0)
    before = optuna.logging.get_verbosity()
    try:
        optuna.logging.set_verbosity(optuna.logging.INFO)
        importances(make_search(), journal.main, METRIC)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(before)


@pytest.mark.parametrize(("count", "why"), [(5, "too few"), (8, "same metric")])
def test_importance_says_why_there_is_none(journal: Journal, count: int, why: str):
    for number in range(count):
        journal.add("begun", f"{number:04d}", point={DEPTH: 1 + number % 4, RATE: 1e-3, MUTUAL: True})
        add_epoch(journal, f"{number:04d}", 1, 0.75)
    (found,) = importances(make_search(), journal.main, METRIC)
    assert not found.shares and why in found.why_not


def test_trials_are_compared_at_one_epoch(journal: Journal):
    add_random_trials(journal, count=6, finished=2)
    early, late = comparable(make_search(), journal.main, METRIC)
    assert early.values == [trial.rows[0][METRIC] for trial in journal.main]
    assert late.values == [trial.rows[2][METRIC] for trial in journal.main[:2]]
    (alone,) = comparable(make_search(scheduler="fifo"), journal.main, METRIC)
    assert alone.trials == journal.main[:2]


def test_interval_is_students(journal: Journal):
    values = [0.7, 0.72, 0.8, 0.75]
    mean, half = mean_and_half(values)
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high))


def test_log_axis_is_even_in_factors_and_its_ticks_stand_at_their_values():
    axis = Axis.of(Parameter.model_validate({"log_uniform": [0.03, 30.0]}))
    assert [axis.at(x) for x in (0.03, 0.3, 3.0, 30.0)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for parameter in ({"log_uniform": [0.03, 30.0]}, {"log_uniform": [0.9, 1.1]}, {"uniform": [-1.5, 0.25]}):
        axis = Axis.of(Parameter.model_validate(parameter))
        ticks = axis.ticks()
        assert 2 <= len(ticks) <= 8
        assert [axis.at(float(words)) for _, words in ticks] == pytest.approx([share for share, _ in ticks], abs=0.02)


def test_each_choice_has_a_place_of_its_own():
    axis = Axis.of(Parameter.model_validate({"choice": [None, True, False, "a", 4]}))
    assert [axis.at(value) for value in (None, True, False, "a", 4)] == pytest.approx(np.arange(0.1, 1, 0.2))
    assert [words for _, words in axis.ticks()] == ["null", "true", "false", "a", "4"]


def test_equal_metrics_still_have_an_axis():
    axis = Axis.over([0.75, 0.75])
    assert axis.low < 0.75 < axis.high and len(axis.ticks()) >= 2


def test_node_use_leaves_out_the_time_between_two_starts(journal: Journal, clock: Clock):
    journal.add("start", nodes={"a": 2, "b": 1}, at_once=3)
    journal.add("begun", "0000", point={})
    clock.now += 10
    add_epoch(journal, "0000", 1, 0.5, spent_s=8.0, node="a")
    clock.now += 5000
    journal.add("start", nodes={"a": 2}, at_once=2)
    clock.now += 20
    add_epoch(journal, "0000", 2, 0.6, spent_s=25.0, node="b")
    add_epoch(journal, "0000", 3, 0.6, spent_s=1.0, node="came-later")
    uses = {use.node: (use.num_trials, use.busy_device_s, use.capacity_device_s) for use in node_uses(journal)}
    assert uses == {"a": (1, 8, 60), "b": (1, 25, 10), "came-later": (1, 1, None)}
    assert span_s(journal) == 30
    # An epoch cannot have begun before the start of the search that it came in after.
    assert [(s.node, s.begin_s, s.end_s) for s in stretches(journal)] == [
        ("a", 2, 10), ("b", 10, 30), ("came-later", 29, 30),
    ]  # fmt: skip


def test_epochs_that_follow_each_other_are_one_stretch(journal: Journal, clock: Clock):
    journal.add("start", nodes={"a": 1}, at_once=1)
    journal.add("begun", "0000", point={})
    for epoch in (1, 2, 3):
        clock.now += 5
        add_epoch(journal, "0000", epoch, 0.5)
    assert [(s.begin_s, s.end_s) for s in stretches(journal)] == [(0, 15)]


def test_what_ran_at_once_stands_in_lanes_of_its_own(journal: Journal):
    journal.add("begun", "0000", point={})
    trial = journal.trials["0000"]
    spans = [(0, 10), (2, 6), (6, 12), (10, 14)]
    found = lanes([Stretch(trial=trial, node="a", begin_s=begin, end_s=end) for begin, end in spans])
    assert [[(s.begin_s, s.end_s) for s in lane] for lane in found] == [[(0, 10), (10, 14)], [(2, 6), (6, 12)]]


def _written(journal: Journal, search: SearchConfig) -> tuple[str, dict[str, ElementTree.Element]]:
    write_results(journal.folder, search, journal)
    plots = {path.stem: ElementTree.parse(path).getroot() for path in (journal.folder / "plots").iterdir()}
    return (journal.folder / "report.html").read_text(), plots


def _marks(root: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [element for element in root.iter() if kind in element.get("class", "").split()]


def test_charts_draw_every_trial(journal: Journal):
    add_random_trials(journal, count=12, finished=4)
    _, plots = _written(journal, make_search())
    assert len(_marks(plots["parallel"], "path")) == 12
    assert len(_marks(plots["parallel"], "best")) == 2  # a line, and its mark in the legend
    over_depth = plots["metric-over-model-options-attention-depth"]
    assert len([mark for mark in _marks(over_depth, "dot") if mark.get("r") == "3"]) == 12 + 4 - 2
    assert len(_marks(plots["growth"], "dot")) == 12 + 4 * 2 + 3
    survived = {text.text for text in plots["survival"].iter() if "name" in text.get("class", "").split()}
    assert survived == {"12", "4"}
    assert "pareto" not in plots


def test_coordinates_are_numbers_in_the_picture(journal: Journal):
    add_random_trials(journal, count=12, finished=4)
    for number, root in enumerate(_written(journal, make_search())[1].values()):
        _, _, width, height = (float(part) for part in root.get("viewBox", "").split())
        for element in root.iter():
            for name, most in (("cx", width), ("x1", width), ("x2", width), ("cy", height), ("y1", height)):
                assert 0 <= float(element.get(name, 0)) <= most, (number, element.attrib)
            for point in element.get("points", "").split():
                x, y = (float(part) for part in point.split(","))
                assert 0 <= x <= width and 0 <= y <= height, (number, element.attrib)


@pytest.mark.parametrize("scheduler", ["asha", "fifo", "hyperband"])
@pytest.mark.parametrize("values", [[0.75], [None, 0.75, None], [0.75, 0.75, 0.75]])
def test_one_trial_is_enough_for_a_report(journal: Journal, scheduler: str, values: list[float | None]):
    journal.add("begun", "0000", point={DEPTH: 1, RATE: 1e-3, MUTUAL: True})
    for epoch, value in enumerate(values, 1):
        add_epoch(journal, "0000", epoch, value)
    page, _ = _written(journal, make_search(scheduler=scheduler))
    assert "Trial 0000 has the highest" in page and not re.search(r"\bnan\b", page)


def test_report_of_a_population_that_went_back_to_earlier_epochs(journal: Journal):
    search = make_search(scheduler="pbt", space={RATE: SPACE[RATE], MUTUAL: SPACE[MUTUAL]})
    for name in ("0000", "0001"):
        journal.add("begun", name, point={RATE: 1e-3, MUTUAL: True})
        for epoch in (1, 2, 3):
            add_epoch(journal, name, epoch, 0.6 + 0.01 * epoch)
    journal.add(
        "changed",
        "0001",
        point={RATE: 2e-3, MUTUAL: False},
        source={"trial": "0000", "checkpoint": "epoch0001-step00000001"},
    )
    for epoch in (2, 3):
        add_epoch(journal, "0001", epoch, 0.7 + 0.01 * epoch)
    page, plots = _written(journal, search)
    assert len(_marks(plots["learning"], "path")) == 3  # 0001 in two pieces
    assert "population based training changes the values" in page


def test_report_tells_of_failures_with_their_configuration_and_runs_nothing(journal: Journal):
    add_random_trials(journal, count=2, finished=1)
    journal.add("begun", "0002", point={DEPTH: 3, RATE: 1e-3, MUTUAL: False})
    journal.add("failure", "0002", reason="<script>alert(1)</script>")
    journal.add("ended", "0002", status="failed", reason="killed & gone")
    page, _ = _written(journal, make_search())
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page and "killed &amp; gone" in page
    assert re.search(r"attention_depth 3,\s*learning_rate 0.001,\s*mutual false", page)
    assert not re.findall(r"""(?:src|href)=["'](?!#)|url\(|@import|https?://""", page)


def test_report_counts_what_the_search_spent(journal: Journal):
    add_random_trials(journal, count=6, finished=2)
    page, _ = _written(journal, make_search())
    assert "<b>56 %</b><small>of the epochs of 6 full trials: 10 of 18</small>" in page
    assert "<b>50 s</b><small>of device time</small>" in page
    assert "trials: 2 finished, 4 stopped" in page
