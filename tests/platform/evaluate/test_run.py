"""`vizecg evaluate` writes every file, for every kind of model, and nothing of a patient."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from vizecg.models.registry import build_model
from vizecg.platform.bundle import Bundle, read_facts, save_bundle
from vizecg.platform.config import ModelConfig, TrainConfig
from vizecg.platform.data.dataset_info import read_row_index, shard_files
from vizecg.platform.data.labels import load_label_space
from vizecg.platform.data.order import RowGroup
from vizecg.platform.data.read_page import PageSpec
from vizecg.platform.data.splits import SPLITS
from vizecg.platform.errors import UserError
from vizecg.platform.evaluate import run
from vizecg.platform.evaluate.predict import Predictions, predict_windows
from vizecg.platform.evaluate.run import evaluate_bundle, stream_results
from vizecg.platform.predictor import Predictor

pytestmark = pytest.mark.usefixtures("one_thread", "without_ray")


@pytest.fixture(scope="module")
def without_ray():
    """Predictions within this process: that Ray gives the same is tested elsewhere, and takes longer."""

    def predict(bundle: Path, shards: Path, split: str, num_actors: int = 1) -> Predictions:
        splits = SPLITS if split == "all" else (split,)
        groups = [RowGroup(*group) for name in splits for group in read_row_index(shards, name)]
        return predict_windows(Predictor.load(bundle), groups)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "predict_split", predict)
        yield


def other_bundle(folder: Path, name: str, label_space: str = "practice") -> Path:
    labels, config = load_label_space(label_space), ModelConfig(name=name, size="debug")
    torch.manual_seed(2)
    model = build_model(name, "debug", len(labels.labels))
    draft = Bundle(
        model=config, deployed_stream=model.deployed_stream, label_space=labels, thresholds=[0.5] * len(labels.labels),
        page=PageSpec(width_px=128, height_px=96), train_config=TrainConfig(model=ModelConfig(size="debug")),
    )  # fmt: skip
    save_bundle(folder, draft, model.state_dict())
    return folder


@pytest.fixture(scope="module")
def evaluated(make_bundle, small_dataset: Path, tmp_path_factory: pytest.TempPathFactory, without_ray) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    make_bundle(folder / "bundle")
    other = other_bundle(folder / "other", "resnet1d")
    evaluate_bundle(folder / "bundle", small_dataset, folder / "out", split="all", against=other, num_resamples=30)
    return folder


def test_every_file_is_written_and_numbers_have_intervals(evaluated: Path) -> None:
    out = evaluated / "out"
    assert {path.name for path in out.iterdir()} == {
        "metrics.json", "metrics.md", "report.html", "predictions.parquet", "MODEL_CARD.md"
    }  # fmt: skip

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    metrics = json.loads((out / "metrics.json").read_text(), parse_constant=refuse)
    area, interval = metrics["streams"]["image"]["macro"]["auroc"], metrics["intervals"]["image"]["macro"]["auroc"]
    assert interval["low"] < area < interval["high"] and metrics["intervals"]["image"]["num_resamples"] == 30
    shown = f"{interval['low']:.3f}–{interval['high']:.3f}"
    for name in ("report.html", "metrics.md", "MODEL_CARD.md"):
        text = (out / name).read_text()
        assert f"{area:.3f}" in text and (shown in text or shown.replace("–", " to ") in text), name
    difference = metrics["comparison"]["differences"]["auroc"]
    other = metrics["comparison"]["macro"]["auroc"]
    assert difference["value"] == pytest.approx(area - other) and metrics["comparison"]["other"].startswith("resnet1d")
    assert {group["trait"] for group in metrics["subgroups"]} == {"sex", "age", "source", "page"}
    assert pq.read_table(out / "predictions.parquet").num_rows == 64


def test_the_report_shows_where_the_model_looked(evaluated: Path) -> None:
    page = (evaluated / "out" / "report.html").read_text()
    sections = ("scores", "comparison", "labels", "subgroups", "curves", "calibration", "confusion", "errors", "pages")
    for section in sections:
        assert f'<section id="{section}"' in page and f'href="#{section}"' in page
    assert "Grad-CAM" in page and "attention of its last round" in page


def test_nothing_of_a_patient_is_written(evaluated: Path, small_dataset: Path) -> None:
    files = [file for split in SPLITS for file in shard_files(small_dataset, split)]
    patients = {str(value) for file in files for value in pq.read_table(file)["patient_id"].to_pylist()}
    records = {str(value) for file in files for value in pq.read_table(file)["record_id"].to_pylist()}
    telling = {patient for patient in patients if not any(patient in record for record in records)}
    assert telling, "the patients' ids of this dataset are not parts of its record ids"
    for path in (evaluated / "out").iterdir():
        data = path.read_bytes()
        assert not [patient for patient in telling if patient.encode() in data], path.name
    table = pq.read_table(evaluated / "out" / "predictions.parquet")
    assert not {"patient_id", "patients", "age", "sex"} & set(table.column_names)


@pytest.mark.parametrize(("name", "explained"), [("resnet1d", False), ("mobilenetv3", True)])
def test_comparison_models_are_reported(name: str, explained: bool, small_dataset: Path, tmp_path: Path) -> None:
    bundle = other_bundle(tmp_path / "bundle", name)
    data = evaluate_bundle(bundle, small_dataset, tmp_path / "out", split="val", num_resamples=5)

    assert next(iter(data.streams)) == read_facts(bundle).deployed_stream
    assert data.examples and data.errors
    assert all(len(example.overlays) == explained for example in data.examples)
    assert (tmp_path / "out" / "report.html").read_text().count("Grad-CAM") == 2 * explained * len(data.examples)


def test_models_of_other_labels_are_refused_before_any_work(small_dataset: Path, tmp_path: Path) -> None:
    bundle = other_bundle(tmp_path / "bundle", "resnet1d")
    against = other_bundle(tmp_path / "other", "resnet1d", "code6")
    with pytest.raises(UserError, match="only one of them knows"):
        evaluate_bundle(bundle, small_dataset, tmp_path / "out", against=against)
    assert not (tmp_path / "out").exists()


def test_records_that_know_none_of_the_labels_are_refused(small_dataset: Path, tmp_path: Path) -> None:
    bundle = other_bundle(tmp_path / "bundle", "resnet1d", "ptbxl-superclass")
    with pytest.raises(UserError, match="no record of the val split says anything about the labels"):
        evaluate_bundle(bundle, small_dataset, tmp_path / "out", split="val")


def test_streams_that_read_signals_are_measured_where_there_is_one(
    make_predictions: Callable[..., Predictions], make_bundle: Callable[..., Any], tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    rng = np.random.default_rng(0)
    target = (rng.random((40, 7)) < 0.5).astype(np.float32)
    probability = {name: rng.random((40, 7)) for name in ("image", "fused")}
    with_signal = np.arange(40) < 25
    predictions = make_predictions(probability, target, np.ones((40, 7)), signal_known=with_signal)
    results = stream_results(bundle, predictions)
    assert [results[stream].labels[0].records for stream in ("image", "fused")] == [40, 25]
    alone = make_predictions({"fused": probability["fused"][:25]}, target[:25], np.ones((25, 7)))
    assert results["fused"].macro == stream_results(bundle, alone)["fused"].macro
