"""One record of an archive -> its pages as picture files, and on request the truth beside them.

Everything is a pure function of the settings and the record, whoever draws it and when.
"""

import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..errors import RecordError
from ..files import write_atomically
from .archives import Archive, ArchiveEntry
from .artefacts import PRESETS, wear_page
from .dataset_info import Rejection
from .draw_settings import DrawSettings, Format
from .page import LAYOUTS, PageStyle, Pixels, PrintedPage, encode_page, page_truth, print_page
from .printing.style import MM_PER_INCH
from .records import EcgRecord

PICTURES = "pages"
"""Folder of the pictures: a record may be called anything, also `pages`."""
JPEG_QUALITY = 92
_LOSSLESS = ("clean", "scan-bw")


@dataclass(frozen=True, kw_only=True)
class DrawJob:
    """What every process needs to know."""

    archive: Archive
    out: Path
    settings: DrawSettings


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """One record's pages: how they look and what they are called, below the folder of pictures."""

    sheets: Sequence[PageStyle]
    condition: str
    kind: Format
    names: Sequence[str]
    """Of the pages, without a suffix."""
    files: Sequence[str]
    places: Sequence[str]
    """Of the pages in `files`, as archives/page_folder.py writes them."""
    truths: Sequence[str]
    key: tuple[int, int]
    """The record's own seed."""


Row = dict[str, str]
"""One line of pages.csv."""


def draw_records(job: DrawJob, entries: Sequence[ArchiveEntry]) -> list[list[Row] | Rejection]:
    """For each record the rows of its pages, which lie in the folder now, or why it cannot be drawn."""
    return [_draw_record(job, entry) for entry in entries]


def _draw_record(job: DrawJob, entry: ArchiveEntry) -> list[Row] | Rejection:
    try:
        record = job.archive.read(entry, allow_missing_leads=job.settings.allow_missing_leads)
    except RecordError as error:
        return Rejection(record_id=entry.record_id, reason=error.reason, message=str(error))
    assert isinstance(record, EcgRecord), f"{entry.record_id} has no signal"
    plan = _plan(record, job.settings)
    folder = job.out / PICTURES
    if not all((folder / file).exists() for file in (*plan.files, *plan.truths)):
        _write(record, plan, folder)
    return [_row(record, entry, plan, page) for page in range(len(plan.sheets))]


def _plan(record: EcgRecord, settings: DrawSettings) -> _Plan:
    key = settings.seed, zlib.crc32(record.record_id.encode())
    rng = np.random.default_rng(key)
    style, condition = settings.style(rng), settings.condition_of(rng)
    kind: Format = settings.format or ("png" if condition in _LOSSLESS else "jpeg")
    name, num_pages = record.record_id.partition("/")[2], len(LAYOUTS[style.layout])
    names = [f"{name}-{page + 1}" for page in range(num_pages)] if num_pages > 1 else [name]
    files = [f"{name}.pdf"] if kind == "pdf" else [f"{each}.{'jpg' if kind == 'jpeg' else kind}" for each in names]
    return _Plan(
        sheets=[replace(style, page=page) for page in range(num_pages)],
        condition=condition,
        kind=kind,
        names=names,
        files=files,
        places=files if len(files) == num_pages else [f"{files[0]}#{page + 1}" for page in range(num_pages)],
        truths=[f"{each}.json" for each in names] if settings.truth else [],
        key=key,
    )


def _write(record: EcgRecord, plan: _Plan, folder: Path) -> None:
    (folder / plan.files[0]).parent.mkdir(parents=True, exist_ok=True)
    pages: list[Pixels | PrintedPage] = []
    for number, sheet in enumerate(plan.sheets):
        page, facts = _page(record, sheet, plan, with_truth=bool(plan.truths))
        pages.append(page)
        if facts:
            write_atomically(folder / plan.truths[number], json.dumps(facts))
    dpi = plan.sheets[0].px_per_mm * MM_PER_INCH
    if plan.kind == "pdf":
        write_atomically(folder / plan.files[0], pdf([_rgb(page) for page in pages], dpi))
        return
    for file, page in zip(plan.files, pages, strict=True):
        # Cameras, and scans with a margin, have another scale than the print.
        known_dpi = dpi if isinstance(page, PrintedPage) else None
        write_atomically(folder / file, jpeg(_rgb(page), known_dpi) if plan.kind == "jpeg" else _png(page))


def _page(
    record: EcgRecord, sheet: PageStyle, plan: _Plan, *, with_truth: bool
) -> tuple[Pixels | PrintedPage, dict[str, Any]]:
    """The page as its condition leaves it, and the facts about it where they are wanted."""
    drawn = record.signal_mv, record.sampling_rate_hz, sheet, record.lead_present
    page, truth = print_page(*drawn), page_truth(*drawn) if with_truth else None
    recipe, seed = PRESETS[plan.condition], (*plan.key, 1 + sheet.page)
    worn: Pixels | PrintedPage = page
    if recipe.steps:
        worn, truth = wear_page(page.rgb(), recipe, np.random.default_rng(seed), truth)
    if truth is None:
        return worn, {}
    happened = recipe.drawn(np.random.default_rng(seed))
    return worn, truth.to_dict() | {
        "record_id": record.record_id,
        "sampling_rate_hz": record.sampling_rate_hz,
        "condition": plan.condition,
        "artefacts": {name: round(strength, 4) for name, (_, strength) in happened.items()},
        "style": asdict(sheet),
    }


def _rgb(page: Pixels | PrintedPage) -> Pixels:
    return page.rgb() if isinstance(page, PrintedPage) else page


def _png(page: Pixels | PrintedPage) -> bytes:
    return page.png() if isinstance(page, PrintedPage) else encode_page(page)


def jpeg(picture: Pixels, dpi: float | None) -> bytes:
    """JPEG of uint8 RGB (H, W, 3) with its resolution, to the dot, in the JFIF header."""
    how = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), how)[1].tobytes()
    if dpi is None:
        return data
    assert data[6:11] == b"JFIF\0", "OpenCV begins with another segment"
    per_inch = round(dpi).to_bytes(2, "big")
    return data[:13] + b"\x01" + 2 * per_inch + data[18:]


def pdf(pictures: Sequence[Pixels], dpi: float) -> bytes:
    """PDF of one page a picture, uint8 RGB (H, W, 3), each as large as the sheet."""
    first, *others = [Image.fromarray(picture) for picture in pictures]
    file = io.BytesIO()
    # Without dates: the same page is the same bytes.
    first.save(
        file, "PDF", resolution=dpi, quality=JPEG_QUALITY, save_all=True, append_images=others,
        creationDate=None, modDate=None,
    )  # fmt: skip
    return file.getvalue()


def _row(record: EcgRecord, entry: ArchiveEntry, plan: _Plan, page: int) -> Row:
    name = plan.names[page]
    patient = record.patient_id or entry.patient_id or record.record_id
    return {
        "page": f"{PICTURES}/{plan.places[page]}",
        "record_id": name,
        "codes": ";".join(sorted(f"{system}:{code}" for system, code in record.codes)),
        # Two pages of a record without a patient are still of one patient.
        "patient_id": patient.removeprefix(f"{record.source}/"),
        "age": "" if record.age is None else f"{record.age:g}",
        "sex": record.sex or "",
        "fold": "" if entry.fold is None else str(entry.fold),
        "condition": plan.condition,
        "layout": plan.sheets[page].layout,
    }
