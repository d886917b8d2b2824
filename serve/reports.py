"""Answers as documents: a PDF, or a DICOM object that goes into the archive beside its source."""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from fastapi.responses import Response

from ..platform.data.reading.dicom import has_pydicom
from ..platform.errors import PageError
from .options import TOP, PredictOptions
from .problems import Refused, refusal_of
from .schemas import PredictResponse


class Report(StrEnum):
    """What a DICOM answer holds."""

    sr = "sr"
    pdf = "pdf"


@dataclass(frozen=True)
class ReportKind:
    """A document that was asked for."""

    media_type: str
    report: Report

    def completed(self, options: PredictOptions) -> PredictOptions:
        """With what the document shows, where the request does not say so itself."""
        if self.report is not Report.pdf:
            return options
        return replace(options, page_image=True, explain=options.explain or (TOP,))


def wanted_report(accept: str | None, report: Report | None) -> ReportKind | None:
    """None where JSON is wanted; raises Refused where the options contradict each other."""
    kinds = [part.split(";")[0].strip().lower() for part in (accept or "").split(",")]
    if "application/dicom" in kinds:
        return ReportKind("application/dicom", report or Report.sr)
    if "application/pdf" in kinds:
        return ReportKind("application/pdf", Report.pdf)
    if report is not None:
        raise Refused(400, "bad_option", "Option 'report' needs the header Accept: application/dicom.")
    return None


async def report_of(kind: ReportKind, answer: PredictResponse, source: bytes) -> Response:
    """The document; `source` is what the request sent, from which a DICOM object takes patient and study.

    Raises:
        Refused: the source is a DICOM file that is damaged, or pydicom is not installed here.
    """
    try:
        data = await asyncio.to_thread(_made, kind, answer, source)
    except PageError as error:
        raise refusal_of(error) from None
    name = f"{answer.request_id}.{'dcm' if kind.media_type == 'application/dicom' else 'pdf'}"
    headers = {"Content-Disposition": f'inline; filename="{name.replace(":", "-")}"'}
    return Response(data, media_type=kind.media_type, headers=headers)


def _made(kind: ReportKind, answer: PredictResponse, source: bytes) -> bytes:
    # Late: they import matplotlib and pydicom.
    from .dicom.document import encapsulated_pdf
    from .dicom.report import pdf_report
    from .dicom.sr import sr_report

    now = datetime.now().astimezone()
    if kind.media_type == "application/dicom" and not has_pydicom():
        raise PageError("unsupported", "DICOM objects are not made here: pydicom is not installed")
    if kind.report is Report.sr:
        return sr_report(answer, source, now)
    pdf = pdf_report(answer, now)
    return pdf if kind.media_type == "application/pdf" else encapsulated_pdf(answer, pdf, source, now)
