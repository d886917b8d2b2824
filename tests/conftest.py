"""What tests share: one Ray cluster a session, real archives where they are unpacked, small archives made to order."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """The session's own Ray, with more logical CPUs than a small machine has (ray_session.py)."""
    import ray

    from vizecg.platform.ray_session import quiet_ray_data

    ray.init(
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
