"""The practice archive: an embedded, labelled, physiological 12-lead simulator, written as ordinary WFDB.

    N samples
    signal  (N, 12)  int16, microvolts, leads in the order of records.LEADS

patients.py decides what a record shows, rhythm.py when its heart beats, heart.py what the electrodes see. An archive of
600 records is the beginning of one of 6,000 of the same seed.
"""

import csv
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from . import heart, rhythm
from .heart import Array
from .patients import LABELS, SNOMED, Plan, Truth, plan_record
from .records import LEADS


@dataclass(frozen=True)
class PracticeSummary:
    """What was written, and where."""

    out: Path
    num_records: int
    num_patients: int
    records_per_label: dict[str, int]


def draw_signal(plan: Plan, recorder: heart.Recorder) -> NDArray[np.int16]:
    """The planned record as int16 microvolts (N, 12), for the duration that `plan_record` was given."""
    rng = np.random.Generator(np.random.SFC64(plan.seed))
    dipole_mv = _dipole_mv(plan, rng, recorder)
    noise_mv = heart.electrode_noise_mv(rng, recorder, plan.patient.mains_hz, plan.breathing.at(recorder.time_s))
    electrodes_mv = plan.patient.lead_vectors.astype(np.float32) @ dipole_mv
    electrodes_mv += noise_mv
    leads_uv = electrodes_mv.T @ (1000 * heart.lead_matrix().T).astype(np.float32)
    return np.rint(leads_uv, out=leads_uv).astype(np.int16)


def _dipole_mv(plan: Plan, rng: np.random.Generator, recorder: heart.Recorder) -> Array:
    """The heart's dipole (3, N) float32, turned by each breath."""
    patient, truth, onset_s = plan.patient, plan.truth, plan.onset_s
    dipole_mv = np.zeros((3, len(recorder.time_s)), np.float32)
    breath = plan.breathing.at(onset_s)
    swing = np.stack([breath * rng.uniform(0.02, 0.10), breath * rng.normal(0, 0.05)])
    gain = (patient.voltage * (1 + breath * rng.normal(0, 0.03)))[:, None, None]
    position = np.array(patient.heart_position_rad)[:, None]
    # T follows the heart's position half-way, and QT the interval before it by a tenth of what that changed.
    turn_qrs, turn_t = (gain * heart.rotation(*(share * position + swing)) for share in (1.0, 0.5))
    rr_ms = 1000 * np.diff(onset_s, prepend=2 * onset_s[0] - onset_s[1])
    stretch = 1 + 0.1 * (rr_ms - rr_ms.mean()) / truth.qt_ms
    u_mv = np.array([0.03, 0.02, -0.05]) * rng.uniform(0, 0.7) * min(max((rr_ms.mean() - 700) / 300, 0), 1)
    still = np.ones_like(onset_s)
    qrs = heart.qrs_waves(truth.conduction, truth.qrs_ms)
    t_and_u = heart.t_waves(truth.qrs_ms, truth.qt_ms, patient.t_mv, patient.st_mv, u_mv)
    heart.add_waves(dipole_mv, qrs, onset_s, turn_qrs, still, recorder.sampling_rate_hz)
    heart.add_waves(dipole_mv, t_and_u, onset_s, turn_t, stretch, recorder.sampling_rate_hz)
    if truth.pr_ms is None:
        dipole_mv += rhythm.fibrillatory_dipole_mv(rng, recorder.time_s)
    else:
        p = heart.p_waves(patient.p_ms).moved(patient.p_ms - truth.pr_ms, np.eye(3))
        heart.add_waves(dipole_mv, p, onset_s, turn_t, still, recorder.sampling_rate_hz)
    return dipole_mv


