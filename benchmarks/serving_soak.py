"""An endpoint under steady load while its replicas are killed at random: every request answered, once, and rightly.

    python benchmarks/serving_soak.py BUNDLE PAGES [--minutes 20] [--rate RATE] [--replicas 2] [--kill-every 60]
    python benchmarks/serving_soak.py BUNDLE PAGES --roll OTHER_BUNDLE --minutes 3       the bundle changes meanwhile

The application runs behind HAProxy as `vizecg serve --haproxy --keys` starts it. The load is open (Poisson), at 70 % of
what a closed loop reached just before, and a request is sent again at most three times. Every answer is held against
the page's true probabilities. OUT gets soak.json and soak.png: replicas, latency and memory over time.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from vizecg.benchmarks.load import load_in_process, read_bodies, send_load
from vizecg.benchmarks.load_report import LoadPlan, LoadReport
from vizecg.benchmarks.scoring import CORES

MAX_TRIES = 4
WITHIN = 2e-2
"""Of probabilities across backends; a page mistaken for another differs by far more."""
REPLICA = "ray::ServeReplica:vizecg:PageReader"


@dataclass
class Watch:
    """What happens beside the load, every second."""

    kill_every_s: float | None
    began: float = field(default_factory=time.monotonic)
    kills: list[float] = field(default_factory=list)
    samples: list[dict[str, float]] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        rng = random.Random(0)
        due = self._next(rng)
        while not self._end.wait(1.0):
            replicas = [process for process in psutil.process_iter(["cmdline"]) if _is_replica(process)]
            self.samples.append({"at_s": self.at_s, "replicas": len(replicas), "memory_mib": _memory_mib(replicas)})
            if self.at_s >= due and len(replicas) > 1:
                rng.choice(replicas).kill()
                self.kills.append(self.at_s)
                due = self.at_s + self._next(rng)

    def _next(self, rng: random.Random) -> float:
        return float("inf") if self.kill_every_s is None else self.kill_every_s * rng.uniform(0.5, 1.5)

    @property
    def at_s(self) -> float:
        return time.monotonic() - self.began

    def stop(self) -> None:
        self._end.set()


def _is_replica(process: psutil.Process) -> bool:
    return (process.info["cmdline"] or [""])[0].startswith(REPLICA)


def _memory_mib(processes: list[psutil.Process]) -> float:
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().uss
        except psutil.Error:  # Gone since it was listed.
            continue
    return total / 2**20


class Judge:
    """Holds every answer against the truth."""

    def __init__(self, bundles: list[str], pages: Path):
        self._expected = {
            hash_: [expected_of(bundle, body) for _, body in read_bodies(pages)]
            for bundle, hash_ in map(_hashed, bundles)
        }
        self.wrong: list[str] = []
        self.ids: Counter[str] = Counter()
        self.by_bundle: Counter[str] = Counter()

    def __call__(self, page: int, status: int, body: bytes) -> None:
        if status != 200:
            return
        answer = json.loads(body)
        self.ids[answer["request_id"]] += 1
        bundle = answer["model"]["bundle_hash"]
        self.by_bundle[bundle[:12]] += 1
        found = np.array([label["probability"] for label in answer["labels"]])
        apart = float(np.abs(found - self._expected[bundle][page]).max())
        if not apart <= WITHIN:
            self.wrong.append(f"page {page}: {apart:.3f}")


def _hashed(bundle: str) -> tuple[str, str]:
    from vizecg.platform.bundle import read_facts

    return bundle, read_facts(bundle).content_hash


def expected_of(bundle: str, body: bytes) -> np.ndarray:
    """Probabilities (K,) by torch in fp32."""
    from vizecg.platform.predictor import Predictor

    if bundle not in _PREDICTORS:
        _PREDICTORS[bundle] = Predictor.load(bundle)
    predictor: Any = _PREDICTORS[bundle]
    return predictor.predict_pages(predictor.read(body).pixels[None])[0]


_PREDICTORS: dict[str, Any] = {}


def roll(endpoint: Any, bundle: str, args: dict[str, Any], after_s: float) -> None:
    """Deploy the same application with another bundle, as `serve deploy` of a changed file does."""
    from ray import serve

    from vizecg.serve.app import build
    from vizecg.serve.server import APPLICATION
    from vizecg.serve.settings import AppArgs

    time.sleep(after_s)
    serve.run(build(AppArgs(bundle=bundle, **args)), name=APPLICATION)


def plot(report: LoadReport, watch: Watch, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (top, middle, bottom) = pyplot.subplots(3, 1, figsize=(9, 6.5), sharex=True, layout="constrained")
    at_s = [sample["at_s"] / 60 for sample in watch.samples]
    top.step(at_s, [sample["replicas"] for sample in watch.samples], where="post", color="#2767a8")
    top.set_ylabel("replicas")
    top.set_ylim(bottom=0)
    middle.plot([s / 60 for s, _ in report.timeline], [ms for _, ms in report.timeline], ".", ms=2, color="#2e8461")
    middle.set_ylabel("latency, ms")
    middle.set_yscale("log")
    bottom.plot(at_s, [sample["memory_mib"] for sample in watch.samples], color="#c8364f")
    bottom.set_ylabel("memory of replicas, MiB")
    bottom.set_ylim(bottom=0)
    bottom.set_xlabel("minutes")
    for axes in (top, middle, bottom):
        for kill in watch.kills:
            axes.axvline(kill / 60, color="#888888", lw=0.8, ls=":")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    meanwhile = "the bundle changed" if watch.kill_every_s is None else f"{len(watch.kills)} replicas killed (dotted)"
    top.set_title(f"{report.answered:,} requests answered, {meanwhile}", loc="left")
    figure.savefig(file, dpi=120)


def soak(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from vizecg.serve.keys import add_key
    from vizecg.serve.listening import Listening
    from vizecg.serve.server import running_application

    keys = folder / "keys.json"
    key = add_key(keys, "soak")
    judge = Judge([options.bundle, *([options.roll] if options.roll else [])], options.pages)
    # Every replica may use every core: what one leaves when it dies, the others take up.
    args: dict[str, Any] = {"keys_file": str(keys), "num_replicas": options.replicas, "num_threads": CORES}
    with running_application(options.bundle, Listening(port=0, haproxy=True), **args) as endpoint:
        url = f"{endpoint.url}/v1/predict"
        near = {"url": url, "pages": str(options.pages), "key": key}
        rate = options.rate or 0.7 * load_in_process(LoadPlan(**near, in_flight=8, seconds=15)).requests_per_s
        print(f"{rate:.1f} requests/s for {options.minutes:g} minutes", flush=True)
        plan = LoadPlan(**near, rate_per_s=rate, seconds=60 * options.minutes, retries=MAX_TRIES - 1, timeout_s=60)
        watch = Watch(None if options.roll else options.kill_every)
        watching = [threading.Thread(target=watch.run, daemon=True)]
        if options.roll:
            rolling = (endpoint, str(Path(options.roll).absolute()), args, 30.0 * min(1.0, options.minutes))
            watching.append(threading.Thread(target=roll, args=rolling, daemon=True))
        for thread in watching:
            thread.start()
        report = asyncio.run(send_load(plan, judge))
        watch.stop()
    plot(report, watch, options.out / ("rolling.png" if options.roll else "soak.png"))
    return summary_of(report, watch, judge)


def summary_of(report: LoadReport, watch: Watch, judge: Judge) -> dict[str, Any]:
    calm = [s["memory_mib"] / s["replicas"] for s in watch.samples if s["replicas"]]
    tenth = max(1, len(calm) // 10)
    return {
        "requests": report.requests, "answered": report.answered, "errors": report.errors, "retried": report.retried,
        "kills": len(watch.kills), "wrong": len(judge.wrong),
        "ids_answered_twice": sum(count > 1 for count in judge.ids.values()), "by_bundle": dict(judge.by_bundle),
        "latency_ms": report.latency_ms, "generator_cpu_share": report.generator_cpu_share,
        "memory_mib_a_replica": [statistics.median(calm[tenth : 2 * tenth]), statistics.median(calm[-tenth:])],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("pages", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--kill-every", type=float, default=60, help="seconds, on average")
    parser.add_argument("--roll", help="another bundle, deployed under load; nothing is killed then")
    parser.add_argument("--out", type=Path, default=Path("docs/serving"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        summary = soak(options, Path(name))
    (options.out / ("rolling.json" if options.roll else "soak.json")).write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))
    assert not summary["errors"] and not summary["wrong"] and not summary["ids_answered_twice"]


if __name__ == "__main__":
    main()
