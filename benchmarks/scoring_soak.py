"""Memory and pages/s of one long scoring run, every two seconds, as soak.json and soak.png.

    python benchmarks/scoring.py --only soak --pages CACHE      calls this with BUNDLE PAGES WORK OUT

Memory of a process is what it has to itself: resident, less what it shares. The object store is counted once, as the
shared memory of Ray's raylet.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

SAMPLE_S = 2.0
EDGE_PAGES = 5_000
SETTLED = 0.1
"""Share of the run after which memory has to be flat."""
MOST_GROWTH = 0.05
MOST_CHANGE = 0.2
KINDS = ("driver", "predictors", "object store", "rest of Ray")

FloatArray = NDArray[np.float64]


def main(bundle: str, pages: str, work: str, out: str) -> None:
    script = Path(__file__).with_name("scoring.py")
    command = [sys.executable, str(script), "--contestant", "score", bundle, pages, work]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    memory = watch(process)
    assert process.returncode == 0 and process.stdout is not None, "the run failed"
    told = json.loads(process.stdout.read().splitlines()[-1])
    lines = Path(work).with_suffix(".progress.jsonl").read_text().splitlines()
    progress = np.array([(row["at"], row["pages"]) for row in map(json.loads, lines)], float)
    facts = judge(memory, progress) | {"pages": told["pages"], "start_s": told["start_s"], "seconds": told["seconds"]}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.json").write_text(json.dumps({**facts, "memory_mib": memory, "progress": progress.tolist()}) + "\n")
    plot(memory, progress, folder / "soak.png")
    show(facts)


def watch(process: subprocess.Popen[str]) -> list[dict[str, float]]:
    """MiB by kind, every two seconds until the process ends."""
    samples: list[dict[str, float]] = []
    while process.poll() is None:
        samples.append({"at": time.time(), **memory_mib(process.pid)})
        time.sleep(SAMPLE_S)
    return samples


def memory_mib(pid: int) -> dict[str, float]:
    """Of a driver and all that it started."""
    found = dict.fromkeys(KINDS, 0.0)
    try:
        driver = psutil.Process(pid)
        processes = [driver, *driver.children(recursive=True)]
    except psutil.NoSuchProcess:
        return found
    for process in processes:
        try:
            used, command = process.memory_info(), " ".join(process.cmdline()[:1])
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        own = (used.rss - used.shared) / 2**20
        kind = "driver" if process.pid == pid else "predictors" if "Scorer" in command else "rest of Ray"
        found[kind] += own
        if command.endswith("raylet"):
            found["object store"] += used.shared / 2**20
    return found


def judge(memory: list[dict[str, float]], progress: FloatArray) -> dict[str, Any]:
    """Rates at both ends, and what memory grew by, on a line through all samples after the start."""
    at, pages = progress.T
    begin = int(np.argmax(pages > 0))
    first = int(np.searchsorted(pages, pages[begin] + EDGE_PAGES))
    last = int(np.searchsorted(pages, pages[-1] - EDGE_PAGES, side="right")) - 1
    first, end = min(first, len(at) - 1), int(np.searchsorted(pages, pages[-1]))
    rates = [float((pages[b] - pages[a]) / (at[b] - at[a])) for a, b in ((begin, first), (max(last, begin), end))]
    settled_at = at[begin] + SETTLED * (at[-1] - at[begin])
    settled = [sample for sample in memory if settled_at <= sample["at"] <= at[-1]]
    growth: dict[str, dict[str, float]] = {}
    for kind in (*KINDS, "all"):
        values = [sum(sample[one] for one in (KINDS if kind == "all" else (kind,))) for sample in settled]
        slope, _ = np.polyfit([sample["at"] - at[0] for sample in settled], values, 1)
        grown = float(slope * (settled[-1]["at"] - settled[0]["at"]))
        growth[kind] = {"mean_mib": float(np.mean(values)), "max_mib": max(values), "grown_mib": grown}
    return {"first_pages_per_s": rates[0], "last_pages_per_s": rates[1], "memory": growth}


def show(facts: dict[str, Any]) -> None:
    first, last, whole = facts["first_pages_per_s"], facts["last_pages_per_s"], facts["memory"]["all"]
    is_steady, is_flat = abs(last / first - 1) <= MOST_CHANGE, whole["grown_mib"] <= MOST_GROWTH * whole["mean_mib"]
    print(
        f"  {facts['pages']:,} pages in {facts['seconds'] / 60:.1f} min\n"
        f"  first {EDGE_PAGES:,} after start-up {first:.1f} pages/s, last {last:.1f}: ratio {last / first:.3f} "
        f"(goal 0.8 to 1.2: {'met' if is_steady else 'MISSED'})"
    )
    for kind, used in facts["memory"].items():
        mean, most, grown = used["mean_mib"], used["max_mib"], used["grown_mib"]
        print(f"  {kind:<13} mean {mean:7.0f} MiB, most {most:7.0f}, grown {grown:+7.1f}")
    print(f"  memory grown by at most {MOST_GROWTH:.0%} of its mean: {'goal met' if is_flat else 'goal MISSED'}")


def plot(memory: list[dict[str, float]], progress: FloatArray, path: Path) -> None:
    """Memory by kind above, pages/s over half a minute below."""
    figure = Figure(figsize=(9, 5.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    begin = min(memory[0]["at"], progress[0, 0])
    minutes = [(sample["at"] - begin) / 60 for sample in memory]
    colours = ("#2767a8", "#c8364f", "#2e8461", "#9aa1ab")
    above.stackplot(minutes, *([sample[kind] for sample in memory] for kind in KINDS), labels=KINDS, colors=colours)
    above.set_ylabel("memory, MiB")
    above.legend(loc="lower right", ncols=4, fontsize=8)
    at, pages = progress.T
    ticks = np.arange(at[0], at[-1], 15.0)
    half_minute = np.interp(ticks + 15, at, pages) - np.interp(ticks - 15, at, pages)
    length_s = np.minimum(ticks + 15, at[-1]) - np.maximum(ticks - 15, at[0])
    below.plot((ticks - begin) / 60, half_minute / length_s, color=colours[0], linewidth=1.4)
    below.set_ylabel("pages/s")
    below.set_xlabel("minutes")
    below.set_ylim(bottom=0)
    for axes in (above, below):
        axes.grid(color="#efecea")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
