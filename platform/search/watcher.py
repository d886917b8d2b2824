"""What Ray Tune tells of its trials, written into the journal as it happens."""

import shutil
from collections import Counter
from collections.abc import Set
from pathlib import Path
from typing import Any

from ray.tune import Callback, Stopper

from ..train.checkpoint import FOLDER
from .config import SearchConfig
from .decisions import write_decision
from .journal import Journal, Trial
from .population import read_pointer
from .proposals import SCORE
from .ranking import metric_of
from .trial import FAILURE, TRIALS

_LONGEST_REASON = 400
_TUNE_ADDS = {
    "checkpoint_dir_name", "config", "date", "done", "experiment_tag", "hostname", "iterations_since_restore",
    "node_ip", "pid", "should_checkpoint", "time_since_restore", "time_this_iter_s", "time_total_s", "timestamp",
    "training_iteration", "trial_id",
}  # fmt: skip


class JournalCallback(Callback):
    """Follows the trials; what one of them did is on the disk before Ray Tune acts on what it did.

    Args:
        told_to_stop: trials that the scheduler has ended, where these wait to be told (decisions.py).
    """

    def __init__(self, journal: Journal, search: SearchConfig, told_to_stop: Set[str] | None = None):
        self._journal = journal
        self._metric = metric_of(search)
        self._told_to_stop = told_to_stop
        self._in_population = search.scheduler == "pbt"
        self._starting_s: Counter[str] = Counter()
        self._keeps_checkpoints = search.scheduler in ("pbt", "hyperband")

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ours, point = self._of(trial), trial.config["run"]["point"]
        if self._in_population and point != ours.point:
            self._journal.add("changed", ours.id, point=dict(point), source=read_pointer(trial.checkpoint))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        ours = self._of(trial)
        if FAILURE in result:
            self._end(ours, "failed", result[FAILURE])
        elif result["epoch"] > ours.epochs or (self._in_population and not self._is_told_again(result, ours)):
            row = {key: value for key, value in result.items() if key not in _TUNE_ADDS and key != SCORE}
            row["spent_s"] += self._starting_s.pop(ours.id, 0.0)
            self._journal.add("epoch", ours.id, row=row)
        else:  # Told again at a start, which took its time.
            self._starting_s[ours.id] += result["spent_s"]
        if self._told_to_stop is not None and "epoch" in result:
            folder = self._journal.folder / TRIALS / ours.id
            write_decision(folder, result["epoch"], stop=ours.id in self._told_to_stop)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ours = self._of(trial)
        if ours.status == "failed":
            return
        self._end(ours, "finished" if ours.rows and ours.rows[-1]["finished"] else "stopped")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._journal.add("failure", self._of(trial).id, reason=_reason(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(self._of(trial), "failed", _reason(trial))

    def _is_told_again(self, result: dict[str, Any], trial: Trial) -> bool:
        """A trial of a population starts with telling its last epoch; with others' weights it may fall behind."""
        last = trial.rows[-1] if trial.rows else {}
        return all(last.get(key) == result[key] for key in ("epoch", self._metric))

    def _of(self, trial: Any) -> Trial:
        return self._journal.trials[str(trial)]

    def _end(self, trial: Trial, status: str, reason: str | None = None) -> None:
        if trial.ended and status in (trial.status, "failed"):
            return  # It only told its epochs again.
        self._journal.add("ended", trial.id, status=status, **({"reason": reason} if reason else {}))
        if not self._keeps_checkpoints:
            remove_checkpoints(self._journal.folder, trial)


def remove_checkpoints(out: Path, trial: Trial) -> None:
    """Of a trial that has ended: nobody goes on from them."""
    shutil.rmtree(out / TRIALS / trial.id / FOLDER, ignore_errors=True)


class BudgetStopper(Stopper):
    """Ends the search, though not its trials, when its device-hours are used up."""

    def __init__(self, journal: Journal, hours: float | None):
        self._journal = journal
        self._seconds = float("inf") if hours is None else hours * 3600

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._journal.device_s >= self._seconds


def _reason(trial: Any) -> str:
    """Why a trial failed just now."""
    from ray import cloudpickle

    # Written by this process a moment ago. Ray Tune's own reader looks where it will have been copied to by and by.
    path = trial.pickled_error_file
    if path is None or not Path(path).exists():
        return "Ray Tune gave no reason"
    return in_words(cloudpickle.loads(Path(path).read_bytes()))


def in_words(error: Exception) -> str:
    """What a trial died of, in one line."""
    from ray.exceptions import OutOfMemoryError, RayActorError

    cause = getattr(error, "cause", None) or error
    if isinstance(cause, OutOfMemoryError):
        return "the node ran out of memory, and Ray ended the trial's process"
    if isinstance(cause, RayActorError):
        return "its process died; the operating system kills what takes too much memory"
    message = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {message[:_LONGEST_REASON]}"
