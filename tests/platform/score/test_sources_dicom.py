"""DICOM files as a source of pages: a bad page hides no other, and nothing of a patient comes out."""

import builtins
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from vizecg.platform.data.dataset_info import PageSettings
from vizecg.platform.data.page import print_page
from vizecg.platform.data.read_page import PageSpec, Reading, ReadPage
from vizecg.platform.errors import RecordError, UserError
from vizecg.platform.score.sources import SourceSettings, open_source
from vizecg.platform.score.sources.base import Loaded

files = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "dicom_files.py")))
captured, coded, data_of, group_of, waveform = (
    files.captured, files.coded, files.data_of, files.group_of, files.waveform,
)  # fmt: skip
SPEC = PageSpec(width_px=256, height_px=192)
Ecg = Callable[[int], np.ndarray]


@pytest.fixture(scope="module")
def picture(make_ecg: Ecg) -> np.ndarray:
    """An ECG page, uint8 RGB (600, 800, 3)."""
    return print_page(make_ecg(1), 500, PageSettings(width_px=800, height_px=600).style("")).rgb()


def pages_of(made: Dataset | bytes, tmp_path: Path, settings: SourceSettings | None = None) -> list[Loaded]:
    place = tmp_path / "file.dcm"
    place.write_bytes(made if isinstance(made, bytes) else data_of(made))
    source = open_source(place, settings)
    (item,) = source.reader.open([item for item, _ in source.items()])
    pages = list(item.pages(SPEC, Reading()))
    assert item.id == item.source == str(place)
    assert not any("Doe" in str(page) or "\n" in str(page) for page in pages if isinstance(page, ValueError))
    return pages


def reasons(made: Dataset | bytes, tmp_path: Path) -> list[str | None]:
    return [getattr(page, "reason", None) for page in pages_of(made, tmp_path)]


def test_every_frame_is_a_page_of_its_own(picture: np.ndarray, tmp_path: Path) -> None:
    blank = np.full_like(picture, 255)
    jpeg = [cv2.imencode(".jpg", each[..., ::-1])[1].tobytes() for each in (picture, blank, picture)]
    made = captured(picture, JPEGBaseline8Bit, NumberOfFrames=3, PixelData=encapsulate(jpeg))
    assert reasons(made, tmp_path) == [None, "not_an_ecg", None]
    assert reasons(files.document(picture, blank, picture), tmp_path) == [None, "not_an_ecg", None]


def test_a_waveform_is_drawn_as_the_settings_say(make_ecg: Ecg, tmp_path: Path) -> None:
    signal = make_ecg(4)
    (page,) = pages_of(waveform(group_of(signal)), tmp_path)
    style = PageSettings(width_px=256, height_px=192).style("")
    assert isinstance(page, ReadPage) and page.finding is None
    assert np.mean(page.pixels != print_page(signal, 500, style).planes()) < 0.01
    (other,) = pages_of(waveform(group_of(signal)), tmp_path, SourceSettings(layout="6x2", grid="green"))
    style = PageSettings(width_px=256, height_px=192, layout="6x2", grid="green").style("")
    assert isinstance(other, ReadPage) and np.mean(other.pixels != print_page(signal, 500, style).planes()) < 0.02
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


def test_damaged_files(picture: np.ndarray, tmp_path: Path) -> None:
    whole = data_of(captured(picture))
    assert reasons(b"", tmp_path) == ["empty"]
    assert reasons(b"no DICOM at all" * 20, tmp_path) == ["not_an_image"]
    assert reasons(whole[: len(whole) // 2], tmp_path) == ["truncated"]
    assert reasons(whole[:140], tmp_path) == ["no_page"]
    assert reasons(captured(picture, NumberOfFrames=100_000), tmp_path) == ["too_many_pages"]


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
