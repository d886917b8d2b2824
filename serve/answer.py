"""What a model said of a page, as clients get it.

Shapes: K labels, H x W pixels.
"""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

from ..platform.page_look import MOST_UNLIKE
from .decoding import DecodedPage
from .models import ServedModel, Threshold
from .options import TOP
from .schemas import SNOMED_URI, Code, Explanation, Finding, LabelResult, PageFacts, PageImage, PageWarning

UNLIKE_TRAINING = "The page looks unlike the pages that the model learned from; the reading may mean little."


def label_results(
    model: ServedModel, probability: NDArray[np.float32], thresholds: list[Threshold], wanted: tuple[str, ...]
) -> list[LabelResult]:
    """Every label, or those `wanted` by key, in the order of the label space; raises Refused for an unknown key."""
    chosen = sorted({model.label_index(key) for key in wanted}) if wanted else range(len(thresholds))
    widths = model.bundle.abstention_widths
    results = []
    for index in chosen:
        label, p = model.bundle.label_space.labels[index], float(probability[index])
        threshold, source = thresholds[index]
        near = widths is not None and abs(_log_odds(p) - _log_odds(threshold)) < widths[index]
        results.append(
            LabelResult(
                key=label.key, name=label.name, probability=p, threshold=threshold, positive=p >= threshold,
                uncertain=near, codes=model.codes(index), threshold_source=source,
            )
        )  # fmt: skip
    return results


def _log_odds(p: float) -> float:
    p = min(max(p, 1e-9), 1 - 1e-9)
    return float(np.log(p / (1 - p)))


def findings_of(labels: list[LabelResult]) -> list[Finding]:
    """Those that are positive, most probable first."""
    found = [
        Finding(key=label.key, display=label.name, code=_snomed(label), probability=label.probability)
        for label in labels
        if label.positive
    ]
    return sorted(found, key=lambda finding: -finding.probability)


def _snomed(label: LabelResult) -> Code | None:
    return next((code for code in label.codes if code.system == SNOMED_URI), None)


def explained_labels(model: ServedModel, probability: NDArray[np.float32], wanted: tuple[str, ...]) -> list[int]:
    """Indices of the labels to explain; raises Refused for an unknown key."""
    top = int(np.argmax(probability))
    return list(dict.fromkeys(top if key == TOP else model.label_index(key) for key in wanted))


def explanation(model: ServedModel, page: NDArray[np.uint8], label: int) -> Explanation:
    """A prepared page (3, H, W) under a highlighter where it speaks for the label of that index."""
    # Late: they import torch, which a replica that is never asked to explain can do without.
    from ..platform.evaluate.explain import explain_page, overlay

    heat = explain_page(model.explainer(), page, label)
    picture = overlay(np.ascontiguousarray(page.transpose(1, 2, 0)), heat)
    return Explanation(key=model.bundle.label_space.keys[label], image=_png(picture))


def page_image(page: NDArray[np.uint8]) -> PageImage:
    """A prepared page (3, H, W)."""
    return PageImage(image=_png(page.transpose(1, 2, 0)))


def _png(picture: NDArray[np.uint8]) -> str:
    """RGB (H, W, 3) -> base64."""
    written, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert written
    return base64.b64encode(data.tobytes()).decode()


def page_facts(decoded: DecodedPage) -> PageFacts:
    """What was seen of the page."""
    page, found = decoded.page, decoded.page.finding
    width_px, height_px = page.sent_size_px or (None, None)
    warnings = dict(page.quality.warnings) if page.quality else {}
    if decoded.unlikeness > MOST_UNLIKE:
        warnings["unlike_training"] = UNLIKE_TRAINING
    return PageFacts(
        number=decoded.number,
        num_pages=decoded.num_pages,
        width_px=width_px,
        height_px=height_px,
        turned_deg=found.turned_deg if found else 0,
        turn_is_clear=found.is_turn_clear if found else True,
        ecg_score=round(found.ecg_score, 4) if found else None,
        layout=page.quality.layout if page.quality else None,
        warnings=[PageWarning(code=code, text=text) for code, text in warnings.items()],
        note=page.note,
    )
