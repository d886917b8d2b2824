"""What one replica counts. Nothing of a patient, and no value of a label that a client could make up.

Shapes: K labels.
"""

import json
import threading
import time
import uuid
import weakref
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ...platform.bundle_facts import Bundle
from ..schemas import ModelInfo
from ..settings import DEFAULT_MODEL
from .present import Present, Waiting
from .scores import ScoreBook, short_hash
from .series import read_registry, to_json

Stage = Literal["queue", "decode", "predict", "explain", "total"]
Protocol = Literal["http", "grpc"]

_PREFIX = "vizecg_serve_"
_SECONDS = (.001, .002, .005, .01, .015, .02, .03, .045, .07, .1, .15, .25, .4, .7, 1.5, 3, 10)  # fmt: skip
"""Close together from 10 to 400 ms, where pages are read."""
_LOAD_SECONDS = (0.5, 1, 2, 5, 10, 20, 40, 80, 160)
_PAGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
_OTHER = "other"


class ReplicaMetrics:
    """Counters of one replica in a registry of its own; the hub adds up those of all replicas."""

    def __init__(self, models: Collection[str] = (DEFAULT_MODEL,)):
        """`models`: names that may be asked for; those loaded later become known with `model_loaded`."""
        self.registry = registry = CollectorRegistry()
        self._models, self._scores, self._present = {*models}, ScoreBook(), Present()
        registry.register(self._scores)
        registry.register(self._present)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(_PREFIX + name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(_PREFIX + name, text, labels, registry=registry, buckets=buckets)

        self._requests = counter(
            "requests_total", "Requests answered; `code` is that of the problem, empty where there is none.",
            "protocol", "route", "status", "code", "model",
        )  # fmt: skip
        self._rejects = counter("rejects_total", "Requests, and pages of batches, that were refused.", "code")
        self._warnings = counter(
            "page_warnings_total", "Warnings of pages that were read; a page may have several.",
            "code", "model", "bundle",
        )  # fmt: skip
        self._by_key = counter(
            "key_requests_total", "Requests answered, by the name of their API key.", "key", "status"
        )
        self._durations = histogram(
            "request_duration_seconds", "From the head of a request to the end of its answer, of those not refused.",
            _SECONDS, "protocol", "route",
        )  # fmt: skip
        self._stages = histogram("stage_duration_seconds", "Of one page.", _SECONDS, "stage", "model")
        self._batches = histogram("batch_pages", "Pages that were predicted at once.", _PAGES, "model")
        self._loads = histogram("model_load_duration_seconds", "Until a model could answer.", _LOAD_SECONDS, "model")
        self._in_work = Gauge(_PREFIX + "requests_in_work", "Requests that are being answered.", registry=registry)
        self._refused_settings = counter("settings_refused_total", "Changes of settings that were not taken.")
        self._run, self._number, self._started, self._lock = uuid.uuid4().hex, 0, time.monotonic(), threading.Lock()

    def request_done(
        self, *, protocol: Protocol, route: str, status: int, seconds: float, code: str = "", model: str = "",
        key: str = "",
    ) -> None:  # fmt: skip
        """A request was answered.

        Args:
            route: its template, such as `/v1/models/{name}`, or the gRPC method; never the path itself.
            status: of HTTP, also for gRPC (problems.py).
            code: of the Problem.
            model: as the request names it; empty where it is about none.
            key: name of the API key; never the key.
        """
        self._requests.labels(protocol, route, status, code, self._known(model)).inc()
        if code:
            self._rejects.labels(code).inc()
        if key:
            self._by_key.labels(key, status).inc()
        if status < 400:
            self._durations.labels(protocol, route).observe(seconds)

    def page_refused(self, code: str) -> None:
        """A page of a batch, whose request is answered all the same."""
        self._rejects.labels(code).inc()

    def observe_stage(self, stage: Stage, seconds: float, model: str) -> None:
        """What a page spent in a stage; `total` is all of them together."""
        self._stages.labels(stage, self._known(model)).observe(seconds)

    def observe_batch(self, pages: int, model: str) -> None:
        """Pages were predicted at once."""
        self._batches.labels(self._known(model)).observe(pages)

    def page_read(
        self, info: ModelInfo, bundle: Bundle, probability: NDArray[np.float32], thresholds: Sequence[float]
    ) -> None:
        """A page's probabilities and thresholds, (K,) each; about 10 us."""
        self._scores.add(info.name, bundle, probability, thresholds)

    def page_warned(self, codes: Iterable[str], info: ModelInfo) -> None:
        """What was told of a page that was read; which bundle read it tells an old one from one on trial."""
        for code in codes:
            self._warnings.labels(code, info.name, short_hash(info.bundle_hash)).inc()

    def settings_refused(self) -> None:
        """New settings had a mistake; those before stay in force."""
        self._refused_settings.inc()

    def in_work(self) -> AbstractContextManager[object]:
        """Around a request."""
        return self._in_work.track_inprogress()

    def watch(self, batcher: Waiting) -> None:
        """Its waiting pages count for as long as it lives."""
        self._present.add(batcher)

    def model_loaded(self, info: ModelInfo, seconds: float, model: object | None = None) -> None:
        """A model can answer; its bundle counts as loaded for as long as `model` lives, where that is given."""
        self._models.add(info.name)
        self._loads.labels(info.name).observe(seconds)
        facts = (info.name, short_hash(info.bundle_hash), info.architecture, info.backend, str(info.canary).lower())
        self._present.bundles[facts] = (lambda: self) if model is None else weakref.ref(model)

    def snapshot(self) -> bytes:
        """All of it for `MetricsHub.push`, as JSON of 10 to 30 kB; takes a few milliseconds."""
        with self._lock:
            self._number += 1
            snapshot = {
                "run": self._run,
                "number": self._number,
                "age_s": time.monotonic() - self._started,
                "table": to_json(read_registry(self.registry)),
                "scores": self._scores.states(),
            }
        return json.dumps(snapshot, separators=(",", ":")).encode()

    def text(self) -> bytes:
        """This replica's alone, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _known(self, model: str) -> str:
        # Clients ask for models that do not exist: each such name would be another series, for ever.
        return model if model in self._models or not model else _OTHER
