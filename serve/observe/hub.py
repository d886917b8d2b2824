"""The metrics of all replicas as one: counters never fall, whatever replicas come and go. Serve runs one hub.

A hub that is started anew knows what the replicas that live then have counted; to Prometheus this is one reset.
"""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .drift_window import Counts, DriftWindows
from .scores import BundleId
from .series import Family, Series, Table, exposition, from_json, increase, merge, of_kinds, without

GONE_AFTER_S = 10.0
"""Without a snapshot; the gauges of a replica count no more."""
_FORGOTTEN_AFTER_S = 600.0
_MAX_GONE = 256
_REPLICAS = Family("vizecg_serve_replicas", "gauge", "Replicas that live.", ("deployment",))


@dataclass
class _Replica:
    """What is known of one process."""

    deployment: str
    number: int
    """Of its latest snapshot."""
    pushed_s: float
    counted: Table
    gauges: Table
    scores: dict[BundleId, Counts]


class MetricsHub:
    """Takes snapshots of replicas and gives their sum. For any thread: Serve calls plain methods on several.

    Memory: the sum, 24 hours of the bundles in use and of 32 others, the latest snapshot of replicas that live and of
    at most 256 that went silent within ten minutes, since they may only have been out of reach.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        """`clock` gives seconds."""
        self._clock, self._started_s, self._lock = clock, clock(), threading.Lock()
        self._replicas: OrderedDict[tuple[str, str], _Replica] = OrderedDict()
        self._sum: Table = {}
        self._drift = DriftWindows()

    def push(self, replica_id: str, snapshot: bytes, deployment: str = "PageReader") -> int:
        """Take `ReplicaMetrics.snapshot()`, due every two seconds; how many replicas of that deployment live."""
        told = json.loads(snapshot)
        # Named by run, too: a process that took over another's id would seem to count backwards.
        name = (replica_id, told["run"])
        with self._lock:
            now, known = self._clock(), self._replicas.get(name)
            if known is None or told["number"] > known.number:
                self._take(name, told, deployment, known, now)
            self._forget(now)
            return self._living(now).get(deployment, 0)

    def collect(self) -> bytes:
        """Of all replicas, in Prometheus' text format."""
        with self._lock:
            now = self._clock()
            living: Series = {(deployment,): (float(count),) for deployment, count in self._living(now).items()}
            gauges = merge(replica.gauges for replica in self._replicas.values() if _lives(replica, now))
            table = {_REPLICAS: living} | gauges | self._sum | self._drift.table(now)
        return exposition(table)

    def _take(
        self, name: tuple[str, str], told: dict[str, Any], deployment: str, known: _Replica | None, now: float
    ) -> None:
        table = from_json(told["table"])
        replica = _Replica(
            deployment, told["number"], now, of_kinds(table, "counter", "histogram"), of_kinds(table, "gauge"),
            {(model, bundle): np.array(state["histogram"]) for model, bundle, state in told["scores"]},
        )  # fmt: skip
        # Older than what is remembered and younger than the hub: it was counted once and has been forgotten since.
        is_forgotten = known is None and _FORGOTTEN_AFTER_S < told["age_s"] < now - self._started_s
        before = replica if is_forgotten else known
        self._sum = merge([self._sum, increase(replica.counted, before.counted if before else {})])
        for model, bundle, state in told["scores"]:
            counts = replica.scores[model, bundle]
            added = counts - (before.scores.get((model, bundle), 0) if before else 0)
            self._drift.add((model, bundle), state["labels"], added, state.get("reference"), now)
        self._replicas[name] = replica
        self._replicas.move_to_end(name)

    def _living(self, now: float) -> dict[str, int]:
        counts: dict[str, int] = {}
        for replica in self._replicas.values():
            if _lives(replica, now):
                counts[replica.deployment] = counts.get(replica.deployment, 0) + 1
        return counts

    def _forget(self, now: float) -> None:
        gone = [name for name, replica in self._replicas.items() if not _lives(replica, now)]
        late = [name for name in gone if now - self._replicas[name].pushed_s > _FORGOTTEN_AFTER_S]
        for name in gone[: max(len(late), len(gone) - _MAX_GONE)]:
            del self._replicas[name]
        for model, bundle in self._drift.forget({key for each in self._replicas.values() for key in each.scores}, now):
            self._sum = without(self._sum, {"model": model, "bundle": bundle})


def _lives(replica: _Replica, now: float) -> bool:
    return now - replica.pushed_s <= GONE_AFTER_S
