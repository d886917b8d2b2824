"""Reports as DICOM SR, PDF and encapsulated PDF: they say what the answer says, conform, and mix up no patients."""

import base64
import builtins
import io
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, MultiFrameTrueColorSecondaryCaptureImageStorage

from vizecg.platform.errors import PageError
from vizecg.serve.dicom.document import encapsulated_pdf
from vizecg.serve.dicom.report import pdf_report, percent
from vizecg.serve.dicom.sr import sr_report
from vizecg.serve.schemas import (
    NOTICE,
    Code,
    Explanation,
    Finding,
    LabelResult,
    ModelInfo,
    PageFacts,
    PageImage,
    PageWarning,
    PredictResponse,
    Timing,
)

files = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "dicom_files.py")))
NOW = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=1)))
HASH, REQUEST = "9f86d081884c7d65" * 4, "5f2c8a1e-7a43-4a5e-9e0e-2f1d7c3b9a10"
SNOMED = "http://snomed.info/sct"
LABELS = (
    ("NORM", "Sinus rhythm", "426783006", 0.031, 0.4, False),
    ("RBBB", "Right bundle branch block", "59118001", 0.541, 0.52, True),
    ("AF", "Atrial fibrillation", "164889003", 0.932, 0.46, False),
    ("1dAVb", "First-degree AV block", "270492004", 0.0003, 0.48, False),
    ("OTHER", "Something without a code", None, 0.61, 0.6, False),
)
STUDY = {
    "StudyInstanceUID": "1.2.3.4", "SeriesInstanceUID": "1.2.3.4.5", "AccessionNumber": "A-17", "StudyID": "7",
    "PatientBirthDate": "19500131", "PatientSex": "F", "StudyDate": "20240101", "StudyTime": "101112.5",
    "ReferringPhysicianName": "Roe^Richard", "IssuerOfPatientID": "Ward 9",
}  # fmt: skip
PICTURE = np.full((96, 128, 3), 200, np.uint8)


def labels_of(rows: Any = LABELS) -> list[LabelResult]:
    return [
        LabelResult(
            key=key, name=name, probability=p, threshold=threshold, positive=p >= threshold, uncertain=uncertain,
            codes=[Code(system=SNOMED, code=code)] if code else [Code(system="urn:oid:1.0.11073.91064", code="X")],
        )
        for key, name, code, p, threshold, uncertain in rows
    ]  # fmt: skip


def answer_of(labels: list[LabelResult] | None = None, **fields: Any) -> PredictResponse:
    labels = labels_of() if labels is None else labels
    found = [
        Finding(key=each.key, display=each.name, probability=each.probability,
                code=next((code for code in each.codes if code.system == SNOMED), None))
        for each in sorted(labels, key=lambda each: -each.probability) if each.positive
    ]  # fmt: skip
    warned = [PageWarning(code="blurred", text="The picture is blurred.")]
    return PredictResponse(
        **{
            "request_id": REQUEST, "labels": labels, "findings": found, "calibrated": True,
            "model": ModelInfo(name="default", architecture="vizecgnet", bundle_hash=HASH, backend="b", canary=False),
            "page": PageFacts(turned_deg=180, ecg_score=0.9, warnings=warned),
            "timing_ms": Timing(decode=1, predict=2, total=3), **fields,
        }
    )  # fmt: skip


def source(made: Dataset | None = None, **fields: Any) -> bytes:
    made = made or files.captured(PICTURE)
    for name, value in {**STUDY, **fields}.items():
        setattr(made, name, value)
    return files.data_of(made)


def sr_of(answer: PredictResponse | None = None, data: bytes | None = None) -> Dataset:
    return dcmread(io.BytesIO(sr_report(answer or answer_of(), data, NOW)))


def meaning(sequence: Any) -> tuple[str, str, str]:
    (code,) = sequence
    return code.get("CodeValue") or code.LongCodeValue, code.CodingSchemeDesignator, code.CodeMeaning


def named(parent: Dataset, code: str) -> list[Dataset]:
    return [item for item in parent.ContentSequence if meaning(item.ConceptNameCodeSequence)[0] == code]


