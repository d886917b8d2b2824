"""`vizecg train`: shards in, a bundle out. Resolves everything the workers need and hands it to Ray Train."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..bundle import FACTS
from ..config import TrainConfig
from ..data.batches import RowGroup
from ..data.dataset_info import DatasetInfo, load_dataset_info, read_row_index
from ..data.labels import LabelSpace, load_label_space
from ..data.read_page import PageSpec
from ..errors import UserError
from ..files import claim_folder, write_atomically
from ..history import HISTORY, watch_history
from ..ray_session import share_of_cores, start_ray
from .loop import TrainingRun, TrainJob
from .worker import Worker

OnEpoch = Callable[[dict[str, Any]], None]
RUN_NAME = "checkpoints"
MARKER = "run.json"


def train_model(
    shards: Path | str, out: Path | str, config: TrainConfig, *, restart: bool = False, on_epoch: OnEpoch | None = None
) -> Path:
    """Train on `shards` and write OUT/bundle; the same call goes on where an earlier one stopped.

    Args:
        restart: throw away what an earlier run left in OUT.
        on_epoch: called with the metrics of every finished epoch.

    Raises:
        UserError: shards, configuration and cluster do not fit together, or OUT holds another run.
    """
    out = Path(out).absolute()
    job = make_job(shards, config)
    if restart:
        _clear(out, job)
    if _claim(out, job):
        return out / "bundle"
    start_ray(min_cpus=cpus_of_training(config))
    with watch_history(out / HISTORY, on_epoch or (lambda metrics: None)):
        checkpoint = _fit(job, out)
    return _write_bundle(job, checkpoint, out / "bundle")


def cpus_of_training(config: TrainConfig) -> int:
    """Logical CPUs of a run: every worker, the task that feeds it, and one to spare for what the driver starts."""
    return 2 * config.scaling.num_workers + 1


def make_job(shards: Path | str, config: TrainConfig) -> TrainJob:
    """Everything the workers need, looked up once; UserError where shards and configuration do not fit."""
    shards = Path(shards).absolute()
    info = load_dataset_info(shards)
    label_space = load_label_space(config.label_space or info.default_label_space)
    splits = {split: [RowGroup(*group) for group in read_row_index(shards, split)] for split in ("train", "val")}
    for split, least in (("train", config.batch_size), ("val", 1)):
        held = sum(group.num_rows for group in splits[split])
        if held < least:
            raise UserError(f"{shards}: the {split} split holds {held} records, and batch_size {least} needs that many")
    _check_model(config, len(label_space.labels))
    page = PageSpec(
        width_px=config.data.page_width_px or info.page.width_px,
        height_px=config.data.page_height_px or info.page.height_px,
    )
    return TrainJob(
        config=config,
        label_space=label_space,
        page=page,
        train=splits["train"],
        val=splits["val"],
        identity=_identity(config, label_space, info),
        shards=str(shards),
        dataset_fingerprint=info.fingerprint,
        sampling_rate_hz=info.sampling_rate_hz,
    )


def require_both_classes(job: TrainJob) -> None:
    """A search ranks trials by AUROC on the validation split; UserError where none of its labels can have one."""
    info = load_dataset_info(job.shards)
    counts, total = info.code_counts["val"], info.counts["val"]
    positives = [sum(counts.get(code, 0) for code in label.codes) for label in job.label_space.labels]
    if not any(0 < count < total for count in positives):
        raise UserError(
            f"{job.shards}: trials cannot be ranked, since among the {total} validation records no label of "
            f"{job.label_space.name} has both positive and negative ones; use more records or another label_space"
        )


def _check_model(config: TrainConfig, num_labels: int) -> None:
    """Build the model without its weights: a wrong option is one sentence here, and a failed run in the workers."""
    import torch

    from ...models.registry import build_model

    try:
        with torch.device("meta"):
            build_model(config.model.name, config.model.size, num_labels, config.model.options)
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from None


def _identity(config: TrainConfig, label_space: LabelSpace, info: DatasetInfo) -> str:
    """What a resumed run must share with the run it goes on from: all but the scaling."""
    data = info.fingerprint + info.config.model_dump_json()
    facts = [config.model_dump_json(exclude={"scaling"}), label_space.model_dump_json(), data]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _claim(out: Path, job: TrainJob) -> bool:
    """Mark OUT as this run's; true where the run is finished already."""
    facts = {"identity": job.identity, "shards": job.shards, "config": job.config.model_dump(mode="json")}
    return claim_folder(out / MARKER, facts, hint="start over with --restart") and (out / "bundle" / FACTS).exists()


