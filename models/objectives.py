"""Classification and distillation losses: L = lambda_cls L_cls + lambda_kd L_kd (arXiv 2408.02888).

A term is a sum over what is known and the count of it, never a mean: the training loop adds the counts of all workers
before it divides, so that the result does not depend on how many workers share a batch.

Shapes: B records, K labels.
"""

from collections.abc import Iterable
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


@dataclass(frozen=True)
class TermSpec:
    """One term of an objective, before anything is computed."""

    name: str
    weight: float
    streams: tuple[str, ...]
    """Whose logits it reads: of one head, or of student and teacher."""


def objective_terms(streams: Iterable[str], config: ObjectiveConfig) -> list[TermSpec]:
    """The terms for a model with these streams: `cls_<stream>` for each, `kd` where student and teacher are there."""
    heads = list(streams)
    terms = [TermSpec(f"cls_{s}", config.lambda_cls * config.head_weights.get(s, 1.0), (s,)) for s in heads]
    if config.lambda_kd and {config.student, config.teacher} <= set(heads):
        terms.append(TermSpec("kd", config.lambda_kd, (config.student, config.teacher)))
    return terms


def term_counts(batch: EcgBatch, streams: Iterable[str], config: ObjectiveConfig) -> Tensor:
    """(number of terms,): the counts that `loss_terms` will give, from the batch alone, before any forward pass."""
    return torch.stack([_count(_known(term, batch)) for term in objective_terms(streams, config)])


def loss_terms(prediction: Prediction, batch: EcgBatch, config: ObjectiveConfig) -> dict[str, LossTerm]:
    """The terms of `objective_terms` by name, summed over everything known in this batch."""
    terms = {}
    for term in objective_terms(prediction.logits, config):
        first, *teacher = (_full_precision(prediction.logits[stream]) for stream in term.streams)
        loss = _distillation_loss(first, teacher[0], config) if teacher else _classification_loss(first, batch, config)
        known = _known(term, batch)
        terms[term.name] = LossTerm((loss * known).sum(), _count(known), term.weight)
    return terms


def weighted_total(terms: dict[str, LossTerm], global_counts: Tensor, world_size: int) -> Tensor:
    """The scalar to differentiate on one worker, `global_counts` (number of terms,) summed over all workers.

    Times the world size, because DDP averages gradients over workers.
    """
    counts = global_counts.clamp(min=1)
    parts = [term.weight * term.total / count for term, count in zip(terms.values(), counts, strict=True)]
    return world_size * torch.stack(parts).sum()


def _known(term: TermSpec, batch: EcgBatch) -> Tensor:
    """(B, K): zero for padding rows, for what needs a signal in records that have none, and for unknown targets.

    Distillation asks for no targets.
    """
    weight = batch.weight if set(term.streams) == {"image"} else batch.weight * batch.signal_known
    learns_from_targets = len(term.streams) == 1
    return batch.target_known * weight[:, None] if learns_from_targets else weight[:, None].expand_as(batch.target)


def _count(known: Tensor) -> Tensor:
    # Exact for any number of records, also when it is added up over workers.
    return known.sum(dtype=torch.float64)


def _classification_loss(logits: Tensor, batch: EcgBatch, config: ObjectiveConfig) -> Tensor:
    """(B, K), unreduced."""
    # Of one precision with the logits: torch rounds the loss to that of the targets.
    target = batch.target.to(logits.dtype)
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


def _distillation_loss(student: Tensor, teacher: Tensor, config: ObjectiveConfig) -> Tensor:
    """(B, K), unreduced."""
    loss = _distance(student, teacher.detach(), config)
    return loss + _distance(teacher, student.detach(), config) if config.mutual else loss


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
