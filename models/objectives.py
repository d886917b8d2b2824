"""Classification and distillation losses: L = lambda_cls L_cls + lambda_kd L_kd (arXiv 2408.02888).

A term is a sum over what is known and the count of it, never a mean: the training loop adds the counts of all workers
before it divides, so that the result does not depend on how many workers share a batch.

Shapes: B records, K labels.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .batch import EcgBatch, Prediction


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    lambda_cls: float = 1.0
    lambda_kd: float = 1.0
    head_weights: dict[str, float] = field(default_factory=lambda: {"image": 1.0, "signal": 1.0, "fused": 1.0})
    """Weight of each head within L_cls."""
    classification: Literal["bce", "asymmetric"] = "bce"
    pos_weight: float = 1.0
    """Weight of the positive targets in BCE."""
    focusing_negative: float = 4.0
    """Asymmetric loss (Ben-Baruch 2021): how strongly easy negatives fade."""
    student: str = "image"
    teacher: str = "fused"
    distance: Literal["bernoulli", "mse_probability", "mse_logit"] = "bernoulli"
    mutual: bool = False
    """Let the student teach the teacher, too."""
    temperature: float = 1.0


@dataclass(frozen=True)
class LossTerm:
    total: Tensor
    """Sum over everything known in this batch; scalar."""
    count: Tensor
    """How many values the sum holds; scalar."""
    weight: float
    """Of the term in the objective."""


def loss_terms(prediction: Prediction, batch: EcgBatch, config: ObjectiveConfig) -> dict[str, LossTerm]:
    """The terms `cls_<stream>` for every head and `kd` where the model has both student and teacher."""
    terms = {}
    for stream, logits in prediction.logits.items():
        known = batch.target_known * _record_weight(stream, batch)[:, None]
        loss = _classification_loss(_full_precision(logits), batch.target, config)
        weight = config.lambda_cls * config.head_weights.get(stream, 1.0)
        terms[f"cls_{stream}"] = LossTerm((loss * known).sum(), known.sum(), weight)
    if config.lambda_kd and {config.student, config.teacher} <= prediction.logits.keys():
        terms["kd"] = _distillation_term(prediction, batch, config)
    return terms


def weighted_total(terms: dict[str, LossTerm], global_counts: Tensor, world_size: int) -> Tensor:
    """The scalar to differentiate on one worker, `global_counts` (number of terms,) summed over all workers.

    Times the world size, because DDP averages gradients over workers.
    """
    counts = global_counts.clamp(min=1)
    parts = [term.weight * term.total / count for term, count in zip(terms.values(), counts, strict=True)]
    return world_size * torch.stack(parts).sum()


def _record_weight(stream: str, batch: EcgBatch) -> Tensor:
    """(B,): zero for padding rows, and for what needs a signal in records that have none."""
    return batch.weight if stream == "image" else batch.weight * batch.signal_known


def _classification_loss(logits: Tensor, target: Tensor, config: ObjectiveConfig) -> Tensor:
    """(B, K), unreduced."""
    if config.classification == "bce":
        pos_weight = torch.tensor(config.pos_weight, device=logits.device, dtype=logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=pos_weight)
    shifted = (torch.sigmoid(logits) - 0.05).clamp(min=0)
    positive = target * F.logsigmoid(logits)
    negative = (1 - target) * shifted**config.focusing_negative * torch.log1p(-shifted)
    return -(positive + negative)


def _full_precision(logits: Tensor) -> Tensor:
    """As float32, or float64 where they are that."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _distillation_term(prediction: Prediction, batch: EcgBatch, config: ObjectiveConfig) -> LossTerm:
    student, teacher = (_full_precision(prediction.logits[stream]) for stream in (config.student, config.teacher))
    loss = _distance(student, teacher.detach(), config)
    if config.mutual:
        loss = loss + _distance(teacher, student.detach(), config)
    needs_signal = {config.student, config.teacher} - {"image"}
    known = (batch.weight * batch.signal_known if needs_signal else batch.weight)[:, None].expand_as(loss)
    return LossTerm((loss * known).sum(), known.sum(), config.lambda_kd)


def _distance(student: Tensor, teacher: Tensor, config: ObjectiveConfig) -> Tensor:
    """(B, K): how far each label's Bernoulli distribution of the student is from the teacher's."""
    if config.distance == "mse_logit":
        return (student - teacher).square()
    student, teacher = student / config.temperature, teacher / config.temperature
    if config.distance == "mse_probability":
        return (student.sigmoid() - teacher.sigmoid()).square()
    probability = teacher.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(student, probability, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher, probability, reduction="none")
    # Hinton 2015: the gradient of softened targets shrinks by the square of the temperature.
    return (cross_entropy - entropy) * config.temperature**2
