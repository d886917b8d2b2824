"""The comparison: figures against those computed by hand, files that say them, and a small one from end to end."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vizecg.platform.errors import UserError
from vizecg.platform.evaluate.bootstrap import bootstrap_intervals, paired_bootstrap
from vizecg.platform.evaluate.metrics import evaluate_predictions
from vizecg.platform.reproduce import run as run_module
from vizecg.platform.reproduce.config import ReproduceConfig, load_reproduction, shipped_reproduction
from vizecg.platform.reproduce.results import RunResult
from vizecg.platform.reproduce.run import reproduce
from vizecg.platform.reproduce.table import MEASURES, compare
from vizecg.platform.reproduce.write import as_markdown, write_table

KEYS = ("A", "B", "C")
N = 300


def result(seed: int, quality: float) -> RunResult:
    """Three labels of 300 records of 150 patients, told apart the better the higher `quality`."""
    truth, noise = np.random.default_rng(0), np.random.default_rng(seed)
    target = (truth.random((N, 3)) < [0.5, 0.3, 0.2]).astype(float)
    known = truth.random((N, 3)) < 0.9
    probability = 1 / (1 + np.exp(-quality * (target - 0.5) - noise.normal(size=(N, 3))))
    return RunResult(
        label_space="three", label_keys=KEYS, probability=probability, target=target, known=known,
        thresholds=(0.5, 0.5, 0.4), patients=np.arange(N) // 2,
    )  # fmt: skip


def small_config(**changes: object) -> ReproduceConfig:
    values = {
        "title": "Two models",
        "variants": {
            "good": {"title": "good one", "family": "proposed"},
            "poor": {"title": "poor <one>", "family": "signal"},
        },
        "reference": "good",
        "num_resamples": 200,
        "reported": [{"family": "signal", "f1": 7.38, "source": "a paper"}],
    }
    return ReproduceConfig.model_validate({**values, **changes})


def macro(run: RunResult, name: str) -> float:
    measured = evaluate_predictions(run.probability, run.target, run.known, KEYS, run.thresholds).macro
    return getattr(measured, name)


RESULTS = {"good": [result(1, 3.0), result(2, 3.0)], "poor": [result(3, 1.5), result(4, 1.5)]}


def test_cells_are_means_and_deviations_over_seeds() -> None:
    table = compare(small_config(), RESULTS)

    assert (table.num_records, table.num_patients) == (300, 150)
    for row in table.rows:
        for name in MEASURES:
            seeds = [macro(run, name) for run in RESULTS[row.key]]
            cell = row.cells[name]
            assert cell.seeds == tuple(seeds)
            assert cell.mean == pytest.approx(np.mean(seeds), abs=1e-12)
            assert cell.deviation == pytest.approx(np.std(seeds, ddof=1), abs=1e-12)
            assert cell.interval is not None and cell.interval.low < cell.mean < cell.interval.high


def test_gains_are_paired_differences_of_the_means() -> None:
    of_reference = compare(small_config(), RESULTS).rows
    over_reference = compare(small_config(gain="over_reference"), RESULTS).rows

    assert of_reference[0].gains is None and over_reference[0].gains is None
    for name in MEASURES:
        gain, turned = of_reference[1].gains[name], over_reference[1].gains[name]
        expected = of_reference[0].cells[name].mean - of_reference[1].cells[name].mean
        assert gain.value == pytest.approx(expected, abs=1e-12) and gain.value > 0.05
        assert gain.interval.low > 0 and gain.p_value < 0.05
        assert turned.value == -gain.value
        assert (turned.interval.low, turned.interval.high) == pytest.approx((-gain.interval.high, -gain.interval.low))


def test_one_seed_gives_the_intervals_of_one_model() -> None:
    ours, theirs = result(1, 3.0), result(3, 1.5)

    row = compare(small_config(), {"good": [ours], "poor": [theirs]}).rows[1]

    alone = bootstrap_intervals(
        theirs.probability, theirs.target, theirs.known, KEYS, theirs.thresholds, theirs.patients, 200
    )
    pair = paired_bootstrap(
        ours.probability, theirs.probability, ours.target, ours.known, ours.thresholds, theirs.thresholds,
        ours.patients, 200,
    )  # fmt: skip
    for name in MEASURES:
        assert row.cells[name].interval == alone.macro[name]
        assert row.cells[name].deviation is None
        assert row.gains[name] == pair[name]


def test_more_seeds_narrow_no_interval_by_luck() -> None:
    """The same run twice says as much as the run once: resamples hit patients, not seeds."""
    once = compare(small_config(), {"good": [result(1, 3.0)], "poor": [result(3, 1.5)]})
    twice = compare(small_config(), {"good": [result(1, 3.0)] * 2, "poor": [result(3, 1.5)] * 2})

    for row, again in zip(once.rows, twice.rows, strict=True):
        for name in MEASURES:
            low, high = again.cells[name].interval.low, again.cells[name].interval.high
            assert (row.cells[name].interval.low, row.cells[name].interval.high) == pytest.approx((low, high))
            assert again.cells[name].deviation == 0


def test_files_say_what_the_table_says(tmp_path: Path) -> None:
    table = compare(small_config(), RESULTS)

    write_table(tmp_path, table, {"Records": "300"})

    text = (tmp_path / "table.md").read_text()
    good, poor = table.rows
    cell, gain = poor.cells["f1"], poor.gains["f1"]
    assert f"{cell.mean:.3f} [{cell.interval.low:.3f}, {cell.interval.high:.3f}] ± {cell.deviation:.3f}" in text
    assert f"{100 * gain.value:+.2f} [{100 * gain.interval.low:+.1f}, {100 * gain.interval.high:+.1f}]" in text
    assert "F1 +7.38" in text and "another dataset" in text and "a paper" in text
    lines = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert len(lines) == 2 * len(MEASURES)
    (line,) = [line for line in lines if (line["variant"], line["measure"]) == ("poor", "f1")]
    assert float(line["mean"]) == cell.mean and float(line["gain"]) == gain.value
    assert line["reported_gain_percent"] == "7.38"
    saved = json.loads((tmp_path / "table.json").read_text())
    assert saved["rows"][0]["cells"]["auroc"]["mean"] == good.cells["auroc"].mean
    picture = (tmp_path / "table.svg").read_text()
    assert picture.count("<circle") == 2 * len(MEASURES) and "poor &lt;one&gt;" in picture


def test_what_is_undefined_is_a_dash(tmp_path: Path) -> None:
    nothing = result(1, 3.0)
    nothing = RunResult(**{**vars(nothing), "target": np.zeros((N, 3))})

    table = compare(small_config(), {"good": [nothing], "poor": [nothing]})
    write_table(tmp_path, table, {})

    assert "| good one | - | - | - | - |" in as_markdown(table, {})
    assert "undefined" in (tmp_path / "table.svg").read_text()


@pytest.mark.parametrize("table", ["main", "ablation"])
@pytest.mark.parametrize("smoke", [False, True])
def test_the_shipped_comparisons_are_the_papers(table: str, smoke: bool) -> None:
    config = shipped_reproduction(table, smoke)
    trained = {variant: config.train_config(variant, 2) for variant in config.variants}

    assert {run.seed for run in trained.values()} == {2}
    assert len({run.model.size for run in trained.values()}) == 1
    if table == "main":
        assert [run.model.name for run in trained.values()] == list(config.variants)
        assert trained["resnet1d"].metric == "val_signal_macro_auroc"
        assert trained["late-fusion"].objective.lambda_kd == 0
        assert config.reported_for("resnet1d").recall == 8.21
    else:
        parts = {
            name: (run.model.options["use_smam"], run.model.options["use_cmam"], run.objective.lambda_kd > 0)
            for name, run in trained.items()
        }
        assert parts == {
            "none": (False, False, False), "smam": (True, False, False), "cmam": (False, True, False),
            "kd": (False, False, True), "all": (True, True, True),
        }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title: x\nreference: b\nvariants: {a: {title: A, family: image}}", "reference 'b' is no variant"),
        ("title: x\nreference: a\nvariants: {a: {title: A, family: photo}}", "variants.a.family = 'photo'"),
        (
            "title: x\nreference: a\nvariants: {a: {title: A, family: image, set: {epoch: 3}}}",
            "variant a: unknown key 'epoch'; did you mean 'epochs'?",
        ),
    ],
)
def test_a_wrong_comparison_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "compare.yaml").write_text(text)

    with pytest.raises(UserError) as caught:
        load_reproduction(tmp_path / "compare.yaml")

    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_that_cannot_be_built_stops_before_the_first_run(small_dataset: Path, tmp_path: Path) -> None:
    config = shipped_reproduction("main", smoke=True).with_changes(1, ["model.size=tiny"])

    with pytest.raises(UserError, match="model.size: unknown value 'tiny'"):
        reproduce(small_dataset, tmp_path / "out", config)

    assert not (tmp_path / "out").exists()


def test_variants_that_tell_other_labels_apart_stop_before_the_first_run(small_dataset: Path, tmp_path: Path) -> None:
    config = shipped_reproduction("main", smoke=True)
    name, variant = next(iter(config.variants.items()))
    other = variant.model_copy(update={"set": {**variant.set, "label_space": "code6"}})
    mixed = config.model_copy(update={"variants": {**config.variants, name: other}}).with_changes(1, ["batch_size=16"])

    with pytest.raises(UserError, match=f"{name}: code6"):
        reproduce(small_dataset, tmp_path / "out", mixed)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the functions that train and evaluate, as often as they really ran."""
    calls: list[str] = []

    def count(name: str) -> Callable[..., object]:
        real = getattr(run_module, name)
        return lambda *args, **kwargs: (calls.append(name), real(*args, **kwargs))[1]

    for name in ("train_model", "evaluate_bundle"):
        monkeypatch.setattr(run_module, name, count(name))
    return calls


