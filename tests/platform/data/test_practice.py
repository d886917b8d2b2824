"""The practice archive is readable by others, says the truth, and shows on the signal what it says in the header."""

import csv
import filecmp

import numpy as np
import pytest
import wfdb

from vizecg.platform.data import heart, patients, practice
from vizecg.platform.data.records import LEADS
from vizecg.platform.errors import UserError

NUM_RECORDS = 120
SEED = 7


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    out = tmp_path_factory.mktemp("practice") / "archive"
    progress = []
    summary = practice.write_practice_archive(out, NUM_RECORDS, SEED, on_progress=lambda *now: progress.append(now))
    assert progress[-1] == (NUM_RECORDS, NUM_RECORDS)
    assert summary.num_records == NUM_RECORDS
    return out


@pytest.fixture(scope="module")
def plans():
    """Enough to see every rare combination; deciding costs a fifth of drawing."""
    return [patients.plan_record(SEED, index) for index in range(2000)]


@pytest.fixture(scope="module")
def drawn():
    """Plans and their signals in mV (N, 12)."""
    recorder = heart.Recorder.of(500, 10.0)
    some = [patients.plan_record(SEED + 1, index) for index in range(240)]
    return [(plan, practice.draw_signal(plan, recorder) / 1000) for plan in some]


def read_truth(archive):
    with (archive / "truth.csv").open() as file:
        return {row["record_id"]: row for row in csv.DictReader(file)}


# What is written


def test_wfdb_reads_every_record_and_agrees(archive):
    names = (archive / "RECORDS").read_text().split()
    truth = read_truth(archive)
    assert len(names) == len(truth) == NUM_RECORDS
    for index, name in enumerate(names):
        record = wfdb.rdrecord(str(archive / name), physical=False)
        expected = practice.draw_signal(patients.plan_record(SEED, index), heart.Recorder.of(500, 10.0))
        assert record.sig_name == list(LEADS)
        assert (record.fs, record.sig_len, record.units) == (500, 5000, ["mV"] * 12)
        np.testing.assert_array_equal(record.d_signal, expected)
        assert record.init_value == expected[0].tolist()
        assert [c % 65536 for c in record.checksum] == record.calc_checksum()
        comments = dict(comment.split(": ") for comment in record.comments)
        row = truth[record.record_name]
        assert (comments["Age"], comments["Sex"], comments["Patient"]) == (row["age"], row["sex"], row["patient_id"])
        codes = {str(patients.SNOMED[label]) for label in row["labels"].split()}
        assert set(comments["Dx"].split(",")) == codes
    physical = wfdb.rdrecord(str(archive / name)).p_signal
    np.testing.assert_allclose(physical, expected / 1000, atol=1e-9)


def test_limb_leads_obey_einthoven_and_goldberger(drawn):
    for _, signal in drawn[:60]:
        i, ii, iii, avr, avl, avf = (1000 * signal[:, :6]).T
        laws_uv = [iii - (ii - i), avr + (i + ii) / 2, avl - (i - ii / 2), avf - (ii - i / 2), avr + avl + avf]
        assert np.abs(laws_uv).max() <= 1.5 + 1e-6


def test_same_seed_same_bytes_whatever_the_number_of_records(archive, tmp_path):
    practice.write_practice_archive(tmp_path / "fewer", 15, SEED)
    practice.write_practice_archive(tmp_path / "other", 15, SEED + 1)
    fewer = sorted((tmp_path / "fewer" / "records").iterdir())
    assert len(fewer) == 30
    for path in fewer:
        assert filecmp.cmp(path, archive / "records" / path.name, shallow=False)
    data, other = (sorted((tmp_path / name / "records").glob("*.dat")) for name in ("fewer", "other"))
    assert not {path.name for path in data} & {path.name for path in other}
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(data, other, strict=True))


def test_other_rates_and_lengths_are_written_as_asked(tmp_path):
    practice.write_practice_archive(tmp_path / "slow", 3, SEED, sampling_rate_hz=100, duration_s=30.0)
    record = wfdb.rdrecord(str(tmp_path / "slow" / "records" / f"practice-s{SEED}-00002"))
    assert record.p_signal.shape == (3000, 12)
    assert record.fs == 100


