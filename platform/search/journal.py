"""What happened in a search, line by line: OUT/journal.jsonl is the one thing that a search goes on from.

Ray Tune's own snapshots leave out the rungs of its schedulers (2.60: TuneController.__getstate__) and are written every
few seconds, so what finished since is run again. A line here is on the disk before anything follows from it.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from .space import Point

JOURNAL = "journal.jsonl"
Row = dict[str, Any]
Status = Literal["running", "finished", "stopped", "failed"]


@dataclass
class Trial:
    """One configuration that was tried."""

    id: str
    """`0007`, or `0007-seed1` where trial 0007 is trained again with another seed."""
    point: Point
    """A value for every dimension of the space."""
    seed: int | None = None
    """Where it confirms another trial."""
    status: Status = "running"
    """`stopped`: by the scheduler. One that was cut off is still `running`, and goes on when the search does."""
    reason: str | None = None
    """Why it failed."""
    failures: list[str] = field(default_factory=list)
    """Reasons why it was started again."""
    rows: list[Row] = field(default_factory=list)
    """Metrics of every epoch, with `node` (where it ran), `spent_s` (since the row before, of the wall clock),
    `devices`, `latency_ms` (of the image path, one page) and `num_parameters`."""
    source: dict[str, str] | None = None
    """PBT: the `trial` whose `checkpoint` it last took over."""

    @property
    def confirms(self) -> str | None:
        """The trial that it trains again."""
        return self.id.partition("-")[0] if self.seed is not None else None

    @property
    def epochs(self) -> int:
        return self.rows[-1]["epoch"] if self.rows else 0

    @property
    def ended(self) -> bool:
        return self.status != "running"

    @property
    def device_s(self) -> float:
        return sum(row["spent_s"] * row["devices"] for row in self.rows)

    def best(self, metric: str) -> Row | None:
        """The epoch with the highest metric; None where no epoch has one."""
        known = [row for row in self.rows if row.get(metric) is not None]
        return max(known, key=lambda row: row[metric], default=None)

    def at_epoch(self, epoch: int, metric: str) -> float | None:
        """Best metric in the first `epoch` epochs; None where it did not come so far."""
        if self.epochs < epoch:
            return None
        return max((r[metric] for r in self.rows if r["epoch"] <= epoch and r.get(metric) is not None), default=None)


class Journal:
    """The events of a search, and the trials that they add up to. One process at a time may hold it.

    Args:
        folder: OUT, which exists.
        on_change: called after every event.

    Raises:
        UserError: another process holds it.
    """

    def __init__(self, folder: Path, on_change: "Callable[[Journal], None] | None" = None):
        self.folder = folder
        self.events: list[dict[str, Any]] = []
        self.trials: dict[str, Trial] = {}
        self._on_change = on_change
        self._file = (folder / JOURNAL).open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: a search is running there already; wait for it, or choose another OUT"
            ) from None
        self._read()

    def __getstate__(self) -> dict[str, Any]:
        # Ray saves whatever hangs on its searcher and callbacks; nothing is read from that.
        return {}

    def close(self) -> None:
        self._file.close()

    def add(self, event: str, trial: str | None = None, **facts: Any) -> None:
        """Write an event to the disk, then let it happen."""
        line = {"event": event, "at": round(time.time(), 3), **({"trial": trial} if trial else {}), **facts}
        text = json.dumps(line)
        self._file.write(text.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._apply(json.loads(text))  # What a restart will read, and no caller's dictionary that may change.
        if self._on_change:
            self._on_change(self)

    @property
    def main(self) -> list[Trial]:
        """Trials of the search itself, in the order of their start."""
        return [trial for trial in self.trials.values() if trial.seed is None]

    @property
    def confirming(self) -> list[Trial]:
        """Trials that train the best ones again."""
        return [trial for trial in self.trials.values() if trial.seed is not None]

    @property
    def device_s(self) -> float:
        return sum(trial.device_s for trial in self.trials.values())

    @property
    def started(self) -> list[dict[str, Any]]:
        """Every start of the search: `at`, and `nodes`: name -> devices that trials may hold there."""
        return [event for event in self.events if event["event"] == "start"]

    def _read(self) -> None:
        self._file.seek(0)
        whole, _, rest = self._file.read().rpartition(b"\n")
        if rest:  # A line that was cut short by a kill.
            self._file.truncate(len(whole) + 1 if whole else 0)
        for line in whole.splitlines():
            self._apply(json.loads(line))

    def _apply(self, line: dict[str, Any]) -> None:
        self.events.append(line)
        kind, trial = line["event"], self.trials.get(line.get("trial", ""))
        if kind == "begun":
            self.trials[line["trial"]] = Trial(line["trial"], line["point"], line.get("seed"))
        elif trial is None:
            return
        elif kind == "epoch":
            trial.rows.append(line["row"])
        elif kind == "failure":
            trial.failures.append(line["reason"])
        elif kind == "changed":
            trial.point, trial.source = line["point"], line["source"]
        elif kind == "ended":
            trial.status, trial.reason = line["status"], line.get("reason")
