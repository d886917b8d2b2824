"""Scans and photos of the records: the same for every model and any number of actors, against clean pages."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vizecg.platform.bundle import read_facts
from vizecg.platform.cli import app
from vizecg.platform.data.artefacts import PRESETS
from vizecg.platform.data.batches import COLUMNS, read_rows
from vizecg.platform.data.dataset_info import PageSettings, ShardConfig, load_dataset_info, read_row_index, shard_files
from vizecg.platform.data.decode import BatchDecoder
from vizecg.platform.data.order import Window
from vizecg.platform.data.practice import write_practice_archive
from vizecg.platform.data.read_page import PageSpec, prepare
from vizecg.platform.data.shards import write_shards
from vizecg.platform.errors import UserError
from vizecg.platform.evaluate import conditions, run
from vizecg.platform.evaluate.condition_scores import MEANINGS, score_conditions
from vizecg.platform.evaluate.conditions import EVERY, Printing, checked_conditions, evaluate_conditions, read_worn
from vizecg.platform.evaluate.metrics import evaluate_predictions
from vizecg.platform.evaluate.predict import Predictions, decoder_of, joined, predict_rows
from vizecg.platform.evaluate.run import evaluate_bundle
from vizecg.platform.predictor import Predictor

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = PageSettings(width_px=128, height_px=96)
WITHOUT_SIGNAL = 5


@pytest.fixture(scope="module")
def bundle(make_bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conditions") / "bundle"
    make_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def dataset(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards at the archive's own rate, so that a signal from them prints what was printed from the archive."""
    folder = tmp_path_factory.mktemp("same-rate")
    write_practice_archive(folder / "archive", 40, seed=3, sampling_rate_hz=100)
    config = ShardConfig(sampling_rate_hz=100, page=SIZE, rows_per_row_group=7, val_fraction=0, test_fraction=0.6)
    write_shards(folder / "archive", folder / "shards", config)
    return folder / "shards"


@pytest.fixture(scope="module")
def some_pages_alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages-alone") / "shards"
    shutil.copytree(dataset, folder)
    forget_signals(folder, WITHOUT_SIGNAL)
    return folder


def forget_signals(shards: Path, count: int) -> None:
    (file,) = shard_files(shards, "test")
    rows = pq.read_table(file)
    known = pa.array(np.arange(len(rows)) >= count)
    rows = rows.set_column(rows.schema.get_field_index("signal_known"), "signal_known", known)
    pq.write_table(rows, file, row_group_size=7)


def rows_of(shards: Path, split: str = "test") -> pa.Table:
    columns = (*COLUMNS, "patient_id", "age", "sex", "source", "page_layout")
    slices = [(file, group, 0, num_rows) for file, group, num_rows in read_row_index(shards, split)]
    return read_rows(Window(0, slices, None), columns)


def printing(**changes) -> Printing:
    return Printing(**({"settings": SIZE, "sampling_rate_hz": 100.0} | changes))


def worn_pages(rows: pa.Table, how: Printing, condition: str, bundle: Path) -> dict[str, np.ndarray]:
    batch = BatchDecoder(read_facts(bundle).label_space, how.spec).batch(rows)
    pages = zip(how.printed(batch), batch.record_id, strict=True)
    return {name: how.worn(page, name, condition) for page, name in pages if page}


def test_a_clean_page_is_the_stored_page(dataset: Path, bundle: Path) -> None:
    rows, how = rows_of(dataset), printing()
    stored = {row["record_id"]: prepare(row["page"], how.spec) for row in rows.to_pylist()}
    clean = worn_pages(rows, how, "clean", bundle)
    assert clean.keys() == stored.keys()
    assert all((clean[name] == page).all() for name, page in stored.items())

    for name in EVERY[1:]:
        worn = worn_pages(rows.slice(0, 8), how, name, bundle)
        assert all((worn[record] != clean[record]).any() for record in worn), name


