"""What Ray Tune runs in the process of a trial: the loop of `vizecg train`, or a Ray Train run with more workers."""

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..errors import UserError
from ..train.checkpoint import FOLDER, begin_attempt
from ..train.prepare import make_job
from ..train.ray_worker import NOT_FINITE, use_threads, write_records
from .config import SearchConfig
from .decisions import forget_decision, wait_for_decision
from .proposals import SCORE
from .resources import here, need_of
from .schedulers import scored

if TYPE_CHECKING:
    from ..train.job import TrainJob
    from ..train.loop import TrainingRun
    from .sharing import SharedRows

TRIALS = "trials"
FAILURE = "failure"
"""Key of the last report of a trial that would fail again if it were started again."""
_RAY = ".ray"


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """What all trials of a search have in common."""

    search: SearchConfig
    shards: str
    out: str
    shared: "SharedRows | None"
    """Shards in the memory of the cluster."""
    at_once: int
    """Trials beside each other on the whole cluster."""
    asks: bool = False
    """Trials are told after every epoch whether to go on, and end by themselves (decisions.py)."""

    def known_epochs(self, in_journal: int) -> int:
        """How many epochs a trial need not report when it starts again."""
        # HyperBand learns from trials that tell all of theirs at every start; in a population other trials' epochs come
        # with their weights.
        return {"hyperband": 0, "pbt": sys.maxsize}.get(self.search.scheduler, in_journal)


@dataclass
class Dress:
    """Adds to the rows of a run what a search wants to know of it."""

    metric: str
    devices: float
    asks: Path | None
    """Folder of a trial that is told after every epoch whether to go on (decisions.py)."""
    since: float = field(default_factory=time.time)
    facts: dict[str, Any] = field(default_factory=dict)

    def look_at(self, training: "TrainingRun") -> None:
        """Where the run is, and the size and speed of its model; called by all workers."""
        from .latency import image_latency_ms, num_parameters

        worker, model = training.worker, training.evaluated_model()
        node, _ = here()
        nodes = worker.gather(node)
        self.facts = {
            "node": node,
            "nodes": {name: self.devices * nodes.count(name) / len(nodes) for name in nodes},
            "num_parameters": num_parameters(model),
        }
        if worker.rank == 0:
            self.facts["latency_ms"] = image_latency_ms(model, training.job.page, worker.device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        now = time.time()
        spent_s, self.since = now - self.since, now
        return scored(row, self.metric) | {"devices": self.devices, "spent_s": round(spent_s, 3)} | self.facts

    def ends_after(self, row: dict[str, Any]) -> bool:
        """Whether the search ends the run here; waits for its decision."""
        return self.asks is not None and not row["finished"] and wait_for_decision(self.asks, row["epoch"])


def run_trial(config: dict[str, Any], task: TrialTask) -> None:
    """Train one trial, from its last checkpoint if it has one. What would go wrong again is reported, not raised."""
    from ray import tune

    # How long a stopped trial may take to let go of this process, which serves the next one; else that one is given up.
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "120")
    folder = Path(task.out) / TRIALS / tune.get_context().get_trial_name()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / NOT_FINITE, ignore_errors=True)
    started = time.time()
    run = config["run"]
    try:
        # The driver has built every model of the space: the process of a trial with workers need not import any.
        job = make_job(task.shards, task.search.trial_config(run["point"], run["seed"]), builds_model=False)
        need = need_of(job.config, task.search.gpus_per_trial)
        settings = {
            "known_epochs": task.known_epochs(run["known_epochs"]),
            "waits_for_checkpoints": True,
            "read_row_group": task.shared.read if task.shared else None,
        }
        dress = Dress(job.config.metric, need.devices, folder if task.asks else None, started)
        forget_decision(folder)
        train = _train_here if need.workers == 1 else _train_with_workers
        train(job, task, folder, dress, settings)
    except UserError as error:
        _report_failure(str(error))
        return
    if stopped := sorted((folder / NOT_FINITE).glob("*.json")):
        facts = json.loads(stopped[0].read_text())
        _report_failure(f"the {facts['what']} is not finite at step {facts['step']}, see {stopped[0].parent}")


def _report_failure(reason: str) -> None:
    from ray import tune

    tune.report({FAILURE: reason, SCORE: float("nan")})


def _train_here(job: "TrainJob", task: TrialTask, folder: Path, dress: Dress, settings: dict[str, Any]) -> None:
    import torch
    from ray import tune

    from ..train.loop import TrainingRun
    from ..train.step import NotFinite
    from ..train.worker import Worker
    from .population import adopt, report_with_pointer

    _, resources = here()
    use_threads(
        job.config, max(1, min(task.at_once, need_of(job.config, task.search.gpus_per_trial).fit_into(resources)))
    )
    in_population = task.search.scheduler == "pbt"
    if in_population:
        # A better trial may be some exchanges ahead of the one that takes its weights.
        job = _keeping_checkpoints(job, 3 * task.search.perturb_epochs + 1)
        adopt(tune.get_checkpoint(), folder, job.identity)

    def report(row: dict[str, Any]) -> bool:
        if in_population:
            report_with_pointer(dress(row), folder)
        else:
            tune.report(dress(row))
        return dress.ends_after(row)

    worker = Worker(
        rank=0,
        world_size=1,
        device=torch.device("cuda" if job.config.scaling.use_gpu else "cpu"),
        report=report,
        out=folder,
        attempt=_new_attempt(folder),
        **settings,
    )
    training = TrainingRun(job, worker)
    dress.look_at(training)
    try:
        training.train()
    except NotFinite as stop:
        write_records(stop, worker)


def _train_with_workers(job: "TrainJob", task: TrialTask, folder: Path, dress: Dress, settings: dict[str, Any]) -> None:
    import ray.train
    from ray.tune.integration.ray_train import TuneReportCallback

    from ..train.driver import torch_trainer

    # How often Ray Train looks for reports; a search with short epochs would wait for it most of its time.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    attempt, storage = _new_attempt(folder), folder / _RAY
    run_config = ray.train.RunConfig(name=attempt, storage_path=str(storage), callbacks=[TuneReportCallback()])
    torch_trainer(
        job, run_config, str(folder), attempt, trials_on_node=task.at_once, dress=dress, settings=settings
    ).fit()
    shutil.rmtree(storage, ignore_errors=True)


def _new_attempt(folder: Path) -> str:
    """Take the trial over from an earlier start of it, whose process may still be writing."""
    attempt = uuid4().hex[:8]
    begin_attempt(folder / FOLDER, attempt)
    return attempt


def _keeping_checkpoints(job: "TrainJob", epochs: int) -> "TrainJob":
    """The job, its checkpoints kept so long that others can take them over."""
    kept = job.config.checkpoint.model_copy(update={"keep_last": epochs})
    return replace(job, config=job.config.model_copy(update={"checkpoint": kept}))
