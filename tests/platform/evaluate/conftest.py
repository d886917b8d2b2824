"""What tests of evaluation share: predictions made to order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vizecg.platform.evaluate.predict import Predictions


@pytest.fixture(scope="session")
def make_predictions() -> Callable[..., Predictions]:
    """Predictions from arrays (N, K); who is not described is a patient of his own of whom nothing is known."""

    def make(probability: dict[str, np.ndarray], target: np.ndarray, known: np.ndarray, **traits: Any) -> Predictions:
        count = len(target)
        inside = {name: np.clip(values, 1e-6, 1 - 1e-6) for name, values in probability.items()}
        parts: dict[str, Any] = {
            "record_id": [f"r{n}" for n in range(count)],
            "probability": {name: values.astype(np.float32) for name, values in probability.items()},
            "logits": {name: np.log(p / (1 - p)).astype(np.float32) for name, p in inside.items()},
            "target": target.astype(np.float32),
            "known": known.astype(bool),
            "signal_known": np.ones(count, bool),
            "patients": np.arange(count),
            "age": np.full(count, np.nan, np.float32),
            "sex": [None] * count,
            "source": ["practice"] * count,
            "page_layout": ["3x4+1"] * count,
        }
        return Predictions(**(parts | traits))

    return make
