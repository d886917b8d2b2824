"""How batches fill where a classifier of its own predicts, on a GPU or without one.

    python benchmarks/serving_batches.py [--gpus 1] [--readers 2] [--size base] [--max-batch 16] [--seconds 10]

Pages are decoded by so many replicas of PageReader, and predicted by one Classifier, which takes what waits and waits
for nothing. Says for each load, in requests in flight, how many pages were answered a second, how long one took, and of
how many pages batches were.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vizecg.benchmarks.load import load_in_process
from vizecg.benchmarks.load_report import LoadPlan
from vizecg.benchmarks.scoring import CORES, instructions, make_bundle, make_pages
from vizecg.benchmarks.serving import batches
from vizecg.serve.server import running_endpoint

SHARES_OF_FULL = (0, 0.25, 1, 3)
"""Requests in flight, as multiples of a full batch; 0 is one request."""
COUNTED_S = 7.0
"""Until replicas have told what they counted."""


def measure(url: str, pages: Path, in_flight: int, seconds: float) -> list[str]:
    """Cells of a row."""
    before = batches(url)
    found = load_in_process(
        LoadPlan(url=f"{url}/v1/predict", pages=str(pages), seconds=seconds, warm_up_s=2.0, in_flight=in_flight)
    )
    assert not found.errors, found.errors
    time.sleep(COUNTED_S)
    at_most = {size: count - before.get(size, 0) for size, count in batches(url).items()}
    told: list[str] = []
    below = 0.0
    for size, count in sorted(at_most.items()):
        if count > below:
            told.append(f"{count - below:.0f} of {'' if size == 1 else 'up to '}{size:g}")
        below = count
    return [str(in_flight), f"{found.requests_per_s:.1f}", f"{found.latency_ms['p50']:.0f}", ", ".join(told)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=float, default=0.0, help="of the classifier; 0 predicts on a CPU")
    parser.add_argument("--readers", type=int, default=CORES, help="processes that decode")
    parser.add_argument("--size", default="base")
    parser.add_argument("--pages-px", default="512x384", help="of the model; pages are sent at twice that")
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    width_px, height_px = map(int, options.pages_px.split("x"))
    table = Table("in flight", "pages/s", "p50, ms", "batches, by their pages")
    with tempfile.TemporaryDirectory() as name:
        bundle = make_bundle(Path(name), options.size, width_px, height_px)
        pages = make_pages(Path(name), 100, 2 * width_px, 2 * height_px)
        device: dict[str, Any] = {"num_gpus": options.gpus} if options.gpus else {"split": True, "num_threads": CORES}
        how = {"num_replicas": options.readers, "max_batch_size": options.max_batch, "num_cpus": 1}
        with running_endpoint(str(bundle), **device, **how) as url:
            for share in SHARES_OF_FULL:
                table.add_row(*measure(url, pages, max(1, round(share * options.max_batch)), options.seconds))
    where = f"{options.gpus:g} GPU" if options.gpus else f"{CORES} logical cores, {instructions()}"
    print(f"serving_batches: size {options.size} at {width_px} x {height_px}, {options.readers} readers, {where}")
    Console().print(table)


if __name__ == "__main__":
    main()
