"""Searches whose driver is killed at random moments, and searches on a cluster of several nodes.

`make chaos`; VIZECG_KILLS says how many kills, 10 where it is not set.
"""

import csv
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
import yaml

from vizecg.platform.search.journal import JOURNAL, Journal
from vizecg.platform.search.schedulers import ReplayedAsha
from vizecg.platform.search.utilisation import node_uses

pytestmark = pytest.mark.chaos

KILLS = int(os.environ.get("VIZECG_KILLS", "10"))
TIMEOUT_S = 600
METRIC = "val_image_macro_auroc"
BASE = {
    "model": {"size": "debug"},
    "data": {"page_width_px": 96, "page_height_px": 72},
    "batch_size": 16,
    "epochs": 4,
    "scaling": {"threads_per_worker": 1},
}
DEPTHS, RATES = [1, 2], [5e-4, 1e-3, 2e-3, 4e-3, 8e-3]
GRID = {
    "base": BASE,
    "space": {"model.options.attention_depth": {"choice": DEPTHS}, "optimizer.learning_rate": {"choice": RATES}},
    "searcher": "grid",
    "scheduler": "fifo",
}
ASHA = {**GRID, "searcher": "optuna", "scheduler": "asha", "num_trials": 14}
ASHA["space"] = {**GRID["space"], "optimizer.learning_rate": {"log_uniform": [5e-4, 8e-3]}}
SEARCHES = {
    "grid-fifo": GRID,
    "optuna-asha": ASHA,
    "hyperband": {**ASHA, "searcher": "random", "scheduler": "hyperband", "num_trials": 10},
    "pbt": {**ASHA, "scheduler": "pbt", "num_trials": 5, "space": {"optimizer.learning_rate": {"choice": RATES}}},
    "confirm": {**ASHA, "num_trials": 4, "confirm": {"top": 2, "seeds": 2}},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes with a CPU each, and a head without."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(3):
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    cluster.wait_for_nodes(60)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def address(cluster: Any) -> str:
    return cluster.address


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chaos")
    for verb in (
        ["practice", str(folder / "archive"), "--records", "120", "--seed", "5"],
        ["shard", str(folder / "archive"), str(folder / "shards"), "--page-width-px", "160", "--page-height-px", "120"],
    ):
        assert Popen([sys.executable, "-m", "vizecg.platform.cli", *verb], stdout=DEVNULL).wait(TIMEOUT_S) == 0
    return folder / "shards"


def tune(address: str, shards: Path, out: Path, search: dict[str, Any]) -> Popen:
    """`vizecg tune` in a process of its own."""
    config = out.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(search))
    command = [sys.executable, "-m", "vizecg.platform.cli", "tune", str(shards), str(out), "--config", str(config)]
    log = out.with_suffix(".log").open("a")
    return Popen(command, env={**os.environ, "RAY_ADDRESS": address}, stdout=log, stderr=log)


def whole_lines(out: Path) -> list[bytes]:
    path = out / JOURNAL
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def read(out: Path) -> Journal:
    """What the journal says, also while a search holds it."""
    with TemporaryDirectory() as copy:
        (Path(copy) / JOURNAL).write_bytes(b"".join(line + b"\n" for line in whole_lines(out)))
        journal = Journal(Path(copy))
        journal.close()
    return journal


def rungs(out: Path) -> dict[int, dict[str, float]]:
    return ReplayedAsha(read(out), METRIC, max_t=BASE["epochs"], grace_period=1, reduction_factor=2).rungs()


