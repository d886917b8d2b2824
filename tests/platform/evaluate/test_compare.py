"""A comparison is ours minus theirs on the same records, and refuses models that tell other labels apart."""

import json

import numpy as np
import pytest

from vizecg.platform.data.labels import Label, LabelSpace
from vizecg.platform.errors import UserError
from vizecg.platform.evaluate.compare import COMPARED, compare_predictions, require_same_labels
from vizecg.platform.evaluate.metrics import evaluate_predictions

KEYS = ["AF", "SB"]


def readings(noise: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.clip((1 - noise) * truth() + noise * rng.random((300, 2)), 0, 1)


def truth() -> np.ndarray:
    return (np.random.default_rng(0).random((300, 2)) < 0.3).astype(np.float32)


def test_the_better_model_wins_beyond_luck() -> None:
    known, patients = np.ones((300, 2), bool), np.arange(300) // 2
    found = compare_predictions(
        (readings(0.55), [0.5, 0.5]), (readings(0.95), [0.6, 0.4]), truth(), known, patients, KEYS, "other", 100
    )

    ours = evaluate_predictions(readings(0.55), truth(), known, KEYS, [0.5, 0.5])
    for name in COMPARED:
        expected = getattr(ours.macro, name) - getattr(found.result.macro, name)
        assert found.differences[name].value == pytest.approx(expected)
    area = found.differences["auroc"]
    assert area.interval is not None and area.interval.low > 0 and area.p_value is not None and area.p_value < 0.05
    assert found.num_patients == 150
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["differences"]["auroc"]["value"] == area.value


def test_a_model_against_itself_differs_in_nothing() -> None:
    same = (readings(0.9), [0.5, 0.5])
    found = compare_predictions(same, same, truth(), np.ones((300, 2), bool), np.arange(300), KEYS, "itself", 20)
    assert all(difference.value == 0 for difference in found.differences.values())


def space_of(**codes: str) -> LabelSpace:
    return LabelSpace(name="test", labels=tuple(Label(key=key, name=key, codes=(code,)) for key, code in codes.items()))


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (space_of(AF="snomed:1"), "only one of them knows SB"),
        (space_of(SB="snomed:2", AF="snomed:1"), "another order"),
        (space_of(AF="snomed:1", SB="snomed:3"), "other codes mean SB"),
    ],
)
def test_other_labels_are_refused(theirs: LabelSpace, reason: str) -> None:
    ours = space_of(AF="snomed:1", SB="snomed:2")
    require_same_labels("a", ours, "b", ours.model_copy(update={"name": "renamed"}))
    with pytest.raises(UserError, match=f"--against b: .*{reason}.*compare models of one label_space"):
        require_same_labels("a", ours, "b", theirs)
