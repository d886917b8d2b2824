"""`vizecg tune`: a search over training configurations on Ray Tune.

A trial with one worker runs the training loop inside the trial's own process; one with more is a Ray Train run of its
own. The plain pattern, a Train run in every trial, costs about a minute of start-up a trial (Ray 2.60, measured).
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .config import TrainConfig, parse_config
from .errors import UserError
from .files import claim_folder, write_atomically
from .ray_session import start_ray
from .settings import explain, merge_overrides, read_yaml

OnTrial = Callable[[dict[str, Any]], None]
RUN_NAME = "trials"


class Parameter(BaseModel):
    """One dimension of the search; exactly one of the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choice: list[Any] | None = Field(None, min_length=1)
    uniform: tuple[float, float] | None = None
    log_uniform: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "Parameter":
        if len(self.model_fields_set) != 1:
            raise ValueError("give exactly one of choice, uniform and log_uniform")
        for low, high in filter(None, (self.uniform, self.log_uniform)):
            if not low < high or (self.log_uniform and low <= 0):
                raise ValueError(f"[{low}, {high}] is no range")
        return self

    def candidates(self) -> list[Any]:
        """All values of a choice, both ends of a range."""
        return self.choice if self.choice is not None else list(self.uniform or self.log_uniform or ())

    def domain(self) -> Any:
        """As Ray Tune samples it."""
        from ray import tune

        if self.choice is not None:
            return tune.choice(self.choice)
        return tune.uniform(*self.uniform) if self.uniform else tune.loguniform(*self.log_uniform or (0, 0))


