"""OpenVINO on the CPU: twice the pages a second of torch on one core, and no torch in the workers.

Shapes: B pages, K labels, H x W pixels.
"""

import sys
import threading
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.read_page import PageSpec
from .compiled import PAGES_AT_ONCE

if TYPE_CHECKING:
    from torch import nn


def import_openvino() -> Any:
    """OpenVINO, which reports every import and conversion to Google Analytics unless its telemetry cannot be imported.

    Its documented way out, `opt_in_out --opt_out`, writes into the home of whoever runs it, on every node. Without the
    package it takes a stub instead (openvino/tools/ovc/telemetry_stub.py).
    """
    sys.modules.setdefault("openvino_telemetry", None)  # pyrefly: ignore[no-matching-overload]
    import openvino

    return openvino


def has_bf16() -> bool:
    """Whether this CPU computes in bf16; on others it would be emulated."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def convert(model: "nn.Module", page: PageSpec) -> tuple[bytes, bytes]:
    """Graph and weights of the model's `forward_deployed`, for any number of pages of this size, in fp32."""
    import torch

    from .torch_backend import Deployed

    openvino = import_openvino()
    # Traced with a single page: it is computed several times on the way.
    example = torch.full((1, 3, page.height_px, page.width_px), 255, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings(), TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        shape = openvino.PartialShape([-1, *example.shape[1:]])
        graph = openvino.convert_model(Deployed(model), example_input=example, input=[shape])
        openvino.save_model(graph, Path(folder) / "graph.xml", compress_to_fp16=False)
        return (Path(folder) / "graph.xml").read_bytes(), (Path(folder) / "graph.bin").read_bytes()


class OpenVinoLogits:
    """uint8 RGB (B, 3, H, W) -> logits float32 (B, K), on threads of its own."""

    def __init__(self, graph: bytes, weights: bytes, precision: str, num_threads: int = 0):
        """`precision` is f32 or bf16; `num_threads` 0 takes all cores."""
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            # It would bind its threads to the first cores, in every process to the same ones: two workers of one
            # thread each on two cores gave 7.6 pages/s each, unbound 15.1.
            "ENABLE_CPU_PINNING": False,
        }
        if num_threads:
            settings["INFERENCE_NUM_THREADS"] = num_threads
        self.precision = precision
        core = import_openvino().Core()
        self._model = core.compile_model(core.read_model(graph, weights), "CPU", settings)
        self._of_thread = threading.local()

    def __call__(self, pages: NDArray[np.uint8]) -> NDArray[np.float32]:
        request = self._request()
        starts = range(0, len(pages), PAGES_AT_ONCE)
        return np.concatenate([request.infer([pages[start : start + PAGES_AT_ONCE]])[0] for start in starts])

    def _request(self) -> Any:
        # A request holds the tensors of one call; the compiled model is shared.
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._model.create_infer_request()
        return self._of_thread.request
