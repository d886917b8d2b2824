"""Pages of an archive as people may see them: opened again, upright, small, and without names.

No other part of scoring puts a page into HTML, and here every page is masked before it is encoded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from itertools import groupby, islice

import cv2
import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from ..data.masking import mask_text
from ..data.read_page import PageSpec, Reading, ReadPage
from ..evaluate.contact_sheet import encoded
from ..evaluate.report_data import data_uri
from ..evaluate.report_text import number
from .finished import FinishedRun, source_of
from .sources.base import Loaded, Reader, Source

SHEET = PageSpec(width_px=480, height_px=360)
_QUALITY = 80
_MAX_RECTIFIED = 60
"""Thumbnails of a run that rectified its pages are rectified too; it takes a second a page, so no more than these."""


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """A row of the scores whose page is to be shown."""

    item: str
    """What the reader opens (`items_of`)."""
    page: int
    """Within the item, from 1."""


def thumbnails(rows: Sequence[SheetRow], reader: Reader, reading: Reading | None = None) -> list[bytes | None]:
    """A masked JPEG of every row's page, as scoring turned it, 480 px wide at most; None where it cannot be opened.

    Pages are opened one after the other. `reading` is the run's; whether a page is an ECG is not asked again.
    """
    reading = replace(reading or Reading(), check=False)
    found: dict[SheetRow, bytes] = {}
    wanted = sorted(set(rows), key=lambda row: (row.item, row.page))
    for item, some in groupby(wanted, key=lambda row: row.item):
        for page, picture in _pages(item, {row.page for row in some}, reader, reading):
            found[SheetRow(item=item, page=page)] = picture
    return [found.get(row) for row in rows]


def items_of(source: Source, rows: Sequence[int]) -> dict[int, str]:
    """What the reader opens for each of these places in the input."""
    wanted = set(rows)
    last = max(wanted, default=-1)
    return {row: item for row, (item, _) in enumerate(islice(source.items(), last + 1)) if row in wanted}


def pages_of(run: FinishedRun, keys: Sequence[tuple[int, int]]) -> list[bytes | None]:
    """Thumbnails of these (row, page) of a run; all None where its input is gone or has changed."""
    source = source_of(run) if keys else None
    if source is None:
        return [None] * len(keys)
    items = items_of(source, [row for row, _ in keys])
    rows = [SheetRow(item=items[row], page=page) for row, page in keys]
    reading = Reading(**run.facts.get("reading", {}))
    return thumbnails(rows, source.reader, reading if len(rows) <= _MAX_RECTIFIED else Reading(upright=reading.upright))


@lru_cache(maxsize=4)
def template(name: str) -> Template:
    """A page of this folder; it may include the looks of evaluation's reports."""
    environment = Environment(
        loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"uri": data_uri, "number": number}
    return environment.get_template(name)


def _source(name: str) -> str:
    """Of `evaluate/NAME`, what lies there; all else lies here."""
    package = __package__ or ""
    place = f"{package.rpartition('.')[0]}.evaluate" if name.startswith("evaluate/") else package
    return resources.files(place).joinpath(name.removeprefix("evaluate/")).read_text(encoding="utf-8")


def _pages(item: str, wanted: set[int], reader: Reader, reading: Reading) -> Iterator[tuple[int, bytes]]:
    """Of one item, none beyond the last that is wanted."""
    for page, loaded in enumerate(_opened(item, max(wanted), reader, reading), 1):
        if page in wanted and isinstance(loaded, ReadPage):
            yield page, thumbnail(loaded.pixels.transpose(1, 2, 0))


def _opened(item: str, last: int, reader: Reader, reading: Reading) -> Iterator[Loaded]:
    try:
        (opened,) = reader.open([item])
        yield from islice(opened.pages(SHEET, reading), last)
    except Exception:
        # A fault of the reader: the page's row tells it (scorer.py), and a sheet can do without its picture.
        return


def thumbnail(page: np.ndarray) -> bytes:
    """A JPEG of a masked page, RGB (h, w, 3), without the bars that fitted it into the sheet."""
    masked = mask_text(np.ascontiguousarray(without_bars(page)))
    return encoded(masked, width_px=SHEET.width_px, quality=_QUALITY)


def without_bars(page: np.ndarray) -> np.ndarray:
    """The part between rows and columns of one colour at the edges; the page itself where that leaves little."""
    differs = (page != page[0, 0]).any(axis=2).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(differs)
    return page[top : top + height, left : left + width] if min(width, height) >= 64 else page
