"""Latency of the image path, and that measuring it leaves no trace."""

import time

import pytest
import torch
from torch import Tensor, nn

from vizecg.models.registry import build_model
from vizecg.platform.data.read_page import PageSpec
from vizecg.platform.search import latency
from vizecg.platform.search.latency import image_latency_ms, num_parameters

CPU = torch.device("cpu")
PAGE = PageSpec(width_px=96, height_px=64)


class Sleeper(nn.Module):
    """Takes a time that is told it, pass by pass; the last one for ever after."""

    def __init__(self, *seconds: float):
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.seconds = list(seconds)
        self.seen: list[tuple[torch.Size, torch.dtype, bool, bool]] = []

    def forward_deployed(self, page: Tensor) -> Tensor:
        self.seen.append((page.shape, page.dtype, self.training, torch.is_inference_mode_enabled()))
        time.sleep(self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0])
        return page


def measured(model: nn.Module) -> float:
    value = image_latency_ms(model, PAGE, CPU)
    assert value is not None
    return value


def test_one_page_in_evaluation_mode() -> None:
    model = Sleeper(0.001)
    measured(model)
    assert set(model.seen) == {(torch.Size([1, 3, 64, 96]), torch.uint8, False, True)}


def test_a_slow_start_and_slow_moments_do_not_count() -> None:
    model = Sleeper(0.2, 0.01, 0.01, 0.1, *[0.04] * 3, 0.01)
    assert 10 <= measured(model) < 15


def test_lucky_passes_do_not_count() -> None:
    assert 10 <= measured(Sleeper(0.01, 0.0, 0.01)) < 15


@pytest.mark.parametrize(("pass_s", "passes"), [(0.3, 4), (0.05, 10)])
def test_it_ends_in_half_a_second_or_after_four_passes(pass_s: float, passes: int) -> None:
    model = Sleeper(pass_s)
    measured(model)
    assert 4 <= len(model.seen) <= passes


def test_a_model_that_needs_signals_has_none() -> None:
    assert image_latency_ms(build_model("resnet1d", "debug", 3), PAGE, CPU) is None


@pytest.mark.parametrize("fails", [False, True])
def test_it_leaves_no_trace(one_thread: None, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    monkeypatch.setattr(latency, "_BUDGET_S", 0.05)
    torch.manual_seed(0)
    model = build_model("vizecgnet", "debug", 3, {"dropout": 0.5}).train()
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    page = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    model.forward_deployed(page).sum().backward()  # pyrefly: ignore[not-callable]
    held = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    if fails:
        hook = model.image_head.register_forward_hook(lambda *_: 1 / 0)  # pyrefly: ignore[missing-attribute]
        with pytest.raises(ZeroDivisionError):
            measured(model)
        hook.remove()
    else:
        assert measured(model) > 0

    assert not frozen.training
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, held[name]) for name, value in model.state_dict().items())
    for parameter, before in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad is None and before is None) or torch.equal(parameter.grad, before)  # pyrefly: ignore[bad-argument-type]
    # Nothing that was made in inference mode is left behind for the backward pass to meet.
    model.forward_deployed(page).sum().backward()  # pyrefly: ignore[not-callable]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_waited_for() -> None:
    class Multiply(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.eye(8192, device="cuda"))

        def forward_deployed(self, page: Tensor) -> Tensor:
            product = self.matrix
            for _ in range(10):
                product = product @ self.matrix
            return product

    # 1.1e13 operations: no GPU does them in 1 ms, and asking for them takes none.
    value = image_latency_ms(Multiply(), PAGE, torch.device("cuda"))
    assert value is not None and value > 1


def test_all_parameters_are_counted() -> None:
    assert num_parameters(Sleeper(0.0)) == 2 * 3 + 3
