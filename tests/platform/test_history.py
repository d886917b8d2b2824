"""The history survives being cut short at any byte, and is followed while it grows."""

import json
from pathlib import Path
from threading import Event

from vizecg.platform.history import append_history, read_history, watch_run


def test_a_line_cut_at_any_byte_costs_that_line_alone(tmp_path: Path):
    path = tmp_path / "history.jsonl"
    append_history(path, {"epoch": 1, "train_loss": 0.5})
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole + whole[:cut])
        assert read_history(path) == [{"epoch": 1, "train_loss": 0.5}], "half a line is no epoch"
        append_history(path, {"epoch": 2})
        assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]


def test_an_epoch_done_again_counts_once_with_its_last_metrics(tmp_path: Path):
    path = tmp_path / "history.jsonl"
    for epoch, loss in ((1, 0.5), (2, 0.4), (2, 0.3)):
        append_history(path, {"epoch": epoch, "train_loss": loss})
    assert [(row["epoch"], row["train_loss"]) for row in read_history(path)] == [(1, 0.5), (2, 0.3)]
    assert read_history(tmp_path / "none") == []


def test_watching_tells_what_is_new_alone(tmp_path: Path):
    history, progress = tmp_path / "history.jsonl", tmp_path / "progress.json"
    append_history(history, {"epoch": 1})
    with history.open("a") as file:
        file.write('{"epoch": 2, "train_')
    progress.write_text('{"step": 1}')
    epochs: list[int] = []
    steps: list[int] = []
    seen = Event()

    def on_progress(row: dict) -> None:
        steps.append(row["step"])
        seen.set()

    with watch_run(tmp_path, lambda row: epochs.append(row["epoch"]), on_progress, every_s=0.01):
        append_history(history, {"epoch": 2})
        (tmp_path / "new").write_text('{"step": 2}')
        (tmp_path / "new").replace(progress)
        assert seen.wait(10)
        append_history(history, {"epoch": 3})
    assert epochs == [2, 3], "lines of an earlier start are not told, and the last is, though it came at the end"
    assert steps == [2]


def test_watching_begins_before_there_is_a_run(tmp_path: Path):
    epochs: list[int] = []
    out = tmp_path / "run"
    with watch_run(out, lambda row: epochs.append(row["epoch"]), lambda row: None, every_s=0.01):
        out.mkdir()
        append_history(out / "history.jsonl", {"epoch": 1})
    assert epochs == [1]
