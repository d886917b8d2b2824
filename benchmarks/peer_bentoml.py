"""Our predictor behind BentoML, as its guide has it for adaptive batches: serving_peers.py starts this.

One service takes the pictures and decodes them on threads, another one predicts what waits.
"""

import os
from pathlib import Path
from typing import Annotated

import bentoml  # pyrefly: ignore[missing-import]
import numpy as np
from bentoml.validators import ContentType  # pyrefly: ignore[missing-import]

from vizecg.benchmarks.serving_peers import READING, load_predictor
from vizecg.platform.errors import PageError

WORKERS, BATCH = int(os.environ.get("PEER_WORKERS", "1")), int(os.environ.get("PEER_BATCH", "8"))


@bentoml.service(workers=WORKERS, traffic={"timeout": 60})
class Classifier:
    """Predicts what waits at once."""

    def __init__(self) -> None:
        self.predictor = load_predictor()

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)
    def predict(self, pages: np.ndarray) -> np.ndarray:
        return self.predictor.predict_pages(pages)


@bentoml.service(workers=1, threads=2, traffic={"timeout": 60})
class Pages:
    """Checks and decodes."""

    classifier = bentoml.depends(Classifier)

    def __init__(self) -> None:
        self.predictor = load_predictor()
        self.keys = [label.key for label in self.predictor.bundle.label_space.labels]

    @bentoml.api(route="/predict")
    def predict(self, picture: Annotated[Path, ContentType("image/*")], /) -> dict[str, float]:
        try:
            page = self.predictor.read(picture.read_bytes(), READING).pixels
        except PageError as error:
            raise bentoml.exceptions.InvalidArgument(str(error)) from None
        (probabilities,) = self.classifier.predict(page[None])
        return dict(zip(self.keys, probabilities.tolist(), strict=True))


if __name__ == "__main__":
    bentoml.serve(f"{Path(__file__).stem}:Pages", working_dir=str(Path(__file__).parent), host="127.0.0.1",
                  port=int(os.environ["PEER_PORT"]), blocking=True)  # fmt: skip
