"""Optimisers and learning-rate schedules by name."""

import math

import torch
from torch import nn

from ..config import OptimizerConfig, TrainConfig


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of that name. Gates, norms and biases do not decay: zero is no neutral value for them."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate)


def learning_rate_at(step: int, num_steps: int, config: TrainConfig) -> float:
    """The rate of that step: a linear rise, then constant or a half cosine to zero."""
    peak, schedule = config.optimizer.learning_rate, config.schedule
    warmup = max(1, round(schedule.warmup_fraction * num_steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule.name == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))
