"""Practice records simulated and written per second of one core, against writing the same samples and nothing else.

    python benchmarks/practice.py [RECORDS]

Claim: at least 300 records a second of CPU time, 12 leads, 500 Hz, 10 s, headers and truth included. The floor is
numpy.ndarray.tofile of the same samples, one file a record. CPU time, because the machine is shared; medians of five.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# One core is the claim; BLAS reads this when numpy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from vizecg.platform.data.practice import write_practice_archive

TURNS = 5


def cpu_s(work: Callable[..., object], *arguments: object) -> float:
    begin = time.process_time()
    work(*arguments)
    return time.process_time() - begin


def write_plainly(folder: Path, signals: list[np.ndarray]) -> None:
    folder.mkdir()
    for index, signal in enumerate(signals):
        signal.tofile(folder / f"{index}.dat")


def main(num_records: int) -> None:
    archive_s: list[float] = []
    floor_s: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_practice_archive(folder / "warm", num_records, seed=TURNS)
        signals = [np.fromfile(path, "<i2") for path in sorted((folder / "warm" / "records").glob("*.dat"))]
        for turn in range(TURNS):
            archive_s.append(cpu_s(write_practice_archive, folder / f"archive{turn}", num_records, turn))
            floor_s.append(cpu_s(write_plainly, folder / f"floor{turn}", signals))
    ours, floor = (num_records / statistics.median(times) for times in (archive_s, floor_s))
    slowest, fastest = num_records / max(archive_s), num_records / min(archive_s)
    print(f"practice archive {ours:8.0f} records/s of CPU time (turns from {slowest:.0f} to {fastest:.0f})")
    print(f"tofile alone     {floor:8.0f} records/s of CPU time")
    print(f"ratio            {floor / ours:8.1f} times the floor's time; claim {'met' if ours >= 300 else 'MISSED'}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