def _clear(out: Path, job: TrainJob) -> None:
    """Remove what an earlier run left, and nothing else: OUT may hold its evaluation, too, or be anybody's folder."""
    if not (out / MARKER).exists():
        return
    for name in ("bundle", RUN_NAME):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / HISTORY).unlink(missing_ok=True)
    write_atomically(out / MARKER, json.dumps({"identity": job.identity}))


def _fit(job: TrainJob, out: Path) -> Any:
    import ray.train

    run_config = ray.train.RunConfig(
        name=RUN_NAME,
        storage_path=str(out),
        checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        failure_config=ray.train.FailureConfig(max_failures=3),
    )
    try:
        return torch_trainer(job, run_config, history=str(out / HISTORY)).fit().checkpoint
    except ray.train.WorkerGroupError as error:
        causes = [cause for cause in error.worker_failures.values() if isinstance(cause, FloatingPointError)]
        if causes:
            raise UserError(f"training failed: {causes[0]}") from None
        raise


def torch_trainer(job: TrainJob, run_config: Any, history: str | None, **more: Any) -> Any:
    """The Ray Train run of a job; `history` names the file that the first worker adds every epoch to.

    `more` goes into the arguments of the worker function; `worker` in it replaces `ray_worker`.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    scaling = job.config.scaling
    return TorchTrainer(
        more.pop("worker", ray_worker),
        train_loop_config={"job": job, "history": history, **more},
        scaling_config=ray.train.ScalingConfig(num_workers=scaling.num_workers, use_gpu=scaling.use_gpu),
        torch_config=TorchConfig(backend="nccl" if scaling.use_gpu else "gloo"),
        run_config=run_config,
    )


def ray_worker(arguments: dict[str, Any]) -> None:
    """What Ray Train runs in every worker."""
    import ray.train
    import ray.train.torch
    import torch

    job: TrainJob = arguments["job"]
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    use_threads(job.config, context.get_local_world_size())
    history = arguments["history"]

    def report(metrics: dict[str, Any], folder: Path | None) -> None:
        # First: an epoch that is in a checkpoint must be in the history, too.
        if rank == 0 and history:
            with open(history, "a") as lines:
                lines.write(json.dumps(metrics) + "\n")
        checkpoint = ray.train.Checkpoint.from_directory(folder) if folder else None
        ray.train.report(metrics, checkpoint=checkpoint)

    checkpoint = ray.train.get_checkpoint()
    device = ray.train.torch.get_device() if job.config.scaling.use_gpu else torch.device("cpu")
    if checkpoint is None:
        TrainingRun(job, Worker(rank=rank, world_size=world_size, device=device, report=report)).train()
        return
    with checkpoint.as_directory() as folder:
        worker = Worker(rank=rank, world_size=world_size, device=device, report=report, checkpoint=Path(folder))
        run = TrainingRun(job, worker)
    run.train()


def use_threads(config: TrainConfig, workers_on_node: int) -> None:
    """Share the cores of a machine among its workers."""
    import torch

    torch.set_num_threads(config.scaling.threads_per_worker or share_of_cores(workers_on_node))


def _write_bundle(job: TrainJob, checkpoint: Any, folder: Path) -> Path:
    """Make the bundle where the workers ran: the driver may sit on a head node without the cores for it."""
    import ray

    from .finish import bundle_from_checkpoint

    ray.get(ray.remote(num_cpus=1)(bundle_from_checkpoint).remote(job, checkpoint, str(folder)))
    return folder
