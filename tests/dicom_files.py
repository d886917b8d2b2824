"""DICOM files made to order, for tests: of pictures, PDFs and waveforms."""

import io
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    TwelveLeadECGWaveformStorage,
)

NAME = "Doe^Jane"
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
SCP = (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)


def dataset(syntax: str = ExplicitVRLittleEndian, kind: str = SecondaryCaptureImageStorage, **fields: Any) -> Dataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = syntax, kind, "1.2.3"
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.PatientName, made.PatientID, made.SOPClassUID, made.SOPInstanceUID = NAME, "4711", kind, "1.2.3"
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def data_of(made: Dataset) -> bytes:
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


def captured(pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **fields: Any) -> Dataset:
    """(h, w) or (h, w, 3) as a secondary capture."""
    bits = 8 * pixels.itemsize
    return dataset(
        syntax, **{
            "Rows": pixels.shape[0], "Columns": pixels.shape[1], "SamplesPerPixel": 3 if pixels.ndim == 3 else 1,
            "BitsAllocated": bits,
            "PhotometricInterpretation": "RGB" if pixels.ndim == 3 else "MONOCHROME2", "PlanarConfiguration": 0,
            "BitsStored": bits, "HighBit": fields.get("BitsStored", bits) - 1,
            "PixelRepresentation": int(pixels.dtype.kind == "i"), "PixelData": pixels.tobytes(), **fields,
        },
    )  # fmt: skip


def coded(value: str, meaning: str = "") -> list[Dataset]:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCPECG", meaning
    return [code]


def group_of(
    signal_mv: np.ndarray, rate_hz: float = 500, unit: str = "uV", per_step: float = 1e-3, **fields: Any
) -> Dataset:
    """A multiplex group of (S, n) in mV, the leads in the order of LEADS, in steps of 2.5 units on a baseline of 5."""
    group = Dataset()
    group.ChannelDefinitionSequence = []
    for number in SCP[: len(signal_mv)]:
        channel = Dataset()
        channel.ChannelSourceSequence = coded(f"5.6.3-9-{number}")
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor, channel.ChannelBaseline = (
            "1.25",
            "2",
            "5",
        )
        channel.ChannelSensitivityUnitsSequence = coded(unit)
        channel.WaveformBitsStored = 16
        group.ChannelDefinitionSequence.append(channel)
    stored = np.rint((signal_mv / per_step - 5) / 2.5).astype("<i2")
    group.WaveformData, group.WaveformBitsAllocated, group.WaveformSampleInterpretation = stored.T.tobytes(), 16, "SS"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = stored.shape
    group.SamplingFrequency, group.WaveformOriginality = str(rate_hz), "ORIGINAL"
    for name, value in fields.items():
        setattr(group, name, value)
    return group


def waveform(*groups: Dataset, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    return dataset(syntax, TwelveLeadECGWaveformStorage, WaveformSequence=list(groups))


def document(*pictures: np.ndarray, **fields: Any) -> Dataset:
    """Pictures (h, w, 3), one to a page, as an encapsulated PDF."""
    file = io.BytesIO()
    first, *others = (Image.fromarray(each) for each in pictures)
    first.save(file, "PDF", resolution=100, save_all=True, append_images=others)
    pdf = file.getvalue() + b"\n" * (len(file.getvalue()) % 2)
    kind = {"MIMETypeOfEncapsulatedDocument": "application/pdf", "EncapsulatedDocument": pdf}
    return dataset(kind=EncapsulatedPDFStorage, **{**kind, **fields})
