"""Who comes to be recorded, and what the record will show.

    B beats

Patients have habits (conduction, PR, QTc, heart position) and come back; every record has its own rhythm and rate.
Nothing is drawn from a label: labels are read off the intervals that a record turned out to have, and intervals are
drawn across the thresholds, not on either side of them. All of it is a pure function of (seed, record number).
"""

import math
from dataclasses import dataclass

import numpy as np

from . import heart, rhythm
from .heart import Array, Conduction

SNOMED = {
    "NORM": 426783006,
    "SB": 426177001,
    "ST": 427084000,
    "AF": 164889003,
    "1dAVb": 270492004,
    "LBBB": 164909002,
    "RBBB": 59118001,
    "ILBBB": 251120003,
    "IRBBB": 713426002,
}
"""What the archive annotates. Incomplete blocks (QRS below 120 ms) are few; without them QRS widths had a gap."""
LABELS = ("NORM", "SB", "ST", "AF", "1dAVb", "LBBB", "RBBB")

_VISITS = (3, 2, 2, 1, 1, 1)
"""How many of every ten records belong to each of their six patients."""
_SINUS_RATES_BPM = (40.0, 60.0, 100.0, 145.0)


@dataclass(frozen=True)
class Patient:
    """What a patient brings to every recording."""

    patient_id: str
    age: int
    sex: str
    conduction: Conduction
    qrs_ms: float
    pr_ms: float
    """At rest; shorter in a faster record."""
    qtc_ms: float
    p_ms: float
    af_probability: float
    rate_weights: tuple[float, float, float]
    """Of slow, middle and fast sinus rhythm, between `_SINUS_RATES_BPM`."""
    heart_position_rad: tuple[float, float]
    """Turned towards the feet, and to the back."""
    voltage: float
    t_mv: Array
    """(3,)"""
    st_mv: Array
    """(3,)"""
    lead_vectors: Array
    """(9, 3): where the electrodes stick."""
    mains_hz: int


@dataclass(frozen=True)
class Truth:
    """What the record shows, as `truth.csv` states it."""

    record_id: str
    patient_id: str
    age: int
    sex: str
    rhythm: rhythm.Rhythm
    conduction: Conduction
    heart_rate_bpm: float
    """From the mean of the RR intervals within the record."""
    pr_ms: float | None
    """None without P waves."""
    qrs_ms: float
    qt_ms: float
    axis_deg: float

    @property
    def labels(self) -> tuple[str, ...]:
        return labels_of(self)


@dataclass(frozen=True)
class Plan:
    """One record, decided but not yet drawn."""

    truth: Truth
    patient: Patient
    breathing: rhythm.Breathing
    onset_s: Array
    """QRS onsets (B,), from one beat before the record to one after."""
    seed: tuple[int, ...]
    """Of the noise and the fibrillatory waves."""


def labels_of(truth: Truth) -> tuple[str, ...]:
    """The keys of `SNOMED` that hold for these intervals, NORM only where nothing else does.

    Bradycardia below 60 and tachycardia above 100 beats a minute, both of the sinus node only; first-degree block with
    PR above 200 ms; bundle branch block from 120 ms, incomplete below (AHA/ACCF/HRS 2009, Surawicz).
    """
    found = []
    if truth.rhythm == "fibrillation":
        found.append("AF")
    elif truth.heart_rate_bpm < 60:
        found.append("SB")
    elif truth.heart_rate_bpm > 100:
        found.append("ST")
    if truth.pr_ms is not None and truth.pr_ms > 200:
        found.append("1dAVb")
    if truth.conduction != "normal":
        found.append(("" if truth.qrs_ms >= 120 else "I") + truth.conduction.upper())
    return tuple(found) or ("NORM",)


def plan_record(seed: int, index: int, duration_s: float = 10.0) -> Plan:
    """Record `index` of the archive of `seed`, without its samples."""
    number, visit = _patient_of(seed, index)
    patient = sample_patient(seed, number)
    rng = np.random.default_rng((seed, 2, index))
    age, breathing = patient.age + visit, rhythm.sample_breathing(rng)
    fibrillates = rng.random() < patient.af_probability
    if fibrillates:
        onset_s = rhythm.fibrillation_onsets_s(rng, rng.triangular(50, 85, 150), duration_s)
    else:
        aimed_bpm = _sample_sinus_rate_bpm(rng, patient)
        variability = rhythm.sample_variability(rng, age, aimed_bpm)
        onset_s = rhythm.sinus_onsets_s(rng, aimed_bpm, variability, breathing, duration_s)
    rate_bpm, qrs_ms = realised_rate_bpm(onset_s, duration_s), patient.qrs_ms + rng.normal(0, 1.5)
    qt_ms = realised_qt_ms(patient, qrs_ms, rate_bpm)
    pr_ms = None if fibrillates else realised_pr_ms(patient.pr_ms + rng.normal(0, 4), qt_ms, rate_bpm)
    qrs = heart.qrs_waves(patient.conduction, qrs_ms).moved(0, heart.rotation(*patient.heart_position_rad))
    truth = Truth(
        record_id=f"practice-s{seed}-{index:05d}",
        patient_id=patient.patient_id,
        age=age,
        sex=patient.sex,
        rhythm="fibrillation" if fibrillates else "sinus",
        conduction=patient.conduction,
        heart_rate_bpm=rate_bpm,
        pr_ms=pr_ms,
        qrs_ms=qrs_ms,
        qt_ms=qt_ms,
        axis_deg=heart.axis_deg(qrs, patient.lead_vectors),
    )
    return Plan(truth, patient, breathing, onset_s, (seed, 3, index))


