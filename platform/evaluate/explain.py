"""Where on a page a model looked: Grad-CAM of one label, and the attention of the last SMAM round.

Grad-CAM (Selvaraju et al. 2017) weighs the channels of the last feature map by the mean gradient of a label's logit,
adds them up and keeps what speaks for the label. That map is found by running the model once: it is the last output of
shape (1, C, h, w) with more than one place, so any convolutional model that reads pages can be explained.

Shapes: C channels, D channels of a token, h x w feature map, N = h * w tokens, H x W pixels.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...models.attention import SelfModalAttention
from ..predictor import Predictor

Heat = NDArray[np.float32]
Picture = NDArray[np.uint8]

CAM_RGB = (20, 90, 215)
ATTENTION_RGB = (0, 140, 95)
_STRENGTH = 0.8


def explain_page(predictor: Predictor, page: Picture, label: int) -> Heat:
    """Heat (H, W) between 0 and 1 of a prepared page (3, H, W): where it speaks for the label of that index.

    All zero where nothing does. Other threads may predict with the same model meanwhile.

    Raises:
        UserError: the model does not read pages alone.
        ValueError: it has no feature map with places.
    """
    predictor.require_pages()
    return grad_cam(predictor.model, torch.from_numpy(page).to(predictor.device), label)


def explain_attention(predictor: Predictor, page: Picture) -> Heat | None:
    """Heat (H, W) of a prepared page (3, H, W): what the last SMAM round looks at; None where there is none."""
    predictor.require_pages()
    return attention_map(predictor.model, torch.from_numpy(page).to(predictor.device))


def grad_cam(model: nn.Module, page: Tensor, label: int) -> Heat:
    """`explain_page` for a model in evaluation mode and a page uint8 (3, H, W) on its device."""
    layer, _ = _last_map(model, page)
    held: list[Tensor] = []

    def hold(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        # A leaf of its own: the gradient ends here, whatever lies below and whether its weights are frozen.
        held.append(output.detach().requires_grad_())
        return held[-1].clone()

    with torch.enable_grad(), _watching([layer], hold):
        logit = _deployed_logits(model, page)[0, label]
        (gradient,) = torch.autograd.grad(logit, held[-1])
    weights = gradient.mean((2, 3), keepdim=True)
    return _stretched(torch.relu((weights * held[-1].detach()).sum(1))[0], page.shape[1:])


def attention_map(model: nn.Module, page: Tensor) -> Heat | None:
    """`explain_attention` for a model and a page (3, H, W): the mean of heads and queries."""
    rounds = [module for module in model.modules() if isinstance(module, SelfModalAttention)]
    weights: list[Tensor] = []

    def note(module: SelfModalAttention, inputs: tuple[Any, ...], _: Tensor) -> None:
        weights.append(attention_weights(module, *inputs[:2]))

    with _watching(rounds, note):
        _, last_map = _last_map(model, page)
    if not weights:
        return None
    return _stretched(weights[-1][0].mean((0, 1)).reshape(last_map.shape[2:]), page.shape[1:])


def attention_weights(module: SelfModalAttention, x: Tensor, position: Tensor) -> Tensor:
    """What `module` weighs its values with: x (B, N, D), position (N, D) -> (B, heads, N, N), rows that add up to 1."""
    query = module.query(module.norm(x) + position).unflatten(2, (module.num_heads, -1)).transpose(1, 2)
    key = module.key(module.norm_context(x) + position).unflatten(2, (module.num_heads, -1)).transpose(1, 2)
    return torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, dim=-1)


def overlay(page: Picture, heat: Heat, rgb: tuple[int, int, int] = CAM_RGB) -> Picture:
    """A page RGB (H, W, 3) under a highlighter: heat (H, W) tints the paper and leaves the ink black."""
    absorbed = _STRENGTH * (1 - np.asarray(rgb, np.float32) / 255)
    return np.rint(page * (1 - heat[..., None] * absorbed)).astype(np.uint8)


def _deployed_logits(model: Any, page: Tensor) -> Tensor:
    return model.forward_deployed(page[None]).float()


def _last_map(model: nn.Module, page: Tensor) -> tuple[nn.Module, Tensor]:
    """The innermost module that gives the last feature map, and the map (1, C, h, w)."""
    found: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1:
            found[:] = [(module, output)]

    leaves = (module for module in model.modules() if not any(module.children()))
    with torch.no_grad(), _watching(leaves, note):
        _deployed_logits(model, page)
    if not found:
        raise ValueError(f"{type(model).__name__} has no feature map with places, so Grad-CAM cannot explain it")
    return found[0]


@contextmanager
def _watching(modules: Iterable[nn.Module], hook: Callable[..., Tensor | None]) -> Iterator[None]:
    """Forward hooks (module, inputs, output) for what this thread computes; other threads pass them unnoticed."""
    mine = get_ident()

    def here_alone(module: nn.Module, inputs: Any, output: Any) -> Tensor | None:
        return hook(module, inputs, output) if get_ident() == mine else None

    handles = [module.register_forward_hook(here_alone) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _stretched(heat: Tensor, size: torch.Size) -> Heat:
    """(h, w) -> (H, W), its greatest value 1."""
    small = heat.float().cpu().numpy()
    large = cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_CUBIC).clip(0)
    return np.asarray(large / large.max() if large.max() > 0 else large, np.float32)
