"""Whose page was read: patient, study and instance, in the words of the DICOM file that the request sent.

What is damaged, ambiguous or too long is left empty rather than mended: half an id may be somebody else's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ...platform.data.reading.dicom import has_pydicom, is_dicom
from ...platform.data.reading.dicom_parse import guarded, parse
from ...platform.errors import PageError

if TYPE_CHECKING:
    from pydicom import Dataset

_NAME = r"[^\\\x00-\x1f\x7f\ufffd]{0,194}"
_TEXT_64, _TEXT_16 = (rf"[^\\\x00-\x1f\x7f\ufffd]{{0,{most}}}" for most in (64, 16))
_DATE, _TIME = r"(\d{8})?", r"(\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?)?"
_UID = re.compile(r"[0-2](\.(0|[1-9]\d*))+")
_COPIED = {
    "PatientName": _NAME, "PatientID": _TEXT_64, "PatientBirthDate": _DATE, "PatientSex": "[MFO]?",
    "StudyDate": _DATE, "StudyTime": _TIME, "ReferringPhysicianName": _NAME, "StudyID": _TEXT_16,
    "AccessionNumber": _TEXT_16,
}  # fmt: skip
"""Elements that every document has, and how a value looks that may be copied: PS3.3, C.7.1.1 and C.7.2.1."""
_ISSUER = "IssuerOfPatientID"


@dataclass(frozen=True)
class Instance:
    """The DICOM object in which the page was."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    value_type: Literal["IMAGE", "WAVEFORM", "COMPOSITE"]
    """As a content item of an SR refers to it."""
    num_frames: int


@dataclass(frozen=True)
class Source:
    """What a document takes over from the request; without a DICOM file nothing."""

    copied: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(_COPIED, ""))
    """By keyword."""
    study_uid: str | None = None
    instance: Instance | None = None
    """None also where a damaged file does not name itself or its study."""


def source_of(data: bytes | None) -> Source:
    """Of the bytes of a request, of which only DICOM files say whose they are.

    Raises:
        PageError: `unsupported` without pydicom; damaged files as `parse`.
    """
    if not has_pydicom():
        raise PageError("unsupported", "no DICOM report can be made here: pydicom is not installed")
    if data is None or not is_dicom(data):
        return Source()
    uids = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    dataset = parse(data, (*_COPIED, _ISSUER, *uids, "Rows", "NumberOfFrames", "WaveformSequence"))
    copied = {name: _text(dataset, name, pattern) for name, pattern in _COPIED.items()}
    if issuer := _text(dataset, _ISSUER, _TEXT_64):
        copied[_ISSUER] = issuer
    sop_class, instance, series, study = (_uid(dataset, name) for name in uids)
    if not (sop_class and instance and series and study):
        return Source(copied, study)
    return Source(copied, study, Instance(sop_class, instance, series, _value_type(dataset), _num_frames(dataset)))


def _text(dataset: "Dataset", name: str, pattern: str) -> str:
    value = guarded(lambda: str(dataset.get(name) or "")).strip()
    # A list of values would be shown as one of Python's.
    return value if re.fullmatch(pattern, value) and guarded(lambda: dataset[name].VM <= 1 if value else True) else ""


def _uid(dataset: "Dataset", name: str) -> str | None:
    uid = _text(dataset, name, _TEXT_64)
    return uid if _UID.fullmatch(uid) else None


def _value_type(dataset: "Dataset") -> Literal["IMAGE", "WAVEFORM", "COMPOSITE"]:
    if "WaveformSequence" in dataset:
        return "WAVEFORM"
    return "IMAGE" if "Rows" in dataset else "COMPOSITE"


def _num_frames(dataset: "Dataset") -> int:
    return guarded(lambda: int(dataset.get("NumberOfFrames") or 1))
