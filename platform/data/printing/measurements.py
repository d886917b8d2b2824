"""What a recorder measures and prints in numbers: rate, intervals and axes.

    L = 8 independent leads (I, II, V1..V6), n samples, B beats, W samples of a beat, all at 500 Hz

One beat stands for the record: the median of all beats, lined up on their slopes. The ends of QRS are where the leads'
common slope falls below a threshold, the end of T and the beginning of P where the tangent at the steepest point meets
the baseline (Lepeschkin and Surawicz 1952, doi 10.1161/01.CIR.6.3.378); QTc is Bazett's.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..records import LEADS

Array = NDArray[np.floating]

_RATE_HZ = 500
_MS = _RATE_HZ / 1000
"""Samples a millisecond."""
_INDEPENDENT = [LEADS.index(lead) for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")]
_BEFORE, _AFTER = round(440 * _MS), round(640 * _MS)
_FEWEST_BEATS = 3
_REFRACTORY_MS = 240
_SLOPE_FLOOR_MV_PER_S, _SLOPE_SHARE = 2.0, 0.04
"""QRS is where the common slope exceeds this floor plus this share of its maximum, tuned on the practice archive."""
_SENSIBLE_QRS_MS, _SENSIBLE_QTC_MS = (40, 240), (280, 620)
_ALIKE = 0.9
"""A P wave correlates so well with the median one in most beats; fibrillating atria do not."""


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Whole beats a minute, milliseconds and degrees, as printed. `pr_ms` and `p_axis_deg` are None without P waves."""

    rate_bpm: int
    pr_ms: int | None
    qrs_ms: int
    qt_ms: int
    qtc_ms: int
    p_axis_deg: int | None
    axis_deg: int
    t_axis_deg: int


def printed_measurements(rng: np.random.Generator, signal_mv: Array, sampling_rate_hz: float) -> Measurements:
    """Measured on (12, n) mV in half of the pages, random in the others, so that a model cannot trust what it reads.

    Random too where nothing can be measured.
    """
    truthful, invented = rng.random() < 0.5, random_measurements(rng)
    return (measure(signal_mv, sampling_rate_hz) if truthful else None) or invented


def random_measurements(rng: np.random.Generator) -> Measurements:
    """Values as a ward's might be: QT follows the rate, everything else is free.

    Abnormal values are at least as frequent as among records, so that none of them tells that it is the record's own.
    """
    rate_bpm = rng.uniform(38, 165) if rng.random() < 0.3 else min(max(72 * math.exp(rng.normal(0, 0.25)), 38), 165)
    has_p = rng.random() > 0.12
    qrs_ms = rng.uniform(110, 200) if rng.random() < 0.25 else min(max(rng.normal(92, 9), 68), 118)
    qt_ms = rng.normal(408, 25) - 1.75 * (rate_bpm - 60) + 0.7 * max(qrs_ms - 100, 0)  # Hodges 1983
    axis_deg = rng.uniform(-180, 180) if rng.random() < 0.35 else rng.normal(38, 34)
    t_axis_deg = rng.uniform(-180, 180) if rng.random() < 0.3 else axis_deg + rng.normal(0, 25)
    pr_ms = rng.uniform(190, 340) if rng.random() < 0.2 else min(max(rng.normal(162, 26), 100), 290)
    return _rounded(
        rate_bpm=rate_bpm,
        pr_ms=pr_ms if has_p else None,
        qrs_ms=qrs_ms,
        qt_ms=qt_ms,
        axes_deg=(rng.normal(52, 18) if has_p else None, axis_deg, t_axis_deg),
    )


def measure(signal_mv: Array, sampling_rate_hz: float) -> Measurements | None:
    """What (12, n) mV in the order of records.LEADS show; None without three beats, without leads I or II, and
    where QRS or QTc come out as no heart has them.

    Other leads may be absent (zero or NaN).
    """
    leads_mv = _at_500_hz(signal_mv[_INDEPENDENT], sampling_rate_hz)
    slope = _common_slope(leads_mv)
    peaks = _find_beats(slope)
    middles = _lined_up(slope, peaks)
    if len(middles) < _FEWEST_BEATS or not np.ptp(leads_mv[:2], axis=1).all():
        return None
    beats = _cut_beats(leads_mv, middles)
    beat = np.median(beats, axis=0)
    ends = _find_qrs(_common_slope(beat))
    if ends is None:
        return None
    onset, offset = ends
    rr = float(np.median(np.diff(peaks)))
    beat -= beat[:, onset - 4 : onset + 1].mean(axis=1, keepdims=True)
    t = _find_t(beat, onset, offset, rr)
    if t is None:
        return None
    t_peak, t_end = t
    p_onset, p_mv = _find_p(beats, onset, round(t_end - rr))
    found = _rounded(
        rate_bpm=60 * _RATE_HZ * (len(peaks) - 1) / (peaks[-1] - peaks[0]),
        pr_ms=None if p_onset is None else (onset - p_onset) / _MS,
        qrs_ms=(offset - onset) / _MS,
        qt_ms=(t_end - onset) / _MS,
        axes_deg=(
            None if p_onset is None else _axis_deg(p_mv),
            _axis_deg(beat[:, onset:offset].sum(axis=1)),
            _axis_deg(beat[:, t_peak]),
        ),
    )
    return found if _is_sensible(found) else None


