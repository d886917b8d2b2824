"""HTTPS by Serve's own proxy, with a certificate of the hospital's own authority."""

import shutil
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest

from vizecg.platform.predictor import Predictor
from vizecg.serve.client import ApiError, Client
from vizecg.serve.listening import Listening
from vizecg.serve.server import running_application


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, key) of 127.0.0.1, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl is installed")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


def test_pages_are_read_over_https_by_those_who_trust_the_certificate(
    ray_cluster: None, bundle_folder: Path, pages: list[bytes], predictor: Predictor, certificate: tuple[Path, Path]
):
    listening = Listening(port=0, tls_certificate=certificate[0], tls_key=certificate[1])
    with running_application(str(bundle_folder), listening, backend="torch-fp32", num_threads=1) as endpoint:
        assert endpoint.url.startswith("https://")
        with Client(endpoint.url, ca_file=certificate[0]) as client:
            answer = client.predict(pages[0])
        with Client(endpoint.url, max_retries=0) as stranger, pytest.raises(ApiError) as caught:
            stranger.predict(pages[0])
        with pytest.raises(httpx.HTTPError):
            httpx.get(endpoint.url.replace("https", "http") + "/readyz")
    expected = predictor.predict_pages(predictor.prepare(pages[0])[None])[0]
    np.testing.assert_allclose([label.probability for label in answer.labels], expected, atol=1e-5)
    assert caught.value.status is None
