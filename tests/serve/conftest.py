"""One endpoint for all tests of this folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from vizecg.serve.server import running_endpoint

MAX_BODY_BYTES = 2 << 20
MAX_BATCH_PAGES = 8


@pytest.fixture(scope="module")
def endpoint(ray_cluster: None, bundle_folder: Path) -> Iterator[str]:
    limits = {"max_body_bytes": MAX_BODY_BYTES, "max_batch_pages": MAX_BATCH_PAGES}
    # The reference, so that answers can be compared to the last digits.
    with running_endpoint(str(bundle_folder), backend="torch-fp32", num_threads=1, **limits) as url:
        yield url


@pytest.fixture
def client(endpoint: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=endpoint, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Of the module: while Playwright runs, this thread has an event loop, and tests of other modules make their own.
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: it is in the dev extra")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed (on Debian: apt install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
