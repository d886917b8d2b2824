"""Scoring end to end on Ray: every page once, bad ones with a reason, the same numbers as everywhere else."""

import io
import json
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vizecg.platform.data.read_page import PageSpec, Reading
from vizecg.platform.errors import UserError
from vizecg.platform.evaluate.predict import predict_split
from vizecg.platform.predictor import Predictor
from vizecg.platform.score import run as scoring
from vizecg.platform.score.job import PoolSettings, Progress, ScoreSettings
from vizecg.platform.score.run import score_pages
from vizecg.platform.score.sources.base import Item, SourceSettings

REFERENCE = ScoreSettings(backend="torch-fp32", pool=PoolSettings(cpus_per_predictor=1), rows_per_file=5)


@pytest.fixture(scope="module")
def folder(pages: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight good pictures in two folders, a document of three pages, and four files that cannot be read."""
    source = tmp_path_factory.mktemp("pages")
    (source / "ward").mkdir(parents=True)
    for number in range(8):
        place = source / "ward" if number % 2 else source
        (place / f"page-{number}.png").write_bytes(pages[number % len(pages)])
    pictures = [Image.open(io.BytesIO(page)).convert("RGB") for page in pages[:2]]
    blank = Image.new("RGB", (800, 600), "white")
    pictures[0].save(source / "visit.tiff", save_all=True, append_images=[pictures[1].rotate(180), blank])
    (source / "empty.png").write_bytes(b"")
    (source / "letter.jpg").write_text("Dear colleague")
    (source / "cut.png").write_bytes(pages[0][: len(pages[0]) // 2])
    (source / "link.png").symlink_to(source / "nowhere.png")
    (source / "notes.txt").write_text("no picture at all")
    return source


@pytest.fixture(scope="module")
def scored(
    ray_cluster: None, bundle_folder: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], list[Progress]]:
    """OUT, summary and progress of one run."""
    out, seen = tmp_path_factory.mktemp("scores") / "out", list[Progress]()
    return out, score_pages(bundle_folder, folder, out, settings=REFERENCE, on_progress=seen.append), seen


def read_scores(out: Path) -> list[dict[str, Any]]:
    tables = [pq.read_table(file) for file in sorted((out / "scores").glob("*.parquet"))]
    return pa.concat_tables(tables).sort_by([("row", "ascending"), ("page", "ascending")]).to_pylist()


def test_every_page_is_a_row_and_bad_ones_say_why(scored: tuple[Path, dict[str, Any], list[Progress]]) -> None:
    out, summary, seen = scored
    rows = read_scores(out)
    names = [f"page-{number}.png" for number in range(8)]
    names += ["empty.png", "letter.jpg", "cut.png", "link.png", "visit.tiff#1", "visit.tiff#2", "visit.tiff#3"]
    assert sorted(Path(row["id"]).name for row in rows) == sorted(names)
    reasons = {Path(row["id"]).name: row["reason"] for row in rows if row["status"] == "rejected"}
    assert reasons == {
        "empty.png": "empty", "letter.jpg": "not_an_image", "cut.png": "truncated", "link.png": "unreadable_file",
        "visit.tiff#3": "not_an_ecg",
    }  # fmt: skip
    assert all(row["p_AF"] is None and row["findings"] is None and row["error"] for row in rows if row["reason"])
    assert summary["pages"] == 15 and summary["scored"] == 10 and summary["rejected"] == Counter(reasons.values())
    assert (seen[-1].items, seen[-1].num_items, seen[-1].pages, seen[-1].scored) == (13, 13, 15, 10)
    assert [pq.read_metadata(file).num_rows for file in sorted((out / "scores").iterdir())] == [5, 5, 5]
    assert json.loads((out / "summary.json").read_text()) == summary and (out / "report.html").exists()
    assert summary["input"]["left_out"] == {".txt": 1}


def test_scores_are_those_of_the_predictor_with_findings_by_threshold(
    scored: tuple[Path, dict[str, Any], list[Progress]], bundle_folder: Path
) -> None:
    predictor = Predictor.load(bundle_folder)
    labels, thresholds = predictor.bundle.label_space.keys, predictor.bundle.thresholds
    rows = read_scores(scored[0])
    for row in (row for row in rows if row["status"] == "scored" and "#" not in row["id"]):
        assert {key: row[f"p_{key}"] for key in labels} == pytest.approx(predictor.predict(row["id"]), abs=1e-5)
        assert row["findings"] == [k for k, least in zip(labels, thresholds, strict=True) if row[f"p_{k}"] >= least]
        assert row["accepted"] and row["upright"] and row["backend"] == "torch-fp32"
        assert row["bundle_hash"] == predictor.bundle.content_hash
    (turned,) = [row for row in rows if row["id"].endswith("#2")]
    assert turned["turned_deg"] == 180


def test_the_same_command_on_a_finished_run_does_nothing(
    scored: tuple[Path, dict[str, Any], list[Progress]], bundle_folder: Path, folder: Path
) -> None:
    out, summary, _ = scored
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.name != "run.lock"}
    assert score_pages(bundle_folder, folder, out, settings=REFERENCE) == summary
    assert before == {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.name != "run.lock"}


def test_shards_score_as_evaluation_predicts_on_every_backend(
    ray_cluster: None, bundle_folder: Path, practice_shards: Path, tmp_path: Path
) -> None:
    predictions = predict_split(bundle_folder, practice_shards, "all")
    keys = Predictor.load(bundle_folder).bundle.label_space.keys
    for backend, apart in (("torch-fp32", 1e-5), ("auto", 2e-2)):
        score_pages(bundle_folder, practice_shards, tmp_path / backend, settings=ScoreSettings(backend=backend))
        rows = {row["id"]: row for row in read_scores(tmp_path / backend)}
        assert rows.keys() == set(predictions.record_id)
        found = np.array([[rows[record_id][f"p_{key}"] for key in keys] for record_id in predictions.record_id])
        np.testing.assert_allclose(found, predictions.probability["image"], atol=apart)


def test_decoders_of_their_own_give_the_same_rows(
    scored: tuple[Path, dict[str, Any], list[Progress]], bundle_folder: Path, folder: Path, tmp_path: Path
) -> None:
    pool = PoolSettings(decoders=1, cpus_per_predictor=1, chunk_pages=4)
    score_pages(bundle_folder, folder, tmp_path / "out", settings=ScoreSettings(backend="torch-fp32", pool=pool))
    rows, expected = read_scores(tmp_path / "out"), read_scores(scored[0])
    for found, wanted in zip(rows, expected, strict=True):
        assert found.keys() == wanted.keys()
        for name in wanted.keys() - {"scored_at"}:
            is_probability = name.startswith("p_") and wanted[name] is not None
            assert found[name] == (pytest.approx(wanted[name], abs=1e-5) if is_probability else wanted[name])


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_with_what_is_missing(
    ray_cluster: None, bundle_folder: Path, folder: Path, tmp_path: Path
) -> None:
    settings = ScoreSettings(pool=PoolSettings(chunk_pages=2), max_rejected=0.99)

    def stop(progress: Progress) -> None:
        if progress.pages > 6:
            raise Stopped

    with pytest.raises(Stopped):
        score_pages(bundle_folder, folder, tmp_path / "out", settings=settings, on_progress=stop)
    assert not (tmp_path / "out" / "summary.json").exists()
    seen: list[Progress] = []
    summary = score_pages(bundle_folder, folder, tmp_path / "out", settings=settings, on_progress=seen.append)
    assert seen[0].resumed_items > 4 and summary["pages"] == 15
    assert len({(row["row"], row["page"]) for row in read_scores(tmp_path / "out")}) == 15


@dataclass(frozen=True)
class Deadly:
    """A reader that some items kill, others break."""

    reader: Any

    def open(self, items: Sequence[str]) -> Any:
        for item, opened in zip(items, self.reader.open(items), strict=True):
            if item.endswith(("page-2.png", "page-4.png")):
                yield Item(opened.id, opened.source, _killed if "page-2" in item else _broken)
            else:
                yield opened


def _killed(spec: PageSpec, reading: Reading) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _broken(spec: PageSpec, reading: Reading) -> Any:
    raise ZeroDivisionError("a fault of the program")


@pytest.mark.chaos
def test_a_page_that_kills_or_breaks_its_reader_stops_no_other(
    ray_cluster: None, bundle_folder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_source = scoring.open_source

    def deadly(place: str, settings: SourceSettings) -> Any:
        found = open_source(place, settings)
        object.__setattr__(found, "reader", Deadly(found.reader))
        return found

    monkeypatch.setattr(scoring, "open_source", deadly)
    in_threes = ScoreSettings(pool=PoolSettings(chunk_pages=3))
    summary = score_pages(bundle_folder, folder, tmp_path / "out", settings=in_threes)
    reasons = {Path(row["id"]).name: row["reason"] for row in read_scores(tmp_path / "out")}
    assert (reasons["page-2.png"], reasons["page-4.png"]) == ("reader_died", "reader_failed")
    assert summary["pages"] == 15 and summary["scored"] == 8


def test_too_many_bad_pages_stop_the_run_with_a_sentence(
    ray_cluster: None, bundle_folder: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"5 of 15 pages \(33%\) were rejected, more than max_rejected 20%"):
        score_pages(bundle_folder, folder, tmp_path / "out", settings=ScoreSettings(max_rejected=0.2))
    assert score_pages(bundle_folder, folder, tmp_path / "out")["pages"] == 15


def test_wrong_input_is_one_sentence(bundle_folder: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="nothing to score"):
        score_pages(bundle_folder, tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(UserError, match="no such file or folder"):
        score_pages(bundle_folder, tmp_path / "missing", tmp_path / "out")
    with pytest.raises(UserError, match="no model bundle"):
        score_pages(tmp_path, folder, tmp_path / "out")
    with pytest.raises(UserError, match="holds 'nothing' and no run that could go on"):
        score_pages(bundle_folder, folder, tmp_path)


def test_two_inputs_and_two_ways_of_reading_never_share_a_table(
    scored: tuple[Path, dict[str, Any], list[Progress]], bundle_folder: Path, folder: Path, tmp_path: Path
) -> None:
    out, _, _ = scored
    with pytest.raises(UserError, match="another way of reading"):
        score_pages(bundle_folder, folder, out, settings=ScoreSettings(reading=Reading(check=False)))
    with pytest.raises(UserError, match="other input"):
        score_pages(bundle_folder, folder / "ward", out)
    with pytest.raises(UserError, match="begun with the backend torch-fp32"):
        score_pages(bundle_folder, folder, out, settings=ScoreSettings(backend="openvino-f32"))
