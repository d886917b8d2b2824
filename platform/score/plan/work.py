"""The arithmetic of a plan: what a whole archive is, by a sample of it, and what a cluster makes of that."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

PRICE_PER_CORE_HOUR, PRICE_PER_GPU_HOUR = 0.05, 1.0
PRICES_OF = "on-demand list prices of large clouds in 2025: general x86 machines, a logical core; an L4 or A10 GPU"
RAY_START_S = 12.0
"""Of a cluster that is there: Ray, and its first process on every node."""
_RESAMPLES = 2000

FloatArray = NDArray[np.float64]
Limit = Literal["cores", "GPUs", "storage", "start-up"]


class Estimate(NamedTuple):
    """A figure with the ends of its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: FloatArray) -> "Estimate":
        """Of the sample's own figure followed by those of its resamples."""
        low, high = np.quantile(values[1:], [0.025, 0.975]).tolist()
        return cls(float(values[0]), low, high)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Neighbours in the input, and what they cost."""

    items: int
    input_bytes: int
    pages: int
    scored: int
    core_s: float
    """Of cores of which all are busy."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was measured."""

    stretches: tuple[Stretch, ...]
    num_items: int
    """Of the whole archive, like `input_bytes`."""
    input_bytes: int
    sources: tuple[str, ...]
    """Files of the sample."""
    cores: int
    """Logical ones, which were all busy."""
    predict_core_s: float
    """Of the above, in the network, a page."""
    output_page_bytes: float
    listing_s: float
    start_s: float
    """Until predictors are ready."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What an hour costs."""

    core: float = PRICE_PER_CORE_HOUR
    gpu: float = PRICE_PER_GPU_HOUR
    currency: str = "USD"
    source: str = PRICES_OF


@dataclass(frozen=True, kw_only=True)
class Option:
    """One size of cluster."""

    nodes: int
    cores: int
    gpus: int
    hours: Estimate
    core_hours: float
    """Paid for, whether or not all are busy."""
    cost: Estimate
    pages_per_s: float
    limited_by: Limit


@dataclass(frozen=True, kw_only=True)
class Work:
    """The whole archive, by the sample; arrays begin with the sample's own figure, resamples follow."""

    pages: FloatArray
    core_s: FloatArray
    """All of it on cores."""
    reading_core_s: FloatArray
    """Without the network."""
    scored: FloatArray
    input_bytes: float
    start_s: float
    efficiency: float
    """Share of the sample's speed that a run keeps; in the seconds above already."""

    @classmethod
    def of(cls, sample: Sample, efficiency: float, seed: int = 0) -> "Work":
        """Bootstrap over stretches: neighbours resemble each other."""
        count = len(sample.stretches)
        drawn = np.random.default_rng(seed).multinomial(count, [1 / count] * count, _RESAMPLES)
        weights = np.vstack([np.ones(count), drawn])
        columns = np.array([(s.items, s.pages, s.scored, s.core_s) for s in sample.stretches], float)
        items, pages, scored, core_s = (weights @ columns).T
        whole = sample.num_items / items
        reading_core_s = np.maximum(core_s - scored * sample.predict_core_s, 0)
        return cls(
            pages=whole * pages, core_s=whole * core_s / efficiency, scored=whole * scored,
            reading_core_s=whole * reading_core_s / efficiency, input_bytes=sample.input_bytes,
            start_s=RAY_START_S + sample.listing_s + sample.start_s, efficiency=efficiency,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the nodes and their storage give."""

    cores_per_node: int
    storage_bytes_per_s: float
    gpu_pages_per_s: float | None
    """Of one GPU; None where none was measured."""
    prices: Prices

    def option(self, work: Work, nodes: int, with_gpus: bool = False) -> Option:
        """Time and cost on so many nodes, with a GPU each or none."""
        cores, gpus = nodes * self.cores_per_node, nodes if with_gpus else 0
        limits: dict[Limit, FloatArray] = {
            "cores": work.core_s / cores,
            "storage": np.full_like(work.core_s, self.storage_s(work)),
        }
        if with_gpus:
            assert self.gpu_pages_per_s is not None, "no GPU was measured"
            limits["cores"] = work.reading_core_s / cores
            limits["GPUs"] = work.scored / (gpus * self.gpu_pages_per_s * work.efficiency)
        busy_s = np.max(list(limits.values()), axis=0)
        hours = (work.start_s + busy_s) / 3600
        slowest = max(limits, key=lambda name: limits[name][0])
        return Option(
            nodes=nodes, cores=cores, gpus=gpus, hours=Estimate.of(hours), core_hours=float(cores * hours[0]),
            cost=Estimate.of(hours * (cores * self.prices.core + gpus * self.prices.gpu)),
            pages_per_s=float(work.pages[0] / busy_s[0]) if busy_s[0] else 0.0,
            limited_by="start-up" if work.start_s > busy_s[0] else slowest,
        )  # fmt: skip

    def storage_s(self, work: Work) -> float:
        """The least that reading takes, on any number of nodes."""
        return work.input_bytes / self.storage_bytes_per_s

    def storage_cores(self, work: Work) -> int:
        """Cores that read as fast as the storage delivers; more are idle."""
        return max(1, math.floor(work.core_s[0] / max(self.storage_s(work), 1e-9)))

    def nodes_within(self, work: Work, hours: float, with_gpus: bool = False) -> int | None:
        """The fewest nodes that are done within so many hours, at the slow end of the interval; None: no number is."""
        if 3600 * hours <= work.start_s + self.storage_s(work):
            return None
        # Less than linear nowhere, so the bounds can be doubled and halved.
        high = 1
        while self.option(work, high, with_gpus).hours.high > hours:
            high *= 2
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.option(work, middle, with_gpus).hours.high > hours else (low, middle)
        return high
