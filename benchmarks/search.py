"""What a search costs beyond its training, and what a clever one saves: practice records, two trials at once.

    python benchmarks/search.py [--only overhead|joint] [--trials N] [--epochs N] [--shards FOLDER] [--out FOLDER]

overhead  the search of loss-weights.smoke with one worker a trial (goal: a trial costs <= 15 s beyond its training
          steps) and with two (goal: <= 45 s), and the whole search beside the same training without one
joint     40 trials of joint.smoke by ASHA and Optuna against 40 whole random ones (goal: the best metric within 0.01,
          with a quarter of the epochs). About 30 minutes on 2 cores; with --out the same command goes on

A trial's cost is the time from its `begun` to its `ended` in the journal less the `seconds` of its epochs: the start of
processes and models, checkpoints, latency, reports, and waiting for Ray Tune. The first trials start processes that
later ones take over; the workers of a trial with two are new every time. Beside the cost stands a trial's time less a
bare run's: the same configuration and loop in processes of their own, with no folder and no Ray. Two trials at once
slow each other down, so the bare run that counts is one of two side by side, with as many threads as trials have.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vizecg.platform.config import TrainConfig, parse_config
from vizecg.platform.search.config import SearchConfig, load_search
from vizecg.platform.search.journal import Journal, Trial
from vizecg.platform.settings import read_yaml

CONFIGS = Path(__file__).parents[1] / "tune_configs"
AT_ONCE = 2
METRIC = "val_image_macro_auroc"


def bare_worker(shards: str, config: str, rank: str, processes: str, rendezvous: str) -> None:
    """One worker of a bare run: prints the seconds of its epochs. `processes` share the machine."""
    import torch
    from torch import distributed

    from vizecg.platform.train.loop import TrainingRun
    from vizecg.platform.train.prepare import make_job
    from vizecg.platform.train.ray_worker import use_threads
    from vizecg.platform.train.worker import Worker

    job = make_job(Path(shards), parse_config(json.loads(config), "bare"))
    num_workers = job.config.scaling.min_workers
    use_threads(job.config, int(processes))
    if num_workers > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{rendezvous}", rank=int(rank), world_size=num_workers
        )
    rows: list[dict[str, Any]] = []
    TrainingRun(
        job, Worker(rank=int(rank), world_size=num_workers, device=torch.device("cpu"), report=rows.append)
    ).train()
    print(sum(row["seconds"] for row in rows))


def bare_seconds(shards: Path, config: TrainConfig, runs: int) -> tuple[float, float]:
    """Of so many runs side by side, on average: the seconds of a run's epochs, and those with imports and model."""
    num_workers = config.scaling.min_workers
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--bare", shards, config.model_dump_json(), str(rank),
                 str(runs * num_workers), f"{folder}/run{run}"],
                stdout=subprocess.PIPE, text=True,
            )
            for run in range(runs)
            for rank in range(num_workers)
        ]  # fmt: skip
        outputs = [process.communicate()[0] for process in processes]
        whole_s = time.monotonic() - started
    assert not any(process.returncode for process in processes), "the bare run failed"
    return statistics.mean(float(output.splitlines()[-1]) for output in outputs), whole_s


def overhead_search(num_trials: int, num_workers: int) -> SearchConfig:
    """Trials that differ in nothing that takes time."""
    base = read_yaml(CONFIGS / "loss-weights.smoke.yaml")["base"]
    temperatures = [1 + number / num_trials for number in range(num_trials)]
    return SearchConfig.model_validate({
        "base": base | {"scaling": {"num_workers": num_workers}},
        "space": {"objective.temperature": {"choice": temperatures}},
        "searcher": "grid", "scheduler": "fifo", "max_concurrent": AT_ONCE,
    })  # fmt: skip


def timed_search(shards: Path, out: Path, search: SearchConfig, num_workers: int = 1) -> tuple[float, float]:
    """Seconds in which Ray started, and those of the search after that."""
    import ray

    from vizecg.platform.ray_session import start_ray
    from vizecg.platform.search.run import tune_model

    started = time.monotonic()
    start_ray(min_cpus=num_workers * AT_ONCE)
    ray_s = time.monotonic() - started
    tune_model(shards, out, search)
    search_s = time.monotonic() - started - ray_s
    ray.shutdown()
    return ray_s, search_s


