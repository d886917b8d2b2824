"""Our predictor behind LitServe, as its guide has it: serving_peers.py starts this."""

import os
from typing import Annotated, Any

import litserve  # pyrefly: ignore[missing-import]
import numpy as np
from fastapi import Depends, HTTPException, Request

from vizecg.benchmarks.serving_peers import READING, load_predictor
from vizecg.platform.errors import PageError


async def body(request: Request) -> bytes:
    return await request.body()


class Pages(litserve.LitAPI):
    """A worker: decodes what waits, one after the other, and predicts it at once."""

    def setup(self, device: str) -> None:
        self.predictor = load_predictor()
        self.keys = [label.key for label in self.predictor.bundle.label_space.labels]

    def decode_request(self, request: Annotated[bytes, Depends(body)]) -> np.ndarray:
        try:
            return self.predictor.read(request, READING).pixels
        except PageError as error:
            raise HTTPException(422, str(error)) from None

    def predict(self, pages: np.ndarray) -> np.ndarray:
        return self.predictor.predict_pages(pages if pages.ndim == 4 else pages[None])

    def encode_response(self, probabilities: np.ndarray) -> dict[str, Any]:
        return dict(zip(self.keys, np.ravel(probabilities).tolist(), strict=True))


if __name__ == "__main__":
    api = Pages(max_batch_size=int(os.environ["PEER_BATCH"]), batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["PEER_WORKERS"]), timeout=60)
    server.run(host="127.0.0.1", port=int(os.environ["PEER_PORT"]), generate_client_file=False, log_level="warning")
