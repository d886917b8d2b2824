"""`vizecg tune`: a search over training configurations on Ray Tune.

A trial with one worker runs the training loop inside the trial's own process; one with more is a Ray Train run of its
own. The plain pattern, a Train run in every trial, costs about a minute of start-up a trial (Ray 2.60, measured).

Ray Tune runs the trials and is started anew whenever the search goes on; what goes on is the journal (journal.py).
"""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ...models.registry import MODELS
from ..config import TrainConfig
from ..errors import UserError
from ..files import claim_folder
from ..ray_session import start_ray
from ..train.job import TrainJob
from ..train.prepare import make_job, require_both_classes
from .config import EXTENSIBLE, SearchConfig
from .journal import JOURNAL, Journal, Trial
from .resources import devices_of, greatest_need, live_nodes, need_of, trials_at_once
from .results import Results, rank, write_results
from .space import Point

if TYPE_CHECKING:
    from .trial import TrialTask

MARKER = "run.json"
OnChange = Callable[[Journal], None]
_RAY = ".ray"
"""What Ray Tune writes of its own; nothing is read from it."""
_WAITING_BYTES = 256 << 20


def tune_model(
    shards: Path | str, out: Path | str, search: SearchConfig, *, on_change: OnChange | None = None
) -> Results:
    """Search, and write leaderboard, plots, report.html and best.yaml, which `train` takes, into OUT.

    The same call goes on with a search that was stopped, and adds trials to one that is finished where `num_trials` or
    the budget has grown.

    Args:
        on_change: called after every event of the search.

    Raises:
        UserError: shards, search and cluster do not fit together, or no trial finished an epoch.
    """
    out, shards = Path(out).absolute(), Path(shards).absolute()
    configs = search.trial_configs()
    job = _checked(shards, search, configs)
    identity = hashlib.sha256((search.model_dump_json(exclude=EXTENSIBLE) + job.identity).encode()).hexdigest()
    claim_folder(out / MARKER, {"identity": identity, "search": search.model_dump(mode="json")})
    journal = Journal(out, on_change)
    try:
        _settle(journal, search, configs, job.config.metric)
        if _left(journal, search):
            _Cluster(search, configs, job, shards, journal).run()
        _tidy(journal, search)
        return write_results(out, search, journal)
    finally:
        journal.close()
        if not journal.events:  # Nothing began: OUT is free for the search as it was meant.
            (out / MARKER).unlink()
            (out / JOURNAL).unlink()


def _checked(shards: Path, search: SearchConfig, configs: Sequence[TrainConfig]) -> TrainJob:
    """The first trial's job; UserError where some value of the space fits no model or these shards."""
    jobs = [make_job(shards, config) for config in configs]
    require_both_classes(jobs[0])
    if elastic := [c.scaling.num_workers for c in configs if c.scaling.min_workers < c.scaling.max_workers]:
        raise UserError(f"scaling.num_workers = {elastic[0]}: a trial keeps its share of the cluster; give one number")
    for name in {config.model.name for config in configs} if search.minimize_latency else ():
        if not hasattr(MODELS[name].model, "forward_deployed"):
            raise UserError(
                f"minimize_latency: {name} needs signals, so it has no image path whose latency could count"
            )
    return jobs[0]


def _settle(journal: Journal, search: SearchConfig, configs: Sequence[TrainConfig], metric: str) -> None:
    """Write down the ends of trials that came to their end in the moment in which the search was killed."""
    from .schedulers import ReplayedAsha, make_scheduler

    scheduler = make_scheduler(search, journal, metric, _epochs(configs))
    stopped = scheduler.stopped if isinstance(scheduler, ReplayedAsha) else set()
    for trial in journal.trials.values():
        if not trial.ended and trial.rows and trial.rows[-1]["finished"]:
            journal.add("ended", trial.id, status="finished")
        elif not trial.ended and trial.id in stopped:
            journal.add("ended", trial.id, status="stopped")


def _tidy(journal: Journal, search: SearchConfig) -> None:
    """Remove the checkpoints that nobody goes on from; HyperBand's trials tell their epochs from them."""
    from .watcher import remove_checkpoints

    if search.scheduler == "hyperband" or (search.scheduler == "pbt" and any(not t.ended for t in journal.main)):
        return
    for trial in journal.trials.values():
        if trial.ended:
            remove_checkpoints(journal.folder, trial)


def _left(journal: Journal, search: SearchConfig) -> bool:
    """Whether there is anything to run."""
    if search.budget_device_hours and journal.device_s >= search.budget_device_hours * 3600:
        return False
    searching = len(journal.main) < search.trials_wanted or any(not trial.ended for trial in journal.main)
    if not search.confirm:
        return searching
    return searching or any(not trial.ended for trial in journal.confirming) or bool(_unconfirmed(journal, search))


def _unconfirmed(journal: Journal, search: SearchConfig) -> list[tuple[str, Point, int]]:
    """Id, point and seed of every trial that is left to train one of the best again."""
    assert search.confirm is not None
    ended_well = [ranked for ranked in rank(search, journal).ranked if ranked.trial.status != "failed"]
    wanted = [
        (f"{best.trial.id}-seed{number}", best.point, search.trial_config(best.point).seed + number)
        for best in ended_well[: search.confirm.top]
        for number in range(1, search.confirm.seeds + 1)
    ]
    return [entry for entry in wanted if entry[0] not in journal.trials]