@dataclass(frozen=True)
class Past:
    """What the journal of a search tells."""

    events: list[dict[str, Any]]
    trials: list[Trial]

    @classmethod
    def of(cls, out: Path) -> "Past":
        journal = Journal(out)
        journal.close()
        return cls(journal.events, journal.main)

    def span_s(self, trial: Trial) -> float:
        """From its beginning to its end."""
        at = {event["event"]: event["at"] for event in self.events if event.get("trial") == trial.id}
        return at["ended"] - at["begun"]

    @property
    def running_s(self) -> float:
        """Between the first event and the last of every start of the search."""
        starts = [index for index, event in enumerate(self.events) if event["event"] == "start"]
        last = [index - 1 for index in (*starts[1:], len(self.events))]
        return sum(self.events[j]["at"] - self.events[i]["at"] for i, j in zip(starts, last, strict=True))

    def best_after(self, num_epochs: int) -> float:
        """The best metric in the search's first so many epochs, of whichever trials."""
        rows = [event["row"] for event in self.events if event["event"] == "epoch"]
        return max(row[METRIC] for row in rows[:num_epochs] if row[METRIC] is not None)


def measure_overhead(shards: Path, out: Path, num_trials: int, num_workers: int, goal_s: float) -> None:
    search = overhead_search(num_trials, num_workers)
    config = search.trial_config(search.first_point())
    alone_s, _ = bare_seconds(shards, config, 1)
    before_s, whole_s = bare_seconds(shards, config, AT_ONCE)
    ray_s, search_s = timed_search(shards, out, search, num_workers)
    after_s, _ = bare_seconds(shards, config, AT_ONCE)
    bare_s = statistics.mean([before_s, after_s])
    print(
        f"\n{num_trials} trials of {config.epochs} epochs, {num_workers} worker(s) each, {AT_ONCE} at once\n"
        f"  bare run: {alone_s:.1f} s alone; {bare_s:.1f} s beside another ({before_s:.1f} before the search, "
        f"{after_s:.1f} after it; {whole_s:.1f} with imports and model)"
    )
    print_costs(Past.of(out), bare_s, goal_s)
    floor_s = num_trials * bare_s / AT_ONCE
    print(
        f"  search: {search_s:.1f} s and {ray_s:.1f} s in which Ray started. Over the trials' bare training "
        f"({num_trials} x {bare_s:.1f} s / {AT_ONCE} = {floor_s:.1f} s): {search_s / floor_s:.2f}, with Ray's start "
        f"{(search_s + ray_s) / floor_s:.2f}",
        flush=True,
    )


def print_costs(past: Past, bare_s: float, goal_s: float) -> None:
    """What trials took beyond their epochs, and beyond a bare run: median and maximum."""
    print(f"  {'':<14}{'beyond its epochs':>24}{'beyond a bare run':>24}")
    rows = (("first trials", past.trials[:AT_ONCE]), ("later trials", past.trials[AT_ONCE:]))
    for title, trials in rows:
        beyond = [past.span_s(trial) - sum(row["seconds"] for row in trial.rows) for trial in trials]
        beyond_bare = [past.span_s(trial) - bare_s for trial in trials]
        if trials:
            print(f"  {title:<14}{_spread(beyond):>24}{_spread(beyond_bare):>24}  {_verdict(max(beyond) <= goal_s)}")
    failed = [trial.id for trial in past.trials if trial.status != "finished" or trial.failures]
    print(f"  goal: every trial <= {goal_s:g} s beyond its epochs" + (f"; failed: {failed}" if failed else ""))


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} s, max {max(values):.1f} s"


def _verdict(is_met: bool) -> str:
    return "goal met" if is_met else "goal MISSED"


