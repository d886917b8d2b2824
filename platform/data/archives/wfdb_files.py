"""WFDB records: the plain cases with numpy, everything else with the wfdb library.

Parsing headers is most of wfdb's time, and nearly every ECG archive uses one form: format 16 in a single .dat, or the
same behind the 24-byte head of a MATLAB v4 .mat. Header format: https://physionet.org/physiotools/wag/header-5.htm

Shapes: S signals in the file, n samples.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import RecordError

_RECORD_LINE = re.compile(r"(?P<name>\S+)\s+(?P<signals>\d+)(\s+(?P<rate>[\d.]+)\S*(\s+(?P<samples>\d+))?)?(\s.*)?$")
_FORMAT = re.compile(r"16(x1)?(\+(?P<offset>\d+))?$")
_GAIN = re.compile(r"(?P<gain>[-+\d.eE]+)(\((?P<baseline>-?\d+)\))?(/(?P<unit>\S+))?$")
_UNIT_IN_MV = {"mv": 1.0, "uv": 1e-3, "v": 1e3}
_DEFAULT_RATE_HZ = 250.0
_NAN_SAMPLE = -32768


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a .hea file says: the record line, the raw signal lines and the comments."""

    path: Path
    num_signals: int
    sampling_rate_hz: float
    num_samples: int | None
    is_multi_segment: bool
    signal_lines: tuple[str, ...]
    comments: Mapping[str, str] = field(default_factory=dict)
    """`# Age: 63` as {"age": "63"}; blanks before the key differ between archives."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Samples in physical units, float32 (S, n) in mV, with the name of each signal."""

    signal_mv: NDArray[np.float32]
    lead_names: tuple[str, ...]
    sampling_rate_hz: float
    checksums_match: bool


@dataclass(frozen=True, kw_only=True)
class _PlainLayout:
    """Where format 16 keeps its samples, per signal where arrays; gains are in units per mV."""

    file_name: str
    byte_offset: int
    gain: NDArray[np.float32]
    baseline: NDArray[np.float32]
    checksum: NDArray[np.int64]
    lead_names: tuple[str, ...]


