"""Drawn folders hold what was asked for, the same whoever draws it, and are archives of labelled pages themselves."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from vizecg.platform.data.archives import PageFolderArchive, open_archive
from vizecg.platform.data.artefacts import PRESETS
from vizecg.platform.data.draw_archive import MARKER, DrawSummary, draw_archive
from vizecg.platform.data.draw_record import jpeg
from vizecg.platform.data.draw_settings import DrawSettings
from vizecg.platform.data.page import LEADS, PageStyle, draw_page
from vizecg.platform.data.practice import write_practice_archive
from vizecg.platform.data.reading.pictures import decode_picture
from vizecg.platform.errors import UserError

SMALL = {"width_px": 320, "height_px": 240}
RECORDS = 12

Draw = Callable[..., DrawSummary]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("draw") / "archive"
    write_practice_archive(folder, RECORDS, seed=5, sampling_rate_hz=250)
    return folder


@pytest.fixture
def draw(archive: Path, tmp_path: Path) -> Draw:
    def call(out: str = "out", *, processes: int = 1, **settings: Any) -> DrawSummary:
        wanted = DrawSettings(**{"records": "all", **SMALL, **settings})
        return draw_archive(archive, tmp_path / out, wanted, processes=processes)

    return call


def table_of(out: Path) -> list[dict[str, str]]:
    with (out / "pages.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_drawn_folder_is_an_archive_of_the_same_patients_and_findings(archive: Path, draw: Draw) -> None:
    summary = draw()
    drawn, source = open_archive(summary.out), open_archive(archive)
    assert isinstance(drawn, PageFolderArchive)
    assert (summary.num_records, summary.num_pages, summary.rejected) == (RECORDS, RECORDS, [])
    for page_entry, entry in zip(drawn.entries(), source.entries(), strict=True):
        page, record = drawn.read(page_entry), source.read(entry)
        picture = decode_picture(page.page)
        assert page.record_id == record.record_id.replace("practice/", "pages-out/")
        assert page.patient_id == (record.patient_id or "").replace("practice/", "pages-out/")
        assert (page.codes, page.age, page.sex) == (record.codes, record.age, record.sex)
        style = PageStyle(layout="3x4+1", **SMALL)
        assert np.array_equal(picture, draw_page(record.signal_mv, record.sampling_rate_hz, style))


def test_millimetres_are_exact_at_a_resolution(draw: Draw) -> None:
    out = draw(records=1, width_px=None, height_px=None, dpi=100, truth=True, gain_mm_per_mv=5).out
    (picture,), (truth,) = out.glob("pages/*.png"), out.glob("pages/*.json")
    with Image.open(picture) as opened:
        assert opened.size == (1100, 850)
        assert opened.info["dpi"] == pytest.approx((100, 100), rel=1e-3)
    facts = json.loads(truth.read_text())
    assert facts["px_per_mm"] == pytest.approx(100 / 25.4)
    assert {lead["gain_mm_per_mv"] for lead in facts["leads"]} == {5.0}


def test_varied_sheets_have_their_own_sizes_at_one_resolution(draw: Draw) -> None:
    out = draw(records=4, width_px=None, height_px=None, dpi=60, layout="varied", truth=True).out
    truths = [json.loads(path.read_text()) for path in out.glob("pages/*.json")]
    assert {truth["px_per_mm"] for truth in truths} == {60 / 25.4}
    sizes = [(truth["width_px"], truth["height_px"]) for truth in truths]
    papers = [(truth["style"]["paper_width_mm"], truth["style"]["paper_height_mm"]) for truth in truths]
    assert len(set(sizes)) == 4
    assert np.allclose(sizes, np.array(papers) * 60 / 25.4, atol=0.51)


@pytest.mark.parametrize("condition", ["clean", "scan-bw", "photo-clean"])
def test_truth_lies_where_the_ink_is(draw: Draw, condition: str) -> None:
    out = draw(records=3, condition=condition, truth=True, width_px=800, height_px=600).out
    for row in table_of(out):
        picture = decode_picture((out / row["page"]).read_bytes()).mean(axis=2)
        facts = json.loads((out / row["page"]).with_suffix(".json").read_text())
        assert facts["condition"] == row["condition"] == condition
        assert facts["record_id"] == f"practice/{row['record_id']}"
        assert (facts["sampling_rate_hz"], facts["style"]["layout"]) == (250, "3x4+1")
        assert set(facts["artefacts"]) <= {step.name for step in PRESETS[condition].steps}
        assert {lead["lead"] for lead in facts["leads"]} == set(LEADS)
        path = np.array([point for lead in facts["leads"] for point in lead["polyline"] if None not in point])
        x, y = path.astype(float).astype(int).T
        seen = (x >= 0) & (y >= 0) & (x < 800) & (y < 600)
        on_path, anywhere = np.median(picture[y[seen], x[seen]]), np.median(picture)
        assert on_path < 0.6 * anywhere


def test_any_number_of_processes_draws_the_same(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    varied = {"layout": "varied", "condition": "varied", "truth": True}
    one = draw("one", **varied).out
    monkeypatch.setattr("vizecg.platform.data.draw_archive._RECORDS_PER_PROCESS", 6)
    assert contents(one) == contents(draw("two", processes=2, **varied).out)
    rows = table_of(one)
    assert len({row["layout"] for row in rows}) > 1 < len({row["condition"] for row in rows})


def test_a_page_depends_on_its_record_and_the_seed_alone(draw: Draw) -> None:
    photo = {"layout": "varied", "condition": "photo-stained"}
    every, few, other = (
        contents(draw(out, **{**photo, **more}).out)
        for out, more in {"all": {}, "few": {"records": 4}, "other": {"seed": 1}}.items()
    )
    pictures = {name for name in few if name.startswith("pages/")}
    assert len(pictures) == 4
    assert all(few[name] == every[name] != other[name] for name in pictures)


def test_the_same_command_goes_on_and_another_is_refused(draw: Draw, archive: Path, tmp_path: Path) -> None:
    out = draw(truth=True).out
    before = contents(out)
    first, second, third, *_ = sorted(out.glob("pages/*.png"))
    first.unlink()
    second.with_suffix(".json").unlink()
    (out / "pages.csv").unlink()
    (out / "pages" / f".{first.name}-abcd1234").write_bytes(b"half")
    third.write_bytes(b"not drawn again")
    draw(truth=True)
    assert contents(out) == before | {f"pages/{third.name}": b"not drawn again"}
    with pytest.raises(UserError, match=r"out: holds pages of another command \(gain_mm_per_mv None, not 5\)"):
        draw(truth=True, gain_mm_per_mv=5)
    write_practice_archive(tmp_path / "other", 1, seed=6)
    with pytest.raises(UserError, match="the archive is another one"):
        draw_archive(tmp_path / "other", out, DrawSettings(records="all", truth=True, **SMALL))
    with pytest.raises(UserError, match="holds 'RECORDS' and no run"):
        draw_archive(archive, archive)


def test_two_pages_are_two_files_or_one_pdf(draw: Draw) -> None:
    two = {"layout": "6x1,6x1", "records": 1}
    rows = table_of(draw(**two, format="jpeg").out)
    assert [row["page"][-6:] for row in rows] == ["-1.jpg", "-2.jpg"]
    assert len({row["patient_id"] for row in rows}) == 1
    out = draw("pdf", layout="6x1,6x1", records=1, format="pdf", truth=True, width_px=None, height_px=None, dpi=50).out
    assert len([*out.glob("pages/*.pdf")]) == 1
    limb, chest = (json.loads(path.read_text()) for path in sorted(out.glob("pages/*.json")))
    assert [lead["lead"] for lead in limb["leads"] + chest["leads"]] == list(LEADS)
    archive = open_archive(out)
    pages = [decode_picture(archive.read(entry).page) for entry in archive.entries()]
    # The reader draws a PDF at 200 dpi: an American letter, lying.
    assert [page.shape for page in pages] == [(1700, 2200, 3)] * 2
    assert not np.array_equal(*pages)


def test_a_pdf_is_the_same_whenever_it_is_drawn(draw: Draw) -> None:
    (one,), (other,) = (draw(out, records=1, format="pdf").out.glob("pages/*.pdf") for out in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert b"Date" not in one.read_bytes()


def test_a_jpeg_tells_its_resolution() -> None:
    picture = np.full((64, 96, 3), (200, 40, 10), np.uint8)
    with Image.open(io.BytesIO(jpeg(picture, 300.0))) as opened:
        assert opened.info["dpi"] == (300, 300)
        assert np.abs(np.asarray(opened).astype(int) - picture).max() < 8
    assert cv2.imdecode(np.frombuffer(jpeg(picture, None), np.uint8), cv2.IMREAD_COLOR).shape == picture.shape


def test_bad_records_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    write_practice_archive(tmp_path / "archive", 3, seed=5)
    broken, whole, gone = sorted((tmp_path / "archive").rglob("*.dat"))
    broken.write_bytes(broken.read_bytes()[:1000])
    gone.unlink()
    settings = DrawSettings(**SMALL)
    summary = draw_archive(tmp_path / "archive", tmp_path / "out", settings)
    assert (summary.num_records, sum(summary.rejected_counts.values())) == (1, 2)
    told = json.loads((tmp_path / "out" / MARKER).read_text())
    assert [found["record_id"] for found in told["rejected"]] == [f"practice/{path.stem}" for path in (broken, gone)]
    assert [row["record_id"] for row in table_of(tmp_path / "out")] == [whole.stem]
    whole.unlink()
    with pytest.raises(UserError, match="none of 3 records can be drawn; the first: "):
        draw_archive(tmp_path / "archive", tmp_path / "none", settings)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"layout": "4x3"}, "layout '4x3' is not one of 3x4, "),
        ({"condition": "burnt"}, "condition 'burnt' is not one of clean, "),
        ({"grid": "red"}, "grid 'red' is not one of pink, "),
        ({"format": "gif"}, "format 'gif' is not one of png, "),
        ({"records": 0}, "records must be 1 or more, or all, not 0"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"dpi": 0.0}, "dpi must be positive, not 0"),
        ({"dpi": float("nan")}, "dpi must be positive, not nan"),
        ({"dpi": 5000}, "at most 64,000,000"),
        ({"gain_mm_per_mv": -1}, "gain_mm_per_mv must be positive"),
        ({"width_px": 640}, "needs both, width and height"),
        ({"width_px": 10, "height_px": 10}, "each side needs 64"),
        ({"width_px": 640, "height_px": 480, "dpi": 100}, "either a size in pixels or a resolution"),
        ({"layout": "varied", "grid": "pink"}, "layout varied draws speed, gain and grid by lot"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        DrawSettings(**wrong)


def test_pages_cannot_be_drawn_again(draw: Draw, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds pages, not signals to draw"):
        draw_archive(draw(records=1).out, tmp_path / "again")