def joint_search(num_trials: int, epochs: int, **changes: object) -> SearchConfig:
    """The practice twin of `joint`, without the seeds that confirm its best."""
    plain = {"num_trials": num_trials, "base.epochs": epochs, "max_concurrent": AT_ONCE, "confirm": None}
    changed = {**plain, "base.tracking.tensorboard": False, **changes}
    return load_search(
        CONFIGS / "joint.smoke.yaml", [f"{key}={json.dumps(value)}" for key, value in changed.items()]
    )  # fmt: skip


def compare_joint(shards: Path, out: Path, num_trials: int, epochs: int) -> None:
    """A search that stops what promises little, against one that trains everything to its end."""
    searches = {
        "ASHA, Optuna": joint_search(num_trials, epochs, scheduler="asha", searcher="optuna", seed=1),
        "whole, random": joint_search(num_trials, epochs, scheduler="fifo", searcher="random", seed=2),
    }
    pasts: list[Past] = []
    print(f"\njoint.smoke, {num_trials} trials of up to {epochs} epochs, {AT_ONCE} at once")
    for name, search in searches.items():
        folder = out / f"joint-{search.scheduler}"
        timed_search(shards, folder, search)
        past = Past.of(folder)
        pasts.append(past)
        values = sorted(row[METRIC] for trial in past.trials if (row := trial.best(METRIC)))
        print(
            f"  {name:<14} best {values[-1]:.4f}, second {values[-2:][0]:.4f}, median {statistics.median(values):.4f}; "
            f"{num_epochs(past)} epochs, {past.running_s / 60:.1f} min",
            flush=True,
        )
    clever, whole = pasts
    spent, of_all = num_epochs(clever), num_epochs(whole)
    difference = clever.best_after(spent) - whole.best_after(of_all)
    print(
        f"  difference of the best {difference:+.4f} (goal >= -0.01): {_verdict(difference >= -0.01)}\n"
        f"  ratio of epochs {spent / of_all:.3f} (goal <= 0.25): {_verdict(spent <= of_all / 4)}\n"
        f"  after a quarter of the epochs, {of_all // 4}: {clever.best_after(of_all // 4):.4f}, difference "
        f"{clever.best_after(of_all // 4) - whole.best_after(of_all):+.4f}\n"
        f"  random had found {whole.best_after(spent):.4f} after {spent} epochs"
    )


def num_epochs(past: Past) -> int:
    return sum(trial.epochs for trial in past.trials)


def make_shards(folder: Path, num_records: int, val_fraction: float) -> Path:
    """Practice shards with no records for testing, unless they are there from an earlier start."""
    import ray

    from vizecg.platform.data.dataset_info import shard_config
    from vizecg.platform.data.practice import write_practice_archive
    from vizecg.platform.data.shards import write_shards

    if not (folder / "shards" / "dataset.json").exists():
        write_practice_archive(folder / "archive", num_records, seed=1)
        page = {"width_px": 160, "height_px": 120}
        config = shard_config(page=page, val_fraction=val_fraction, test_fraction=0.0)
        write_shards(folder / "archive", folder / "shards", config)
        ray.shutdown()
    return folder / "shards"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["overhead", "joint"])
    parser.add_argument("--trials", type=int, help="6 and 40 where not said")
    parser.add_argument("--epochs", type=int, default=24, help="of a whole trial of joint")
    parser.add_argument("--shards", type=Path, help="in place of practice shards made for this")
    parser.add_argument("--out", type=Path, help="keep the joint searches here, and go on with them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only in (None, "overhead"):
            shards = options.shards or make_shards(folder / "600", 600, 0.15)
            for num_workers, goal_s in ((1, 15.0), (2, 45.0)):
                measure_overhead(shards, folder / f"workers{num_workers}", options.trials or 6, num_workers, goal_s)
        if options.only in (None, "joint"):
            out = options.out or folder
            # Many records to judge by: the best of 40 on 90 records is mostly luck.
            shards = options.shards or make_shards(out / "joint", 700, 0.45)
            compare_joint(shards, out, options.trials or 40, options.epochs)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare_worker(*sys.argv[2:])
    else:
        main()