def _epochs(configs: Sequence[TrainConfig]) -> int:
    return max(config.epochs for config in configs)


class _Cluster:
    """A search on the cluster that runs now."""

    def __init__(
        self, search: SearchConfig, configs: Sequence[TrainConfig], job: TrainJob, shards: Path, journal: Journal
    ):
        from .sharing import share_row_groups
        from .trial import TrialTask

        self._search, self._configs, self._journal = search, configs, journal
        self._metric = job.config.metric
        self._one_worker = all(config.scaling.max_workers == 1 for config in configs)
        need = greatest_need(search, configs)
        start_ray(min_cpus=int(need.cpus) * (search.max_concurrent or 1))
        nodes = live_nodes()
        self._at_once = trials_at_once(nodes, need, search)
        journal.add("start", nodes=devices_of(nodes, need), at_once=self._at_once)
        shared = share_row_groups(job) if search.share_shards else None
        self._task = TrialTask(
            search=search, shards=str(shards), out=str(journal.folder), shared=shared, at_once=self._at_once
        )

    def run(self) -> None:
        """All trials that are left, and then those that confirm the best."""
        retell = self._search.scheduler == "hyperband"
        begun = [t for t in self._journal.main if not t.ended or (retell and t.status != "failed")]
        if len(self._journal.main) < self._search.trials_wanted or any(not trial.ended for trial in begun):
            self._fit(self._search, begun, self._search.trials_wanted)
        if self._search.confirm and all(trial.ended for trial in self._journal.main):
            for name, point, seed in _unconfirmed(self._journal, self._search):
                self._journal.add("begun", name, point=point, seed=seed)
            left = [trial for trial in self._journal.confirming if not trial.ended]
            if left:
                whole = self._search.model_copy(update={"scheduler": "fifo"})
                self._fit(whole, left, 0)

    def _fit(self, search: SearchConfig, begun: Sequence[Trial], wanted: int) -> None:
        """Run trials that have begun, and new ones until the search has as many as are wanted."""
        from ray import tune

        from .proposals import as_config, begin_trial
        from .schedulers import ReplayedAsha, make_scheduler
        from .watcher import BudgetStopper, JournalCallback, in_words

        space: dict[str, Any] = {}
        if search.starts_whole:
            new = [begin_trial(search, self._metric, self._journal) for _ in range(wanted - len(self._journal.main))]
            space = {"run": tune.grid_search([as_config(trial)["run"] for trial in (*begun, *new)])}
        _quiet_ray_tune()
        storage = self._journal.folder / _RAY
        shutil.rmtree(storage, ignore_errors=True)
        asks = search.scheduler == "asha" and not self._one_worker
        scheduler = make_scheduler(search, self._journal, self._metric, _epochs(self._configs), gently=asks)
        stopped = scheduler.stopped if asks and isinstance(scheduler, ReplayedAsha) else None
        tuner = tune.Tuner(
            self._trainable(replace(self._task, search=search, asks=asks)),
            tune_config=self._tune_config(search, scheduler, begun, wanted),
            run_config=tune.RunConfig(
                name=uuid4().hex[:8],
                storage_path=str(storage),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=search.max_failures),
                stop=BudgetStopper(self._journal, search.budget_device_hours),
                callbacks=[JournalCallback(self._journal, search, stopped)],
            ),
            param_space=space,
        )
        for result in tuner.fit():
            trial = self._journal.trials[Path(result.path).name]
            if result.error and not trial.ended:  # Ray Tune gives some trials up without telling its callbacks.
                self._journal.add("ended", trial.id, status="failed", reason=in_words(result.error))
        shutil.rmtree(storage, ignore_errors=True)

    def _trainable(self, task: "TrialTask") -> Any:
        from ray import tune

        from .trial import run_trial

        def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
            run = config["run"]
            need = need_of(task.search.trial_config(run["point"], run["seed"]), task.search.gpus_per_trial)
            # Workers of greater trials are Ray Train's to place. The process that waits for them takes no CPU from
            # them, and has to hold something.
            waiting = {"memory": float(_WAITING_BYTES)}
            bundle = {"CPU": need.cpus, "GPU": need.gpus} if need.workers == 1 else waiting
            return tune.PlacementGroupFactory([bundle])

        return tune.with_resources(tune.with_parameters(run_trial, task=task), resources)

    def _tune_config(self, search: SearchConfig, scheduler: Any, begun: Sequence[Trial], wanted: int) -> Any:
        from ray import tune

        from .proposals import JournalSearcher

        whole: dict[str, Any] = {"num_samples": 1}
        one_by_one: dict[str, Any] = {
            "num_samples": len(begun) + max(0, wanted - len(self._journal.main)),
            "max_concurrent_trials": self._at_once,
            "search_alg": JournalSearcher(search, self._metric, self._journal, begun, wanted),
        }
        return tune.TuneConfig(
            **(whole if search.starts_whole else one_by_one),
            scheduler=scheduler,
            reuse_actors=True,
            trial_name_creator=_name_of,
            trial_dirname_creator=_name_of,
        )


def _quiet_ray_tune() -> None:
    """Its tables of results, snapshots and messages: the journal has it all, display and leaderboard show it."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
    # Its newer output prints a banner whatever `verbose` says.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # Ctrl-C ends the command at once, as it ends every other; Ray Tune would go on and come to a result.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")


def _name_of(trial: Any) -> str:
    """Ours: the same at every start of the search."""
    return trial.config["run"]["trial"]
