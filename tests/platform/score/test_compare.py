"""Two runs over one archive: counts, measures and changed pages against plain numpy."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from vizecg.platform.errors import UserError
from vizecg.platform.score import compare, sheets
from vizecg.platform.score.agreement import LabelAgreement, chart_of
from vizecg.platform.score.compare import compare_scores

OLD_KEYS, NEW_KEYS = ["AF", "MI", "CD"], ["MI", "AF", "HYP"]
THRESHOLD = 0.4
Write = Callable[..., Path]


@pytest.fixture
def runs(write_run: Write, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of AF and MI (N, 2) of both runs, whose rows lie in another order each."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, (700, 3))
    old = (1 / (1 + np.exp(-logits))).astype(np.float32)
    new = (1 / (1 + np.exp(-logits - rng.normal(0, 0.7, logits.shape)))).astype(np.float32)[:, [1, 0, 2]]
    old[rng.random(700) < 0.05] = np.nan
    new[rng.random(700) < 0.05] = np.nan
    write_run(tmp_path / "old", OLD_KEYS, old, order=rng.permutation(700), rows_per_file=300, input_identity="gone")
    write_run(tmp_path / "new", NEW_KEYS, new, order=rng.permutation(700), rows_per_file=450, input_identity="gone")
    return old[:, :2], new[:, [1, 0]]


@pytest.mark.parametrize("share_rows", [50, 10_000])
def test_counts_are_those_of_numpy(
    runs: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share_rows: int
):
    monkeypatch.setattr(compare, "MAX_SHARE_ROWS", share_rows)
    facts = compare_scores(str(tmp_path / "old"), str(tmp_path / "new"), str(tmp_path / "out"))
    assert facts == json.loads((tmp_path / "out" / "changes.json").read_text())
    old, new = runs
    gone, here = np.isnan(old[:, 0]), np.isnan(new[:, 0])
    both = ~gone & ~here
    assert (facts["pages"], facts["scored_by_both"], facts["rejected_by_both"]) == (
        700,
        both.sum(),
        (gone & here).sum(),
    )
    assert facts["rejected_by_old_only"] == {"not_an_ecg": (gone & ~here).sum()}
    assert facts["rejected_by_new_only"] == {"not_an_ecg": (~gone & here).sum()}
    assert (facts["only_in_old"], facts["only_in_new"]) == (["CD"], ["HYP"])
    assert list(facts["labels"]) == ["MI", "AF"]
    for k, key in enumerate(("AF", "MI")):
        x, y = old[both, k].astype(float), new[both, k].astype(float)
        was, now = x >= THRESHOLD, y >= THRESHOLD
        found = facts["labels"][key]
        assert (found["both"], found["only_old"], found["only_new"]) == (
            (was & now).sum(), (was & ~now).sum(), (now & ~was).sum(),
        )  # fmt: skip
        assert found["mean_change"] == pytest.approx(np.abs(x - y).mean())
        assert found["correlation"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
    changed = both & ((old >= THRESHOLD) != (new >= THRESHOLD)).any(axis=1)
    assert facts["changed_findings"] == changed.sum()
    assert set(pq.read_table(tmp_path / "out" / "changes.parquet")["row"].to_pylist()) == set(
        np.flatnonzero(changed | (gone != here))
    )


def test_every_changed_page_is_in_the_table_with_both_words(runs: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    compare_scores(str(tmp_path / "old"), str(tmp_path / "new"), str(tmp_path / "out"))
    old, new = runs
    rows = pq.read_table(tmp_path / "out" / "changes.parquet").to_pylist()
    assert len({row["row"] for row in rows}) == len(rows) > 20
    for row in rows:
        for side, truth in (("old", old[row["row"]]), ("new", new[row["row"]])):
            rejected = bool(np.isnan(truth[0]))
            assert row[f"{side}_status"] == ("rejected" if rejected else "scored")
            expected = [key for key, p in zip(("MI", "AF"), truth[::-1], strict=True) if p >= THRESHOLD]
            assert row[f"{side}_findings"] == (None if rejected else expected)
            assert row[f"{side}_p_AF"] == (None if rejected else truth[0])
        assert row["id"] == f"page{row['row']}.png"


def test_the_sheet_shows_the_most_changed_pages_masked(
    write_run: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sheets, "mask_text", lambda page: np.full_like(page, (255, 0, 255)))
    old = np.array([[0.1], [0.3], [0.9], [0.2], [0.5], [0.1]], np.float32)
    new = np.array([[0.9], [0.45], [0.95], [0.2], [0.1], [0.1]], np.float32)
    write_run(tmp_path / "old", ["AF"], old)
    write_run(tmp_path / "new", ["AF"], new)
    compare_scores(str(tmp_path / "old"), str(tmp_path / "new"), str(tmp_path / "out"))
    html = (tmp_path / "out" / "changes.html").read_text()
    assert re.findall(r"<b>(page\d)\.png</b>", html) == ["page0", "page4", "page1"]
    assert "AF 0.10 → 0.90" in html and "AF 0.50 → 0.10" in html
    shown = [base64.b64decode(each) for each in re.findall(r"base64,([^\"]+)", html)]
    assert len(shown) == 3
    for each in shown:
        picture = cv2.imdecode(np.frombuffer(each, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert np.abs(picture.astype(int) - (255, 0, 255)).max() < 10


def test_one_run_against_itself_changes_nothing(runs: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    facts = compare_scores(str(tmp_path / "old"), str(tmp_path / "old"), str(tmp_path / "out"))
    assert facts["changes"] == facts["changed_findings"] == 0
    for label in facts["labels"].values():
        assert (label["kappa"], label["mean_change"], label["only_old"], label["only_new"]) == (1, 0, 0, 0)
        assert label["correlation"] == pytest.approx(1)
    assert "No finding has changed" in (tmp_path / "out" / "changes.html").read_text()


def test_pages_that_one_run_alone_has_are_counted_and_not_compared(write_run: Write, tmp_path: Path):
    probability = np.random.default_rng(0).random((9, 1), np.float32)
    gone = {"input_identity": "gone"}
    write_run(tmp_path / "old", ["AF"], probability, order=np.array([7, 1, 2, 3, 8]), **gone)
    write_run(tmp_path / "new", ["AF"], probability, order=np.array([5, 3, 2, 8, 7, 0]), **gone)
    facts = compare_scores(str(tmp_path / "old"), str(tmp_path / "new"), str(tmp_path / "out"))
    assert (facts["pages"], facts["pages_in_old_only"], facts["pages_in_new_only"]) == (4, 1, 2)
    assert facts["changes"] == 0 and facts["labels"]["AF"]["mean_change"] == 0


def test_kappa_is_that_of_a_table_by_hand():
    # Agreement on 80 of 100; by chance 0.15 * 0.25 + 0.85 * 0.75 = 0.675.
    label = LabelAgreement(key="AF", pages=100, both=10, only_old=5, only_new=15)
    assert label.kappa == pytest.approx(0.125 / 0.325)
    assert LabelAgreement(key="AF", pages=50).kappa is None


def test_a_chart_has_every_page_once_and_its_diagonal_where_nothing_changed():
    label = LabelAgreement(key="AF")
    said = np.array([0.0, 0.001, 0.2, 0.5, 0.97, 1.0])
    label.add(said, said, said > 0.4, said > 0.4)
    chart = chart_of(label)
    assert sum(pages for *_, pages in chart.squares) == 6
    assert all(x + y == 29 for x, y, *_ in chart.squares)


@pytest.mark.parametrize(
    ("facts", "keys", "out", "said"),
    [
        ({"input_identity": "another"}, NEW_KEYS, "out", "scores of other inputs"),
        ({}, ["LBBB"], "out", "no label in common"),
        ({}, NEW_KEYS, "old", "one of the runs"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    write_run: Write, tmp_path: Path, facts: dict[str, str], keys: list[str], out: str, said: str
):
    write_run(tmp_path / "old", OLD_KEYS, np.full((3, 3), 0.5, np.float32))
    write_run(tmp_path / "new", keys, np.full((3, len(keys)), 0.5, np.float32), **facts)
    with pytest.raises(UserError, match=said):
        compare_scores(str(tmp_path / "old"), str(tmp_path / "new"), str(tmp_path / out))
    assert not (tmp_path / "out").exists()
