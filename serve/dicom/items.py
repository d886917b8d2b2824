"""Content items of structured reports: PS3.3, C.17.3, https://dicom.nema.org/medical/dicom/current/output/html/part03.html"""

from typing import TYPE_CHECKING, Any

from ..schemas import SNOMED_URI, LabelResult
from .source import Instance

if TYPE_CHECKING:
    from pydicom import Dataset

Code = tuple[str, str, str]
"""(value, coding scheme, meaning)"""

OWN_SCHEME = "99VIZECG"
"""Of labels that have no SNOMED CT code, and of what no standard names."""
_NO_UNITS: Code = ("1", "UCUM", "no units")
_MAX_CODE, _MAX_MEANING_BYTES = 16, 64


def coded(code: Code) -> "Dataset":
    """An item of a code sequence."""
    from pydicom import Dataset

    value, scheme, meaning = code
    made = Dataset()
    setattr(made, "CodeValue" if len(value) <= _MAX_CODE else "LongCodeValue", value)
    # Some readers count bytes where the standard means characters.
    made.CodingSchemeDesignator = scheme
    made.CodeMeaning = meaning.encode()[:_MAX_MEANING_BYTES].decode(errors="ignore")
    return made


def label_code(label: LabelResult) -> Code:
    """SNOMED CT where the label has such a code, else its own key."""
    snomed = next((code.code for code in label.codes if code.system == SNOMED_URI), None)
    return (snomed, "SCT", label.name) if snomed else (label.key, OWN_SCHEME, label.name)


def text(relation: str, name: Code, value: str) -> "Dataset":
    """TEXT."""
    return _item("TEXT", relation, name, TextValue=value)


def choice(relation: str, name: Code, value: Code, *children: "Dataset") -> "Dataset":
    """CODE: `name` is the question, `value` the answer."""
    return _item("CODE", relation, name, *children, ConceptCodeSequence=[coded(value)])


def number(relation: str, name: Code, value: float) -> "Dataset":
    """NUM without a unit, to six decimals."""
    from pydicom import Dataset

    measured = Dataset()
    measured.NumericValue = f"{value:.6f}"
    measured.MeasurementUnitsCodeSequence = [coded(_NO_UNITS)]
    return _item("NUM", relation, name, MeasuredValueSequence=[measured])


def uid(relation: str, name: Code, value: str) -> "Dataset":
    """UIDREF."""
    return _item("UIDREF", relation, name, UID=value)


def container(relation: str | None, name: Code, *children: "Dataset") -> "Dataset":
    """CONTAINER, whose parts are shown one below the other; the root has no relation."""
    return _item("CONTAINER", relation, name, *children, ContinuityOfContent="SEPARATE")


def instance(relation: str, name: Code, of: Instance, frame: int) -> "Dataset":
    """IMAGE, WAVEFORM or COMPOSITE; `frame`, from 1, is named where a picture has several."""
    referenced = reference(of)
    if of.value_type == "IMAGE" and of.num_frames > 1:
        referenced.ReferencedFrameNumber = frame
    return _item(of.value_type, relation, name, ReferencedSOPSequence=[referenced])


def reference(of: Instance) -> "Dataset":
    """An item of a sequence of referenced SOP instances."""
    from pydicom import Dataset

    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = of.sop_class_uid, of.sop_instance_uid
    return made


def _item(kind: str, relation: str | None, name: Code, *children: "Dataset", **fields: Any) -> "Dataset":
    from pydicom import Dataset

    made = Dataset()
    if relation is not None:
        made.RelationshipType = relation
    made.ValueType, made.ConceptNameCodeSequence = kind, [coded(name)]
    for field, value in fields.items():
        setattr(made, field, value)
    if children:
        made.ContentSequence = list(children)
    return made
