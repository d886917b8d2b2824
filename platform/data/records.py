"""One 12-lead recording: its leads in order, in millivolts, with every doubt about it written down.

Shapes: L = 12 leads, n samples at the recording's own rate, T samples at the dataset's rate.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

QUALITY_FLAGS = (
    "derived_lead",  # a limb lead was not recorded and follows from the others
    "missing_lead",  # a lead is zero and marked absent in `lead_present`
    "flat_lead",  # a recorded lead never moves: an electrode was off
    "clipped",  # the signal stays at its highest or lowest value, or leaves the range of the shards
    "limb_leads_inconsistent",  # the six limb leads break Einthoven's law: swapped, or from different moments
    "checksum_mismatch",  # the samples are not those the header was written for
    "short",  # shorter than the dataset's length: padded
)

# The six limb leads from (I, II): Einthoven's III = II - I and Goldberger's augmented leads.
_LIMB_FROM_I_II = np.array(
    [[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]],
    dtype=np.float32,
)
_CLIPPED_S = 0.04
_HELD_ENDS_S = 0.2
_INCONSISTENT_MV = 0.05
_INCONSISTENT_SHARE = 0.2

Float32Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class EcgRecord:
    """One recording as every later step sees it, whatever archive it came from."""

    record_id: str
    """Qualified by source: `ptbxl/00042`."""
    source: str
    sampling_rate_hz: float
    signal_mv: Float32Array
    """float32 (L, n) in mV, leads in the order of LEADS."""
    lead_present: NDArray[np.bool_]
    """bool (L,): false where the lead was neither recorded nor can be derived."""
    patient_id: str | None = None
    """Qualified by source. Never written to logs or messages."""
    codes: frozenset[tuple[str, str]] = frozenset()
    """(system, code) pairs such as ("scp", "CLBBB") or ("snomed", "164909002")."""
    age: float | None = None
    sex: str | None = None
    """"F", "M" or None."""
    report: str | None = None
    quality: tuple[str, ...] = ()
    """Words of QUALITY_FLAGS, sorted."""

    @property
    def num_samples(self) -> int:
        return int(self.signal_mv.shape[1])

    def first_seconds(self, duration_s: float) -> "EcgRecord":
        """The record's first `duration_s` seconds; a shorter record is returned as it is."""
        num_samples = round(duration_s * self.sampling_rate_hz)
        return replace(self, signal_mv=self.signal_mv[:, :num_samples])


@dataclass(frozen=True, kw_only=True)
class PageRecord:
    """A page whose signal nobody has, such as a scan, with what is known of it; the fields are EcgRecord's."""

    record_id: str
    source: str
    page: bytes
    """A picture as read_page.py reads it."""
    patient_id: str | None = None
    codes: frozenset[tuple[str, str]] = frozenset()
    age: float | None = None
    sex: str | None = None
    report: str | None = None


def make_record(
    signal_mv: NDArray[Any],
    lead_names: Sequence[str],
    *,
    sampling_rate_hz: float,
    file: str,
    allow_missing_leads: bool = False,
    quality: Sequence[str] = (),
    **fields: Any,
) -> EcgRecord:
    """An EcgRecord from leads in any order and case; `fields` are the remaining ones of EcgRecord.

    `signal_mv` is (number of lead_names, n) in mV. Leads beyond the twelve are ignored.

    Raises:
        RecordError: `empty_signal`, `nan_samples`, `bad_header` for a lead named twice, or `missing_lead` where a
            lead cannot be derived (with `allow_missing_leads` such a lead is zero and marked absent). Every message
            names `file`.
    """
    if signal_mv.size == 0:
        raise RecordError("empty_signal", f"{file} holds no samples")
    rows = _rows_of_leads(lead_names, file)
    signal = np.zeros((len(LEADS), signal_mv.shape[1]), dtype=np.float32)
    recorded = np.array([lead in rows for lead in LEADS])
    signal[recorded] = signal_mv[[rows[lead] for lead in LEADS if lead in rows]]
    if not np.isfinite(signal).all():
        raise RecordError("nan_samples", f"{file} holds samples without a value in lead {_leads_with_nan(signal)}")
    present = _derive_limb_leads(signal, recorded)
    if not present.all() and not allow_missing_leads:
        missing = ", ".join(lead for lead, is_present in zip(LEADS, present, strict=True) if not is_present)
        raise RecordError("missing_lead", f"{file} lacks lead {missing}, which cannot be derived from the others")
    flags = {*quality, *_quality_flags(signal, recorded, present, sampling_rate_hz)}
    return EcgRecord(
        signal_mv=signal,
        lead_present=present,
        sampling_rate_hz=sampling_rate_hz,
        quality=tuple(sorted(flags)),
        **fields,
    )


