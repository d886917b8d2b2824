"""One predictor for evaluation, scoring and serving, so that a page gives the same probabilities everywhere.

Shapes: B pages, K labels, H x W pixels.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..models.batch import EcgBatch
from .bundle import Bundle, load_bundle
from .calibration import apply_calibration
from .data.read_page import Reading, ReadPage, prepare, read_page
from .errors import UserError


class Predictor:
    """A bundle ready to predict. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, model: nn.Module, device: str = "cpu"):
        self.bundle = bundle
        self.device = device
        self._model = model.to(device).eval()

    @classmethod
    def load(
        cls, folder: Path | str, num_threads: int = 0, device: str = "cpu", *, needs_pages: bool = False
    ) -> "Predictor":
        """The predictor of the bundle in `folder`; `num_threads` of torch, 0 leaves them as they are.

        Raises:
            UserError: no bundle there, a damaged one, or with `needs_pages` one whose model does not read pages alone.
        """
        if num_threads:
            torch.set_num_threads(num_threads)
        predictor = cls(*load_bundle(folder), device=device)
        if needs_pages:
            predictor.require_pages(folder)
        return predictor

    @property
    def model(self) -> nn.Module:
        """In evaluation mode, on `device`; for explanations, which look inside."""
        return self._model

    @property
    def reads_pages(self) -> bool:
        """Whether a page alone is enough for the deployed stream; models that compare with VizECGNet may need more."""
        return hasattr(self._model, "forward_deployed")

    def require_pages(self, place: Path | str = "this bundle") -> None:
        """UserError where the model cannot predict from a page alone."""
        if not self.reads_pages:
            raise UserError(
                f"{place}: {self.bundle.model.name} predicts from signals, not from a page alone, so it can only be "
                "evaluated on shards; scoring and serving need a model that reads pages, such as vizecgnet"
            )

    def prepare(self, data: bytes) -> np.ndarray:
        """A page of shards, upright as they all are -> uint8 RGB (3, H, W) as the model sees it."""
        return prepare(data, self.bundle.page)

    def read(self, data: bytes, reading: Reading | None = None, *, page: int = 0) -> ReadPage:
        """A picture from outside as the model sees it, set upright; PageError where it is none of an ECG."""
        return read_page(data, self.bundle.page, reading or Reading(), page=page)

    def predict_pages(self, pages: np.ndarray) -> np.ndarray:
        """uint8 RGB (B, 3, H, W) -> calibrated probabilities float32 (B, K).

        Raises:
            UserError: the model needs more than a page.
        """
        self.require_pages()
        with torch.inference_mode():
            logits = self._model.forward_deployed(torch.from_numpy(pages).to(self.device))  # pyrefly: ignore[not-callable]
        return self.calibrated({self.bundle.deployed_stream: _as_numpy(logits)})[self.bundle.deployed_stream]

    def predict_logits(self, batch: EcgBatch) -> dict[str, np.ndarray]:
        """Paired records -> logits float32 (B, K) by stream, as the model gives them."""
        with torch.inference_mode():
            return {stream: _as_numpy(values) for stream, values in self._model(batch.to(self.device)).logits.items()}

    def calibrated(self, logits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Logits (B, K) by stream -> calibrated probabilities float32 (B, K) by stream."""
        return {stream: apply_calibration(z, self.bundle.calibration.get(stream, [])) for stream, z in logits.items()}

    def predict_streams(self, batch: EcgBatch) -> dict[str, np.ndarray]:
        """Paired records -> calibrated probabilities (B, K) by stream; the deployed stream's are `predict_pages`'."""
        return self.calibrated(self.predict_logits(batch))

    def predict(self, image: bytes | str | Path) -> dict[str, float]:
        """Probability by label key for one picture, given as bytes or path; PageError where it shows no ECG."""
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        (probabilities,) = self.predict_pages(self.read(data).pixels[None])
        return {label.key: float(p) for label, p in zip(self.bundle.label_space.labels, probabilities, strict=True)}


def _as_numpy(logits: torch.Tensor) -> np.ndarray:
    return logits.float().cpu().numpy()