def read_header(path: Path) -> Header:
    """Parse a .hea file.

    Raises:
        RecordError: `missing_file` or `bad_header`, naming the file.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise RecordError("missing_file", f"{path} does not exist") from error
    except OSError as error:
        raise RecordError("bad_header", f"{path} cannot be read: {error.strerror}") from error
    lines = [line.strip() for line in text.splitlines()]
    content = [line for line in lines if line and not line.startswith("#")]
    record_line = _RECORD_LINE.match(content[0]) if content else None
    if record_line is None:
        raise RecordError("bad_header", f"{path} does not begin with a WFDB record line")
    num_signals = int(record_line["signals"])
    if num_signals == 0 or len(content) - 1 < num_signals:
        raise RecordError("bad_header", f"{path} announces {num_signals} signals and describes {len(content) - 1}")
    return Header(
        path=path,
        num_signals=num_signals,
        sampling_rate_hz=_positive_rate_hz(record_line["rate"], path),
        num_samples=int(record_line["samples"]) if record_line["samples"] else None,
        is_multi_segment="/" in record_line["name"],
        signal_lines=tuple(content[1 : num_signals + 1]),
        comments=_comments(lines),
    )


def read_recording(header: Header) -> Recording:
    """The samples a header describes.

    Raises:
        RecordError: `missing_file`, `truncated_signal`, `empty_signal`, `bad_header` or `unreadable_signal`.
    """
    layout = None if header.is_multi_segment else _plain_layout(header)
    return _read_with_wfdb(header) if layout is None else _read_plain(header, layout)


def _positive_rate_hz(text: str | None, path: Path) -> float:
    try:
        rate_hz = float(text) if text else _DEFAULT_RATE_HZ
    except ValueError:
        rate_hz = 0.0
    if rate_hz <= 0:
        raise RecordError("bad_header", f"{path} gives the sampling rate {text}")
    return rate_hz


def _comments(lines: list[str]) -> dict[str, str]:
    comments: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.lstrip("#").partition(":")
        if line.startswith("#") and colon:
            comments.setdefault(key.strip().casefold(), value.strip())
    return comments


def _plain_layout(header: Header) -> _PlainLayout | None:
    """The layout if all signals are format 16 in one file at one offset, else None."""
    rows = [line.split(maxsplit=8) for line in header.signal_lines]
    if any(len(row) < 9 for row in rows) or len({(row[0], row[1]) for row in rows}) != 1:
        return None
    stored_as = _FORMAT.match(rows[0][1])
    gains = [_GAIN.match(row[2]) for row in rows]
    if stored_as is None or None in gains:
        return None
    known_gains = [gain for gain in gains if gain is not None]
    units_in_mv = [_UNIT_IN_MV.get((gain["unit"] or "mV").casefold(), 0.0) for gain in known_gains]
    try:
        gain = np.array([float(gain["gain"]) for gain in known_gains])
        baseline = [int(gain["baseline"] or row[4]) for gain, row in zip(known_gains, rows, strict=True)]
        checksum = [int(row[6]) for row in rows]
    except ValueError:
        return None
    if 0 in gain or 0 in units_in_mv:
        return None
    return _PlainLayout(
        file_name=rows[0][0],
        byte_offset=int(stored_as["offset"] or 0),
        gain=(gain / np.array(units_in_mv)).astype(np.float32),
        baseline=np.array(baseline, dtype=np.float32),
        checksum=np.array(checksum),
        lead_names=tuple(row[8] for row in rows),
    )


def _read_plain(header: Header, layout: _PlainLayout) -> Recording:
    path = _signal_path(header, layout.file_name)
    stored = np.fromfile(path, dtype="<i2", offset=layout.byte_offset)
    num_stored = stored.size // header.num_signals
    num_samples = num_stored if header.num_samples is None else header.num_samples
    if num_stored < num_samples:
        message = f"{path} holds {num_stored} of the {num_samples} samples that {header.path.name} announces"
        raise RecordError("truncated_signal", message)
    if num_samples == 0:
        raise RecordError("empty_signal", f"{path} holds no samples")
    raw = stored[: num_samples * header.num_signals].reshape(num_samples, header.num_signals).T
    signal = (raw.astype(np.float32) - layout.baseline[:, None]) / layout.gain[:, None]
    signal[raw == _NAN_SAMPLE] = np.nan
    sums = raw.sum(axis=1, dtype=np.int64)
    return Recording(
        signal_mv=signal,
        lead_names=layout.lead_names,
        sampling_rate_hz=header.sampling_rate_hz,
        checksums_match=bool(((sums - layout.checksum) % 65536 == 0).all()),
    )


def _signal_path(header: Header, file_name: str) -> Path:
    if "/" in file_name or "\\" in file_name:
        raise RecordError("bad_header", f"{header.path} names a signal file outside its folder")
    path = header.path.parent / file_name
    if not path.is_file():
        raise RecordError("missing_file", f"{header.path} names {file_name}, which is not there")
    return path


def _read_with_wfdb(header: Header) -> Recording:
    import wfdb

    if not header.is_multi_segment:
        for line in header.signal_lines:
            _signal_path(header, line.split()[0])
    try:
        record = wfdb.rdrecord(str(header.path.with_suffix("")))
        units_in_mv = np.array([_UNIT_IN_MV[unit.casefold()] for unit in record.units])
        signal_mv = (record.p_signal * units_in_mv).T.astype(np.float32)
        lead_names = tuple(name or "" for name in record.sig_name)
    except KeyError as error:
        raise RecordError("bad_header", f"{header.path} gives a signal in {error}, not in mV") from error
    except Exception as error:  # wfdb has no error class of its own: parsers, numpy and the file system all speak
        raise RecordError("unreadable_signal", f"{header.path} cannot be read: {error}") from error
    return Recording(
        signal_mv=signal_mv, lead_names=lead_names, sampling_rate_hz=float(record.fs), checksums_match=True
    )
