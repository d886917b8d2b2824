"""What every archive offers, so that nothing downstream knows where a record came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..records import EcgRecord, PageRecord


@dataclass(frozen=True, kw_only=True)
class ArchiveEntry:
    """One record as the archive's index knows it, before its files are opened."""

    record_id: str
    """Qualified by source: `ptbxl/00042`."""
    locator: str
    """Path inside the archive: of the header, without its suffix, or of the page."""
    code_set: str
    """Key of the archive's `code_sets`."""
    patient_id: str | None = None
    """Where the index knows it; otherwise the record itself may."""
    fold: int | None = None
    """The archive's own fold, whole patients in one."""
    same_recording_as: str | None = None
    """Record id under which another archive holds this very recording."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The index's own columns, parsed when the record is read."""


class Archive(Protocol):
    """A folder of recordings or pages. Instances are small and pickle, since they travel to Ray tasks."""

    @property
    def name(self) -> str:
        """The source of its records: `practice`, `ptbxl`, `cinc` or `pages-<folder>`."""

    @property
    def default_label_space(self) -> str | None:
        """None where the archive has no label space of its own."""

    @property
    def code_sets(self) -> Mapping[str, frozenset[str] | None]:
        """By name, the `system:code` strings that a source annotates at all: what it leaves out there is absent.

        None where nobody wrote that list down; the codes that occur in the archive then stand for it.
        """

    def entries(self) -> list[ArchiveEntry]:
        """Every record in the order of record ids, without opening signal files."""

    def read(self, entry: ArchiveEntry, *, allow_missing_leads: bool = False) -> EcgRecord | PageRecord:
        """One record; raises RecordError where it cannot be used."""

    def fingerprint(self) -> str:
        """Changes with the archive's records and labels, without reading all signals."""