def figures(item: Dataset) -> tuple[float, float]:
    (probability,), (threshold,) = named(item, "122157"), named(item, "122411")
    return tuple(float(each.MeasuredValueSequence[0].NumericValue) for each in (probability, threshold))


def all_items(parent: Dataset) -> Iterator[Dataset]:
    for item in parent.get("ContentSequence", ()):
        yield item
        yield from all_items(item)


def test_every_label_is_judged_with_its_figures() -> None:
    answer = answer_of()
    (judged,) = named(sr_of(answer), "labels")
    verdicts = {"NORM": "Negative", "RBBB": "Indeterminate", "AF": "Positive", "1dAVb": "Negative", "OTHER": "Positive"}
    for label in answer.labels:
        coded = label.codes[0].system == SNOMED
        (item,) = named(judged, label.codes[0].code if coded else label.key)
        assert meaning(item.ConceptNameCodeSequence)[1:] == ("SCT" if coded else "99VIZECG", label.name)
        # A label that was looked for is the question, never the answer.
        assert meaning(item.ConceptCodeSequence)[2] == verdicts[label.key]
        np.testing.assert_allclose(figures(item), (label.probability, label.threshold), atol=5e-7)


def test_findings_are_the_positive_labels() -> None:
    (found,) = named(sr_of(), "121070")
    coded = [meaning(item.ConceptCodeSequence) for item in found.ContentSequence]
    assert coded == [
        ("164889003", "SCT", "Atrial fibrillation"),
        ("OTHER", "99VIZECG", "Something without a code"),
        ("59118001", "SCT", "Right bundle branch block"),
    ]
    assert "too near to its threshold" in named(found.ContentSequence[2], "121106")[0].TextValue
    (none,) = named(sr_of(answer_of(labels_of(LABELS[:1]))), "121070")
    (item,) = none.ContentSequence
    assert item.ValueType == "TEXT" and item.TextValue == "No listed label reaches its threshold."


def test_it_says_who_observed_and_that_nobody_verified() -> None:
    made = sr_of()
    assert (made.VerificationFlag, made.PreliminaryFlag, made.CompletionFlag) == (
        "UNVERIFIED", "PRELIMINARY", "COMPLETE",
    )  # fmt: skip
    assert named(made, "121106")[0].TextValue == NOTICE
    assert named(made, "121013")[0].TextValue == "VizECG" and named(made, "121016")[0].TextValue == HASH
    assert made.DeviceUID == named(made, "121012")[0].UID and UID(made.DeviceUID).is_valid
    other = answer_of().model.model_copy(update={"bundle_hash": "0" * 64})
    assert sr_of(answer_of(model=other)).DeviceUID != made.DeviceUID
    remarks = [item.TextValue for item in named(made, "111050")[0].ContentSequence]
    assert remarks == ["The picture is blurred.", "The picture was turned 180 degrees clockwise to stand upright."]
    assert (made.ContentDate, made.ContentTime) == ("20260203", "040506")


def documents(data: bytes | None) -> list[Dataset]:
    return [sr_of(data=data), dcmread(io.BytesIO(encapsulated_pdf(answer_of(), b"%PDF", data, NOW)))]


def test_patient_and_study_are_those_of_the_source() -> None:
    for made in documents(source()):
        assert {name: str(made[name].value) for name in STUDY if name != "SeriesInstanceUID"} == {
            name: value for name, value in STUDY.items() if name != "SeriesInstanceUID"
        }
        assert made.PatientName == files.NAME and made.PatientID == "4711"
        assert made.SeriesInstanceUID != STUDY["SeriesInstanceUID"] and made.SOPInstanceUID != "1.2.3"


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 101", "Wałęsa^Jiří"),
    ],
)
def test_names_keep_their_letters(charset: Any, name: str) -> None:
    made = files.captured(PICTURE)
    made.SpecificCharacterSet = charset
    for written in documents(source(made, PatientName=name)):
        assert str(written.PatientName) == name and written.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize("data", [None, b"\x89PNG\r\n\x1a\n" + bytes(200)])
def test_without_a_dicom_source_nobody_is_named(data: bytes | None) -> None:
    first, second = documents(data), documents(data)
    for made, again in zip(first, second, strict=True):
        for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate"):
            assert not made[name].value
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            assert UID(made[name].value).is_valid and made[name].value != again[name].value
        assert "SourceInstanceSequence" not in made and "CurrentRequestedProcedureEvidenceSequence" not in made