@pytest.mark.parametrize(
    "arguments", [{"num_records": 0}, {"seed": -1}, {"sampling_rate_hz": 20}, {"duration_s": 1.0}, {"duration_s": 1e4}]
)
def test_bad_arguments_are_the_users(tmp_path, arguments):
    with pytest.raises(UserError):
        practice.write_practice_archive(tmp_path / "out", **({"num_records": 1, "seed": 1} | arguments))
    assert list(tmp_path.iterdir()) == []


def test_never_writes_into_a_folder_that_holds_something(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="not an empty folder"):
        practice.write_practice_archive(tmp_path, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_archive_leaves_nothing(tmp_path):
    def stop(written: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        practice.write_practice_archive(tmp_path / "out", 5, 1, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_and_a_new_parent_are_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    practice.write_practice_archive(tmp_path / "empty", 1, 1)
    practice.write_practice_archive(tmp_path / "new" / "one", 1, 1)
    assert (tmp_path / "empty" / "truth.csv").read_bytes() == (tmp_path / "new" / "one" / "truth.csv").read_bytes()


# What is decided


def test_labels_follow_from_the_intervals(plans):
    for truth in (plan.truth for plan in plans):
        sinus = truth.rhythm == "sinus"
        blocked = {"rbbb": "RBBB", "lbbb": "LBBB"}.get(truth.conduction) if truth.qrs_ms >= 120 else None
        assert ("AF" in truth.labels) == (not sinus) == (truth.pr_ms is None)
        assert ("SB" in truth.labels) == (sinus and truth.heart_rate_bpm < 60)
        assert ("ST" in truth.labels) == (sinus and truth.heart_rate_bpm > 100)
        assert ("1dAVb" in truth.labels) == (sinus and truth.pr_ms > 200)
        assert {"RBBB", "LBBB"} & set(truth.labels) == ({blocked} if blocked else set())
        if truth.labels == ("NORM",):
            assert 60 <= truth.heart_rate_bpm <= 100
            assert truth.pr_ms <= 200
            assert truth.qrs_ms < 120
            assert truth.conduction == "normal"


def test_impossible_combinations_never_occur(plans):
    impossible = [{"AF", "1dAVb"}, {"AF", "SB"}, {"AF", "ST"}, {"SB", "ST"}, {"LBBB", "RBBB"}]
    for labels in (set(plan.truth.labels) for plan in plans):
        assert labels
        assert not any(pair <= labels for pair in impossible)
        assert "NORM" not in labels or len(labels) == 1
    assert any({"SB", "1dAVb", "RBBB"} <= set(plan.truth.labels) for plan in plans)


def test_every_label_is_common_enough(plans):
    share = {key: np.mean([key in plan.truth.labels for plan in plans]) for key in patients.LABELS}
    for key in ("SB", "ST", "AF", "1dAVb", "NORM"):
        assert 0.18 < share[key] < 0.28, (key, share[key])
    for key in ("LBBB", "RBBB"):
        assert 0.11 < share[key] < 0.19, (key, share[key])
    incomplete = np.mean([bool({"ILBBB", "IRBBB"} & set(plan.truth.labels)) for plan in plans])
    assert 0.01 < incomplete < 0.08


def test_intervals_cross_the_thresholds_without_gap_or_heap(plans):
    """As many records right at a threshold as the distribution around it foretells: neither two clusters nor a pile."""
    sinus = [plan.truth for plan in plans if plan.truth.rhythm == "sinus"]
    rate = np.array([truth.heart_rate_bpm for truth in sinus])
    pr = np.array([truth.pr_ms for truth in sinus])
    qrs = np.array([plan.truth.qrs_ms for plan in plans if plan.truth.conduction != "normal"])
    for values, threshold, near, wide in ((rate, 60, 3, 15), (rate, 100, 5, 20), (pr, 200, 10, 40), (qrs, 120, 5, 10)):
        close = np.count_nonzero(np.abs(values - threshold) < near) / near
        around = np.count_nonzero(np.abs(values - threshold) < wide) / wide
        assert 0.4 < close / around < 1.6, (threshold, close, around)


def test_pr_and_qt_shorten_with_rate(plans):
    same = plans[0].patient
    assert patients.realised_qt_ms(same, 90, 120) < patients.realised_qt_ms(same, 90, 60) - 60
    pr = [patients.realised_pr_ms(180, patients.realised_qt_ms(same, 90, bpm), bpm) for bpm in (50, 80, 110, 140)]
    assert pr == sorted(pr, reverse=True)


def test_patients_come_back_and_remain_themselves(plans):
    visits = {}
    for plan in plans:
        visits.setdefault(plan.truth.patient_id, []).append(plan)
    assert {1, 2, 3} == {len(own) for own in visits.values()}
    for own in visits.values():
        assert len({(plan.truth.sex, plan.truth.conduction) for plan in own}) == 1
        assert 0 <= own[-1].truth.age - own[0].truth.age <= 2


# What is seen


def r_times_s(signal):
    """QRS complexes by the energy of the slopes in 120 ms (after Pan and Tompkins 1985), plan unseen."""
    steepness = (np.diff(signal, axis=0) ** 2).sum(axis=1)
    energy = np.convolve(steepness, np.ones(60) / 60, mode="same")
    threshold, found = 0.3 * np.percentile(energy, 98), []
    for at in np.flatnonzero(energy > threshold):
        if found and at - found[-1] < 125:
            found[-1] = at if energy[at] > energy[found[-1]] else found[-1]
        else:
            found.append(at)
    return np.array(found) / 500


def mean_beat(plan, signal, before_ms=400, after_ms=300):
    """Median of the beats (W, 12), mV above the PR segment; QRS begins at sample `before_ms` / 2."""
    begins = np.round((plan.onset_s - before_ms / 1000) * 500).astype(int)
    width, onset = (before_ms + after_ms) // 2, before_ms // 2
    beats = np.array([signal[b : b + width] for b in begins if b >= 0 and b + width <= len(signal)])
    return np.median(beats - beats[:, onset - 10 : onset - 3].mean(axis=1, keepdims=True), axis=0)


def qrs_width_ms(beat, onset):
    """From the steepest point outwards until 30 ms are without any steep slope."""
    slope = np.convolve(np.sqrt((np.diff(beat, axis=0) ** 2).sum(axis=1)), np.ones(5) / 5, mode="same")
    steep = slope > 0.04
    begin = end = onset + int(slope[onset : onset + 45].argmax())
    while steep[max(begin - 15, 0) : begin].any():
        begin -= 1
    while steep[end + 1 : end + 16].any():
        end += 1
    return 2 * (end - begin)


def test_the_rate_counted_on_the_signal_is_the_stated_one(drawn):
    errors = []
    for plan, signal in drawn:
        intervals = np.diff(r_times_s(signal))
        errors.append(60 / intervals.mean() - plan.truth.heart_rate_bpm)
    assert np.mean(np.abs(errors) < 2) > 0.95


def test_fibrillation_is_irregular_and_sinus_rhythm_is_not(drawn):
    spread = {"sinus": [], "fibrillation": []}
    for plan, signal in drawn:
        intervals = np.diff(r_times_s(signal))
        spread[plan.truth.rhythm].append(intervals.std() / intervals.mean())
    assert np.median(spread["fibrillation"]) > 0.14
    assert np.median(spread["sinus"]) < 0.05
    assert np.percentile(spread["fibrillation"], 10) > np.percentile(spread["sinus"], 90)


def test_width_of_qrs_on_the_signal_is_the_stated_one(drawn):
    pairs = [
        (qrs_width_ms(mean_beat(plan, signal, 60, 300), 30), plan.truth.qrs_ms)
        for plan, signal in drawn
        if plan.truth.rhythm == "sinus"  # f-waves are as steep as the end of QRS
    ]
    measured, stated = np.array(pairs).T
    assert np.median(np.abs(measured - stated)) < 8
    assert np.mean(np.abs(measured - stated) < 20) > 0.9  # a tense patient's muscles hide the rest
    assert np.median(measured[stated >= 120]) > np.median(measured[stated < 110]) + 30


def test_the_blocks_have_their_shapes_in_v1_and_v6(drawn):
    shapes = {"normal": [], "rbbb": [], "lbbb": []}
    for plan, signal in drawn:
        beat = mean_beat(plan, signal, 60, 400)
        end = 30 + int(plan.truth.qrs_ms / 2)
        late = slice(30 + (end - 30) * 6 // 10, end)
        v1, v6 = beat[:, 6], beat[:, 11]
        shapes[plan.truth.conduction].append(
            [v1[late].mean(), v6[late].mean(), v6[30 : 30 + 14].min(), v1[end + 40 : end + 90].mean()]
        )
    late_v1, late_v6, early_v6, t_v1 = np.median(shapes["rbbb"], axis=0)
    assert late_v1 > 0.15 and late_v6 < -0.1 and t_v1 < 0  # R' in V1, wide S in V6, T against it
    late_v1, late_v6, early_v6, t_v1 = np.median(shapes["lbbb"], axis=0)
    assert late_v1 < -0.4 and late_v6 > 0.4 and t_v1 > 0.1 and early_v6 > -0.03  # S, R, T against it, no septal q
    assert np.median(shapes["normal"], axis=0)[2] < -0.05  # septal q


def test_p_waves_stand_where_stated_and_are_missing_in_fibrillation(drawn):
    heights, lags, stated = {"sinus": [], "fibrillation": []}, [], []
    for plan, signal in drawn:
        if plan.truth.heart_rate_bpm > 75:
            continue  # faster, and the T before it reaches into the window
        window = mean_beat(plan, signal, 330, 40)[:150, 1]  # lead II, to 30 ms before QRS
        heights[plan.truth.rhythm].append(window.max() - np.median(window))
        if plan.truth.rhythm == "sinus" and plan.truth.pr_ms < 300:
            lags.append(330 - 2 * window.argmax())
            stated.append(plan.truth.pr_ms)
    assert np.median(heights["sinus"]) > 2 * np.median(heights["fibrillation"])
    assert np.corrcoef(lags, stated)[0, 1] > 0.9
    assert np.abs(np.median(np.array(stated) - lags) - 50) < 12  # P peaks about half its width after PR begins


def test_normal_records_look_normal(drawn):
    """What a textbook asks: R grows from V1 to V4, S shrinks from V2 to V5, T goes with QRS, aVR is upside down."""
    normal = [mean_beat(plan, signal, 300, 400) for plan, signal in drawn if plan.truth.labels == ("NORM",)]
    assert len(normal) > 20
    qrs, t = np.median([b[150:200] for b in normal], axis=0), np.median([b[220:350] for b in normal], axis=0)
    r, s = dict(zip(LEADS, qrs.max(0), strict=True)), dict(zip(LEADS, -qrs.min(0), strict=True))
    assert r["V1"] < r["V2"] < r["V3"] < r["V4"]
    assert min(s["V1"], s["V2"]) > s["V3"] > s["V4"] > s["V5"]
    assert s["aVR"] > 3 * r["aVR"]
    heights = dict(zip(LEADS, t.max(0) + t.min(0), strict=True))
    assert all(heights[lead] > 0.02 for lead in ("I", "II", "V2", "V3", "V4", "V5", "V6"))
    assert heights["aVR"] < 0
    assert np.abs(np.concatenate([s for _, s in drawn])).max() < 6  # mV: far from the limits of 16 bits


def test_noise_free_leads_come_from_one_dipole():
    vectors = heart.lead_matrix() @ heart.electrode_vectors()
    i, ii = vectors[0], vectors[1]
    np.testing.assert_allclose(i, [0.632, -0.235, 0.059])
    np.testing.assert_allclose(ii, [0.235, 1.066, -0.132])
    np.testing.assert_allclose(vectors[6], [-0.515, 0.157, -0.917])
