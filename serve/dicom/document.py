"""A PDF as a DICOM object: PS3.3, A.45.1 and C.24.2."""

from datetime import datetime

from ..schemas import PredictResponse
from .header import file_of, new_object
from .items import coded, reference
from .source import source_of
from .sr import TITLE

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def encapsulated_pdf(answer: PredictResponse, pdf: bytes, data: bytes | None, now: datetime) -> bytes:
    """A DICOM file around `pdf`, which is `pdf_report(answer, now)`; `data` is what the request sent.

    Raises:
        PageError: as `source_of`.
    """
    source = source_of(data)
    made = new_object(ENCAPSULATED_PDF, "DOC", source, answer.model, now)
    made.ConversionType = "SYN"
    made.AcquisitionDateTime = ""
    # The picture of a printed page may show whose it is.
    made.BurnedInAnnotation = "YES" if answer.page_image or answer.explanations else "NO"
    made.DocumentTitle = "VizECG: reading of a printed ECG, for research use only"
    made.ConceptNameCodeSequence = [coded(TITLE)]
    made.VerificationFlag = "UNVERIFIED"
    if source.instance is not None:
        made.SourceInstanceSequence = [reference(source.instance)]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocument, made.EncapsulatedDocumentLength = pdf, len(pdf)
    return file_of(made)
