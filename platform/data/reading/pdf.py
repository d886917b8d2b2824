"""Pages of a PDF as pictures, drawn by PDFium in a process of its own.

A PDF is a program: its streams may unpack to gigabytes, its page may never be finished, and PDFium may be used by one
thread only. A process can be given limits, and ends when it breaks them. Starting one takes 60 ms.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import PageError
from .formats import Pixels
from .tiff import MAX_PAGES

DPI = 200
MAX_PDF_PIXELS = 16_000_000
"""Of a page as it is drawn: A3 at 200 dpi has 7.7 million; what is larger is drawn coarser."""
MAX_MEMORY_BYTES = 512 << 20
MAX_SECONDS = 10

PROGRAM = Path(__file__).with_name("pdf_program.py")


def pdf_num_pages(data: bytes) -> int:
    """Raises PageError: `encrypted`, `truncated`, `too_many_pages`, `too_complex`."""
    facts, _ = _run(data, -1, MAX_PDF_PIXELS)
    return facts["num_pages"]


def render_page(data: bytes, page: int, max_pixels: int) -> Pixels:
    """Page `page`, counted from 0, at 200 dpi or as many as the limit allows: uint8 RGB (h, w, 3).

    Raises PageError: as `pdf_num_pages`, and `no_such_page`.
    """
    facts, rows = _run(data, page, min(max_pixels, MAX_PDF_PIXELS))
    height_px, width_px, row_bytes = facts["height_px"], facts["width_px"], facts["row_bytes"]
    padded = np.frombuffer(rows, np.uint8).reshape(height_px, row_bytes)
    return np.ascontiguousarray(padded[:, : 3 * width_px]).reshape(height_px, width_px, 3)


def _run(data: bytes, page: int, max_pixels: int) -> tuple[dict[str, Any], bytes]:
    # PDFium mends what is cut short, and draws half a page.
    if b"%%EOF" not in data:
        raise PageError("truncated", "the PDF is cut short: its end is missing")
    limits = [page, max_pixels, DPI, MAX_MEMORY_BYTES, MAX_SECONDS, MAX_PAGES]
    # -P: the program's neighbours must not stand in for modules of the standard library.
    command = [sys.executable, "-P", str(PROGRAM), *map(str, limits)]
    try:
        done = subprocess.run(
            command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=MAX_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _too_complex() from None
    first_line, _, rows = done.stdout.partition(b"\n")
    if done.returncode or not first_line:
        raise _too_complex()
    facts = json.loads(first_line)
    if "reason" in facts:
        raise PageError(facts["reason"], facts["message"])
    return facts, rows


def _too_complex() -> PageError:
    limits = f"{MAX_SECONDS} s and {MAX_MEMORY_BYTES >> 20} MiB"
    return PageError("too_complex", f"the PDF cannot be drawn within {limits}; send the page as a picture")
