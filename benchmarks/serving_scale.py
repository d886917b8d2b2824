"""Replicas that follow the load: 1, then as many as it takes, then 1 again.

    python benchmarks/serving_scale.py BUNDLE PAGES [--most 3] [--plot docs/serving/scaling.png]

One closed loop of few requests, one of many, and one of few again, on an application with Serve's autoscaling, as
serve.yaml has it but with delays of seconds. More replicas do not make it faster on these cores: what is shown is that
they come and go, and that no request fails meanwhile.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from vizecg.benchmarks.load import load_in_process
from vizecg.benchmarks.load_report import LoadPlan

PHASES = ((1, 40.0), (24, 75.0), (1, 90.0))
"""Requests in flight, for so many seconds."""


def watch(samples: list[tuple[float, int]], end: threading.Event) -> None:
    from ray import serve

    begun = time.monotonic()
    while not end.wait(0.5):
        states = serve.status().applications["vizecg"].deployments["PageReader"].replica_states
        running = states.get("RUNNING", 0)  # pyrefly: ignore[no-matching-overload]
        samples.append((time.monotonic() - begun, int(running)))


def run(bundle: str, pages: str, most: int, folder: Path) -> tuple[list[tuple[float, int]], list[dict[str, Any]]]:
    from vizecg.serve.keys import add_key
    from vizecg.serve.listening import Listening
    from vizecg.serve.server import running_application

    key = add_key(folder / "keys.json", "scale")
    scaling = {
        "min_replicas": 1, "max_replicas": most, "target_ongoing_requests": 6, "upscale_delay_s": 3,
        "downscale_delay_s": 10, "metrics_interval_s": 1, "look_back_period_s": 4,
    }  # fmt: skip
    args: dict[str, Any] = {"keys_file": str(folder / "keys.json"), "autoscaling": scaling, "num_cpus": 0.5}
    samples: list[tuple[float, int]] = []
    phases: list[dict[str, Any]] = []
    end = threading.Event()
    with running_application(bundle, Listening(port=0, haproxy=True), **args) as endpoint:
        watching = threading.Thread(target=watch, args=(samples, end), daemon=True)
        watching.start()
        for in_flight, seconds in PHASES:
            began_s = samples[-1][0] if samples else 0.0
            plan = LoadPlan(
                url=f"{endpoint.url}/v1/predict",
                pages=pages,
                key=key,
                in_flight=in_flight,
                seconds=seconds,
                warm_up_s=0,
            )
            report = load_in_process(plan)
            phases.append({
                "from_s": began_s, "in_flight": in_flight, "per_s": report.requests_per_s, "errors": report.errors,
                "answered": report.answered,
            })  # fmt: skip
            print(phases[-1], flush=True)
        end.set()
        watching.join()
    return samples, phases


def plot(samples: list[tuple[float, int]], phases: list[dict[str, Any]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 3.6), layout="constrained")
    axes.step([at for at, _ in samples], [count for _, count in samples], where="post", color="#2767a8", lw=2)
    axes.set_ylim(0, max(count for _, count in samples) + 0.8)
    axes.set_yticks(range(max(count for _, count in samples) + 1))
    axes.set_ylabel("replicas that answer")
    axes.set_xlabel("seconds")
    for phase in phases:
        axes.axvline(phase["from_s"], color="#888888", lw=0.8, ls=":")
        text = f"{phase['in_flight']} in flight\n{phase['per_s']:.0f} pages/s"
        axes.annotate(
            text, (phase["from_s"], 1), (4, -6), xycoords=("data", "axes fraction"), textcoords="offset points",
            va="top", fontsize=9, color="#444444",
        )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_title("Replicas follow the load", loc="left", fontsize=11)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("pages")
    parser.add_argument("--most", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        samples, phases = run(options.bundle, options.pages, options.most, Path(name))
    counts = [count for _, count in samples]
    print(f"replicas: {counts[0]} at first, {max(counts)} at most, {counts[-1]} in the end")
    if options.plot:
        plot(samples, phases, options.plot)
    assert counts[0] == 1 and max(counts) == options.most and counts[-1] == 1
    assert not any(phase["errors"] for phase in phases)


if __name__ == "__main__":
    main()
