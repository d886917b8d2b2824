"""Scoring: every page exactly once, bad ones with a reason, the same numbers as everywhere else."""

import io
import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vizecg.platform import score
from vizecg.platform.data.read_page import Reading
from vizecg.platform.errors import UserError
from vizecg.platform.evaluate.predict import predict_split
from vizecg.platform.predictor import Predictor
from vizecg.platform.score import Part, PartScorer, score_pages


@pytest.fixture
def folder(pages: list[bytes], tmp_path: Path) -> Path:
    """Eight good pictures in two folders, and four that cannot be read."""
    source = tmp_path / "pages"
    (source / "ward").mkdir(parents=True)
    for number in range(8):
        place = source / "ward" if number % 2 else source
        (place / f"page-{number}.png").write_bytes(pages[number % len(pages)])
    (source / "empty.png").write_bytes(b"")
    (source / "letter.jpg").write_text("Dear colleague")
    (source / "cut.png").write_bytes(pages[0][: len(pages[0]) // 2])
    (source / "link.png").symlink_to(source / "nowhere.png")
    (source / "notes.txt").write_text("no picture at all")
    return source


def read_scores(out: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(file) for file in sorted((out / "parts").glob("*.parquet")))


def test_every_page_is_a_row_and_bad_ones_say_why(
    ray_cluster: None, bundle_folder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "PAGES_PER_PART", 5)
    seen: list[tuple[int, int]] = []
    summary = score_pages(bundle_folder, folder, tmp_path / "out", on_progress=lambda *counts: seen.append(counts))
    rows = read_scores(tmp_path / "out").to_pylist()
    pictures = [file for file in folder.rglob("*") if file.suffix in {".png", ".jpg"}]
    assert sorted(row["id"] for row in rows) == sorted(map(str, pictures))
    reasons = {Path(row["id"]).name: row["reason"] for row in rows if row["status"] == "rejected"}
    assert reasons == {
        "empty.png": "empty", "letter.jpg": "not_an_image", "cut.png": "truncated", "link.png": "unreadable_file",
    }  # fmt: skip
    assert summary["pages"] == 12 and summary["scored"] == 8 and sum(summary["rejected"].values()) == 4
    assert seen[-1] == (12, 12)
    assert all(row["p_AF"] is None and row["findings"] is None for row in rows if row["status"] == "rejected")


def test_scores_are_those_of_the_predictor_with_findings_by_threshold(
    ray_cluster: None, bundle_folder: Path, folder: Path, tmp_path: Path
) -> None:
    score_pages(bundle_folder, folder, tmp_path / "out")
    predictor = Predictor.load(bundle_folder)
    labels, thresholds = predictor.bundle.label_space.keys, predictor.bundle.thresholds
    scored = [row for row in read_scores(tmp_path / "out").to_pylist() if row["status"] == "scored"]
    for row in scored:
        expected = predictor.predict(row["id"])
        assert {key: row[f"p_{key}"] for key in labels} == pytest.approx(expected, abs=1e-5)
        positive = [key for key, least in zip(labels, thresholds, strict=True) if row[f"p_{key}"] >= least]
        assert row["findings"] == positive


def test_shards_score_as_evaluation_predicts(
    ray_cluster: None, bundle_folder: Path, practice_shards: Path, tmp_path: Path
) -> None:
    score_pages(bundle_folder, practice_shards, tmp_path / "out")
    predictions = predict_split(bundle_folder, practice_shards, "all")
    rows = {row["id"]: row for row in read_scores(tmp_path / "out").to_pylist()}
    assert rows.keys() == set(predictions.record_id)
    keys = Predictor.load(bundle_folder).bundle.label_space.keys
    scored = np.array([[rows[record_id][f"p_{key}"] for key in keys] for record_id in predictions.record_id])
    np.testing.assert_allclose(scored, predictions.probability["image"], atol=1e-5)


def test_a_stopped_run_goes_on_with_what_is_missing(
    ray_cluster: None, bundle_folder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "PAGES_PER_PART", 3)
    out = tmp_path / "out"
    whole = score_pages(bundle_folder, folder, out)
    kept = out / "parts" / "part-00000.parquet"
    before = kept.stat().st_mtime_ns
    for lost in ("part-00001.parquet", "part-00003.parquet"):
        os.remove(out / "parts" / lost)
    (out / "summary.json").unlink()
    begun: list[int] = []
    assert score_pages(bundle_folder, folder, out, on_progress=lambda done, total: begun.append(done)) == whole
    assert begun[0] > 6 and kept.stat().st_mtime_ns == before, "finished parts are not done again"
    assert json.loads((out / "summary.json").read_text()) == whole
    assert len({row["id"] for row in read_scores(out).to_pylist()}) == 12


def test_a_predictor_that_is_killed_costs_no_page(
    ray_cluster: None, bundle_folder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "PAGES_PER_PART", 1)
    killed: list[int] = []

    def kill_once(done: int, total: int) -> None:
        if not killed:
            killed.extend(pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_predictor(pid))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    summary = score_pages(bundle_folder, folder, tmp_path / "out", on_progress=kill_once)
    assert killed and summary["pages"] == 12
    assert len({row["id"] for row in read_scores(tmp_path / "out").to_pylist()}) == 12


def is_predictor(pid: int) -> bool:
    try:
        return b"PartScorer" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_wrong_input_is_one_sentence(bundle_folder: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="nothing to score"):
        score_pages(bundle_folder, tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(UserError, match="no such file or folder"):
        score_pages(bundle_folder, tmp_path / "missing", tmp_path / "out")
    with pytest.raises(UserError, match="no model bundle"):
        score_pages(tmp_path, folder, tmp_path / "out")


def test_two_models_never_share_a_table(ray_cluster: None, bundle_folder: Path, folder: Path, tmp_path: Path) -> None:
    score_pages(bundle_folder, folder, tmp_path / "out")
    (folder / "empty.png").write_bytes(b"changed")
    with pytest.raises(UserError, match="other input"):
        score_pages(bundle_folder, folder, tmp_path / "out")


def test_every_page_of_a_document_is_a_row(bundle_folder: Path, pages: list[bytes], tmp_path: Path) -> None:
    pictures = [Image.open(io.BytesIO(page)).convert("RGB") for page in pages[:3]]
    upside_down, blank = pictures[1].rotate(180), Image.new("RGB", (800, 600), "white")
    for name in ("visit.tiff", "visit.pdf"):
        pictures[0].save(tmp_path / name, save_all=True, append_images=[upside_down, blank])
    files = list(map(str, sorted(tmp_path.iterdir())))
    rows = PartScorer(str(bundle_folder), 1, Reading()).score(Part(0, files)).to_pylist()
    assert [Path(row["id"]).name for row in rows] == [f"visit.{end}#{n}" for end in ("pdf", "tiff") for n in (1, 2, 3)]
    assert [row["reason"] for row in rows] == [None, None, "not_an_ecg"] * 2
    assert [row["turned_deg"] for row in rows] == [0, 180, None] * 2
    predictor = Predictor.load(bundle_folder)
    expected = predictor.predict_pages(np.stack([predictor.prepare(page) for page in pages[:2]]))
    keys = [f"p_{key}" for key in predictor.bundle.label_space.keys]
    found = np.array([[row[key] for key in keys] for row in rows[3:5]])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    anything = PartScorer(str(bundle_folder), 1, Reading(check=False)).score(Part(0, [str(tmp_path / "visit.tiff")]))
    assert anything["status"].to_pylist() == ["scored"] * 3
