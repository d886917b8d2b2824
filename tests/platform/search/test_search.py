"""Searches on real Ray Tune: trials inside their own process and as Ray Train runs, failures, stops, more trials."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from vizecg.platform.config import load_config
from vizecg.platform.errors import UserError
from vizecg.platform.search.config import Confirm, SearchConfig
from vizecg.platform.search.journal import Journal
from vizecg.platform.search.proposals import propose
from vizecg.platform.search.run import tune_model
from vizecg.platform.search.schedulers import ReplayedAsha, scored
from vizecg.platform.search.space import Parameter

METRIC = "val_image_macro_auroc"
BASE = {
    "model": {"size": "debug"},
    "data": {"page_width_px": 96, "page_height_px": 72},
    "batch_size": 16,
    "epochs": 2,
    "tracking": {"tensorboard": False},
}
SPACE = {"objective.lambda_kd": {"log_uniform": [0.1, 10.0]}, "model.options.attention_depth": {"choice": [1, 2]}}


def make_search(base: dict[str, Any] | None = None, **values: Any) -> SearchConfig:
    return SearchConfig.model_validate(
        {"base": BASE | (base or {}), "space": SPACE, "num_trials": 3, "max_concurrent": 2, **values}
    )


def lines_of(out: Path) -> list[dict[str, Any]]:
    journal = Journal(out)
    journal.close()
    return journal.events


def test_a_search_ranks_its_trials_and_train_takes_the_best(practice_shards: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    lock = threading.RLock()  # As a progress bar holds one: Ray saves the search with its callbacks.

    def follow(journal: Journal) -> None:
        with lock:
            seen.append(len(journal.events))

    out = tmp_path / "search"
    results = tune_model(practice_shards, out, make_search(), on_change=follow)
    values = [entry.value for entry in results.ranked]
    assert len(values) == 3 and values == sorted(values, reverse=True)
    assert seen == list(range(1, len(seen) + 1))
    best = load_config(out / "best.yaml")
    point = results.ranked[0].trial.point
    assert best.objective.lambda_kd == point["objective.lambda_kd"]
    assert best.model.options["attention_depth"] == point["model.options.attention_depth"]
    assert best.batch_size == 16 and best.model.size == "debug"
    assert "objective.lambda_kd" in (out / "leaderboard.md").read_text()
    assert not list(out.glob("trials/*/checkpoints")), "nobody goes on from trials that have ended"
    row = results.ranked[0].trial.rows[0]
    assert row["latency_ms"] > 0 and row["devices"] == 1 and row["spent_s"] >= row["seconds"] > 0 and row["node"]

    before = lines_of(out)
    again = tune_model(practice_shards, out, make_search())
    assert [entry.value for entry in again.ranked] == values and lines_of(out) == before, "it is finished"

    more = tune_model(practice_shards, out, make_search(num_trials=4))
    assert len(more.ranked) == 4 and {entry.value for entry in more.ranked} >= set(values)
    assert sum(line["event"] == "begun" for line in lines_of(out)) == 4
    with pytest.raises(UserError, match="other input"):
        tune_model(practice_shards, out, make_search(seed=7))


@pytest.mark.chaos
def test_trials_of_two_workers_are_ray_train_runs(practice_shards: Path, tmp_path: Path) -> None:
    search = make_search({"epochs": 1, "scaling": {"num_workers": 2}}, num_trials=1, searcher="random")
    (entry,) = tune_model(practice_shards, tmp_path / "search", search).ranked
    (row,) = entry.trial.rows
    assert row["workers"] == row["devices"] == sum(row["nodes"].values()) == 2 and row["latency_ms"] > 0
    assert entry.trial.status == "finished"


@pytest.mark.chaos
def test_trials_of_two_workers_end_by_themselves(practice_shards: Path, tmp_path: Path) -> None:
    """Trials that ASHA stops give their places back: with those of three kept, six CPUs would hold no fourth."""
    search = make_search({"epochs": 4, "scaling": {"num_workers": 2}}, num_trials=7)
    results = tune_model(practice_shards, tmp_path / "search", search)
    assert len(results.ranked) == 7 and not results.failed and not results.unfinished
    stopped = [entry.trial for entry in results.ranked if entry.trial.status == "stopped"]
    assert stopped and all(trial.epochs < 4 for trial in stopped)


def test_failures_are_told_and_end_nothing(
    practice_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is no number, a process that is killed as for its memory, an exception; one trial is well."""
    from vizecg.platform.search import trial

    ours = trial.run_trial

    def run_trial(config: dict[str, Any], task: Any) -> None:
        weight = config["run"]["point"]["optimizer.weight_decay"]
        if weight == 0.2:
            os.kill(os.getpid(), signal.SIGKILL)
        if weight == 0.3:
            raise RuntimeError("first line\nno kernel for this")
        ours(config, task)

    monkeypatch.setattr(trial, "run_trial", run_trial)
    space = {"optimizer.learning_rate": {"choice": [1e-3]}, "optimizer.weight_decay": {"choice": [0.1, 0.2, 0.3, 1e30]}}
    search = make_search({"epochs": 1}, space=space, searcher="grid", scheduler="fifo", num_trials=None)
    results = tune_model(practice_shards, tmp_path / "search", search)
    assert [entry.trial.point["optimizer.weight_decay"] for entry in results.ranked] == [0.1]
    failed = {entry.point["optimizer.weight_decay"]: entry for entry in results.failed}
    assert "its process died" in (failed[0.2].reason or "")
    assert failed[0.3].reason == "RuntimeError: first line no kernel for this"
    assert "not finite" in (failed[1e30].reason or "")
    assert len(failed[0.2].failures) == len(failed[0.3].failures) == 1, "started again once"
    assert not failed[1e30].failures, "what would fail again is not started again"
    board = (tmp_path / "search" / "leaderboard.md").read_text()
    assert all(f"{weight:g}" in board for weight in failed)


