"""DICOM files of every kind that holds an ECG, and damaged ones; nothing of a patient comes out."""

import builtins
import runpy
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
)

from vizecg.platform.data.dataset_info import PageSettings
from vizecg.platform.data.page import print_page
from vizecg.platform.data.read_page import PageSpec, Reading, ReadPage, read_image
from vizecg.platform.data.reading.dicom import dicom_page, is_dicom, num_dicom_pages
from vizecg.platform.data.reading.dicom_waveform import read_waveform
from vizecg.platform.errors import PageError

files = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "dicom_files.py")))
captured, data_of, group_of, waveform = files.captured, files.data_of, files.group_of, files.waveform
SPEC = PageSpec(width_px=256, height_px=192)
Ecg = Callable[[int], np.ndarray]


@pytest.fixture(scope="module")
def picture(make_ecg: Ecg) -> np.ndarray:
    """An ECG page, uint8 RGB (600, 800, 3)."""
    return print_page(make_ecg(1), 500, PageSettings(width_px=800, height_px=600).style("")).rgb()


def page_of(made: Dataset | bytes, page: int = 0, reading: Reading | None = None, **limits: int) -> ReadPage:
    data = made if isinstance(made, bytes) else data_of(made)
    assert is_dicom(data)
    try:
        assert num_dicom_pages(data) > page or page == 99
        return dicom_page(data, SPEC, reading or Reading(), page=page, **limits)
    except PageError as error:
        assert (
            "Doe" not in str(error) and "\n" not in str(error) and error.__suppress_context__
        ) or not error.__context__
        raise


def reason(made: Dataset | bytes, page: int = 0, **limits: int) -> str | None:
    try:
        page_of(made, page, **limits)
    except PageError as error:
        return error.reason
    return None


def assert_shows(page: ReadPage, picture: np.ndarray, most: float = 0) -> None:
    expected = read_image(picture, SPEC, Reading()).pixels
    assert np.abs(page.pixels.astype(int) - expected).mean() <= most


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_colour(syntax: str, picture: np.ndarray) -> None:
    made = captured(picture, syntax)
    made["PixelData"].VR = "OW" if syntax == ExplicitVRBigEndian else "OB"
    if syntax == ExplicitVRBigEndian:
        made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
    made.set_original_encoding(syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)
    assert_shows(page_of(made), picture)


def test_grey_of_every_kind(picture: np.ndarray) -> None:
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
    for made in kinds.values():
        assert_shows(page_of(made), as_rgb, most=1)


def test_large_grey_is_decoded_in_strips() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (1500, 2000), np.uint8)
    reading = Reading(check=False, upright=False)
    expected = read_image(np.repeat(grey[..., None], 3, axis=2), SPEC, reading).pixels
    np.testing.assert_array_equal(page_of(captured(grey), reading=reading).pixels, expected)


