"""How much of the machine the endpoint gives to pages: beside a bare loop, and beside peers with the same predictor.

    python benchmarks/serving.py [--size base] [--pages-px 512x384] [--seconds 30] [--turns 2] [--peers litserve]

saturation  pages/s with many requests in flight, over a bare loop that decodes, checks and predicts with the same
            cores, code and backend on threads, without Ray or HTTP (goal 0.8)
one         median latency of one request in flight, less the time that its page takes in a bare loop (goal 8 ms)
70 %        p99 at 70 % of the endpoint's saturation, Poisson arrivals, counted from when a request was due; over the
            time that a full batch takes (goal 4)
peers       pages/s of an app around the same predictor in LitServe or BentoML (goal 1.2 times theirs)

The load generator runs on the same cores; what it takes itself is printed. Contestants take turns, each in processes of
its own; ratios are of medians over turns. The model has random weights.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from vizecg.benchmarks.load import load_in_process
from vizecg.benchmarks.load_report import LoadPlan, LoadReport
from vizecg.benchmarks.scoring import CORES, instructions, make_bundle, make_pages, verdict

NUM_PAGES = 200
BATCH_PAGES = 8
IN_FLIGHT = 4 * CORES + 8
"""Enough that a batch is always waiting."""
START_S = 180


def run_bare(bundle: str, pages: str, seconds: str) -> dict[str, float]:
    """pages/s of threads that read beside batches that are predicted; milliseconds of one page, and of a full batch."""
    import numpy as np

    from vizecg.benchmarks.serving_peers import READING, load_predictor
    from vizecg.platform.errors import PageError

    predictor = load_predictor(bundle, CORES)
    bodies = [file.read_bytes() for file in sorted(Path(pages).rglob("*.png"))]

    def read(number: int) -> Any:
        try:
            return predictor.read(bodies[number % len(bodies)], READING).pixels
        except PageError:  # Its check refuses one page in some hundred, as the endpoint's does.
            return read(number + 1)

    batch = np.stack([read(number) for number in range(BATCH_PAGES)])
    one_ms = [_timed_ms(lambda n=n: predictor.predict_pages(read(n)[None])) for n in range(200)]
    batch_ms = [_timed_ms(lambda: predictor.predict_pages(batch)) for _ in range(10)]
    done, begun = 0, time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        ahead = [pool.submit(read, number) for number in range(2 * BATCH_PAGES)]
        while time.perf_counter() - begun < float(seconds):
            taken, ahead = ahead[:BATCH_PAGES], ahead[BATCH_PAGES:]
            ahead += [pool.submit(read, done + 2 * BATCH_PAGES + n) for n in range(BATCH_PAGES)]
            predictor.predict_pages(np.stack([each.result() for each in taken]))
            done += BATCH_PAGES
        rate = done / (time.perf_counter() - begun)
        for each in ahead:
            each.cancel()
    return {"rate": rate, "one_ms": statistics.median(one_ms), "batch_ms": statistics.median(batch_ms)}


def _timed_ms(work: Any) -> float:
    begun = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begun)


@contextmanager
def serving(bundle: Path, folder: Path, *options: str) -> Iterator[tuple[str, str]]:
    """`vizecg serve` behind HAProxy with all cores in one replica: yields its URL and a key."""
    keys = folder / f"keys-{time.time_ns()}.json"
    verb = [sys.executable, "-m", "vizecg.platform.cli"]
    key = subprocess.run(
        [*verb, "keys", "add", str(keys), "bench"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    command = [
        *verb, "serve", str(bundle), "--port", "0", "--haproxy", "--keys", str(keys),
        "--cpus-per-replica", str(CORES), *options,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield _url(process), key
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"page +(http://\S+)/", line):
            return found[1]
    raise SystemExit("vizecg serve ended before it answered")


def load(url: str, pages: Path, seconds: float, key: str | None = None, **how: Any) -> LoadReport:
    return load_in_process(
        LoadPlan(url=url, pages=str(pages), seconds=seconds, warm_up_s=min(5.0, seconds / 3), key=key, **how)
    )


def measure_ours(bundle: Path, pages: Path, folder: Path, seconds: float) -> dict[str, Any]:
    with serving(bundle, folder) as (url, key):
        predict = f"{url}/v1/predict"
        full = load(predict, pages, seconds, key, in_flight=IN_FLIGHT)
        one = load(predict, pages, seconds, key, in_flight=1)
        before = batches(url, key)
        steady = load(predict, pages, 2 * seconds, key, rate_per_s=0.7 * full.requests_per_s)
        sizes = {size: count - before.get(size, 0) for size, count in batches(url, key).items()}
    return {
        "rate": full.requests_per_s, "one_ms": one.latency_ms["p50"], "p99_ms": steady.latency_ms["p99"],
        "generator": full.generator_cpu_share, "errors": full.errors | steady.errors, "batches": sizes,
        "p50_ms": steady.latency_ms["p50"], "late_ms": steady.sent_late_ms,
    }  # fmt: skip


def batches(url: str, key: str = "") -> dict[float, float]:
    """Batches so far by their size at most, of all replicas."""
    request = urllib.request.Request(f"{url}/metrics", headers={"X-API-Key": key} if key else {})
    text = urllib.request.urlopen(request, timeout=10).read().decode()
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "vizecg_serve_batch_pages_bucket"
    }


def measure_peer(peer: str, bundle: Path, pages: Path, seconds: float) -> float:
    """pages/s at saturation of serving_peers.py's app."""
    from vizecg.benchmarks.serving_peers import running_peer

    with running_peer(peer, bundle, CORES) as url:
        return load(url, pages, seconds, in_flight=IN_FLIGHT).requests_per_s


