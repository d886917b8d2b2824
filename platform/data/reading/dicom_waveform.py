"""Waveforms of DICOM files -> EcgRecord: 12-Lead ECG, General ECG and Ambulatory ECG.

https://dicom.nema.org/medical/dicom/current/output/html/part03.html#sect_C.10.9

Shapes: S channels of a multiplex group, n samples.
"""

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordError
from ..records import LEADS, EcgRecord, make_record

if TYPE_CHECKING:
    from pydicom import Dataset

WAVEFORM_SEQUENCES = frozenset(
    ("WaveformSequence", "ChannelDefinitionSequence", "ChannelSourceSequence", "ChannelSensitivityUnitsSequence")
)
_CODE = re.compile(r"(?:2:|5\.6\.3-9-)(\d+)")
"""MDC and SCP-ECG number leads alike: PS3.16, CID 3001."""
_LEAD_OF_NUMBER = {
    1: "I", 2: "II", 3: "V1", 4: "V2", 5: "V3", 6: "V4", 7: "V5", 8: "V6", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF",
}  # fmt: skip
_NAMED = re.compile(r"(?:.*\b|mdc_ecg_)lead[ _]+(\w+)", re.IGNORECASE)
_UNIT_IN_MV = {"uv": 1e-3, "mv": 1.0, "v": 1e3, "nv": 1e-6}
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_SAMPLES = {
    (8, "SB"): "i1",
    (8, "UB"): "u1",
    (16, "SS"): "<i2",
    (16, "US"): "<u2",
    (32, "SL"): "<i4",
    (32, "UL"): "<u4",
}


def read_waveform(dataset: "Dataset", file: str) -> EcgRecord:
    """The longest original recording of the most leads in a DICOM file.

    Raises:
        RecordError: `bad_header`, `truncated_signal`, and those of `make_record`.
    """
    if str(dataset.file_meta.TransferSyntaxUID) == _BIG_ENDIAN:
        raise RecordError("unsupported", f"{file} is of big-endian byte order, which DICOM has given up")
    groups = [(group, _lead_names(group)) for group in dataset.WaveformSequence]
    if not groups:
        raise RecordError("empty_signal", f"{file} holds no samples")
    group, names = max(groups, key=lambda pair: _worth(*pair))
    if not set(names) & set(LEADS):
        raise RecordError("missing_lead", f"{file} names none of the 12 leads, so it is no ECG that can be drawn")
    return make_record(
        _signal_mv(group, file),
        names,
        sampling_rate_hz=_rate_hz(group, file),
        file=file,
        record_id=file,
        source="dicom",
    )


def _worth(group: "Dataset", names: list[str]) -> tuple[int, bool, float]:
    """Median beats have all leads, too, and are neither original nor long."""
    duration_s = int(group.NumberOfWaveformSamples) / max(float(group.SamplingFrequency), 1e-9)
    return len(set(names) & set(LEADS)), group.get("WaveformOriginality") != "DERIVED", duration_s


def _lead_names(group: "Dataset") -> list[str]:
    return [_lead_name(channel) for channel in group.ChannelDefinitionSequence]


def _lead_name(channel: "Dataset") -> str:
    """By the code of its source, else by its meaning; "" of what is no lead of the twelve."""
    sources = channel.get("ChannelSourceSequence") or []
    for source in sources:
        if code := _CODE.fullmatch(str(source.get("CodeValue", ""))):
            return _LEAD_OF_NUMBER.get(int(code[1]), "")
    told = [str(source.get(key, "")) for source in sources for key in ("CodeMeaning", "CodeValue")]
    known = {lead.casefold(): lead for lead in LEADS}
    for text in (*told, str(channel.get("ChannelLabel", ""))):
        word = named[1] if (named := _NAMED.match(text.strip())) else text.strip()
        if word.casefold() in known:
            return known[word.casefold()]
    return ""


def _rate_hz(group: "Dataset", file: str) -> float:
    rate_hz = float(group.SamplingFrequency)
    if not 0 < rate_hz < 1e6:
        raise RecordError("bad_header", f"{file} gives the sampling rate {rate_hz:g} Hz")
    return rate_hz


def _signal_mv(group: "Dataset", file: str) -> NDArray[np.float32]:
    """(S, n): stored number * sensitivity * its correction + baseline, all in the channel's own unit."""
    kind = int(group.WaveformBitsAllocated), str(group.WaveformSampleInterpretation)
    if kind not in _SAMPLES:
        raise RecordError(
            "unsupported", f"{file} stores its waveform as {kind[1]} of {kind[0]} bits, which is not read"
        )
    num_channels, num_samples = int(group.NumberOfWaveformChannels), int(group.NumberOfWaveformSamples)
    data = np.frombuffer(group.WaveformData, np.uint8)
    num_bytes = num_channels * num_samples * kind[0] // 8
    if num_channels != len(group.ChannelDefinitionSequence) or len(data) < num_bytes:
        message = f"{file} announces {num_channels} channels of {num_samples} samples and does not hold them"
        raise RecordError("truncated_signal", message)
    raw = data[:num_bytes].view(_SAMPLES[kind]).reshape(num_samples, num_channels).T
    signal = raw.astype(np.float32)
    if "WaveformPaddingValue" in group:
        padding = np.frombuffer(_as_bytes(group.WaveformPaddingValue, kind), _SAMPLES[kind])
        signal[raw == padding[0]] = np.nan
    scale = np.array([_scale_mv(channel, file) for channel in group.ChannelDefinitionSequence], np.float32)
    return signal * scale[:, :1] + scale[:, 1:]


def _as_bytes(value: object, kind: tuple[int, str]) -> bytes:
    return value if isinstance(value, bytes) else np.array(value).astype(_SAMPLES[kind]).tobytes()


def _scale_mv(channel: "Dataset", file: str) -> tuple[float, float]:
    """(millivolts of one step, millivolts of zero)"""
    if channel.get("ChannelSensitivity") is None:
        raise RecordError("bad_header", f"{file} does not say how many millivolts a step of its samples is")
    units = channel.get("ChannelSensitivityUnitsSequence") or []
    unit = str(units[0].get("CodeValue", "")) if units else ""
    if unit.casefold() not in _UNIT_IN_MV:
        raise RecordError("bad_header", f"{file} gives its samples in {unit or 'no unit'}, not in uV, mV or V")
    correction = channel.get("ChannelSensitivityCorrectionFactor")
    step = float(channel.ChannelSensitivity) * float(1 if correction is None else correction)
    in_mv = _UNIT_IN_MV[unit.casefold()]
    return step * in_mv, float(channel.get("ChannelBaseline") or 0) * in_mv
