"""A record is in order, complete and in millivolts, or it says why not."""

from itertools import combinations

import numpy as np
import pytest

from vizecg.platform.data.records import LEADS, QUALITY_FLAGS, fit_samples, make_record, resample
from vizecg.platform.errors import RecordError


def record_of(signal_mv, lead_names=LEADS, sampling_rate_hz=500.0, **options):
    return make_record(
        signal_mv,
        lead_names,
        sampling_rate_hz=sampling_rate_hz,
        file="folder/a.hea",
        record_id="test/a",
        source="test",
        **options,
    )


@pytest.fixture
def ecg(make_ecg):
    return make_ecg(seed=1)


def test_leads_come_in_any_order_and_case(ecg):
    order = np.random.default_rng(0).permutation(12)
    names = [LEADS[lead].upper() for lead in order]
    record = record_of(np.vstack([ecg[order], ecg[:1]]), [*names, "vx"])
    np.testing.assert_array_equal(record.signal_mv, ecg)
    assert record.signal_mv.dtype == np.float32
    assert record.lead_present.all()
    assert record.quality == ()


@pytest.mark.parametrize("limb", list(combinations(range(6), 2)))
def test_any_two_limb_leads_give_the_other_four(ecg, limb):
    kept = [*limb, *range(6, 12)]
    record = record_of(ecg[kept], [LEADS[lead] for lead in kept])
    np.testing.assert_allclose(record.signal_mv, ecg, atol=1e-5)
    assert record.lead_present.all()
    assert record.quality == ("derived_lead",)


@pytest.mark.parametrize("missing", ["V3", "V6"])
def test_eleven_leads_without_a_chest_lead_are_rejected(ecg, missing):
    kept = [lead for lead in range(12) if LEADS[lead] != missing]
    with pytest.raises(RecordError, match=rf"folder/a.hea lacks lead {missing}") as error:
        record_of(ecg[kept], [LEADS[lead] for lead in kept])
    assert error.value.reason == "missing_lead"


def test_one_limb_lead_is_not_enough(ecg):
    with pytest.raises(RecordError, match="lacks lead II, III, aVR, aVL, aVF"):
        record_of(ecg[[0, *range(6, 12)]], [LEADS[lead] for lead in (0, *range(6, 12))])


def test_missing_leads_are_marked_where_they_are_allowed(ecg):
    record = record_of(ecg[:2], ["I", "II"], allow_missing_leads=True)
    assert record.lead_present.tolist() == [True] * 6 + [False] * 6
    assert not record.signal_mv[6:].any()
    assert record.quality == ("derived_lead", "missing_lead")


def test_a_sample_without_a_value_names_its_lead(ecg):
    ecg[7, 100] = np.nan
    with pytest.raises(RecordError, match=r"folder/a.hea .* lead V2") as error:
        record_of(ecg)
    assert error.value.reason == "nan_samples"


def test_no_samples_and_a_lead_named_twice_are_rejected(ecg):
    with pytest.raises(RecordError) as empty:
        record_of(ecg[:, :0])
    with pytest.raises(RecordError, match="names lead V1 twice") as twice:
        record_of(ecg, [*LEADS[:7], "v1", *LEADS[8:]])
    assert (empty.value.reason, twice.value.reason) == ("empty_signal", "bad_header")


def test_a_lead_that_never_moves_is_flagged(ecg):
    ecg[9] = 0.0
    assert record_of(ecg).quality == ("flat_lead",)


def test_resting_at_the_highest_value_is_clipping(ecg):
    ecg[6:] = np.minimum(ecg[6:], 0.2 * ecg[6:].max(axis=1, keepdims=True))
    assert record_of(ecg).quality == ("clipped",)


def test_a_held_end_is_no_clipping(ecg):
    ecg[6, -50:] = ecg[6].max() + 1
    assert record_of(ecg).quality == ()


def test_swapped_limb_leads_break_einthoven(ecg):
    ecg[[1, 2]] = ecg[[2, 1]]
    assert record_of(ecg).quality == ("limb_leads_inconsistent",)


def test_an_offset_of_a_limb_lead_is_no_swap(ecg):
    ecg[1] += 0.5
    assert record_of(ecg).quality == ()


def test_every_flag_is_a_listed_word(ecg):
    ecg[9] = 0.0
    flagged = record_of(ecg[:11], LEADS[:11], allow_missing_leads=True)
    assert set(flagged.quality) <= set(QUALITY_FLAGS)


@pytest.mark.parametrize("rate_hz", [1000.0, 500.0, 400.0, 257.0, 100.0, 50.0])
def test_resampling_keeps_a_slow_wave_in_place(rate_hz):
    time_s = np.arange(round(10 * rate_hz)) / rate_hz
    wave = np.tile(2 + np.sin(2 * np.pi * 5 * time_s), (12, 1)).astype(np.float32)
    resampled = resample(wave, rate_hz, 100.0)
    expected = 2 + np.sin(2 * np.pi * 5 * np.arange(resampled.shape[1]) / 100)
    np.testing.assert_allclose(resampled[0, 50:950], expected[50:950], atol=0.01)
    # An offset from zero must not ring at the ends.
    assert np.abs(resampled[0] - expected).max() < 0.35


def test_resampling_removes_what_the_new_rate_cannot_hold():
    hum = np.tile(np.sin(2 * np.pi * 180 * np.arange(5000) / 500), (12, 1)).astype(np.float32)
    assert np.abs(resample(hum, 500, 100)[:, 50:-50]).max() < 0.01


@pytest.mark.parametrize(("duration_s", "valid"), [(4.0, 400), (10.0, 1000), (38.4, 1000)])
def test_fitting_crops_or_pads_to_one_length(make_ecg, duration_s, valid):
    record = record_of(make_ecg(seed=2, duration_s=duration_s))
    signal, valid_samples = fit_samples(record, 100.0, 1000)
    assert signal.shape == (12, 1000)
    assert valid_samples == valid
    assert not signal[:, valid:].any()
