"""Kills at random moments: workers, nodes and drivers of training runs on a cluster of several nodes.

`make chaos`; VIZECG_KILLS says how many kills, 20 where it is not set.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import psutil
import pytest

from vizecg.platform.config import TrainConfig
from vizecg.platform.train.checkpoint import FOLDER, Weights, latest_checkpoint
from vizecg.platform.train.prepare import make_job

pytestmark = pytest.mark.chaos

TINY = (
    "model.size=debug", "data.page_width_px=128", "data.page_height_px=96", "batch_size=16",
    "optimizer.learning_rate=1e-3", "scaling.threads_per_worker=1",
)  # fmt: skip
KILLS = int(os.environ.get("VIZECG_KILLS", "20"))
TIMEOUT_S = 300


class TestCluster:
    """A head without CPUs and nodes that come and go, all on this machine."""

    __test__ = False

    def __init__(self, num_nodes: int):
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self.add_node() for _ in range(num_nodes)]

    def add_node(self) -> Any:
        node = self.cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        self.cluster.wait_for_nodes(60)
        return node

    def kill_node(self, number: int) -> None:
        """All its processes at once, as when a machine goes: workers would outlive their raylet."""
        node = self.nodes.pop(number)
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        processes = raylet.children(recursive=True)
        self.cluster.remove_node(node, allow_graceful=False)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def workers(self) -> list[psutil.Process]:
        """Processes of training workers."""
        raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in self.nodes]
        processes = [process for raylet in raylets for process in raylet.children(recursive=True)]
        return [process for process in processes if "RayTrainWorker" in " ".join(_cmdline(process))]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "RAY_ADDRESS": self.cluster.address}


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    made = TestCluster(2)
    yield made
    made.cluster.shutdown()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, cluster: TestCluster) -> Path:
    """As `practice_shards`, but written on the cluster of this module."""
    folder = tmp_path_factory.mktemp("chaos")
    for verb in (
        ["practice", str(folder / "archive"), "--records", "120", "--seed", "5"],
        ["shard", str(folder / "archive"), str(folder / "shards"), "--page-width-px", "160", "--page-height-px", "120"],
    ):
        assert Popen([sys.executable, "-m", "vizecg.platform.cli", *verb], stdout=DEVNULL).wait(TIMEOUT_S) == 0
    return folder / "shards"


def train(cluster: TestCluster, shards: Path, out: Path, options: list[str]) -> Popen:
    command = [sys.executable, "-m", "vizecg.platform.cli", "train", str(shards), str(out), *options]
    log = (out.parent / f"{out.name}.log").open("a")
    return Popen(command, env=cluster.environment(), stdout=log, stderr=log)


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def progress(out: Path) -> dict[str, Any]:
    return json.loads((out / "progress.json").read_text()) if (out / "progress.json").exists() else {"step": 0}


def wait_for_step(out: Path, step: int, driver: Popen) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while progress(out)["step"] < step and driver.poll() is None:
        assert time.monotonic() < deadline, f"no step {step} within {TIMEOUT_S} s"
        time.sleep(0.02)


def final_weights(shards: Path, out: Path, config: TrainConfig) -> Weights:
    found = latest_checkpoint(out / FOLDER, make_job(shards, config).identity)
    assert found is not None and found.state.epoch == config.epochs
    return found.weights["model"]


def test_runs_end_alike_wherever_they_are_killed(
    cluster: TestCluster, shards: Path, tmp_path: Path,
    tiny_config: Callable[..., TrainConfig], tiny_command: Callable[..., list[str]],
) -> None:  # fmt: skip
    """One worker ends bit for bit where the undisturbed run does, two within 1e-5; no run is lost."""
    rng = random.Random(0)
    expected = {}
    options = ("epochs=5", "checkpoint.every_steps=1", "model.options.dropout=0.3")
    for workers in (1, 2):
        out = tmp_path / f"undisturbed-{workers}"
        assert train(cluster, shards, out, tiny_command(*options, f"scaling.num_workers={workers}")).wait(600) == 0
        expected[workers] = final_weights(shards, out, tiny_config(*options))
    for number in range(KILLS):
        workers, victim = 1 + number % 2, ("worker", "node", "driver")[number % 3]
        out = tmp_path / f"run-{number}"
        arguments = tiny_command(*options, f"scaling.num_workers={workers}")
        driver = train(cluster, shards, out, arguments)
        wait_for_step(out, rng.randint(1, 26), driver)
        time.sleep(rng.random() * 0.2)
        writing = bool(list((out / FOLDER).glob(".writing-*step*")))
        step = progress(out)["step"]
        kill(victim, cluster, driver, out, rng)
        if victim == "driver":
            driver.wait()
            driver = train(cluster, shards, out, arguments)
        assert driver.wait(600) == 0, (out.parent / f"{out.name}.log").read_text()[-2000:]
        after = final_weights(shards, out, tiny_config(*options))
        apart = max(float((after[name].double() - expected[workers][name].double()).abs().max()) for name in after)
        during = " while a checkpoint was written" if writing else ""
        print(f"kill {number}: {victim} of a run on {workers} at step {step}{during}: largest difference {apart:.1e}")
        assert apart == 0 if workers == 1 else apart < 1e-5
        assert (out / "bundle" / "bundle.json").exists()


def kill(victim: str, cluster: TestCluster, driver: Popen, out: Path, rng: random.Random) -> None:
    if victim == "driver":
        driver.kill()
    elif victim == "node":
        cluster.kill_node(rng.randrange(len(cluster.nodes)))
        cluster.nodes.append(cluster.add_node())
    else:
        rng.choice(cluster.workers()).send_signal(signal.SIGKILL)


def used_records(out: Path) -> list[dict[str, Any]]:
    """What elastic_run.py wrote down, in the order of starts."""
    rows = [json.loads(line) for file in out.glob("used-*.jsonl") for line in file.read_text().splitlines()]
    return sorted(rows, key=lambda row: (row["generation"], row["step"]))


def test_workers_come_and_go_and_every_record_is_used_once(
    cluster: TestCluster, shards: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    """Starts with two workers, loses one, goes on alone, regains one."""
    out = tmp_path / "elastic"
    options = ["epochs=40", "scaling.num_workers=[1, 2]", "scaling.resize_every_s=10", "checkpoint.every_steps=1"]
    program = Path(__file__).with_name("elastic_run.py")
    command = [sys.executable, str(program), str(shards), str(out), *TINY, *options]
    with (tmp_path / "elastic.log").open("w") as log:
        driver = Popen(command, env=cluster.environment(), stdout=log, stderr=log)

    def wait_for_workers(number: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not (rows := used_records(out)) or rows[-1]["workers"] != number:
            assert driver.poll() is None and time.monotonic() < deadline, f"no step of {number} workers"
            time.sleep(0.5)

    wait_for_workers(2)
    cluster.kill_node(0)
    wait_for_workers(1)
    cluster.nodes.append(cluster.add_node())
    wait_for_workers(2)
    assert driver.wait(900) == 0, (tmp_path / "elastic.log").read_text()[-2000:]
    last: dict[int, int] = {row["step"]: row["generation"] for row in used_records(out)}
    used: dict[int, Counter[str]] = defaultdict(Counter)
    for row in used_records(out):
        if row["generation"] == last[row["step"]]:
            used[row["epoch"]].update(row["ids"])
    job = make_job(shards, tiny_config(*options))
    assert sorted(used) == list(range(40))
    for epoch, counts in used.items():
        assert len(counts) == job.num_train and set(counts.values()) == {1}, f"epoch {epoch}"
    sizes = [row["workers"] for row in used_records(out)]
    print("workers over time:", [size for size, before in zip(sizes, [None, *sizes], strict=False) if size != before])


def test_an_announced_preemption_costs_no_step(
    cluster: TestCluster, shards: Path, tmp_path: Path, tiny_command: Callable[..., list[str]]
) -> None:
    """No checkpoint is due; Ray says that a node will go, it goes, and the run goes on from what was saved for it."""
    out = tmp_path / "preempted"
    options = tiny_command("epochs=40", "scaling.num_workers=[1, 2]", "checkpoint.every_s=1e6", "batch_size=64")
    driver = train(cluster, shards, out, [*options, "--set", "early_stopping.patience=39"])
    wait_for_step(out, 3, driver)
    before = {path.name for path in (out / FOLDER).glob("epoch*")}
    node = cluster.nodes[0]
    drain = [
        "ray", "drain-node", "--address", cluster.cluster.address, "--node-id", node.node_id,
        "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "test", "--deadline-remaining-seconds", "40",
    ]  # fmt: skip
    drain[0] = str(Path(sys.executable).with_name("ray"))
    assert Popen(drain, env=cluster.environment(), stdout=DEVNULL).wait(60) == 0
    deadline, within_epoch = time.monotonic() + 40, False
    while not within_epoch and time.monotonic() < deadline:
        names = {path.name for path in (out / FOLDER).glob("epoch*-step*")} - before
        within_epoch = any(int(name[-8:]) % 2 for name in names)
        time.sleep(0.05)
    assert within_epoch, "a checkpoint between the two steps of an epoch"
    cluster.kill_node(0)
    cluster.nodes.append(cluster.add_node())
    assert driver.wait(600) == 0, (out.parent / f"{out.name}.log").read_text()[-2000:]
    assert (out / "bundle" / "bundle.json").exists()
