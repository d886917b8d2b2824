"""A bundle ready to answer: predicting in this process, or by classifiers in processes of their own.

Shapes: B pages, K labels, H x W pixels.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from ..platform.backends.apart import compile_apart
from ..platform.bundle_facts import Bundle, read_values
from ..platform.bundle_source import local_bundle
from ..platform.predictor import PagePredictor
from .batcher import Batcher, Pages, Predicted
from .models import ServedModel
from .observe.metrics import ReplicaMetrics
from .problems import Refused
from .settings import AppArgs

Key = TypeVar("Key", bound=Hashable)
Loaded = TypeVar("Loaded")


class Loads(Generic[Key, Loaded]):
    """What takes long to load: once for all who ask meanwhile, and to its end where they give up waiting."""

    def __init__(self, load: Callable[[Key], Coroutine[Any, Any, Loaded]]):
        """`load` also keeps what it has loaded."""
        self._load = load
        self._under_way: dict[Key, asyncio.Task[Loaded]] = {}
        """With those that failed while nobody waited: the next who asks hears why."""

    async def __call__(self, key: Key) -> Loaded:
        """Raises what `load` raises."""
        task = self._under_way.get(key)
        if task is None:
            # In no request's context, or Serve would cancel calls of it with the request that happened to be first.
            task = asyncio.create_task(self._load(key), context=Context())
            self._under_way[key] = task
            task.add_done_callback(lambda done: done.cancelled() or done.exception() or self._forget(key, done))
        try:
            return await asyncio.shield(task)
        finally:
            if task.done():
                self._forget(key, task)

    def _forget(self, key: Key, task: "asyncio.Task[Loaded]") -> None:
        if self._under_way.get(key) is task:
            del self._under_way[key]


class LocalModels:
    """Loads bundles that predict here. All share one thread, on which the backend's own threads compute."""

    def __init__(self, args: AppArgs, metrics: ReplicaMetrics):
        self._args, self._metrics = args, metrics
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="predict")

    def load(self, name: str, location: str, *, is_canary: bool = False) -> ServedModel:
        """Ready, its first prediction made; raises UserError where there is no bundle that can be served."""
        started = time.perf_counter()
        folder = local_bundle(location)
        device = "cuda" if self._args.num_gpus else "cpu"
        bundle, compiled = compile_apart(folder, self._args.backend, device)
        predictor = PagePredictor(bundle, compiled.load(self._args.predicting_threads, device), compiled.name)
        batcher = Batcher(
            predictor.predict_pages, self._args.max_batch_size, self._executor,
            on_batch=lambda pages: self._metrics.observe_batch(pages, name),
        )  # fmt: skip
        # The first prediction sets up buffers and takes several times as long.
        self._executor.submit(predictor.predict_pages, blank_pages(bundle, 1)).result()
        model = ServedModel(name, folder, bundle, compiled.name, batcher, is_canary)
        self._metrics.watch(batcher)
        self._metrics.model_loaded(model.info, time.perf_counter() - started, model)
        return model


class RemoteModels:
    """Bundles that classifiers predict with: here are their facts alone."""

    def __init__(self, classifier: Any, metrics: ReplicaMetrics):
        """`classifier` is a handle of the deployment of that name."""
        self._classifier, self._metrics = classifier, metrics

    def load(self, name: str, location: str, *, is_canary: bool = False) -> ServedModel:
        """Once a classifier has it, too; raises UserError where there is no bundle that can be served."""
        started = time.perf_counter()
        folder = local_bundle(location)
        bundle = read_values(Path(folder))[1]
        which = (name, location, bundle.content_hash)
        backend = self._classifier.load.remote(*which).result()

        async def predict(page: Pages) -> Predicted:
            try:
                return await self._classifier.predict.remote(*which, page)
            except RayTaskError:
                raise
            except (RayError, RayServeException):
                raise Refused(503, "busy", "What predicts is being started anew or is full; try again.") from None

        model = ServedModel(name, folder, bundle, backend, predict, is_canary)
        self._metrics.model_loaded(model.info, time.perf_counter() - started, model)
        return model


def blank_pages(bundle: Bundle, num_pages: int) -> Pages:
    """White pages (B, 3, H, W) of the size that the model reads."""
    return np.full((num_pages, 3, bundle.page.height_px, bundle.page.width_px), 255, np.uint8)
