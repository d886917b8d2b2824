"""What Ray Train runs in every worker: the training loop, and where it stopped if it had to."""

import json
from pathlib import Path
from typing import Any

from ..config import TrainConfig
from ..files import write_atomically
from ..ray_session import share_of_cores
from .job import TrainJob

NOT_FINITE = "not-finite"
"""Folder with the records of a batch whose loss was no number."""


def ray_worker(arguments: dict[str, Any]) -> None:
    """Train `arguments["job"]` in the folder `arguments["out"]`, as the start called `arguments["attempt"]`.

    A search adds `settings`: more fields of the Worker, and `dress`: what a row says beside what the loop says, and how
    many workers share the cores (search/trial.py: Dress).
    """
    import ray.train
    import ray.train.torch
    import torch

    from .loop import TrainingRun
    from .step import NotFinite
    from .worker import Worker

    job: TrainJob = arguments["job"]
    context = ray.train.get_context()
    dress, on_node = arguments.get("dress"), context.get_local_world_size()
    use_threads(job.config, dress.workers_on_node(on_node) if dress else on_node)

    def report(row: dict[str, Any]) -> bool:
        ray.train.report(dress(row) if dress else row)
        return dress is not None and dress.ends_after(row)

    worker = Worker(
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=ray.train.torch.get_device() if job.config.scaling.use_gpu else torch.device("cpu"),
        report=report,
        out=Path(arguments["out"]) if arguments["out"] else None,
        attempt=arguments["attempt"],
        preempted=lambda: ray.train.get_preemption_info() is not None,
        **arguments.get("settings", {}),
    )
    training = TrainingRun(job, worker)
    if dress:
        dress.look_at(training)
    try:
        training.train()
    except NotFinite as stop:
        # All workers stop here, and return: Ray Train would start a failed worker again, to fail again.
        write_records(stop, worker)


def write_records(stop: Any, worker: Any) -> None:
    """For each worker the records of its share of the batch; ids belong into a file, not into a log."""
    if worker.out is None:
        raise FloatingPointError(f"the {stop.what} is not finite at step {stop.step}")
    facts = {"what": stop.what, "step": stop.step, "here": stop.here, "record_ids": stop.record_ids}
    folder = worker.out / NOT_FINITE
    folder.mkdir(exist_ok=True)
    write_atomically(folder / f"step{stop.step:08d}-worker{worker.rank}.json", json.dumps(facts, indent=2) + "\n")


def use_threads(config: TrainConfig, workers_on_node: int) -> None:
    """Share the cores of a machine among its workers."""
    import torch

    torch.set_num_threads(config.scaling.threads_per_worker or share_of_cores(workers_on_node))
