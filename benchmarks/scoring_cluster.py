"""`vizecg score` on a cluster that grows and shrinks by itself: nodes, predictors and pages a second over time.

    python benchmarks/scoring_cluster.py BUNDLE PAGES [--num 50000] [--nodes 3] [--plot docs/scoring/autoscaling.png]

A head without CPUs for predictors, and Ray's own autoscaler, which starts nodes as further processes of this machine
(`ray.cluster_utils.AutoscalingCluster`). So more nodes do not make it faster here: what is shown is that the pool asks
for nodes while there is work, gets them, and that they are gone when the work is done.

It ends every Ray on this machine, before and after. To spare those of others, give it namespaces of its own (as root):
`unshare --pid --fork --mount-proc --net bash -c 'ip link set lo up; mount -t tmpfs none /tmp/ray; python ...'`.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

import ray
from prometheus_client.parser import text_string_to_metric_families
from ray.cluster_utils import AutoscalingCluster

IDLE_MINUTES = 0.5
"""Until a node without work is taken away: KubeRay's `idleTimeoutSeconds`, which is 60 where it is not given."""
PORT = 9188
ADDRESS = "127.0.0.1:6379"
EVERY_S = 0.5
RECENT_S = 30.0
SPARE_NODES = 2
"""That the cluster would give and the pool, at its largest, does not need."""
GONE_WITHIN_S = 180


