"""A page gives the same probabilities alone, in a batch, by any thread and by any way in."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vizecg.models.batch import EcgBatch
from vizecg.platform.errors import PageError, UserError
from vizecg.platform.predictor import Predictor

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def predictor(make_bundle, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("predictor") / "bundle"
    make_bundle(folder)
    return Predictor.load(folder)


@pytest.fixture(scope="module")
def pages() -> np.ndarray:
    """uint8 (8, 3, 96, 128), smooth enough to survive as different pages."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 12, 16, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (128, 96)).transpose(2, 0, 1) for image in coarse])


def test_a_batch_is_its_pages(predictor: Predictor, pages: np.ndarray) -> None:
    whole = predictor.predict_pages(pages)

    assert whole.shape == (8, 7)
    assert whole.dtype == np.float32
    assert ((whole > 0) & (whole < 1)).all()
    assert np.ptp(whole, axis=0).min() > 1e-4
    for size in (1, 3):
        parts = [predictor.predict_pages(pages[start : start + size]) for start in range(0, 8, size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-6)


def test_eight_threads_at_once(predictor: Predictor, pages: np.ndarray) -> None:
    expected = [predictor.predict_pages(page[None]) for page in pages]

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(predictor.predict_pages, [page[None] for page in pages] * 8))

    for n, answer in enumerate(got):
        np.testing.assert_allclose(answer, expected[n % 8], rtol=0, atol=1e-6)


def test_every_stream_and_the_deployed_one_agree(predictor: Predictor, pages: np.ndarray) -> None:
    batch = EcgBatch(
        page=torch.from_numpy(pages),
        signal=torch.randn(8, 12, 500),
        signal_known=torch.ones(8, dtype=torch.bool),
        lead_present=torch.ones(8, 12, dtype=torch.bool),
        valid_samples=torch.full((8,), 500),
        target=torch.zeros(8, 7),
        target_known=torch.ones(8, 7, dtype=torch.bool),
        weight=torch.ones(8),
    )

    streams = predictor.predict_streams(batch)

    assert set(streams) == {"image", "signal", "fused"}
    np.testing.assert_allclose(streams["image"], predictor.predict_pages(pages), rtol=0, atol=1e-6)


def test_a_picture_as_bytes_or_path(predictor: Predictor, pages: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "page.png").write_bytes(cv2.imencode(".png", pages[0].transpose(1, 2, 0)[:, :, ::-1])[1].tobytes())
    data = (tmp_path / "page.png").read_bytes()

    by_bytes, by_path = predictor.predict(data), predictor.predict(tmp_path / "page.png")

    assert np.array_equal(predictor.prepare(data), pages[0])
    assert by_bytes == by_path == predictor.predict(str(tmp_path / "page.png"))
    assert list(by_bytes) == list(predictor.bundle.label_space.keys)
    np.testing.assert_allclose(list(by_bytes.values()), predictor.predict_pages(pages[:1])[0], rtol=0, atol=1e-7)


def test_what_is_no_picture(predictor: Predictor) -> None:
    with pytest.raises(PageError):
        predictor.predict(b"no picture")


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model bundle here"):
        Predictor.load(tmp_path)


def test_threads_are_set_on_demand(make_bundle, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    before = torch.get_num_threads()

    try:
        Predictor.load(tmp_path / "bundle", num_threads=before + 1)
        assert torch.get_num_threads() == before + 1
        Predictor.load(tmp_path / "bundle")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
