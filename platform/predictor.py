"""One predictor for evaluation, scoring and serving, so that a page gives the same probabilities everywhere.

Shapes: B pages, K labels, H x W pixels.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..models.batch import EcgBatch
from .bundle import Bundle, load_bundle
from .data.read_page import prepare


class Predictor:
    """A bundle ready to predict. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, model: nn.Module, device: str = "cpu"):
        self.bundle = bundle
        self.device = device
        self._model = model.to(device).eval()

    @classmethod
    def load(cls, folder: Path | str, num_threads: int = 0, device: str = "cpu") -> "Predictor":
        """The predictor of the bundle in `folder`; `num_threads` of torch, 0 leaves them as they are.

        Raises:
            UserError: no bundle there, or a damaged one.
        """
        if num_threads:
            torch.set_num_threads(num_threads)
        return cls(*load_bundle(folder), device=device)

    def prepare(self, data: bytes) -> np.ndarray:
        """An encoded image -> uint8 RGB (3, H, W) as the model sees it; PageError where it is none."""
        return prepare(data, self.bundle.page)

    def predict_pages(self, pages: np.ndarray) -> np.ndarray:
        """uint8 RGB (B, 3, H, W) -> probabilities float32 (B, K)."""
        with torch.inference_mode():
            logits = self._model.forward_deployed(torch.from_numpy(pages).to(self.device))  # pyrefly: ignore[not-callable]
            return torch.sigmoid(logits.float()).cpu().numpy()

    def predict_streams(self, batch: EcgBatch) -> dict[str, np.ndarray]:
        """Paired records -> probabilities (B, K) by stream; the deployed stream's are those of `predict_pages`."""
        with torch.inference_mode():
            logits = self._model(batch.to(self.device)).logits
            return {stream: torch.sigmoid(values.float()).cpu().numpy() for stream, values in logits.items()}

    def predict(self, image: bytes | str | Path) -> dict[str, float]:
        """Probability by label key for one picture, given as bytes or path."""
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        (probabilities,) = self.predict_pages(self.prepare(data)[None])
        return {label.key: float(p) for label, p in zip(self.bundle.label_space.labels, probabilities, strict=True)}
