"""The score of the PhysioNet/CinC Challenge 2021: confusions between diagnoses of like treatment cost less.

Reyna et al., "Will Two Do?", Computing in Cardiology 2021 (doi:10.23919/CinC53138.2021.9662687). The weights in
`challenge_weights.csv` are those of https://github.com/physionetchallenges/evaluation-2021 (BSD-2-Clause, copyright
2020, 2021 PhysioNet/Computing in Cardiology Challenges): one row a class, SNOMED CT codes of one class joined by `|`.

Shapes: N records, K labels, C classes.
"""

import csv
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]

SINUS_RHYTHM = "426783006"


def challenge_score(predicted: BoolArray, target: BoolArray, codes_by_label: Sequence[Sequence[str]]) -> float | None:
    """1 for a model that is always right, 0 for one that says sinus rhythm and nothing else of every record.

    A label stands for a class of the challenge if its SNOMED CT codes reach that class and no other; other labels do
    not count, labels of one class are joined. Over all 26 classes this is the published score. A label space that
    covers some of them is scored on these alone, with the published weights.

    Args:
        predicted: what the model claims, (N, K).
        target: what is true, (N, K); as in the published scorer, what is not annotated counts as absent.
        codes_by_label: K lists of `system:code`, as a label space has them; other systems than `snomed` do not count.

    Returns:
        None where sinus rhythm is not among the classes covered, or where the two models above earn the same (the
        published scorer then says 0).
    """
    codes, weights = _weights()
    class_of = [_class_of(codes, label) for label in codes_by_label]
    covered = sorted({number for number in class_of if number is not None})
    sinus_rhythm = codes[SINUS_RHYTHM]
    if sinus_rhythm not in covered:
        return None
    reward = weights[np.ix_(covered, covered)]
    true = _by_class(target, class_of, covered)
    inactive = np.zeros_like(true)
    inactive[:, covered.index(sinus_rhythm)] = True
    ours, best, worst = (
        _reward(true, claims, reward) for claims in (_by_class(predicted, class_of, covered), true, inactive)
    )
    return (ours - worst) / (best - worst) if best != worst else None


def _reward(true: BoolArray, claimed: BoolArray, weights: NDArray[np.float64]) -> float:
    """Sum over records of the weights of all pairs (true, claimed), divided by the number of classes in either."""
    pairs = ((true @ weights) * claimed).sum(1)
    return float((pairs / np.maximum((true | claimed).sum(1), 1)).sum())


def _class_of(codes: dict[str, int], label: Sequence[str]) -> int | None:
    values = [value for system, _, value in (code.partition(":") for code in label) if system == "snomed"]
    reached = {codes[value] for value in values if value in codes}
    return reached.pop() if len(reached) == 1 else None


def _by_class(marks: BoolArray, class_of: list[int | None], covered: list[int]) -> BoolArray:
    """Marks by label (N, K) as marks by covered class (N, C)."""
    member = np.array([[label == number for number in covered] for label in class_of])
    return (marks.astype(np.float64) @ member) > 0


@lru_cache(maxsize=1)
def _weights() -> tuple[dict[str, int], NDArray[np.float64]]:
    """Class number of every SNOMED CT code, and the reward (true class, claimed class)."""
    text = resources.files(__package__ or "").joinpath("challenge_weights.csv").read_text(encoding="utf-8")
    head, *rows = csv.reader(text.splitlines())
    codes = {code: number for number, name in enumerate(head[1:]) for code in name.split("|")}
    return codes, np.array([row[1:] for row in rows], np.float64)