def test_clean_pages_score_as_stored_pages_do(dataset: Path, bundle: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(run, "predict_split", in_one_piece)
    monkeypatch.setattr(conditions, "predict_split", in_one_piece)
    data = evaluate_bundle(bundle, dataset, tmp_path, conditions=["clean"], num_resamples=30)
    assert data.conditions is not None and data.deployed is not None and data.deployed_intervals is not None
    (clean,) = data.conditions.scores
    assert data.conditions.without_signal == 0 and clean.differences == {}
    for name, value in clean.macro.items():
        assert value == pytest.approx(getattr(data.deployed.macro, name), abs=1e-12)
        assert clean.intervals[name] == data.deployed_intervals.macro[name]


def test_a_record_is_worn_alike_in_any_company_and_otherwise_with_another_seed(dataset: Path, bundle: Path) -> None:
    rows, how = rows_of(dataset), printing()
    whole = worn_pages(rows.slice(0, 6), how, "photo-clean", bundle)
    alone = worn_pages(rows.slice(4, 1), how, "photo-clean", bundle)
    other = worn_pages(rows.slice(4, 1), printing(seed=1), "photo-clean", bundle)
    for name, page in alone.items():
        assert (page == whole[name]).all() and (page != other[name]).any()
    (print_of_one,) = how.printed(BatchDecoder(read_facts(bundle).label_space, how.spec).batch(rows.slice(4, 1)))
    assert print_of_one is not None
    as_others = {how.worn(print_of_one, name, "photo-clean").tobytes() for name in whole}
    assert len(as_others) == len(whole)


def test_varied_prints_differ_from_record_to_record(dataset: Path, bundle: Path) -> None:
    same, varied = printing(), printing(settings=SIZE.model_copy(update={"varied": True}))
    rows = rows_of(dataset).slice(0, 6)
    papers = [
        {tuple(page[:, 2, 2]) for page in worn_pages(rows, how, "clean", bundle).values()} for how in (same, varied)
    ]
    assert len(papers[0]) == 1 and len(papers[1]) > 3


def test_records_without_signals_are_not_read(some_pages_alone: Path, bundle: Path) -> None:
    predictor, how = Predictor.load(bundle), printing(conditions=("clean", "scan-bw"))
    rows = rows_of(some_pages_alone)
    table = read_worn(how, predictor, decoder_of(predictor), rows)
    stored = predict_rows(predictor, decoder_of(predictor), rows)
    said = {name: np.array(table[f"p_{name}"].to_pylist()) for name in how.conditions}
    for values in said.values():
        assert np.isnan(values[:WITHOUT_SIGNAL]).all() and not np.isnan(values[WITHOUT_SIGNAL:]).any()
    image = np.array(stored["p_image"].to_pylist())[WITHOUT_SIGNAL:]
    np.testing.assert_allclose(said["clean"][WITHOUT_SIGNAL:], image, rtol=0, atol=1e-6)
    assert np.abs(said["scan-bw"][WITHOUT_SIGNAL:] - image).max() > 1e-3


def in_one_piece(bundle: Path, shards: Path, split: str, _num_actors: int = 1, read=predict_rows) -> Predictions:
    """What `predict_split` gives, within this process and in one batch."""
    predictor = Predictor.load(bundle)
    return joined([read(predictor, decoder_of(predictor), rows_of(shards, split))])


@pytest.fixture(scope="module")
def evaluated(some_pages_alone: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "predict_split", in_one_piece)
        patch.setattr(conditions, "predict_split", in_one_piece)
        evaluate_bundle(bundle, some_pages_alone, out, conditions=["photo-clean"], num_resamples=30)
    return out


def test_any_number_of_actors_says_the_same(evaluated: Path, some_pages_alone: Path, bundle: Path) -> None:
    facts, names = read_facts(bundle), ("clean", "photo-clean")
    on_ray = evaluate_conditions(bundle, facts, some_pages_alone, "test", names, num_actors=2, num_resamples=30)
    assert on_ray is not None
    found = json.loads((evaluated / "metrics.json").read_text())["conditions"]
    assert found == json.loads(json.dumps(on_ray.to_dict()))
    total = load_dataset_info(some_pages_alone).counts["test"]
    assert (found["records"], found["without_signal"]) == (total - WITHOUT_SIGNAL, WITHOUT_SIGNAL)
    assert [page.condition for page in on_ray.pages] == list(names)


def test_every_form_of_the_report_has_the_conditions(evaluated: Path) -> None:
    found = json.loads((evaluated / "metrics.json").read_text())["conditions"]
    clean, photo = found["scores"]
    lines = list(csv.DictReader((evaluated / "conditions.csv").open()))
    assert [line["condition"] for line in lines] == ["clean", "photo-clean"]
    assert lines[0]["auroc_difference"] == ""
    for name in ("auroc", "auprc", "f1"):
        assert float(lines[1][name]) == pytest.approx(photo["macro"][name], abs=1e-6)
        assert float(lines[1][f"{name}_low"]) == pytest.approx(photo["intervals"][name]["low"], abs=1e-6)
        difference = photo["macro"][name] - clean["macro"][name]
        assert float(lines[1][f"{name}_difference"]) == pytest.approx(difference, abs=2e-6)
        for file in ("report.html", "metrics.md", "MODEL_CARD.md"):
            assert f"{photo['macro'][name]:.3f}" in (evaluated / file).read_text()
    page = (evaluated / "report.html").read_text()
    assert '<section id="conditions"' in page and "photo of a clean print" in page
    assert "5 records without a signal are left out" in page
    assert page.count('alt="Printed ECG, ') == 2


def test_what_is_asked_wrongly_is_one_sentence(bundle: Path, dataset: Path, tmp_path: Path) -> None:
    facts = read_facts(bundle)
    assert checked_conditions(bundle, facts, ("scan-bw",)) == ("clean", "scan-bw")
    assert checked_conditions(bundle, facts, ()) == ()
    with pytest.raises(UserError, match="condition 'wet' is not one of clean, scan-colour"):
        evaluate_bundle(bundle, dataset, tmp_path / "out", conditions=["clean", "wet"])
    reads_signals = facts.model_copy(update={"deployed_stream": "signal"})
    with pytest.raises(UserError, match="reads signals"):
        checked_conditions(bundle, reads_signals, EVERY)
    assert not (tmp_path / "out").exists()


def test_prints_have_the_models_size_and_pages_alone_are_refused(
    dataset: Path, bundle: Path, make_predictions, monkeypatch
) -> None:
    nothing, asked = np.full((9, 7), np.nan), []
    pages_alone = make_predictions({"clean": nothing}, nothing, np.ones((9, 7)), signal_known=np.zeros(9, bool))

    def predict(_bundle, _shards, _split, _num_actors, read) -> Predictions:
        asked.append(read.args[0])
        return pages_alone

    monkeypatch.setattr(conditions, "predict_split", predict)
    facts = read_facts(bundle).model_copy(update={"page": PageSpec(width_px=200, height_px=150)})
    for varied in (False, True):
        with pytest.raises(UserError, match="no record of the test split has a signal"):
            evaluate_conditions(bundle, facts, dataset, "test", ("clean",), varied=varied)
    assert [how.settings.varied for how in asked] == [False, True]
    assert {how.spec for how in asked} == {facts.page} and {how.sampling_rate_hz for how in asked} == {100}


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], ()), (["--conditions"], EVERY), (["--conditions", "clean,scan-bw"], ("clean", "scan-bw"))],
)
def test_the_verb_takes_all_conditions_or_a_list(words: list[str], expected: tuple[str, ...], monkeypatch) -> None:
    def evaluate_bundle(*_places, **options) -> None:
        assert options["conditions"] == expected
        raise UserError("seen")

    monkeypatch.setattr(run, "evaluate_bundle", evaluate_bundle)
    command, bound, _ = app.parse_args(["evaluate", "bundle", "shards", "out", *words], exit_on_error=False)
    with pytest.raises(UserError, match="seen"):
        command(*bound.args, **bound.kwargs)


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random((120, 3)) < 0.4).astype(np.float32)
    clean = np.clip(0.4 * target + 0.6 * rng.random((120, 3)), 0, 1)
    probability = {"clean": clean, "scan-bw": clean.copy(), "photo-clean": rng.random((120, 3))}
    truth = target, np.ones((120, 3), bool), list("abc"), [0.5] * 3
    same, lost = score_conditions(probability, *truth, np.arange(120) // 2, num_resamples=50)[1:]
    assert same.differences["auroc"].interval is not None
    assert same.differences["auroc"].value == same.differences["auroc"].interval.low == 0
    for name in ("auroc", "auprc", "f1"):
        value = evaluate_predictions(probability["photo-clean"], *truth)
        assert lost.macro[name] == getattr(value.macro, name)
        difference = lost.differences[name]
        assert difference.interval is not None and difference.interval.high < 0
        assert difference.interval.low < difference.value < difference.interval.high


def test_every_condition_has_a_meaning_for_people() -> None:
    assert set(MEANINGS) == set(PRESETS)
