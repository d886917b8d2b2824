"""What tests share: one Ray cluster a session, real archives where they are unpacked, small archives made to order."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest

if TYPE_CHECKING:
    from vizecg.platform.predictor import Predictor

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is compiled here stays here; before Ray starts, whose workers inherit it."""
    before = os.environ.get("VIZECG_CACHE")
    os.environ["VIZECG_CACHE"] = before or str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["VIZECG_CACHE"]


@pytest.fixture(scope="session")
def ray_cluster(own_cache: None) -> Iterator[None]:
    """The session's own Ray, with more logical CPUs than a small machine has (ray_session.py)."""
    import ray

    from vizecg.platform.ray_session import quiet_ray_data

    ray.init(
        address="local",
        num_cpus=6,
        include_dashboard=False,
        object_store_memory=512 << 20,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    quiet_ray_data()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder below which the archives of ../shared/data are unpacked."""
    folder = os.environ.get("VIZECG_REAL_DATA")
    if not folder:
        pytest.skip("VIZECG_REAL_DATA is not set: unpack ../shared/data/*.tar.xz and give their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def real_prints(real_data: Path) -> list[Path]:
    """Pictures of real printed ECGs."""
    folder = real_data / "printed-pages"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    files = [file for file in sorted(folder.glob("*/*.*")) if file.suffix != ".csv"]
    assert files
    return files


class WriteWfdb(Protocol):
    def __call__(
        self,
        path: Path,
        signal_mv: np.ndarray,
        sampling_rate_hz: float = 500,
        lead_names: tuple[str, ...] = LEADS,
        comments: str = "",
    ) -> None: ...


@pytest.fixture(scope="session")
def write_wfdb() -> WriteWfdb:
    """Writes (S, n) in mV as `path`.hea and `path`.dat in format 16, whole microvolts, with true checksums."""

    def write(
        path: Path,
        signal_mv: np.ndarray,
        sampling_rate_hz: float = 500,
        lead_names: tuple[str, ...] = LEADS,
        comments: str = "",
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = np.nan_to_num(np.rint(signal_mv * 1000), nan=-32768).astype("<i2")
        stored.T.tofile(path.with_suffix(".dat"))
        lines = [f"{path.name} {len(stored)} {sampling_rate_hz:g} {stored.shape[1]}"]
        for name, row in zip(lead_names, stored, strict=True):
            checksum = int(row.sum(dtype=np.int64)) % 65536
            lines.append(f"{path.name}.dat 16 1000(0)/mV 16 0 {row[:1].sum()} {checksum} 0 {name}")
        path.with_suffix(".hea").write_text("\n".join(lines) + "\n" + comments)

    return write


@pytest.fixture(scope="session")
def make_ecg():
    """A signal (12, n) in mV that obeys Einthoven and differs with its seed: beats at irregular times, and noise."""

    def make(seed: int, sampling_rate_hz: float = 500, duration_s: float = 10.0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        time_s = np.arange(round(duration_s * sampling_rate_hz)) / sampling_rate_hz
        beats_s = np.cumsum(rng.uniform(0.5, 1.2, size=100))
        pulse = sum(np.exp(-(((time_s - beat) / 0.02) ** 2)) for beat in beats_s[beats_s < duration_s])
        wave = sum(np.exp(-(((time_s - beat - 0.25) / 0.05) ** 2)) for beat in beats_s[beats_s < duration_s])
        size = rng.uniform(0.3, 1.5, size=(2, 8, 1))
        i, ii, *chest = size[0] * pulse + 0.3 * size[1] * wave + rng.normal(0, 0.005, size=(8, len(time_s)))
        limb = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2]
        return np.stack([*limb, *chest]).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def practice_shards(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 120 practice records with small pages."""
    from vizecg.platform.data.dataset_info import PageSettings, ShardConfig
    from vizecg.platform.data.practice import write_practice_archive
    from vizecg.platform.data.shards import write_shards

    folder = tmp_path_factory.mktemp("practice")
    write_practice_archive(folder / "archive", 120, seed=5)
    write_shards(folder / "archive", folder / "shards", ShardConfig(page=PageSettings(width_px=160, height_px=120)))
    return folder / "shards"


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: they read nothing, and say something else about every page."""
    import torch

    from vizecg.models.registry import build_model
    from vizecg.platform.bundle import Bundle, save_bundle
    from vizecg.platform.config import ModelConfig, TrainConfig
    from vizecg.platform.data.labels import load_label_space
    from vizecg.platform.data.read_page import PageSpec

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
    folder = tmp_path_factory.mktemp("model") / "bundle"
    save_bundle(folder, bundle, model.state_dict())
    return folder


@pytest.fixture(scope="session")
def pages() -> list[bytes]:
    """PNG pictures of four practice records."""
    from vizecg.platform.data.heart import Recorder
    from vizecg.platform.data.page import PageStyle, draw_page, encode_page
    from vizecg.platform.data.patients import plan_record
    from vizecg.platform.data.practice import draw_signal

    recorder = Recorder.of(250, 10.0)
    signals = [draw_signal(plan_record(0, index), recorder) for index in range(4)]
    return [
        encode_page(draw_page(signal.T / 1000.0, 250, PageStyle(width_px=800, height_px=600))) for signal in signals
    ]


@pytest.fixture(scope="session")
def predictor(bundle_folder: Path) -> "Predictor":
    """Of that bundle."""
    from vizecg.platform.predictor import Predictor

    return Predictor.load(bundle_folder)


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Torch on one thread: the machine is shared."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
