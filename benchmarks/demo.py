"""What `vizecg demo` takes and reaches: minutes, memory, AUROC on records of another seed, and on shuffled labels.

    python benchmarks/demo.py [OUT]           the demo, timed, with the peak memory of all its processes
    python benchmarks/demo.py OUT --shuffled  then: the same training on shuffled labels, which must learn nothing

Memory is the peak of the summed proportional set size (PSS) of the process and all its descendants.
"""

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vizecg.platform.config import load_config
from vizecg.platform.data.dataset_info import shard_files
from vizecg.platform.evaluate.metrics import EvaluationResult
from vizecg.platform.evaluate.run import evaluate_bundle
from vizecg.platform.train.driver import train_model

CONFIG = Path(__file__).parents[1] / "tune_configs" / "vizecgnet.smoke.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("demo-out"))
    parser.add_argument("--shuffled", action="store_true")
    arguments = parser.parse_args()
    minutes, peak_gib = run_demo(arguments.out)
    image = json.loads((arguments.out / "evaluation" / "metrics.json").read_text())["streams"]["image"]
    aurocs = {label["key"]: label["auroc"] for label in image["labels"]}
    print(f"demo: {minutes:.1f} min (goal 5), peak PSS {peak_gib:.1f} GiB (goal 6)")
    macro, lowest = image["macro"]["auroc"], min(aurocs.values())
    print(f"image macro AUROC {macro:.3f} (goal 0.90), lowest label {lowest:.3f} (goal 0.85)")
    print("  " + "  ".join(f"{key} {value:.3f}" for key, value in aurocs.items()))
    if arguments.shuffled:
        result = train_on_shuffled_labels(arguments.out)
        print(f"shuffled labels: image macro AUROC {result.macro.auroc:.3f} (0.5 is nothing learnt)")


def run_demo(out: Path) -> tuple[float, float]:
    """Minutes and peak memory in GiB of the real command."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "vizecg.platform.cli", "demo", str(out)])
    peak = [0]
    watcher = threading.Thread(target=watch_memory, args=(process, peak))
    watcher.start()
    status = process.wait()
    watcher.join()
    if status:
        sys.exit(status)
    return (time.monotonic() - started) / 60, peak[0] / 2**20


def watch_memory(process: subprocess.Popen[bytes], peak_kib: list[int]) -> None:
    """Keeps the highest sum of PSS until the process ends."""
    while process.poll() is None:
        peak_kib[0] = max(peak_kib[0], sum(map(pss_kib, descendants(process.pid))))
        time.sleep(0.5)


def descendants(root: int) -> list[int]:
    """The process and all below it; Ray's daemons stay below the one that started them."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found: list[int] = []
    left = [root]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def pss_kib(pid: int) -> int:
    """Of one process; nothing where it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def train_on_shuffled_labels(out: Path) -> EvaluationResult:
    """The demo's training with every record's labels given to another, judged on the true labels of the exam."""
    shards, run = out.with_name(f"{out.name}-shuffled-shards"), out.with_name(f"{out.name}-shuffled-run")
    for folder in (shards, run):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(out / "shards", shards)
    for split in ("train", "val"):
        for file in shard_files(shards, split):
            table = pq.read_table(file)
            order = np.random.default_rng(0).permutation(len(table))
            codes = table["codes"].take(pa.array(order))
            shuffled = table.set_column(table.schema.get_field_index("codes"), table.schema.field("codes"), codes)
            pq.write_table(shuffled, file, row_group_size=32)
    bundle = train_model(shards, run, load_config(CONFIG))
    report = evaluate_bundle(bundle, out / "exam-shards", run / "evaluation", split="all")
    return report.streams["image"]


if __name__ == "__main__":
    main()
