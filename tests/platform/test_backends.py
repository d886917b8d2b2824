"""Every backend says what torch in fp32 says, whatever the batch and the thread; the fastest such one is chosen."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from vizecg.models.registry import MODELS, build_model
from vizecg.platform.backends import choose
from vizecg.platform.backends.choose import compile_bundle, compile_model
from vizecg.platform.backends.compiled import PAGES_AT_ONCE, Compiled
from vizecg.platform.backends.names import BACKENDS, FASTEST_FIRST
from vizecg.platform.backends.openvino_backend import OpenVinoLogits, has_bf16
from vizecg.platform.backends.probe import probe_pages
from vizecg.platform.backends.torch_backend import TorchLogits
from vizecg.platform.bundle import Bundle, save_bundle
from vizecg.platform.calibration import LabelCalibration
from vizecg.platform.config import ModelConfig
from vizecg.platform.data.read_page import PageSpec
from vizecg.platform.errors import UserError
from vizecg.platform.predictor import PagePredictor, Predictor

pytestmark = pytest.mark.usefixtures("one_thread")

HERE = [name for name in BACKENDS["cpu"] if name != "openvino-bf16" or has_bf16()]
FASTEST = FASTEST_FIRST["cpu"][0 if has_bf16() else 1]
SMALL = PageSpec(width_px=128, height_px=96)


@pytest.fixture(scope="module")
def folder(make_bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of random weights, calibrated so that probabilities differ from page to page."""
    folder = tmp_path_factory.mktemp("backends") / "bundle"
    bundle = make_bundle(folder)
    plain = Predictor.load(folder)
    logits = TorchLogits(plain.model)(probe_pages(bundle.page))
    ranges = [(0.5 / float(np.ptp(z)), float(z.mean())) for z in logits.T]
    spread = [LabelCalibration(kind="platt", slope=slope, intercept=-slope * mean) for slope, mean in ranges]
    draft = bundle.model_copy(update={"calibration": {"image": spread}})
    save_bundle(folder, draft, plain.model.state_dict())
    return folder


@pytest.fixture(scope="module")
def pages() -> np.ndarray:
    """uint8 (20, 3, 96, 128): more than are computed at once, and not twice as many."""
    return probe_pages(SMALL)[:20]


@pytest.fixture(scope="module")
def reference(folder: Path, pages: np.ndarray) -> np.ndarray:
    return Predictor.load(folder).predict_pages(pages)


@pytest.fixture(scope="module", params=HERE)
def compiled(folder: Path, request: pytest.FixtureRequest) -> Compiled:
    return compile_bundle(folder, request.param)


@pytest.fixture(scope="module")
def predictor(compiled: Compiled, folder: Path) -> PagePredictor:
    return PagePredictor.of((folder / "bundle.json").read_text(), compiled, num_threads=1)


def test_agrees_with_the_reference(predictor: PagePredictor, pages: np.ndarray, reference: np.ndarray) -> None:
    probabilities = predictor.predict_pages(pages)

    assert probabilities.shape == (20, 7) and probabilities.dtype == np.float32
    assert np.ptp(reference, axis=0).min() > 0.05
    allowed = 2e-2 if predictor.backend.endswith("bf16") else 1e-5
    np.testing.assert_allclose(probabilities, reference, rtol=0, atol=allowed)


def test_a_page_is_the_same_in_any_batch(predictor: PagePredictor, pages: np.ndarray) -> None:
    assert PAGES_AT_ONCE < len(pages) < 3 * PAGES_AT_ONCE
    whole = predictor.predict_pages(pages)
    for size in (1, 3, 16):
        parts = [predictor.predict_pages(pages[start : start + size]) for start in range(0, 20, size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-5)


def test_pages_need_not_lie_in_one_piece(predictor: PagePredictor, pages: np.ndarray) -> None:
    turned = np.ascontiguousarray(pages.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    turned.flags.writeable = False
    np.testing.assert_allclose(predictor.predict_pages(turned), predictor.predict_pages(pages), rtol=0, atol=1e-5)


def test_eight_threads_at_once(predictor: PagePredictor, pages: np.ndarray) -> None:
    expected = predictor.predict_pages(pages)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda n: predictor.predict_pages(pages[n % 20 : n % 20 + 1])[0], range(80)))
    for n, answer in enumerate(got):
        np.testing.assert_allclose(answer, expected[n % 20], rtol=0, atol=1e-5)