def test_the_source_is_referred_to() -> None:
    waves = files.waveform(files.group_of(np.zeros((12, 50))))
    frames = files.captured(PICTURE, NumberOfFrames=2, PixelData=PICTURE.tobytes() * 2)
    second = answer_of(page=PageFacts(turned_deg=0, ecg_score=0.9, number=2, num_pages=2))
    kinds = (
        ("IMAGE", files.captured(PICTURE), answer_of()),
        ("IMAGE", frames, second),
        ("WAVEFORM", waves, answer_of()),
        ("COMPOSITE", files.document(PICTURE), answer_of()),
    )
    for kind, file, answer in kinds:
        made = sr_of(answer, source(file))
        (read,) = [item for item in all_items(made) if item.ValueType in ("IMAGE", "WAVEFORM", "COMPOSITE")]
        (referenced,) = read.ReferencedSOPSequence
        assert read.ValueType == kind and referenced.ReferencedSOPInstanceUID == "1.2.3"
        assert referenced.ReferencedSOPClassUID == file.SOPClassUID
        assert referenced.get("ReferencedFrameNumber") == (2 if file is frames else None)
        (study,) = made.CurrentRequestedProcedureEvidenceSequence
        (series,) = study.ReferencedSeriesSequence
        assert (study.StudyInstanceUID, series.SeriesInstanceUID) == ("1.2.3.4", "1.2.3.4.5")
        # The rest of a document is not in it.
        assert made.CompletionFlag == ("PARTIAL" if answer is second else "COMPLETE")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PatientID", "1\\2"), ("PatientID", "7" * 65), ("PatientID", "4\x077"), ("PatientName", "Doe\ufffd"),
        ("PatientBirthDate", "1950.1.3"), ("PatientSex", "X"), ("StudyTime", "half past"),
        ("AccessionNumber", "9" * 17),
    ],
)  # fmt: skip
def test_what_is_ambiguous_is_left_empty(name: str, value: str, recwarn: pytest.WarningsRecorder) -> None:
    made = files.captured(PICTURE)
    made.SpecificCharacterSet = "ISO_IR 192"
    for written in documents(source(made, **{name: value})):
        assert not written[name].value


@pytest.mark.parametrize("uid", ["", "no uid", "1.2.03", "1." * 40 + "1"])
def test_a_study_without_a_name_of_its_own_is_a_new_one(uid: str, recwarn: pytest.WarningsRecorder) -> None:
    for written in documents(source(StudyInstanceUID=uid)):
        assert UID(written.StudyInstanceUID).is_valid and written.StudyInstanceUID != uid
        assert "SourceInstanceSequence" not in written and "CurrentRequestedProcedureEvidenceSequence" not in written


