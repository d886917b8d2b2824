"""What a model of a trial costs: how long its image path takes for a page, and how many parameters it has."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch
from torch import nn

from ..data.read_page import PageSpec
from ..train.worker import unwrapped

_BLOCK = 3
_BUDGET_S = 0.5


def image_latency_ms(
    model: nn.Module,
    page: PageSpec,
    device: torch.device,
) -> float | None:
    """Time of the deployed image path for one page; None where the model needs more than a page.

    The median of three, and of those the least: what runs beside it makes a forward pass slower and never faster. Takes
    about half a second, or four forward passes where they are slower. The model is as it was afterwards, and torch's
    random numbers go on as they would have.
    """
    model = unwrapped(model)
    if not hasattr(model, "forward_deployed"):
        return None
    # Blank: nothing is drawn, and convolutions take as long as for any page.
    blank = torch.full((1, 3, page.height_px, page.width_px), 255, dtype=torch.uint8, device=device)
    if next(model.parameters()).dtype == torch.float64:
        blank = blank.double()

    def forward_ms() -> float:
        started = time.perf_counter()
        model.forward_deployed(blank)  # pyrefly: ignore[not-callable]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - started) * 1000

    ends = time.perf_counter() + _BUDGET_S
    with _evaluating(model), torch.inference_mode():
        forward_ms()  # The first one chooses kernels and reserves memory.
        blocks = [_block_ms(forward_ms)]
        while time.perf_counter() + blocks[-1] * _BLOCK / 1000 < ends:
            blocks.append(_block_ms(forward_ms))
    return min(blocks)


def num_parameters(model: nn.Module) -> int:
    """Of all of the model, what it needs in training alone included."""
    return sum(parameter.numel() for parameter in model.parameters())


def _block_ms(forward_ms: Callable[[], float]) -> float:
    return median(forward_ms() for _ in range(_BLOCK))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode while the block runs; then every module is in its own again, frozen norms included."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
