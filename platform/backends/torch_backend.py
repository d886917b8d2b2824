"""torch: the reference in fp32, and bf16 on CPUs and GPUs.

Shapes: B pages, K labels, H x W pixels.
"""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..bundle import loaded_model
from ..bundle_facts import Bundle
from ..errors import UserError
from .compiled import PAGES_AT_ONCE, Compiled

_PAGES_ON_GPU = 32


def require_pages(bundle: Bundle, model: object, place: Path | str = "this bundle") -> None:
    """UserError where the model, or its class, cannot predict from a page alone."""
    if not hasattr(model, "forward_deployed"):
        raise UserError(
            f"{place}: {bundle.model.name} predicts from signals, not from a page alone, so it can only be "
            "evaluated on shards; scoring and serving need a model that reads pages, such as vizecgnet"
        )


class Deployed(nn.Module):
    """A model whose `forward` is what inference needs."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, page: Tensor) -> Tensor:
        """page uint8 RGB (B, 3, H, W) -> logits (B, K)."""
        return self.model.forward_deployed(page)  # pyrefly: ignore[not-callable]


class TorchLogits:
    """uint8 RGB (B, 3, H, W) -> logits float32 (B, K)."""

    def __init__(self, model: nn.Module, device: str = "cpu", *, use_bf16: bool = False):
        """The model is moved to `device` and, with `use_bf16`, laid out for it."""
        self._device = torch.device(device)
        self._bf16 = use_bf16
        self._model = Deployed(model).to(self._device).eval()
        if use_bf16:
            self._model.to(memory_format=torch.channels_last)

    def __call__(self, pages: NDArray[np.uint8]) -> NDArray[np.float32]:
        on_gpu = self._device.type != "cpu"
        at_once, compute = (_PAGES_ON_GPU, self._on_gpu) if on_gpu else (PAGES_AT_ONCE, self._on_cpu)
        starts = range(0, len(pages), at_once)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            # Pages from Ray's object store may not be written to, which torch does not like.
            held = [np.require(pages[start : start + at_once], requirements="W") for start in starts]
            parts = [compute(torch.from_numpy(part)) for part in held]
            return torch.cat(parts).float().cpu().numpy()

    def _on_cpu(self, pages: Tensor) -> Tensor:
        return self._model(pages)

    def _on_gpu(self, pages: Tensor) -> Tensor:
        # Always as many pages: what kernels are picked depends on it, and with them the last bits. Nothing here waits
        # for the GPU, so that the next pages are copied while it computes these.
        whole = torch.zeros((_PAGES_ON_GPU, *pages.shape[1:]), dtype=pages.dtype, device=self._device)
        whole[: len(pages)].copy_(pages.pin_memory(), non_blocking=True)
        return self._model(whole)[: len(pages)]


def compile_torch(name: str, bundle: Bundle, model: nn.Module) -> Compiled:
    """Facts and weights of the model, to be loaded as the backend of that name."""
    weights = {key: value.contiguous().cpu() for key, value in model.state_dict().items()}
    return Compiled(name, bundle.model_dump_json().encode(), safetensors.torch.save(weights))


def load_torch(name: str, facts: bytes, weights: bytes, num_threads: int, device: str) -> TorchLogits:
    """Inverse of `compile_torch`.

    Raises:
        UserError: the backend needs a GPU, or `device` is one, and torch sees none.
    """
    assert name != "torch-cuda-bf16" or device != "cpu", "torch-cuda-bf16 is loaded on a GPU"
    if device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"backend {name}: this process sees no GPU; ask for one, or for backend auto on the CPU")
    if num_threads:
        torch.set_num_threads(num_threads)
    model = loaded_model(Bundle.model_validate_json(facts), safetensors.torch.load(weights))
    return TorchLogits(model, device, use_bf16=name.endswith("-bf16"))