def _sample_sinus_rate_bpm(rng: np.random.Generator, patient: Patient) -> float:
    slow, middle, _ = patient.rate_weights
    place = rng.random()
    band = 0 if place < slow else 1 if place < slow + middle else 2
    return float(rng.uniform(_SINUS_RATES_BPM[band], _SINUS_RATES_BPM[band + 1]))


def realised_rate_bpm(onset_s: Array, duration_s: float) -> float:
    """60 over the mean RR interval of the beats that begin within the record."""
    inside = onset_s[(onset_s >= 0) & (onset_s < duration_s)]
    return float(60 * (len(inside) - 1) / (inside[-1] - inside[0]))


def realised_qt_ms(patient: Patient, qrs_ms: float, rate_bpm: float) -> float:
    """Hodges 1983: 1.75 ms shorter per beat a minute; a wide QRS lengthens QT by most of its excess."""
    return patient.qtc_ms - 1.75 * (rate_bpm - 60) + 0.7 * max(qrs_ms - 95, 0)


def realised_pr_ms(resting_ms: float, qt_ms: float, rate_bpm: float) -> float:
    """PR shortens with rate, and comes near but not beyond the point where P would begin 40 ms before T ends."""
    room_ms = max(60000 / rate_bpm - qt_ms - 60, 60)
    return 100 + room_ms * (1 - math.exp(-(resting_ms - 100) / room_ms))


def _patient_of(seed: int, index: int) -> tuple[int, int]:
    """Number of the patient, and of the visit, that record `index` belongs to."""
    block, place = divmod(index, 10)
    order = np.random.default_rng((seed, 0, block)).permutation(np.repeat(np.arange(6), _VISITS))
    return block * 6 + int(order[place]), int(np.count_nonzero(order[:place] == order[place]))


def sample_patient(seed: int, number: int) -> Patient:
    """Patient `number` of the archive of `seed`; half of them have a diseased conduction system."""
    rng = np.random.default_rng((seed, 1, number))
    diseased, female = rng.random() < 0.5, rng.random() < 0.5
    age = int(min(max(rng.normal(68 if diseased else 52, 14), 18), 94))
    conduction = _sample_conduction(rng, diseased)
    lean = 0.1 - 0.004 * (age - 45) if conduction == "normal" else -0.1
    t_mv, st_mv = _sample_repolarisation(rng, conduction)
    return Patient(
        patient_id=f"P{number:05d}",
        age=age,
        sex="Female" if female else "Male",
        conduction=conduction,
        qrs_ms=rng.normal(88 if female else 93, 6) if conduction == "normal" else 110 + 62 * rng.beta(1.6, 2.0),
        pr_ms=205 + rng.gamma(2.5, 34) if diseased and rng.random() < 0.75 else max(rng.normal(160, 17), 120),
        qtc_ms=rng.normal(412 if female else 402, 14),
        p_ms=rng.normal(104, 8),
        af_probability=0.9 if rng.random() < (0.34 if diseased else 0.12) else 0.02,
        rate_weights=(0.36, 0.28, 0.36) if diseased else (0.22, 0.56, 0.22),
        heart_position_rad=(rng.normal(lean, 0.2), rng.normal(0, 0.18)),
        voltage=min(max(math.exp(rng.normal(-0.1 if female else 0.0, 0.2)), 0.55), 1.6),
        t_mv=t_mv,
        st_mv=st_mv,
        lead_vectors=heart.electrode_vectors(rng.normal(0, 0.07, size=(6, 3))),
        mains_hz=50 if rng.random() < 0.5 else 60,
    )


def _sample_conduction(rng: np.random.Generator, diseased: bool) -> Conduction:
    place = rng.random()
    return "normal" if not diseased or place > 0.66 else "rbbb" if place < 0.33 else "lbbb"


def _sample_repolarisation(rng: np.random.Generator, conduction: Conduction) -> tuple[Array, Array]:
    """T and ST dipoles (3,), mV: with the QRS in normal conduction, against its last part in bundle branch block."""
    toward = {"normal": (0.38, 0.17, -0.24), "rbbb": (0.36, 0.15, 0.14), "lbbb": (-0.28, 0.02, -0.46)}[conduction]
    t_mv = np.array(toward) * np.exp(rng.normal(0, 0.25)) + rng.normal(0, 0.03, size=3)
    return t_mv, t_mv * rng.uniform(*(0.15, 0.3) if conduction == "lbbb" else (-0.02, 0.18))
