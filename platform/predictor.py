"""One predictor for evaluation, scoring and serving, so that a page gives the same probabilities everywhere.

Importing it imports no torch: workers that predict by other means start without (backends/).

Shapes: B pages, K labels, H x W pixels.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .backends.compiled import REFERENCE, Compiled, Logits
from .bundle_facts import Bundle
from .calibration import apply_calibration
from .data.read_page import Reading, ReadPage, prepare, read_page

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..models.batch import EcgBatch


class PagePredictor:
    """Facts of a bundle, and what computes the logits of its deployed stream. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, logits: Logits, backend: str = REFERENCE):
        self.bundle = bundle
        self.backend = backend
        self._logits = logits

    @staticmethod
    def of(bundle_json: str, compiled: Compiled, *, num_threads: int = 0, device: str = "cpu") -> "PagePredictor":
        """In a worker: from what the driver sent, which has checked it.

        Raises:
            UserError: the backend needs a GPU and this process has none.
        """
        bundle = Bundle.model_validate_json(bundle_json)
        return PagePredictor(bundle, compiled.load(num_threads, device), compiled.name)

    def prepare(self, data: bytes) -> np.ndarray:
        """A page of shards, upright as they all are -> uint8 RGB (3, H, W) as the model sees it."""
        return prepare(data, self.bundle.page)

    def read(self, data: bytes, reading: Reading | None = None, *, page: int = 0) -> ReadPage:
        """A picture from outside as the model sees it, set upright; PageError where it is none of an ECG."""
        return read_page(data, self.bundle.page, reading or Reading(), page=page)

    def predict_pages(self, pages: np.ndarray) -> np.ndarray:
        """uint8 RGB (B, 3, H, W) -> calibrated probabilities float32 (B, K)."""
        return apply_calibration(self._logits(pages), self.bundle.deployed_calibration)

    def predict(self, image: bytes | str | Path) -> dict[str, float]:
        """Probability by label key for one picture, given as bytes or path; PageError where it shows no ECG."""
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        (probabilities,) = self.predict_pages(self.read(data).pixels[None])
        return {label.key: float(p) for label, p in zip(self.bundle.label_space.labels, probabilities, strict=True)}


class Predictor(PagePredictor):
    """A bundle with its torch model, which also gives the streams of training and looks inside for explanations."""

    def __init__(
        self, bundle: Bundle, model: "nn.Module", device: str = "cpu",
        logits: Logits | None = None, backend: str = REFERENCE,
    ):  # fmt: skip
        """`logits` predicts pages in place of the model itself."""
        from .backends.torch_backend import TorchLogits

        of_model = TorchLogits(model, device)
        super().__init__(bundle, logits or of_model, backend)
        self.device = device
        self._model = model

    @classmethod
    def load(
        cls, folder: Path | str, num_threads: int = 0, device: str = "cpu", *,
        needs_pages: bool = False, backend: str = REFERENCE,
    ) -> "Predictor":  # fmt: skip
        """The predictor of the bundle in `folder`; `num_threads` of torch, 0 leaves them as they are.

        Args:
            backend: what predicts pages (backends/choose.py), `auto` for the fastest that agrees with torch-fp32.

        Raises:
            UserError: no bundle there, a damaged one, with `needs_pages` one whose model does not read pages alone, or
                a backend that is unknown, does not work here or disagrees.
        """
        import torch

        from .backends.choose import compile_model
        from .backends.torch_backend import require_pages
        from .bundle import load_bundle

        if num_threads:
            torch.set_num_threads(num_threads)
        bundle, model = load_bundle(folder)
        if needs_pages or backend != REFERENCE:
            require_pages(bundle, model, folder)
        if backend == REFERENCE:
            return cls(bundle, model, device)
        compiled = compile_model(bundle, model, backend, device)
        return cls(bundle, model, device, compiled.load(num_threads, device), compiled.name)

    @property
    def model(self) -> "nn.Module":
        """In evaluation mode, on `device`; for explanations, which look inside."""
        return self._model

    @property
    def reads_pages(self) -> bool:
        """Whether a page alone is enough for the deployed stream; models that compare with VizECGNet may need more."""
        return hasattr(self._model, "forward_deployed")

    def require_pages(self, place: Path | str = "this bundle") -> None:
        """UserError where the model cannot predict from a page alone."""
        from .backends.torch_backend import require_pages

        require_pages(self.bundle, self._model, place)

    def predict_pages(self, pages: np.ndarray) -> np.ndarray:
        """uint8 RGB (B, 3, H, W) -> calibrated probabilities float32 (B, K).

        Raises:
            UserError: the model needs more than a page.
        """
        self.require_pages()
        return super().predict_pages(pages)

    def predict_logits(self, batch: "EcgBatch") -> dict[str, np.ndarray]:
        """Paired records -> logits float32 (B, K) by stream, as the model gives them."""
        import torch

        with torch.inference_mode():
            return {stream: _as_numpy(values) for stream, values in self._model(batch.to(self.device)).logits.items()}

    def calibrated(self, logits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Logits (B, K) by stream -> calibrated probabilities float32 (B, K) by stream."""
        return {stream: apply_calibration(z, self.bundle.calibration.get(stream, [])) for stream, z in logits.items()}

    def predict_streams(self, batch: "EcgBatch") -> dict[str, np.ndarray]:
        """Paired records -> calibrated probabilities (B, K) by stream; the deployed stream's are `predict_pages`'."""
        return self.calibrated(self.predict_logits(batch))


def _as_numpy(logits: "Tensor") -> np.ndarray:
    return logits.float().cpu().numpy()
