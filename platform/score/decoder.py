"""Decoding apart from predicting, for predictors on GPUs: a chunk -> its pages as the model sees them -> its rows.

A decoded chunk is one row of a Ray Data table: pixels as one buffer, which a predictor on the same node reads where it
lies, and what is known of the pages beside it.

Shapes: P pages of a chunk, K labels, H x W pixels.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from ..bundle_facts import Bundle
from ..data.read_page import ReadPage
from ..data.reading.finder import PageFinding
from ..errors import PageError, RecordError
from .rows import ScoredPage
from .scorer import ScorerJob, chunk_of, decoded_pages, pack, score_pages_of
from .sources.base import Loaded


class PageDecoder:
    """Ray Data actor: a chunk -> its decoded pages."""

    def __init__(self, job: Any):
        self._job: ScorerJob = ray.get(job)
        self._bundle = Bundle.model_validate_json(self._job.bundle_json)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="decode")

    def __call__(self, table: pa.Table) -> pa.Table:
        pages = list(decoded_pages(chunk_of(table), self._job, self._bundle.page, self._pool))
        pixels = [page.loaded.pixels for page in pages if isinstance(page.loaded, ReadPage)]
        whole = np.stack(pixels).tobytes() if pixels else b""
        facts = json.dumps([_facts(page) for page in pages])
        return pa.table({"pixels": pa.array([whole], pa.large_binary()), "pages": [facts]})


class PreparedScorer:
    """Ray Data actor: decoded pages -> rows."""

    def __init__(self, job: Any):
        self._job: ScorerJob = ray.get(job)
        self._predictor = self._job.predictor()
        self._turn = Lock()

    def __call__(self, table: pa.Table) -> pa.Table:
        (pixels,), (facts,) = table["pixels"], table["pages"].to_pylist()
        spec = self._predictor.bundle.page
        stacked = np.frombuffer(pixels.as_buffer(), np.uint8).reshape(-1, 3, spec.height_px, spec.width_px)
        pages = _pages(json.loads(facts), stacked)
        return pack(score_pages_of(pages, self._job, self._predictor, self._turn))


def _facts(page: ScoredPage) -> dict[str, Any]:
    """All of a page but its pixels."""
    loaded = page.loaded
    told: dict[str, Any]
    if isinstance(loaded, ReadPage):
        told = {"finding": asdict(loaded.finding) if loaded.finding else None, "note": loaded.note}
    else:
        told = {"kind": type(loaded).__name__, "reason": loaded.reason, "error": str(loaded)}
    return {"row": page.row, "page": page.page, "id": page.id, "source": page.source, "loaded": told}


def _pages(facts: list[dict[str, Any]], pixels: np.ndarray) -> Iterator[ScoredPage]:
    """Inverse of `_facts`, with the pixels (P, 3, H, W) of those that were read."""
    read = iter(pixels)
    for fact in facts:
        where = [fact[name] for name in ("row", "page", "id", "source")]
        yield ScoredPage(*where, loaded=_loaded(fact["loaded"], read))


def _loaded(told: dict[str, Any], pixels: Iterator[np.ndarray]) -> Loaded:
    if "reason" in told:
        kind = RecordError if told["kind"] == RecordError.__name__ else PageError
        return kind(told["reason"], told["error"])
    finding = PageFinding(**told["finding"]) if told["finding"] else None
    return ReadPage(pixels=next(pixels), finding=finding, note=told["note"])