@pytest.mark.chaos
def test_a_budget_stops_a_search_and_a_greater_one_goes_on_to_confirm_the_best(
    practice_shards: Path, tmp_path: Path
) -> None:
    search = make_search({"epochs": 3}, num_trials=2, scheduler="fifo", searcher="random", budget_device_hours=1e-4)
    first = tune_model(practice_shards, tmp_path / "search", search)
    assert first.unfinished, "cut off, not ended"
    greater = search.model_copy(update={"budget_device_hours": 1.0, "confirm": Confirm(top=1, seeds=2)})
    whole = tune_model(practice_shards, tmp_path / "search", greater)
    assert [entry.trial.epochs for entry in whole.ranked] == [3, 3] and not whole.unfinished
    for entry in whole.ranked:
        assert [row["epoch"] for row in entry.trial.rows] == [1, 2, 3], "no epoch twice"
    winner = whole.ranked[0]
    assert winner.num_seeds == 2 and winner.is_confirmed and winner.trial.seed is None
    journal = Journal(tmp_path / "search")
    journal.close()
    assert {trial.id for trial in journal.confirming} == {f"{winner.trial.id}-seed1", f"{winner.trial.id}-seed2"}
    assert len({trial.rows[0]["train_loss"] for trial in journal.confirming}) == 2, "other seeds, other losses"


@pytest.mark.chaos
@pytest.mark.parametrize("scheduler", ["hyperband", "pbt"])
def test_other_schedulers_end(scheduler: str, practice_shards: Path, tmp_path: Path) -> None:
    space = {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}}
    trials = {"hyperband": 8, "pbt": 4}[scheduler]
    search = make_search({"epochs": 4}, space=space, scheduler=scheduler, num_trials=trials, max_concurrent=None)
    results = tune_model(practice_shards, tmp_path / "search", search)
    assert len(results.ranked) == trials and not results.failed and not results.unfinished
    if scheduler == "hyperband":
        assert {entry.trial.status for entry in results.ranked} == {"finished", "stopped"}
    else:
        taken = [entry.trial for entry in results.ranked if entry.trial.source]
        assert taken and all(trial.source["trial"] != trial.id for trial in taken)


def test_rungs_are_those_of_the_unbroken_search(tmp_path: Path) -> None:
    """ASHA rebuilt from the journal decides as the one that never stopped."""

    class Running:
        def __init__(self, name: str):
            self.name = name

        def __str__(self) -> str:
            return self.name

    journal = Journal(tmp_path)
    unbroken = ReplayedAsha(journal, METRIC, max_t=8, grace_period=1, reduction_factor=2)
    for number in range(12):
        name = f"{number:04d}"
        journal.add("begun", name, point={})
        unbroken.on_trial_add(None, Running(name))
        for epoch in range(1, 9):
            row = {"epoch": epoch, METRIC: (number * 7 % 12) / 12 + epoch / 100}
            decision = unbroken.on_trial_result(None, Running(name), scored(row, METRIC))
            journal.add("epoch", name, row=row)
            rebuilt = ReplayedAsha(journal, METRIC, max_t=8, grace_period=1, reduction_factor=2)
            assert rebuilt.rungs() == unbroken.rungs() and rebuilt.stopped == unbroken.stopped
            if decision == "STOP":
                break
    assert unbroken.rungs()[1] and len(unbroken.rungs()[4]) < 12
    journal.close()


@pytest.mark.parametrize("searcher", ["optuna", "random", "grid"])
def test_proposals_depend_on_the_journal_alone(searcher: str, tmp_path: Path) -> None:
    space = {
        "optimizer.learning_rate": {"choice": [1e-4, 1e-3, 1e-2]},
        "model.options.attention_depth": {"integers": [1, 6]},
    }
    search = make_search(space=space, searcher=searcher, num_trials=18)
    journal = Journal(tmp_path)
    points = []
    for number in range(18):
        point = propose(search, METRIC, journal.main)
        assert point == propose(search, METRIC, journal.main)
        points.append(point)
        journal.add("begun", f"{number:04d}", point=point)
        if number % 3:
            value = 1 - abs(point["model.options.attention_depth"] - 4) / 6
            row = {"epoch": 1, METRIC: value, "latency_ms": 1.0, "finished": True, "spent_s": 1, "devices": 1}
            journal.add("epoch", f"{number:04d}", row=row)
            journal.add("ended", f"{number:04d}", status="finished" if number % 2 else "stopped")
    journal.close()
    assert all(
        Parameter.model_validate(space[key]).candidates().count(value) for p in points for key, value in p.items()
    )
    assert len({tuple(point.values()) for point in points}) == 18, "a space that can be counted is not tried twice"


def test_a_space_that_no_trial_can_run_on_is_told_at_once(practice_shards: Path, tmp_path: Path) -> None:
    search = make_search({"scaling": {"use_gpu": True}})
    with pytest.raises(UserError, match="needs 1 CPUs and 1 GPUs and this cluster has 6 and 0"):
        tune_model(practice_shards, tmp_path / "search", search)
    assert not list((tmp_path / "search").iterdir()), "the mended search may take the folder"
