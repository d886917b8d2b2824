"""A bundle comes back as it was written, or not at all."""

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from vizecg.platform.bundle import CARD, FACTS, WEIGHTS, hash_of, load_bundle, loaded_model, read_facts, save_bundle
from vizecg.platform.calibration import LabelCalibration
from vizecg.platform.errors import UserError
from vizecg.platform.model_card import model_card
from vizecg.platform.predictor import Predictor

pytestmark = pytest.mark.usefixtures("one_thread")


CALIBRATION = [
    LabelCalibration(),
    LabelCalibration(kind="platt", slope=0.7, intercept=-1.0, positives=12, negatives=345),
    LabelCalibration(kind="isotonic", knots=((-2.0, 0.125), (0.3, 0.5), (1.0, 0.75)), positives=1234, negatives=4321),
    *[LabelCalibration(kind="temperature", slope=2.0)] * 4,
]


@pytest.fixture
def folder(make_bundle, tmp_path: Path) -> Path:
    """With a calibration of every kind."""
    bundle = make_bundle(tmp_path / "bundle")
    model = load_bundle(tmp_path / "bundle")[1]
    changes = {"calibration": {"image": CALIBRATION}, "abstention_widths": [0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 2.0]}
    save_bundle(tmp_path / "bundle", bundle.model_copy(update=changes), model.state_dict())
    return tmp_path / "bundle"


def facts_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / FACTS).read_text())


def write_facts(folder: Path, facts: dict[str, Any], sign: bool = False) -> None:
    if sign:
        facts["content_hash"] = hash_of(facts, (folder / WEIGHTS).read_bytes())
    (folder / FACTS).write_text(json.dumps(facts))


def sentence_of(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip_gives_the_same_predictions_bit_for_bit(make_bundle, tmp_path: Path) -> None:
    written = make_bundle(tmp_path / "deep" / "bundle")
    facts, model = load_bundle(tmp_path / "deep" / "bundle")
    weights = safetensors.torch.load_file(tmp_path / "deep" / "bundle" / WEIGHTS)
    original = loaded_model(written, weights)
    pages = np.random.default_rng(0).integers(0, 256, (3, 3, 96, 128), dtype=np.uint8)

    assert facts == written
    assert not model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert np.array_equal(
        Predictor(facts, model).predict_pages(pages), Predictor(written, original).predict_pages(pages)
    )


def test_the_same_model_has_the_same_hash_wherever_it_lies(make_bundle, tmp_path: Path) -> None:
    hashes = [make_bundle(tmp_path / name, seed).content_hash for name, seed in (("a", 0), ("b", 0), ("c", 1))]

    assert hashes[0] == hashes[1] != hashes[2]
    assert re.fullmatch("[0-9a-f]{64}", hashes[0])


def test_a_metric_that_is_not_a_number_does_no_damage(folder: Path) -> None:
    bundle, model = load_bundle(folder)

    save_bundle(folder, bundle.model_copy(update={"metrics": {"val_loss": float("nan")}}), model.state_dict())

    assert load_bundle(folder)[0].metrics == {"val_loss": None}


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        facts = facts_of(folder)
        change(facts)
        write_facts(folder, facts)

    return damage


def changed_weights(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)


def cut_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-4])