class GrowingCluster(AutoscalingCluster):
    """AutoscalingCluster reads an example that the wheel lacks; this is what stands in it."""

    def _generate_config(
        self,
        head_resources: dict[str, Any],
        worker_node_types: dict[str, Any],
        autoscaler_v2: bool = False,
        **config: Any,
    ) -> dict[str, Any]:
        head: dict[str, Any] = {"resources": head_resources, "node_config": {}, "max_workers": 0}
        commands = (
            "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
            "head_start_ray_commands", "worker_start_ray_commands",
        )  # fmt: skip
        return {
            "cluster_name": "scoring",
            "provider": {
                "type": "fake_multinode",
                # All nodes have this machine's address: by that the autoscaler finds a sign of life of none, tries to
                # mend them by ssh, fails in every round (only its monitor.log says so), and adds and removes no more.
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "available_node_types": {**worker_node_types, "ray.head.default": head},
            "head_node_type": "ray.head.default",
            "upscaling_speed": 1.0,
            "auth": {},
            "file_mounts": {},
            "cluster_synced_files": [],
            **{name: [] for name in commands},
            **config,
        }


@dataclass(frozen=True)
class Sample:
    """The cluster at one moment."""

    at_s: float
    nodes: int
    predictors: float
    """That gave pages in the last half minute, as the run's own metrics count them."""
    pages: float
    is_scoring: bool


@contextmanager
def growing_cluster(max_nodes: int) -> Iterator[None]:
    node = {"resources": {"CPU": 1, "object_store_memory": 128 << 20}, "node_config": {}, "min_workers": 0}
    types = {"predictor": {**node, "max_workers": max_nodes}}
    cluster = GrowingCluster(
        {"CPU": 0, "object_store_memory": 256 << 20}, types, idle_timeout_minutes=IDLE_MINUTES, max_workers=max_nodes
    )
    # It calls `ray`, which lies beside this Python.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # On this machine alone, for a minute: no token, and no report of use.
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    cluster.start()
    try:
        ray.init(address=ADDRESS, log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def metrics() -> dict[str, float]:
    """What the run says of itself; nothing before it has begun and after its end."""
    with suppress(OSError):
        text = urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=2).read().decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        pages = sum(sample.value for sample in samples if sample.name == "vizecg_score_pages_total")
        return {sample.name.removeprefix("vizecg_score_"): sample.value for sample in samples} | {"pages": pages}
    return {}


def sampled(command: list[str], min_nodes: int) -> list[Sample]:
    """The whole life of a run, and what comes after it until the nodes are gone."""
    samples: list[Sample] = []
    started = time.monotonic()
    driver = subprocess.Popen(command, env={**os.environ, "RAY_ADDRESS": ADDRESS}, stdout=sys.stderr)
    ended_at: float | None = None
    while True:
        now = time.monotonic() - started
        nodes = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
        told = metrics()
        samples.append(
            Sample(now, nodes, told.get("predictors", 0), told.get("pages", 0), is_scoring=driver.poll() is None)
        )
        if not samples[-1].is_scoring:
            ended_at = ended_at or now
            if nodes == min_nodes or now - ended_at > GONE_WITHIN_S:
                break
        time.sleep(EVERY_S)
    assert driver.returncode == 0, f"vizecg score ended with status {driver.returncode}"
    return samples


def page_list(pages: Path, num: int, file: Path) -> Path:
    """Pictures of a folder over and over, so that few of them are work for minutes: a row each time."""
    pictures = sorted(path for path in pages.rglob("*") if path.suffix in {".png", ".jpg", ".jpeg"})
    assert pictures, f"no pictures in {pages}"
    file.write_text("".join(f"{path.resolve()}\n" for path in islice(cycle(pictures), num)))
    return file


def life(samples: list[Sample]) -> str:
    """When the number of nodes changed, and when the run ended."""
    changes = [f"{b.nodes} at {b.at_s:.0f} s" for a, b in pairwise(samples) if a.nodes != b.nodes]
    pages = max(sample.pages for sample in samples)
    last_page_at_s = next(sample.at_s for sample in samples if sample.pages == pages)
    ended_at_s = next(sample.at_s for sample in samples if not sample.is_scoring)
    return (
        f"nodes: {samples[0].nodes} at 0 s, {', '.join(changes)}; last pages at {last_page_at_s:.0f} s, "
        f"end of the run at {ended_at_s:.0f} s"
    )


def pages_per_s(samples: list[Sample]) -> list[float]:
    """Of the last `RECENT_S`, at each sample."""
    rates: list[float] = []
    first = 0
    for sample in samples:
        while sample.at_s - samples[first].at_s > RECENT_S:
            first += 1
        waited_s = max(sample.at_s - samples[first].at_s, EVERY_S)
        rates.append((sample.pages - samples[first].pages) / waited_s)
    return rates


def plot(samples: list[Sample], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    times = [sample.at_s for sample in samples]
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
    top.step(times, [sample.nodes for sample in samples], where="post", color="#2767a8", label="nodes")
    # After the last page the run tells nothing more of itself: it writes the report, without predictors.
    told = samples[: max(index for index, sample in enumerate(samples) if sample.pages) + 1]
    ended_at_s = next(sample.at_s for sample in samples if not sample.is_scoring)
    top.step(
        [sample.at_s for sample in told],
        [sample.predictors for sample in told],
        where="post",
        color="#c8364f",
        linestyle="--",
        label="predictors that gave pages (last 30 s)",
    )
    top.set_ylabel("count")
    top.yaxis.get_major_locator().set_params(integer=True)
    top.legend(frameon=False, loc="lower center")
    top.set_title("Nodes come while there are pages, and go when there are none", loc="left", fontsize=11)
    bottom.plot([sample.at_s for sample in told], pages_per_s(told), color="#2e8461")
    bottom.set_ylabel(f"pages/s (last {RECENT_S:.0f} s)")
    bottom.set_ylim(bottom=0)
    bottom.set_xlabel("seconds since the command")
    top.text(
        ended_at_s, 1.02, "the run ends", transform=top.get_xaxis_transform(), ha="center", va="bottom", fontsize=9
    )
    for axes in (top, bottom):
        axes.axvline(ended_at_s, color="black", linewidth=0.8, linestyle=":")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("pages", type=Path, help="a folder of pictures")
    parser.add_argument("--num", type=int, default=50_000, help="pages to score: the pictures are taken repeatedly")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, growing_cluster(arguments.nodes + SPARE_NODES):
        out = Path(folder) / "scores"
        pages = page_list(arguments.pages, arguments.num, Path(folder) / "pages.txt")
        command = [
            sys.executable, "-m", "vizecg.platform.cli", "score", arguments.bundle, str(pages), str(out),
            "--predictors", f"1:{arguments.nodes}", "--cpus-per-predictor", "1", "--metrics-port", str(PORT),
        ]  # fmt: skip
        samples = sampled(command, min_nodes=0)
        summary = json.loads((out / "summary.json").read_text())
    most, last = max(sample.nodes for sample in samples), samples[-1]
    print(f"{summary['pages']:,} pages; {life(samples)}")
    if arguments.plot:
        plot(samples, arguments.plot)
        print(f"drawn in {arguments.plot}")
    assert most == arguments.nodes and last.nodes == 0, "nodes came and went"


if __name__ == "__main__":
    main()
