"""From the best weights of a run to its bundle: calibration and thresholds, as the deployed predictor will use them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...models.registry import build_model
from ..bundle import Bundle, loaded_model, save_bundle
from ..calibration import apply_calibration
from ..evaluate.abstention import abstention_band
from ..evaluate.calibrate import fit_calibration
from ..evaluate.metrics import evaluate_predictions
from ..evaluate.predict import Predictions, predict_windows
from ..evaluate.thresholds import choose_thresholds
from ..predictor import Predictor
from ..reference import reference_of
from .checkpoint import latest_checkpoint
from .job import TrainJob
from .pages import learned_pages
from .ray_worker import use_threads


def bundle_from_checkpoint(job: TrainJob, checkpoints: str, folder: str) -> None:
    """Write the bundle of the best epoch that the last checkpoint knows."""
    use_threads(job.config, workers_on_node=1)
    checkpoint = latest_checkpoint(Path(checkpoints), job.identity)
    assert checkpoint is not None, f"{checkpoints}: a run that has ended left a checkpoint"
    state = checkpoint.state
    write_bundle(job, checkpoint.weights["best"], state.history[state.best_epoch - 1], Path(folder))


def write_bundle(job: TrainJob, weights: dict[str, Tensor], metrics: dict[str, Any], folder: Path) -> Bundle:
    """Fit calibration, then thresholds, on the validation split and write the bundle."""
    draft = _draft(job, metrics)
    device = "cuda" if job.config.scaling.use_gpu and torch.cuda.is_available() else "cpu"
    predictions = predict_windows(Predictor(draft, loaded_model(draft, weights), device=device), job.val)
    return save_bundle(folder, draft.model_copy(update=_fitted(draft, predictions)), weights)


def _draft(job: TrainJob, metrics: dict[str, Any]) -> Bundle:
    """The bundle before anything is fitted."""
    model = _model_without_weights(job)
    # With every option spelled out, a bundle outlives a change of what its size means.
    options = asdict(model.config)  # pyrefly: ignore[bad-argument-type]
    return Bundle(
        model=job.config.model.model_copy(update={"options": options}),
        deployed_stream=str(model.deployed_stream),
        label_space=job.label_space,
        thresholds=[0.5] * len(job.label_space.labels),
        page=job.page,
        learned_pages=learned_pages(job) if "page" in model.inputs else None,  # pyrefly: ignore[unsupported-operation]
        metrics={name: value for name, value in metrics.items() if name.startswith("val_")},
        sampling_rate_hz=job.sampling_rate_hz,
        dataset_fingerprint=job.dataset_fingerprint,
        train_config=job.config,
    )


def _model_without_weights(job: TrainJob) -> nn.Module:
    model = job.config.model
    with torch.device("meta"):
        return build_model(model.name, model.size, len(job.label_space.labels), model.options)


def _fitted(draft: Bundle, predictions: Predictions) -> dict[str, Any]:
    """Calibration of every stream, thresholds on what it gives, and what the deployed stream reaches with both."""
    target, deployed = predictions.target, draft.deployed_stream
    known = {stream: predictions.known_to(stream) for stream in predictions.logits}
    calibration = {stream: fit_calibration(z, target, known[stream]) for stream, z in predictions.logits.items()}
    probability = {stream: apply_calibration(z, calibration[stream]) for stream, z in predictions.logits.items()}
    recall = draft.train_config.threshold_recall
    thresholds = {stream: choose_thresholds(p, target, known[stream], recall) for stream, p in probability.items()}
    reached = evaluate_predictions(
        probability[deployed], target, known[deployed], draft.label_space.keys, thresholds[deployed]
    ).macro
    seen = predictions.seen_by(deployed)
    said = (probability[deployed][seen], target[seen], known[deployed][seen])
    return {
        "calibration": calibration,
        "thresholds": thresholds[deployed].tolist(),
        "teacher_thresholds": {name: values.tolist() for name, values in thresholds.items() if name != deployed},
        "abstention_widths": abstention_band(probability[deployed], known[deployed], thresholds[deployed]).tolist(),
        "reference": reference_of(*said, thresholds[deployed]),
        "metrics": draft.metrics | {f"val_{deployed}_macro_{name}": value for name, value in asdict(reached).items()},
    }
