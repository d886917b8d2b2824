"""`vizecg train`: shards in, a bundle out. Makes the job, claims OUT and hands both to Ray Train."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..bundle import FACTS
from ..config import ScalingSection, TrainConfig
from ..errors import UserError
from ..files import claim_folder, write_atomically
from ..history import HISTORY, PROGRESS, watch_run
from ..ray_session import start_ray
from .checkpoint import FOLDER, begin_attempt
from .job import TrainJob
from .mlflow_log import MLFLOW, mlflow_settings
from .prepare import make_job
from .ray_worker import NOT_FINITE, ray_worker
from .tracking import TENSORBOARD

OnRow = Callable[[dict[str, Any]], None]
MARKER = "run.json"
_RAY = ".ray"
"""What Ray Train writes of its own; nothing is read from it."""


def train_model(
    shards: Path | str,
    out: Path | str,
    config: TrainConfig,
    *,
    restart: bool = False,
    init_from: Path | str | None = None,
    on_epoch: OnRow | None = None,
    on_progress: OnRow | None = None,
) -> Path:
    """Train on `shards` and write OUT/bundle; the same call goes on where an earlier one stopped.

    Args:
        restart: throw away what an earlier run left in OUT.
        init_from: bundle to start from, for fine-tuning.
        on_epoch: called with the metrics of every finished epoch.
        on_progress: called twice a second with where the run is.

    Raises:
        UserError: shards, configuration and cluster do not fit together, OUT holds another run, or the loss became
            infinite.
    """
    out = Path(out).absolute()
    job = make_job(shards, config, init_from)
    if restart:
        _clear(out, job)
    if _claim(out, job):
        return out / "bundle"
    job = replace(job, mlflow=mlflow_settings(config))
    start_ray(min_cpus=cpus_of_training(config))
    silent: OnRow = lambda row: None  # noqa: E731
    with watch_run(out, on_epoch or silent, on_progress or silent):
        _fit(job, out)
    return _write_bundle(job, out)


def cpus_of_training(config: TrainConfig) -> int:
    """Logical CPUs of a run: every worker, and one to spare for what the driver starts."""
    return config.scaling.min_workers + 1


def _claim(out: Path, job: TrainJob) -> bool:
    """Mark OUT as this run's; true where the run is finished already."""
    facts = {"identity": job.identity, "shards": job.shards, "config": job.config.model_dump(mode="json")}
    return claim_folder(out / MARKER, facts, hint="start over with --restart") and (out / "bundle" / FACTS).exists()


def _clear(out: Path, job: TrainJob) -> None:
    """Remove what an earlier run left, and nothing else: OUT may hold its evaluation, too, or be anybody's folder."""
    if not (out / MARKER).exists():
        return
    for name in ("bundle", FOLDER, TENSORBOARD, NOT_FINITE, _RAY):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (HISTORY, PROGRESS, MLFLOW):
        (out / name).unlink(missing_ok=True)
    write_atomically(out / MARKER, json.dumps({"identity": job.identity}))


def _fit(job: TrainJob, out: Path) -> None:
    import ray.train

    attempt = uuid4().hex[:8]
    begin_attempt(out / FOLDER, attempt)
    for left in (_RAY, NOT_FINITE):
        shutil.rmtree(out / left, ignore_errors=True)
    failures = ray.train.FailureConfig(max_failures=job.config.scaling.max_failures)
    run_config = ray.train.RunConfig(name=attempt, storage_path=str(out / _RAY), failure_config=failures)
    torch_trainer(job, run_config, out=str(out), attempt=attempt).fit()
    shutil.rmtree(out / _RAY, ignore_errors=True)
    stopped = sorted((out / NOT_FINITE).glob("*.json"))
    if stopped:
        facts = json.loads(stopped[0].read_text())
        raise UserError(
            f"training stopped before step {facts['step']}, whose {facts['what']} is not finite; its records are in "
            f"{out / NOT_FINITE}; look at them, or start over with a lower optimizer.learning_rate or precision fp32"
        )


def torch_trainer(job: TrainJob, run_config: Any, out: str | None, attempt: str = "", **more: Any) -> Any:
    """The Ray Train run of a job; without `out` it keeps nothing but what it reports.

    `more` goes into the arguments of the worker function; `worker` in it replaces `ray_worker`.
    """
    from ray.train.torch import TorchConfig, TorchTrainer

    scaling = job.config.scaling
    return TorchTrainer(
        more.pop("worker", ray_worker),
        train_loop_config={"job": job, "out": out, "attempt": attempt, **more},
        scaling_config=_scaling_config(scaling),
        torch_config=TorchConfig(backend="nccl" if scaling.use_gpu else "gloo"),
        run_config=run_config,
    )


def _scaling_config(scaling: ScalingSection) -> Any:
    import ray.train

    elastic = scaling.min_workers < scaling.max_workers
    more = {"elastic_resize_monitor_interval_s": scaling.resize_every_s} if elastic else {}
    num_workers = scaling.num_workers if elastic else scaling.max_workers
    return ray.train.ScalingConfig(num_workers=num_workers, use_gpu=scaling.use_gpu, **more)


def _write_bundle(job: TrainJob, out: Path) -> Path:
    """Make the bundle where the workers ran: the driver may sit on a head node without the cores for it."""
    import ray

    from .finish import bundle_from_checkpoint

    folder = out / "bundle"
    task = ray.remote(num_cpus=1, num_gpus=int(job.config.scaling.use_gpu))(bundle_from_checkpoint)
    ray.get(task.remote(job, str(out / FOLDER), str(folder)))
    return folder
