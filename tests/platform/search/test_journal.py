"""The journal of a search: what is written is read again, whatever cut the last line short."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vizecg.platform.errors import UserError
from vizecg.platform.search.journal import JOURNAL, Journal, Trial

METRIC = "val_image_macro_auroc"
IDS = ["0000", "0001", "0002", "0001-seed1"]
VALUE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
POINT = st.dictionaries(st.text(min_size=1), VALUE, max_size=3)


def begun(trial: str) -> st.SearchStrategy[dict[str, Any]]:
    seed = {"seed": 1} if "-" in trial else {}
    return st.builds(lambda point: {"event": "begun", "trial": trial, "point": point, **seed}, POINT)


def later(trial: str) -> st.SearchStrategy[dict[str, Any]]:
    spent = st.floats(0, 1e6)
    row = st.fixed_dictionaries(
        {"epoch": st.integers(1, 99), METRIC: st.none() | st.floats(0, 1), "spent_s": spent, "devices": spent}
    )
    return st.one_of(
        st.builds(lambda row: {"event": "epoch", "trial": trial, "row": row}, row),
        st.builds(lambda reason: {"event": "failure", "trial": trial, "reason": reason}, st.text()),
        st.builds(lambda point: {"event": "changed", "trial": trial, "point": point, "source": "0000"}, POINT),
        st.builds(
            lambda status, reason: {"event": "ended", "trial": trial, "status": status, "reason": reason},
            st.sampled_from(["finished", "stopped", "failed"]), st.none() | st.text(),
        ),
    )  # fmt: skip


START = st.just({"event": "start", "nodes": {"a": 2.0}})
EVENTS = st.lists(st.one_of(START, *(one(trial) for trial in IDS for one in (begun, later))), max_size=15)


def write(folder: Path, events: list[dict[str, Any]]) -> Journal:
    journal = Journal(folder)
    for event in events:
        journal.add(**event)
    return journal


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, cut=st.integers(0, 200))
def test_what_is_read_again_was_written_and_a_line_cut_short_is_dropped(events: list[dict[str, Any]], cut: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        written = write(folder, events)
        written.close()
        read = Journal(folder)
        assert read.events == written.events and read.trials == written.trials
        assert list(read.trials) == list(written.trials), "in the order of their start"
        read.close()

        path = folder / JOURNAL
        held = path.read_bytes()
        path.write_bytes(held[: max(0, len(held) - cut)])
        whole = path.read_bytes().count(b"\n")
        resumed = Journal(folder)
        assert resumed.events == written.events[:whole]
        resumed.add("begun", "0009", point={"epochs": 2})
        resumed.close()
        again = Journal(folder)
        assert again.events == resumed.events and again.trials["0009"] == Trial("0009", {"epochs": 2})
        again.close()


def test_a_callers_dictionary_may_change_afterwards(tmp_path: Path) -> None:
    point = {"epochs": 2}
    journal = write(tmp_path, [{"event": "begun", "trial": "0000", "point": point}])
    point["epochs"] = 3
    assert journal.trials["0000"].point == {"epochs": 2}


def test_a_line_that_cannot_be_written_does_not_happen(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(TypeError):
        journal.add("begun", "0000", point={"epochs": object()})
    assert not journal.trials and not journal.events
    journal.close()
    assert (tmp_path / JOURNAL).read_bytes() == b""


def test_two_searches_do_not_share_a_folder(tmp_path: Path) -> None:
    journal = write(tmp_path, [{"event": "begun", "trial": "0000", "point": {}}])
    with pytest.raises(UserError, match="a search is running there already"):
        Journal(tmp_path)
    journal.add("ended", "0000", status="finished")
    journal.close()
    later_one = Journal(tmp_path)
    assert later_one.trials["0000"].status == "finished"
    later_one.close()


def test_every_event_is_told_after_it_is_on_the_disk(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = tmp_path / JOURNAL
    journal = Journal(tmp_path, lambda journal: told.append((len(journal.events), path.read_bytes().count(b"\n"))))
    journal.add("start", nodes={})
    journal.add("begun", "0000", point={})
    assert told == [(1, 1), (2, 2)]


def test_a_trial_adds_up(tmp_path: Path) -> None:
    rows = [
        {"epoch": 1, METRIC: None, "spent_s": 10.0, "devices": 2.0},
        {"epoch": 2, METRIC: 0.8, "spent_s": 5.0, "devices": 2.0},
        {"epoch": 3, METRIC: 0.7, "spent_s": 5.0, "devices": 1.0},
    ]
    journal = write(tmp_path, [{"event": "begun", "trial": "0000", "point": {"a": 1}}])
    for row in rows:
        journal.add("epoch", "0000", row=row)
    journal.add("failure", "0000", reason="out of memory")
    journal.add("begun", "0000-seed1", point={"a": 1}, seed=1)
    journal.add("epoch", "0000-seed1", row={"epoch": 1, METRIC: 0.9, "spent_s": 3.0, "devices": 1.0})
    trial, again = journal.trials["0000"], journal.trials["0000-seed1"]
    assert trial.device_s == 10 * 2 + 5 * 2 + 5 * 1 and journal.device_s == trial.device_s + 3
    assert trial.epochs == 3 and trial.best(METRIC) == rows[1] and trial.failures == ["out of memory"]
    assert [trial.at_epoch(epoch, METRIC) for epoch in (1, 2, 3, 4)] == [None, 0.8, 0.8, None]
    assert trial.best("val_fused_macro_f1") is None and Trial("0005", {}).best(METRIC) is None
    assert journal.main == [trial] and journal.confirming == [again]
    assert again.confirms == "0000" and trial.confirms is None and not trial.ended
    journal.add("ended", "0000", status="failed", reason="out of memory again")
    assert trial.ended and (trial.status, trial.reason) == ("failed", "out of memory again")
    journal.add("changed", "0000", point={"a": 2}, source="0003")
    assert (trial.point, trial.source) == ({"a": 2}, "0003")


def test_starts_are_kept(tmp_path: Path) -> None:
    journal = write(tmp_path, [{"event": "start", "nodes": {"a": 2.0}}, {"event": "start", "nodes": {"b": 1.0}}])
    assert [start["nodes"] for start in journal.started] == [{"a": 2.0}, {"b": 1.0}]
    assert all(start["at"] > 0 for start in journal.started)
