"""The challenge score agrees with a literal reading of the published scorer, class by class and record by record."""

import csv
from importlib import resources

import numpy as np
import pytest

from vizecg.platform.data.labels import load_label_space
from vizecg.platform.evaluate.challenge import challenge_score
from vizecg.platform.evaluate.metrics import evaluate_predictions

SINUS, AF, AFL, LBBB, CLBBB = "426783006", "164889003", "164890007", "164909002", "733534002"


def published_table() -> tuple[list[str], np.ndarray]:
    text = resources.files("vizecg.platform.evaluate").joinpath("challenge_weights.csv").read_text()
    rows = list(csv.reader(text.splitlines()))
    assert rows[0][1:] == [row[0] for row in rows[1:]]
    return rows[0][1:], np.array([[float(value) for value in row[1:]] for row in rows[1:]])


def modified_confusion(labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Rows are true classes, columns claimed ones; every record is shared out over the classes in either."""
    classes = labels.shape[1]
    confusion = np.zeros((classes, classes))
    for truth, claims in zip(labels, outputs, strict=True):
        either = 0
        for j in range(classes):
            either += 1 if truth[j] or claims[j] else 0
        for j in range(classes):
            for k in range(classes):
                if truth[j] and claims[k]:
                    confusion[j, k] += 1.0 / max(either, 1)
    return confusion


def literal_score(weights: np.ndarray, labels: np.ndarray, outputs: np.ndarray, sinus: int) -> float:
    inactive = np.zeros_like(labels)
    inactive[:, sinus] = True
    observed, correct, nothing = (
        float(np.nansum(weights * modified_confusion(labels, claims))) for claims in (outputs, labels, inactive)
    )
    return (observed - nothing) / (correct - nothing)


def codes_of(names: list[str]) -> list[list[str]]:
    return [[f"snomed:{code}" for code in name.split("|")] for name in names]


@pytest.mark.parametrize("seed", range(4))
def test_all_classes_agree_with_the_published_scorer(seed: int) -> None:
    names, weights = published_table()
    rng = np.random.default_rng(seed)
    labels, outputs = rng.random((150, 26)) < 0.08, rng.random((150, 26)) < rng.choice([0.05, 0.2])
    expected = literal_score(weights, labels, outputs, names.index(SINUS))
    assert challenge_score(outputs, labels, codes_of(names)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_some_classes_and_other_labels(seed: int) -> None:
    names, weights = published_table()
    rng = np.random.default_rng(seed)
    others = [number for number in range(26) if names[number] != SINUS]
    chosen = rng.permutation([names.index(SINUS), *rng.choice(others, 8, replace=False)])
    labels, outputs = rng.random((80, 9)) < 0.2, rng.random((80, 9)) < 0.3
    expected = literal_score(
        weights[np.ix_(chosen, chosen)], labels, outputs, [names[number] for number in chosen].index(SINUS)
    )
    codes = codes_of([names[number] for number in chosen])
    assert challenge_score(outputs, labels, codes) == pytest.approx(expected, abs=1e-9)
    outside = [[f"scp:{SINUS}"], ["snomed:0"], [f"snomed:{AF}", f"snomed:{AFL}"]]
    noise = rng.random((80, 3)) < 0.5
    both = challenge_score(np.hstack([noise, outputs]), np.hstack([~noise, labels]), [*outside, *codes])
    assert both == pytest.approx(expected, abs=1e-9)


def test_codes_of_one_class_are_one_diagnosis() -> None:
    rng = np.random.default_rng(0)
    labels, outputs = rng.random((60, 2)) < 0.4, rng.random((60, 2)) < 0.4
    joined = challenge_score(outputs, labels, [[f"snomed:{SINUS}"], [f"snomed:{LBBB}", "scp:CLBBB"]])
    assert joined == pytest.approx(challenge_score(outputs, labels, [[f"snomed:{SINUS}"], [f"snomed:{CLBBB}"]]))
    apart = rng.random(60) < 0.5
    split = [np.stack([marks[:, 0], marks[:, 1] & apart, marks[:, 1] & ~apart], 1) for marks in (outputs, labels)]
    codes = [[f"snomed:{SINUS}"], [f"snomed:{LBBB}"], [f"snomed:{CLBBB}"]]
    assert challenge_score(*split, codes) == pytest.approx(joined, abs=1e-12)


def test_landmarks() -> None:
    codes = [[f"snomed:{SINUS}"], [f"snomed:{AF}"]]
    labels = np.array([[True, False], [False, True], [False, True]])
    assert challenge_score(labels, labels, codes) == pytest.approx(1.0)
    assert challenge_score(np.array([[True, False]] * 3), labels, codes) == pytest.approx(0.0)
    assert challenge_score(np.zeros((3, 2), bool), labels, codes) < 0
    # Saying sinus rhythm alone earns 1 and twice 0.25 / 2; saying both earns three times (1 + 0.25) / 2.
    assert challenge_score(np.ones((3, 2), bool), labels, codes) == pytest.approx((1.875 - 1.25) / (3 - 1.25))


def test_without_sinus_rhythm_or_anything_else_there_is_no_score() -> None:
    marks = np.eye(2, dtype=bool)
    assert challenge_score(marks, marks, [[f"snomed:{AF}"], [f"snomed:{AFL}"]]) is None
    assert challenge_score(marks[:1], marks[:1], [[f"snomed:{SINUS}"], [f"snomed:{AF}"]]) is None
    assert challenge_score(marks[:0], marks[:0], [[f"snomed:{SINUS}"], [f"snomed:{AF}"]]) is None


def test_the_table_is_the_published_one() -> None:
    names, weights = published_table()
    assert len(names) == 26 and sum(name.count("|") for name in names) == 4
    assert (weights == weights.T).all() and (np.diag(weights) == 1).all()
    assert np.sort(np.unique(weights))[[0, -2, -1]].tolist() == [0.15, 0.5, 1.0]
    scored = {code for label in load_label_space("cinc2021-scored").labels for code in label.codes}
    assert {f"snomed:{code}" for name in names for code in name.split("|")} == scored


@pytest.mark.parametrize(
    ("space", "scored"), [("cinc2021-scored", True), ("practice", True), ("code6", False), ("ptbxl-superclass", False)]
)
def test_label_spaces_that_the_evaluation_can_score(space: str, scored: bool) -> None:
    labels = load_label_space(space).labels
    rng = np.random.default_rng(0)
    target = (rng.random((50, len(labels))) < 0.2).astype(np.float32)
    known = np.ones(target.shape, bool)
    keys, codes = [label.key for label in labels], [label.codes for label in labels]
    arguments = target, target, known, keys, [0.5] * len(keys)
    assert evaluate_predictions(*arguments).challenge_score is None
    assert evaluate_predictions(*arguments, codes).challenge_score == (pytest.approx(1.0) if scored else None)
