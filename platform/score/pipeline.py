"""Chunks -> predictors -> rows, on Ray Data.

On CPUs a predictor reads and decodes its own pages on threads: shipping decoded pages between processes costs more than
it gives. Beside a GPU, decoders of their own keep it busy. The pool of predictors grows and shrinks with what waits,
and what it asks for makes a cluster's autoscaler add nodes.

Chunks go in waves, because Ray Data keeps an entry for every block until a dataset is done, and a listing of ten
million files must not be in memory at once.
"""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from ..errors import UserError
from ..ray_session import start_ray, without_needless_errors
from .decoder import PageDecoder, PreparedScorer
from .job import Chunk, PoolSettings
from .scorer import PageScorer, ScorerJob, chunk_table, unpack

WAVE_CHUNKS = 1024
"""At least, and so many for every predictor: at the end of a wave some of them wait for the slowest."""
_WAVE_CHUNKS_PER_PREDICTOR = 32
MAX_FAILED_SHARE = 0.25
"""Of a wave's chunks, or 64 where that is more: beyond it no bad page is the reason but a fault that all meet."""
_MAX_FAILED_CHUNKS = 64
_RETRIES = 2
"""Of a chunk whose predictor died: a node may go at any time, but one page may also kill whoever reads it."""
_IN_FLIGHT = 4
"""Chunks at a predictor, so that it never waits for the next."""
_INIT_DEATHS = 10
"""Predictors that may die one after the other while they start: a node may go then, too."""
_MANY_CORES = 4


@dataclass(frozen=True)
class Pool:
    """The settings with every choice made."""

    min_predictors: int
    max_predictors: int
    cpus: int
    gpus: float
    decoders: int
    batch_pages: int

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"


def resolve_pool(settings: PoolSettings) -> Pool:
    """Join or start the cluster, and choose what was left open by its size.

    Raises:
        UserError: no GPU where one is asked for, more cores than a node has, or a size that makes no sense.
    """
    import ray

    gpus = settings.gpus_per_predictor
    told = settings.cpus_per_predictor
    own = 1 if gpus else min(_MANY_CORES, os.cpu_count() or 1)
    start_ray(min_cpus=(told or own) * settings.min_predictors + (settings.decoders or int(gpus > 0)))
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = max((int(node.get("CPU", 0)) for node in nodes), default=0)
    # Of a cluster without nodes nobody knows how large those will be that come.
    cpus = told or (1 if gpus or not cores else min(_MANY_CORES, cores))
    _check_fits(cpus, gpus, cores, any(node.get("GPU") for node in nodes))
    resources = ray.cluster_resources()
    fitting = (
        int(resources.get("GPU", 0) / gpus) if gpus else int((resources.get("CPU", 1) - settings.decoders) // cpus)
    )
    most = settings.max_predictors or max(settings.min_predictors, fitting, 1)
    if most < settings.min_predictors:
        raise UserError(f"max_predictors {most} is less than min_predictors {settings.min_predictors}")
    decoders = settings.decoders
    if gpus and not decoders:
        decoders = max(1, int(resources.get("CPU", 2)) - cpus * settings.min_predictors)
    return Pool(settings.min_predictors, most, cpus, gpus, decoders, settings.batch_pages or (64 if gpus else 16))


def _check_fits(cpus: int, gpus: float, cores: int, has_gpu: bool) -> None:
    """UserError where no node can hold a predictor. A cluster that was joined may get larger nodes when it is asked."""
    if "RAY_ADDRESS" in os.environ:
        return
    if gpus and not has_gpu:
        raise UserError(f"gpus_per_predictor is {gpus:g} and no GPU was found; leave it out to predict on CPUs")
    if cpus > cores:
        raise UserError(f"cpus_per_predictor is {cpus} and no node has more than {cores}; give fewer")


def scored(
    chunks: Iterable[Chunk], job: ScorerJob, pool: Pool, *, alone: bool = False
) -> Iterator[tuple[str, pa.Table]]:
    """(worker, rows) of every chunk that could be scored, in any order.

    A chunk is missing where its predictor died three times, or failed; where too many are, the error is raised. With
    `alone` a predictor holds one chunk at a time, so that none is missing because of another.
    """
    import ray

    shared = ray.put(job)
    chunks = iter(chunks)
    most = max(WAVE_CHUNKS, _WAVE_CHUNKS_PER_PREDICTOR * pool.max_predictors)
    while wave := list(islice(chunks, most)):
        max_failed = -1 if alone else max(_MAX_FAILED_CHUNKS, int(MAX_FAILED_SHARE * len(wave)))
        with _context(max_failed), without_needless_errors():
            dataset = _dataset(wave, shared, pool, alone)
            for packed in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from unpack(packed)


def _dataset(wave: list[Chunk], job: Any, pool: Pool, alone: bool) -> Any:
    import ray

    # from_arrow starts a task with a CPU of its own for every chunk (Ray 2.60), only to learn its schema: a cluster
    # that scales by itself would add nodes for hundreds of them, whatever max_predictors says.
    dataset = ray.data.from_blocks([chunk_table(chunk) for chunk in wave])
    sizes = {"min_size": min(pool.min_predictors, len(wave)), "max_size": min(pool.max_predictors, len(wave))}
    resources: dict[str, Any] = {"num_cpus": pool.cpus, **({"num_gpus": pool.gpus} if pool.gpus else {})}
    scorer: type = PageScorer
    if pool.decoders:
        most = min(pool.decoders, len(wave))
        in_flight = 1 if alone else _IN_FLIGHT
        decoders = ray.data.ActorPoolStrategy(min_size=1, max_size=most, max_tasks_in_flight_per_actor=in_flight)
        dataset = _mapped(dataset, PageDecoder, job, decoders, {"num_cpus": 1})
        scorer = PreparedScorer
    # What waits at a predictor dies with what it has in hand: to learn who killed it, nothing else may be there. And
    # one call at a time: with several, Ray 2.60 ends an actor with a segmentation fault.
    predictors = ray.data.ActorPoolStrategy(**sizes, max_tasks_in_flight_per_actor=1 if alone else _IN_FLIGHT)
    return _mapped(dataset, scorer, job, predictors, resources)


def _mapped(dataset: Any, actor: type, job: Any, compute: Any, resources: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        # Ray 2.60 names no other way to say how often an actor is restarted; pyproject.toml keeps us below the
        # version without it.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return dataset.map_batches(
            actor,
            fn_constructor_args=(job,),
            compute=compute,
            batch_size=1,
            batch_format="pyarrow",
            max_restarts=-1,
            max_task_retries=_RETRIES,
            **resources,
        )


@contextmanager
def _context(max_failed: int) -> Iterator[None]:
    """Ray Data as scoring needs it: results as they come, and a chunk that fails stops no other."""
    from ray.data import DataContext

    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = False
    context.max_errored_blocks = max_failed
    context.max_consecutive_actor_init_deaths = _INIT_DEATHS
    # It writes a stack trace for every chunk that failed; these are scored again, or end the run with their error.
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with DataContext.current(context):
            yield
    finally:
        logger.setLevel(level)
