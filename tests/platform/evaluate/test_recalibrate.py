"""A bundle moves to another site: its probabilities fit there, its weights stay, and what cannot be fitted is named."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import expit, logit

from vizecg.platform.bundle import CARD, WEIGHTS, Bundle, load_bundle, read_facts, save_bundle
from vizecg.platform.calibration import LabelCalibration, apply_calibration
from vizecg.platform.data.dataset_info import read_row_index, shard_files
from vizecg.platform.data.order import RowGroup
from vizecg.platform.data.splits import SPLITS
from vizecg.platform.errors import UserError
from vizecg.platform.evaluate import recalibrate
from vizecg.platform.evaluate.predict import Predictions, predict_windows
from vizecg.platform.evaluate.recalibrate import recalibrate_bundle
from vizecg.platform.predictor import Predictor

pytestmark = pytest.mark.usefixtures("one_thread")

HOME, SITE = 0.3, 0.05
"""Prevalence where the model was calibrated, and at the other site."""


@pytest.fixture
def bundle(make_bundle, tmp_path: Path) -> Path:
    make_bundle(tmp_path / "run" / "bundle")
    return tmp_path / "run" / "bundle"


@pytest.fixture
def at_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Predictions], Path]:
    """Shards of a site, on which the model says what these predictions hold."""

    def place(predictions: Predictions) -> Path:
        info = SimpleNamespace(fingerprint="a" * 64, sources=["clinic"])
        monkeypatch.setattr(recalibrate, "load_dataset_info", lambda shards: info)
        monkeypatch.setattr(recalibrate, "predict_split", lambda *arguments: predictions)
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "dataset.json").touch()
        return tmp_path / "site"

    return place


def shifted_site(make_predictions: Callable[..., Predictions], num_records: int) -> Predictions:
    """Log-odds that are right at home, of records of a site where positives are rarer, and look the same.

    Columns of the seven labels: all records; five positives; no positive; no negative; unknown; and two more of the
    first kind, since every label must have something.
    """
    rng = np.random.default_rng(0)
    positive = np.arange(num_records) < SITE * num_records
    x = rng.normal(np.where(positive, 2.0, 0.0))
    log_odds = np.repeat((2 * x - 2 + logit(HOME))[:, None], 7, axis=1)
    target = np.repeat(positive[:, None], 7, axis=1).astype(np.float32)
    known = np.ones(target.shape, bool)
    known[:, 1] = ~positive | (np.arange(num_records) < 5)
    target[:, 2], target[:, 3], known[:, 4] = 0, 1, False
    return make_predictions({"image": expit(log_odds)}, target, known, logits={"image": log_odds})


def test_prevalence_at_another_site(make_predictions, at_site, bundle: Path, tmp_path: Path) -> None:
    predictions = shifted_site(make_predictions, 1600)
    old, weights = read_facts(bundle), (bundle / WEIGHTS).read_bytes()

    done = recalibrate_bundle(bundle, at_site(predictions), tmp_path / "out")

    new = load_bundle(done.folder)[0]
    assert done.folder == tmp_path / "out" / "bundle"
    assert done.bundle == new
    assert done.note.refitted == tuple(old.label_space.keys[k] for k in (0, 5, 6))
    assert done.note.shifted == (old.label_space.keys[1],)
    assert done.note.kept == tuple(old.label_space.keys[k] for k in (2, 3, 4))
    assert all(key in "".join(done.sentences()) for key in old.label_space.keys)

    before = apply_calibration(predictions.logits["image"], old.deployed_calibration)
    after = apply_calibration(predictions.logits["image"], new.deployed_calibration)
    fits, wanted = new.deployed_calibration, logit(SITE) - logit(HOME)
    assert (fits[0].kind, fits[0].slope) == ("platt", pytest.approx(1.0, abs=0.2))
    assert fits[0].intercept == pytest.approx(wanted, abs=0.4)
    assert after[:, 0].mean() == pytest.approx(SITE, abs=0.01) != pytest.approx(before[:, 0].mean(), abs=0.1)
    known = predictions.known[:, 1]
    assert after[known, 1].mean() == pytest.approx(5 / known.sum(), abs=1e-6)
    assert np.array_equal(after[known, 1] >= new.thresholds[1], before[known, 1] >= old.thresholds[1])
    assert [new.thresholds[k] for k in (2, 3, 4)] == pytest.approx([old.thresholds[k] for k in (2, 3, 4)])
    assert np.array_equal(after[:, 2:5], before[:, 2:5])

    reference = new.reference
    assert reference is not None and reference.num_records == 1600
    assert reference.prevalence == [pytest.approx(SITE), pytest.approx(5 / known.sum()), 0, 1, None, *[SITE] * 2]
    assert reference.mean_probability == pytest.approx(after.mean(0))
    assert reference.flagged == pytest.approx((after >= np.array(new.thresholds)).mean(0))

    assert (done.folder / WEIGHTS).read_bytes() == weights
    assert new.content_hash != old.content_hash == new.recalibration.original_bundle
    assert new.teacher_thresholds == old.teacher_thresholds
    assert new.dataset_fingerprint == old.dataset_fingerprint
    card = (done.folder / CARD).read_text()
    assert "1,600 records of clinic" in card and f"`{'a' * 16}`" in card and old.content_hash[:16] in card


def test_a_recalibrated_bundle_is_recalibrated_from_its_logits(
    make_predictions, at_site, bundle: Path, tmp_path: Path
) -> None:
    """Twice on the same pages is once, and a shift is added to the calibration that was there."""
    predictions = shifted_site(make_predictions, 400)
    site = at_site(predictions)

    once = recalibrate_bundle(bundle, site, tmp_path / "once").bundle
    twice = recalibrate_bundle(tmp_path / "once" / "bundle", site, tmp_path / "twice").bundle

    for first, second in zip(once.deployed_calibration, twice.deployed_calibration, strict=True):
        assert (first.kind, first.positives, first.negatives) == (second.kind, second.positives, second.negatives)
        assert first.intercept == pytest.approx(second.intercept, abs=1e-9)
    assert twice.thresholds == pytest.approx(once.thresholds)


def test_other_streams_keep_their_calibration(make_predictions, at_site, bundle: Path, tmp_path: Path) -> None:
    facts, model = load_bundle(bundle)
    fused = [LabelCalibration(kind="temperature", slope=0.5)] * 7
    save_bundle(bundle, facts.model_copy(update={"calibration": {"fused": fused}}), model.state_dict())

    done = recalibrate_bundle(bundle, at_site(shifted_site(make_predictions, 400)), tmp_path / "out")

    assert done.bundle.calibration["fused"] == fused
    assert set(done.bundle.calibration) == {"fused", "image"}


def test_nothing_labelled_is_one_sentence(make_predictions, at_site, bundle: Path, tmp_path: Path) -> None:
    predictions = shifted_site(make_predictions, 100)
    predictions.known[:] = False

    with pytest.raises(UserError, match="no label of practice has both positive and negative records"):
        recalibrate_bundle(bundle, at_site(predictions), tmp_path / "out")

    assert not (tmp_path / "out" / "bundle").exists()


def test_the_original_is_never_replaced(make_predictions, at_site, bundle: Path, tmp_path: Path) -> None:
    site = at_site(shifted_site(make_predictions, 100))
    (tmp_path / "link").symlink_to(bundle.parent)

    for out in (bundle.parent, bundle, bundle / "new", tmp_path / "link"):
        with pytest.raises(UserError, match="lies there itself"):
            recalibrate_bundle(bundle, site, out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(UserError, match="holds 'letter.txt'"):
        recalibrate_bundle(bundle, site, tmp_path / "full")


def test_the_same_command_again(make_predictions, at_site, bundle: Path, tmp_path: Path) -> None:
    site = at_site(shifted_site(make_predictions, 100))

    first, second = (recalibrate_bundle(bundle, site, tmp_path / "out").bundle for _ in range(2))

    assert first == second


def test_shards_and_a_folder_of_labelled_pages(small_dataset: Path, bundle: Path, tmp_path: Path, monkeypatch) -> None:
    """The same pages as pictures beside a table, through Ray, and as shards."""
    _write_page_folder(small_dataset, tmp_path / "pages")

    pages = recalibrate_bundle(bundle, tmp_path / "pages", tmp_path / "from-pages").bundle
    monkeypatch.setattr(recalibrate, "predict_split", _predicted_here)
    shards = recalibrate_bundle(bundle, small_dataset, tmp_path / "from-shards").bundle

    assert pages.recalibration.num_records == shards.recalibration.num_records == 64
    assert pages.recalibration.refitted == shards.recalibration.refitted
    for one, other in zip(pages.deployed_calibration, shards.deployed_calibration, strict=True):
        assert (one.kind, one.positives) == (other.kind, other.positives)
        assert one.intercept == pytest.approx(other.intercept, abs=1e-3)
    stored = pq.read_table(shard_files(small_dataset, "train")[0])["page"].to_pylist()
    predictor = Predictor.load(tmp_path / "from-pages" / "bundle")
    probability = predictor.predict_pages(np.stack([predictor.prepare(page) for page in stored]))
    assert probability.shape == (len(stored), 7)


def _predicted_here(bundle: Path, shards: Path, split: str, num_actors: int) -> Predictions:
    assert (split, num_actors) == ("all", 1)
    groups = [RowGroup(*group) for name in SPLITS for group in read_row_index(shards, name)]
    return predict_windows(Predictor.load(bundle), groups)


def _write_page_folder(dataset: Path, folder: Path) -> None:
    folder.mkdir()
    lines = ["page,codes,patient_id"]
    files = [file for split in SPLITS for file in shard_files(dataset, split)]
    for number, row in enumerate(row for file in files for row in pq.read_table(file).to_pylist()):
        (folder / f"{number:03d}.png").write_bytes(row["page"])
        lines.append(f"{number:03d}.png,{';'.join(row['codes'])},P{number}")
    (folder / "pages.csv").write_text("\n".join(lines) + "\n")


def test_facts_of_a_bundle_that_was_never_calibrated(bundle: Path) -> None:
    facts: Bundle = read_facts(bundle)

    assert facts.deployed_calibration == [LabelCalibration()] * 7
