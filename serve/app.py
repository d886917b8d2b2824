"""The Serve application: one deployment that checks, decodes and predicts.

One, because a second costs more than it gives on a CPU: 15.6 ms of overhead a request against 9.3 (Ray 2.60, measured).
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig

from ..platform.data.read_page import Reading, ReadPage
from ..platform.predictor import Predictor
from .api import create_api
from .schemas import AppArgs, LabelResult, ModelInfo, PageFacts, Timing

DEPLOYMENT = "PageReader"


@serve.deployment(name=DEPLOYMENT)
@serve.ingress()
class PageReader:
    """A replica: the predictor, and the threads on which it works so that the event loop never waits for it."""

    def __init__(self, args: AppArgs):
        self._args = args
        self._reading = Reading(check=args.check_pages, rectify=args.rectify)
        self._predictor = Predictor.load(args.bundle, num_threads=args.num_threads, needs_pages=True)
        self._pool = ThreadPoolExecutor(args.num_workers, thread_name_prefix="page")
        self._warm_up()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica after `__init__`."""
        return create_api(self, self._args)

    @property
    def model(self) -> ModelInfo:
        bundle = self._predictor.bundle
        return ModelInfo(name=bundle.model.name, bundle_hash=bundle.content_hash)

    async def read(self, data: bytes) -> tuple[list[LabelResult], PageFacts, Timing]:
        """What the model says about an encoded image, what was seen of the page, and how long it took.

        Raises:
            PageError: the bytes cannot be read as a page of an ECG.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, data)

    def _read(self, data: bytes) -> tuple[list[LabelResult], PageFacts, Timing]:
        started = time.perf_counter()
        page = self._predictor.read(data, self._reading)
        decoded = time.perf_counter()
        (probabilities,) = self._predictor.predict_pages(page.pixels[None])
        predicted = time.perf_counter()
        timing = Timing(decode=round(1e3 * (decoded - started), 2), predict=round(1e3 * (predicted - decoded), 2))
        return self._results(probabilities), _page_facts(page), timing

    def _results(self, probabilities: np.ndarray) -> list[LabelResult]:
        bundle = self._predictor.bundle
        assert np.isfinite(probabilities).all(), "the model gave a probability that is no number"
        return [
            LabelResult(key=label.key, name=label.name, probability=p, threshold=threshold, positive=p >= threshold)
            for label, threshold, p in zip(
                bundle.label_space.labels, bundle.thresholds, probabilities.tolist(), strict=True
            )
        ]

    def _warm_up(self) -> None:
        # On every thread: the first prediction of a thread sets up its own buffers and takes several times as long.
        spec = self._predictor.bundle.page
        blank = np.full((1, 3, spec.height_px, spec.width_px), 255, np.uint8)
        for done in [self._pool.submit(self._predictor.predict_pages, blank) for _ in range(self._args.num_workers)]:
            done.result()


def _page_facts(page: ReadPage) -> PageFacts:
    found = page.finding
    if found is None:
        return PageFacts(turned_deg=0, ecg_score=None, note=page.note)
    return PageFacts(turned_deg=found.turned_deg, ecg_score=round(found.ecg_score, 4), note=page.note)


def build(args: AppArgs) -> Application:
    """The application for `serve.run`, and for `import_path: vizecg.serve.app:build` in a Serve config file."""
    return PageReader.options(  # pyrefly: ignore[missing-attribute]
        num_replicas=args.num_replicas,
        # Serve answers what exceeds its own limit in plain text. It may hand over more than a replica takes, so that
        # the replica answers it, as JSON.
        max_ongoing_requests=2 * args.max_ongoing_requests,
        max_queued_requests=args.max_queued_requests,
        backpressure_config=BackpressureConfig(retry_after_s=1),
        ray_actor_options={"num_cpus": args.num_cpus},
    ).bind(args)
