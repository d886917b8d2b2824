"""What the first worker writes while it trains: progress.json, history.jsonl, TensorBoard and, where asked, MLflow."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..files import write_atomically
from ..history import HISTORY, PROGRESS, append_history
from .mlflow_log import MlflowLog, MlflowSettings

TENSORBOARD = "tensorboard"

WRITE_EVERY_S = 0.5
MAX_WRITE_SHARE = 0.01
"""Of the time: where a file system is slow, progress is written less often."""
SCALARS_EVERY_S = 10.0
"""TensorBoard's points within an epoch."""
RATE_MEMORY_S = 10.0
"""How far back the speed that is shown looks."""

Losses = dict[str, float]


class Tracker:
    """Progress of a run in its folder `out`, on rank 0 alone; `close` it at the end.

    progress.json says where the run is: epoch (from 1), num_epochs, step (of the whole run), steps_per_epoch,
    records_in_epoch, num_train, records_per_second, losses, learning_rate, phase (starting, training, validate,
    checkpoint, finished, stopped), and time (seconds since 1970).
    """

    def __init__(
        self,
        out: Path,
        *,
        run_name: str,
        num_epochs: int,
        steps_per_epoch: int,
        num_train: int,
        tensorboard: bool,
        mlflow: MlflowSettings | None,
        started_at_step: int,
    ):
        self._out = out
        self._rate = _Rate()
        self._next_write = self._next_scalars = 0.0
        epochs_done, steps_done = divmod(started_at_step, steps_per_epoch)
        self._row: dict[str, Any] = {
            "epoch": min(epochs_done + 1, num_epochs), "num_epochs": num_epochs,
            "step": started_at_step, "steps_per_epoch": steps_per_epoch,
            "records_in_epoch": round(num_train * steps_done / steps_per_epoch), "num_train": num_train,
            "records_per_second": None, "losses": {}, "learning_rate": None,
        }  # fmt: skip
        self._scalars = _open_tensorboard(out / TENSORBOARD, started_at_step) if tensorboard else None
        self._mlflow = MlflowLog(out, mlflow, run_name) if mlflow else None
        self.phase("starting")

    def phase(self, name: str) -> None:
        """What the run does from now on."""
        self._rate.pause()
        self._row["phase"] = name
        self._write()

    def step(
        self,
        epoch: int,
        step: int,
        records_seen: int,
        records_in_epoch: int,
        losses: Callable[[], Losses] | Losses | None,
        learning_rate: float,
    ) -> None:
        """After every step: a microsecond, but for the few that are written.

        Args:
            epoch: the one in progress, from 1.
            step: steps done in the whole run, this one included; records_seen likewise.
            losses: means by name; a function is called only where they are written.
        """
        now = time.monotonic()
        self._rate.begin(now, records_seen)
        row = self._row
        row["epoch"], row["step"], row["records_in_epoch"] = epoch, step, records_in_epoch
        row["learning_rate"] = learning_rate
        if now < self._next_write:
            return
        row["records_per_second"] = self._rate.update(now, records_seen)
        row["losses"] = (losses() if callable(losses) else losses) or {}
        self._write()
        if self._scalars and now >= self._next_scalars:
            self._next_scalars = now + SCALARS_EVERY_S
            parts = {name.removeprefix("train_"): value for name, value in row["losses"].items()}
            self._add_scalars("step", parts | {k: row[k] for k in ("learning_rate", "records_per_second")}, step)

    def epoch(self, row: dict[str, Any]) -> None:
        """A finished epoch: `row` holds its number (from 1) as `epoch`, and its metrics."""
        append_history(self._out / HISTORY, row)
        for group, values in _grouped(row).items():
            self._add_scalars(group, values, row["epoch"] * self._row["steps_per_epoch"])
        if self._mlflow:
            metrics = {
                f"{group}/{name}": value for group, part in _grouped(row).items() for name, value in part.items()
            }
            self._mlflow.add(row["epoch"], metrics)

    def close(self, finished: bool = True) -> None:
        """Write what is left; `finished` is false where the run ends early."""
        self.phase("finished" if finished else "stopped")
        if self._scalars:
            self._scalars.close()
        if self._mlflow:
            self._mlflow.close(finished)

    def _write(self) -> None:
        began = time.monotonic()
        write_atomically(self._out / PROGRESS, json.dumps(self._row | {"time": time.time()}))
        ended = time.monotonic()
        self._next_write = ended + max(WRITE_EVERY_S, (ended - began) / MAX_WRITE_SHARE)

    def _add_scalars(self, group: str, values: dict[str, Any], step: int) -> None:
        for name, value in values.items():
            if self._scalars and value is not None:
                self._scalars.add_scalar(f"{group}/{name}", value, step)


class _Rate:
    """Records per second, the latest counting most. What lies before the first batch after a pause does not count."""

    def __init__(self) -> None:
        self._records = self._seconds = 0.0
        self._since: tuple[float, int] | None = None

    def pause(self) -> None:
        self._since = None

    def begin(self, now: float, records_seen: int) -> None:
        if self._since is None:
            self._since = now, records_seen

    def update(self, now: float, records_seen: int) -> float | None:
        """The rate, or None where there was but one batch."""
        assert self._since is not None, "begin comes first"
        seconds, records = now - self._since[0], records_seen - self._since[1]
        self._since = now, records_seen
        kept = math.exp(-seconds / RATE_MEMORY_S)
        self._seconds, self._records = self._seconds * kept + seconds, self._records * kept + records
        return self._records / self._seconds if self._seconds else None


def _grouped(row: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The numbers of an epoch: train_... as `train`, val_... as `val`, all others as `run`."""
    groups: dict[str, dict[str, float]] = {"train": {}, "val": {}, "run": {}}
    for key, value in row.items():
        group, _, name = key.partition("_")
        group, name = (group, name) if group in ("train", "val") else ("run", key)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and key != "epoch":
            groups[group][name] = value
    return groups


def _open_tensorboard(folder: Path, started_at_step: int) -> Any:
    from tensorboardX import SummaryWriter

    # Names of event files end in seconds: two starts within one would write over each other without the suffix.
    # TensorBoard hides from `purge_step` on what an earlier start wrote and this one does again.
    suffix = f".{os.getpid()}.{time.time_ns()}"
    return SummaryWriter(str(folder), purge_step=started_at_step + 1, flush_secs=5, filename_suffix=suffix)


class Untracked:
    """In place of a Tracker on other workers, and in runs that keep nothing."""

    def phase(self, name: str) -> None:
        """Nothing."""

    def step(self, *arguments: Any) -> None:
        """Nothing."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def close(self, finished: bool = True) -> None:
        """Nothing."""
