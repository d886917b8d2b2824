"""An answer as one sheet of A4 for people: the page, what was found on it, every label with its threshold, and by whom.

Nothing on it comes from a DICOM header; only the picture itself may show whose page it is.
"""

import base64
from datetime import datetime

import cv2
import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ..schemas import SNOMED_URI, Finding, LabelResult, PredictResponse
from .sheet import HEIGHT_MM, WIDTH_MM, Sheet, cut, width_mm, wrapped

INK, SOFT, LINE, ACCENT = "#1d2529", "#59656b", "#dfe2e1", "#1f5f5b"
BAR, TRACK, AMBER, NOTICE_GROUND = "#a9b4b5", "#edf0ef", "#9a6700", "#f4efdf"
MARGIN_MM = 15.0
RIGHT_MM = WIDTH_MM - MARGIN_MM
PICTURE_HEIGHT_MM = 118.0
FOOTER_MM = HEIGHT_MM - 25.0
LEFT_COLUMN_MM, GAP_MM = 66.0, 7.0
NAME_MM, FIGURES_MM = 46.0, 30.0
ROW_MM, MAX_ROWS = 6.2, 14
_MARK_X = (0, 2.2, 3.2, 4.2, 5.4, 6.8, 7.8, 8.8, 11.0)
_MARK_Y = (4.2, 4.2, 2.8, 4.2, 0.2, 7.4, 4.2, 4.2, 4.2)


def pdf_report(answer: PredictResponse, now: datetime) -> bytes:
    """A PDF of one page; `now` is the time on the clock of those who read it.

    The picture is the overlay of the most probable finding that `answer` explains, else its page image, else none.
    """
    sheet = Sheet()
    _draw_header(sheet, answer, now)
    top_mm = _draw_picture(sheet, answer, 43.0)
    below_mm = _draw_findings(sheet, answer, top_mm)
    _draw_remarks(sheet, answer, below_mm + 5)
    _draw_labels(sheet, answer, top_mm)
    _draw_footer(sheet, answer)
    return sheet.pdf("VizECG: reading of a printed ECG", answer.notice, now)


def _draw_header(sheet: Sheet, answer: PredictResponse, now: datetime) -> None:
    sheet.line([MARGIN_MM + x for x in _MARK_X], [14.5 + y for y in _MARK_Y], ACCENT, 1.6)
    sheet.text(MARGIN_MM + 14, 20.5, "VizECG", 19, color=INK, bold=True)
    sheet.text(MARGIN_MM + 14, 26, "Automated reading of a printed 12-lead ECG", 9.5, color=SOFT)
    sheet.text(RIGHT_MM, 20.5, f"{now:%Y-%m-%d %H:%M}", 11, color=INK, side="right")
    page = answer.page
    if page.num_pages > 1:
        sheet.text(RIGHT_MM, 26, f"Page {page.number} of {page.num_pages}", 9.5, color=SOFT, side="right")
    sheet.box(MARGIN_MM, 31, RIGHT_MM - MARGIN_MM, 8, NOTICE_GROUND)
    notice = cut(answer.notice, RIGHT_MM - MARGIN_MM - 8, 8.8, bold=True)
    sheet.text(WIDTH_MM / 2, 36.2, notice, 8.8, color=INK, bold=True, side="center")


def _draw_picture(sheet: Sheet, answer: PredictResponse, top_mm: float) -> float:
    """Draws the page from `top_mm`; returns where the rest may begin."""
    keys = [explanation.key for explanation in answer.explanations]
    shown = next((finding for finding in answer.findings if finding.key in keys), None)
    encoded = answer.explanations[keys.index(shown.key)] if shown is not None else answer.page_image
    if encoded is None:
        return top_mm + 6
    image = _decoded(encoded.image)
    most_mm = RIGHT_MM - MARGIN_MM
    scale = min(most_mm / image.shape[1], PICTURE_HEIGHT_MM / image.shape[0])
    picture_mm = image.shape[1] * scale, image.shape[0] * scale
    left_mm = (WIDTH_MM - picture_mm[0]) / 2
    sheet.picture(left_mm, top_mm, *picture_mm, image)
    sheet.box(left_mm, top_mm, *picture_mm, "none", LINE)
    told = "The page as the model read it"
    if shown is not None:
        told += f"; highlighted is what speaks for {shown.display} (Grad-CAM)"
    bottom_mm = top_mm + picture_mm[1]
    sheet.text(WIDTH_MM / 2, bottom_mm + 4, cut(f"{told}.", most_mm, 7.5), 7.5, color=SOFT, side="center")
    return bottom_mm + 13


