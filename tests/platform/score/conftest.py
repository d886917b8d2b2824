"""Runs that have ended, written by hand: the table of scores without a model."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vizecg.platform.data.heart import Recorder
from vizecg.platform.data.page import PageStyle, draw_page
from vizecg.platform.data.patients import plan_record
from vizecg.platform.data.practice import draw_signal
from vizecg.platform.score.rows import schema_of
from vizecg.platform.score.sources import open_source

THRESHOLD = 0.4


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of pages, one of them without an ECG."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(5):
        signal_uv = draw_signal(plan_record(3, number), Recorder.of(250, 10.0))
        page = draw_page(signal_uv.T / 1000.0, 250, PageStyle(width_px=480, height_px=360))
        cv2.imwrite(str(folder / f"page{number}.png"), page[..., ::-1])
    cv2.imwrite(str(folder / "page5.png"), np.full((200, 300, 3), 230, np.uint8))
    return folder


@pytest.fixture
def write_run(archive: Path) -> Callable[..., Path]:
    """Writes probabilities (N, K), NaN where a page was rejected, of rows 0 to N - 1 in the order given, as an OUT."""

    def write(
        out: Path, keys: list[str], probability: np.ndarray, *,
        order: np.ndarray | None = None, rows_per_file: int = 100_000, **facts: object,
    ) -> Path:  # fmt: skip
        (out / "scores").mkdir(parents=True)
        order = np.arange(len(probability)) if order is None else order
        rows = [_row(int(row), probability[row], keys) for row in order]
        for number, start in enumerate(range(0, len(rows), rows_per_file)):
            table = pa.Table.from_pylist(rows[start : start + rows_per_file], schema=schema_of(keys))
            # Row groups are small, so that a reader can leave some out.
            pq.write_table(table, out / "scores" / f"scores-{number:05d}.parquet", row_group_size=64)
        run = {
            "bundle": "/models/bundle", "bundle_hash": "0" * 64, "label_keys": keys, "source": str(archive),
            "num_items": len(probability), "input_identity": open_source(str(archive)).identity,
            "reading": {}, "sources": {}, "backend": "torch-fp32", "started_at": "2026-01-01T00:00:00+00:00", **facts,
        }  # fmt: skip
        (out / "run.json").write_text(json.dumps(run))
        (out / "summary.json").write_text("{}")
        return out

    return write


def _row(row: int, probability: np.ndarray, keys: list[str]) -> dict[str, object]:
    rejected = bool(np.isnan(probability).any())
    said = {f"p_{key}": None if rejected else float(p) for key, p in zip(keys, probability, strict=True)}
    findings = [key for key, p in zip(keys, probability, strict=True) if p >= THRESHOLD]
    return {
        "row": row, "page": 1, "id": f"page{row}.png", "source": f"/archive/page{row}.png",
        "status": "rejected" if rejected else "scored", "reason": "not_an_ecg" if rejected else None,
        "findings": None if rejected else findings, **said, "bundle_hash": "0" * 64, "backend": "torch-fp32",
        "scored_at": datetime.now(UTC),
    }  # fmt: skip