def epochs_trained(out: Path, trial: str) -> list[int]:
    """Every epoch as often as it was trained."""
    return [json.loads(line)["epoch"] for line in (out / "trials" / trial / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", SEARCHES)
def test_killed_searches_go_on(address: str, shards: Path, tmp_path: Path, name: str) -> None:
    out, rng, search = tmp_path / "killed", random.Random(3), SEARCHES[name]
    driver = tune(address, shards, out, search)
    for kill in range(KILLS):
        wanted = len(whole_lines(out)) + rng.randint(1, 5)
        deadline = time.monotonic() + TIMEOUT_S
        while len(whole_lines(out)) < wanted and driver.poll() is None:
            assert time.monotonic() < deadline, out.with_suffix(".log").read_text()[-3000:]
            time.sleep(0.01)
        time.sleep(rng.random() * 0.5)
        if driver.poll() is not None:
            break
        driver.kill()
        driver.wait()
        before, ended = whole_lines(out), [trial for trial in read(out).trials.values() if trial.ended]
        reached = rungs(out)
        print(f"kill {kill}: {len(before)} events, {len(ended)} trials ended")
        driver = tune(address, shards, out, search)
        while len(whole_lines(out)) <= len(before) and driver.poll() is None:
            assert time.monotonic() < deadline, out.with_suffix(".log").read_text()[-3000:]
            time.sleep(0.01)
        assert whole_lines(out)[: len(before)] == before, "what happened stays"
        for epoch, scores in reached.items() if name == "optuna-asha" else ():
            assert scores.items() <= rungs(out)[epoch].items(), "no rung is lost"
    assert driver.wait(TIMEOUT_S) == 0, out.with_suffix(".log").read_text()[-3000:]
    journal = read(out)
    assert len(journal.main) == search.get("num_trials", 10) and len(journal.confirming) == 4 * (name == "confirm")
    assert all(trial.status in ("finished", "stopped") for trial in journal.trials.values())
    again = 0
    for trial in () if name == "pbt" else journal.trials.values():
        assert [row["epoch"] for row in trial.rows] == list(range(1, trial.epochs + 1)), "no epoch twice"
        trained = epochs_trained(out, trial.id)
        again += len(trained) - len(set(trained))
    print(f"{again} epochs trained again after {KILLS} kills, each the one that was not in a checkpoint yet")
    ends = [event["trial"] for event in journal.events if event["event"] == "ended"]
    assert len(ends) == len(set(ends)) == len(journal.trials), "no trial ended twice"
    if name == "grid-fifo":
        unbroken = tmp_path / "unbroken"
        assert tune(address, shards, unbroken, search).wait(TIMEOUT_S) == 0
        assert (out / "leaderboard.csv").read_text() == (unbroken / "leaderboard.csv").read_text()
        assert (out / "best.yaml").read_text() == (unbroken / "best.yaml").read_text()


def test_a_search_uses_all_nodes(address: str, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "nodes"
    assert tune(address, shards, out, {**GRID, "num_trials": 9}).wait(TIMEOUT_S) == 0
    journal = read(out)
    nodes = {row["node"] for trial in journal.trials.values() for row in trial.rows}
    assert len(nodes) == 3 and nodes <= journal.started[0]["nodes"].keys()
    assert sum(journal.started[0]["nodes"].values()) == journal.started[0]["at_once"] == 3
    with (out / "trials.csv").open() as file:
        assert {line["nodes"] for line in csv.DictReader(file)} == nodes
    for use in node_uses(journal):
        print(f"node {use.node}: {use.num_trials} trials, {use.share or 0:.0%} of its time")
    report = (out / "report.html").read_text()
    assert all(node in report for node in nodes)


def test_a_killed_trial_of_two_workers_goes_on(cluster: Any, shards: Path, tmp_path: Path) -> None:
    """The process that waits for its workers is killed; their places must be free for the next start."""
    out = tmp_path / "two"
    base = {**BASE, "epochs": 6, "scaling": {"num_workers": 2, "threads_per_worker": 1}}
    driver = tune(cluster.address, shards, out, {**GRID, "base": base, "num_trials": 1})
    deadline = time.monotonic() + TIMEOUT_S
    while not any(b'"epoch"' in line for line in whole_lines(out)):
        assert time.monotonic() < deadline and driver.poll() is None, out.with_suffix(".log").read_text()[-3000:]
        time.sleep(0.05)
    raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in cluster.list_all_nodes()]
    processes = [process for raylet in raylets for process in raylet.children(recursive=True)]
    waiting = [process for process in processes if "ImplicitFunc" in " ".join(process.cmdline())]
    assert waiting
    for process in waiting:
        process.kill()
    assert driver.wait(TIMEOUT_S) == 0, out.with_suffix(".log").read_text()[-3000:]
    (trial,) = read(out).trials.values()
    assert trial.status == "finished" and trial.failures == [
        "its process died; the operating system kills what takes too much memory"
    ]
    assert [row["epoch"] for row in trial.rows] == list(range(1, 7))
