"""The table of scores: one row a page, whatever became of it.

Key of a row is (row, page): ids may repeat where the input names a page twice.

Shapes: P pages, K labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..bundle_facts import Bundle
from ..data.read_page import ReadPage
from .sources.base import Loaded

SCORED, REJECTED = "scored", "rejected"
READER_DIED, READER_FAILED = "reader_died", "reader_failed"
"""Reasons of pages that nobody should open again without need."""
PROBABILITY = "p_"
"""Before a label's key: the column of its probabilities."""

_ABOUT_THE_PAGE = {
    "row": pa.int64(), "page": pa.int32(), "id": pa.string(), "source": pa.string(),
    "status": pa.string(), "reason": pa.string(), "error": pa.string(),
    "accepted": pa.bool_(), "upright": pa.bool_(), "turned_deg": pa.int16(), "ecg_score": pa.float32(),
    "note": pa.string(), "findings": pa.list_(pa.string()),
}  # fmt: skip
_ABOUT_THE_RUN = {"bundle_hash": pa.string(), "backend": pa.string(), "scored_at": pa.timestamp("ms", tz="UTC")}


@dataclass(frozen=True)
class ScoredPage:
    """A page on its way through a predictor."""

    row: int
    """Place of its item in the input."""
    page: int
    """Within the item, from 1."""
    id: str
    source: str
    loaded: Loaded


def schema_of(label_keys: Sequence[str]) -> pa.Schema:
    """Columns of the table for these labels."""
    probabilities = {f"{PROBABILITY}{key}": pa.float32() for key in label_keys}
    return pa.schema({**_ABOUT_THE_PAGE, **probabilities, **_ABOUT_THE_RUN})


def rows_of(pages: Sequence[ScoredPage], probability: NDArray[np.float32], bundle: Bundle, backend: str) -> pa.Table:
    """Rows of P pages; `probability` (P, K) is NaN where a page was rejected."""
    keys = bundle.label_space.keys
    assert probability.shape == (len(pages), len(keys)), f"{probability.shape} for {len(pages)} pages"
    columns = [list(column) for column in zip(*map(_about, pages), strict=True)]
    scored = np.array([isinstance(page.loaded, ReadPage) for page in pages])
    assert np.isfinite(probability[scored]).all(), "pages with other probabilities are rejected before"
    positive = probability >= np.array(bundle.thresholds, np.float32)
    findings = [
        [keys[k] for k in np.flatnonzero(row)] if found else None for row, found in zip(positive, scored, strict=True)
    ]
    now = datetime.now(UTC)
    values = [
        *columns,
        findings,
        *(pa.array(probability[:, k], mask=~scored) for k in range(len(keys))),
        [bundle.content_hash] * len(pages),
        [backend] * len(pages),
        [now] * len(pages),
    ]
    schema = schema_of(keys)
    return pa.table([pa.array(column, field.type) for column, field in zip(values, schema, strict=True)], schema=schema)


def _about(page: ScoredPage) -> tuple[object, ...]:
    """Its columns up to the findings."""
    where = (page.row, page.page, page.id, page.source)
    loaded = page.loaded
    if not isinstance(loaded, ReadPage):
        accepted = False if loaded.reason == "not_an_ecg" else None
        return (*where, REJECTED, loaded.reason, str(loaded), accepted, None, None, None, None)
    found = loaded.finding
    if found is None:
        return (*where, SCORED, None, None, None, None, None, None, loaded.note)
    seen = (found.accepted, found.is_turn_clear, found.turned_deg, found.ecg_score)
    return (*where, SCORED, None, None, *seen, loaded.note)