def bare(bundle: Path, pages: Path, seconds: float) -> dict[str, float]:
    command = [sys.executable, __file__, "--bare", bundle, pages, str(seconds)]
    told = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(told.splitlines()[-1])


def compare(bundle: Path, pages: Path, folder: Path, options: argparse.Namespace) -> None:
    turns: list[dict[str, Any]] = []
    for turn in range(options.turns):
        floor = bare(bundle, pages, options.seconds)
        ours = measure_ours(bundle, pages, folder, options.seconds)
        peers = {peer: measure_peer(peer, bundle, pages, options.seconds) for peer in options.peers}
        turns.append({"floor": floor, "ours": ours, "peers": peers})
        print(f"  turn {turn + 1}: {json.dumps(turns[-1])}", flush=True)

    def median(*path: str) -> float:
        found = []
        for turn in turns:
            value: Any = turn
            for name in path:
                value = value[name]
            found.append(value)
        return statistics.median(found)

    rate, floor_rate = median("ours", "rate"), median("floor", "rate")
    added = median("ours", "one_ms") - median("floor", "one_ms")
    wait = median("ours", "p99_ms") / median("floor", "batch_ms")
    print(
        f"  saturation {rate:.1f} pages/s, bare loop {floor_rate:.1f}: {rate / floor_rate:.3f} (goal 0.8: "
        f"{verdict(rate >= 0.8 * floor_rate)}); the generator took {median('ours', 'generator'):.0%} of a core\n"
        f"  one in flight {median('ours', 'one_ms'):.1f} ms, its page in a bare loop {median('floor', 'one_ms'):.1f}: "
        f"{added:.1f} ms added (goal 8: {verdict(added <= 8)})\n"
        f"  at 70 % p50 {median('ours', 'p50_ms'):.0f}, p99 {median('ours', 'p99_ms'):.0f} ms, of {BATCH_PAGES} "
        f"{median('floor', 'batch_ms'):.0f} ms: {wait:.2f} times (goal 4: {verdict(wait <= 4)})"
    )
    for peer in options.peers:
        theirs = median("peers", peer)
        print(f"  {peer} {theirs:.1f} pages/s: {rate / theirs:.2f} times (goal 1.2: {verdict(rate >= 1.2 * theirs)})")


def note_learned_pages(folder: Path) -> None:
    """As training does, so that the endpoint looks whether pages are like them; the bare loop and peers do not."""
    import numpy as np

    from vizecg.platform.bundle import load_bundle, save_bundle
    from vizecg.platform.page_look import LEAST_PAGES, learned_from

    bundle, model = load_bundle(folder)
    white = np.full((3, bundle.page.height_px, bundle.page.width_px), 255, np.uint8)
    facts = bundle.model_copy(update={"learned_pages": learned_from([white] * LEAST_PAGES)})
    save_bundle(folder, facts, model.state_dict())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base")
    parser.add_argument("--pages-px", default="512x384", help="of the model; pages are sent at twice that")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--peers", nargs="*", default=[], choices=["litserve", "bentoml"])
    options = parser.parse_args()
    width_px, height_px = map(int, options.pages_px.split("x"))
    os.environ.setdefault("OMP_NUM_THREADS", str(CORES))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_bundle(folder, options.size, width_px, height_px)
        note_learned_pages(bundle)
        pages = make_pages(folder, NUM_PAGES, 2 * width_px, 2 * height_px)
        print(
            f"serving: pages of {2 * width_px} x {2 * height_px} px, size {options.size} at {width_px} x {height_px}, "
            f"{CORES} logical cores, {instructions()}"
        )
        compare(bundle, pages, folder, options)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        print(json.dumps(run_bare(*sys.argv[2:])))
    else:
        main()