def test_travels(compiled: Compiled, predictor: PagePredictor, pages: np.ndarray) -> None:
    arrived = pickle.loads(pickle.dumps(compiled))

    assert arrived == compiled
    assert len(repr(compiled)) < 500
    again = PagePredictor(predictor.bundle, arrived.load(num_threads=1)).predict_pages(pages)
    np.testing.assert_allclose(again, predictor.predict_pages(pages), rtol=0, atol=1e-5)


def test_predictor_with_a_backend_by_name(folder: Path, pages: np.ndarray, reference: np.ndarray) -> None:
    loaded = Predictor.load(folder, backend="openvino-f32", needs_pages=True)

    assert loaded.backend == "openvino-f32"
    np.testing.assert_allclose(loaded.predict_pages(pages), reference, rtol=0, atol=1e-5)
    assert not np.array_equal(loaded.predict_pages(pages), reference)


WORKER = """
import pickle, sys
from pathlib import Path
import numpy as np
from vizecg.platform.predictor import PagePredictor
place = Path(sys.argv[1])
predictor = PagePredictor.of((place / "bundle.json").read_text(), pickle.loads((place / "compiled").read_bytes()))
np.save(place / "answer.npy", predictor.predict_pages(np.load(place / "pages.npy")))
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("torch", "timm", "openvino_telemetry")))
"""


def test_a_worker_needs_no_torch_and_tells_nobody(
    folder: Path, pages: np.ndarray, reference: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "bundle.json").write_bytes((folder / "bundle.json").read_bytes())
    (tmp_path / "compiled").write_bytes(pickle.dumps(compile_bundle(folder, "openvino-f32")))
    np.save(tmp_path / "pages.npy", pages)
    (tmp_path / "home").mkdir()
    # Where CI is set, OpenVINO holds its tongue by itself.
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(tmp_path)], capture_output=True, text=True, check=False,
        env={**environment, "HOME": str(tmp_path / "home")},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['openvino_telemetry']"  # The place where nothing may be imported.
    assert list((tmp_path / "home").iterdir()) == []
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), reference, rtol=0, atol=1e-5)


def test_conversion_tells_nobody(folder: Path) -> None:
    compile_bundle(folder, "openvino-f32")
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]


READ_PAGES = [name for name, entry in MODELS.items() if hasattr(entry.model, "forward_deployed")]


@pytest.mark.parametrize("name", READ_PAGES)
def test_every_model_of_pages_converts(name: str, folder: Path, pages: np.ndarray) -> None:
    bundle = Predictor.load(folder).bundle
    torch.manual_seed(1)
    model = build_model(name, "debug", 7).eval()
    bundle = bundle.model_copy(update={"model": ModelConfig(name=name, size="debug"), "calibration": {}})

    compiled = compile_model(bundle, model, "openvino-f32")

    np.testing.assert_allclose(compiled.load()(pages), TorchLogits(model)(pages), rtol=0, atol=1e-4)


def test_there_are_models_of_pages() -> None:
    assert {"vizecgnet", "resnet18", "mobilenetv3"} <= set(READ_PAGES)
    assert "resnet1d" not in READ_PAGES


def test_the_fastest_is_chosen_and_says_how_near_it_is(folder: Path) -> None:
    compiled = compile_bundle(folder)
    assert compiled.name == FASTEST
    assert "from torch-fp32 in probability, on 32 practice pages" in compiled.note


