"""Names burned into a page are covered before anybody sees it: whatever may be text, printed or written.

Of a page of an ECG stay its traces, its grid and the names of its leads. Anything else may be text as a whole, a letter
or a form say, and is blurred until no line can be read.

Shapes: h x w pixels; a cell is a square of `CELL_PX` pixels.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .reading.finder import find_page
from .reading.text_look import CELL_PX, text_scores

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SURELY_TEXT, PERHAPS_TEXT = 0.4, 0.04
"""Chances of a cell: the second is enough where it touches the first, or where several such cells make a word. Of 1,699
lines of text on 350 drawn pages and scans, in types that the network had not seen, 0.5 % stayed legible (more than a
fifth of their ink), and 4.6 % of the traces beside them were covered (PERHAPS_TEXT = 0.12: 1.2 % and 2.1 %)."""
WORD_CELLS = 4
MIN_ECG_SCORE = 0.5
"""Stricter than reading: a letter that passes there would be shown."""
MOST_COVERED = 0.6
"""Of a page; more is no page of traces."""
HEADER, FOOTER = 0.2, 0.1
"""Shares of a page's height in which devices print their text: there words far apart are one line, and between two of
them a third, fainter one is covered too."""
LINE_CELLS = 31
WORKED_PX = (320, 640)
"""The longer side at which text is looked for."""
BLURRED_CELLS = 14
"""Across the longer side of a picture that is blurred: letters as high as a sixth of it are lost in so few."""
SHADE = 0.82
"""Of the paper's colour: one sees that something is covered."""


def mask_text(page: Pixels) -> Pixels:
    """A copy of a page, uint8 RGB (h, w, 3), on which all that may be text is covered."""
    assert page.ndim == 3 and page.shape[2] == 3 and page.dtype == np.uint8, f"{page.dtype} {page.shape}"
    if min(page.shape[:2]) < CELL_PX or find_page(page).ecg_score < MIN_ECG_SCORE:
        return blurred(page)
    covered = text_on(page)
    return blurred(page) if covered.mean() > MOST_COVERED else with_cover(page, covered)


def text_on(page: Pixels) -> Mask:
    """What may be text on a page of an ECG: bool (h, w)."""
    height_px, width_px = page.shape[:2]
    least, most = WORKED_PX
    scale = min(max(1.0, least / max(height_px, width_px)), most / max(height_px, width_px))
    size = [max(8, round(side * scale / 8) * 8) for side in (width_px, height_px)]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    work = np.asarray(cv2.resize(page, size, interpolation=how), np.uint8)
    cells = cells_to_cover(text_scores(work))
    return np.asarray(cv2.resize(cells, (width_px, height_px), interpolation=cv2.INTER_NEAREST) > 0)


def cells_to_cover(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Cells to cover: perhaps text, next to what surely is or in groups as long as a word, and a margin."""
    perhaps = (scores >= PERHAPS_TEXT).astype(np.uint8)
    joined = cv2.morphologyEx(perhaps, cv2.MORPH_CLOSE, np.ones((1, 5), np.uint8))
    count, groups, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    surest = ndimage.maximum(scores, groups, np.arange(count))
    kept = (surest >= SURELY_TEXT) | (stats[:, cv2.CC_STAT_AREA] >= WORD_CELLS)
    kept[0] = False
    cells = cv2.dilate(kept[groups].astype(np.uint8), np.ones((3, 3), np.uint8))
    for band in (slice(0, round(HEADER * len(cells))), slice(round((1 - FOOTER) * len(cells)), len(cells))):
        line = np.pad(cells[band], ((0, 0), (LINE_CELLS, LINE_CELLS)))
        closed = cv2.morphologyEx(line, cv2.MORPH_CLOSE, np.ones((1, LINE_CELLS), np.uint8))
        cells[band] = closed[:, LINE_CELLS:-LINE_CELLS]
    return np.asarray(cv2.morphologyEx(cells, cv2.MORPH_CLOSE, np.ones((3, 7), np.uint8)), np.uint8)


def with_cover(page: Pixels, covered: Mask) -> Pixels:
    """The page with a patch of its paper's colour, a little darker, wherever `covered` (h, w) says."""
    result = page.copy()
    paper = np.percentile(page[::4, ::4].reshape(-1, 3), 70, axis=0)
    result[covered] = np.rint(SHADE * paper).astype(np.uint8)
    return result


def blurred(page: Pixels) -> Pixels:
    """Only the lights and shades of a page, in fourteen cells across."""
    height_px, width_px = page.shape[:2]
    cell_px = max(height_px, width_px) / BLURRED_CELLS
    size = [max(1, round(side / cell_px)) for side in (width_px, height_px)]
    few = cv2.resize(page, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(few, (width_px, height_px), interpolation=cv2.INTER_CUBIC), np.uint8)
