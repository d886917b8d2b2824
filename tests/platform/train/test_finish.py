"""What training leaves behind: calibration and thresholds of the validation split, for whatever stream is deployed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logit

from vizecg.models.registry import build_model
from vizecg.platform.bundle import CARD, load_bundle
from vizecg.platform.calibration import apply_calibration
from vizecg.platform.config import load_config
from vizecg.platform.evaluate.abstention import abstention_band
from vizecg.platform.evaluate.calibrate import fit_calibration
from vizecg.platform.evaluate.metrics import evaluate_predictions
from vizecg.platform.evaluate.predict import predict_windows
from vizecg.platform.evaluate.thresholds import choose_thresholds
from vizecg.platform.predictor import Predictor
from vizecg.platform.train.finish import write_bundle
from vizecg.platform.train.prepare import make_job

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = (
    "model.size=debug", "batch_size=16", "data.page_width_px=128", "data.page_height_px=96",
    "data.page=drawn",  # Of stored pages there are too few to tell how they look.
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "deployed", "settings"),
    [
        ("vizecgnet", "image", ()),
        ("resnet1d", "signal", ("threshold_recall=0.9", "metric=val_signal_macro_auroc")),
    ],
)
def test_the_bundle_holds_what_validation_says(
    small_dataset: Path, tmp_path: Path, model: str, deployed: str, settings: tuple[str, ...]
) -> None:
    job = make_job(small_dataset, load_config(None, [*SETTINGS, f"model.name={model}", *settings]))
    job = replace(job, val=job.train)  # Enough positives for something to be fitted.
    torch.manual_seed(0)
    weights = build_model(model, "debug", 7).state_dict()

    written = write_bundle(job, weights, {"epoch": 1, f"val_{deployed}_macro_auroc": 0.5}, tmp_path / "bundle")

    facts, loaded = load_bundle(tmp_path / "bundle")
    assert facts.model_dump_json() == written.model_dump_json()
    assert facts.deployed_stream == deployed
    assert (facts.learned_pages is not None) == (deployed == "image")
    predictor = Predictor(facts, loaded)
    found = predict_windows(predictor, job.val)
    recall = facts.train_config.threshold_recall
    for stream, logits in found.logits.items():
        fits = fit_calibration(logits, found.target, found.known)
        assert facts.calibration[stream] == fits
        assert np.array_equal(found.probability[stream], apply_calibration(logits, fits))
        chosen = choose_thresholds(found.probability[stream], found.target, found.known, recall)
        assert (facts.thresholds if stream == deployed else facts.teacher_thresholds[stream]) == chosen.tolist()
    assert "platt" in {fit.kind for fit in facts.deployed_calibration}
    assert set(facts.teacher_thresholds) == set(found.logits) - {deployed}
    probability = found.probability[deployed]
    assert facts.abstention_widths == abstention_band(probability, found.known, np.array(facts.thresholds)).tolist()
    positives, reference = (found.target > 0.5) & found.known, facts.reference
    assert reference is not None and reference.num_records == len(found)
    assert reference.flagged == pytest.approx((probability >= np.array(facts.thresholds)).mean(0))
    assert reference.mean_probability == pytest.approx(probability.mean(0))
    assert reference.prevalence == pytest.approx(positives.sum(0) / found.known.sum(0))
    ends = np.concatenate([[-np.inf], reference.log_odds_edges, [np.inf]])
    assert reference.histogram == [np.histogram(logit(p.astype(float)), ends)[0].tolist() for p in probability.T]
    result = evaluate_predictions(probability, found.target, found.known, job.label_space.keys, facts.thresholds)
    assert facts.metrics[f"val_{deployed}_macro_f1"] == result.macro.f1
    assert "epoch" not in facts.metrics
    if recall is not None:
        assert result.macro.recall is not None and result.macro.recall >= recall
        assert "chosen for a recall of 0.9" in (tmp_path / "bundle" / CARD).read_text()