def test_only_what_this_bundle_lacks_is_evaluated(
    tmp_path: Path, make_bundle: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "good-seed0"
    evaluated: list[Path] = []

    def evaluate(bundle: Path, shards: Path, out: Path, *, split: str) -> None:
        evaluated.append(out)
        out.mkdir(exist_ok=True)
        for name in ("metrics.json", "predictions.parquet"):
            (out / name).write_text("")

    monkeypatch.setattr(run_module, "evaluate_bundle", evaluate)
    run, times = run_module.Run("good", 0, folder), []
    make_bundle(folder / "bundle")
    for undo in (None, None, folder / "result.json", folder / "evaluation" / "metrics.json"):
        if undo:
            undo.unlink()
        run_module._evaluate(run, tmp_path)
        times.append(len(evaluated))
    make_bundle(folder / "bundle", seed=1)
    run_module._evaluate(run, tmp_path)

    assert [*times, len(evaluated)] == [1, 1, 2, 3, 4]


def test_a_comparison_from_end_to_end_and_again(practice_shards: Path, tmp_path: Path, counted: list[str]) -> None:
    whole = shipped_reproduction("main", smoke=True)
    config = whole.model_copy(
        update={"variants": {"resnet1d": whole.variants["resnet1d"]}, "reference": "resnet1d", "num_resamples": 100}
    ).with_changes(1, ["epochs=1", "batch_size=16", "data.page_width_px=128", "data.page_height_px=96"])
    seen: list[tuple[str, int, int]] = []

    table = reproduce(practice_shards, tmp_path, config, on_progress=lambda *stage: seen.append(stage))
    text = (tmp_path / "table.md").read_text()

    assert [row.key for row in table.rows] == ["resnet1d"]
    metrics = json.loads((tmp_path / "runs/resnet1d-seed0/evaluation/metrics.json").read_text())
    assert table.rows[0].cells["auroc"].mean == pytest.approx(metrics["streams"]["signal"]["macro"]["auroc"], abs=1e-6)
    assert ("resnet1d, seed 0", 1, 1) in seen and seen[-1] == ("comparing", 1, 1)
    assert counted == ["train_model", "evaluate_bundle"]

    assert reproduce(practice_shards, tmp_path, config) == table
    assert counted.count("evaluate_bundle") == 1
    assert (tmp_path / "table.md").read_text() == text
    with pytest.raises(UserError, match="another configuration"):
        reproduce(practice_shards, tmp_path, config.with_changes(1, ["epochs=2"]))
