"""The elements of a DICOM file, parsed by pydicom within bounds of time and memory.

pydicom takes microseconds and a kilobyte for every element or item, of which a hostile file holds millions.
"""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import PageError, RecordError

if TYPE_CHECKING:
    from pydicom import Dataset

Made = TypeVar("Made")

MAX_READS = 50_000
"""Of pieces of a file or of its unfolded sequences, two or three to an element; an ECG needs some hundred."""
_DEFLATED = "1.2.840.10008.1.2.1.99"


class _Budget:
    left = MAX_READS


class _Counted(io.BytesIO):
    """Gives up when the budget, which it may share with others, is used up."""

    def __init__(self, data: bytes, budget: _Budget):
        super().__init__(data)
        self._budget = budget

    def read(self, size: int | None = -1, /) -> bytes:
        self._budget.left -= 1
        if self._budget.left < 0:
            raise PageError("too_complex", "the DICOM file has more elements than are read")
        return super().read(size)


def guarded(read: Callable[..., Made], *arguments: Any) -> Made:
    """What `read` gives; whatever pydicom raises on damaged files as PageError."""
    try:
        return read(*arguments)
    except (PageError, RecordError):
        raise
    except Exception:  # pydicom raises a dozen types, and their texts may quote the file.
        raise PageError("truncated", "the DICOM file is cut short, damaged or of an unusual kind") from None


def parse(data: bytes, tags: Sequence[str]) -> "Dataset":
    """The elements of these names; sequences among them are to be unfolded before they are asked for.

    Raises:
        PageError: `unsupported`, `truncated`, `too_complex`.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    # A deflated file may unpack to any size, so its kind is looked at first.
    meta = guarded(read_dataset, _Counted(data[132:], _Budget()), False, True, None, lambda tag, *_: tag.group != 2)
    if str(guarded(meta.get, "TransferSyntaxUID", "")) == _DEFLATED:
        raise PageError("unsupported", "the DICOM file is deflated as a whole; store it uncompressed")
    return guarded(lambda: dcmread(_Counted(data, _Budget()), specific_tags=list(tags)))


def unfold(dataset: "Dataset", sequences: frozenset[str]) -> None:
    """Parse the sequences of these names, and those of these names within them, in place. Raises PageError."""
    guarded(_unfold, dataset, sequences, _Budget())


def _unfold(dataset: "Dataset", sequences: frozenset[str], budget: _Budget) -> None:
    from pydicom.dataelem import RawDataElement
    from pydicom.filereader import read_sequence

    for name in sequences & set(dataset.dir()):
        raw = dataset.get_item(name)
        if isinstance(raw, RawDataElement):
            value, is_implicit = raw.value or b"", raw.is_implicit_VR or raw.VR == "UN"
            items = read_sequence(_Counted(value, budget), is_implicit, raw.is_little_endian, len(value), "iso8859")
            dataset.add_new(raw.tag, "SQ", items)
        for item in dataset[name]:
            _unfold(item, sequences, budget)
