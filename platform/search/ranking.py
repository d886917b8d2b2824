"""Trials in order of their metric, which of them is the result, and which of them can be compared at all."""

import json
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from ..config import TrainConfig
from .config import SearchConfig
from .journal import Journal, Row, Trial
from .space import Point


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A trial with a metric, and its place."""

    rank: int
    trial: Trial
    point: Point
    """In force in its best epoch: population based training changes it while a trial runs."""
    value: float
    """Metric of the best epoch."""
    best_epoch: int
    mean: float | None = None
    """Over the trials that trained it again with other seeds to their end; itself is not counted, since it was chosen
    for being high."""
    std: float | None = None
    num_seeds: int = 0
    is_confirmed: bool = False
    """As many other seeds as wanted have ended."""
    latency_ms: float | None = None
    """Of the image path; least of all trials of one architecture, since noise only adds to it."""
    on_front: bool = False
    """No trial has both a metric at least as high and a latency at most as high, one of them better."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a search found."""

    metric: str
    ranked: list[Ranked]
    """Best first: trials with a metric, also those that failed later."""
    failed: list[Trial]
    unfinished: list[Trial]
    best: Point
    """Of the winner; empty where no trial has a metric."""
    best_reason: str
    winner: Ranked | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Trials whose metrics were taken at the same place, so that they can be compared."""

    title: str
    epoch: int | None
    """After how many epochs; None: at the end of those that ran to their end."""
    trials: list[Trial]
    values: list[float]


def rank(search: SearchConfig, journal: Journal) -> Results:
    """All trials of the search so far, in order; reads nothing but the journal."""
    metric = metric_of(search)
    known = [(trial, row) for trial in journal.main if (row := trial.best(metric))]
    known.sort(key=lambda pair: (-pair[1][metric], pair[0].id))
    latencies = _latencies(search, journal)
    points = [(row[metric], latencies.get(trial.id)) for trial, row in known]
    ranked = []
    for number, (trial, row) in enumerate(known, 1):
        ranked.append(
            Ranked(
                rank=number,
                trial=trial,
                point=_point_at(journal, trial, row),
                value=row[metric],
                best_epoch=row["epoch"],
                latency_ms=latencies.get(trial.id),
                on_front=_is_on_front(*points[number - 1], points),
                **_confirmation(search, journal, trial, metric),
            )
        )
    winner, reason = _winner(search, ranked, metric, any(not trial.ended for trial in journal.confirming))
    return Results(
        metric=metric,
        ranked=ranked,
        failed=[trial for trial in journal.main if trial.status == "failed"],
        unfinished=[trial for trial in journal.main if not trial.ended],
        best=winner.point if winner else {},
        best_reason=reason,
        winner=winner,
    )


def metric_of(search: SearchConfig) -> str:
    """What ranks the trials."""
    return search.trial_config(search.first_point()).metric


def comparable(search: SearchConfig, trials: list[Trial], metric: str) -> list[Sample]:
    """Trials after the first rung, which all of them see, and those that ran to their end.

    A trial that was stopped early is no worse for having fewer epochs, so its last metric says nothing beside theirs.
    """
    samples = []
    if search.scheduler in ("asha", "hyperband"):
        epoch = search.grace_epochs if search.scheduler == "asha" else 1
        early = [(trial, value) for trial in trials if (value := trial.at_epoch(epoch, metric)) is not None]
        title = f"after epoch {epoch}, all trials that came so far"
        samples.append(Sample(title=title, epoch=epoch, trials=[t for t, _ in early], values=[v for _, v in early]))
    late = [(trial, row[metric]) for trial in trials if trial.status == "finished" and (row := trial.best(metric))]
    title = "at the end, trials that finished"
    return [*samples, Sample(title=title, epoch=None, trials=[t for t, _ in late], values=[v for _, v in late])]


def _confirmation(search: SearchConfig, journal: Journal, trial: Trial, metric: str) -> dict[str, Any]:
    again = [other for other in journal.confirming if other.confirms == trial.id]
    values = [row[metric] for other in again if other.status == "finished" and (row := other.best(metric))]
    if not values:
        return {}
    wanted = search.confirm.seeds if search.confirm else len(again)
    return {
        "mean": fmean(values),
        "std": stdev(values) if len(values) > 1 else None,
        "num_seeds": len(values),
        "is_confirmed": len(values) >= wanted,
    }


def _winner(
    search: SearchConfig, ranked: list[Ranked], metric: str, still_confirming: bool
) -> tuple[Ranked | None, str]:
    """What `train` should take, and why in a sentence."""
    whole = [entry for entry in ranked if entry.trial.status != "failed"] or ranked
    confirmed = [entry for entry in whole if search.confirm and entry.is_confirmed]
    if confirmed and not still_confirming:
        best = max(confirmed, key=lambda entry: (entry.mean or 0.0, -entry.rank))
        return best, (
            f"Trial {best.trial.id} has the highest mean {metric} of the {len(confirmed)} trained again with other "
            f"seeds: {spread_of(best)}, after {best.value:.4f} in the search, where it was number {best.rank}."
        )
    if not whole:
        return None, f"No trial has a value of {metric}."
    best = whole[0]
    reason = f"Trial {best.trial.id} has the highest {metric}: {best.value:.4f} in epoch {best.best_epoch}"
    if best.rank > 1:
        reason += f", but for {best.rank - 1} that failed later"
    return best, f"{reason}."


def spread_of(entry: Ranked) -> str:
    """`0.9012 ± 0.0034 over 3 seeds`; empty where it was not trained again."""
    if entry.mean is None:
        return ""
    around = f" ± {entry.std:.4f}" if entry.std is not None else ""
    return f"{entry.mean:.4f}{around} over {entry.num_seeds} seed{'s' if entry.num_seeds > 1 else ''}"


def _latencies(search: SearchConfig, journal: Journal) -> dict[str, float]:
    """Trial -> milliseconds, the least measured for its architecture."""
    architectures: dict[str, str] = {}
    least: dict[str, float] = {}
    for trial in journal.main:
        name = architectures[trial.id] = _architecture(search.trial_config(trial.point))
        for row in trial.rows:
            if (latency := row.get("latency_ms")) is not None:
                least[name] = min(latency, least.get(name, latency))
    return {trial: least[name] for trial, name in architectures.items() if name in least}


def _architecture(config: TrainConfig) -> str:
    """All that decides what a page costs; nothing is dropped out when a page is read."""
    options = {key: value for key, value in config.model.options.items() if "dropout" not in key}
    page = (config.data.page_width_px, config.data.page_height_px)
    how = (config.precision, config.channels_last, config.compile)
    return json.dumps([config.model.name, config.model.size, options, page, how], sort_keys=True)


def _is_on_front(value: float, latency: float | None, others: list[tuple[float, float | None]]) -> bool:
    if latency is None:
        return False
    return not any(
        other is not None and better >= value and other <= latency and (better, other) != (value, latency)
        for better, other in others
    )


def _point_at(journal: Journal, trial: Trial, row: Row) -> Point:
    """The point in force when a row was written."""
    point = trial.point
    for event in journal.events:
        if event.get("trial") != trial.id:
            continue
        if event["event"] in ("begun", "changed"):
            point = event["point"]
        elif event["event"] == "epoch" and event["row"] is row:
            break
    return point
