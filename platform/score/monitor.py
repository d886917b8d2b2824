"""A run's figures for Prometheus, over HTTP for as long as the run lasts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from ..errors import UserError
from .job import Progress

LOOPBACK = "127.0.0.1"

_GAUGES = {
    "items": ("num_items", "Files, records or table rows of the input."),
    "items_done": ("items", "Of these, done."),
    "pages_per_second": ("pages_per_s", "Over the last half minute."),
    "eta_seconds": ("eta_s", "Until the last page; not there while nobody can tell."),
    "predictors": ("predictors", "Predictors that gave pages in the last half minute."),
    "nodes": ("nodes", "Nodes on which they were."),
}
"""Name behind vizecg_score_ -> field of Progress, and what it is."""


@dataclass(eq=False)
class ScoreMetrics(Collector):
    """What Prometheus is told: call it with every Progress. Counters never go down, whatever it is called with."""

    bundle_hash: str = ""
    backend: str = ""
    url: str | None = None
    """Where it is told; None where nobody asked for it."""
    _now: Progress | None = None
    _pages: Mapping[str, int] = field(default_factory=dict)
    _reasons: Mapping[str, int] = field(default_factory=dict)

    def __call__(self, progress: Progress) -> None:
        """Tell this from now on."""
        # What is there is replaced, not changed: another thread reads it at any time.
        self._reasons = _greater(self._reasons, progress.rejected)
        self._pages = _greater(
            self._pages, {"scored": progress.scored, "rejected": sum(progress.rejected.values())}
        )  # fmt: skip
        self._now = progress

    def collect(self) -> Iterator[Metric]:
        """Called for every answer; prometheus_client's interface."""
        yield InfoMetricFamily(
            "vizecg_score", "What scores.", {"bundle_hash": self.bundle_hash, "backend": self.backend}
        )
        yield _counter("pages", "Pages in the output, those of earlier starts too.", "status", self._pages)
        yield _counter("rejected", "Rejected pages.", "reason", self._reasons)
        if self._now is not None:
            for name, (attribute, meaning) in _GAUGES.items():
                value = getattr(self._now, attribute)
                if value is not None:
                    yield GaugeMetricFamily(f"vizecg_score_{name}", meaning, value)


def _greater(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    return {name: max(old.get(name, 0), new.get(name, 0)) for name in {**old, **new}}


def _counter(name: str, meaning: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"vizecg_score_{name}", meaning, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


@contextmanager
def metrics_endpoint(
    port: int | None, *, bundle_hash: str = "", backend: str = "", host: str = LOOPBACK
) -> Iterator[ScoreMetrics]:
    """`with metrics_endpoint(port) as update`: `update(progress)` is what http://host:port/metrics says from then on.

    Without a port nothing is opened, and 0 takes a free one; `update.url` says where it is. Whoever reaches the port
    can read it, so beyond this machine it is open only where `host` says so, such as 0.0.0.0.

    Raises:
        UserError: the port is taken, out of range or not ours to open.
    """
    metrics = ScoreMetrics(bundle_hash, backend)
    if port is None:
        yield metrics
        return
    if not 0 <= port <= 65535:
        raise UserError(f"metrics port {port}: ports go from 1 to 65535, and 0 takes one that is free")
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise UserError(
            f"metrics port {port} on {host} cannot be opened ({error.strerror or error}); choose another one, or 0 "
            "for one that is free"
        ) from None
    metrics.url = f"http://{host}:{server.server_port}/metrics"
    try:
        yield metrics
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
