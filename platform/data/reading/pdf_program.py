"""The program that pdf.py starts: a PDF on standard input; on standard output a line of JSON, then rows of RGB.

It imports nothing of the package, whose imports would take longer than the drawing.
"""

import json
import resource
import sys
from typing import Any

REASONS = {
    "password": ("encrypted", "the PDF asks for a password; save it without one"),
    "damaged": ("truncated", "the PDF is cut short, damaged, or has no pages"),
}


def main(page: int, max_pixels: int, dpi: int, max_bytes: int, max_seconds: int, max_pages: int) -> None:
    """Draw one page, or with page -1 only count them."""
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (max_seconds, max_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pypdfium2
    from pypdfium2 import raw

    try:
        document = pypdfium2.PdfDocument(sys.stdin.buffer.read())
        num_pages = len(document)
        if not num_pages:
            refuse(*REASONS["damaged"])
        if num_pages > max_pages:
            refuse("too_many_pages", f"the PDF has {num_pages:,} pages; at most {max_pages} are read")
        if page < 0:
            answer({"num_pages": num_pages})
        if page >= num_pages:
            refuse("no_such_page", f"page {page + 1} is asked of a PDF that has {num_pages}")
        draw(document[page], max_pixels, dpi)
    except pypdfium2.PdfiumError:
        locked = raw.FPDF_GetLastError() == raw.FPDF_ERR_PASSWORD
        refuse(*REASONS["password" if locked else "damaged"])


def draw(sheet: Any, max_pixels: int, dpi: int) -> None:
    """At `dpi`, or coarser where that is more than `max_pixels`."""
    width_pt, height_pt = sheet.get_size()
    # A point is 1/72 inch. Both sides are rounded up, hence a little less than the limit.
    scale = min(dpi / 72, 0.99 * (max_pixels / max(width_pt * height_pt, 1e-6)) ** 0.5)
    bitmap = sheet.render(scale=scale, rev_byteorder=True, prefer_bgrx=False)
    facts = {"width_px": bitmap.width, "height_px": bitmap.height, "row_bytes": bitmap.stride}
    answer(facts, bytes(bitmap.buffer))


def refuse(reason: str, message: str) -> None:
    answer({"reason": reason, "message": message})


def answer(facts: dict[str, object], rows: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n")
    sys.stdout.buffer.write(rows)
    sys.stdout.flush()
    sys.exit()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