def _rows_of_leads(lead_names: Sequence[str], file: str) -> dict[str, int]:
    canonical = {lead.casefold(): lead for lead in LEADS}
    rows: dict[str, int] = {}
    for row, name in enumerate(lead_names):
        lead = canonical.get(re.sub(r"^(lead|mdc_ecg_lead)[ _]", "", name.strip().casefold()))
        if lead in rows:
            raise RecordError("bad_header", f"{file} names lead {lead} twice")
        if lead is not None:
            rows[lead] = row
    return rows


def _leads_with_nan(signal: Float32Array) -> str:
    return ", ".join(lead for lead, row in zip(LEADS, signal, strict=True) if not np.isfinite(row).all())


def _derive_limb_leads(signal: Float32Array, recorded: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill in missing limb leads of (L, n) `signal` in place; returns which leads are there afterwards, bool (L,)."""
    present = recorded.copy()
    limb = recorded[:6]
    if 2 <= limb.sum() < 6:
        # Any two limb leads span the frontal plane; more than two are averaged by least squares.
        i_ii = np.linalg.pinv(_LIMB_FROM_I_II[limb]) @ signal[:6][limb]
        signal[:6][~limb] = _LIMB_FROM_I_II[~limb] @ i_ii
        present[:6] = True
    return present


def _quality_flags(
    signal: Float32Array, recorded: NDArray[np.bool_], present: NDArray[np.bool_], sampling_rate_hz: float
) -> set[str]:
    checks = {
        "derived_lead": bool((present & ~recorded).any()),
        "missing_lead": not present.all(),
        "flat_lead": bool((np.ptp(signal[recorded], axis=1) == 0).any()),
        "clipped": _is_clipped(signal, sampling_rate_hz),
        "limb_leads_inconsistent": bool(recorded[:6].all()) and _breaks_einthoven(signal[:6]),
    }
    return {flag for flag, is_set in checks.items() if is_set}


def _is_clipped(signal: Float32Array, sampling_rate_hz: float) -> bool:
    """Whether a lead that moves rests at its own highest or lowest value for 40 ms, as no heart does."""
    # PTB-XL repeats the first and last sample of every recording for a tenth of a second.
    margin = round(_HELD_ENDS_S * sampling_rate_hz)
    moving = signal[np.ptp(signal, axis=1) > 0, margin : max(signal.shape[1] - margin, margin)]
    window = max(4, round(_CLIPPED_S * sampling_rate_hz))
    if moving.size == 0 or moving.shape[1] <= window:
        return False
    for extreme in (moving.max(axis=1, keepdims=True), moving.min(axis=1, keepdims=True)):
        at_extreme = np.cumsum(moving == extreme, axis=1, dtype=np.int32)
        if (at_extreme[:, window:] - at_extreme[:, :-window] == window).any():
            return True
    return False


def _breaks_einthoven(limb_mv: Float32Array) -> bool:
    """Whether (6, n) limb leads lie off the plane that I and II span, by more than rounding and filters explain."""
    onto_plane = _LIMB_FROM_I_II @ np.linalg.pinv(_LIMB_FROM_I_II)
    centred = limb_mv - limb_mv.mean(axis=1, keepdims=True)
    off_plane_mv = float(np.sqrt(np.mean((centred - onto_plane @ centred) ** 2)))
    return off_plane_mv > max(_INCONSISTENT_MV, _INCONSISTENT_SHARE * float(np.sqrt(np.mean(centred**2))))


def resample(signal_mv: Float32Array, from_hz: float, to_hz: float) -> Float32Array:
    """(L, n) at `from_hz` as (L, m) at `to_hz`, polyphase with an anti-aliasing filter."""
    if from_hz == to_hz:
        return signal_mv
    from scipy.signal import resample_poly

    ratio = Fraction(to_hz / from_hz).limit_denominator(1000)
    # padtype "line": an offset from zero must not ring at both ends.
    resampled = resample_poly(signal_mv, ratio.numerator, ratio.denominator, axis=1, padtype="line")
    return np.asarray(resampled, dtype=np.float32)


def fit_samples(record: EcgRecord, sampling_rate_hz: float, num_samples: int) -> tuple[Float32Array, int]:
    """The record's start at another rate, cropped or zero-padded to T = `num_samples`.

    Returns:
        float32 (L, T) in mV and the number of samples that were recorded.
    """
    start = record.first_seconds(num_samples / sampling_rate_hz)
    signal = resample(start.signal_mv, record.sampling_rate_hz, sampling_rate_hz)[:, :num_samples]
    valid_samples = signal.shape[1]
    return np.pad(signal, ((0, 0), (0, num_samples - valid_samples))), valid_samples
