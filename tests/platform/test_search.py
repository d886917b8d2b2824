"""Searches on real Ray Tune: trials inside their own process and as Ray Train runs, a leaderboard, a best.yaml."""

import threading
from pathlib import Path

import pytest
import yaml

from vizecg.platform.config import load_config
from vizecg.platform.errors import UserError
from vizecg.platform.search import SearchConfig, load_search, tune_model

BASE = {
    "model": {"size": "debug"},
    "data": {"page_width_px": 96, "page_height_px": 72},
    "batch_size": 16,
    "epochs": 2,
}
SPACE = {"objective.lambda_kd": {"log_uniform": [0.1, 10.0]}, "model.options.attention_depth": {"choice": [1, 2]}}


def make_search(**values: object) -> SearchConfig:
    return SearchConfig.model_validate({"base": BASE, "space": SPACE, "num_trials": 3, **values})


def test_a_search_ranks_its_trials_and_train_takes_the_best(practice_shards: Path, tmp_path: Path) -> None:
    seen: list[dict] = []
    lock = threading.RLock()  # As a progress bar holds one: Ray saves the search with its callbacks.

    def follow(row: dict) -> None:
        with lock:
            seen.append(row)

    trials = tune_model(practice_shards, tmp_path / "search", make_search(), on_trial=follow)
    metrics = [trial["val_image_macro_auroc"] for trial in trials]
    assert len(trials) == 3 and metrics == sorted(metrics, reverse=True)
    assert {row["trial"] for row in seen} and all(0.1 <= trial["objective.lambda_kd"] <= 10 for trial in trials)
    best = load_config(tmp_path / "search" / "best.yaml")
    assert best.objective.lambda_kd == trials[0]["objective.lambda_kd"]
    assert best.model.options["attention_depth"] == trials[0]["model.options.attention_depth"]
    assert best.batch_size == 16 and best.model.size == "debug"
    board = (tmp_path / "search" / "leaderboard.md").read_text()
    assert board.count("\n") == 5 and "objective.lambda_kd" in board
    assert (tmp_path / "search" / "leaderboard.csv").read_text().startswith("val_image_macro_auroc,")
    again = tune_model(practice_shards, tmp_path / "search", make_search())
    assert again == trials, "a finished search is not searched again"
    with pytest.raises(UserError, match="other input"):
        tune_model(practice_shards, tmp_path / "search", make_search(num_trials=4))


def test_trials_of_two_workers_are_ray_train_runs(practice_shards: Path, tmp_path: Path) -> None:
    base = {**BASE, "epochs": 1, "scaling": {"num_workers": 2}}
    search = make_search(base=base, num_trials=1, searcher="random", scheduler="fifo")
    (trial,) = tune_model(practice_shards, tmp_path / "search", search)
    assert trial["epochs"] == 1 and trial["val_image_macro_auroc"] is not None
    assert list((tmp_path / "search").rglob("run")), "Ray Train ran inside the trial"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"space": {"objective.lambda_kt": {"uniform": [0, 1]}}}, "did you mean 'objective.lambda_kd'"),
        ({"space": {}}, "space"),
        ({"space": {"epochs": {"choice": []}}}, "space.epochs.choice"),
        ({"space": {"epochs": {"choice": [1], "uniform": [0, 1]}}}, "exactly one of"),
        ({"space": {"optimizer.learning_rate": {"log_uniform": [0.0, 1.0]}}}, "no range"),
        ({"space": {"optimizer.learning_rate": {"uniform": [-1.0, 1.0]}}}, "optimizer.learning_rate"),
        ({"trials": 3}, "did you mean 'num_trials'"),
        ({"scheduler": "hyperband2"}, "scheduler"),
        ({"base": {**BASE, "metric": "val_image_macro_aroc"}}, "metric = 'val_image_macro_aroc'"),
    ],
)
def test_a_wrong_search_is_one_sentence_before_anything_starts(change: dict, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump({"base": BASE, "space": SPACE, **change}))
    with pytest.raises(UserError, match=sentence) as error:
        load_search(path)
    assert "\n" not in str(error.value)