def test_damaged_sources_say_nothing_of_the_patient(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    whole, rng = bytearray(source()), np.random.default_rng(0)
    recwarn.clear()
    refused = 0
    for _ in range(60):
        cut = bytearray(whole[: rng.integers(140, len(whole))])
        for place in rng.integers(132, min(len(cut), 900), 8):
            if place < len(cut):
                cut[place] = rng.integers(256)
        try:
            made = sr_of(data=bytes(cut))
        except PageError as error:
            refused += 1
            assert "Doe" not in str(error) and "4711" not in str(error)
            continue
        assert UID(made.StudyInstanceUID).is_valid and named(made, "121070")
    assert refused and not caplog.records
    assert not [warned for warned in recwarn if "pydicom" in warned.filename]


def test_an_encapsulated_pdf_holds_the_pdf() -> None:
    answer = answer_of()
    pdf = pdf_report(answer, NOW)
    for document in (pdf, pdf + b"\n"):
        made = dcmread(io.BytesIO(encapsulated_pdf(answer, document, source(), NOW)))
        assert bytes(made.EncapsulatedDocument)[: made.EncapsulatedDocumentLength] == document
        assert len(made.EncapsulatedDocument) % 2 == 0
        assert made.MIMETypeOfEncapsulatedDocument == "application/pdf" and made.VerificationFlag == "UNVERIFIED"
        assert made.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert made.SourceInstanceSequence[0].ReferencedSOPInstanceUID == "1.2.3" and made.BurnedInAnnotation == "NO"
    shown = encapsulated_pdf(answer_of(page_image=encoded(PICTURE)), pdf, None, NOW)
    assert dcmread(io.BytesIO(shown)).BurnedInAnnotation == "YES"


def many_labels() -> list[LabelResult]:
    """More, longer and stranger than fit on a sheet."""
    return [
        LabelResult(
            key=f"A_KEY_OF_{number:04d}_THAT_IS_LONG", name=f"{number} a name with $x_1$ and ö 心 {'long ' * 20}",
            probability=1 / (1 + number), threshold=0.05, positive=number < 19, uncertain=number in (18, 19), codes=[],
        )
        for number in range(71)
    ]  # fmt: skip


def conforming_cases() -> Iterator[tuple[str, bytes]]:
    waves = files.waveform(files.group_of(np.zeros((12, 50))))
    frames = files.captured(PICTURE, NumberOfFrames=2, PixelData=PICTURE.tobytes() * 2)
    frames.SOPClassUID = frames.file_meta.MediaStorageSOPClassUID = MultiFrameTrueColorSecondaryCaptureImageStorage
    sources = {
        "nothing": None, "picture": source(), "frames": source(frames), "waveform": source(waves),
        "pdf": source(files.document(PICTURE)),
    }  # fmt: skip
    for name, data in sources.items():
        yield f"sr-{name}", sr_report(answer_of(), data, NOW)
        yield f"pdf-{name}", encapsulated_pdf(answer_of(), b"%PDF-1.4", data, NOW)
    yield "sr-many", sr_report(answer_of(many_labels()), None, NOW)
    yield "sr-none", sr_report(answer_of([], page=PageFacts(turned_deg=0, ecg_score=None)), None, NOW)


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy is not installed: apt install dicom3tools")
def test_documents_conform_to_the_standard(tmp_path: Path) -> None:
    for name, data in conforming_cases():
        (tmp_path / name).write_bytes(data)
        done = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True)
        lines = (done.stdout + done.stderr).splitlines()
        assert "EnhancedSR" in lines or "EncapsulatedPDF" in lines
        assert done.returncode == 0 and not [line for line in lines if line.startswith("Error")], (name, lines)


@pytest.mark.skipif(not shutil.which("dsrdump"), reason="dsrdump is not installed: apt install dcmtk")
def test_another_reader_understands_the_report(tmp_path: Path) -> None:
    (tmp_path / "sr.dcm").write_bytes(sr_report(answer_of(), source(), NOW))
    done = subprocess.run(["dsrdump", "+Pc", "+Pl", tmp_path / "sr.dcm"], capture_output=True, text=True)
    assert done.returncode == 0 and "E:" not in done.stderr
    assert '(121071,DCM,"Finding")=(164889003,SCT,"Atrial fibrillation")' in done.stdout
    assert '(164889003,SCT,"Atrial fibrillation")=(10828004,SCT,"Positive")' in done.stdout


def encoded(image: np.ndarray) -> PageImage:
    return PageImage(image=base64.b64encode(cv2.imencode(".png", image[..., ::-1])[1].tobytes()).decode())


def sheet_of(answer: PredictResponse) -> tuple[pypdfium2.PdfPage, str]:
    document = pypdfium2.PdfDocument(pdf_report(answer, NOW))
    (page,) = document
    return page, page.get_textpage().get_text_range()


def pictures_of(page: pypdfium2.PdfPage) -> list[np.ndarray]:
    kept = page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE])
    # As stored, which is upside down; the page turns them.
    return [each.get_bitmap().to_numpy()[::-1, :, ::-1] for each in kept]


