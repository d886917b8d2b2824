"""What a replica's models said: histograms of probabilities, and findings, by model, bundle and label.

Shapes: K labels, E + 1 bins of platform/reference.py.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from ...platform.bundle_facts import Bundle
from ...platform.reference import LOG_ODDS_EDGES, probability_edges

BundleId = tuple[str, str]
"""Name of the model under which requests ask for it, and short hash of its bundle."""
_REFERENCE_EVERY = 30
"""States between two that hold the reference: it never changes, but whoever listens may have been restarted."""


def short_hash(content_hash: str) -> str:
    """Of a bundle, as metrics name it."""
    return content_hash[:12]


class Scores:
    """Of one bundle under one name, since the replica started."""

    def __init__(self, bundle: Bundle):
        reference, self.labels = bundle.reference, list(bundle.label_space.keys)
        edges = reference.log_odds_edges if reference else LOG_ODDS_EDGES
        self._edges, self._rows = probability_edges(edges), np.arange(len(self.labels))
        self._reference = reference.histogram if reference else None
        self.histogram = np.zeros((len(self.labels), len(edges) + 1), np.int64)
        """(K, E + 1) pages by probability."""
        self.found, self.pages = np.zeros(len(self.labels), np.int64), 0
        """(K,) pages with the label among their findings, and pages."""
        self._states = 0

    def add(self, probability: NDArray[np.float32], thresholds: Sequence[float]) -> None:
        """One page, (K,) each."""
        # As platform.reference.bin_counts, for one page and all labels at once.
        bins = np.searchsorted(self._edges, probability, side="right")
        self.histogram[self._rows, bins] += 1
        self.found += probability >= np.asarray(thresholds)
        self.pages += 1

    def state(self) -> dict[str, Any]:
        """For json.dumps: labels, histogram and now and then the reference's histogram."""
        state: dict[str, Any] = {"labels": self.labels, "histogram": self.histogram.tolist()}
        if self._states % _REFERENCE_EVERY == 0:
            state["reference"] = self._reference
        self._states += 1
        return state


class ScoreBook(Collector):
    """Of all bundles of a replica; gives pages and findings to its registry."""

    def __init__(self) -> None:
        self._scores: dict[BundleId, Scores] = {}
        self._lock = threading.Lock()

    def add(self, model: str, bundle: Bundle, probability: NDArray[np.float32], thresholds: Sequence[float]) -> None:
        """One page's probabilities and thresholds, (K,) each."""
        name = (model, short_hash(bundle.content_hash))
        with self._lock:
            scores = self._scores.get(name)
            if scores is None:
                scores = self._scores[name] = Scores(bundle)
            scores.add(probability, thresholds)

    def states(self) -> list[Any]:
        """For json.dumps: model, bundle and `Scores.state` of each."""
        with self._lock:
            return [[*name, scores.state()] for name, scores in self._scores.items()]

    def collect(self) -> Iterator[Metric]:
        pages = CounterMetricFamily("vizecg_serve_pages", "Pages that were read.", labels=("model", "bundle"))
        findings = CounterMetricFamily(
            "vizecg_serve_findings", "Pages with the label among their findings.", labels=("model", "bundle", "label")
        )
        with self._lock:
            for name, scores in self._scores.items():
                pages.add_metric(name, scores.pages)
                for label, found in zip(scores.labels, scores.found.tolist(), strict=True):
                    findings.add_metric((*name, label), found)
        yield pages
        yield findings
