"""How much of the metric's variance each dimension explains: fANOVA (Hutter et al., ICML 2014), computed by Optuna."""

import warnings
from dataclasses import dataclass, field

from .config import SearchConfig
from .journal import Trial
from .ranking import Sample, comparable

MIN_TRIALS = 6
MIN_FINISHED = 8
"""At the end beside the first rung: what finished was chosen for being high, so fewer say nothing."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Shares of one sample of trials."""

    title: str
    """At which epoch."""
    num_trials: int
    shares: dict[str, float] = field(default_factory=dict)
    """Dimension -> share of the explained variance, together 1; greatest first. Empty where `why_not` says why."""
    why_not: str = ""


def importances(search: SearchConfig, trials: list[Trial], metric: str) -> list[Importance]:
    """After the first rung, and at the end where enough trials came there.

    Args:
        trials: those of the search itself.
    """
    if search.scheduler == "pbt":
        why = "population based training changes the values while a trial runs, so no trial stands for one of them"
        return [Importance(title="at the end", num_trials=len(trials), why_not=why)]
    samples = comparable(search, trials, metric)
    asked = [samples[0], *(sample for sample in samples[1:] if len(sample.trials) >= MIN_FINISHED)]
    return [_importance(search, sample) for sample in asked]


def _importance(search: SearchConfig, sample: Sample) -> Importance:
    count = len(sample.trials)
    if count < MIN_TRIALS:
        why = f"{count} trials are too few; {MIN_TRIALS} are needed"
        return Importance(title=sample.title, num_trials=count, why_not=why)
    if max(sample.values) - min(sample.values) < 1e-9:
        return Importance(title=sample.title, num_trials=count, why_not="all trials have the same metric")
    return Importance(title=sample.title, num_trials=count, shares=_shares(search, sample))


def _shares(search: SearchConfig, sample: Sample) -> dict[str, float]:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(direction="maximize")
            distributions = {key: parameter.distribution() for key, parameter in search.space.items()}
            for trial, value in zip(sample.trials, sample.values, strict=True):
                study.add_trial(
                    optuna.trial.create_trial(params=dict(trial.point), distributions=distributions, value=value)
                )
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=search.seed)
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
    shares = {key: float(found.get(key, 0.0)) for key in search.space}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
