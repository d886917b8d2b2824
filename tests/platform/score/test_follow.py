"""Rates and times left, from chunks as they come in."""

from typing import Any

import pytest

from vizecg.platform.score import follow
from vizecg.platform.score.follow import Follower


class Files:
    """As many items as a run has, none of them done."""

    def __init__(self, num_items: int):
        from collections import Counter

        import numpy as np

        self.done, self.pages, self.reasons = np.zeros(num_items, bool), 0, Counter[str]()


@pytest.mark.parametrize(("workers", "chunk_s"), [(1, 0.5), (1, 20.0), (3, 1.0), (3, 45.0), (8, 12.0)])
def test_a_steady_rate_is_told_as_it_is_after_the_first_minutes(
    monkeypatch: pytest.MonkeyPatch, workers: int, chunk_s: float
):
    """Also of models so slow that half a minute holds fewer chunks than the window keeps."""
    now_s = [1000.0]
    monkeypatch.setattr(follow.time, "monotonic", lambda: now_s[0])
    files: Any = Files(10**6)
    follower = Follower(files, None, None)
    now_s[0] += 60  # Until the first predictor is there.
    told = []
    for chunk in range(workers * max(40, int(150 / chunk_s))):
        now_s[0] += chunk_s / workers
        follower.after(f"node/{chunk % workers}", 64, 64)
        told.append(follower.progress().pages_per_s)
    true = 64 * workers / chunk_s
    assert told[-1] == pytest.approx(true, rel=0.15)
    settled = told[len(told) // 2 :]
    assert min(settled) > 0.8 * true and max(settled) < 1.3 * true
