"""What a scoring run is told, and what it tells while it runs."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ..data.read_page import Reading


@dataclass(frozen=True)
class Chunk:
    """The share of the input that one call of a predictor gets: items, each with its place in the input."""

    rows: tuple[int, ...]
    items: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """Who works: on CPUs every predictor decodes its own pages; decoders of their own pay beside a GPU."""

    min_predictors: int = 1
    max_predictors: int | None = None
    """None: as many as the cluster holds when the run starts."""
    cpus_per_predictor: int | None = None
    """None: one on CPUs of many cores; this machine's cores where they are few."""
    gpus_per_predictor: float = 0.0
    """Fractions share a GPU among predictors."""
    decoders: int = 0
    """Processes that read and decode for the predictors; 0 leaves both to the predictors."""
    batch_pages: int | None = None
    """Pages in one forward pass; None: 16 on a CPU, 64 on a GPU."""
    chunk_pages: int = 256
    chunk_bytes: int = 64 << 20
    """A chunk ends where either is reached: what a predictor loses when it dies, and what is in flight."""


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """Everything about a run but its bundle, its input and its output."""

    reading: Reading = field(default_factory=Reading)
    """How pictures are read; pages of shards are read as they are."""
    backend: str = "auto"
    """What computes (backends/); auto: the fastest one that agrees with the reference."""
    pool: PoolSettings = field(default_factory=PoolSettings)
    rows_per_file: int = 100_000
    max_rejected: float | None = None
    """Stop where a greater share of pages is rejected."""
    metrics_port: int | None = None
    """Where Prometheus finds the run."""
    metrics_host: str = "127.0.0.1"
    """0.0.0.0 where Prometheus is on another machine."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is."""

    pages: int
    """In the output, scored or rejected, those of earlier starts too."""
    scored: int
    rejected: dict[str, int]
    """Pages by reason."""
    items: int
    """Files, records or table rows done, of `num_items`."""
    num_items: int
    resumed_items: int
    """Done by earlier starts."""
    elapsed_s: float
    pages_per_s: float
    """Over the last half minute."""
    items_per_s: float
    eta_s: float | None
    predictors: int
    """That gave pages in the last half minute."""
    nodes: int
    """On which they were."""


OnProgress = Callable[[Progress], None]
