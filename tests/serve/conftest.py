"""A real bundle of the debug model, a printed page, and one endpoint for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from vizecg.models.registry import build_model
from vizecg.platform.bundle import Bundle, save_bundle
from vizecg.platform.config import ModelConfig, TrainConfig
from vizecg.platform.data.heart import Recorder
from vizecg.platform.data.labels import load_label_space
from vizecg.platform.data.page import PageStyle, draw_page, encode_page
from vizecg.platform.data.practice import draw_signal, plan_record
from vizecg.platform.data.read_page import PageSpec
from vizecg.platform.predictor import Predictor
from vizecg.serve.server import running_endpoint

MAX_BODY_BYTES = 2 << 20


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: they read nothing, and say something else about every page."""
    labels = load_label_space("practice")
    config = TrainConfig(model=ModelConfig(size="debug"))
    torch.manual_seed(0)
    model = build_model("vizecgnet", "debug", len(labels.labels))
    bundle = Bundle(
        model=config.model,
        deployed_stream="image",
        label_space=labels,
        thresholds=[0.4 + 0.02 * index for index in range(len(labels.labels))],
        page=PageSpec(width_px=256, height_px=192),
        train_config=config,
    )
    folder = tmp_path_factory.mktemp("serve") / "bundle"
    save_bundle(folder, bundle, model.state_dict())
    return folder


@pytest.fixture(scope="session")
def pages() -> list[bytes]:
    """PNG pictures of four practice records."""
    recorder = Recorder.of(250, 10.0)
    signals = [draw_signal(plan_record(0, index), recorder) for index in range(4)]
    return [
        encode_page(draw_page(signal.T / 1000.0, 250, PageStyle(width_px=800, height_px=600))) for signal in signals
    ]


@pytest.fixture(scope="session")
def predictor(bundle_folder: Path) -> Predictor:
    return Predictor.load(bundle_folder)


@pytest.fixture(scope="module")
def endpoint(ray_cluster: None, bundle_folder: Path) -> Iterator[str]:
    with running_endpoint(str(bundle_folder), max_body_bytes=MAX_BODY_BYTES) as url:
        yield url


@pytest.fixture
def client(endpoint: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=endpoint, timeout=30) as client:
        yield client
