"""The fastest backend that says what torch in fp32 says.

Shapes: B pages, K labels, H x W pixels.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..bundle import load_bundle
from ..bundle_facts import Bundle
from ..calibration import apply_calibration
from ..errors import UserError
from .compiled import REFERENCE, Compiled, Logits
from .names import FASTEST_FIRST, check_backend, listed
from .openvino_backend import convert, has_bf16
from .probe import probe_pages
from .torch_backend import TorchLogits, compile_torch, require_pages

MOST_APART = 2e-2
"""In calibrated probability; what a bundle promises across backends."""
_SEEN_APART = MOST_APART / 1.5
"""What `auto` accepts on the probe pages: of trained bundles, the worst of 1024 pages was 1.0 to 1.6 times theirs."""


def compile_bundle(folder: Path | str, backend: str = "auto", device: str = "cpu") -> Compiled:
    """The bundle in `folder` for the backend of that name, or for the fastest that agrees with torch-fp32.

    Raises:
        UserError: no bundle there, a damaged one, one whose model does not read pages alone, or a backend that is
            unknown, does not work here or disagrees.
    """
    bundle, model = load_bundle(folder)
    require_pages(bundle, model, folder)
    return compile_model(bundle, model, backend, device)


def compile_model(bundle: Bundle, model: nn.Module, backend: str = "auto", device: str = "cpu") -> Compiled:
    """The same for a bundle in memory; the model stays as it is."""
    kind = device.partition(":")[0]
    check_backend(backend, kind)
    choice = _Choice(bundle, model, device)
    names, allowed = (FASTEST_FIRST[kind], _SEEN_APART) if backend == "auto" else ((backend,), MOST_APART)
    refused: list[str] = []
    for name in names:
        try:
            compiled = choice.compiled(name)
            note = choice.judge(compiled, allowed)
        except Exception as error:  # A converter fails with whatever it likes; the reason is kept.
            refused.append(f"{name} was refused: {' '.join(str(error).split())}")
        else:
            return replace(compiled, note="; ".join([note, *refused]))
    raise UserError(f"backend {'; '.join(refused)}; there are {listed(kind)}")


class _Choice:
    """What one model can be compiled to; what several backends need is made once."""

    def __init__(self, bundle: Bundle, model: nn.Module, device: str):
        self._bundle, self._model, self._device = bundle, model, device

    def compiled(self, name: str) -> Compiled:
        """Raises whatever the backend's own tools raise."""
        if name == "openvino-bf16" and not has_bf16():
            raise RuntimeError("this CPU does not compute in bf16")
        if name.startswith("openvino-"):
            return Compiled(name, *self._graph)
        return compile_torch(name, self._bundle, self._model)

    def judge(self, compiled: Compiled, allowed: float) -> str:
        """How near it comes to the reference, in words; RuntimeError where that is not near enough."""
        if compiled.name == REFERENCE:
            return "this is the reference itself"
        if self._device != "cpu" and not torch.cuda.is_available():
            return f"not compared with {REFERENCE}: there is no GPU where the run was started"
        apart = float(np.abs(self._probabilities(compiled.load(device=self._device)) - self._expected).max())
        said = f"up to {apart:.2g} from {REFERENCE} in probability, on {len(self._pages)} practice pages"
        # Written so that what is no number is not near either.
        if not apart <= allowed:
            raise RuntimeError(f"{said}, where {allowed:.2g} is allowed")
        return said

    @cached_property
    def _graph(self) -> tuple[bytes, bytes]:
        return convert(self._model, self._bundle.page)

    @cached_property
    def _pages(self) -> NDArray[np.uint8]:
        return probe_pages(self._bundle.page)

    @cached_property
    def _expected(self) -> NDArray[np.float32]:
        return self._probabilities(TorchLogits(self._model))

    def _probabilities(self, logits: Logits) -> NDArray[np.float32]:
        return apply_calibration(logits(self._pages), self._bundle.deployed_calibration)
