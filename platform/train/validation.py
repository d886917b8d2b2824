"""Validation within training: the metrics of `vizecg evaluate`, on the predictions of all workers together.

Shapes: N records of this worker's share, K labels.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import nn

from ...models.batch import EcgBatch
from ..evaluate.metrics import evaluate_predictions
from ..evaluate.predict import known_to
from ..evaluate.thresholds import choose_thresholds
from .worker import Worker

MEASURES = ("auroc", "auprc", "f1")


def validate(
    model: nn.Module,
    batches: Iterable[EcgBatch],
    autocast: Callable[[], AbstractContextManager[object]],
    worker: Worker,
    label_keys: tuple[str, ...],
) -> dict[str, float | None]:
    """`val_<stream>_macro_<measure>` of every stream; F1 at the thresholds that are best for it here.

    A stream that reads signals is measured on records that have one.
    """
    whole = _gathered(_predicted(model, batches, autocast), worker)
    target, known, signal_known = (whole.pop(name) for name in ("target", "known", "signal_known"))
    metrics: dict[str, float | None] = {}
    for stream, logits in whole.items():
        counted = known_to(stream, known.astype(bool), signal_known.astype(bool))
        probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
        thresholds = choose_thresholds(probability, target, counted)
        macro = evaluate_predictions(probability, target, counted, label_keys, thresholds).macro
        metrics |= {f"val_{stream}_macro_{measure}": getattr(macro, measure) for measure in MEASURES}
    return metrics


def _predicted(
    model: nn.Module, batches: Iterable[EcgBatch], autocast: Callable[[], AbstractContextManager[object]]
) -> dict[str, np.ndarray]:
    """This worker's rows: logits (N, K) by stream, target, known (N, K) and signal_known (N,)."""
    parts: list[dict[str, np.ndarray]] = []
    for batch in batches:
        with torch.inference_mode(), autocast():
            logits = model(batch).logits
        kept = batch.weight > 0
        values = {
            "target": batch.target, "known": batch.target_known, "signal_known": batch.signal_known, **logits,
        }  # fmt: skip
        parts.append({name: value[kept].float().cpu().numpy() for name, value in values.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _gathered(rows: dict[str, np.ndarray], worker: Worker) -> dict[str, np.ndarray]:
    everywhere = worker.gather(rows)
    return {name: np.concatenate([own[name] for own in everywhere]) for name in rows}
