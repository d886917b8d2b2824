"""Where a search is: what its trials did so far, and how long the rest may take. Numbers alone, nothing is shown."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from .history import PROGRESS, Row
from .search.config import SearchConfig
from .search.journal import Status
from .search.space import Point

HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class TrialState:
    """What the journal says of a trial."""

    id: str
    point: Point
    confirms: bool
    status: Status = "running"
    reason: str | None = None
    epochs: int = 0
    value: float | None = None
    """The best so far."""
    best_point: Point = field(default_factory=dict)
    """Where that was: population based training moves a trial while it runs."""
    seconds: float = 0.0
    """Of all finished epochs."""
    device_s: float = 0.0
    latency_ms: float | None = None
    said_at: float = 0.0
    """When the journal last spoke of it, in seconds since 1970."""

    @property
    def ended(self) -> bool:
        return self.status != "running"

    def after(self, event: dict[str, Any], metric: str) -> "TrialState":
        """The trial after an event of the journal."""
        new: dict[str, Any] = {"said_at": event["at"]}
        if event["event"] == "epoch":
            new |= self._after_epoch(event["row"], metric)
        elif event["event"] == "changed":
            new["point"] = event["point"]
        elif event["event"] == "ended":
            new |= {"status": event["status"], "reason": event.get("reason")}
        return replace(self, **new)

    def _after_epoch(self, row: Row, metric: str) -> dict[str, Any]:
        value, spent_s = row.get(metric), row["spent_s"]
        new = {
            "epochs": row["epoch"], "latency_ms": row.get("latency_ms"),
            "seconds": self.seconds + spent_s, "device_s": self.device_s + spent_s * row["devices"],
        }  # fmt: skip
        better = value is not None and (self.value is None or value > self.value)
        return new | ({"value": value, "best_point": self.point} if better else {})


@dataclass(frozen=True)
class SearchState:
    """A moment of a search. It never changes, so that one thread may read it while another follows the journal."""

    trials: dict[str, TrialState] = field(default_factory=dict)
    at_once: int | None = None
    """Trials that the cluster has room for; None before the search starts."""

    def after(self, events: Sequence[dict[str, Any]], metric: str) -> "SearchState":
        """The moment after some more events of the journal."""
        trials, at_once = dict(self.trials), self.at_once
        for event in events:
            name = event.get("trial", "")
            if event["event"] == "start":
                at_once = event.get("at_once")
            elif event["event"] == "begun":
                confirms = event.get("seed") is not None
                trials[name] = TrialState(id=name, point=event["point"], confirms=confirms, said_at=event["at"])
            elif name in trials:
                trials[name] = trials[name].after(event, metric)
        return SearchState(trials, at_once)

    @property
    def main(self) -> list[TrialState]:
        return [trial for trial in self.trials.values() if not trial.confirms]

    @property
    def confirming(self) -> list[TrialState]:
        return [trial for trial in self.trials.values() if trial.confirms]

    @property
    def best(self) -> list[TrialState]:
        """Trials of the search itself that have a metric, best first."""
        known = [(trial.value, trial) for trial in self.main if trial.value is not None]
        return [trial for _, trial in sorted(known, key=lambda pair: -pair[0])]

    @property
    def winner(self) -> TrialState | None:
        """The best that did not fail, where there is one."""
        return next((trial for trial in self.best if trial.status != "failed"), next(iter(self.best), None))

    @property
    def device_s(self) -> float:
        return sum(trial.device_s for trial in self.trials.values())

    def confirming_wanted(self, search: SearchConfig) -> int:
        """How many trials will confirm the best."""
        return min(search.confirm.top, len(self.best)) * search.confirm.seeds if search.confirm else 0


@dataclass(frozen=True)
class Running:
    """A trial that has not ended: where it is now."""

    trial: TrialState
    active: bool
    """It trains; else it waits for its turn, or for its process."""
    done: float
    """Epochs, the share of the one in progress included."""


def look_at(trial: TrialState, out: Path, since: float) -> Running:
    """Where a trial is, by its progress.json (train/tracking.py).

    Args:
        since: seconds since 1970; what was written before says where it was cut off.
    """
    row = _read_progress(out / "trials" / trial.id / PROGRESS)
    if row is None:
        return Running(trial, active=trial.epochs > 0 and trial.said_at >= since, done=trial.epochs)
    active = row["time"] >= since and row["phase"] not in ("finished", "stopped")
    steps = row["steps_per_epoch"]
    share = (row["step"] - (row["epoch"] - 1) * steps) / max(steps, 1)
    return Running(trial, active, max(trial.epochs, row["epoch"] - 1 + min(max(share, 0.0), 1.0)))


def _read_progress(path: Path) -> Row | None:
    try:
        row = json.loads(path.read_bytes())
    except (OSError, ValueError):
        # Not begun, on another node's disk, or on a network file system that shows a file while it is replaced.
        return None
    needed = {"epoch", "step", "steps_per_epoch", "phase", "time"}
    return row if isinstance(row, dict) and needed <= row.keys() else None


class TimeLeft:
    """How long a search still takes, from the time that its trials took so far."""

    def __init__(self, search: SearchConfig):
        self._search = search
        self._epochs = search.trial_config(search.first_point()).epochs

    def num_epochs(self, trial: TrialState) -> int:
        """Epochs of a trial that nothing stops."""
        return trial.point.get("epochs", self._epochs)

    def seconds(self, state: SearchState, running: Sequence[Running]) -> float | None:
        """Of the wall clock; None where nothing is known yet.

        A trial that is to come takes as long as those that ended did on average, a whole one's time where none did;
        one that runs takes as long as those that outlasted it, and one that confirms runs to its end.
        """
        whole = [trial.seconds / trial.epochs * self.num_epochs(trial) for trial in state.main if trial.epochs]
        if not whole or not state.at_once:
            return None
        ended = [trial.seconds for trial in state.main if trial.ended and trial.epochs]
        whole_s = fmean(whole)
        lasts = [self._lasts(one, ended, whole_s) for one in running]
        to_come_s = max(self._search.trials_wanted - len(state.main), 0) * fmean(ended or whole)
        to_confirm_s = max(state.confirming_wanted(self._search) - len(state.confirming), 0) * whole_s
        left_s = max((sum(lasts) + to_come_s + to_confirm_s) / state.at_once, *lasts, 0.0)
        return min(left_s, self._seconds_of_budget(state))

    def _lasts(self, one: Running, ended: list[float], whole_s: float) -> float:
        """Seconds that a running trial still takes."""
        trial, epochs = one.trial, self.num_epochs(one.trial)
        epoch_s = trial.seconds / trial.epochs if trial.epochs else whole_s / epochs
        spent_s = trial.seconds + (one.done - trial.epochs) * epoch_s
        longer = [seconds for seconds in ended if seconds > spent_s and not trial.confirms]
        return max((fmean(longer) if longer else epoch_s * epochs) - spent_s, 0.0)

    def _seconds_of_budget(self, state: SearchState) -> float:
        if self._search.budget_device_hours is None:
            return float("inf")
        devices = state.device_s / sum(trial.seconds for trial in state.trials.values())
        left_s = self._search.budget_device_hours * HOUR_S - state.device_s
        return max(left_s / (devices * (state.at_once or 1)), 0.0)
