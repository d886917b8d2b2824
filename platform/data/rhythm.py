"""When the heart beats, and what breathing and fibrillation add.

    B beats, N samples

Onsets are of QRS, in seconds from the first sample; those just outside the record are kept for the waves they send in.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Rhythm = Literal["sinus", "fibrillation"]


@dataclass(frozen=True)
class Breathing:
    rate_hz: float
    phase_rad: float

    def at(self, time_s: Array) -> Array:
        """-1 (out) to 1 (in), of `time_s`'s shape."""
        return np.asarray(np.sin(2 * np.pi * self.rate_hz * time_s + self.phase_rad))


@dataclass(frozen=True)
class Variability:
    """Relative amplitudes by which the sinus interval varies (Task Force 1996, doi 10.1161/01.CIR.93.5.1043)."""

    respiratory: float
    """Sinus arrhythmia, at the breathing rate."""
    low_frequency: float
    """Around 0.1 Hz, with blood pressure."""
    jitter: float


def sample_breathing(rng: np.random.Generator) -> Breathing:
    """12 to 21 breaths a minute."""
    return Breathing(rng.uniform(0.20, 0.35), rng.uniform(0, 2 * math.pi))


def sample_variability(rng: np.random.Generator, age: int, rate_bpm: float) -> Variability:
    """Breathing moves the sinus node more in the young and at slow rates, and hardly any in tachycardia."""
    vagal = min(1.0, 60 / rate_bpm) ** 2 * (1.2 - age / 100)
    return Variability(rng.uniform(0.01, 0.09) * vagal, rng.uniform(0.005, 0.03) * vagal + 0.003, 0.004)


def sinus_onsets_s(
    rng: np.random.Generator, rate_bpm: float, variability: Variability, breathing: Breathing, duration_s: float
) -> Array:
    """QRS onsets (B,) from one beat before the record to one after it; breathing in shortens the interval."""
    mean_s = 60 / rate_bpm
    phase_lf, now_s = rng.uniform(0, 2 * math.pi), -mean_s * (1 + rng.random())
    jitter = rng.normal(0, variability.jitter, size=int(1.6 * duration_s / mean_s) + 8)
    onsets = [now_s]
    for noise in jitter:
        slow = variability.low_frequency * math.sin(2 * math.pi * 0.1 * now_s + phase_lf)
        breath = variability.respiratory * math.sin(2 * math.pi * breathing.rate_hz * now_s + breathing.phase_rad)
        now_s += mean_s * (1 + slow - breath + noise)
        onsets.append(now_s)
        if now_s > duration_s + mean_s:
            break
    return np.array(onsets)


def fibrillation_onsets_s(rng: np.random.Generator, rate_bpm: float, duration_s: float) -> Array:
    """QRS onsets (B,) as above; intervals are independent, right-skewed, and never below the node's refractory time."""
    mean_s = 60 / rate_bpm
    floor_s = max(0.28, 0.5 * mean_s)
    shape = ((1 - floor_s / mean_s) / rng.uniform(0.16, 0.28)) ** 2
    count = int(1.6 * duration_s / mean_s) + 12
    intervals = floor_s + (mean_s - floor_s) * rng.gamma(shape, 1 / shape, size=count)
    onsets = -mean_s * (1 + rng.random()) + np.cumsum(intervals)
    last = int(np.searchsorted(onsets, duration_s + mean_s))
    return onsets[: last + 1]


def fibrillatory_dipole_mv(rng: np.random.Generator, time_s: Array) -> Array:
    """f-waves (3, N) of 4 to 9 Hz, wandering in rate and height, best seen in V1.

    After Bollmann 2006, doi 10.1093/europace/eul113.
    """
    rate_hz, height_mv = rng.uniform(4.7, 8.3), rng.uniform(0.08, 0.19)
    wander, swell, second = rng.uniform(0, 2 * np.pi, size=3)
    phase = 2 * np.pi * rate_hz * time_s + 1.6 * np.sin(2 * np.pi * 0.37 * time_s + wander)
    height = height_mv * (1 + 0.35 * np.sin(2 * np.pi * 0.53 * time_s + swell))
    sharp = height * (np.sin(phase) + 0.30 * np.sin(2 * phase + 0.8))
    other = height * np.sin(0.93 * phase + second)
    directions = np.array([[-0.38, 0.05], [0.22, 0.25], [-0.56, 0.10]], dtype=np.float32)
    return np.asarray(directions @ np.stack([sharp, other]))
