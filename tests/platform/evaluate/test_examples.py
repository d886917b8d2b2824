"""The pages of a report: a typical right reading of each label, and the surest mistakes."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from vizecg.platform.bundle import read_facts
from vizecg.platform.data.dataset_info import shard_files
from vizecg.platform.data.masking import mask_text
from vizecg.platform.data.reading.pictures import decode_picture
from vizecg.platform.data.splits import SPLITS
from vizecg.platform.evaluate.contact_sheet import encoded
from vizecg.platform.evaluate.examples import choose_examples, example_pages, read_pages
from vizecg.platform.evaluate.predict import Predictions
from vizecg.platform.predictor import Predictor

THRESHOLDS = [0.5, 0.3]


@pytest.fixture
def predictions_of(make_predictions):
    """Records as (probability, target, known), each by label."""

    def make(*records: tuple[list[float], list[float], list[bool]]) -> Predictions:
        probability, target, known = (np.array(part) for part in zip(*records, strict=True))
        return make_predictions({"fused": 1 - probability, "image": probability}, target, known)

    return make


def chosen_of(predictions: Predictions, thresholds: list[float] | None = None) -> list[int]:
    return choose_examples(predictions, SimpleNamespace(deployed_stream="image", thresholds=thresholds or THRESHOLDS))


KNOWN = [True, True]


def test_the_typical_right_reading_of_each_label_then_the_worst_mistakes(predictions_of) -> None:
    predictions = predictions_of(
        ([0.95, 0.1], [1, 0], KNOWN),  # Right, and the surest of label 0.
        ([0.80, 0.1], [1, 0], KNOWN),  # Right, the median of label 0.
        ([0.60, 0.1], [1, 0], KNOWN),  # Right, the least sure of label 0.
        ([0.10, 0.35], [0, 1], KNOWN),  # Right for label 1, whose threshold is lower.
        ([0.70, 0.1], [0, 0], KNOWN),  # Wrong by 0.7.
        ([0.02, 0.1], [1, 0], KNOWN),  # Wrong by 0.98.
        ([0.10, 0.9], [0, 0], KNOWN),  # Wrong by 0.9.
        ([0.55, 0.1], [0, 0], KNOWN),  # Wrong by 0.55: the fourth mistake is left out.
        ([0.99, 0.9], [1, 0], KNOWN),  # Right for label 0, but wrong for the other: no right reading.
        ([0.20, 0.1], [1, 0], KNOWN),  # Wrong by 0.8.
        ([0.25, 0.1], [1, 0], KNOWN),  # Wrong by 0.75.
    )

    chosen = chosen_of(predictions)

    assert chosen[:2] == [1, 3]
    assert chosen[2] == 5
    assert sorted(chosen[3:]) == [6, 8]


def test_what_is_unknown_is_neither_right_nor_wrong(predictions_of) -> None:
    predictions = predictions_of(
        ([0.9, 0.9], [1, 0], [True, False]),  # Right: nobody knows about label 1.
        ([0.9, 0.1], [0, 0], [False, True]),  # No mistake: nobody knows about label 0.
        ([0.9, 0.1], [1, 1], [False, False]),  # Nothing is known.
    )

    assert chosen_of(predictions) == [0]


def test_no_record_is_shown_twice(predictions_of) -> None:
    predictions = predictions_of(
        ([0.9, 0.9], [1, 1], KNOWN),
        ([0.7, 0.8], [1, 1], KNOWN),
    )

    assert sorted(chosen_of(predictions)) == [0, 1]


def test_a_probability_at_the_threshold_is_positive(predictions_of) -> None:
    assert chosen_of(predictions_of(([0.5, 0.25], [1, 0], KNOWN)), [0.5, 0.5]) == [0]


def test_without_right_readings_only_mistakes(predictions_of) -> None:
    assert chosen_of(predictions_of(([0.9, 0.1], [0, 1], KNOWN), ([0.1, 0.0], [0, 0], KNOWN))) == [0]


def test_the_page_of_an_example_is_the_one_in_the_shards(
    make_bundle, make_predictions, small_dataset: Path, tmp_path: Path
) -> None:
    make_bundle(tmp_path / "bundle")
    bundle = read_facts(tmp_path / "bundle")
    stored = [
        row
        for split in SPLITS
        for file in shard_files(small_dataset, split)
        for row in pq.read_table(file, columns=["record_id", "page"]).to_pylist()
    ]
    rng = np.random.default_rng(0)
    target = (rng.random((64, 7)) < 0.2).astype(np.float32)
    known = rng.random((64, 7)) < 0.7
    probability = np.where(rng.random((64, 7)) < 0.02, 1 - target, target)
    predictions = make_predictions(
        {"image": probability}, target, known, record_id=[row["record_id"] for row in stored]
    )

    chosen = choose_examples(predictions, bundle)
    found = read_pages(small_dataset, "all", [predictions.record_id[n] for n in chosen])
    examples = example_pages(bundle, predictions, chosen, found, Predictor.load(tmp_path / "bundle"))

    pages = {row["record_id"]: row["page"] for row in stored}
    assert set(found) == {predictions.record_id[n] for n in chosen}
    assert len(examples) > 3
    assert len({example.title for example in examples}) == len(examples)
    for example in examples:
        row = predictions.record_id.index(example.title)
        assert example.page == encoded(mask_text(decode_picture(pages[example.title])), quality=92)
        assert list(example.thresholds.values()) == bundle.thresholds
        assert list(example.probabilities.values()) == pytest.approx(predictions.probability["image"][row].tolist())
        assert list(example.truth.values()) == [
            bool(target[row, k]) if known[row, k] else None for k in range(len(bundle.label_space.keys))
        ]
        cam, attention = example.overlays
        assert "Grad-CAM" in cam.caption and "SMAM" in attention.caption
        assert cam.picture.startswith(b"\xff\xd8") and cam.picture != attention.picture


def test_no_example_reads_no_page(small_dataset: Path) -> None:
    assert read_pages(small_dataset, "test", []) == {}