DAMAGES = {
    "edited threshold": (edited(lambda f: f["thresholds"].__setitem__(2, 0.5)), "damaged"),
    "edited teacher threshold": (edited(lambda f: f["teacher_thresholds"]["fused"].__setitem__(2, 0.6)), "damaged"),
    "edited metric": (edited(lambda f: f["metrics"].update(val_image_macro_auroc=0.99)), "damaged"),
    "edited label": (edited(lambda f: f["label_space"]["labels"][0].update(key="other")), "damaged"),
    "swapped labels": (edited(lambda f: f["label_space"]["labels"].reverse()), "damaged"),
    "edited page": (edited(lambda f: f["page"].update(width_px=256)), "damaged"),
    "edited backend": (edited(lambda f: f.update(backend="onnx")), "damaged"),
    "edited version": (edited(lambda f: f.update(package_version="9")), "damaged"),
    "edited fingerprint": (edited(lambda f: f.update(dataset_fingerprint="0")), "damaged"),
    "edited seed": (edited(lambda f: f["train_config"].update(seed=7)), "damaged"),
    "edited stream": (edited(lambda f: f.update(deployed_stream="fused")), "damaged"),
    "edited option": (edited(lambda f: f["model"]["options"].update(use_smam=False)), "damaged"),
    "edited hash": (edited(lambda f: f.update(content_hash="0" * 64)), "damaged"),
    "no hash": (edited(lambda f: f.pop("content_hash")), "damaged"),
    "missing key with a default": (edited(lambda f: f.pop("teacher_thresholds")), "damaged"),
    "missing key": (edited(lambda f: f.pop("thresholds")), "thresholds: Field required"),
    "missing label space": (edited(lambda f: f.pop("label_space")), "label_space: Field required"),
    "extra key": (edited(lambda f: f.update(note="hello")), "unknown key 'note'"),
    "extra key within": (edited(lambda f: f["train_config"].update(epoch=3)), "unknown key 'train_config.epoch'"),
    "extra key of the page": (edited(lambda f: f["page"].update(depth=3)), "page.depth"),
    "page too small": (edited(lambda f: f["page"].update(width_px=3)), "too small"),
    "too few thresholds": (edited(lambda f: f["thresholds"].pop()), "6 thresholds for 7 labels"),
    "threshold of words": (edited(lambda f: f["thresholds"].__setitem__(0, "high")), "thresholds.0 = 'high'"),
    "next schema version": (edited(lambda f: f.update(schema_version=2)), "schema version 2; this VizECG reads 1"),
    "no schema version": (edited(lambda f: f.pop("schema_version")), "schema version None"),
    "edited calibration": (edited(lambda f: f["calibration"]["image"][1].update(intercept=2.0)), "damaged"),
    "calibration upside down": (
        edited(lambda f: f["calibration"]["image"][1].update(slope=-1)),
        "calibration.image.1.slope = -1: Input should be greater than 0",
    ),
    "knots that fall": (
        edited(lambda f: f["calibration"]["image"][2]["knots"].reverse()),
        "the calibration knots do not",
    ),
    "knots beyond 1": (
        edited(lambda f: f["calibration"]["image"][2]["knots"].append([9.0, 1.5])),
        "does not lie between 0 and 1",
    ),
    "another kind": (edited(lambda f: f["calibration"]["image"][1].update(kind="beta")), "image.1.kind = 'beta'"),
    "too few calibrations": (edited(lambda f: f["calibration"]["image"].pop()), "6 calibrations of stream image for 7"),
    "no calibrations": (edited(lambda f: f.update(calibration=[])), "calibration = []: Input should be"),
    "too few teacher thresholds": (
        edited(lambda f: f["teacher_thresholds"]["fused"].pop()),
        "6 thresholds of stream fused for 7 labels",
    ),
    "too few widths": (edited(lambda f: f.update(abstention_widths=[0.1])), "1 abstention widths for 7 labels"),
    "a negative width": (edited(lambda f: f.update(abstention_widths=[-0.1] * 7)), "abstention_widths.0 = -0.1"),
    "a list": (lambda folder: (folder / FACTS).write_text("[]"), "not a bundle's JSON"),
    "half a file": (lambda folder: (folder / FACTS).write_text('{"model": '), "not a bundle's JSON"),
    "no text": (lambda folder: (folder / FACTS).write_bytes(b"\xff\x00"), "not a bundle's JSON"),
    "an empty file": (lambda folder: (folder / FACTS).write_text(""), "not a bundle's JSON"),
    "no facts": (lambda folder: (folder / FACTS).unlink(), "no model bundle here"),
    "a byte of the weights": (changed_weights, "damaged"),
    "weights cut short": (cut_weights, "damaged"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "damaged"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(folder: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    load_bundle(folder)

    damage(folder)

    assert words in sentence_of(folder)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    for place in (tmp_path / "none", tmp_path, tmp_path / "file"):
        assert "no model bundle here" in sentence_of(place)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("save", [lambda trap, path: path.write_bytes(pickle.dumps(trap)), torch.save])
def test_a_pickle_is_never_opened(folder: Path, tmp_path: Path, sign: bool, save: Callable[..., Any]) -> None:
    """Also with the right hash, as whoever forges a bundle would write it."""
    save(Trap(tmp_path / "sprung"), folder / WEIGHTS)
    write_facts(folder, facts_of(folder), sign=sign)

    words = sentence_of(folder)

    assert ("the weights do not fit" if sign else "damaged") in words
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["model"].update(size="small"), "size mismatch"),
        (lambda f: f["model"].update(name="other"), "model.name: unknown value 'other'"),
        (lambda f: f["model"]["options"].update(dim="wide"), "model.options.dim = 'wide'"),
        (lambda f: f["model"]["options"].update(signal_encoder_options={"x": 1}), "'x'"),
    ],
)
def test_weights_of_another_model_do_not_fit(folder: Path, change: Callable[..., Any], words: str) -> None:
    facts = facts_of(folder)
    change(facts)
    write_facts(folder, facts, sign=True)

    sentence = sentence_of(folder)

    assert "the weights do not fit" in sentence
    assert words in sentence


def test_calibration_comes_back_as_it_was(folder: Path) -> None:
    bundle, model = load_bundle(folder)
    pages = np.random.default_rng(0).integers(0, 256, (3, 3, 96, 128), dtype=np.uint8)
    plain = Predictor(bundle.model_copy(update={"calibration": {}}), model)

    calibrated = Predictor(bundle, model).predict_pages(pages)

    assert bundle.calibration == {"image": CALIBRATION}
    assert np.array_equal(calibrated[:, 0], plain.predict_pages(pages)[:, 0])
    assert (calibrated[:, 1:] != plain.predict_pages(pages)[:, 1:]).all()


def test_a_bundle_of_the_first_version_is_not_calibrated(folder: Path) -> None:
    """It says null, and is signed with that."""
    facts = facts_of(folder)
    facts["calibration"] = None
    del facts["abstention_widths"], facts["recalibration"]
    write_facts(folder, facts, sign=True)

    bundle, _ = load_bundle(folder)

    assert bundle.calibration == {}
    assert bundle.deployed_calibration == [LabelCalibration()] * 7