class SearchConfig(BaseModel):
    """What a file in tune_configs/ says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: dict[str, Any] = {}
    """Configuration of every trial (config.py: TrainConfig)."""
    space: dict[str, Parameter] = Field(min_length=1)
    """What varies: dotted key of the configuration -> values."""
    num_trials: int = Field(8, ge=1)
    max_concurrent: int | None = Field(None, ge=1)
    """Trials at once; as many as the cluster holds where null."""
    scheduler: Literal["asha", "fifo"] = "asha"
    grace_epochs: int = Field(1, ge=1)
    """ASHA stops no trial earlier."""
    reduction_factor: int = Field(2, ge=2)
    searcher: Literal["optuna", "random"] = "optuna"
    seed: int = 0

    def first_parameters(self) -> dict[str, Any]:
        """Any one point of the space."""
        return {key: parameter.candidates()[0] for key, parameter in self.space.items()}

    def trial_config(self, parameters: dict[str, Any]) -> TrainConfig:
        """The configuration of a trial; UserError where a key does not exist."""
        overrides = [f"{key}={json.dumps(value)}" for key, value in parameters.items()]
        return parse_config(merge_overrides(self.base, overrides), f"trial {parameters}")


def load_search(path: Path | str) -> SearchConfig:
    """A search from YAML; a wrong key, a space without values or a value that no trial takes is a UserError here."""
    try:
        search = SearchConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, SearchConfig)}") from None
    first = search.first_parameters()
    for key, parameter in search.space.items():
        for value in parameter.candidates():
            search.trial_config({**first, key: value})
    return search


def tune_model(
    shards: Path | str, out: Path | str, search: SearchConfig, *, on_trial: OnTrial | None = None
) -> list[dict[str, Any]]:
    """Search and write OUT/leaderboard.md, leaderboard.csv and best.yaml, which `train` takes; the ranked trials.

    The same call goes on with a search that was stopped.

    Raises:
        UserError: the cluster cannot hold a single trial, or no trial finished an epoch.
    """
    from .train.prepare import make_job, require_both_classes

    out = Path(out).absolute()
    base = search.trial_config(search.first_parameters())
    job = make_job(shards, base)
    require_both_classes(job)
    identity = hashlib.sha256((search.model_dump_json() + job.identity).encode()).hexdigest()
    claim_folder(out / "run.json", {"identity": identity, "search": search.model_dump(mode="json")})
    workers = base.scaling.max_workers
    start_ray(min_cpus=_cpus_of_trial(workers))
    results = _tuner(Path(shards).absolute(), out, search, base, on_trial).fit()
    trials = _ranked(results, search, base.metric)
    if not trials:
        raise UserError(f"{out}: no trial finished an epoch; the first error was: {next(iter(results.errors), 'none')}")
    _write_results(out, trials, search, base.metric)
    return trials


def _cpus_of_trial(num_workers: int) -> int:
    """The workers, and a place for what they start."""
    return num_workers + 1


def _tuner(shards: Path, out: Path, search: SearchConfig, base: TrainConfig, on_trial: OnTrial | None) -> Any:
    import ray
    from ray import tune

    workers = base.scaling.max_workers
    at_once = max(1, int(ray.cluster_resources()["CPU"]) // _cpus_of_trial(workers))
    trainable = tune.with_parameters(run_trial, search=search, shards=str(shards), trials_at_once=at_once)
    resources: dict[str, float] = {"CPU": 1} if workers == 1 else {"CPU": 0.1}
    if workers == 1 and base.scaling.use_gpu:
        resources["GPU"] = 1
    trainable = tune.with_resources(trainable, resources)
    folder = out / RUN_NAME
    if tune.Tuner.can_restore(str(folder)):
        return tune.Tuner.restore(str(folder), trainable, resume_unfinished=True, restart_errored=True)
    return tune.Tuner(
        trainable,
        param_space={key: parameter.domain() for key, parameter in search.space.items()},
        tune_config=tune.TuneConfig(
            metric=base.metric,
            mode="max",
            num_samples=search.num_trials,
            max_concurrent_trials=min(at_once, search.max_concurrent or at_once),
            scheduler=_scheduler(search, base.epochs),
            search_alg=_searcher(search),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=RUN_NAME,
            storage_path=str(out),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=1),
            callbacks=[_trial_watcher(on_trial, base.metric)],
        ),
    )


def _scheduler(search: SearchConfig, epochs: int) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if search.scheduler == "fifo":
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=min(search.grace_epochs, epochs),
        reduction_factor=search.reduction_factor,
    )


def _searcher(search: SearchConfig) -> Any:
    from ray.tune.search.basic_variant import BasicVariantGenerator
    from ray.tune.search.optuna import OptunaSearch

    if search.searcher == "random":
        return BasicVariantGenerator(random_state=search.seed)
    return OptunaSearch(seed=search.seed)


def _trial_watcher(on_trial: OnTrial | None, metric: str) -> Any:
    from ray.tune import Callback

    class Watcher(Callback):
        def __init__(self, follow: OnTrial | None):
            self.follow = follow

        def __getstate__(self) -> dict[str, None]:
            # Ray saves its callbacks with the search; who watches it now is none of a later run's business.
            return {"follow": None}

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            if self.follow:
                row = {"trial": trial.trial_id, "epoch": result["epoch"], "metric": result.get(metric)}
                self.follow(row | {"parameters": trial.config})

    return Watcher(on_trial)


def run_trial(parameters: dict[str, Any], search: SearchConfig, shards: str, trials_at_once: int) -> None:
    """What Ray Tune runs in the process of a trial."""
    from .train.prepare import make_job

    config = search.trial_config(parameters)
    job = make_job(shards, config)
    if config.scaling.max_workers == 1:
        _train_here(job, trials_at_once)
    else:
        _train_with_workers(job)


def _train_here(job: Any, trials_at_once: int) -> None:
    import torch
    from ray import tune

    from .train.loop import TrainingRun
    from .train.ray_worker import use_threads
    from .train.worker import Worker

    use_threads(job.config, trials_at_once)
    device = torch.device("cuda" if job.config.scaling.use_gpu else "cpu")
    TrainingRun(job, Worker(rank=0, world_size=1, device=device, report=tune.report)).train()


def _train_with_workers(job: Any) -> None:
    import ray.train
    from ray import tune
    from ray.tune.integration.ray_train import TuneReportCallback

    from .train.driver import torch_trainer

    folder = tune.get_context().get_trial_dir()
    run_config = ray.train.RunConfig(name="run", storage_path=folder, callbacks=[TuneReportCallback()])
    torch_trainer(job, run_config, out=None).fit()


def _ranked(results: Any, search: SearchConfig, metric: str) -> list[dict[str, Any]]:
    """The trials that finished an epoch, best first."""
    trials = []
    for result in results:
        frame = result.metrics_dataframe
        if frame is None or frame.empty or frame[metric].isna().all():
            continue
        best = frame.loc[frame[metric].idxmax()]
        parameters = {key: result.config[key] for key in search.space}
        trials.append(
            {metric: float(best[metric]), "best_epoch": int(best["epoch"]), "epochs": len(frame), **parameters}
        )
    return sorted(trials, key=lambda trial: -trial[metric])


def _write_results(out: Path, trials: list[dict[str, Any]], search: SearchConfig, metric: str) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(trials[0]))
    writer.writeheader()
    writer.writerows(trials)
    write_atomically(out / "leaderboard.csv", table.getvalue())
    write_atomically(out / "leaderboard.md", leaderboard_markdown(trials))
    best = search.trial_config({key: trials[0][key] for key in search.space})
    header = (
        f"# The best of {len(trials)} trials: {metric} {trials[0][metric]:.4f} in epoch {trials[0]['best_epoch']}.\n"
    )
    values = best.model_dump(mode="json", exclude_unset=True)
    write_atomically(out / "best.yaml", header + yaml.safe_dump(values, sort_keys=False))


def leaderboard_markdown(trials: list[dict[str, Any]]) -> str:
    """Trials as a Markdown table, in the order given."""
    names = list(trials[0])
    lines = [["rank", *names], ["---"] * (len(names) + 1)]
    for rank, trial in enumerate(trials, 1):
        cells = [f"{trial[name]:.4g}" if isinstance(trial[name], float) else str(trial[name]) for name in names]
        lines.append([str(rank), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
