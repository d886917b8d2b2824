"""Schedules against torch's own, and when a run stops early."""

import pytest
import torch

from vizecg.platform.config import EarlyStoppingSection, OptimizerConfig, TrainConfig, load_config
from vizecg.platform.train.optimizer import build_optimizer, learning_rate_at, load_optimizer, should_stop

NUM_STEPS = 100


def config_with(schedule: str, *more: str) -> TrainConfig:
    return load_config(None, [f"schedule.name={schedule}", "optimizer.learning_rate=0.01", *more])


def dummy_optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)


def test_cosine_is_torchs_after_the_rise() -> None:
    config = config_with("cosine", "schedule.warmup_fraction=0.1")
    optimizer = dummy_optimizer()
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)
    rates = []
    for _ in range(90):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert [learning_rate_at(10 + step, NUM_STEPS, config) for step in range(90)] == pytest.approx(rates)
    assert [learning_rate_at(step, NUM_STEPS, config) for step in range(10)] == pytest.approx(
        [0.001 * (step + 1) for step in range(10)]
    )


def test_one_cycle_rises_and_falls_like_torchs() -> None:
    config = config_with("one_cycle", "schedule.warmup_fraction=0.3")
    optimizer = dummy_optimizer()
    # torch's turning points lie a step earlier, since its last step is the cycle's end.
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.01,
        total_steps=NUM_STEPS + 1,
        pct_start=31 / 101,
        final_div_factor=1e9,
        cycle_momentum=False,
    )
    rates = []
    for _ in range(NUM_STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    ours = [learning_rate_at(step, NUM_STEPS, config) for step in range(NUM_STEPS)]
    assert ours == pytest.approx(rates, abs=1e-6)


def test_plateau_is_torchs() -> None:
    config = config_with("plateau", "schedule.warmup_fraction=0", "schedule.plateau_patience=2")
    optimizer = dummy_optimizer()
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=2, threshold=0)
    metrics: list[float | None] = []
    for value in (0.5, 0.6, 0.6, 0.55, 0.6, 0.61, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.7):
        metrics.append(value)
        reference.step(value)
        assert learning_rate_at(50, NUM_STEPS, config, metrics) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_stops_after_epochs_that_are_no_better() -> None:
    config = EarlyStoppingSection(patience=2, min_delta=0.01)
    assert not should_stop([0.5, 0.6, 0.605], config)
    assert should_stop([0.5, 0.6, 0.605, 0.606], config)
    assert not should_stop([0.5, 0.6, 0.605, 0.62], config)
    assert should_stop([None, None], config), "a metric that is never defined is never better"
    assert not should_stop([0.5] * 9, EarlyStoppingSection())


def test_a_loaded_state_lies_in_memory_as_its_weights_do() -> None:
    """Fused kernels walk through memory: another layout would add a momentum to the wrong weights."""

    def fresh() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model, build_optimizer(OptimizerConfig(), model)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.arange(75.0).reshape(1, 3, 5, 5)).square().mean().backward()
        optimizer.step()

    model, optimizer = fresh()
    step(model, optimizer)
    again, other = fresh()
    again.load_state_dict(model.state_dict())
    state = optimizer.state_dict()
    state["state"] = {k: {n: v.contiguous().clone() for n, v in values.items()} for k, values in state["state"].items()}
    load_optimizer(other, state)
    step(model, optimizer)
    step(again, other)
    assert all(torch.equal(first, second) for first, second in zip(model.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_only_matrices_decay(name: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    optimizer = build_optimizer(OptimizerConfig(name=name, weight_decay=0.1), model)  # type: ignore[arg-type]
    decayed, others = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1 and [p.ndim for p in decayed["params"]] == [2]
    assert others["weight_decay"] == 0 and len(others["params"]) == 3
