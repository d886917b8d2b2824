"""A moving heart dipole, and the twelve leads that nine noisy electrodes make of it.

    B beats, K waves, N samples, W samples of a window around a beat
    dipole      (3, N)  mV; x to the patient's left, y to the feet, z to the back
    electrodes  (9, N)  mV; RA LA LL V1..V6, against Wilson's central terminal
    leads       12      of records.LEADS; I II III aVR aVL aVF V1..V6

The dipole is a sum of Gaussians (McSharry 2003, doi 10.1109/TBME.2003.808805; three dimensions: Sameni 2007,
doi 10.1155/2007/43407; Clifford 2010, doi 10.1088/0967-3334/31/5/001), in milliseconds rather than phase, so that every
interval is known. Leads follow Dower 1980 (doi 10.1002/clc.4960030202). Shapes of bundle branch block follow
AHA/ACCF/HRS 2009 (Surawicz, doi 10.1161/CIRCULATIONAHA.108.191095).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Conduction = Literal["normal", "rbbb", "lbbb"]

QRS_EDGE_SIGMAS = 2.5
"""QRS begins and ends where its outer Gaussian has fallen to 4 % of its peak, about 15 microvolts."""
TANGENT_SIGMAS = 2.0
"""P and T begin and end where the tangent at the steepest point meets the baseline: exactly 2 sigma for a Gaussian."""

_DOWER = np.array([  # I, II, V1..V6
    [0.632, -0.235, 0.059], [0.235, 1.066, -0.132], [-0.515, 0.157, -0.917], [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277], [1.213, 0.127, -0.601], [1.125, 0.127, -0.086], [0.831, 0.076, 0.230],
])  # fmt: skip
_SLOW_HZ = 0.07 * np.arange(1, 9)


@dataclass(frozen=True)
class Waves:
    """K Gaussians, timed from QRS onset."""

    centre_ms: Array
    rise_ms: Array
    """Sigma before the peak, (K,); T rises more slowly than it falls."""
    fall_ms: Array
    vector_mv: Array
    """(K, 3)."""

    @classmethod
    def of(cls, *rows: tuple[float, float, float, float, float, float]) -> "Waves":
        """Rows of centre, rise, fall, x, y, z."""
        table = np.array(rows)
        return cls(table[:, 0], table[:, 1], table[:, 2], table[:, 3:])

    def moved(self, shift_ms: float, turn: Array) -> "Waves":
        """Later by `shift_ms`, every vector multiplied by the (3, 3) matrix `turn`."""
        return Waves(self.centre_ms + shift_ms, self.rise_ms, self.fall_ms, self.vector_mv @ turn.T)

    def area_mv_ms(self) -> Array:
        """Time integral of the dipole, (3,)."""
        return np.asarray(np.sqrt(np.pi / 2) * (self.rise_ms + self.fall_ms) @ self.vector_mv)


def p_waves(duration_ms: float) -> Waves:
    """Right atrium, then left, ending at 0: upright in I and II, first up and then down in V1."""
    sigma = duration_ms / 5.4
    first, second = -duration_ms + TANGENT_SIGMAS * sigma, -TANGENT_SIGMAS * sigma
    return Waves.of((first, sigma, sigma, 0.06, 0.090, -0.055), (second, sigma, sigma, 0.10, 0.055, 0.035))


def qrs_waves(conduction: Conduction, qrs_ms: float) -> Waves:
    """Ventricular activation from 0 to `qrs_ms`, by `QRS_EDGE_SIGMAS`."""
    return {"normal": _normal_qrs, "rbbb": _rbbb_qrs, "lbbb": _lbbb_qrs}[conduction](qrs_ms)


def _normal_qrs(qrs_ms: float) -> Waves:
    """Septum to the right and front, apex to the left, base to the back, upper septum to the right and up."""
    return _fractions(
        qrs_ms,
        (0.20, 0.080, -0.18, -0.06, -0.28),
        (0.44, 0.100, 1.30, 0.66, 0.05),
        (0.63, 0.100, 0.44, 0.18, 0.92),
        (0.81, 0.076, -0.14, -0.10, 0.28),
    )


def _rbbb_qrs(qrs_ms: float) -> Waves:
    """The left ventricle as ever for 60 ms, then the right one late and slowly: rsR' in V1, wide S in I and V6."""
    left = _fractions(
        82.0, (0.20, 0.080, -0.18, -0.06, -0.30), (0.44, 0.105, 1.30, 0.62, 0.00), (0.64, 0.100, 0.40, 0.10, 0.42)
    )
    peak = 54.0 + 0.45 * (qrs_ms - 54.0)
    rise, fall = (peak - 54.0) / QRS_EDGE_SIGMAS, (qrs_ms - peak) / QRS_EDGE_SIGMAS
    right = Waves.of((peak, rise, fall, -0.40, -0.06, -0.64))
    return _joined(left, right)