def test_a_bundle_outlives_new_settings(folder: Path) -> None:
    """A bundle from before a setting existed, signed as it was then, loads with that setting's default."""
    facts = facts_of(folder)
    del facts["train_config"]["ema_decay"], facts["backend"]
    write_facts(folder, facts, sign=True)

    bundle, _ = load_bundle(folder)

    assert (bundle.train_config.ema_decay, bundle.backend) == (0.0, "torch-fp32")


def test_a_new_bundle_replaces_the_old_one_and_leaves_nothing_behind(make_bundle, folder: Path) -> None:
    (folder / "model.onnx").write_text("of the old model")

    new = make_bundle(folder, seed=1)

    assert load_bundle(folder)[0] == new
    assert sorted(path.name for path in folder.iterdir()) == sorted([WEIGHTS, FACTS, CARD])
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_failed_replacement_leaves_the_old_bundle(make_bundle, folder: Path, monkeypatch, failing_call: int) -> None:
    old, calls, replace = read_facts(folder), [], os.replace

    def fails_once(source: Any, target: Any) -> None:
        calls.append(source)
        if len(calls) == failing_call:
            raise OSError("disk gone")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(OSError, match="disk gone"):
        make_bundle(folder, seed=1)

    assert len(calls) >= failing_call
    assert load_bundle(folder)[0] == old
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("dies_at", ["os.replace", "shutil.rmtree"])
def test_a_killed_replacement_leaves_a_whole_bundle_or_none(
    make_bundle, folder: Path, monkeypatch, dies_at: str
) -> None:
    """A killed process does not clean up: whatever stands under the name loads."""
    old, new = read_facts(folder), make_bundle(folder.parent / "new", seed=1)

    class Killed(BaseException):
        pass

    def dies(*arguments: Any, **options: Any) -> None:
        raise Killed

    monkeypatch.setattr(dies_at, dies)
    with pytest.raises(Killed):
        make_bundle(folder, seed=1)

    if folder.exists():
        assert load_bundle(folder)[0].content_hash in (old.content_hash, new.content_hash)


def test_a_first_bundle_that_fails_leaves_nothing(make_bundle, folder: Path, tmp_path: Path, monkeypatch) -> None:
    bundle, model = load_bundle(folder)
    monkeypatch.setattr("vizecg.platform.bundle.model_card", lambda bundle: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        save_bundle(tmp_path / "other" / "bundle", bundle, model.state_dict())

    assert list((tmp_path / "other").iterdir()) == []


def test_the_card_names_labels_thresholds_and_metrics(folder: Path) -> None:
    bundle, card = read_facts(folder), (folder / CARD).read_text()

    for label, threshold in zip(bundle.label_space.labels, bundle.thresholds, strict=True):
        assert f"| {label.key} | {label.name} | {threshold:.3f} |" in card
    assert "| 0.250 |  | identity | 0 | 0 |" in card
    assert "| 0.350 | 0.246 to 0.470 | platt | 12 | 345 |" in card
    assert "| isotonic | 1,234 | 4,321 |" in card
    assert "chosen for the best F1" in card
    assert "## Evaluation" not in card and "## Recalibration" not in card
    assert "| image macro auroc | 0.875 |" in card
    assert "| fused macro auroc | undefined |" in card
    assert bundle.content_hash[:16] in card
    assert "128 x 96 px" in card
    assert "not a medical device" in card


def test_the_card_shows_an_evaluation_with_its_intervals(folder: Path) -> None:
    bundle = read_facts(folder)
    macro = {"auroc": 0.9123, "auprc": None, "f1": 0.5, "precision": 0.4, "recall": 0.7, "brier": 0.05, "ece": 0.01}
    labels = [{"key": key, "positives": 1000 + k, **macro} for k, key in enumerate(bundle.label_space.keys)]
    first, second = bundle.label_space.keys[:2]
    intervals = {
        "macro": {"auroc": {"low": 0.89, "high": 0.93}, "auprc": None},
        "labels": {first: {"auroc": {"low": 0.8, "high": 0.95}, "f1": None}},
    }
    evaluation = {
        "facts": {"Records": "2,198, split test"},
        "streams": {"fused": {}, "image": {"macro": macro, "labels": labels}},
    }

    plain = model_card(bundle, evaluation)
    card = model_card(bundle, {**evaluation, "intervals": {"image": intervals}})

    assert "- Records: 2,198, split test" in card
    assert "| AUROC | 0.912 | 0.890 to 0.930 |" in card
    assert "| AUPRC | undefined |  |" in card
    assert f"| {first} | 1,000 | 0.912 (0.800 to 0.950) | 0.500 | 0.400 | 0.700 |" in card
    assert f"| {second} | 1,001 | 0.912 | 0.500 | 0.400 | 0.700 |" in card
    assert "| AUROC | 0.912 |  |" in plain and "(0.8" not in plain
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_anyone_may_read_a_bundle(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o755
