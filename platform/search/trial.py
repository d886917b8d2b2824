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
from .placement import forget_placement_group, free_placement_group, note_placement_group
from .proposals import SCORE
from .resources import Need, here, need_of
from .schedulers import scored

if TYPE_CHECKING:
    from ..train.job import TrainJob
    from ..train.loop import TrainingRun
    from ..train.worker import Worker
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
        # HyperBand learns from trials that tell all of theirs at every start. A population's trials tell the last one:
        # how many there are changes with whose weights they took over.
        return {"hyperband": 0, "pbt": -1}.get(self.search.scheduler, in_journal)


@dataclass
class Dress:
    """Adds to the rows of a run what a search wants to know of it."""

    metric: str
    need: Need
    at_once: int
    """Trials beside each other on the whole cluster."""
    folder: Path
    asks: bool
    """Whether the trial is told after every epoch to go on (decisions.py)."""
    since: float
    facts: dict[str, Any] = field(default_factory=dict)
    worker: "Worker | None" = None

    def workers_on_node(self, of_this_trial: int) -> int:
        """How many workers of whatever trials may share the cores of this node."""
        _, resources = here()
        return max(of_this_trial, min(self.at_once * of_this_trial, self.need.fit_into(resources)))

    def look_at(self, training: "TrainingRun") -> None:
        """Where the run is, and the size and speed of its model; called by all workers."""
        from .latency import image_latency_ms, num_parameters

        self.worker = worker = training.worker
        model = training.evaluated_model()
        node, _ = here()
        nodes = worker.gather(node)
        self.facts = {
            "node": node,
            "nodes": {name: self.need.devices * nodes.count(name) / len(nodes) for name in nodes},
            "num_parameters": num_parameters(model),
        }
        if worker.rank == 0:
            if self.need.workers > 1:
                note_placement_group(self.folder)
            self.facts["latency_ms"] = image_latency_ms(model, training.job.page, worker.device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        now = time.time()
        spent_s, self.since = now - self.since, now
        return scored(row, self.metric) | {"devices": self.need.devices, "spent_s": round(spent_s, 3)} | self.facts

    def ends_after(self, row: dict[str, Any]) -> bool:
        """Whether the search ends the run here; the first worker waits for its decision and tells the others."""
        if not self.asks or row["finished"]:
            return False
        assert self.worker is not None
        first = self.worker.rank == 0
        return self.worker.gather(wait_for_decision(self.folder, row["epoch"]) if first else None)[0]


def run_trial(config: dict[str, Any], task: TrialTask) -> None:
    """Train one trial, from its last checkpoint if it has one. What would go wrong again is reported, not raised."""
    from ray import tune

    # How long a stopped trial may take to let go of this process, which serves the next one; else that one is given up.
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "120")
    _require_shared_folders(task)
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
        dress = Dress(job.config.metric, need, task.at_once, folder, task.asks, started)
        forget_decision(folder)
        if need.workers == 1:
            _train_here(job, run["source"] if task.search.scheduler == "pbt" else None, task, dress, settings)
        else:
            _train_with_workers(job, dress, settings)
    except UserError as error:
        _report_failure(str(error))
        return
    if stopped := sorted((folder / NOT_FINITE).glob("*.json")):
        facts = json.loads(stopped[0].read_text())
        _report_failure(f"the {facts['what']} is not finite at step {facts['step']}, see {stopped[0].parent}")


def _require_shared_folders(task: TrialTask) -> None:
    """No UserError: it is this node's matter, and the trial may find another one when it is started again."""
    for path in (Path(task.out), Path(task.shards)):
        if not path.exists():
            node, _ = here()
            raise FileNotFoundError(f"node {node} does not see {path}: all nodes must share OUT and the shards")


def _report_failure(reason: str) -> None:
    from ray import tune

    tune.report({FAILURE: reason, SCORE: float("nan")})


def _train_here(
    job: "TrainJob", source: dict[str, str] | None, task: TrialTask, dress: Dress, settings: dict[str, Any]
) -> None:
    """In this process; in a population with the weights that `source` or Ray Tune points to, if they are new."""
    import torch
    from ray import tune

    from ..train.loop import TrainingRun
    from ..train.step import NotFinite
    from ..train.worker import Worker
    from .population import adopt, read_pointer, report_with_pointer

    folder, in_population = dress.folder, task.search.scheduler == "pbt"
    use_threads(job.config, dress.workers_on_node(1))
    if in_population:
        # A better trial may be some exchanges ahead of the one that takes its weights.
        job = _keeping_checkpoints(job, 3 * task.search.perturb_epochs + 1)
        if adopt(read_pointer(tune.get_checkpoint()) or source, folder, job.identity):
            settings = settings | {"known_epochs": sys.maxsize}

    def report(row: dict[str, Any]) -> bool:
        if in_population:
            report_with_pointer(dress(row), folder)
        else:
            tune.report(dress(row))
        return dress.ends_after(row)

    device = torch.device("cuda" if job.config.scaling.use_gpu else "cpu")
    attempt = _new_attempt(folder)
    worker = Worker(rank=0, world_size=1, device=device, report=report, out=folder, attempt=attempt, **settings)
    training = TrainingRun(job, worker)
    dress.look_at(training)
    try:
        training.train()
    except NotFinite as stop:
        write_records(stop, worker)


def _train_with_workers(job: "TrainJob", dress: Dress, settings: dict[str, Any]) -> None:
    import ray.train
    from ray.tune.integration.ray_train import TuneReportCallback

    from ..train.driver import torch_trainer

    # How often Ray Train looks for reports; a search with short epochs would wait for it most of its time.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    folder, attempt = dress.folder, _new_attempt(dress.folder)
    free_placement_group(folder)
    shutil.rmtree(folder / _RAY, ignore_errors=True)
    run_config = ray.train.RunConfig(name=attempt, storage_path=str(folder / _RAY), callbacks=[TuneReportCallback()])
    torch_trainer(job, run_config, str(folder), attempt, dress=dress, settings=settings).fit()
    forget_placement_group(folder)
    shutil.rmtree(folder / _RAY, ignore_errors=True)


def _new_attempt(folder: Path) -> str:
    """Take the trial over from an earlier start of it, whose process may still be writing."""
    attempt = uuid4().hex[:8]
    begin_attempt(folder / FOLDER, attempt)
    return attempt


def _keeping_checkpoints(job: "TrainJob", epochs: int) -> "TrainJob":
    """The job, its checkpoints kept so long that others can take them over."""
    kept = job.config.checkpoint.model_copy(update={"keep_last": epochs})
    return replace(job, config=job.config.model_copy(update={"checkpoint": kept}))