def _lbbb_qrs(qrs_ms: float) -> Waves:
    """Septum from right to left (no q in I, V6), then slowly leftwards and back: notched R there, QS or rS in V1."""
    return _fractions(
        qrs_ms,
        (0.15, 0.060, 0.16, 0.06, -0.10),
        (0.38, 0.110, 0.84, 0.34, 1.00),
        (0.56, 0.090, 0.40, 0.05, 0.80),
        (0.74, 0.100, 0.76, 0.00, 0.92),
    )


def t_waves(qrs_ms: float, qt_ms: float, t_mv: Array, st_mv: Array, u_mv: Array) -> Waves:
    """ST segment, T ending at `qt_ms` by the tangent, U: each with its dipole vector (3,)."""
    fall = 0.100 * qt_ms
    peak = qt_ms - TANGENT_SIGMAS * fall
    span = peak - qrs_ms
    return Waves.of(
        (qrs_ms + 0.30 * span, 0.20 * span, 0.35 * span, *st_mv),
        (peak, 0.16 * span + 0.075 * qt_ms, fall, *t_mv),
        (qt_ms + 90.0, 32.0, 42.0, *u_mv),
    )


def _fractions(qrs_ms: float, *rows: tuple[float, float, float, float, float]) -> Waves:
    return Waves.of(*((c * qrs_ms, s * qrs_ms, s * qrs_ms, x, y, z) for c, s, x, y, z in rows))


def _joined(a: Waves, b: Waves) -> Waves:
    fields = ("centre_ms", "rise_ms", "fall_ms", "vector_mv")
    return Waves(*(np.concatenate([getattr(a, field), getattr(b, field)]) for field in fields))


def rotation(frontal_rad: Array | float, horizontal_rad: Array | float) -> Array:
    """Matrices (..., 3, 3) that turn to the back in the horizontal plane, then to the feet in the frontal one."""
    frontal, horizontal = np.broadcast_arrays(frontal_rad, horizontal_rad)
    cf, sf, ch, sh = np.cos(frontal), np.sin(frontal), np.cos(horizontal), np.sin(horizontal)
    turn = np.zeros((*frontal.shape, 3, 3))
    turn[..., 0, 0], turn[..., 0, 1], turn[..., 0, 2] = cf * ch, -sf, -cf * sh
    turn[..., 1, 0], turn[..., 1, 1], turn[..., 1, 2] = sf * ch, cf, -sf * sh
    turn[..., 2, 0], turn[..., 2, 2] = sh, ch
    return turn


def add_waves(
    dipole_mv: Array, waves: Waves, onset_s: Array, turn: Array, stretch: Array, sampling_rate_hz: int
) -> None:
    """Add `waves` to `dipole_mv` (3, N) at every beat.

    `onset_s` (B,) are QRS onsets, in or around the record; `turn` (B, 3, 3) is the heart's position at each beat;
    `stretch` (B,) scales the waves in time. Only 3.5 sigma around each wave is evaluated, at its exact time.
    """
    per_sample_ms = 1000.0 / sampling_rate_hz
    longest = float(stretch.max())
    start = int(np.floor(min((waves.centre_ms - 3.5 * waves.rise_ms).min() * longest, 0) / per_sample_ms))
    stop = int(np.ceil(max((waves.centre_ms + 3.5 * waves.fall_ms).max() * longest, 0) / per_sample_ms))
    first = np.floor(onset_s * sampling_rate_hz).astype(int)
    lag_ms = (np.arange(start, stop) * per_sample_ms)[None, :] + (first * per_sample_ms - onset_s * 1000)[:, None]
    lag_ms = lag_ms / stretch[:, None]
    from_peak_ms = lag_ms.astype(np.float32)[:, None, :] - waves.centre_ms.astype(np.float32)[:, None]  # (B, K, W)
    inverse_rise, inverse_fall = (
        (np.sqrt(0.5) / s).astype(np.float32)[:, None] for s in (waves.rise_ms, waves.fall_ms)
    )
    gaussians = np.exp(-np.square(from_peak_ms * np.where(from_peak_ms < 0, inverse_rise, inverse_fall)))
    vectors = (turn @ waves.vector_mv.T).astype(np.float32)  # (B, 3, K)
    for piece, begin in zip(vectors @ gaussians, (first + start).tolist(), strict=True):  # (3, W)
        low, high = max(begin, 0), min(begin + stop - start, dipole_mv.shape[1])
        if low < high:
            dipole_mv[:, low:high] += piece[:, low - begin : high - begin]


