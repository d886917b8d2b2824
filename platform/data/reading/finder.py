"""Is a picture a page of an ECG, and which way is up?

A small network looks at the ink of the whole page, 256 pixels wide: look.py computes it in numpy, so that reading a
page needs no torch; fit.py made its weights, finder.npz, and says of what.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .evidence import trace_rows
from .look import TURNS_DEG, Floats, Pixels, judge, look_of

WEIGHTS = Path(__file__).with_name("finder.npz")
MIN_ECG_SCORE = 0.2
"""Lenient: a bad print of an ECG must pass, and what else passes can still be seen in the score."""
SURE = 0.99
"""Chance of the best turn from which one look is enough; below it the page is looked at from all four sides."""
MIN_TURN_SCORE = 0.8
"""A picture is not turned for less: most come upright. Of 700 drawn pages with hard wear six were misread, none of
them as surely as this; 19 were read right, but less surely."""


@dataclass(frozen=True, kw_only=True)
class PageFinding:
    """What was found out about a picture."""

    turned_deg: int
    """How far it must be turned clockwise to stand upright: 0, 90, 180 or 270; 0 where no turn is clearly best."""
    turn_score: float
    """Chance of the best turn."""
    ecg_score: float
    """Chance of being a page of an ECG, among as many other pictures."""
    accepted: bool
    reason: str | None = None
    """`not_an_ecg` where it was not accepted."""
    message: str | None = None
    """The reason as a sentence."""
    trace_rows: int | None = None
    """Rows of traces and whether there is a millimetre grid: looked for only where the picture was not accepted."""
    has_grid: bool | None = None

    @property
    def is_turn_clear(self) -> bool:
        """Whether one of the four turns is clearly best."""
        return self.turn_score >= MIN_TURN_SCORE


def find_page(image: Pixels) -> PageFinding:
    """Judge a decoded picture, RGB (h, w, 3)."""
    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8, f"{image.dtype} {image.shape}"
    look = look_of(image)
    turns, ecg_score = _scores(look)
    best = int(turns.argmax())
    turn_score = float(turns[best])
    turn = best if turn_score >= MIN_TURN_SCORE else 0
    found = PageFinding(
        turned_deg=TURNS_DEG[turn], turn_score=turn_score, ecg_score=ecg_score, accepted=ecg_score >= MIN_ECG_SCORE
    )
    return found if found.accepted else _rejected(found, image, look)


def set_upright(image: Pixels, finding: PageFinding) -> Pixels:
    """The picture as it is to be read, RGB (h, w, 3) or (w, h, 3)."""
    if finding.turned_deg == 0:
        return image
    return np.ascontiguousarray(np.rot90(image, -finding.turned_deg // 90))


def _scores(look: Floats) -> tuple[Floats, float]:
    """Chances of the four turns (4,) and of being an ECG."""
    logits = judge(look[None], _weights())[0]
    turns = _softmax(logits[:4])
    if turns.max() < SURE:
        # One by one: four at a time leave the processor's cache and take twice as long.
        seen = np.stack([logits, *(judge(np.rot90(look, turn)[None], _weights())[0] for turn in (1, 2, 3))])
        # Turned anticlockwise by a quarter, a look needs one quarter more clockwise.
        aligned = np.stack([np.roll(seen[turn, :4], -turn) for turn in range(4)])
        logits = np.append(aligned.mean(axis=0), seen[:, 4].mean())
        turns = _softmax(logits[:4])
    return turns, float(1 / (1 + np.exp(-logits[4])))


def _softmax(logits: Floats) -> Floats:
    shares: Floats = np.exp(logits - logits.max())
    return shares / shares.sum()


def _rejected(found: PageFinding, image: Pixels, look: Floats) -> PageFinding:
    """With its reason."""
    from .grid import find_grid  # SciPy takes half a second to import, and few pictures are none.

    rows = trace_rows(np.rot90(look, -found.turned_deg // 90))
    has_grid = find_grid(image) is not None
    seen = "no rows of traces" if rows == 0 else f"{rows} row{'s' * (rows > 1)} of traces"
    grid = "a grid" if has_grid else "no millimetre grid"
    return PageFinding(
        turned_deg=found.turned_deg,
        turn_score=found.turn_score,
        ecg_score=found.ecg_score,
        accepted=False,
        reason="not_an_ecg",
        message=f"the picture does not look like a page of a 12-lead ECG: {seen}, {grid}, score {found.ecg_score:.2f}",
        trace_rows=rows,
        has_grid=has_grid,
    )


@lru_cache(maxsize=1)
def _weights() -> dict[str, Floats]:
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}
