"""The worklist: the most probable pages of the whole table, in order, and no page unmasked."""

import base64
import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from vizecg.platform.data.read_page import PageSpec, Reading
from vizecg.platform.errors import UserError
from vizecg.platform.score import sheets
from vizecg.platform.score.finished import finished_run
from vizecg.platform.score.sheets import SheetRow, items_of, thumbnails, without_bars
from vizecg.platform.score.sources import open_source
from vizecg.platform.score.sources.base import Item
from vizecg.platform.score.worklist import Listed, as_csv, most_probable, write_worklist

KEYS = ["AF", "MI", "STEMI"]
Write = Callable[..., Path]


def probabilities(num_rows: int, seed: int = 0) -> np.ndarray:
    """Some of them equal, every seventh rejected."""
    found = np.random.default_rng(seed).beta(0.5, 2, (num_rows, len(KEYS))).astype(np.float32).round(2)
    found[::7] = np.nan
    return found


def pictures(html: Path) -> list[np.ndarray]:
    encoded = re.findall(r"data:image/jpeg;base64,([^\"]+)", html.read_text())
    return [cv2.imdecode(np.frombuffer(base64.b64decode(each), np.uint8), cv2.IMREAD_COLOR_RGB) for each in encoded]


@pytest.mark.parametrize("limit", [1, 40, 500])
def test_the_list_is_that_of_the_sorted_table(write_run: Write, tmp_path: Path, limit: int):
    probability = probabilities(300)
    order = np.random.default_rng(1).permutation(300)
    run = finished_run(str(write_run(tmp_path / "out", KEYS, probability, order=order, rows_per_file=70)))
    listed, with_finding = most_probable(run, ["MI", "AF"], limit)
    greatest = probability[:, :2].max(axis=1)
    expected = sorted(np.flatnonzero(np.isfinite(greatest)), key=lambda row: (-greatest[row], row))[:limit]
    assert [each.row for each in listed] == expected
    assert [each.rank for each in listed] == list(range(1, len(expected) + 1))
    assert with_finding == (greatest >= 0.4).sum()
    for each in listed:
        assert list(each.probabilities.values()) == probability[each.row].tolist()


def test_equal_pages_stand_in_the_order_of_the_input(write_run: Write, tmp_path: Path):
    order = np.arange(60)[::-1]
    out = write_run(tmp_path / "out", KEYS, np.full((60, 3), 0.3, np.float32), order=order, rows_per_file=20)
    listed, _ = most_probable(finished_run(str(out)), ["MI"], 5)
    assert [each.row for each in listed] == [0, 1, 2, 3, 4]


def test_csv_and_sheet_say_the_same(write_run: Write, tmp_path: Path):
    probability = np.array(
        [[0.1, 0.9, 0.2], [0.8, 0.1, 0.5], [0.2, 0.2, 0.1], [np.nan] * 3, [0.1, 0.3, 0.9]], np.float32
    )
    out = write_run(tmp_path / "out", KEYS, probability)
    facts = write_worklist(str(out), ["AF", "MI"], limit=3)
    assert (facts["listed"], facts["with_finding"]) == (3, 2)
    with Path(facts["csv"]).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["page0.png", "page1.png", "page4.png"]
    assert [row["p_MI"] for row in rows] == ["0.9000", "0.1000", "0.3000"]
    assert [row["findings"] for row in rows] == ["MI", "AF STEMI", "STEMI"]
    html = Path(facts["html"]).read_text()
    assert [html.index(row["id"]) for row in rows] == sorted(html.index(row["id"]) for row in rows)
    assert len(pictures(out / "worklist.html")) == 3


def test_no_page_is_encoded_unmasked(write_run: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sheets, "mask_text", lambda page: np.full_like(page, (255, 0, 255)))
    write_worklist(str(write_run(tmp_path / "out", KEYS, probabilities(6))), ["AF"])
    shown = pictures(tmp_path / "out" / "worklist.html")
    assert len(shown) == 5
    assert all(np.abs(picture.astype(int) - (255, 0, 255)).max() < 10 for picture in shown)


def test_pages_of_an_input_that_has_changed_are_not_shown(write_run: Write, tmp_path: Path):
    out = write_run(tmp_path / "out", KEYS, probabilities(6), input_identity="another")
    write_worklist(str(out), ["AF"])
    assert not pictures(out / "worklist.html")
    assert "cannot be opened" in (out / "worklist.html").read_text()


def test_thumbnails_open_what_was_scored(archive: Path):
    source = open_source(str(archive))
    items = items_of(source, [5, 1])
    rows = [SheetRow(item=items[n], page=page) for n, page in ((1, 1), (5, 1), (1, 2), (1, 1))]
    found = thumbnails(rows, source.reader, Reading())
    assert found[0] and found[1] and found[2] is None and found[3] == found[0]
    seen = [cv2.imdecode(np.frombuffer(each, np.uint8), cv2.IMREAD_COLOR) for each in found[:2] if each]
    assert seen[0].shape == (360, 480, 3) and seen[0].std() > 3 * seen[1].std()


def test_a_reader_that_fails_costs_its_own_picture_alone(archive: Path):
    source = open_source(str(archive))
    (item,) = items_of(source, [0]).values()

    class Failing:
        def open(self, items: list[str]) -> Iterator[Item]:
            if items != ["bad"]:
                return source.reader.open(items)
            return iter([Item("bad", "bad", lambda spec, reading: iter([1 / 0]))])

    found = thumbnails([SheetRow(item="bad", page=1), SheetRow(item=item, page=1)], Failing())
    assert found[0] is None and found[1] is not None


def test_bars_are_cut_and_empty_pages_are_left():
    page = np.full((360, 480, 3), 200, np.uint8)
    assert without_bars(page).shape == (360, 480, 3)
    page[50:300, 3:470] = np.random.default_rng(0).integers(0, 255, (250, 467, 3))
    assert without_bars(page).shape == (250, 467, 3)


@pytest.mark.parametrize(
    ("labels", "limit", "said"),
    [(["Stemi"], 5, "did you mean 'STEMI'"), ([], 5, "knows AF, MI, STEMI"), (["AF"], 0, "limit of 1 or more")],
)
def test_mistakes_are_told(write_run: Write, tmp_path: Path, labels: list[str], limit: int, said: str):
    out = write_run(tmp_path / "out", KEYS, probabilities(3))
    with pytest.raises(UserError, match=said):
        write_worklist(str(out), labels, limit)


def test_a_run_that_has_not_ended_is_refused(write_run: Write, tmp_path: Path):
    out = write_run(tmp_path / "out", KEYS, probabilities(3))
    (out / "summary.json").unlink()
    with pytest.raises(UserError, match="has not ended"):
        write_worklist(str(out), ["AF"])
    with pytest.raises(UserError, match="no scores here"):
        write_worklist(str(tmp_path), ["AF"])


def test_the_sheet_fits_a_page_of_the_usual_aspect():
    assert PageSpec(width_px=480, height_px=360) == sheets.SHEET


def test_no_cell_of_the_table_is_a_formula():
    listed = [Listed(1, 0, 1, '=HYPERLINK("http://x")', "@x", {"AF": 0.9}, ["-AF"])]
    (row,) = csv.DictReader(as_csv(listed, ["AF"]).splitlines())
    assert (row["id"], row["source"], row["findings"]) == ('\'=HYPERLINK("http://x")', "'@x", "'-AF")