def electrode_vectors(precordial_shift: Array | float = 0.0) -> Array:
    """Lead vectors (9, 3) of RA LA LL V1..V6 against Wilson's terminal; `precordial_shift` (6, 3) misplaces V1..V6."""
    lead_i, lead_ii = _DOWER[:2]
    right_arm = -(lead_i + lead_ii) / 3
    return np.vstack([right_arm, right_arm + lead_i, right_arm + lead_ii, _DOWER[2:] + precordial_shift])


def lead_matrix() -> Array:
    """(12, 9): the twelve leads of nine electrode potentials, by Einthoven, Goldberger and Wilson."""
    ra, la, ll, *chest = np.eye(9)
    limb = [la - ra, ll - ra, ll - la, ra - (la + ll) / 2, la - (ra + ll) / 2, ll - (ra + la) / 2]
    return np.array(limb + [v - (ra + la + ll) / 3 for v in chest])


def axis_deg(qrs: Waves, vectors: Array) -> float:
    """Frontal QRS axis from net areas in I and aVF; aVF is sqrt(3)/2 as sensitive, hence the factor."""
    leads = lead_matrix()[[0, 5]] @ vectors @ qrs.area_mv_ms()
    return float(np.degrees(np.arctan2(leads[1] * 2 / np.sqrt(3), leads[0])))


@dataclass(frozen=True)
class Recorder:
    """Sample times, and the slow and mains oscillations that every record mixes anew: computed once per archive."""

    sampling_rate_hz: int
    time_s: Array
    """(N,) float32."""
    oscillations: Array
    """(20, N) float32: cosine and sine of each of `_SLOW_HZ`, then of 50 and 60 Hz."""

    @classmethod
    def of(cls, sampling_rate_hz: int, duration_s: float) -> "Recorder":
        time_s = np.arange(round(sampling_rate_hz * duration_s)) / sampling_rate_hz
        phase = 2 * np.pi * np.outer(np.append(_SLOW_HZ, (50, 60)), time_s)
        pairs = np.stack([np.cos(phase), np.sin(phase)], axis=1)
        # A recorder filters what is above half the sampling rate; here it would alias.
        pairs[8:] *= (np.array([50, 60]) < sampling_rate_hz / 2)[:, None, None]
        return cls(sampling_rate_hz, time_s.astype(np.float32), pairs.reshape(20, -1).astype(np.float32))


def electrode_noise_mv(rng: np.random.Generator, recorder: Recorder, mains_hz: int, breath: Array) -> Array:
    """Noise (9, N) of skin, breath (N,), mains and muscles at each electrode; now and then of a loose contact."""
    wander_mv, hum_mv, muscle_mv = np.exp(rng.normal(np.log([0.035, 0.0012, 0.0035]), [0.6, 0.9, 0.45]))
    mixture = rng.normal(0, 1, size=(9, 20)).astype(np.float32)
    mixture[:, :16] *= wander_mv * np.repeat(_SLOW_HZ[0] / _SLOW_HZ, 2)
    mixture[:, 16:] *= hum_mv * np.repeat([mains_hz == 50, mains_hz == 60], 2)
    # Uniform numbers cost a sixth of normal ones, and a lead sums at least four of them, which is bell-shaped enough.
    muscle = rng.random(size=(9, len(breath) + 1), dtype=np.float32)
    muscle -= np.float32(0.5)
    muscle *= (np.sqrt(12) * muscle_mv * np.exp(rng.normal(0, 0.35, size=(9, 1)))).astype(np.float32)
    noise = mixture @ recorder.oscillations
    noise += rng.normal(0, 0.8 * wander_mv, size=(9, 1)).astype(np.float32) * breath
    noise += muscle[:, 1:]
    noise += muscle[:, :-1]  # two neighbours summed: less power above 150 Hz, as recorders have it
    if rng.random() < 0.06:
        _loosen_contact(rng, noise, recorder)
    return noise


def _loosen_contact(rng: np.random.Generator, noise_mv: Array, recorder: Recorder) -> None:
    """One electrode jumps and creeps back within a second or so."""
    num_samples = noise_mv.shape[1]
    begin, electrode = int(rng.uniform(0.05, 0.9) * num_samples), rng.integers(9)
    age_s = recorder.time_s[: num_samples - begin]
    noise_mv[electrode, begin:] += rng.normal(0, 0.5) * np.exp(-age_s / rng.uniform(0.2, 0.8))
