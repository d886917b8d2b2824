"""DICOM files of every kind that holds an ECG, and damaged ones; nothing of a patient comes out."""

import builtins
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    TwelveLeadECGWaveformStorage,
)  # fmt: skip

from vizecg.platform.data.dataset_info import PageSettings
from vizecg.platform.data.page import print_page
from vizecg.platform.data.read_page import PageSpec, Reading, ReadPage, read_image
from vizecg.platform.errors import RecordError, UserError
from vizecg.platform.score.sources import open_source
from vizecg.platform.score.sources.base import Loaded
from vizecg.platform.score.sources.dicom_waveform import read_waveform

SPEC = PageSpec(width_px=256, height_px=192)
NAME = "Doe^Jane"
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
SCP = (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)
Ecg = Callable[[int], np.ndarray]


@pytest.fixture(scope="module")
def picture(make_ecg: Ecg) -> np.ndarray:
    """An ECG page, uint8 RGB (600, 800, 3)."""
    return print_page(make_ecg(1), 500, PageSettings(width_px=800, height_px=600).style("")).rgb()


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


def pages_of(made: Dataset | bytes, tmp_path: Path, name: str = "file.dcm") -> list[Loaded]:
    (tmp_path / name).write_bytes(made if isinstance(made, bytes) else data_of(made))
    source = open_source(tmp_path / name)
    (item,) = source.reader.open([item for item, _ in source.items()])
    pages = list(item.pages(SPEC, Reading()))
    assert item.id == item.source == str(tmp_path / name)
    assert not any("Doe" in str(page) or "\n" in str(page) for page in pages if isinstance(page, ValueError))
    return pages


def reasons(made: Dataset | bytes, tmp_path: Path) -> list[str | None]:
    return [getattr(page, "reason", None) for page in pages_of(made, tmp_path)]


def assert_shows(page: Loaded, picture: np.ndarray, most: float = 0) -> None:
    assert isinstance(page, ReadPage), page
    expected = read_image(picture, SPEC, Reading()).pixels
    assert np.abs(page.pixels.astype(int) - expected).mean() <= most


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_colour(syntax: str, picture: np.ndarray, tmp_path: Path) -> None:
    made = captured(picture, syntax)
    made["PixelData"].VR = "OW" if syntax == ExplicitVRBigEndian else "OB"
    if syntax == ExplicitVRBigEndian:
        made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
    made.set_original_encoding(syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)
    (page,) = pages_of(made, tmp_path)
    assert_shows(page, picture)


def test_grey_of_every_kind(picture: np.ndarray, tmp_path: Path) -> None:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    deep = grey.astype(np.uint16) * 16
    kinds = {
        "8": captured(grey),
        "negative": captured(255 - grey, PhotometricInterpretation="MONOCHROME1"),
        "12 of 16": captured(deep, BitsStored=12),
        "16": captured(grey.astype(np.uint16) * 257),
        "signed": captured((grey.astype(np.int16) - 128), BitsStored=8),
        "window": captured(grey.astype(np.uint16) + 1000, WindowCenter="1127.5", WindowWidth="255"),
        "rescaled": captured(deep, BitsStored=12, RescaleSlope="2", RescaleIntercept="-7"),
    }
    for kind, made in kinds.items():
        (page,) = pages_of(made, tmp_path, f"{kind}.dcm")
        assert_shows(page, as_rgb, most=1)


