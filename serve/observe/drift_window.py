"""Drift of what an endpoint answers: the last 24 hours of every bundle against where it was calibrated.

Shapes: K labels, E + 1 bins of platform/reference.py, S slots of an hour.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from ...platform.drift import label_drift
from .scores import BundleId
from .series import Family, Table

Counts = NDArray[np.int64]

_HOUR_S = 3600.0
_SLOTS = 25
"""The hour that runs, and the 24 before it."""
_MAX_IDLE = 32
PSI = Family(
    "vizecg_serve_score_drift_psi",
    "gauge",
    "Population stability index of the last 24 hours against the bundle's reference, less what chance adds: from 0.1 on"
    " the probabilities have shifted, from 0.25 on they are very different. Missing while pages are too few to tell.",
    ("model", "bundle", "label"),
)
PAGES = Family("vizecg_serve_score_drift_pages", "gauge", "Pages of these 24 hours.", ("model", "bundle"))


class _Window:
    """One bundle's pages by hour."""

    def __init__(self, labels: Sequence[str], shape: tuple[int, ...]):
        self.labels = tuple(labels)
        self.reference: Counts | None = None
        """(K, E + 1)."""
        self._counts = np.zeros((_SLOTS, *shape), np.int32)
        self._hours = np.full(_SLOTS, -_SLOTS)

    def is_idle(self, hour: int) -> bool:
        """No page in the hour that runs and the 24 before it."""
        return bool((self._hours <= hour - _SLOTS).all())

    def add(self, added: Counts, hour: int) -> None:
        """Pages by probability, (K, E + 1)."""
        slot = hour % _SLOTS
        if self._hours[slot] != hour:
            self._counts[slot], self._hours[slot] = 0, hour
        self._counts[slot] += added

    def total(self, hour: int) -> Counts:
        """(K, E + 1) of the hour that runs and the 24 before it."""
        return self._counts[self._hours > hour - _SLOTS].sum(0, dtype=np.int64)


class DriftWindows:
    """Of all bundles."""

    def __init__(self) -> None:
        self._windows: dict[BundleId, _Window] = {}

    def add(
        self, name: BundleId, labels: Sequence[str], added: Counts, reference: list[list[int]] | None, now_s: float
    ) -> None:
        """Pages by probability (K, E + 1) since the last call, and those of the reference now and then."""
        window = self._windows.get(name)
        if window is None and added.any():
            window = self._windows[name] = _Window(labels, added.shape)
        if window is not None and reference is not None:
            window.reference = np.array(reference)
        if window is not None and added.any():
            window.add(added, int(now_s // _HOUR_S))

    def table(self, now_s: float) -> Table:
        """As metrics; a label of whom too little is known to tell is left out."""
        table: Table = {PSI: {}, PAGES: {}}
        for name, window in self._windows.items():
            total = window.total(int(now_s // _HOUR_S))
            table[PAGES][name] = (float(total[0].sum()),)
            if window.reference is None or window.reference.shape != total.shape:
                continue
            for label, counts, reference in zip(window.labels, total, window.reference, strict=True):
                # How many of them are findings moves with the thresholds, which are set anew as needed.
                drift = label_drift(counts, reference, 0, 0.0)
                if drift is not None and drift.word is not None:
                    table[PSI][(*name, label)] = (drift.psi,)
        return table

    def forget(self, in_use: Collection[BundleId], now_s: float) -> list[BundleId]:
        """Which bundles are remembered no more: all but 32 of those that are not in use and read no page for a day."""
        if len(self._windows) <= _MAX_IDLE:
            return []
        hour = int(now_s // _HOUR_S)
        idle = [name for name in self._windows if name not in in_use and self._windows[name].is_idle(hour)]
        # In the order of their first pages.
        gone = idle[: max(0, len(idle) - _MAX_IDLE)]
        for name in gone:
            del self._windows[name]
        return gone
