"""Which trial is the result, and the files that people and `train` read."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from vizecg.platform.config import load_config
from vizecg.platform.errors import UserError
from vizecg.platform.search.config import SearchConfig
from vizecg.platform.search.journal import Journal
from vizecg.platform.search.results import Results, rank, write_results

METRIC = "val_image_macro_auroc"
DEPTH, RATIO = "model.options.attention_depth", "objective.lambda_kd"


def make_search(**changes: Any) -> SearchConfig:
    space = {DEPTH: {"integers": [1, 3]}, RATIO: {"log_ratio": [0.1, 10.0], "to": "objective.lambda_cls"}}
    values = {"base": {"epochs": 4, "model": {"size": "debug"}}, "space": space, "num_trials": 8}
    return SearchConfig.model_validate(values | changes)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    journal.add("start", nodes={"a": 2, "b": 1}, at_once=3)
    yield journal
    journal.close()


def add_trial(
    journal: Journal,
    name: str,
    values: Sequence[float | None],
    status: str | None = "finished",
    *,
    point: dict[str, Any] | None = None,
    seed: int | None = None,
    latency_ms: float | None = None,
    reason: str | None = None,
    spent_s: float = 2.0,
) -> None:
    """A trial with a metric an epoch."""
    begun = {"point": point or {DEPTH: 1, RATIO: 1.0}} | ({"seed": seed} if seed is not None else {})
    journal.add("begun", name, **begun)
    for epoch, value in enumerate(values, 1):
        row = {"epoch": epoch, METRIC: value, "node": "a", "spent_s": spent_s, "devices": 1}
        row |= {"latency_ms": latency_ms, "num_parameters": 7, "finished": epoch == 4}
        journal.add("epoch", name, row=row)
    if status:
        journal.add("ended", name, status=status, **({"reason": reason} if reason else {}))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_best_epoch_ranks_a_trial(journal: Journal):
    add_trial(journal, "0000", [0.6, 0.7, 0.8, 0.75])
    add_trial(journal, "0001", [None, 0.9, 0.85, 0.84], point={DEPTH: 2, RATIO: 3.0})
    add_trial(journal, "0002", [0.5], "stopped")
    add_trial(journal, "0003", [0.65], None)
    add_trial(journal, "0004", [], "failed", reason="out of memory")
    results = rank(make_search(), journal)
    assert [(entry.trial.id, entry.value, entry.best_epoch) for entry in results.ranked] == [
        ("0001", 0.9, 2), ("0000", 0.8, 3), ("0003", 0.65, 1), ("0002", 0.5, 1),
    ]  # fmt: skip
    assert [entry.rank for entry in results.ranked] == [1, 2, 3, 4]
    assert results.best == {DEPTH: 2, RATIO: 3.0}
    assert [trial.id for trial in results.failed] == ["0004"]
    assert [trial.id for trial in results.unfinished] == ["0003"]


def test_equal_trials_stand_in_the_order_of_their_names(journal: Journal):
    for name in ("0001", "0000", "0002"):
        add_trial(journal, name, [0.8] * 4)
    assert [entry.trial.id for entry in rank(make_search(), journal).ranked] == ["0000", "0001", "0002"]


def test_a_trial_that_failed_is_not_the_result(journal: Journal):
    add_trial(journal, "0000", [0.9], "failed", reason="loss is not finite")
    add_trial(journal, "0001", [0.8] * 4, point={DEPTH: 3, RATIO: 1.0})
    results = rank(make_search(), journal)
    assert results.ranked[0].trial.id == "0000"
    assert results.best[DEPTH] == 3 and "failed later" in results.best_reason


def _two_with_seeds(journal: Journal, second_status: str | None) -> Results:
    add_trial(journal, "0000", [0.9] * 4)
    add_trial(journal, "0001", [0.8] * 4, point={DEPTH: 2, RATIO: 1.0})
    for seed, value in ((1, 0.7), (2, 0.8)):
        add_trial(journal, f"0000-seed{seed}", [0.5, 0.6, 0.6, value], seed=seed)
        add_trial(journal, f"0001-seed{seed}", [0.85] * 4, second_status, seed=seed)
    return rank(make_search(confirm={"top": 2, "seeds": 2}), journal)


def test_highest_mean_over_other_seeds_wins(journal: Journal):
    results = _two_with_seeds(journal, "finished")
    first, second = results.ranked
    assert (first.trial.id, first.num_seeds) == ("0000", 2)
    assert first.mean == pytest.approx(0.75) and first.std == pytest.approx(0.005**0.5)
    assert second.mean == pytest.approx(0.85) and second.std == pytest.approx(0)
    assert results.best[DEPTH] == 2 and "0001" in results.best_reason


@pytest.mark.parametrize("status", [None, "failed"])
def test_seeds_that_came_to_no_end_are_not_counted(journal: Journal, status: str | None):
    results = _two_with_seeds(journal, status)
    assert results.ranked[1].mean is None
    assert results.winner is not None and results.winner.trial.id == "0000"


def test_a_seed_that_is_missing_leaves_a_trial_unconfirmed(journal: Journal):
    add_trial(journal, "0000", [0.9] * 4)
    add_trial(journal, "0000-seed1", [0.1] * 4, seed=1)
    (entry,) = rank(make_search(confirm={"top": 1, "seeds": 3}), journal).ranked
    assert entry.mean == pytest.approx(0.1) and not entry.is_confirmed


def test_front_holds_what_nothing_beats_in_both(journal: Journal):
    for name, value, latency, depth in (("0000", 0.9, 9.0, 3), ("0001", 0.8, 5.0, 2), ("0002", 0.7, 6.0, 1)):
        add_trial(journal, name, [value] * 4, point={DEPTH: depth, RATIO: 1.0}, latency_ms=latency)
    # Of the same architecture as 0000: whichever was measured at the quieter moment counts for both.
    add_trial(journal, "0003", [0.85] * 4, point={DEPTH: 3, RATIO: 5.0}, latency_ms=4.0)
    results = rank(make_search(minimize_latency=True), journal)
    assert {e.trial.id: e.latency_ms for e in results.ranked} == {"0000": 4.0, "0001": 5.0, "0002": 6.0, "0003": 4.0}
    assert [e.trial.id for e in results.ranked if e.on_front] == ["0000"]


def test_dropout_makes_no_other_architecture(journal: Journal):
    key = "model.options.dropout"
    for number, (dropout, latency) in enumerate(((0.1, 9.0), (0.4, 4.0))):
        add_trial(journal, f"{number:04d}", [0.8] * 4, point={key: dropout}, latency_ms=latency)
    search = make_search(minimize_latency=True, space={key: {"uniform": [0.0, 0.5]}})
    assert [entry.latency_ms for entry in rank(search, journal).ranked] == [4.0, 4.0]


def test_trade_offs_are_all_on_the_front_and_written(journal: Journal, tmp_path: Path):
    (tmp_path / "pareto").mkdir()
    (tmp_path / "pareto" / "0009.yaml").write_text("from an earlier writing")
    for name, value, latency, depth in (("0000", 0.9, 9.0, 3), ("0001", 0.8, 5.0, 2), ("0002", 0.7, 6.0, 1)):
        add_trial(journal, name, [value] * 4, point={DEPTH: depth, RATIO: 1.0}, latency_ms=latency)
    write_results(tmp_path, make_search(minimize_latency=True), journal)
    assert sorted(path.name for path in (tmp_path / "pareto").iterdir()) == ["0000.yaml", "0001.yaml"]
    assert load_config(tmp_path / "pareto" / "0001.yaml").model.options["attention_depth"] == 2


def test_values_of_population_based_training_are_those_of_the_best_epoch(journal: Journal):
    journal.add("begun", "0000", point={RATIO: 1.0})
    for epoch, (ratio, value) in enumerate(((1.0, 0.6), (2.0, 0.9), (4.0, 0.7)), 1):
        journal.add("changed", "0000", point={RATIO: ratio}, source="0001")
        journal.add("epoch", "0000", row={"epoch": epoch, METRIC: value, "node": "a", "spent_s": 1.0, "devices": 1})
    search = make_search(scheduler="pbt", space={RATIO: {"log_ratio": [0.1, 10.0], "to": "objective.lambda_cls"}})
    assert rank(search, journal).best == {RATIO: 2.0}


def test_best_yaml_is_a_configuration_of_train(journal: Journal, tmp_path: Path):
    add_trial(journal, "0000", [0.9] * 4, point={DEPTH: 2, RATIO: 3.0})
    search = make_search()
    write_results(tmp_path, search, journal)
    text = (tmp_path / "best.yaml").read_text()
    assert load_config(tmp_path / "best.yaml") == search.trial_config({DEPTH: 2, RATIO: 3.0})
    assert set(yaml.safe_load(text)) == {"epochs", "model", "objective"}
    header = text.partition("\nmodel")[0]
    assert "Trial 0000" in header and "0.9000" in header and "epoch 1 of 4" in header


def test_values_survive_the_way_through_yaml(journal: Journal, tmp_path: Path):
    space = {
        "objective.mutual": {"choice": [True, False]},
        "data.page_width_px": {"choice": [None, 128]},
        "precision": {"choice": ["fp32", "bf16"]},
        "optimizer.learning_rate": {"log_uniform": [1e-6, 1e-2]},
    }
    search = make_search(space=space)
    point = {
        "objective.mutual": True, "data.page_width_px": None, "precision": "bf16", "optimizer.learning_rate": 1e-5,
    }  # fmt: skip
    add_trial(journal, "0000", [0.9] * 4, point=point)
    write_results(tmp_path, search, journal)
    assert load_config(tmp_path / "best.yaml") == search.trial_config(point)
    (line,) = read_csv(tmp_path / "leaderboard.csv")
    assert [line[key] for key in space] == ["true", "null", "bf16", "1e-05"]


def test_same_trials_give_the_same_leaderboard_whatever_the_time(tmp_path: Path):
    written = []
    for spent_s in (1.0, 7.0):
        folder = tmp_path / f"{spent_s}"
        folder.mkdir()
        journal = Journal(folder)
        add_trial(journal, "0000", [0.7] * 4, spent_s=spent_s, latency_ms=spent_s)
        add_trial(journal, "0001", [0.8] * 4, spent_s=spent_s, latency_ms=spent_s)
        write_results(folder, make_search(), journal)
        journal.close()
        written.append([(folder / name).read_text() for name in ("leaderboard.csv", "leaderboard.md", "best.yaml")])
    assert written[0] == written[1]


def test_tables_hold_every_trial_and_what_failed(journal: Journal, tmp_path: Path):
    add_trial(journal, "0000", [0.9] * 4, point={DEPTH: 2, RATIO: 3.0})
    add_trial(journal, "0001", [], "failed", point={DEPTH: 3, RATIO: 0.5}, reason="out of\n memory | killed")
    journal.add("begun", "0002", point={DEPTH: 1, RATIO: 1.0})
    write_results(tmp_path, make_search(), journal)
    ratio = f"{RATIO} / objective.lambda_cls"
    (best,) = read_csv(tmp_path / "leaderboard.csv")
    assert (best["rank"], best["trial"], best[METRIC], best[ratio]) == ("1", "0000", "0.9", "3.0")
    trials = {line["trial"]: line for line in read_csv(tmp_path / "trials.csv")}
    assert [line["status"] for line in trials.values()] == ["finished", "failed", "unfinished"]
    assert float(trials["0000"][RATIO]) == pytest.approx(1.5)  # of a sum that stays 2
    assert float(trials["0000"]["device_s"]) == 8 and trials["0000"]["num_parameters"] == "7"
    markdown = (tmp_path / "leaderboard.md").read_text()
    assert "0001 in epoch 1: out of memory | killed" in markdown and f"{DEPTH} 3" in markdown


def test_nothing_to_rank_is_one_sentence(journal: Journal, tmp_path: Path):
    add_trial(journal, "0000", [], "failed", reason="the node ran out of memory")
    with pytest.raises(UserError, match="no trial finished an epoch; the first error was: the node ran out of memory"):
        write_results(tmp_path, make_search(), journal)
    assert read_csv(tmp_path / "trials.csv")[0]["reason"] == "the node ran out of memory"


def test_a_metric_that_is_never_defined_is_one_sentence(journal: Journal, tmp_path: Path):
    add_trial(journal, "0000", [None, None])
    with pytest.raises(UserError, match=f"{METRIC} is undefined in every epoch"):
        write_results(tmp_path, make_search(), journal)


def test_no_trials_at_all_is_one_sentence(journal: Journal, tmp_path: Path):
    with pytest.raises(UserError, match="no trial finished an epoch"):
        write_results(tmp_path, make_search(), journal)
