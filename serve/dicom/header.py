"""What every DICOM object has around its content: patient, study, series, equipment and the file's own header.

PS3.3, C.7.1 to C.7.5 and C.12.1: https://dicom.nema.org/medical/dicom/current/output/html/part03.html
"""

import io
import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from ... import __version__
from ..schemas import ModelInfo
from .source import Source

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "VizECG"
_SERIES_NUMBER = 9001
"""Behind the series of the devices that recorded the study."""
_MAX_CHARS = 64


def new_object(sop_class_uid: str, modality: str, source: Source, model: ModelInfo, now: datetime) -> "Dataset":
    """An instance in a series of its own, in the source's study or a new one."""
    from pydicom import Dataset
    from pydicom.uid import generate_uid

    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = sop_class_uid, generate_uid(prefix=None)
    made.InstanceCreationDate, made.InstanceCreationTime = date_and_time(now)
    for name, value in source.copied.items():
        setattr(made, name, value)
    made.StudyInstanceUID = source.study_uid or generate_uid(prefix=None)
    made.Modality, made.SeriesInstanceUID, made.SeriesNumber = modality, generate_uid(prefix=None), _SERIES_NUMBER
    made.SeriesDescription = "VizECG, for research use only"
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, model.architecture[:_MAX_CHARS]
    made.DeviceSerialNumber, made.SoftwareVersions = model.bundle_hash[:_MAX_CHARS], __version__
    made.DeviceUID = device_uid(model)
    made.InstanceNumber = 1
    made.ContentDate, made.ContentTime = date_and_time(now)
    return made


def device_uid(model: ModelInfo) -> str:
    """Equal for equal weights, thresholds and preprocessing."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'urn:vizecg:bundle:{model.bundle_hash}').int}"


def date_and_time(now: datetime) -> tuple[str, str]:
    """As DICOM writes them, on the clock of `now`."""
    return f"{now:%Y%m%d}", f"{now:%H%M%S}"


def file_of(made: "Dataset") -> bytes:
    """The object as a file, explicit little endian."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = io.BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()