def test_the_sheet_says_what_the_answer_says() -> None:
    page, text = sheet_of(answer_of())
    assert np.allclose(page.get_size(), (210 / 25.4 * 72, 297 / 25.4 * 72), atol=0.1)
    told = ("93.2 %", "SNOMED CT 164889003", "Atrial fibrillation", "label OTHER", "46.0 %", "< 0.1 %", "uncertain",
            "The picture is blurred.", "turned 180°", HASH, REQUEST, NOTICE, "2026-02-03 04:05", "vizecgnet",
            "probabilities are calibrated")  # fmt: skip
    assert [each for each in told if each not in text] == []
    assert "on trial" not in text and "Page" not in text.replace("About this page", "")
    _, other = sheet_of(
        answer_of(
            labels_of(LABELS[:1]), calibrated=False, page=PageFacts(turned_deg=0, ecg_score=0.9, number=2, num_pages=5),
            model=answer_of().model.model_copy(update={"canary": True}),
        )
    )  # fmt: skip
    told = ("No listed label reaches its threshold.", "Page 2 of 5", "not calibrated", "on trial")
    assert [each for each in told if each not in other] == []


def test_the_picture_keeps_its_pixels_and_says_what_it_is() -> None:
    rng = np.random.default_rng(0)
    plain, marked, other = (rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(3))
    explained = [Explanation(key=key, image=encoded(image).image) for key, image in (("NORM", other), ("AF", marked))]
    page, text = sheet_of(answer_of(page_image=encoded(plain), explanations=explained))
    np.testing.assert_array_equal(pictures_of(page), [marked])
    assert "speaks for Atrial fibrillation" in text
    # What speaks for a label that was not found is not shown.
    page, text = sheet_of(answer_of(page_image=encoded(plain), explanations=explained[:1]))
    np.testing.assert_array_equal(pictures_of(page), [plain])
    assert "speaks for" not in text and "as the model read it" in text
    assert pictures_of(sheet_of(answer_of())[0]) == []


def test_the_picture_stands_upright() -> None:
    corners = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], np.uint8)
    page, _ = sheet_of(answer_of(page_image=encoded(corners.repeat(48, axis=0).repeat(64, axis=1))))
    drawn = page.render(scale=1).to_numpy()[..., ::-1]
    (bounds,) = (each.get_bounds() for each in page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]))
    left, bottom, right, top = bounds
    xs = [int(left + (right - left) * share) for share in (0.25, 0.75)]
    ys = [int(page.get_height() - top + (top - bottom) * share) for share in (0.25, 0.75)]
    np.testing.assert_array_equal(drawn[np.ix_(ys, xs)], corners)


def test_whatever_is_too_much_stays_on_the_sheet(recwarn: pytest.WarningsRecorder) -> None:
    warned = [PageWarning(code="w", text=f"Warning {number} of this picture. " * 4) for number in range(9)]
    for height_px in (60, 2000):
        page, text = sheet_of(
            answer_of(
                many_labels(), request_id="r" * 200, page_image=encoded(np.zeros((height_px, 512, 3), np.uint8)),
                page=PageFacts(turned_deg=90, ecg_score=0.9, warnings=warned, note="n" * 300),
            )
        )  # fmt: skip
        width, height = page.get_size()
        bounds = np.array([each.get_bounds() for each in page.get_objects()])
        inside = (bounds[:, 0] >= 40) & (bounds[:, 2] <= width - 40) & (bounds[:, 1] >= 20)
        assert inside.all() and (bounds[:, 3] <= height - 20).all()
        assert "$x_1$" in text and "more" in text and "NaN" not in text


def test_threads_make_the_same_sheet() -> None:
    answers = [answer_of(request_id=f"request-{number}") for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda answer: pdf_report(answer, NOW), answers))
    for number, pdf in enumerate(made):
        text = pypdfium2.PdfDocument(pdf)[0].get_textpage().get_text_range()
        assert f"request-{number}" in text and "SNOMED CT 164889003" in text


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1))
def test_only_certainty_looks_like_certainty(share: float) -> None:
    told = percent(share)
    assert (told == "0.0 %") == (share == 0) and (told == "100.0 %") == (share == 1)
    if told[0] not in "<>":
        assert abs(float(told.removesuffix(" %")) / 100 - share) <= 0.0005 + 1e-12


def test_without_pydicom_a_pdf_can_still_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pydicom":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PageError, match="pydicom is not installed") as caught:
        sr_report(answer_of(), None, NOW)
    assert caught.value.reason == "unsupported"
    assert pdf_report(answer_of(), NOW).startswith(b"%PDF")