def test_compressed_and_in_several_frames(picture: np.ndarray, tmp_path: Path) -> None:
    jpeg = [
        cv2.imencode(".jpg", each[..., ::-1])[1].tobytes() for each in (picture, np.full_like(picture, 255), picture)
    ]
    made = captured(picture, JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422", NumberOfFrames=3)
    made.SOPClassUID = MultiFrameTrueColorSecondaryCaptureImageStorage
    made.PixelData = encapsulate(jpeg)
    first, blank, third = pages_of(made, tmp_path)
    assert_shows(first, picture, most=3)
    assert_shows(third, picture, most=3)
    assert isinstance(blank, ValueError)
    plain = captured(picture, NumberOfFrames=2, PixelData=picture.tobytes() * 2)
    assert reasons(plain, tmp_path) == [None, None]
    runs = captured(picture)
    runs.compress(RLELossless, generate_instance_uid=False)
    assert_shows(pages_of(runs, tmp_path)[0], picture)
    full = np.asarray(Image.fromarray(picture).convert("YCbCr"))
    assert_shows(pages_of(captured(full, PhotometricInterpretation="YBR_FULL"), tmp_path)[0], picture, most=3)


def test_encapsulated_pdf(picture: np.ndarray, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(picture).save(
        file, "PDF", resolution=100, save_all=True, append_images=[Image.new("RGB", (800, 600))]
    )
    kind = {"kind": EncapsulatedPDFStorage, "MIMETypeOfEncapsulatedDocument": "application/pdf"}
    document = file.getvalue() + b"\n" * (len(file.getvalue()) % 2)
    first, second = pages_of(dataset(**kind, EncapsulatedDocument=document), tmp_path)
    assert isinstance(first, ReadPage) and isinstance(second, ValueError)
    other = dataset(EncapsulatedDocument=b"<xml/>", MIMETypeOfEncapsulatedDocument="text/xml")
    assert reasons(other, tmp_path) == ["unsupported"]
    assert reasons(dataset(**kind, EncapsulatedDocument=document[:200]), tmp_path) == ["truncated"]


def test_waveforms_are_what_the_numbers_say(make_ecg: Ecg) -> None:
    signal = make_ecg(2)
    median = group_of(signal * 3, WaveformOriginality="DERIVED", MultiplexGroupLabel="MEDIAN BEAT")
    for unit, per_step in (("uV", 1e-3), ("mV", 1.0)):
        scale = 1.0 if unit == "uV" else 1000.0
        made = waveform(median, group_of(signal * scale, unit=unit, per_step=per_step))
        record = read_waveform(made, "file.dcm")
        assert record.sampling_rate_hz == 500 and record.signal_mv.shape == signal.shape
        np.testing.assert_allclose(record.signal_mv, signal * scale, atol=1.3 * per_step)
        # pydicom's own reading, in the file's unit.
        reference = made.waveform_array(1).T * per_step
        np.testing.assert_allclose(record.signal_mv, reference, rtol=1e-5, atol=1e-5 * scale)


def test_leads_are_known_by_code_and_by_name(make_ecg: Ecg) -> None:
    signal = make_ecg(3)
    spellings: dict[str, Callable[[Dataset, int], None]] = {
        "MDC": lambda channel, n: setattr(channel, "ChannelSourceSequence", coded(f"2:{SCP[n]}")),
        "meaning": lambda channel, n: setattr(channel, "ChannelSourceSequence", coded("x", f"Lead {LEADS[n].upper()}")),
        "Einthoven": lambda channel, n: setattr(
            channel, "ChannelSourceSequence", coded("x", f"Lead {LEADS[n]} (Einthoven)")
        ),
        "MDC word": lambda channel, n: setattr(
            channel, "ChannelSourceSequence", coded(f"MDC_ECG_LEAD_{LEADS[n].upper()}")
        ),
        "label": lambda channel, n: (
            setattr(channel, "ChannelLabel", LEADS[n]),
            delattr(channel, "ChannelSourceSequence"),
        ),
    }
    for name, spell in spellings.items():
        group = group_of(signal[::-1])
        for number, channel in enumerate(group.ChannelDefinitionSequence):
            spell(channel, 11 - number)
        record = read_waveform(waveform(group), "file.dcm")
        np.testing.assert_allclose(record.signal_mv, signal, atol=2e-3, err_msg=name)


def test_a_waveform_is_drawn(make_ecg: Ecg, tmp_path: Path) -> None:
    signal = make_ecg(4)
    (page,) = pages_of(waveform(group_of(signal)), tmp_path)
    style = PageSettings(width_px=256, height_px=192).style("")
    assert isinstance(page, ReadPage) and page.finding is None
    assert np.mean(page.pixels != print_page(signal, 500, style).planes()) < 0.01
    eight = group_of(signal[[0, 1, 6, 7, 8, 9, 10, 11]])
    for channel, number in zip(eight.ChannelDefinitionSequence, (1, 2, 3, 4, 5, 6, 7, 8), strict=True):
        channel.ChannelSourceSequence = coded(f"2:{number}")
    (derived,) = pages_of(waveform(eight), tmp_path)
    assert isinstance(derived, ReadPage) and np.mean(derived.pixels != page.pixels) < 0.02


def test_what_no_waveform_can_be_drawn_from(make_ecg: Ecg, tmp_path: Path) -> None:
    signal = make_ecg(5)
    no_unit, no_step, other_unit = group_of(signal), group_of(signal), group_of(signal, unit="mm[Hg]")
    for channel in no_unit.ChannelDefinitionSequence:
        del channel.ChannelSensitivityUnitsSequence
    for channel in no_step.ChannelDefinitionSequence:
        del channel.ChannelSensitivity
    padded = group_of(signal)
    padded.add_new("WaveformPaddingValue", "OW", np.rint((signal[0, :1] / 1e-3 - 5) / 2.5).astype("<i2").tobytes())
    bad = {
        "bad_header": (no_unit, no_step, other_unit, group_of(signal, rate_hz=0)),
        "missing_lead": (group_of(signal[:6]),),
        "truncated_signal": (group_of(signal, NumberOfWaveformSamples=9000),),
        "unsupported": (group_of(signal, WaveformBitsAllocated=8, WaveformSampleInterpretation="MB"),),
        "nan_samples": (padded,),
    }
    for reason, groups in bad.items():
        for group in groups:
            assert reasons(waveform(group), tmp_path) == [reason]
    assert reasons(waveform(), tmp_path) == ["empty_signal"]


def test_damaged_and_hostile_files(
    picture: np.ndarray,
    make_ecg: Ecg,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = data_of(captured(picture))
    assert reasons(b"", tmp_path) == ["empty"]
    assert reasons(b"no DICOM at all" * 20, tmp_path) == ["not_an_image"]
    assert reasons(whole[: len(whole) // 2], tmp_path) == ["truncated"]
    assert reasons(whole[:140], tmp_path) == ["no_page"]
    assert reasons(dataset(), tmp_path) == ["no_page"]
    large = captured(picture, Rows=60_000, Columns=60_000)
    assert reasons(large, tmp_path) == ["too_many_pixels"]
    assert reasons(captured(picture, NumberOfFrames=100_000), tmp_path) == ["too_many_pages"]
    bomb = captured(picture, Rows=7000, Columns=7000, BitsAllocated=64, BitsStored=64)
    assert reasons(bomb, tmp_path) == ["too_many_pixels"]
    assert reasons(captured(picture, DeflatedExplicitVRLittleEndian), tmp_path) == ["unsupported"]
    assert reasons(captured(picture, JPEG2000Lossless, PixelData=encapsulate([b"\0" * 64])), tmp_path) == [
        "unsupported"
    ]
    rng = np.random.default_rng(0)
    ecg = bytearray(data_of(waveform(group_of(make_ecg(0)[:, :50]))))
    for _ in range(60):
        cut = bytearray(ecg)
        for place in rng.integers(132, len(ecg), 20):
            cut[place] = rng.integers(256)
        pages_of(bytes(cut), tmp_path)
    # pydicom would quote what it does not like.
    assert not [warned for warned in recwarn if "pydicom" in warned.filename] and not caplog.records


def test_a_hospitals_folder(picture: np.ndarray, make_ecg: Ecg, tmp_path: Path) -> None:
    ecg = data_of(waveform(group_of(make_ecg(0))))
    for name in ("IM0001", "1.2.840.10008.17", "a.dcm", "b.DICOM", "report.doc"):
        (tmp_path / name).write_bytes(ecg)
    (tmp_path / "DICOMDIR.txt").write_text("no page")
    source = open_source(tmp_path)
    assert [item for item, _ in source.items()] == ["1.2.840.10008.17", "IM0001", "a.dcm", "b.DICOM"]
    assert source.kind == "dicom" and source.left_out == {".doc": 1, ".txt": 1}
    cv2.imwrite(str(tmp_path / "scan.png"), picture[..., ::-1])
    both = open_source(tmp_path)
    assert both.kind == "pictures" and both.num_items == 5


def test_without_pydicom_one_sentence_says_what_to_install(
    make_ecg: Ecg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.dcm").write_bytes(data_of(waveform(group_of(make_ecg(0)))))
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pydicom":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install vizecg\[formats\]"):
        open_source(tmp_path)


def test_a_real_recording(real_data: Path) -> None:
    file = real_data / "format-samples" / "anonymous_ecg.dcm"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    source = open_source(file)
    (item,) = source.reader.open([item for item, _ in source.items()])
    (page,) = item.pages(SPEC, Reading())
    assert isinstance(page, ReadPage) and not isinstance(page, RecordError)
