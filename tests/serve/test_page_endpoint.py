"""The web page on the real endpoint: what a doctor sees is what the predictor says."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from vizecg.platform.predictor import Predictor

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: it is in the dev extra")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed (on Debian: apt install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def test_the_page_shows_the_predictors_numbers(endpoint: str, browser: Any, pages: list[bytes], predictor: Predictor):
    page = browser.new_page()
    page.set_default_timeout(30_000)
    page.goto(endpoint)
    page.set_input_files("#file", {"name": "page.png", "mimeType": "image/png", "buffer": pages[0]})
    sync_api.expect(page.locator("#result")).to_be_visible(timeout=30_000)
    names = page.locator("#labels .name").all_inner_texts()
    shares = [line.split("\n")[2] for line in page.locator("#labels .label").all_inner_texts()]
    probability = predictor.predict_pages(predictor.prepare(pages[0])[None])[0]
    labels = predictor.bundle.label_space.labels
    expected = {label.name: float(p) for label, p in zip(labels, probability, strict=True)}
    assert sorted(names) == sorted(expected)
    for name, share in zip(names, shares, strict=True):
        assert abs(100 * expected[name] - float(share.rstrip(" %").lstrip("<>≤≥ "))) <= 1.0, (name, share)
    page.locator("#labels .label").first.click()
    page.wait_for_function("document.getElementById('picture').complete")
    sync_api.expect(page.locator("#picture")).to_be_visible()