def _decoded(image: str) -> NDArray[np.uint8]:
    """Base64 -> RGB (h, w, 3)."""
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(image), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return decoded.astype(np.uint8, copy=False)


def _heading(sheet: Sheet, x_mm: float, y_mm: float, width: float, text: str) -> None:
    sheet.text(x_mm, y_mm, text, 10.5, color=ACCENT, bold=True)
    sheet.line([x_mm, x_mm + width], [y_mm + 2, y_mm + 2], LINE)


def _draw_findings(sheet: Sheet, answer: PredictResponse, top_mm: float) -> float:
    """Returns where they end."""
    _heading(sheet, MARGIN_MM, top_mm, LEFT_COLUMN_MM, "Findings")
    y_mm = top_mm + 8
    if not answer.findings:
        sheet.text(MARGIN_MM, y_mm, "No listed label reaches its threshold.", 9.5, color=INK)
        return y_mm + 3
    uncertain = {label.key for label in answer.labels if label.uncertain}
    room = max(1, int((FOOTER_MM - y_mm) * 0.6 / 10.5))
    for finding in answer.findings[:room]:
        sheet.text(MARGIN_MM, y_mm, cut(finding.display, LEFT_COLUMN_MM, 10.5, bold=True), 10.5, color=INK, bold=True)
        sheet.text(MARGIN_MM, y_mm + 4.2, _told(finding), 8, color=SOFT)
        if finding.key in uncertain:
            left_mm = MARGIN_MM + width_mm(f"{_told(finding)}  ", 8)
            sheet.text(left_mm, y_mm + 4.2, "uncertain", 8, color=AMBER, bold=True)
        y_mm += 10.5
    if len(answer.findings) > room:
        sheet.text(MARGIN_MM, y_mm - 1, f"and {len(answer.findings) - room} more", 8, color=SOFT)
        y_mm += 5
    return y_mm - 4


def _told(finding: Finding) -> str:
    code = finding.code
    coded = f"SNOMED CT {code.code}" if code is not None and code.system == SNOMED_URI else f"label {finding.key}"
    return f"{percent(finding.probability)} · {coded}"


