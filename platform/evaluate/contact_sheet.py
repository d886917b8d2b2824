"""The surest wrong readings, as small pages side by side. Every page that a report shows is masked here.

Shapes: N records, K labels, H x W pixels.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..data.masking import mask_text
from ..data.read_page import prepare
from .predict import Predictions
from .report_data import WrongReading

MAX_ERRORS = 12


def wrongness(predictions: Predictions, bundle: Bundle) -> NDArray[np.float64]:
    """Distance (N,) of every record's surest wrong reading from the truth; 0 where all that is known was read right."""
    probability = predictions.probability[bundle.deployed_stream]
    positive = predictions.target > 0.5
    wrong = ((probability >= np.array(bundle.thresholds)) != positive) & predictions.known
    return np.where(wrong, np.abs(probability.astype(np.float64) - positive), 0).max(1)


def choose_errors(predictions: Predictions, bundle: Bundle, count: int = MAX_ERRORS) -> list[int]:
    """Rows of at most `count` wrong readings, the surest first."""
    distance = wrongness(predictions, bundle)
    return [int(n) for n in np.argsort(-distance, kind="stable")[:count] if distance[n] > 0]


def wrong_readings(
    bundle: Bundle, predictions: Predictions, rows: list[int], pages: dict[str, bytes]
) -> tuple[WrongReading, ...]:
    """What was said and what is true of these rows, with their pages by record id."""
    return tuple(_reading(bundle, predictions, n, pages[predictions.record_id[n]]) for n in rows)


def _reading(bundle: Bundle, predictions: Predictions, n: int, page: bytes) -> WrongReading:
    probability = predictions.probability[bundle.deployed_stream][n]
    claimed = probability >= np.array(bundle.thresholds)
    positive, known = predictions.target[n] > 0.5, predictions.known[n]

    def labels(chosen: NDArray[np.bool_]) -> dict[str, float]:
        order = [k for k in np.argsort(-np.abs(probability - positive), kind="stable") if chosen[k]]
        return {bundle.label_space.keys[k]: float(probability[k]) for k in order}

    return WrongReading(
        record_id=predictions.record_id[n],
        thumbnail=encoded(mask_text(prepare(page, bundle.page).transpose(1, 2, 0)), width_px=400),
        false=labels(claimed & ~positive & known),
        missed=labels(~claimed & positive & known),
        found=tuple(labels(claimed & positive & known)),
    )


def encoded(picture: NDArray[np.uint8], width_px: int = 0, quality: int = 85) -> bytes:
    """RGB (H, W, 3) as JPEG, made narrower where it is wider than `width_px`."""
    if 0 < width_px < picture.shape[1]:
        height_px = round(picture.shape[0] * width_px / picture.shape[1])
        picture = np.asarray(cv2.resize(picture, (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()
