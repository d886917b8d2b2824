"""PTB-XL (https://physionet.org/content/ptb-xl/, CC BY 4.0): a table of records beside WFDB files at 100 and 500 Hz."""

import ast
import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import RecordError, UserError
from ..labels import load_label_space
from ..records import EcgRecord, make_record
from .base import ArchiveEntry
from .wfdb_files import read_header, read_recording

PTBXL_TABLE = "ptbxl_database.csv"
_COLUMNS = {"ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", "filename_lr", "filename_hr"}
_OVER_89 = 300.0
_SEX = {"0": "M", "1": "F"}


@dataclass(frozen=True, kw_only=True)
class PtbXlArchive:
    """PTB-XL or a part of it: records are taken at the wished rate where that is on the disk, else at the other."""

    root: Path
    prefer: Literal["filename_hr", "filename_lr"] = "filename_hr"

    @property
    def name(self) -> str:
        return "ptbxl"

    @property
    def default_label_space(self) -> str:
        return "ptbxl-superclass"

    @property
    def code_sets(self) -> Mapping[str, frozenset[str] | None]:
        labels = load_label_space("ptbxl-statements").labels
        return {"ptbxl": frozenset(code for label in labels for code in label.codes)}

    def entries(self) -> list[ArchiveEntry]:
        """Raises UserError where the table lacks a column or a row's numbers are not numbers."""
        with (self.root / PTBXL_TABLE).open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            if missing := _COLUMNS - set(table.fieldnames or ()):
                raise UserError(f"{file.name} lacks the column {sorted(missing)[0]!r}; is it PTB-XL's own table?")
            entries = [self._entry(row, f"{file.name}, line {table.line_num}") for row in table]
        return sorted(entries, key=lambda entry: entry.record_id)

    def _entry(self, row: Mapping[str, str], place: str) -> ArchiveEntry:
        try:
            ecg_id, fold = int(row["ecg_id"]), int(float(row["strat_fold"]))
            patient_id = f"ptbxl/{float(row['patient_id']):.0f}" if row["patient_id"] else None
        except ValueError:
            raise UserError(f"{place}: ecg_id, patient_id or strat_fold is not a number") from None
        return ArchiveEntry(
            record_id=f"ptbxl/{ecg_id:05d}",
            locator=self._locator(row),
            code_set="ptbxl",
            patient_id=patient_id,
            fold=fold,
            metadata={key: row.get(key) or "" for key in ("age", "sex", "scp_codes", "report")},
        )

    def _locator(self, row: Mapping[str, str]) -> str:
        other = "filename_lr" if self.prefer == "filename_hr" else "filename_hr"
        names = [row[column] for column in (self.prefer, other) if row[column]]
        return next((name for name in names if (self.root / f"{name}.hea").is_file()), names[0] if names else "")

    def read(self, entry: ArchiveEntry, *, allow_missing_leads: bool = False) -> EcgRecord:
        """Raises RecordError, also `bad_metadata` where the table's row makes no sense."""
        path = self.root / f"{entry.locator}.hea"
        recording = read_recording(read_header(path))
        return make_record(
            recording.signal_mv,
            recording.lead_names,
            sampling_rate_hz=recording.sampling_rate_hz,
            file=str(path),
            allow_missing_leads=allow_missing_leads,
            quality=() if recording.checksums_match else ("checksum_mismatch",),
            record_id=entry.record_id,
            source=self.name,
            patient_id=entry.patient_id,
            codes=_codes(entry),
            age=_age(entry),
            sex=_SEX.get(entry.metadata["sex"]),
            report=entry.metadata["report"] or None,
        )

    def fingerprint(self) -> str:
        digest = hashlib.sha256((self.root / PTBXL_TABLE).read_bytes())
        for path in sorted(self.root.glob("records*/**/*")):
            if path.is_file():
                digest.update(f"{path.relative_to(self.root)}:{path.stat().st_size}\n".encode())
        return digest.hexdigest()


def _codes(entry: ArchiveEntry) -> frozenset[tuple[str, str]]:
    """Every statement that is named: a likelihood of 0 means that none was given, not that the finding is absent."""
    try:
        statements = ast.literal_eval(entry.metadata["scp_codes"])
        return frozenset(("scp", str(code)) for code in dict(statements))
    except (ValueError, TypeError, SyntaxError) as error:
        message = f"{PTBXL_TABLE} gives {entry.record_id} scp_codes that are not a dictionary"
        raise RecordError("bad_metadata", message) from error


def _age(entry: ArchiveEntry) -> float | None:
    try:
        age = float(entry.metadata["age"] or "nan")
    except ValueError as error:
        raise RecordError("bad_metadata", f"{PTBXL_TABLE} gives {entry.record_id} an age that is no number") from error
    return age if 0 <= age < _OVER_89 else None
