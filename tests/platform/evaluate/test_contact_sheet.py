"""The contact sheet shows the surest wrong readings first, and what was said of them."""

import cv2
import numpy as np
import pytest

from vizecg.platform.bundle import read_facts
from vizecg.platform.evaluate.contact_sheet import choose_errors, encoded, wrong_readings

THRESHOLDS = [0.25 + 0.1 * index for index in range(7)]


@pytest.fixture(scope="module")
def facts(make_bundle, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("sheet") / "bundle"
    make_bundle(folder)
    return read_facts(folder)


def test_the_surest_mistakes_come_first(make_predictions, facts) -> None:
    probability = np.zeros((20, 7))
    probability[:, 0] = np.linspace(0.05, 1, 20)
    predictions = make_predictions({"image": probability}, np.zeros((20, 7)), np.ones((20, 7), bool))

    assert choose_errors(predictions, facts, 3) == [19, 18, 17]
    # Below the threshold of 0.25 nothing was claimed, so nothing is wrong.
    assert choose_errors(predictions, facts, 99) == list(range(19, 3, -1))
    assert len(choose_errors(predictions, facts)) == 12


def test_what_was_said_and_what_is_true(make_predictions, facts, pages) -> None:
    probability, target, known = np.zeros((1, 7)), np.zeros((1, 7)), np.ones((1, 7), bool)
    target[0, [0, 1, 2]] = 1
    probability[0, [0, 1, 3, 4, 6]] = 0.9, 0.1, 0.8, 0.95, 1.0
    known[0, 6] = False
    predictions = make_predictions({"image": probability}, target, known)
    keys = facts.label_space.keys

    (reading,) = wrong_readings(facts, predictions, [0], {"r0": pages[0]})

    assert reading.found == (keys[0],)
    assert list(reading.missed) == [keys[2], keys[1]]
    assert list(reading.false) == [keys[4], keys[3]] and reading.false[keys[3]] == pytest.approx(0.8)
    assert set(reading.to_dict()) == {"record_id", "false", "missed", "found"}
    picture = cv2.imdecode(np.frombuffer(reading.thumbnail, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (96, 128, 3)


def test_pictures_keep_their_colours_and_shape() -> None:
    red = np.zeros((60, 80, 3), np.uint8)
    red[..., 0] = 250
    small = cv2.imdecode(np.frombuffer(encoded(red, width_px=40), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (30, 40, 3) and small[..., 2].min() > 200 and small[..., :2].max() < 40
    assert cv2.imdecode(np.frombuffer(encoded(red, width_px=400), np.uint8), cv2.IMREAD_COLOR).shape == (60, 80, 3)
