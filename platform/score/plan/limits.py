"""What bounds a run beside its cores: how fast files are read, and what a GPU at hand predicts."""

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...backends.choose import compile_bundle
from ...data.read_page import PageSpec
from ...errors import UserError
from ...storage import read_bytes

_READERS = 8
_MOST_BYTES = 8 << 20
"""Of each file: of shards the beginning is enough."""
_GPU_BATCH_PAGES = 64
_GPU_BATCHES = 20


def storage_bytes_per_s(sources: Sequence[str]) -> float:
    """Speed at which this machine reads these files, several at once and not from its memory.

    Infinite where none can be read by the name that the table of scores has for it.
    """
    for source in sources:
        _forget(source)
    begun = time.perf_counter()
    with ThreadPoolExecutor(_READERS) as pool:
        num_bytes = sum(pool.map(_read, sources))
    return num_bytes / (time.perf_counter() - begun) if num_bytes else math.inf


def _read(source: str) -> int:
    try:
        return min(len(read_bytes(source, _MOST_BYTES)), _MOST_BYTES)
    except (OSError, UserError):
        return 0


def _forget(source: str) -> None:
    """Out of the memory of this machine with a file that was just scored."""
    if not hasattr(os, "posix_fadvise") or not os.path.isfile(source):
        return
    try:
        descriptor = os.open(source, os.O_RDONLY)
    except OSError:
        return
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def gpu_pages_per_s(bundle: Path | str, spec: PageSpec) -> float | None:
    """What one GPU predicts, fed from memory; None where this machine has none."""
    import torch

    if not torch.cuda.is_available():
        return None
    predict = compile_bundle(bundle, device="cuda").load(device="cuda")
    shape = (_GPU_BATCH_PAGES, 3, spec.height_px, spec.width_px)
    pages = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for _ in range(3):
        predict(pages)
    begun = time.perf_counter()
    for _ in range(_GPU_BATCHES):
        predict(pages)
    return _GPU_BATCHES * _GPU_BATCH_PAGES / (time.perf_counter() - begun)