def _at_500_hz(leads_mv: Array, sampling_rate_hz: float) -> Array:
    leads_mv = np.nan_to_num(leads_mv.astype(np.float32))
    if sampling_rate_hz == _RATE_HZ:
        return leads_mv
    from scipy.signal import resample_poly  # SciPy takes seconds to import, and few pages are measured.

    ratio = Fraction(_RATE_HZ / sampling_rate_hz).limit_denominator(100)
    return np.asarray(resample_poly(leads_mv, ratio.numerator, ratio.denominator, axis=1, padtype="line"))


def _smoothed(values: Array, width: int) -> Array:
    """Moving averages along the last axis."""
    from scipy.ndimage import uniform_filter1d

    return np.asarray(uniform_filter1d(values, width, axis=-1))


def _common_slope(leads_mv: Array) -> Array:
    """Root mean square of the leads' slopes (W,), mV/s, from moving averages over 10 ms, 10 ms apart."""
    smooth = _smoothed(leads_mv, 5)
    slope = np.zeros_like(smooth)
    slope[:, 2:-3] = (smooth[:, 5:] - smooth[:, :-5]) * (_RATE_HZ / 5)
    return np.asarray(np.sqrt(np.square(slope).mean(axis=0)))


def _find_beats(slope: Array) -> NDArray[np.intp]:
    """Middles of QRS: where the slope, smoothed over a QRS, stands out."""
    energy = _smoothed(slope, round(90 * _MS))
    # The usual beat's height is the median over seconds of each second's highest.
    whole = len(energy) // _RATE_HZ * _RATE_HZ
    if whole == 0:
        return np.zeros(0, np.intp)
    usual = np.median(energy[:whole].reshape(-1, _RATE_HZ).max(axis=1))
    from scipy.signal import find_peaks

    return find_peaks(energy, height=0.45 * usual, prominence=0.3 * usual, distance=round(_REFRACTORY_MS * _MS))[0]


def _lined_up(slope: Array, peaks: NDArray[np.intp]) -> NDArray[np.intp]:
    """The peaks that leave room for a beat, each moved by up to 24 ms to where its slope fits the mean one best."""
    reach, lags = round(70 * _MS), np.arange(-12, 13)
    room = max(_BEFORE, reach) + lags[-1], max(_AFTER, reach) + lags[-1]
    peaks = peaks[(peaks >= room[0]) & (peaks < len(slope) - room[1])]
    if len(peaks) == 0:
        return peaks
    near = slope[peaks[:, None] + np.arange(-reach, reach)]
    moved = slope[peaks[:, None, None] + lags[:, None] + np.arange(-reach, reach)]  # (B, lags, W)
    return peaks + lags[np.argmax(moved @ near.mean(axis=0), axis=1)]


def _cut_beats(leads_mv: Array, middles: NDArray[np.intp]) -> Array:
    """(B, L, W), each beat less the line from its own PR segment to the next beat's, which takes the wander along."""
    knots = np.clip(middles - round(76 * _MS), 0, None)
    level = _smoothed(leads_mv, round(24 * _MS))[:, knots]
    time = np.arange(leads_mv.shape[1])
    flat = leads_mv - np.stack([np.interp(time, knots, lead) for lead in level])
    return flat[:, middles[:, None] + np.arange(-_BEFORE, _AFTER)].swapaxes(0, 1)