def test_compressed_and_in_several_frames(picture: np.ndarray) -> None:
    jpeg = [
        cv2.imencode(".jpg", each[..., ::-1])[1].tobytes() for each in (picture, np.full_like(picture, 255), picture)
    ]
    made = captured(picture, JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422", NumberOfFrames=3)
    made.SOPClassUID = MultiFrameTrueColorSecondaryCaptureImageStorage
    made.PixelData = encapsulate(jpeg)
    assert num_dicom_pages(data_of(made)) == 3
    assert_shows(page_of(made, 0), picture, most=3)
    assert_shows(page_of(made, 2), picture, most=3)
    assert reason(made, 1) == "not_an_ecg"
    assert reason(made, 99) == "no_such_page"
    plain = captured(picture, NumberOfFrames=2, PixelData=picture.tobytes() * 2)
    assert [reason(plain, 0), reason(plain, 1)] == [None, None]
    runs = captured(picture)
    runs.compress(RLELossless, generate_instance_uid=False)
    assert_shows(page_of(runs), picture)
    full = np.asarray(Image.fromarray(picture).convert("YCbCr"))
    assert_shows(page_of(captured(full, PhotometricInterpretation="YBR_FULL")), picture, most=3)


def test_encapsulated_pdf(picture: np.ndarray) -> None:
    made = files.document(picture, np.zeros((600, 800, 3), np.uint8))
    assert num_dicom_pages(data_of(made)) == 2
    assert page_of(made, 0).finding is not None and reason(made, 1) == "not_an_ecg"
    other = files.document(picture, EncapsulatedDocument=b"<xml/>", MIMETypeOfEncapsulatedDocument="text/xml")
    assert reason(other) == "unsupported"
    assert reason(files.document(picture, EncapsulatedDocument=made.EncapsulatedDocument[:200])) == "truncated"


def test_the_size_as_sent_is_told_where_quality_is_asked_for(picture: np.ndarray) -> None:
    jpeg = captured(picture, JPEGBaseline8Bit, PixelData=encapsulate([cv2.imencode(".jpg", picture)[1].tobytes()]))
    asked = Reading(quality=True)
    assert page_of(captured(picture), reading=asked).sent_size_px == (800, 600)
    assert page_of(jpeg, reading=asked).sent_size_px == (800, 600)
    assert page_of(files.document(picture), reading=asked).sent_size_px is None


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
    signal, coded, leads = make_ecg(3), files.coded, files.LEADS
    spellings: dict[str, Callable[[Dataset, int], None]] = {
        "MDC": lambda channel, n: setattr(channel, "ChannelSourceSequence", coded(f"2:{files.SCP[n]}")),
        "meaning": lambda channel, n: setattr(channel, "ChannelSourceSequence", coded("x", f"Lead {leads[n].upper()}")),
        "Einthoven": lambda channel, n: setattr(
            channel, "ChannelSourceSequence", coded("x", f"Lead {leads[n]} (Einthoven)")
        ),
        "MDC word": lambda channel, n: setattr(
            channel, "ChannelSourceSequence", coded(f"MDC_ECG_LEAD_{leads[n].upper()}")
        ),
        "label": lambda channel, n: (
            setattr(channel, "ChannelLabel", leads[n]),
            delattr(channel, "ChannelSourceSequence"),
        ),
    }
    for name, spell in spellings.items():
        group = group_of(signal[::-1])
        for number, channel in enumerate(group.ChannelDefinitionSequence):
            spell(channel, 11 - number)
        record = read_waveform(waveform(group), "file.dcm")
        np.testing.assert_allclose(record.signal_mv, signal, atol=2e-3, err_msg=name)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_waveform_is_drawn(syntax: str, make_ecg: Ecg) -> None:
    signal = make_ecg(4)
    made = waveform(group_of(signal), syntax=syntax)
    made.WaveformSequence[0]["WaveformData"].VR = "OW"
    made.set_original_encoding(syntax == ImplicitVRLittleEndian, True)
    page = page_of(made)
    style = PageSettings(width_px=256, height_px=192).style("")
    assert page.finding is None and num_dicom_pages(data_of(made)) == 1
    assert np.mean(page.pixels != print_page(signal, 500, style).planes()) < 0.01
    assert reason(waveform(group_of(signal, rate_hz=0))) == "bad_header"
    assert reason(waveform(group_of(signal[:6]))) == "missing_lead"


def test_damaged_and_hostile_files(
    picture: np.ndarray, make_ecg: Ecg, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    whole = data_of(captured(picture))
    assert not is_dicom(b"") and not is_dicom(b"no DICOM at all" * 20)
    assert reason(whole[: len(whole) // 2]) == "truncated"
    assert reason(whole[:140]) == "no_page"
    assert reason(files.dataset()) == "no_page"
    assert reason(whole, max_bytes=1000) == "too_large"
    assert reason(whole, max_pixels=1000) == "too_many_pixels"
    assert reason(captured(picture, Rows=60_000, Columns=60_000)) == "too_many_pixels"
    assert reason(captured(picture, NumberOfFrames=100_000)) == "too_many_pages"
    assert reason(captured(picture, Rows=7000, Columns=7000, BitsAllocated=64, BitsStored=64)) == "too_many_pixels"
    assert reason(captured(picture, DeflatedExplicitVRLittleEndian)) == "unsupported"
    assert reason(captured(picture, JPEG2000Lossless, PixelData=encapsulate([b"\0" * 64]))) == "unsupported"
    rng = np.random.default_rng(0)
    ecg = bytearray(data_of(waveform(group_of(make_ecg(0)[:, :50]))))
    for _ in range(60):
        cut = bytearray(ecg)
        for place in rng.integers(132, len(ecg), 20):
            cut[place] = rng.integers(256)
        reason(bytes(cut))
    # pydicom would quote what it does not like.
    assert not [warned for warned in recwarn if "pydicom" in warned.filename] and not caplog.records


def sequence(group: int, element: int, value: bytes, defined: bool = True) -> bytes:
    length = len(value) if defined else 0xFFFFFFFF
    return struct.pack("<HH2sHI", group, element, b"SQ", 0, length) + value


def item_of(value: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


TINY = struct.pack("<HH2sH", 0x7001, 0x0010, b"LO", 0)
MANY = 500_000
BOMBS = {
    "elements": TINY * MANY,
    "elements of the header": struct.pack("<HH2sH", 0x0002, 0x0013, b"SH", 0) * MANY,
    "open sequence": sequence(0x7003, 0x10, struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + TINY * MANY, False),
    "elements of a waveform": sequence(0x5400, 0x0100, item_of(TINY * MANY)),
    "waveforms": sequence(0x5400, 0x0100, item_of(b"") * MANY),
    "channels": sequence(0x5400, 0x0100, item_of(sequence(0x003A, 0x0200, item_of(b"") * 3000)) * (MANY // 3000)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_millions_of_elements_are_given_up_early(kind: str) -> None:
    head = data_of(files.dataset())
    data = head[:132] + BOMBS[kind] if "header" in kind else head + BOMBS[kind]
    started = time.process_time()
    assert reason(data) == "too_complex"
    # Parsed to the end they take twenty times as long as this allows.
    assert time.process_time() - started < 3


def test_deep_nesting_ends_in_an_answer() -> None:
    opened = sequence(0x7003, 0x10, struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), defined=False)
    assert reason(data_of(files.dataset()) + opened * 10_000) == "truncated"


def test_without_pydicom_a_page_is_refused(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    data, imported = data_of(captured(picture)), builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pydicom":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for ask in (lambda: num_dicom_pages(data), lambda: dicom_page(data, SPEC, Reading())):
        with pytest.raises(PageError, match="pydicom is not installed") as caught:
            ask()
        assert caught.value.reason == "unsupported"
