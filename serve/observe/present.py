"""What is there at the moment: bundles that are loaded and pages that wait. Looked up when asked for, never told.

Weak references, because a model that makes room for another has nobody who says so.
"""

from collections.abc import Callable, Iterator
from typing import Protocol
from weakref import ref

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Waiting(Protocol):
    """A batcher."""

    @property
    def num_waiting(self) -> int: ...


class Present(Collector):
    """Of one replica; gives gauges to its registry."""

    def __init__(self) -> None:
        self._batchers: list[ref[Waiting]] = []
        self.bundles: dict[tuple[str, ...], Callable[[], object | None]] = {}
        """By model, bundle, architecture, backend and canary, what gives None once it is gone."""

    def add(self, batcher: Waiting) -> None:
        """Its waiting pages count for as long as it lives."""
        # A new list, since another thread may be looking at this one.
        self._batchers = [*(known for known in self._batchers if known() is not None), ref(batcher)]

    def collect(self) -> Iterator[Metric]:
        """Called from whichever thread asks for the metrics."""
        waiting = sum(batcher.num_waiting for known in self._batchers if (batcher := known()) is not None)
        yield GaugeMetricFamily("vizecg_serve_pages_waiting", "Pages that wait for their prediction.", waiting)
        loaded = GaugeMetricFamily(
            "vizecg_serve_bundle_replicas",
            "Replicas that have the bundle loaded.",
            labels=("model", "bundle", "architecture", "backend", "canary"),
        )
        for facts, alive in [*self.bundles.items()]:
            if alive() is not None:
                loaded.add_metric(facts, 1)
        yield loaded
