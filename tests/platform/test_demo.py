"""The whole way with few records: every step does its part, and the report says what happened."""

import json
from pathlib import Path

import pytest

from vizecg.platform import demo
from vizecg.platform.config import load_config
from vizecg.platform.errors import UserError


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's own configuration, with fewer epochs and fewer records to judge it on."""
    monkeypatch.setattr(demo, "EXAM_RECORDS", 60)
    monkeypatch.setattr(demo, "load_config", lambda path, overrides=(): load_config(path, [*overrides, "epochs=2"]))


def test_the_whole_way(ray_cluster: None, short: None, tmp_path: Path) -> None:
    report = demo.run_demo(tmp_path / "out", num_records=100, with_search=True)
    out = tmp_path / "out"
    assert report == out / "evaluation" / "report.html"
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert metrics["streams"].keys() == {"image", "signal", "fused"}
    assert metrics["streams"]["image"]["num_records"] == 60
    page = report.read_text()
    for expected in ("Where the time went", "Asking the endpoint", "HTTP 200", "practice-s2-", "How it learned", "AF"):
        assert expected in page
    summary = json.loads((out / "scores" / "summary.json").read_text())
    assert summary["scored"] == demo.NUM_PICTURES and summary["rejected"] == {"not_an_image": 1}
    bundle = json.loads((out / "run" / "bundle" / "bundle.json").read_text())
    best = load_config(out / "search" / "best.yaml").objective.lambda_kd
    assert bundle["train_config"]["objective"]["lambda_kd"] == best, "training takes what the search found"


@pytest.mark.chaos
def test_a_real_archive(ray_cluster: None, short: None, real_data: Path, tmp_path: Path) -> None:
    report = demo.run_demo(tmp_path / "out", archive=real_data / "ptbxl-500hz", num_records=150)
    assert "NORM" in report.read_text()
    bundle = json.loads((tmp_path / "out" / "run" / "bundle" / "bundle.json").read_text())
    assert bundle["label_space"]["name"] == "ptbxl-superclass"


def test_it_never_clears_a_folder_that_no_demo_made(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    with pytest.raises(UserError, match="no demo made it"):
        demo.run_demo(tmp_path)
    with pytest.raises(UserError, match="lies inside"):
        demo.run_demo(tmp_path, archive=tmp_path / "archive")
    assert (tmp_path / "archive").exists()
