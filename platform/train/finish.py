"""From the best weights of a run to its bundle: thresholds are chosen with the predictor that will be deployed."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models.registry import build_model
from ..bundle import Bundle, loaded_model, save_bundle
from ..config import ModelConfig
from ..evaluate.predict import predict_windows
from ..evaluate.thresholds import choose_thresholds
from ..predictor import Predictor
from .checkpoint import load_state, load_weights
from .loop import TrainJob


def bundle_from_checkpoint(job: TrainJob, checkpoint: Any, folder: str) -> None:
    """Write the bundle of the best epoch in a Ray Train checkpoint."""
    with checkpoint.as_directory() as directory:
        state = load_state(Path(directory), job.identity)
        weights = load_weights(Path(directory), "best")
    write_bundle(job, weights, state.history[state.best_epoch - 1], Path(folder))


def write_bundle(job: TrainJob, weights: dict[str, Tensor], metrics: dict[str, Any], folder: Path) -> Bundle:
    """Choose thresholds on the validation split and write the bundle."""
    num_labels = len(job.label_space.labels)
    draft = Bundle(
        model=_with_all_options(job),
        deployed_stream="image",
        label_space=job.label_space,
        thresholds=[0.5] * num_labels,
        page=job.page,
        metrics={name: value for name, value in metrics.items() if name.startswith("val_")},
        sampling_rate_hz=job.sampling_rate_hz,
        dataset_fingerprint=job.dataset_fingerprint,
        train_config=job.config,
    )
    predictions = predict_windows(Predictor(draft, loaded_model(draft, weights)), job.val)
    thresholds = {
        stream: choose_thresholds(probability, predictions.target, predictions.known).tolist()
        for stream, probability in predictions.probability.items()
    }
    chosen = {"thresholds": thresholds.pop(draft.deployed_stream), "teacher_thresholds": thresholds}
    return save_bundle(folder, draft.model_copy(update=chosen), weights)


def _with_all_options(job: TrainJob) -> ModelConfig:
    """The model with every option spelled out, so that a bundle outlives a change of what its size means."""
    model = job.config.model
    with torch.device("meta"):
        config = build_model(model.name, model.size, len(job.label_space.labels), model.options).config
    return model.model_copy(update={"options": asdict(config)})  # pyrefly: ignore[bad-argument-type]