def _find_qrs(slope: Array) -> tuple[int, int] | None:
    """First and last sample of the median beat's QRS."""
    middle = slice(_BEFORE - round(60 * _MS), _BEFORE + round(60 * _MS))
    peak = middle.start + int(slope[middle].argmax())
    quiet = slope < _SLOPE_FLOOR_MV_PER_S + _SLOPE_SHARE * slope[peak]
    # A notch is quiet too, but not for 16 ms.
    still = _smoothed(quiet.astype(np.float32), round(16 * _MS)) > 0.99
    before, after = np.flatnonzero(still[:peak]), np.flatnonzero(still[peak:])
    if len(before) == 0 or len(after) == 0:
        return None
    half = round(8 * _MS)
    return int(before[-1]) + half, peak + int(after[0]) - half


def _find_t(beat: Array, onset: int, offset: int, rr: float) -> tuple[int, float] | None:
    """T's peak, and where its tangent meets the baseline, on the leads' sum in the direction of the peak."""
    start, stop = offset + round(50 * _MS), min(onset + round(min(0.64 * rr, 520 * _MS)), _BEFORE + _AFTER - 60)
    if stop - start < round(20 * _MS):
        return None
    peak = start + int(np.square(beat[:, start:stop]).sum(axis=0).argmax())
    wave = _along(beat, peak)
    stop = min(onset + round(0.9 * rr), len(wave))
    return peak, peak + _tangent(wave[peak:stop])


def _find_p(beats: Array, onset: int, t_end: int) -> tuple[float | None, Array]:
    """P's onset (None where beats disagree), and its potentials (L,) at the peak."""
    start, stop = max(t_end, onset - round(400 * _MS), 0), onset - round(16 * _MS)
    if stop - start < round(60 * _MS):
        return None, beats[0, :, 0]
    pieces = beats[:, :, start:stop]
    line = np.linspace(0, 1, stop - start)
    first, last = pieces[:, :, :6].mean(axis=2, keepdims=True), pieces[:, :, -6:].mean(axis=2, keepdims=True)
    pieces = pieces - first - (last - first) * line
    mean = np.median(pieces, axis=0)
    peak = 12 + int(np.square(mean[:, 12:]).sum(axis=0).argmax())
    near = slice(max(peak - 25, 0), peak + 25)
    each, usual = mean[:, peak] @ pieces[:, :, near], mean[:, peak] @ mean[:, near]
    likeness = each @ usual / np.sqrt(np.square(each).sum(axis=1) * np.square(usual).sum() + 1e-12)
    if np.median(likeness) < _ALIKE:
        return None, mean[:, peak]
    return start + peak - _tangent(_along(mean, peak)[peak::-1]), mean[:, peak]


def _along(beat: Array, peak: int) -> Array:
    """The leads' sum (W,), each weighted by its share of the wave that peaks there."""
    smooth = _smoothed(beat, 9)
    return smooth[:, peak] @ smooth


def _tangent(wave: Array) -> float:
    """Samples from a peak to where the steepest descent, drawn on as a straight line, meets the lowest level."""
    falling = wave[:-4] - wave[4:]
    steepest = int(falling.argmax())
    left = (wave[steepest + 2] - wave[steepest:].min()) / max(falling[steepest], 1e-9)
    return min(steepest + 2 + 4 * float(left), len(wave))


def _axis_deg(leads_mv: Array) -> float:
    """Frontal angle of I and aVF = II - I / 2; aVF is sqrt(3) / 2 as sensitive, hence the factor."""
    return math.degrees(math.atan2((leads_mv[1] - leads_mv[0] / 2) * 2 / math.sqrt(3), leads_mv[0]))


def _is_sensible(found: Measurements) -> bool:
    (shortest, widest), (least, most) = _SENSIBLE_QRS_MS, _SENSIBLE_QTC_MS
    return shortest <= found.qrs_ms <= widest and least <= found.qtc_ms <= most


def _rounded(
    *, rate_bpm: float, pr_ms: float | None, qrs_ms: float, qt_ms: float, axes_deg: tuple[float | None, float, float]
) -> Measurements:
    """With QTc by Bazett; axes of P, QRS and T within -180 and 180."""
    p, qrs, t = (None if axis is None else (round(axis) + 179) % 360 - 179 for axis in axes_deg)
    assert qrs is not None and t is not None
    return Measurements(
        rate_bpm=round(rate_bpm),
        pr_ms=None if pr_ms is None else round(pr_ms),
        qrs_ms=round(qrs_ms),
        qt_ms=round(qt_ms),
        qtc_ms=round(qt_ms * math.sqrt(rate_bpm / 60)),
        p_axis_deg=p,
        axis_deg=qrs,
        t_axis_deg=t,
    )