def percent(share: float) -> str:
    """To a tenth; what is not quite 0 or 1 does not look as if it were."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


def _draw_remarks(sheet: Sheet, answer: PredictResponse, top_mm: float) -> None:
    page = answer.page
    remarks = [(AMBER, warning.text) for warning in page.warnings]
    if page.turned_deg:
        remarks.append((SOFT, f"The picture was turned {page.turned_deg}° clockwise to stand upright."))
    if page.note:
        remarks.append((SOFT, page.note))
    if page.layout:
        remarks.append((SOFT, f"Layout of leads: {page.layout}."))
    if not remarks:
        return
    _heading(sheet, MARGIN_MM, top_mm + 4, LEFT_COLUMN_MM, "About this page")
    y_mm = top_mm + 11
    for color, remark in remarks:
        lines = wrapped(remark, LEFT_COLUMN_MM - 4, 8.2)
        if y_mm + 4 * len(lines) > FOOTER_MM - 3:
            sheet.text(MARGIN_MM, y_mm, "…", 8.2, color=SOFT)
            return
        sheet.box(MARGIN_MM, y_mm - 2, 1.6, 1.6, color)
        for line in lines:
            sheet.text(MARGIN_MM + 4, y_mm, line, 8.2, color=INK)
            y_mm += 4
        y_mm += 1


def _draw_labels(sheet: Sheet, answer: PredictResponse, top_mm: float) -> None:
    """Bars, most probable first."""
    left_mm = MARGIN_MM + LEFT_COLUMN_MM + GAP_MM
    _heading(sheet, left_mm, top_mm, RIGHT_MM - left_mm, "Labels")
    sheet.text(RIGHT_MM - 15, top_mm, "probability", 7, color=SOFT, side="right")
    sheet.text(RIGHT_MM, top_mm, "threshold", 7, color=SOFT, side="right")
    room = min(MAX_ROWS, int((FOOTER_MM - top_mm - 18) / ROW_MM))
    ordered = sorted(answer.labels, key=lambda label: (not label.positive, -label.probability))
    y_mm = top_mm + 8
    for label in ordered[:room]:
        _draw_bar(sheet, label, left_mm, y_mm)
        y_mm += ROW_MM
    if rest := ordered[room:]:
        told = f"and {len(rest)} more of at most {percent(max(label.probability for label in rest))}"
        positive = sum(label.positive for label in rest)
        sheet.text(left_mm, y_mm, f"{told}, {positive} of them positive" if positive else told, 8, color=SOFT)
        y_mm += ROW_MM
    _draw_legend(sheet, left_mm, y_mm)


def _draw_bar(sheet: Sheet, label: LabelResult, left_mm: float, y_mm: float) -> None:
    color, bar_mm = INK if label.positive else SOFT, RIGHT_MM - left_mm - NAME_MM - FIGURES_MM
    name = cut(label.name, NAME_MM - 2, 8.2, bold=label.positive)
    sheet.text(left_mm, y_mm, name, 8.2, color=color, bold=label.positive)
    bar_left_mm = left_mm + NAME_MM
    sheet.box(bar_left_mm, y_mm - 2.6, bar_mm, 3, TRACK)
    fill = AMBER if label.uncertain else ACCENT if label.positive else BAR
    sheet.box(bar_left_mm, y_mm - 2.6, bar_mm * label.probability, 3, fill)
    tick_mm = bar_left_mm + bar_mm * label.threshold
    sheet.line([tick_mm, tick_mm], [y_mm - 3.4, y_mm + 1.2], INK, 1.1)
    told = percent(label.probability)
    sheet.text(RIGHT_MM - 15, y_mm, told, 8.2, color=color, bold=label.positive, side="right")
    sheet.text(RIGHT_MM, y_mm, percent(label.threshold), 8.2, color=SOFT, side="right")


def _draw_legend(sheet: Sheet, left_mm: float, y_mm: float) -> None:
    for color, told in ((ACCENT, "positive"), (BAR, "negative"), (AMBER, "uncertain: near its threshold")):
        sheet.box(left_mm, y_mm - 1.9, 1.9, 1.9, color)
        sheet.text(left_mm + 3, y_mm, told, 7, color=SOFT)
        left_mm += 7 + width_mm(told, 7)


def _draw_footer(sheet: Sheet, answer: PredictResponse) -> None:
    model = answer.model
    sheet.line([MARGIN_MM, RIGHT_MM], [FOOTER_MM, FOOTER_MM], LINE)
    calibrated = "probabilities are calibrated" if answer.calibrated else "probabilities are not calibrated"
    trial = ", on trial" if model.canary else ""
    facts = (
        ("Model", f"{model.name}{trial} · {model.architecture} · {model.backend} · {calibrated}", False),
        ("Bundle", model.bundle_hash, True),
        ("Request", answer.request_id, True),
        ("Software", f"VizECG {__version__}", False),
    )
    for number, (name, value, mono) in enumerate(facts):
        y_mm = FOOTER_MM + 4.5 + 4 * number
        sheet.text(MARGIN_MM, y_mm, name, 7, color=SOFT)
        sheet.text(MARGIN_MM + 16, y_mm, cut(value, RIGHT_MM - MARGIN_MM - 16, 7, mono=mono), 7, color=INK, mono=mono)
