"""Optimisers and learning-rate schedules by name.

A schedule is a function of the step and of the metrics of finished epochs: it has no state of its own to be saved.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..config import EarlyStoppingSection, OptimizerConfig, ScheduleConfig, TrainConfig


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of that name. Gates, norms and biases do not decay: zero is no neutral value for them."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True, fused=True)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    # One pass over the weights in place of ten: 16 ms a step in place of 54 (base size, one thread).
    return kind(groups, lr=config.learning_rate, fused=True)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Go on with the state of a checkpoint, every tensor in the memory layout of its parameter.

    Fused kernels walk through memory: a momentum in another layout would be added to the wrong weights, silently.
    """
    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def learning_rate_at(step: int, num_steps: int, config: TrainConfig, metrics: Sequence[float | None] = ()) -> float:
    """The rate of that step, `metrics` being `config.metric` of every finished epoch.

    cosine: a linear rise, then a half cosine to zero. one_cycle: a half cosine from 1/25 of the peak up to it, and one
    down to zero (Smith & Topin 2018; the rate alone, momentum stays). plateau: divided when the metric stands still.
    """
    peak, schedule = config.optimizer.learning_rate, config.schedule
    warmup = max(1, round(schedule.warmup_fraction * num_steps))
    done = (step - warmup) / max(1, num_steps - warmup)
    if schedule.name == "one_cycle" and step < warmup:
        return peak * (1 / 25 + (1 - 1 / 25) * _half_cosine(1 - step / warmup))
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule.name == "constant":
        return peak
    if schedule.name == "plateau":
        return peak * schedule.plateau_factor ** plateaus(metrics, schedule)
    return peak * _half_cosine(done)


def _half_cosine(done: float) -> float:
    """1 at the beginning, 0 at the end."""
    return 0.5 * (1 + math.cos(math.pi * done))


def plateaus(metrics: Sequence[float | None], schedule: ScheduleConfig) -> int:
    """How often the metric stood still for more than `plateau_patience` epochs."""
    best, waited, count = -math.inf, 0, 0
    for value in metrics:
        if value is not None and value > best:
            best, waited = value, 0
        else:
            waited += 1
        if waited > schedule.plateau_patience:
            waited, count = 0, count + 1
    return count


def should_stop(metrics: Sequence[float | None], config: EarlyStoppingSection) -> bool:
    """Whether the last `patience` epochs brought no better metric."""
    if config.patience is None:
        return False
    best, waited = -math.inf, 0
    for value in metrics:
        if value is not None and value > best + config.min_delta:
            best, waited = value, 0
        else:
            waited += 1
    return waited >= config.patience
