"""How fast `vizecg score` is beside a bare loop and a plain script; whether it stays so; whether its plan is true.

    python benchmarks/scoring.py [--num 1200] [--size base] [--pages-px 512x384] [--turns 2]
    python benchmarks/scoring.py --only plan [--num 1500]
    python benchmarks/scoring.py --only soak --pages CACHE [--num 100000] [--out soak]

rate    pages/s of a run from beginning to end, and from its first rows on, over a bare loop that reads, checks and
        predicts with the same cores, code and backend on threads, without Ray (goal 0.85); and over a plain script:
        Pillow, torch DataLoader, eager fp32 (goal 6 on a CPU with AMX)
plan    the time that `--plan` predicts over the time that the run then takes (goal: within 20 %)
soak    memory and pages/s every 2 s over 100,000 pages of 2,500 records: memory flat, and the last 5,000 pages within
        20 % of the rate of the first 5,000. Pages are drawn into CACHE once; a plot and soak.json go to --out

Whatever is compared takes turns, each in a process of its own; ratios are of medians. The model has random weights.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

CORES = os.cpu_count() or 1
RATE_HZ = 500
BATCH_PAGES = 16
PLAIN_PAGES = 128
"""The plain script is slow, and its rate is the same on few pages."""
PAGES_PER_RECORD = 40
RECORDS_PER_TASK = 5


def draw_pages(first: int, stop: int, folder: str, width_px: int, height_px: int, each: int) -> None:
    """Pages of the practice records of these numbers, each printed several times in other styles."""
    import cv2
    import numpy as np

    from vizecg.platform.data.heart import Recorder
    from vizecg.platform.data.page import print_page
    from vizecg.platform.data.patients import plan_record
    from vizecg.platform.data.practice import draw_signal
    from vizecg.platform.data.printing.styles import page_style

    cv2.setNumThreads(1)
    recorder = Recorder.of(RATE_HZ, 10.0)
    for record in range(first, stop):
        signal = (draw_signal(plan_record(1, record), recorder).T / 1000).astype(np.float32)
        place = Path(folder, f"{record // 25:04}")
        place.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            style = page_style(np.random.default_rng([record, number]), width_px, height_px)
            (place / f"{record:05}-{number:02}.png").write_bytes(print_page(signal, RATE_HZ, style).png())


def make_pages(folder: Path, num_pages: int, width_px: int, height_px: int) -> Path:
    """So many pages on all cores, unless they are there from an earlier start."""
    made = folder / f"{num_pages}-{width_px}x{height_px}"
    if (made / "complete").exists():
        return made / "pages"
    each = min(PAGES_PER_RECORD, max(1, num_pages // 500))
    num_records = -(-num_pages // each)
    begun = time.monotonic()
    with ProcessPoolExecutor(CORES, get_context("spawn")) as pool:
        done = [
            pool.submit(draw_pages, start, min(start + RECORDS_PER_TASK, num_records), str(made / "pages"),
                        width_px, height_px, each)
            for start in range(0, num_records, RECORDS_PER_TASK)
        ]  # fmt: skip
        for task in done:
            task.result()
    for surplus in sorted((made / "pages").rglob("*.png"))[num_pages:]:
        surplus.unlink()
    (made / "complete").touch()
    print(f"drew {num_pages:,} pages of {num_records:,} records, {num_pages / (time.monotonic() - begun):.0f} pages/s")
    return made / "pages"


def make_bundle(folder: Path, size: str, width_px: int, height_px: int) -> Path:
    """Random weights: they compute as long as others."""
    import torch

    from vizecg.models.registry import build_model
    from vizecg.platform.bundle import Bundle, save_bundle
    from vizecg.platform.config import ModelConfig, TrainConfig
    from vizecg.platform.data.labels import load_label_space
    from vizecg.platform.data.read_page import PageSpec

    labels, config = load_label_space("practice"), TrainConfig(model=ModelConfig(size=size))
    torch.manual_seed(0)
    model = build_model("vizecgnet", size, len(labels.labels))
    bundle = Bundle(
        model=config.model, deployed_stream="image", label_space=labels, thresholds=[0.5] * len(labels.labels),
        page=PageSpec(width_px=width_px, height_px=height_px), train_config=config,
    )  # fmt: skip
    save_bundle(folder / "bundle", bundle, model.state_dict())
    return folder / "bundle"


def run_score(bundle: str, pages: str, out: str, chunk_pages: str = "256") -> dict[str, Any]:
    """A run; `whole` from the call to the summary, `steady` from its first rows on.

    Rows come by chunks, and at the first one the next is half done: in a short run only small ones tell a rate.
    """
    from vizecg.platform.score.job import PoolSettings, Progress, ScoreSettings
    from vizecg.platform.score.run import score_pages

    begun = time.monotonic()
    seen: list[tuple[float, int]] = []
    log = Path(out).with_suffix(".progress.jsonl").open("w")

    def follow(progress: Progress) -> None:
        seen.append((time.monotonic(), progress.pages))
        print(json.dumps({"at": time.time(), "pages": progress.pages}), file=log, flush=True)

    settings = ScoreSettings(pool=PoolSettings(chunk_pages=int(chunk_pages)))
    summary = score_pages(bundle, pages, out, settings=settings, on_progress=follow)
    total_s = time.monotonic() - begun
    (first_s, first), (last_s, last) = next((at, n) for at, n in seen if n), seen[-1]
    steady = (last - first) / (last_s - first_s) if last > first else float("nan")
    whole = summary["pages"] / total_s
    return {"whole": whole, "steady": steady, "seconds": total_s, "start_s": first_s - begun, "pages": summary["pages"]}


def run_bare(bundle: str, pages: str) -> dict[str, Any]:
    """Reads and checks on threads, predicts in batches: what a run does, and nothing else."""
    import cv2
    import numpy as np

    from vizecg.platform.backends.choose import compile_bundle
    from vizecg.platform.bundle import read_facts
    from vizecg.platform.errors import PageError
    from vizecg.platform.predictor import PagePredictor

    cv2.setNumThreads(1)
    compiled = compile_bundle(bundle)
    predictor = PagePredictor.of(read_facts(bundle).model_dump_json(), compiled, num_threads=CORES)
    files = sorted(Path(pages).rglob("*.png"))

    def read(path: Path) -> Any:
        try:
            return predictor.read(path.read_bytes()).pixels
        except PageError:  # Refused by the check, as in a run.
            return None

    def decoded(pool: ThreadPoolExecutor) -> Iterator[Any]:
        ahead: deque[Future[Any]] = deque()
        for file in files:
            ahead.append(pool.submit(read, file))
            if len(ahead) > 2 * BATCH_PAGES:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    blank = np.zeros((BATCH_PAGES, 3, predictor.bundle.page.height_px, predictor.bundle.page.width_px), np.uint8)
    predictor.predict_pages(blank)
    begun = time.monotonic()
    with ThreadPoolExecutor(CORES + 1) as pool:
        pages_read = (pixels for pixels in decoded(pool) if pixels is not None)
        while batch := list(islice(pages_read, BATCH_PAGES)):
            predictor.predict_pages(np.stack(batch))
    return {"rate": len(files) / (time.monotonic() - begun), "backend": compiled.name, "note": compiled.note}


def run_plain(bundle: str, pages: str) -> dict[str, Any]:
    """What many would write: no check of the page, no other precision, no compiler."""
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    from vizecg.platform.bundle import load_bundle

    facts, model = load_bundle(bundle)
    size_px = (facts.page.width_px, facts.page.height_px)
    files = sorted(Path(pages).rglob("*.png"))[: PLAIN_PAGES + BATCH_PAGES]

    class Pages(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> torch.Tensor:
            with Image.open(files[index]) as image:
                pixels = np.array(image.convert("RGB").resize(size_px))
            return torch.from_numpy(pixels).permute(2, 0, 1)

    begun, done = 0.0, -BATCH_PAGES
    with torch.inference_mode():
        for batch in DataLoader(Pages(), batch_size=BATCH_PAGES, num_workers=2):
            torch.sigmoid(model.forward_deployed(batch))  # pyrefly: ignore[not-callable]
            done += len(batch)
            begun = begun or time.monotonic()  # The first batch warms up.
    return {"rate": done / (time.monotonic() - begun)}


def run_plan(bundle: str, pages: str) -> dict[str, Any]:
    """The time that one node of this machine's size is said to take."""
    from vizecg.platform.score.plan.predict import plan_scoring

    plan = plan_scoring(bundle, pages, nodes=[1])
    return {"seconds": [3600 * end for end in plan.options[0].hours], "sample_pages": plan.sample_pages}


