"""A folder belongs to the run that came first."""

from pathlib import Path

import pytest

from vizecg.platform.errors import UserError
from vizecg.platform.files import claim_folder, write_atomically


def test_a_run_finds_its_own_folder_again(tmp_path: Path) -> None:
    marker = tmp_path / "out" / "run.json"
    assert not claim_folder(marker, {"identity": "a"})
    (tmp_path / "out" / "result").write_text("kept")
    assert claim_folder(marker, {"identity": "a"})


@pytest.mark.parametrize("left", ['{"identity": "b"}', "[]", "half a fi"])
def test_another_run_is_refused_and_told_what_to_do(tmp_path: Path, left: str) -> None:
    (tmp_path / "run.json").write_text(left)
    with pytest.raises(UserError, match="other input; choose another OUT, or start over with --restart"):
        claim_folder(tmp_path / "run.json", {"identity": "a"}, hint="start over with --restart")
    assert (tmp_path / "run.json").read_text() == left


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("a report")
    with pytest.raises(UserError, match="'report.html' and no run"):
        claim_folder(tmp_path / "run.json", {"identity": "a"})
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_marker_that_was_cut_short_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".run.json-x1y2").write_text("{")
    assert not claim_folder(tmp_path / "run.json", {"identity": "a"})


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", "old")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_text() == "new" and len(list(tmp_path.iterdir())) == 1
