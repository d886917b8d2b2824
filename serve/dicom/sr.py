"""An answer as a DICOM Enhanced SR, unverified and preliminary.

    EKG study
      Language, Procedure reported
      Device observer (TID 1004): VizECG, architecture, bundle hash
      Comment               for research use only
      Findings              every label that reaches its threshold: Finding = SNOMED CT
      Labels                every label: SNOMED CT = Positive, Negative or Indeterminate; probability, threshold
      Quality Assessment    warnings of the page
      Source image          the instance that was read

A label is the name of its item and the verdict its value, so that no reader who leaves out the numbers takes a label
that was looked for as one that was found.

PS3.3, A.35.2; PS3.16, TID 1001 to 1004 and 4019.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from ... import __version__
from ..schemas import LabelResult, PredictResponse
from .header import MANUFACTURER, date_and_time, device_uid, file_of, new_object
from .items import OWN_SCHEME, Code, choice, container, instance, label_code, number, reference, text, uid
from .source import Instance, Source, source_of

if TYPE_CHECKING:
    from pydicom import Dataset

ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
TITLE: Code = ("11524-6", "LN", "EKG study")
_LANGUAGE: Code = ("121049", "DCM", "Language of Content Item and Descendants")
_ENGLISH: Code = ("en", "RFC5646", "English")
_PROCEDURE: Code = ("121058", "DCM", "Procedure reported")
_ECG: Code = ("268400002", "SCT", "12-Lead ECG")
_OBSERVER: Code = ("121005", "DCM", "Observer Type")
_DEVICE: Code = ("121007", "DCM", "Device")
_DEVICE_UID: Code = ("121012", "DCM", "Device Observer UID")
_DEVICE_NAME: Code = ("121013", "DCM", "Device Observer Name")
_DEVICE_MANUFACTURER: Code = ("121014", "DCM", "Device Observer Manufacturer")
_DEVICE_MODEL: Code = ("121015", "DCM", "Device Observer Model Name")
_DEVICE_SERIAL: Code = ("121016", "DCM", "Device Observer Serial Number")
_ALGORITHM: Code = ("111001", "DCM", "Algorithm Name")
_ALGORITHM_PARAMETERS: Code = ("111002", "DCM", "Algorithm Parameters")
_ALGORITHM_VERSION: Code = ("111003", "DCM", "Algorithm Version")
_COMMENT: Code = ("121106", "DCM", "Comment")
_FINDINGS: Code = ("121070", "DCM", "Findings")
_FINDING: Code = ("121071", "DCM", "Finding")
_LABELS: Code = ("labels", OWN_SCHEME, "Output of the model by label")
_PROBABILITY: Code = ("122157", "DCM", "Probability")
_THRESHOLD: Code = ("122411", "DCM", "Threshold Value")
_QUALITY: Code = ("111050", "DCM", "Quality Assessment")
_SOURCE_IMAGE: Code = ("121324", "DCM", "Source image")
_SOURCE: Code = ("111040", "DCM", "Original Source")
_POSITIVE: Code = ("10828004", "SCT", "Positive")
_NEGATIVE: Code = ("260385009", "SCT", "Negative")
_INDETERMINATE: Code = ("82334004", "SCT", "Indeterminate")


def sr_report(answer: PredictResponse, data: bytes | None, now: datetime) -> bytes:
    """A DICOM file; `data` is what the request sent, `now` the time on the clock of those who read the report.

    Raises:
        PageError: as `source_of`.
    """
    source = source_of(data)
    made = new_object(ENHANCED_SR, "SR", source, answer.model, now)
    made.CompletionFlag = "COMPLETE" if answer.page.num_pages == 1 else "PARTIAL"
    made.VerificationFlag, made.PreliminaryFlag = "UNVERIFIED", "PRELIMINARY"
    for name in ("ReferencedPerformedProcedureStepSequence", "PerformedProcedureCodeSequence"):
        setattr(made, name, ())
    made.CodingSchemeIdentificationSequence = [_own_scheme()]
    if source.instance is not None:
        made.CurrentRequestedProcedureEvidenceSequence = [_evidence(source, source.instance)]
    made.update(_content(answer, source.instance, now))
    return file_of(made)


def _own_scheme() -> "Dataset":
    from pydicom import Dataset

    made = Dataset()
    made.CodingSchemeDesignator, made.CodingSchemeName = OWN_SCHEME, "Labels of VizECG"
    made.CodingSchemeResponsibleOrganization = MANUFACTURER
    return made


def _evidence(source: Source, read: Instance) -> "Dataset":
    from pydicom import Dataset

    study, series = Dataset(), Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = read.series_uid, [reference(read)]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = source.study_uid, [series]
    return study


def _content(answer: PredictResponse, read: Instance | None, now: datetime) -> "Dataset":
    notice = text("CONTAINS", _COMMENT, answer.notice)
    parts = [*_context(answer), notice, _findings(answer), _labels(answer), *_quality(answer)]
    if read is not None:
        name = _SOURCE_IMAGE if read.value_type == "IMAGE" else _SOURCE
        parts.append(instance("CONTAINS", name, read, answer.page.number))
    root = container(None, TITLE, *parts)
    root.ObservationDateTime = "".join(date_and_time(now))
    return root


def _context(answer: PredictResponse) -> list["Dataset"]:
    """Language, procedure and who observed."""
    model, observed = answer.model, "HAS OBS CONTEXT"
    return [
        choice("HAS CONCEPT MOD", _LANGUAGE, _ENGLISH),
        choice("HAS CONCEPT MOD", _PROCEDURE, _ECG),
        choice(observed, _OBSERVER, _DEVICE),
        uid(observed, _DEVICE_UID, device_uid(model)),
        text(observed, _DEVICE_NAME, MANUFACTURER),
        text(observed, _DEVICE_MANUFACTURER, MANUFACTURER),
        text(observed, _DEVICE_MODEL, model.architecture),
        text(observed, _DEVICE_SERIAL, model.bundle_hash),
    ]


def _algorithm(answer: PredictResponse) -> list["Dataset"]:
    model = answer.model
    calibrated = "calibrated" if answer.calibrated else "not calibrated"
    parameters = f"model {model.name}, bundle {model.bundle_hash}, backend {model.backend}, {calibrated}"
    return [
        text("HAS CONCEPT MOD", _ALGORITHM, f"{MANUFACTURER} {model.architecture}"),
        text("HAS CONCEPT MOD", _ALGORITHM_VERSION, __version__),
        text("HAS CONCEPT MOD", _ALGORITHM_PARAMETERS, parameters),
    ]


def _findings(answer: PredictResponse) -> "Dataset":
    positive = sorted((label for label in answer.labels if label.positive), key=lambda label: -label.probability)
    found = [choice("CONTAINS", _FINDING, label_code(label), *_figures(label)) for label in positive]
    return container(
        "CONTAINS", _FINDINGS, *(found or [text("CONTAINS", _FINDING, "No listed label reaches its threshold.")])
    )


def _labels(answer: PredictResponse) -> "Dataset":
    judged = [choice("CONTAINS", label_code(label), _verdict(label), *_figures(label)) for label in answer.labels]
    return container("CONTAINS", _LABELS, *_algorithm(answer), *judged)


def _verdict(label: LabelResult) -> Code:
    if label.uncertain:
        return _INDETERMINATE
    return _POSITIVE if label.positive else _NEGATIVE


def _figures(label: LabelResult) -> list["Dataset"]:
    figures = [
        number("HAS PROPERTIES", _PROBABILITY, label.probability),
        number("HAS PROPERTIES", _THRESHOLD, label.threshold),
    ]
    if label.uncertain:
        figures.append(text("HAS PROPERTIES", _COMMENT, "Uncertain: too near to its threshold to decide."))
    return figures


def _quality(answer: PredictResponse) -> list["Dataset"]:
    """What was seen of the page; nothing where there is nothing to say."""
    page = answer.page
    remarks = [warning.text for warning in page.warnings]
    if page.turned_deg:
        remarks.append(f"The picture was turned {page.turned_deg} degrees clockwise to stand upright.")
    if page.note:
        remarks.append(page.note)
    if page.num_pages > 1:
        remarks.append(f"Page {page.number} of {page.num_pages} was read.")
    items = [text("CONTAINS", _COMMENT, remark) for remark in remarks]
    return [container("CONTAINS", _QUALITY, *items)] if items else []
