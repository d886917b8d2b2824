"""Folders of WFDB records that carry their labels in the header: the practice archive and PhysioNet/CinC challenges.

Comments of a header: `# Age: 63`, `# Sex: Female`, `# Dx: 426783006,...` (SNOMED CT), `# Patient: P00012`, which the
challenges do not give.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..patients import SNOMED
from ..records import EcgRecord, make_record
from .base import ArchiveEntry
from .cinc_code_sets import CODES_BY_SOURCE
from .wfdb_files import read_header, read_recording

_CHALLENGE_NAME = re.compile(r"(?P<letters>(JS|HR|E)(?=\d{5}$)|[ASQI](?=\d{4}$))(?P<number>[0-9]+)")
_CHALLENGE_COMMENT = re.compile(rb"^\s*#\s*(dx|rx|hx)\s*:", re.IGNORECASE | re.MULTILINE)
_SOURCE_OF_PREFIX = {"A": "cpsc", "Q": "cpsc-extra", "I": "st-petersburg", "S": "ptb", "HR": "ptb-xl", "E": "georgia"}
_FIRST_OF_NINGBO = 10647
_OLDEST = 120.0


@dataclass(frozen=True, kw_only=True)
class WfdbFolderArchive:
    """Every .hea file below `root`, whatever the folders between."""

    root: Path
    name: str

    @property
    def default_label_space(self) -> str:
        return "practice" if self.name == "practice" else "cinc2021-scored"

    @property
    def code_sets(self) -> Mapping[str, frozenset[str] | None]:
        if self.name == "practice":
            return {"practice": frozenset(f"snomed:{code}" for code in SNOMED.values())}
        known = {name: frozenset(f"snomed:{code}" for code in codes.split()) for name, codes in CODES_BY_SOURCE.items()}
        return {**known, self.name: None}

    def entries(self) -> list[ArchiveEntry]:
        locators = [path.relative_to(self.root).with_suffix("").as_posix() for path in self._headers()]
        named = Counter(_stem(locator) for locator in locators)
        entries = [self._entry(locator, is_unique=named[_stem(locator)] == 1) for locator in locators]
        return sorted(entries, key=lambda entry: entry.record_id)

    def _headers(self) -> list[Path]:
        return sorted(self.root.rglob("*.hea"))

    def _entry(self, locator: str, *, is_unique: bool) -> ArchiveEntry:
        stem = _stem(locator)
        source = _challenge_source(self.root / f"{locator}.hea") if self.name == "cinc" else None
        return ArchiveEntry(
            record_id=f"{self.name}/{stem if is_unique else locator}",
            locator=locator,
            code_set=source or self.name,
            same_recording_as=f"ptbxl/{stem.removeprefix('HR')}" if source == "ptb-xl" else None,
        )

    def read(self, entry: ArchiveEntry, *, allow_missing_leads: bool = False) -> EcgRecord:
        path = self.root / f"{entry.locator}.hea"
        header = read_header(path)
        recording = read_recording(header)
        patient = header.comments.get("patient")
        return make_record(
            recording.signal_mv,
            recording.lead_names,
            sampling_rate_hz=recording.sampling_rate_hz,
            file=str(path),
            allow_missing_leads=allow_missing_leads,
            quality=() if recording.checksums_match else ("checksum_mismatch",),
            record_id=entry.record_id,
            source=self.name,
            patient_id=f"{self.name}/{patient}" if patient else None,
            codes=frozenset(("snomed", code) for code in re.findall(r"\d+", header.comments.get("dx", ""))),
            age=_age(header.comments.get("age", "")),
            sex={"m": "M", "f": "F"}.get(header.comments.get("sex", "")[:1].casefold()),
        )

    def fingerprint(self) -> str:
        """Of every header, which holds the labels, and of the signals' sizes."""
        digest = hashlib.sha256()
        for header in self._headers():
            digest.update(f"{header.relative_to(self.root)}\n".encode() + header.read_bytes())
        for path in sorted(path for suffix in ("dat", "mat") for path in self.root.rglob(f"*.{suffix}")):
            digest.update(f"{path.relative_to(self.root)}:{path.stat().st_size}\n".encode())
        return digest.hexdigest()


def _stem(locator: str) -> str:
    return locator.rpartition("/")[2]


def _challenge_source(header: Path) -> str | None:
    """Which database of the challenge a record comes from, as its name says.

    A hospital may call its own record E00001. What it does not annotate would then count as absent, so the header must
    be one of the challenge's as well.
    """
    name = _CHALLENGE_NAME.fullmatch(header.stem)
    if name is None or not _has_challenge_comments(header):
        return None
    prefix, number = name["letters"], int(name["number"])
    if prefix == "JS":
        return "ningbo" if number >= _FIRST_OF_NINGBO else "chapman-shaoxing"
    return _SOURCE_OF_PREFIX[prefix]


def _has_challenge_comments(header: Path) -> bool:
    """Prescriptions and history beside the diagnosis: all the challenge's headers have them, few others do."""
    try:
        text = header.read_bytes()
    except OSError:
        return False
    return {key.lower() for key in _CHALLENGE_COMMENT.findall(text)} == {b"dx", b"rx", b"hx"}


def _age(text: str) -> float | None:
    try:
        age = float(text)
    except ValueError:
        return None
    return age if 0 <= age <= _OLDEST else None
