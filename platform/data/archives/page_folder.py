"""Folders of labelled pages without their signals: pictures beside a table, `pages.csv`.

    page,codes,patient_id,age,sex
    scans/0001.jpg,snomed:426783006;snomed:59118001,P00012,63,F
    scans/0002.png,,P00013,,M

`page` is a path below the folder, of any picture that reading/pictures.py reads. Of a PDF or TIFF of several pages
the first is taken, and with `#3` behind the path the third. `codes` are those of a label space, each with its system;
an empty cell says that the page shows nothing of what the table names anywhere, so that a page nobody has read must
not stand in it. The other columns may be left out, and so may `record_id` (the path where it is) and `fold` (8
validation, 9 and above test, below it training).
"""

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import RecordError, UserError
from ..labels import SYSTEMS
from ..page import encode_page
from ..read_page import MAX_BYTES
from ..reading.pictures import decode_picture
from ..records import PageRecord
from .base import ArchiveEntry

PAGES_TABLE = "pages.csv"
_OPTIONAL = ("record_id", "patient_id", "age", "sex", "fold")
_OLDEST = 120.0
_SEX = {"": None, "unknown": None, "f": "F", "female": "F", "m": "M", "male": "M"}


@dataclass(frozen=True, kw_only=True)
class PageFolderArchive:
    """The pages that the table in `root` names; their source is `pages-` and the folder's name."""

    root: Path

    @property
    def name(self) -> str:
        return f"pages-{self.root.name}"

    @property
    def default_label_space(self) -> None:
        """None: the codes may be of any."""
        return None

    @property
    def code_sets(self) -> Mapping[str, None]:
        return {self.name: None}

    def entries(self) -> list[ArchiveEntry]:
        """Raises UserError where the table lacks a column, or a row its page, or a fold is no number."""
        # Spreadsheets write a byte order mark.
        with (self.root / PAGES_TABLE).open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            for column in ("page", "codes"):
                if column not in (table.fieldnames or ()):
                    raise UserError(f"{file.name} lacks the column {column!r}; it has {table.fieldnames or 'none'}")
            entries = [self._entry(row, f"{file.name}, line {table.line_num}") for row in table]
        return sorted(entries, key=lambda entry: entry.record_id)

    def _entry(self, row: Mapping[str, str | None], place: str) -> ArchiveEntry:
        cells = {key: (row.get(key) or "").strip() for key in ("page", "codes", *_OPTIONAL)}
        if not cells["page"]:
            raise UserError(f"{place}: names no page")
        try:
            fold = int(cells["fold"]) if cells["fold"] else None
        except ValueError:
            raise UserError(f"{place}: fold {cells['fold']!r} is not a whole number") from None
        return ArchiveEntry(
            record_id=f"{self.name}/{cells['record_id'] or cells['page']}",
            locator=cells["page"],
            code_set=self.name,
            patient_id=f"{self.name}/{cells['patient_id']}" if cells["patient_id"] else None,
            fold=fold,
            metadata=cells,
        )

    def read(self, entry: ArchiveEntry, *, allow_missing_leads: bool = False) -> PageRecord:
        """Raises RecordError: `missing_file`, or `bad_metadata` where the table's row makes no sense; PageError where
        the page that it numbers cannot be read."""
        path, number = self._place(entry.locator)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise RecordError("bad_metadata", f"{PAGES_TABLE} names a page outside its folder: {entry.locator}")
        try:
            with path.open("rb") as file:
                page = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise RecordError("missing_file", f"{path} cannot be read: {error.strerror}") from error
        return PageRecord(
            record_id=entry.record_id,
            source=self.name,
            page=page if number is None else _numbered(page, number),
            patient_id=entry.patient_id,
            codes=_codes(entry),
            age=_age(entry),
            sex=_sex(entry),
        )

    def fingerprint(self) -> str:
        """Of the table, which holds the labels, and of the pictures' sizes."""
        digest = hashlib.sha256(f"{self.name}\n".encode() + (self.root / PAGES_TABLE).read_bytes())
        for locator in sorted(entry.locator for entry in self.entries()):
            path, _ = self._place(locator)
            digest.update(f"{locator}:{path.stat().st_size if path.is_file() else 'missing'}\n".encode())
        return digest.hexdigest()

    def _place(self, locator: str) -> tuple[Path, int | None]:
        """The file, and the page in it, counted from 1; a file whose name ends like that goes before."""
        name, _, number = locator.rpartition("#")
        if name and number.isdecimal() and not (self.root / locator).exists():
            return self.root / name, int(number)
        return self.root / locator, None


def _numbered(data: bytes, number: int) -> bytes:
    if number < 1:
        raise RecordError("bad_metadata", f"{PAGES_TABLE} asks for page {number}; the first is 1")
    return encode_page(decode_picture(data, page=number - 1))


def _codes(entry: ArchiveEntry) -> frozenset[tuple[str, str]]:
    written = [code.strip() for code in entry.metadata["codes"].split(";") if code.strip()]
    parts = [code.partition(":") for code in written]
    for code, (system, _, value) in zip(written, parts, strict=True):
        if system not in SYSTEMS or not value:
            named = f"{PAGES_TABLE} gives {entry.record_id} the code {code!r}"
            raise RecordError("bad_metadata", f"{named}; write {' or '.join(SYSTEMS)}, a colon and the code")
    return frozenset((system, value) for system, _, value in parts)


def _age(entry: ArchiveEntry) -> float | None:
    try:
        age = float(entry.metadata["age"] or "nan")
    except ValueError as error:
        raise RecordError("bad_metadata", f"{PAGES_TABLE} gives {entry.record_id} an age that is no number") from error
    return age if 0 <= age <= _OLDEST else None


def _sex(entry: ArchiveEntry) -> str | None:
    sex = entry.metadata["sex"]
    if sex.casefold() not in _SEX:
        message = f"{PAGES_TABLE} gives {entry.record_id} the sex {sex!r}; write F, M or nothing"
        raise RecordError("bad_metadata", message)
    return _SEX[sex.casefold()]
