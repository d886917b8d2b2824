"""How fast `vizecg train` is beside a bare PyTorch loop on tensors in memory: same model, batch, threads, precision.

    python benchmarks/training.py [--records 160] [--size base] [--turns 2] [--only speed|workers|recipe|auroc]

speed     one worker with all cores over the bare loop (goal >= 0.95), time to first batch, waiting for data (< 3 %)
workers   two workers with half the cores each over two bare loops side by side (goal >= 0.95): two hyperthreads do not
          do twice the work of one, so plain speed-up would say nothing
recipe    bf16 and channels_last over eager fp32, in the bare loop: page-only ResNet-18 (goal >= 3.5 on a Xeon with
          AMX) and VizECGNet (goal >= 3.0)
auroc     the same recipe's validation AUROC against fp32 over three paired seeds (goal: within 0.01), with small models
          on pages of a third of that size and ten times the records

Whatever is compared takes turns, so that both meet the same machine; the ratios are of medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PAGE = ("512", "384")
CORES = os.cpu_count() or 1


def bare_loop(arguments: list[str]) -> None:
    """What a plain script does: prints records a second over `steps` steps after two to warm up."""
    shards, model_name, size, precision, layout, threads, batch_size, steps = arguments
    import torch

    from vizecg.models.objectives import ObjectiveConfig, loss_terms, weighted_total
    from vizecg.models.registry import build_model
    from vizecg.platform.data.batches import read_row_group
    from vizecg.platform.data.dataset_info import load_dataset_info, read_row_index
    from vizecg.platform.data.decode import BatchDecoder
    from vizecg.platform.data.labels import load_label_space
    from vizecg.platform.data.order import RowGroup
    from vizecg.platform.data.read_page import PageSpec

    torch.set_num_threads(int(threads))
    label_space = load_label_space(load_dataset_info(shards).default_label_space)
    decoder = BatchDecoder(label_space, PageSpec(width_px=int(PAGE[0]), height_px=int(PAGE[1])))
    import pyarrow as pa

    rows = pa.concat_tables([read_row_group(RowGroup(*group)) for group in read_row_index(shards, "train")])
    count = int(batch_size)
    batches = [decoder.batch(rows.slice(start, count)) for start in range(0, len(rows) - count + 1, count)]
    torch.manual_seed(0)
    model = build_model(model_name, size, len(label_space.labels), {})
    if layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    objective = ObjectiveConfig()
    started = 0.0
    for number in range(2 + int(steps)):
        if number == 2:
            started = time.perf_counter()
        batch = batches[number % len(batches)]
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            prediction = model(batch)
        terms = loss_terms(prediction, batch, objective)
        loss = weighted_total(terms, torch.stack([term.count for term in terms.values()]), 1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(count * int(steps) / (time.perf_counter() - started))


def start_bare(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--bare", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def rate_of(process: subprocess.Popen[str]) -> float:
    output, _ = process.communicate()
    assert process.returncode == 0, "the bare loop failed"
    return float(output.splitlines()[-1])


def train(shards: Path, out: Path, options: list[str]) -> list[dict[str, Any]]:
    """The history of a `vizecg train`."""
    command = [sys.executable, "-m", "vizecg.platform.cli", "train", str(shards), str(out)]
    command += [part for option in options for part in ("--set", option)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def compare_with_bare_loops(
    shards: Path, folder: Path, size: str, turns: int, workers: int, batch_size: int, num_train: int
) -> None:
    """Rates of `vizecg train` with that many workers, and of as many bare loops at once, in turns."""
    threads, share = max(1, CORES // workers), batch_size // workers
    ours: list[float] = []
    bare: list[float] = []
    for turn in range(turns):
        steps = num_train // batch_size
        loops = [
            start_bare(shards, "vizecgnet", size, "bf16", "channels_last", threads, share, steps)
            for _ in range(workers)
        ]
        bare.append(sum(rate_of(loop) for loop in loops))
        rows = train(
            shards, folder / f"run-{workers}-{turn}",
            [f"model.size={size}", "precision=bf16", f"batch_size={batch_size}", "epochs=2",
             f"scaling.num_workers={workers}", f"scaling.threads_per_worker={threads}"],
        )  # fmt: skip
        ours.append(statistics.median(row["records_per_second"] for row in rows))
    ratio = statistics.median(ours) / statistics.median(bare)
    print(
        f"{workers} worker(s) x {threads} thread(s), batch {batch_size}: vizecg train {statistics.median(ours):.2f} "
        f"records/s, bare {statistics.median(bare):.2f}, ratio {ratio:.3f} (goal 0.95); "
        f"first batch after {rows[0]['first_batch_s']:.2f} s, later epochs {rows[-1]['first_batch_s']:.2f} s, "
        f"waiting for data {100 * rows[-1]['data_wait_share']:.2f} % (goal < 3 %)"
    )


def compare_recipes(shards: Path, size: str, turns: int) -> None:
    """bf16 and channels_last over eager fp32 as torch comes."""
    for model, goal in (("resnet18", 3.5), ("vizecgnet", 3.0)):
        rates: dict[str, list[float]] = {"fp32": [], "bf16": []}
        for _ in range(turns):
            for precision, layout, steps in (("fp32", "contiguous", 3), ("bf16", "channels_last", 6)):
                rates[precision].append(
                    rate_of(start_bare(shards, model, size, precision, layout, CORES, 16, steps))
                )  # fmt: skip
        fp32, bf16 = (statistics.median(values) for values in rates.values())
        print(f"{model} ({size}): bf16, channels_last {bf16:.2f} records/s, fp32 {fp32:.2f}, "
              f"ratio {bf16 / fp32:.2f} (goal {goal})")  # fmt: skip


def compare_aurocs(folder: Path, num_records: int) -> None:
    """The best validation AUROC of the image stream with and without the recipe, seed by seed."""
    shards = make_shards(folder / "auroc", num_records, 192, 144)
    differences = []
    for seed in range(3):
        best = {}
        for precision, layout in (("fp32", "false"), ("bf16", "true")):
            rows = train(
                shards, folder / f"auroc-{seed}-{precision}",
                ["model.size=debug", f"precision={precision}", f"channels_last={layout}", f"seed={seed}", "epochs=12",
                 "batch_size=32", "optimizer.learning_rate=2e-3", f"scaling.threads_per_worker={CORES}"],
            )  # fmt: skip
            best[precision] = rows[-1]["best"]
        differences.append(best["bf16"] - best["fp32"])
        print(f"seed {seed}: AUROC fp32 {best['fp32']:.4f}, bf16 and channels_last {best['bf16']:.4f}")
    print(f"mean difference {statistics.mean(differences):+.4f} over three paired seeds (goal: within 0.01)")


def make_shards(folder: Path, num_records: int, width_px: int, height_px: int) -> Path:
    """Shards of practice records, none of them for testing."""
    import ray

    from vizecg.platform.data.dataset_info import shard_config
    from vizecg.platform.data.practice import write_practice_archive
    from vizecg.platform.data.shards import write_shards

    write_practice_archive(folder / "archive", num_records, seed=1)
    page = {"width_px": width_px, "height_px": height_px}
    write_shards(folder / "archive", folder / "shards", shard_config(page=page, test_fraction=0.0))
    ray.shutdown()
    return folder / "shards"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=160)
    parser.add_argument("--size", default="base")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--only", choices=["speed", "workers", "recipe", "auroc"])
    options = parser.parse_args()
    from vizecg.platform.data.dataset_info import load_dataset_info

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = make_shards(folder, options.records, int(PAGE[0]), int(PAGE[1]))
        num_train = load_dataset_info(shards).counts["train"]
        print(f"{num_train} records, pages of {PAGE[0]} x {PAGE[1]} px, {CORES} logical cores, size {options.size}")
        for mode, workers, steps in (("speed", 1, num_train // 16), ("workers", 2, 3)):
            if options.only in (None, mode):
                # Full steps alone, but for a few records: a bare loop has no others.
                batch_size = 8 * -(-num_train // (8 * steps))
                compare_with_bare_loops(shards, folder, options.size, options.turns, workers, batch_size, num_train)
        if options.only in (None, "recipe"):
            compare_recipes(shards, options.size, options.turns)
        if options.only in (None, "auroc"):
            compare_aurocs(folder, 10 * options.records)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare_loop(sys.argv[2:])
    else:
        main()
