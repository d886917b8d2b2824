"""The endpoint as `vizecg serve --haproxy --keys --grpc-port` starts it, in a Ray of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

from vizecg.platform.predictor import Predictor
from vizecg.serve.client import ApiError, Client
from vizecg.serve.grpc import vizecg_pb2, vizecg_pb2_grpc
from vizecg.serve.keys import add_key

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def served(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """URL, address of gRPC, key."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    key = add_key(keys, "test")
    command = [
        sys.executable, "-m", "vizecg.platform.cli", "serve", str(bundle_folder), "--port", "0", "--haproxy",
        "--keys", str(keys), "--grpc-port", "0",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(7)]
        (url,) = re.findall(r"page +(http://\S+)/", "".join(lines))
        (address,) = re.findall(r"gRPC +(\S+),", "".join(lines))
        yield url, address, key
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(120) == 0


def expected(predictor: Predictor, page: bytes) -> np.ndarray:
    return predictor.predict_pages(predictor.read(page).pixels[None])[0]


def test_the_client_gets_the_predictors_numbers(served: tuple[str, str, str], pages: list[bytes], predictor: Predictor):
    url, _, key = served
    with Client(url, api_key=key) as client:
        for (_, answer), page in zip(client.predict_many(pages), pages, strict=True):
            assert not isinstance(answer, ApiError)
            found = [label.probability for label in answer.labels]
            np.testing.assert_allclose(found, expected(predictor, page), atol=2e-2)
        assert [model.name for model in client.models()] == ["default"]


def test_grpc_gets_them_too(served: tuple[str, str, str], pages: list[bytes], predictor: Predictor):
    _, address, key = served
    with grpc.insecure_channel(address) as channel:
        stub, metadata = vizecg_pb2_grpc.VizECGStub(channel), [("x-api-key", key)]
        answer = stub.Predict(vizecg_pb2.PredictRequest(image=pages[0]), metadata=metadata)
        found = [label.probability for label in answer.labels]
        np.testing.assert_allclose(found, expected(predictor, pages[0]), atol=2e-2)
        items = list(stub.PredictBatch((vizecg_pb2.PredictRequest(image=p) for p in pages), metadata=metadata))
        assert [(item.index, item.status) for item in items] == [(n, 200) for n in range(len(pages))]
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(vizecg_pb2.PredictRequest(image=pages[0]))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED  # pyrefly: ignore[missing-attribute]


@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
def test_nothing_is_told_without_a_key(served: tuple[str, str, str], path: str):
    url, _, key = served
    forged = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"}
    for headers in ({}, forged, {"X-API-Key": key[:-1]}, {"Authorization": f"Basic {key}"}):
        assert httpx.get(f"{url}{path}", headers=headers).status_code == 401
    assert httpx.get(f"{url}{path}", headers={"X-API-Key": key}).status_code == 200
