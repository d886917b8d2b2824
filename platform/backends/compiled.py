"""A bundle's deployed stream as plain bytes: made once by choose.py, sent to workers, loaded where it predicts.

Imports neither torch nor timm: a worker that predicts by OpenVINO starts in a second instead of five.

Shapes: B pages, K labels, H x W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

REFERENCE = "torch-fp32"
"""What thresholds were chosen on, and what every other backend is compared with."""
PAGES_AT_ONCE = 8
"""On a CPU: no backend gets faster with more (0 to 20 % slower, measured at 512 x 384), and memory grows with them."""

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 RGB (B, 3, H, W) -> float32 (B, K); any number of threads may call it at once."""


@dataclass(frozen=True)
class Compiled:
    """Bytes and words, so that it pickles and travels."""

    name: str
    """Of the backend, such as `openvino-bf16`."""
    program: bytes = field(repr=False)
    """OpenVINO: the graph as XML. torch: bundle.json."""
    weights: bytes = field(repr=False)
    """OpenVINO: its own layout. torch: safetensors."""
    note: str = ""
    """One sentence: how near it comes to the reference, and why faster ones were refused."""

    def load(self, num_threads: int = 0, device: str = "cpu") -> Logits:
        """Ready to compute on `num_threads` threads; 0 leaves them to the library.

        Raises:
            UserError: it needs a GPU and this process has none.
        """
        if self.name.startswith("openvino-"):
            from .openvino_backend import OpenVinoLogits

            return OpenVinoLogits(self.program, self.weights, self.name.removeprefix("openvino-"), num_threads)
        from .torch_backend import load_torch

        return load_torch(self.name, self.program, self.weights, num_threads, device)
