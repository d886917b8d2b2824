"""Which point of the space comes next, and which trial Ray Tune starts: Optuna behind Tune's searcher interface.

Every proposal is made from the journal alone, with a sampler seeded by its number: a search that goes on after a crash
proposes what it would have proposed, and nothing of a sampler's state has to be saved.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice, product
from typing import Any

import numpy as np
from ray.tune.search import Searcher

from .config import SearchConfig
from .journal import Journal, Trial
from .space import Parameter, Point

SCORE = "score"
"""What trials report for Ray Tune to compare them by."""
_RANDOM_FIRST = 10
"""Trials before the searcher learns from any."""
_DRAWS = 20
"""Attempts at a point that was not tried yet."""


def propose(search: SearchConfig, metric: str, trials: Sequence[Trial]) -> Point:
    """The point of trial number `len(trials)`, given those before it."""
    number = len(trials)
    if search.searcher == "grid":
        return next(islice(grid(search.space), number, None))
    study = _study(search, metric, trials, number)
    distributions = {key: parameter.distribution() for key, parameter in search.space.items()}
    tried = [trial.point for trial in trials]
    drawn = (dict(study.ask(distributions).params) for _ in range(_DRAWS))
    first = next(drawn)
    # A space that can be counted is not spent on one point twice while there are others.
    return next((point for point in chain([first], drawn, grid(search.space)) if point not in tried), first)


def grid(space: dict[str, Parameter]) -> Iterator[Point]:
    """All points of a space that can be counted, the last dimension first; none of another one."""
    values = [parameter.values or [] for parameter in space.values()]
    for combined in product(*values):
        yield dict(zip(space, combined, strict=True))


def _study(search: SearchConfig, metric: str, trials: Sequence[Trial], number: int) -> Any:
    import optuna
    from optuna.samplers import RandomSampler, TPESampler
    from optuna.study import StudyDirection

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    learning = search.searcher == "optuna" and number >= _RANDOM_FIRST
    sampler = TPESampler(seed=seed, multivariate=True, constant_liar=True) if learning else RandomSampler(seed=seed)
    directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: 1 + search.minimize_latency]
    study = optuna.create_study(directions=directions, sampler=sampler)
    if learning:
        study.add_trials([_as_optuna(search, metric, trial) for trial in trials])
    return study


def _as_optuna(search: SearchConfig, metric: str, trial: Trial) -> Any:
    """A trial as Optuna's samplers learn from it; one that was stopped counts by how far it came."""
    from optuna.trial import TrialState, create_trial

    best, values, state = trial.best(metric), None, TrialState.RUNNING
    steps: dict[int, float] = {row["epoch"]: row[metric] for row in trial.rows if row.get(metric) is not None}
    if trial.status == "failed" or (trial.ended and best is None):
        state = TrialState.FAIL
    elif best is not None and trial.ended and search.minimize_latency:
        values, state, steps = [best[metric], best["latency_ms"]], TrialState.COMPLETE, dict[int, float]()
    elif best is not None and trial.status == "finished":
        values, state = [best[metric]], TrialState.COMPLETE
    elif trial.status == "stopped":
        state = TrialState.PRUNED
    return create_trial(
        state=state,
        values=values,
        params=trial.point,
        distributions={key: parameter.distribution() for key, parameter in search.space.items()},
        intermediate_values=steps,
    )


def begin_trial(search: SearchConfig, metric: str, journal: Journal) -> Trial:
    """A new trial, in the journal."""
    name = f"{len(journal.main):04d}"
    journal.add("begun", name, point=propose(search, metric, journal.main))
    return journal.trials[name]


def as_config(trial: Trial) -> dict[str, Any]:
    """A trial as Ray Tune hands it to its process."""
    run = {"trial": trial.id, "point": trial.point, "seed": trial.seed, "known_epochs": trial.epochs}
    return {"run": {**run, "source": trial.source}}


class JournalSearcher(Searcher):
    """Starts the trials that were cut off, then proposes new ones until the search has all it wants."""

    def __init__(self, search: SearchConfig, metric: str, journal: Journal, begun: Sequence[Trial], wanted: int):
        super().__init__(metric=SCORE, mode="max")
        self._search, self._metric_of_trials, self._journal = search, metric, journal
        self._begun = deque(begun)
        self._wanted = wanted

    def suggest(self, trial_id: str) -> Any:
        if self._begun:
            return as_config(self._begun.popleft())
        if len(self._journal.main) >= self._wanted:
            return Searcher.FINISHED
        return as_config(begin_trial(self._search, self._metric_of_trials, self._journal))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The journal knows already (watcher.py)."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    # Ray Tune saves its searcher every few seconds; ours is made from the journal.
    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None: ...

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...

    def __getstate__(self) -> dict[str, Any]:
        return {}
