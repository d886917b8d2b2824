"""Who goes into training, validation and test: whole patients, and a recording under two names only once.

A recording is recognised by a fingerprint of its first ten seconds between 1 and 15 Hz: what a resampled, rescaled or
re-filtered copy keeps. Fingerprints are compared only where 16 of their signs agree in one of 10 places (locality-
sensitive hashing, Charikar 2002), so the cost grows with the archive and not with its square.

Shapes: N records, D numbers in a fingerprint.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .records import EcgRecord, fit_samples

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_INDEPENDENT_LEADS = [0, 1, 6, 7, 8, 9, 10, 11]
_RATE_HZ, _DURATION_S = 100.0, 10
_BAND_HZ = (1, 15)
_BANDS, _BITS = 10, 16
_SAME_RECORDING = 0.97
"""Cosine. Measured: the same PTB-XL recording at 100 and 500 Hz 0.997 and more, 7,499 different ones under 0.90."""

Projection = NDArray[np.float32]


def make_projection() -> Projection:
    """The random directions of all fingerprints, the same in every process: float32 (coefficients, D)."""
    coefficients = 2 * len(_INDEPENDENT_LEADS) * (_BAND_HZ[1] - _BAND_HZ[0]) * _DURATION_S
    return np.random.default_rng(0).standard_normal((coefficients, _BANDS * _BITS), dtype=np.float32)


def fingerprint(record: EcgRecord, projection: Projection) -> NDArray[np.float16]:
    """Unit vector float16 (D,); zeros where the record has no signal between 1 and 15 Hz."""
    signal, _ = fit_samples(record, _RATE_HZ, int(_RATE_HZ * _DURATION_S))
    # The window hides what filters do at both ends.
    spectrum = np.fft.rfft(signal[_INDEPENDENT_LEADS] * np.hanning(signal.shape[1]), axis=1)
    band = spectrum[:, _BAND_HZ[0] * _DURATION_S : _BAND_HZ[1] * _DURATION_S]
    vector = np.concatenate([band.real.ravel(), band.imag.ravel()]).astype(np.float32) @ projection
    norm = float(np.linalg.norm(vector))
    return (vector / norm if norm > 0 else np.zeros_like(vector)).astype(np.float16)


def page_fingerprint(page: bytes) -> NDArray[np.float16]:
    """Of a page without its signal: a unit vector float16 (D,) that only the very same bytes share."""
    seed = int.from_bytes(hashlib.sha256(page).digest())
    vector = np.random.default_rng(seed).standard_normal(_BANDS * _BITS)
    return (vector / np.linalg.norm(vector)).astype(np.float16)


def same_recordings(fingerprints: NDArray[np.float16]) -> NDArray[np.intp]:
    """Pairs (P, 2) of rows of (N, D) fingerprints that show one recording; enough of them to connect all copies."""
    signed = np.flatnonzero(np.abs(fingerprints).sum(axis=1) > 0)
    bits = (fingerprints[signed] > 0).reshape(len(signed), _BANDS, _BITS)
    keys = bits @ (1 << np.arange(_BITS))
    pairs = [_pairs_in_buckets(keys[:, band], fingerprints[signed]) for band in range(_BANDS)]
    return signed[np.unique(np.concatenate(pairs), axis=0)]


def is_same_recording(one: NDArray[np.float16], other: NDArray[np.float16]) -> bool:
    """Whether two fingerprints (D,) show one recording; silence has nothing to tell it from silence."""
    similarity = float(one.astype(np.float32) @ other.astype(np.float32))
    return similarity > _SAME_RECORDING or not (one.any() or other.any())


def _pairs_in_buckets(keys: NDArray[np.int_], fingerprints: NDArray[np.float16]) -> NDArray[np.intp]:
    order = np.argsort(keys, kind="stable")
    buckets = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    found = [np.empty((0, 2), dtype=np.intp)]
    for bucket in buckets:
        if len(bucket) > 1:
            vectors = fingerprints[bucket].astype(np.float32)
            first, second = np.nonzero(np.triu(vectors @ vectors.T > _SAME_RECORDING, k=1))
            found.append(np.stack([bucket[first], bucket[second]], axis=1))
    return np.concatenate(found)


def group_records(
    record_ids: Sequence[str],
    patient_ids: Sequence[str | None],
    aliases: Sequence[str | None],
    fingerprints: NDArray[np.float16],
) -> NDArray[np.int32]:
    """A number (N,) for each record, equal where records share a patient or a recording, through others too."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first_row: dict[str, int] = {record_id: row for row, record_id in enumerate(record_ids)}
    edges = [(row, first_row[alias]) for row, alias in enumerate(aliases) if alias in first_row]
    first_of_patient: dict[str, int] = {}
    for row, patient_id in enumerate(patient_ids):
        if patient_id is not None:
            edges.append((row, first_of_patient.setdefault(patient_id, row)))
    rows = np.concatenate([np.array(edges, dtype=np.intp).reshape(-1, 2), same_recordings(fingerprints)])
    size = len(record_ids)
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows[:, 0], rows[:, 1])), shape=(size, size))
    groups: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return groups


def assign_splits(
    groups: NDArray[np.int32],
    names: Sequence[str],
    folds: Sequence[int | None],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> tuple[list[Split], list[int | None]]:
    """Split and fold of every record; all records of a group get the same.

    A group with folds takes the highest, which is the most held out: 9 and above test, 8 validation, the rest
    training. Any other group is placed by a hash of the first of its `names` (N,), whatever else is in the archive,
    so that records added later move nobody; only where validation or test stay empty is a group moved there.
    """
    fold_of: dict[int, int | None] = {}
    name_of: dict[int, str] = {}
    for group, name, fold in zip(groups.tolist(), names, folds, strict=True):
        known = [value for value in (fold_of.get(group), fold) if value is not None]
        fold_of[group] = max(known, default=None)
        name_of[group] = min(name_of.get(group, name), name)
    position = {group: _hash_fraction(f"{seed}:{name}") for group, name in name_of.items() if fold_of[group] is None}
    split_of = {group: _split_of_fold(fold) for group, fold in fold_of.items() if fold is not None}
    split_of |= {group: _split_of_position(place, val_fraction, test_fraction) for group, place in position.items()}
    _fill_empty(split_of, position, {"test": test_fraction, "val": val_fraction})
    return [split_of[group] for group in groups.tolist()], [fold_of[group] for group in groups.tolist()]


def _hash_fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def _split_of_fold(fold: int) -> Split:
    if fold >= 9:
        return "test"
    return "val" if fold == 8 else "train"


def _split_of_position(position: float, val_fraction: float, test_fraction: float) -> Split:
    if position < test_fraction:
        return "test"
    return "val" if position < test_fraction + val_fraction else "train"


def _fill_empty(split_of: dict[int, Split], position: dict[int, float], wanted: dict[Split, float]) -> None:
    """Move the next training group by hash into a wished-for split that got none, as happens with few patients."""
    for split, fraction in wanted.items():
        movable = [group for group in position if split_of[group] == "train"]
        if fraction > 0 and split not in split_of.values() and len(movable) > 1:
            split_of[min(movable, key=lambda group: position[group])] = split
