"""`vizecg score --plan`: how long a whole archive takes and what it costs, from a sample, at several cluster sizes.

Work grows with the archive and is shared by all cores, up to what the storage delivers: no more than that is assumed,
and every plan says so. Intervals are those of the sample: 95 % of bootstrap resamples of its stretches.
"""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ... import bundle as bundles
from ...backends.cache import compile_cached
from ...errors import UserError
from ..job import ScoreSettings
from ..scorer import ScorerJob
from ..sources import open_source
from ..sources.base import SourceSettings
from .facts import Plan, plan_of
from .limits import gpu_pages_per_s, storage_bytes_per_s
from .sample import measure_sample
from .work import Cluster, Prices

NODES = (1, 2, 4, 8, 16, 32, 64)
EFFICIENCY = 0.9
"""Share of the sample's speed that a run keeps: rows are collected and written by one process (docs/scoring.md)."""
MANY_CORES = 4
"""Of a predictor, as pipeline.py has it."""


def plan_scoring(
    bundle: Path | str,
    place: Path | str,
    settings: ScoreSettings | None = None,
    *,
    sources: SourceSettings | None = None,
    sample_pages: int = 256,
    nodes: Sequence[int] = NODES,
    cores_per_node: int | None = None,
    price_per_core_hour: float | None = None,
    price_per_gpu_hour: float | None = None,
    storage_mb_per_s: float | None = None,
    efficiency: float = EFFICIENCY,
) -> Plan:
    """Time and cost of `vizecg score` on what `place` names, from a sample scored on this machine; nothing is written.

    Args:
        cores_per_node: logical ones, taken to be as fast as this machine's; None: as many as it has.
        price_per_core_hour: in USD, as `price_per_gpu_hour`; None: `PRICES_OF` in plan_work.py.
        storage_mb_per_s: what the storage gives to all nodes together; None: what it gave to this machine.
        efficiency: share of the sample's speed that a run keeps.

    Raises:
        UserError: no bundle, nothing to score, or a number that makes no sense.
    """
    settings, prices = settings or ScoreSettings(), _prices(price_per_core_hour, price_per_gpu_hour)
    cores_per_node = cores_per_node or os.cpu_count() or 1
    _check(sample_pages, nodes, cores_per_node, storage_mb_per_s, efficiency, prices)
    facts = bundles.check_bundle(bundle)
    begun = time.perf_counter()
    found = open_source(str(place), sources or SourceSettings())
    listing_s = time.perf_counter() - begun
    _, compiled = compile_cached(bundle, settings.backend)
    job = ScorerJob(
        bundle_json=facts.model_dump_json(), compiled=compiled, reader=found.reader, reading=settings.reading,
        num_threads=settings.pool.cpus_per_predictor or min(MANY_CORES, os.cpu_count() or 1), device="cpu",
        batch_pages=settings.pool.batch_pages or 16,
    )  # fmt: skip
    sample = measure_sample(found, job, sample_pages)
    sample = replace(sample, listing_s=sample.listing_s + listing_s)
    told = None if storage_mb_per_s is None else storage_mb_per_s * 1e6
    cluster = Cluster(
        cores_per_node=cores_per_node, prices=prices, gpu_pages_per_s=gpu_pages_per_s(bundle, facts.page),
        storage_bytes_per_s=told or storage_bytes_per_s(sample.sources),
    )  # fmt: skip
    return plan_of(
        sample, cluster, source=str(place), bundle_hash=facts.content_hash, backend=compiled.name,
        nodes=nodes, efficiency=efficiency, is_storage_told=told is not None,
    )  # fmt: skip


def _prices(core: float | None, gpu: float | None) -> Prices:
    usual = Prices()
    return Prices(
        core=usual.core if core is None else core, gpu=usual.gpu if gpu is None else gpu,
        source=usual.source if core is None else "as told",
    )  # fmt: skip


def _check(
    sample_pages: int, nodes: Sequence[int], cores_per_node: int, storage_mb_per_s: float | None, efficiency: float,
    prices: Prices,
) -> None:  # fmt: skip
    if sample_pages < 1:
        raise UserError(f"sample_pages must be 1 or more, not {sample_pages}")
    if not nodes or min(nodes) < 1:
        raise UserError(f"nodes must be 1 or more, such as 1,4,16, not {','.join(map(str, nodes)) or 'none'}")
    if cores_per_node < 1:
        raise UserError(f"cores_per_node must be 1 or more, not {cores_per_node}")
    if storage_mb_per_s is not None and not 0 < storage_mb_per_s < math.inf:
        raise UserError(f"storage_mb_per_s must be positive, not {storage_mb_per_s}")
    if not 0 < efficiency <= 1:
        raise UserError(f"efficiency must be above 0 and at most 1, not {efficiency}")
    for name, price in (("core", prices.core), ("GPU", prices.gpu)):
        if not 0 <= price < math.inf:
            raise UserError(f"the price of a {name} hour must be 0 or more, not {price}")
