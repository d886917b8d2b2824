"""Ray Tune's schedulers, made to survive their driver.

ASHA's rungs are rebuilt from the journal before anything runs. HyperBand waits for whole brackets, so there trials tell
their epochs again when the search goes on, without training them. Population based training goes on from the last
weights and configurations of its population; when to exchange next, it learns anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)

from .config import SearchConfig
from .journal import Journal
from .proposals import SCORE
from .space import Parameter

Scheduler = FIFOScheduler | ASHAScheduler | HyperBandScheduler | PopulationBasedTraining
CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


@dataclass(frozen=True)
class _Named:
    """As much of a trial as ASHA looks at; Ray Tune gives a trial another id at every start of the search."""

    trial_id: str


class _Epochs:
    """Which epochs of every trial a scheduler has seen: one that starts again may tell the same ones again."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def is_new(self, trial: str, result: dict[str, Any]) -> bool:
        epoch = result.get("epoch", 0)
        if epoch <= self._last.get(trial, 0):
            return False
        self._last[trial] = epoch
        return True


class ReplayedAsha(ASHAScheduler):
    """ASHA that begins with the rungs that the journal tells of.

    Args:
        gently: only note in `stopped` who shall stop, for trials that end by themselves (decisions.py).
    """

    def __init__(self, journal: Journal, metric: str, gently: bool = False, **settings: Any):
        super().__init__(time_attr="epoch", metric=SCORE, mode="max", **settings)
        self._epochs, self._gently = _Epochs(), gently
        self.stopped: set[str] = set()
        """Trials that were told to stop; among them those whose end the journal does not know of yet."""
        for event in journal.events:
            trial = journal.trials.get(event.get("trial", ""))
            if trial is None or trial.seed is not None:
                continue
            if event["event"] == "begun":
                self._add(trial.id)
            elif event["event"] == "epoch":
                self._decide(trial.id, scored(event["row"], metric))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._add(_id(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = self._decide(_id(trial), result)
        return CONTINUE if self._gently else decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None: ...

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None: ...

    def _add(self, trial: str) -> None:
        super().on_trial_add(None, _Named(trial))  # pyrefly: ignore[bad-argument-type]

    def _decide(self, trial: str, result: dict[str, Any]) -> str:
        if not self._epochs.is_new(trial, result):
            return CONTINUE
        decision = super().on_trial_result(None, _Named(trial), result)  # pyrefly: ignore[bad-argument-type]
        if decision == STOP:
            self.stopped.add(trial)
        return decision

    def rungs(self) -> dict[int, dict[str, float]]:
        """Epoch of every rung -> the score of every trial that came so far."""
        return {int(epoch): dict(scores) for epoch, scores in self._brackets[0]._rungs}


class RetoldHyperBand(HyperBandScheduler):
    """HyperBand for trials that tell all their epochs at every start."""

    def __init__(self, **settings: Any):
        super().__init__(time_attr="epoch", metric=SCORE, mode="max", **settings)
        self._epochs = _Epochs()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return (
            super().on_trial_result(tune_controller, trial, result)
            if self._epochs.is_new(_id(trial), result)
            else CONTINUE
        )


class Population(PopulationBasedTraining):
    """Population based training (Jaderberg 2017) within the bounds of the space."""

    def __init__(self, search: SearchConfig, **settings: Any):
        super().__init__(
            time_attr="epoch",
            metric=SCORE,
            mode="max",
            perturbation_interval=search.perturb_epochs,
            hyperparam_mutations={"run": {"point": {key: _mutations(p) for key, p in search.space.items()}}},
            custom_explore_fn=_within(search.space),
            log_config=False,
            require_attrs=False,
            **settings,
        )


def make_scheduler(search: SearchConfig, journal: Journal, metric: str, epochs: int, gently: bool = False) -> Scheduler:
    """The scheduler that the search names, as far as the journal goes."""
    if search.scheduler == "asha":
        rungs = {"max_t": epochs, "grace_period": search.grace_epochs, "reduction_factor": search.reduction_factor}
        return ReplayedAsha(journal, metric, gently, **rungs)
    if search.scheduler == "hyperband":
        return RetoldHyperBand(max_t=epochs, reduction_factor=search.reduction_factor)
    return Population(search) if search.scheduler == "pbt" else FIFOScheduler()


def scored(row: dict[str, Any], metric: str) -> dict[str, Any]:
    """A row with what schedulers compare; NaN where the epoch has no metric."""
    value = row.get(metric)
    return {**row, SCORE: float("nan") if value is None else value}


def _id(trial: Any) -> str:
    """Ours, which a trial keeps over all starts of the search (run.py names trials by it)."""
    return str(trial)


def _mutations(parameter: Parameter) -> Any:
    from ray import tune

    if parameter.values is not None:
        return parameter.values
    low, high = parameter.range or (0.0, 1.0)
    if parameter.integers:
        return tune.randint(int(low), int(high) + 1)
    return tune.loguniform(low, high) if parameter.is_log else tune.uniform(low, high)


def _within(space: dict[str, Parameter]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Perturbing by a factor may leave a range; this brings it back."""

    def explore(config: dict[str, Any]) -> dict[str, Any]:
        point = config["run"]["point"]
        for key, parameter in space.items():
            if parameter.values is None and parameter.range:
                value = min(max(point[key], parameter.range[0]), parameter.range[1])
                point[key] = round(value) if parameter.integers else value
        return config

    return explore