@pytest.mark.parametrize(
    ("wrong", "left", "by"),
    [(["bf16"], "openvino-f32", float("nan")), (["bf16", "f32"], "torch-fp32", 20.0)],
)
def test_what_disagrees_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str], left: str, by: float
) -> None:
    honest = OpenVinoLogits.__call__

    def call(self: OpenVinoLogits, pages: np.ndarray) -> np.ndarray:
        return honest(self, pages) + np.float32(by if self.precision in wrong else 0)

    monkeypatch.setattr(OpenVinoLogits, "__call__", call)

    compiled = compile_bundle(folder)

    assert compiled.name == left
    assert compiled.note.count("was refused") == len(wrong)
    with pytest.raises(UserError, match="refused: .*(0.02 is allowed|compute in bf16); there are auto"):
        compile_bundle(folder, f"openvino-{wrong[-1]}")


def test_what_this_cpu_cannot_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "has_bf16", lambda: False)
    assert compile_bundle(folder).name == "openvino-f32"
    with pytest.raises(UserError, match="this CPU does not compute in bf16; there are auto, openvino-bf16"):
        compile_bundle(folder, "openvino-bf16")


def test_what_does_not_convert_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(model: object, page: PageSpec) -> tuple[bytes, bytes]:
        raise RuntimeError("no such\noperation")

    monkeypatch.setattr(choose, "convert", convert)
    compiled = compile_bundle(folder)
    assert compiled.name == "torch-fp32"
    assert "openvino-f32 was refused: no such operation" in compiled.note


def test_wrong_names_and_devices(folder: Path, make_bundle, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no backend 'onnx' on cpu; there are auto, openvino-bf16, openvino-f32, torch"):
        compile_bundle(folder, "onnx")
    with pytest.raises(UserError, match="no backend 'openvino-f32' on cuda; there are auto, torch-cuda-bf16"):
        compile_bundle(folder, "openvino-f32", device="cuda:0")
    with pytest.raises(UserError, match="no backend 'onnx'"):
        Predictor.load(folder, backend="onnx")
    with pytest.raises(UserError, match="no model bundle here"):
        compile_bundle(tmp_path)
    signals = build_model("resnet1d", "debug", 7)
    draft: Bundle = make_bundle(tmp_path / "bundle")
    draft = draft.model_copy(update={"model": ModelConfig(name="resnet1d", size="debug"), "deployed_stream": "signal"})
    save_bundle(tmp_path / "signal", draft, signals.state_dict())
    with pytest.raises(UserError, match="resnet1d predicts from signals, not from a page alone"):
        compile_bundle(tmp_path / "signal")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_for_a_gpu_elsewhere(folder: Path) -> None:
    compiled = compile_bundle(folder, device="cuda")
    assert compiled.name == "torch-cuda-bf16"
    assert compiled.note.startswith("not compared with torch-fp32: there is no GPU")
    with pytest.raises(UserError, match="torch-cuda-bf16: this process sees no GPU"):
        compiled.load(device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", BACKENDS["cuda"])
def test_on_a_gpu(folder: Path, pages: np.ndarray, reference: np.ndarray, name: str) -> None:
    compiled = compile_bundle(folder, name, device="cuda")
    predictor = PagePredictor.of((folder / "bundle.json").read_text(), compiled, device="cuda")

    whole = predictor.predict_pages(pages)

    np.testing.assert_allclose(whole, reference, rtol=0, atol=2e-2)
    ones = np.concatenate([predictor.predict_pages(page[None]) for page in pages])
    np.testing.assert_allclose(ones, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spec", [SMALL, PageSpec(width_px=96, height_px=128), PageSpec(width_px=512, height_px=384)])
def test_probe_pages_are_different_and_always_the_same(spec: PageSpec) -> None:
    prints = probe_pages(spec)
    assert prints.shape == (32, 3, spec.height_px, spec.width_px) and prints.dtype == np.uint8
    assert np.array_equal(prints, probe_pages(spec))
    assert len({page.tobytes() for page in prints}) == 32
    assert 128 < prints.mean() < 255
