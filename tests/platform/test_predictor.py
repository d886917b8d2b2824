"""A page gives the same probabilities alone, in a batch, by any thread and by any way in."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vizecg.models.batch import EcgBatch
from vizecg.models.registry import build_model
from vizecg.platform.bundle import save_bundle
from vizecg.platform.calibration import LabelCalibration, apply_calibration
from vizecg.platform.config import ModelConfig
from vizecg.platform.data.heart import Recorder
from vizecg.platform.data.page import PageStyle, draw_page, encode_page
from vizecg.platform.data.patients import plan_record
from vizecg.platform.data.practice import draw_signal
from vizecg.platform.data.read_page import PageSpec, Reading, read_page
from vizecg.platform.data.reading.grid import find_grid
from vizecg.platform.errors import PageError, UserError
from vizecg.platform.predictor import Predictor
from vizecg.platform.score.run import score_pages
from vizecg.serve.listening import Listening
from vizecg.serve.server import serve_bundle

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


def paired(pages: np.ndarray) -> EcgBatch:
    """These eight pages with signals of noise."""
    return EcgBatch(
        page=torch.from_numpy(pages),
        signal=torch.from_numpy(np.random.default_rng(1).normal(size=(8, 12, 500)).astype(np.float32)),
        signal_known=torch.ones(8, dtype=torch.bool),
        lead_present=torch.ones(8, 12, dtype=torch.bool),
        valid_samples=torch.full((8,), 500),
        target=torch.zeros(8, 7),
        target_known=torch.ones(8, 7, dtype=torch.bool),
        weight=torch.ones(8),
    )


def test_every_stream_and_the_deployed_one_agree(predictor: Predictor, pages: np.ndarray) -> None:
    streams = predictor.predict_streams(paired(pages))

    assert set(streams) == {"image", "signal", "fused"}
    np.testing.assert_allclose(streams["image"], predictor.predict_pages(pages), rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def calibrated(predictor: Predictor) -> Predictor:
    """The same model, whose image stream is calibrated in every way and whose fused stream in one."""
    kinds = [
        LabelCalibration(kind="platt", slope=2.0, intercept=-3.0),
        LabelCalibration(kind="isotonic", knots=((-4.0, 0.1), (-0.1, 0.4), (0.1, 0.45), (4.0, 0.9))),
        LabelCalibration(),
    ]
    streams = {"image": [kinds[k % 3] for k in range(7)], "fused": [kinds[0]] * 7}
    return Predictor(predictor.bundle.model_copy(update={"calibration": streams}), predictor._model)


def test_every_way_in_gives_calibrated_probabilities(
    predictor: Predictor, calibrated: Predictor, pages: np.ndarray, tmp_path: Path
) -> None:
    batch = paired(pages)
    logits = predictor.predict_logits(batch)

    streams = calibrated.predict_streams(batch)

    assert {stream: values.dtype for stream, values in logits.items()} == dict.fromkeys(streams, np.float32)
    for stream, values in calibrated.predict_logits(batch).items():
        assert np.array_equal(values, logits[stream])
    for stream, values in streams.items():
        by_stream = calibrated.bundle.calibration.get(stream, [])
        assert np.array_equal(values, apply_calibration(logits[stream], by_stream))
    np.testing.assert_allclose(streams["signal"], 1 / (1 + np.exp(-logits["signal"])), rtol=1e-5)
    np.testing.assert_allclose(streams["image"], calibrated.predict_pages(pages), rtol=0, atol=1e-6)
    np.testing.assert_allclose(streams["image"][:, 0], 1 / (1 + np.exp(3 - 2 * logits["image"][:, 0])), rtol=1e-5)
    data = cv2.imencode(".png", pages[0].transpose(1, 2, 0)[:, :, ::-1])[1].tobytes()
    stored = calibrated.predict_pages(calibrated.prepare(data)[None])
    np.testing.assert_allclose(stored[0], streams["image"][0], rtol=0, atol=1e-6)


def test_a_model_of_signals_neither_scores_nor_serves_pages(pages: np.ndarray, make_bundle, tmp_path: Path) -> None:
    facts = make_bundle(tmp_path / "bundle")
    model = ModelConfig(name="resnet1d", size="debug")
    draft = facts.model_copy(update={"model": model, "deployed_stream": "signal"})
    save_bundle(tmp_path / "signal", draft, build_model("resnet1d", "debug", 7).state_dict())
    (tmp_path / "page.png").write_bytes(cv2.imencode(".png", pages[0].transpose(1, 2, 0))[1].tobytes())

    predictor = Predictor.load(tmp_path / "signal")

    assert not predictor.reads_pages
    assert set(predictor.predict_streams(paired(pages))) == {"signal"}
    for attempt in (
        lambda: predictor.predict_pages(pages),
        lambda: Predictor.load(tmp_path / "signal", needs_pages=True),
        lambda: score_pages(tmp_path / "signal", tmp_path / "page.png", tmp_path / "scores"),
        lambda: serve_bundle(str(tmp_path / "signal"), Listening()),
    ):
        with pytest.raises(UserError, match="resnet1d predicts from signals, not from a page alone"):
            attempt()
    assert not (tmp_path / "scores").exists()


def test_a_model_of_pages_reads_them(predictor: Predictor) -> None:
    assert predictor.reads_pages
    predictor.require_pages()


@pytest.fixture(scope="module")
def print_rgb() -> np.ndarray:
    """A page of the practice archive."""
    signal_mv = draw_signal(plan_record(0, 0), Recorder.of(250, 10.0)).T / 1000
    return draw_page(signal_mv, 250, PageStyle(width_px=800, height_px=600))


def test_a_picture_as_bytes_or_path(predictor: Predictor, print_rgb: np.ndarray, tmp_path: Path) -> None:
    data = encode_page(print_rgb)
    (tmp_path / "page.png").write_bytes(data)

    by_bytes, by_path = predictor.predict(data), predictor.predict(tmp_path / "page.png")

    read = predictor.read(data)
    assert np.array_equal(predictor.prepare(data), read.pixels)
    assert by_bytes == by_path == predictor.predict(str(tmp_path / "page.png"))
    assert list(by_bytes) == list(predictor.bundle.label_space.keys)
    np.testing.assert_allclose(list(by_bytes.values()), predictor.predict_pages(read.pixels[None])[0], atol=1e-7)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_picture_is_read_the_right_way_up(predictor: Predictor, print_rgb: np.ndarray, quarters: int) -> None:
    upright, turned = (encode_page(np.ascontiguousarray(np.rot90(print_rgb, turn))) for turn in (0, quarters))
    read = predictor.read(turned)
    assert read.finding is not None and read.finding.turned_deg == 90 * quarters
    np.testing.assert_array_equal(read.pixels, predictor.prepare(upright))
    assert predictor.read(turned, Reading(upright=False)).pixels.shape == read.pixels.shape


def test_a_picture_of_something_else_is_refused_unless_asked_for(predictor: Predictor, pages: np.ndarray) -> None:
    data = encode_page(cv2.resize(pages[0].transpose(1, 2, 0), (640, 480)).astype(np.uint8))
    with pytest.raises(PageError, match="does not look like a page") as caught:
        predictor.predict(data)
    assert caught.value.reason == "not_an_ecg"
    assert predictor.read(data, Reading(check=False)).pixels.shape == pages[0].shape


def test_a_leaning_picture_is_rectified_where_asked(predictor: Predictor, print_rgb: np.ndarray) -> None:
    height_px, width_px = print_rgb.shape[:2]
    lean = cv2.getRotationMatrix2D((width_px / 2, height_px / 2), 4.0, 0.9)
    leaning = encode_page(cv2.warpAffine(print_rgb, lean, (width_px, height_px), borderValue=(90, 70, 50)))
    left, done = (
        read_page(leaning, PageSpec(width_px=800, height_px=600), Reading(rectify=rectify)) for rectify in (False, True)
    )
    assert left.note is None and done.note
    angles_deg = [find_grid(np.ascontiguousarray(read.pixels.transpose(1, 2, 0))).angle_deg for read in (left, done)]
    assert abs(angles_deg[0]) > 3.5 and abs(angles_deg[1]) < 0.2
    assert predictor.read(leaning, Reading(rectify=True)).note == done.note


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
