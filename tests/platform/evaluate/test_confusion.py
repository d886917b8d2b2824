"""Confusions, counted by hand."""

import json

import numpy as np

from vizecg.platform.evaluate.confusion import confusion_of

KEYS = ("AF", "SB", "LBBB")
#                    truth      said       known
RECORDS = np.array([[(1, 0, 0), (1, 0, 0), (1, 1, 1)],  # AF found.
                    [(1, 0, 0), (1, 1, 0), (1, 1, 1)],  # AF found, SB also.
                    [(1, 0, 0), (0, 1, 0), (1, 1, 1)],  # SB instead of AF.
                    [(1, 1, 0), (0, 1, 0), (1, 1, 1)],  # SB is true as well: no confusion with it.
                    [(1, 0, 0), (0, 1, 0), (1, 0, 1)],  # Whether SB is there nobody knows.
                    [(0, 1, 0), (0, 1, 0), (0, 1, 1)]]).astype(bool)  # Whether AF is there nobody knows.  # fmt: skip


def test_pairs_are_counted() -> None:
    truth, said, known = RECORDS.transpose(1, 0, 2)
    confusion = confusion_of(said, truth.astype(np.float32), known, KEYS)

    assert confusion.records.tolist() == [[5, 3, 5], [0, 2, 2], [0, 0, 0]]
    assert confusion.also.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert confusion.instead.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(confusion.share, [[0.4, 2 / 3, 0], [np.nan, 1, 0], [np.nan] * 3])
    assert json.loads(json.dumps(confusion.to_dict(), allow_nan=False))["instead"][0][1] == 1


def test_only_the_most_frequent_labels_are_kept_and_none_without_records() -> None:
    truth, said, known = RECORDS.transpose(1, 0, 2)
    confusion = confusion_of(said, truth.astype(np.float32), known, KEYS)

    assert confusion.of_most_frequent(3).label_keys == ("AF", "SB")
    one = confusion.of_most_frequent(1)
    assert one.label_keys == ("AF",) and one.records.tolist() == [[5]]
