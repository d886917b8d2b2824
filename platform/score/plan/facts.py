"""What a plan says, once everything is measured."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .work import Cluster, Estimate, Option, Prices, Sample, Work

OVERNIGHT_H = 12.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What somebody with an archive needs to decide."""

    source: str
    bundle_hash: str
    backend: str
    num_items: int
    input_bytes: int
    sample_items: int
    sample_pages: int
    measured_cores: int
    pages: Estimate
    rejected_share: Estimate
    page_core_s: Estimate
    """Seconds of one core of which all are busy, a page; the efficiency is not in it."""
    predict_core_s: float
    """Of these, in the network, a page that is scored."""
    output_bytes: Estimate
    start_s: float
    storage_bytes_per_s: float
    is_storage_told: bool
    storage_cores: int
    gpu_pages_per_s: float | None
    efficiency: float
    cores_per_node: int
    prices: Prices
    options: tuple[Option, ...]
    overnight: Option | None
    """The fewest nodes that are done within `OVERNIGHT_H` hours; None where no number is."""

    @property
    def cheapest(self) -> Option:
        return min(self.options, key=lambda option: (option.cost.value, option.hours.value))

    @property
    def fastest(self) -> Option:
        return min(self.options, key=lambda option: (option.hours.value, option.cost.value))

    def to_dict(self) -> dict[str, Any]:
        """As plan.json has it."""
        named = {"cheapest": self.cheapest, "fastest": self.fastest, "overnight": self.overnight}
        whole = {**asdict(self), **{name: option and asdict(option) for name, option in named.items()}}
        return _plain(whole)


def plan_of(sample: Sample, cluster: Cluster, *, nodes: Sequence[int], efficiency: float, **facts: Any) -> Plan:
    """The arithmetic, once everything is measured."""
    work = Work.of(sample, efficiency)
    kinds = [False, True] if cluster.gpu_pages_per_s else [False]
    options = tuple(cluster.option(work, count, kind) for kind in kinds for count in sorted(set(nodes)))
    enough = [(cluster.nodes_within(work, OVERNIGHT_H, kind), kind) for kind in kinds]
    overnight = [cluster.option(work, count, kind) for count, kind in enough if count]
    with np.errstate(divide="ignore", invalid="ignore"):
        rejected, page_core_s = 1 - work.scored / work.pages, efficiency * work.core_s / work.pages
    return Plan(
        num_items=sample.num_items, input_bytes=sample.input_bytes,
        sample_items=sum(s.items for s in sample.stretches), sample_pages=sum(s.pages for s in sample.stretches),
        measured_cores=sample.cores, pages=Estimate.of(work.pages), rejected_share=Estimate.of(rejected),
        page_core_s=Estimate.of(page_core_s), predict_core_s=sample.predict_core_s,
        output_bytes=Estimate.of(work.pages * sample.output_page_bytes), start_s=work.start_s,
        storage_bytes_per_s=cluster.storage_bytes_per_s, storage_cores=cluster.storage_cores(work),
        gpu_pages_per_s=cluster.gpu_pages_per_s, efficiency=efficiency, cores_per_node=cluster.cores_per_node,
        prices=cluster.prices, options=options,
        overnight=min(overnight, key=lambda option: option.cost.value, default=None), **facts,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """Estimates with their names, and nothing that JSON does not know."""
    if isinstance(value, Estimate):
        return {"value": _plain(value.value), "low": _plain(value.low), "high": _plain(value.high)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
