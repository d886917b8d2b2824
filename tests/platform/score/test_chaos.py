"""Kill -9 of predictors, nodes and drivers of a scoring run at random moments: every page once in the output.

`make chaos`; VIZECG_KILLS says how many kills, 30 where it is not set.
"""

import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.chaos

KILLS = int(os.environ.get("VIZECG_KILLS", "30"))
NUM_PAGES = 3000
TIMEOUT_S = 300


class Nodes:
    """A head without CPUs and nodes that come and go, all on this machine."""

    def __init__(self, num_nodes: int):
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self.add() for _ in range(num_nodes)]

    def add(self) -> Any:
        node = self.cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
        self.cluster.wait_for_nodes(60)
        return node

    def processes(self, node: Any) -> list[psutil.Process]:
        return psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True)

    def kill_node(self, rng: random.Random) -> None:
        """All its processes at once, as when a machine goes; another node takes its place."""
        node = self.nodes.pop(rng.randrange(len(self.nodes)))
        processes = self.processes(node)
        self.cluster.remove_node(node, allow_graceful=False)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.nodes.append(self.add())

    def kill_predictor(self, rng: random.Random) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := [p for node in self.nodes for p in self.processes(node) if _is_predictor(p)]):
            assert time.monotonic() < deadline, "no predictor at work"
            time.sleep(0.1)
        with suppress(psutil.NoSuchProcess):
            rng.choice(found).kill()


def _is_predictor(process: psutil.Process) -> bool:
    try:
        return "PageScorer" in " ".join(process.cmdline())
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    made = Nodes(2)
    yield made
    made.cluster.shutdown()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, pages: list[bytes]) -> Path:
    """Pictures, one in twenty of which cannot be read."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(NUM_PAGES):
        page = pages[number % len(pages)]
        (folder / f"{number:05d}.png").write_bytes(page if number % 20 else page[: number % 1000])
    return folder


def score(nodes: Nodes, bundle: Path, archive: Path, out: Path) -> Popen:
    options = ["--predictors", "2:2", "--cpus-per-predictor", "1", "--chunk-pages", "32"]
    command = [sys.executable, "-m", "vizecg.platform.cli", "score", str(bundle), str(archive), str(out), *options]
    log = (out.parent / f"{out.name}.log").open("a")
    environment = {**os.environ, "RAY_ADDRESS": nodes.cluster.address, "OMP_NUM_THREADS": "1"}
    return Popen(command, env=environment, stdin=DEVNULL, stdout=log, stderr=log)


def table_of(out: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(file) for file in sorted((out / "scores").glob("*.parquet"))).sort_by("id")


def wait_for_rows(out: Path, driver: Popen) -> None:
    """Until the first rows lie on the disk."""
    deadline = time.monotonic() + TIMEOUT_S
    while not any((out / "progress").glob("*.parquet")) and driver.poll() is None:
        assert time.monotonic() < deadline, "no rows"
        time.sleep(0.02)


def test_every_page_is_in_the_output_once(nodes: Nodes, bundle_folder: Path, archive: Path, tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("VIZECG_SEED", "0")))
    undisturbed = tmp_path / "undisturbed"
    assert score(nodes, bundle_folder, archive, undisturbed).wait(600) == 0
    expected = table_of(undisturbed)
    assert len(expected) == NUM_PAGES
    for number in range(KILLS):
        victim = ("predictor", "node", "driver")[number % 3]
        out = tmp_path / f"run-{number}"
        driver = score(nodes, bundle_folder, archive, out)
        if victim == "driver" and number % 2:
            time.sleep(rng.uniform(1, 12))  # Also before the first row, and while the run is being set up.
        else:
            wait_for_rows(out, driver)
            time.sleep(rng.uniform(0, 6))
        running = driver.poll() is None
        rows = sum(pq.read_metadata(file).num_rows for file in out.glob("progress/*.parquet"))
        if victim == "predictor":
            nodes.kill_predictor(rng)
        elif victim == "node":
            nodes.kill_node(rng)
        else:
            driver.kill()
            driver.wait()
            driver = score(nodes, bundle_folder, archive, out)
        assert driver.wait(600) == 0, (tmp_path / f"{out.name}.log").read_text()[-3000:]
        found = table_of(out)
        print(f"kill {number}: {victim} with {rows} rows on the disk{'' if running else ', after the end'}", flush=True)
        assert found["id"].equals(expected["id"]) and found["reason"].equals(expected["reason"])
        for column in (name for name in found.column_names if name.startswith("p_")):
            values = [table[column].to_numpy(zero_copy_only=False) for table in (found, expected)]
            np.testing.assert_allclose(*values, atol=1e-5)
        assert not (out / "progress").exists() and (out / "summary.json").exists()
        shutil.rmtree(out)