def write_practice_archive(
    out: Path,
    num_records: int,
    seed: int,
    sampling_rate_hz: int = 500,
    duration_s: float = 10.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> PracticeSummary:
    """Write `num_records` WFDB records to `out/records`, their index to `out/RECORDS` and the truth to `out/truth.csv`.

    The same arguments write the same bytes; record i does not depend on `num_records`. The archive appears under `out`
    only when it is complete. `on_progress` is called with (records written, num_records).

    Raises UserError where `out` holds something already or an argument is out of range.
    """
    out = Path(out)
    _check_arguments(out, num_records, seed, sampling_rate_hz, duration_s)
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    (partial / "records").mkdir(parents=True)
    try:
        truths = _write_records(partial / "records", num_records, seed, sampling_rate_hz, duration_s, on_progress)
        (partial / "RECORDS").write_text("".join(f"records/{truth.record_id}\n" for truth in truths))
        _write_truth(partial / "truth.csv", truths)
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial)
        raise
    found = Counter(label for truth in truths for label in truth.labels)
    num_patients = len({truth.patient_id for truth in truths})
    return PracticeSummary(out, num_records, num_patients, {label: found[label] for label in LABELS})


def _check_arguments(out: Path, num_records: int, seed: int, sampling_rate_hz: int, duration_s: float) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not an empty folder: name another for the practice archive, or empty it.")
    if num_records < 1 or seed < 0:
        raise UserError(f"A practice archive needs at least 1 record and a seed from 0, not {num_records} and {seed}.")
    if not 50 <= sampling_rate_hz <= 2000:
        raise UserError(f"A sampling rate of {sampling_rate_hz} Hz is out of range: choose 50 to 2000, such as 500.")
    if not 5 <= duration_s <= 60:
        raise UserError(f"A duration of {duration_s} s is out of range: choose 5 to 60, such as 10.")


def _write_records(
    folder: Path,
    num_records: int,
    seed: int,
    sampling_rate_hz: int,
    duration_s: float,
    on_progress: Callable[[int, int], None] | None,
) -> list[Truth]:
    recorder = heart.Recorder.of(sampling_rate_hz, duration_s)
    truths = []
    for index in range(num_records):
        plan = plan_record(seed, index, duration_s)
        signal = draw_signal(plan, recorder)
        signal.astype("<i2", copy=False).tofile(folder / f"{plan.truth.record_id}.dat")
        (folder / f"{plan.truth.record_id}.hea").write_text(header_text(plan.truth, signal, sampling_rate_hz))
        truths.append(plan.truth)
        if on_progress is not None:
            on_progress(index + 1, num_records)
    return truths


def header_text(truth: Truth, signal: NDArray[np.int16], sampling_rate_hz: int) -> str:
    """The WFDB header of `signal` (N, 12), with the comments of the PhysioNet/CinC challenges and a patient.

    wfdb.wrsamp would take longer than the simulation. A checksum is the sum of a lead's samples in 16 bits, which int16
    arithmetic wraps to by itself (https://physionet.org/physiotools/wag/header-5.htm).
    """
    checksums = signal.sum(axis=0, dtype=np.int16)
    rows = zip(signal[0].tolist(), checksums.tolist(), LEADS, strict=True)
    file = f"{truth.record_id}.dat 16 1000.0(0)/mV 16 0"
    return "\n".join([
        f"{truth.record_id} 12 {sampling_rate_hz} {len(signal)}",
        *(f"{file} {first} {checksum} 0 {lead}" for first, checksum, lead in rows),
        f"#Age: {truth.age}",
        f"#Sex: {truth.sex}",
        f"#Dx: {','.join(str(SNOMED[label]) for label in truth.labels)}",
        f"#Patient: {truth.patient_id}",
        "",
    ])  # fmt: skip


def _write_truth(path: Path, truths: Sequence[Truth]) -> None:
    """One row a record: the fields of `Truth`, numbers to a tenth, and `labels` separated by spaces."""
    rows = [asdict(truth) | {"labels": " ".join(truth.labels)} for truth in truths]
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows({key: round(v, 1) if isinstance(v, float) else v for key, v in row.items()} for row in rows)
