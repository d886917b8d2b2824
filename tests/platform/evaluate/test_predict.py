"""One prediction a record, the same on Ray, in this process and page by page."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from vizecg.platform.data.batches import read_row_group
from vizecg.platform.data.dataset_info import read_row_index, shard_files
from vizecg.platform.data.order import RowGroup
from vizecg.platform.data.splits import SPLITS
from vizecg.platform.errors import UserError
from vizecg.platform.evaluate.predict import numbered, predict_split, predict_windows
from vizecg.platform.predictor import Predictor

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bundle(make_bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "bundle"
    make_bundle(folder)
    return folder


def groups_of(dataset: Path, splits: tuple[str, ...]) -> list[RowGroup]:
    return [RowGroup(*group) for split in splits for group in read_row_index(dataset, split)]


def test_ray_this_process_and_single_pages_agree(small_dataset: Path, bundle: Path) -> None:
    predictor = Predictor.load(bundle)
    stored = [
        row
        for split in SPLITS
        for file in shard_files(small_dataset, split)
        for row in pq.read_table(file, columns=["record_id", "page", "codes"]).to_pylist()
    ]

    on_ray = predict_split(bundle, small_dataset, "all", num_actors=2)
    here = predict_windows(predictor, groups_of(small_dataset, SPLITS))
    single = np.concatenate([predictor.predict_pages(predictor.prepare(row["page"])[None]) for row in stored])

    assert len(stored) == 64
    assert on_ray.record_id == here.record_id == [row["record_id"] for row in stored]
    assert set(on_ray.probability) == set(here.probability) == {"image", "signal", "fused"}
    for stream in here.probability:
        assert here.probability[stream].shape == (64, 7)
        np.testing.assert_allclose(on_ray.probability[stream], here.probability[stream], rtol=0, atol=1e-6)
    np.testing.assert_allclose(here.probability["image"], single, rtol=0, atol=1e-6)
    assert np.ptp(single, axis=0).min() > 1e-4
    for predictions in (on_ray, here):
        for stream, logits in predictions.logits.items():
            np.testing.assert_allclose(1 / (1 + np.exp(-logits)), predictions.probability[stream], rtol=0, atol=1e-6)
        targets = [predictor.bundle.label_space.targets(row["codes"], [])[0] for row in stored]
        np.testing.assert_array_equal(predictions.target, np.stack(targets))
        assert predictions.known.all()


def test_patients_become_numbers_and_traits_come_along(small_dataset: Path, bundle: Path) -> None:
    names = ["patient_id", "age", "sex", "source", "page_layout"]
    stored = [
        row
        for split in SPLITS
        for file in shard_files(small_dataset, split)
        for row in pq.read_table(file, columns=names).to_pylist()
    ]

    predictions = predict_windows(Predictor.load(bundle), groups_of(small_dataset, SPLITS))

    patient_of = [row["patient_id"] for row in stored]
    assert [patient_of.index(patient) for patient in patient_of] == [
        predictions.patients.tolist().index(number) for number in predictions.patients
    ]
    assert 1 < predictions.patients.max() + 1 == len(set(patient_of)) <= len(stored)
    for name in ("sex", "source", "page_layout"):
        assert getattr(predictions, name) == [row[name] for row in stored]
    np.testing.assert_array_equal(predictions.age, np.array([row["age"] for row in stored], np.float32))


def test_an_unknown_patient_is_a_patient_of_his_own() -> None:
    assert numbered(["b", None, "a", "b", None]).tolist() == [0, 1, 2, 0, 3]


def test_one_split_is_its_part_of_all(small_dataset: Path, bundle: Path) -> None:
    predictor = Predictor.load(bundle)

    val, whole = (predict_windows(predictor, groups_of(small_dataset, splits)) for splits in (("val",), SPLITS))

    places = [whole.record_id.index(record_id) for record_id in val.record_id]
    assert len(places) > 1
    np.testing.assert_allclose(val.probability["image"], whole.probability["image"][places], rtol=0, atol=1e-6)


def test_fewer_records_than_lanes(small_dataset: Path, bundle: Path) -> None:
    group = groups_of(small_dataset, ("train",))[0]
    three = RowGroup(group.file, group.index, 3)

    predictions = predict_windows(Predictor.load(bundle), [three])

    assert predictions.record_id == read_row_group(group)["record_id"].to_pylist()[:3]


def test_nothing_to_predict_is_one_sentence(small_dataset: Path, bundle: Path, tmp_path: Path) -> None:
    for arguments, words in [
        ((bundle, small_dataset, "tset"), "no split 'tset'"),
        ((bundle, tmp_path, "test"), "no finished dataset"),
        ((tmp_path, small_dataset, "test"), "no model bundle here"),
    ]:
        with pytest.raises(UserError, match=words):
            predict_split(*arguments)


def test_a_damaged_bundle_is_found_before_any_worker_starts(small_dataset: Path, make_bundle, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / "model.safetensors").write_bytes(b"half")

    with pytest.raises(UserError, match="damaged"):
        predict_split(tmp_path / "bundle", small_dataset, "test")


def test_an_empty_split_is_one_sentence(bundle: Path, small_dataset: Path, tmp_path: Path) -> None:
    info = (small_dataset / "dataset.json").read_text()
    val = sum(group.num_rows for group in groups_of(small_dataset, ("val",)))
    (tmp_path / "dataset.json").write_text(info.replace(f'"val": {val}', '"val": 0', 1))

    with pytest.raises(UserError, match="the val split holds no record"):
        predict_split(bundle, tmp_path, "val")
