"""One endpoint for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from vizecg.serve.server import running_endpoint

MAX_BODY_BYTES = 2 << 20


@pytest.fixture(scope="module")
def endpoint(ray_cluster: None, bundle_folder: Path) -> Iterator[str]:
    with running_endpoint(str(bundle_folder), max_body_bytes=MAX_BODY_BYTES) as url:
        yield url


@pytest.fixture
def client(endpoint: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=endpoint, timeout=30) as client:
        yield client