CONTESTANTS = {"score": run_score, "bare": run_bare, "plain": run_plain, "plan": run_plan}


def start(contestant: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--contestant", contestant, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TQDM_DISABLE": "1"})


def told_by(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate()
    assert process.returncode == 0, "a contestant failed"
    return json.loads(output.splitlines()[-1])


def instructions() -> str:
    """What this CPU has for bf16 and int8, as Linux names it."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set[str]()
    known = ("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
    return ", ".join(name for name in known if name in flags) or "none that matter"


def verdict(is_met: bool) -> str:
    return "goal met" if is_met else "goal MISSED"


def compare_rates(bundle: Path, pages: Path, folder: Path, turns: int) -> None:
    told = [
        [told_by(start("bare", bundle, pages)), told_by(start("score", bundle, pages, folder / f"out-{turn}", 32)),
         told_by(start("plain", bundle, pages))]
        for turn in range(turns)
    ]  # fmt: skip
    bare, scored, plain = zip(*told, strict=True)
    whole, steady = (statistics.median(one[kind] for one in scored) for kind in ("whole", "steady"))
    bare_rate, plain_rate = (statistics.median(one["rate"] for one in ones) for ones in (bare, plain))
    amx = verdict(steady >= 6 * plain_rate) if "amx_bf16" in instructions() else "which this CPU lacks"
    print(
        f"  backend {bare[0]['backend']}; instructions: {instructions()}\n"
        f"  vizecg score {whole:.1f} pages/s from beginning to end, {steady:.1f} from its first rows on "
        f"(after {scored[0]['start_s']:.1f} s); bare loop {bare_rate:.1f}, plain script {plain_rate:.2f}\n"
        f"  score over bare loop: {steady / bare_rate:.3f} from first rows on (goal 0.85: "
        f"{verdict(steady >= 0.85 * bare_rate)}), {whole / bare_rate:.3f} whole\n"
        f"  over plain script: {steady / plain_rate:.1f} (goal 6 with AMX: {amx}); whole {whole / plain_rate:.1f}",
        flush=True,
    )


def compare_plan(bundle: Path, pages: Path, folder: Path, turns: int) -> None:
    for turn in range(turns):
        plan = told_by(start("plan", bundle, pages))
        seconds = told_by(start("score", bundle, pages, folder / f"planned-{turn}"))["seconds"]
        value, low, high = plan["seconds"]
        planned = f"planned {value:.1f} s ({low:.1f} – {high:.1f}) from {plan['sample_pages']} pages"
        ratio = value / seconds
        print(f"  {planned}, took {seconds:.1f} s: ratio {ratio:.2f} ({verdict(abs(ratio - 1) <= 0.2)})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["rate", "plan", "soak"], default="rate")
    parser.add_argument("--num", type=int, help="pages; 1,200, 1,500 and 100,000 where not said")
    parser.add_argument("--size", help="of the model: base, and debug in soak, where not said")
    parser.add_argument("--pages-px", help="512x384, and 256x192 in soak, where not said")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--pages", type=Path, help="keep the drawn pages here for the next time")
    parser.add_argument("--out", type=Path, default=Path("soak"))
    options = parser.parse_args()
    num_pages = options.num or {"rate": 1200, "plan": 1500, "soak": 100_000}[options.only]
    is_soak = options.only == "soak"
    size = options.size or ("debug" if is_soak else "base")
    width_px, height_px = map(int, (options.pages_px or ("256x192" if is_soak else "512x384")).split("x"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_bundle(folder, size, width_px, height_px)
        pages = make_pages(options.pages or folder, num_pages, width_px, height_px)
        print(f"{options.only}: {num_pages:,} pages of {width_px} x {height_px} px, size {size}, {CORES} logical cores")
        if is_soak:
            watcher = Path(__file__).with_name("scoring_soak.py")
            subprocess.run([sys.executable, watcher, bundle, pages, folder / "out", options.out], check=True)
        else:
            compare = compare_rates if options.only == "rate" else compare_plan
            compare(bundle, pages, folder, options.turns)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        print(json.dumps(CONTESTANTS[sys.argv[2]](*sys.argv[3:])))
    else:
        main()
