"""Every archive gives the same kind of record, the fast reader agrees with wfdb, and bad files say what is wrong."""

import pickle
import random
from collections import Counter

import numpy as np
import pytest
import wfdb

from vizecg.platform.data.archives import PtbXlArchive, WfdbFolderArchive, open_archive
from vizecg.platform.data.archives.wfdb_files import read_header, read_recording
from vizecg.platform.data.practice import write_practice_archive
from vizecg.platform.data.records import LEADS
from vizecg.platform.errors import RecordError, UserError

CHALLENGE = "#Age: 74\n#Sex: Male\n#Dx: 59118001\n#Rx: Unknown\n#Hx: Unknown\n"
COMMENTS = "# Age: 63\n#Sex: Female\n#Dx: 426177001, 59118001\n#Patient: P00012\n"


@pytest.fixture
def folder(tmp_path, write_wfdb, make_ecg):
    """A WFDB folder with one good record, E00001."""
    write_wfdb(tmp_path / "E00001", make_ecg(1), comments=COMMENTS)
    return tmp_path


def read_only(folder):
    archive = open_archive(folder)
    (entry,) = archive.entries()
    return archive.read(entry)


def rejection(folder) -> RecordError:
    with pytest.raises(RecordError) as error:
        read_only(folder)
    return error.value


def test_a_header_gives_patient_labels_age_and_sex(folder, make_ecg):
    record = read_only(folder)
    assert (record.record_id, record.source, record.patient_id) == ("cinc/E00001", "cinc", "cinc/P00012")
    assert record.codes == {("snomed", "426177001"), ("snomed", "59118001")}
    assert (record.age, record.sex, record.sampling_rate_hz, record.quality) == (63.0, "F", 500.0, ())
    np.testing.assert_allclose(record.signal_mv, make_ecg(1), atol=0.0006)


@pytest.mark.parametrize(("text", "age"), [("NaN", None), ("300", None), ("-1", None), ("Unknown", None), ("0", 0.0)])
def test_an_age_that_is_none_is_null(folder, text, age):
    header = folder / "E00001.hea"
    header.write_text(header.read_text().replace("Age: 63", f"Age: {text}"))
    assert read_only(folder).age == age


def test_mat_inside_the_record_name_is_read(folder):
    header = folder / "E00001.hea"
    header.write_text(header.read_text().replace("E00001 12", "E00001.mat 12", 1))
    assert read_only(folder).record_id == "cinc/E00001"


def test_a_truncated_signal_is_rejected(folder):
    signal = folder / "E00001.dat"
    signal.write_bytes(signal.read_bytes()[:-1000])
    error = rejection(folder)
    assert error.reason == "truncated_signal"
    assert "E00001.dat holds 4958 of the 5000 samples that E00001.hea announces" in str(error)


def test_a_header_naming_a_missing_file_is_rejected(folder):
    (folder / "E00001.dat").unlink()
    error = rejection(folder)
    assert error.reason == "missing_file"
    assert "E00001.hea names E00001.dat, which is not there" in str(error)


def test_a_header_may_not_name_files_elsewhere(folder):
    header = folder / "E00001.hea"
    header.write_text(header.read_text().replace("E00001.dat", "../E00001.dat"))
    assert rejection(folder).reason == "bad_header"


def test_eleven_leads_are_rejected(tmp_path, write_wfdb, make_ecg):
    write_wfdb(tmp_path / "a", make_ecg(1)[:11], lead_names=LEADS[:11])
    error = rejection(tmp_path)
    assert error.reason == "missing_lead"
    assert "a.hea lacks lead V6" in str(error)


def test_samples_without_a_value_are_rejected(tmp_path, write_wfdb, make_ecg):
    signal = make_ecg(1)
    signal[3, 40:50] = np.nan
    write_wfdb(tmp_path / "a", signal)
    error = rejection(tmp_path)
    assert error.reason == "nan_samples"
    assert "a.hea" in str(error)
    assert "aVR" in str(error)


@pytest.mark.parametrize(
    "text", ["", "not a header\n", "a 12 500 5000\na.dat 16 1000/mV 16 0 0 0 0 I\n", "a 0 500 5000\n", "a 1 0 10\nx\n"]
)
def test_an_unreadable_header_is_rejected(tmp_path, text):
    (tmp_path / "a.hea").write_text(text)
    error = rejection(tmp_path)
    assert error.reason == "bad_header"
    assert "a.hea" in str(error)


def test_an_empty_signal_is_rejected(tmp_path, write_wfdb):
    write_wfdb(tmp_path / "a", np.zeros((12, 0), np.float32))
    assert rejection(tmp_path).reason == "empty_signal"


def test_changed_samples_are_flagged(folder):
    signal = np.fromfile(folder / "E00001.dat", "<i2")
    signal[777] += 1
    signal.tofile(folder / "E00001.dat")
    assert read_only(folder).quality == ("checksum_mismatch",)


def test_wrong_folders_are_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, message in [
        ("nowhere", "no such folder: "),
        ("empty", "no archive in .*: no ptbxl_database.csv, no pages.csv and no .hea file found"),
        ("file", "is a file; give the folder"),
    ]:
        with pytest.raises(UserError, match=message):
            open_archive(tmp_path / name)


def test_ptbxl_one_folder_too_high_is_pointed_at(ptbxl_folder):
    with pytest.raises(UserError, match=f"give {ptbxl_folder}"):
        open_archive(ptbxl_folder.parent)


def test_records_of_one_name_in_two_folders_keep_two_ids(tmp_path, write_wfdb, make_ecg):
    for path in ["a/one", "b/one", "b/two"]:
        write_wfdb(tmp_path / path, make_ecg(1))
    ids = [entry.record_id for entry in open_archive(tmp_path).entries()]
    assert ids == ["cinc/a/one", "cinc/b/one", "cinc/two"]


def test_the_challenge_database_decides_what_silence_means(tmp_path, write_wfdb, make_ecg):
    names = ["A0001", "E00001", "HR00042", "JS10646", "JS10647", "mine"]
    for name in names:
        write_wfdb(tmp_path / name, make_ecg(1), comments=CHALLENGE)
    archive = open_archive(tmp_path)
    entries = {entry.record_id.removeprefix("cinc/"): entry for entry in archive.entries()}
    found = [entries[name].code_set for name in names]
    assert found == ["cpsc", "georgia", "ptb-xl", "chapman-shaoxing", "ningbo", "cinc"]
    assert "snomed:426177001" not in archive.code_sets["cpsc"]
    assert "snomed:426177001" in archive.code_sets["georgia"]
    assert archive.code_sets["cinc"] is None
    assert entries["HR00042"].same_recording_as == "ptbxl/00042"


def test_a_hospital_record_is_of_no_challenge_database(tmp_path, write_wfdb, make_ecg):
    # Digits other than the challenge's, or its names without its comments.
    for name in ["A12", "E0001", "E000011", "HR0042", "JS1", "S00001"]:
        write_wfdb(tmp_path / name, make_ecg(1), comments=CHALLENGE)
    for name in ["A0001", "E00001", "HR00042", "JS10647"]:
        write_wfdb(tmp_path / name, make_ecg(1), comments=COMMENTS)
    entries = open_archive(tmp_path).entries()
    assert len(entries) == 10
    assert {(entry.code_set, entry.same_recording_as) for entry in entries} == {("cinc", None)}


def test_every_real_challenge_record_is_known_as_one(real_data):
    found = Counter(entry.code_set for entry in open_archive(real_data / "cinc-mix").entries())
    assert found.pop("chapman-shaoxing") + found.pop("ningbo") == 58
    assert found == {"cpsc": 8, "georgia": 54, "ptb-xl": 30, "cpsc-extra": 25, "ptb": 1}


@pytest.fixture
def ptbxl_folder(tmp_path, write_wfdb, make_ecg):
    root = tmp_path / "above" / "ptbxl"
    for name, rate_hz in [("records100/00000/00001_lr", 100), ("records500/00000/00001_hr", 500)]:
        write_wfdb(root / name, make_ecg(1, rate_hz), rate_hz, tuple(lead.upper() for lead in LEADS))
    write_wfdb(root / "records100/00000/00002_lr", make_ecg(2, 100), 100)
    (root / "ptbxl_database.csv").write_text(
        "ecg_id,patient_id,age,sex,report,scp_codes,strat_fold,filename_lr,filename_hr\n"
        "2,77.0,300.0,1,,\"{'SR': 0.0, 'CLBBB': 100.0}\",9,records100/00000/00002_lr,records500/00000/00002_hr\n"
        "1,77.0,56.0,0,sinus,{'NORM': 80.0},3,records100/00000/00001_lr,records500/00000/00001_hr\n"
        "3,,,,,what,3,records100/00000/00001_lr,\n"
        "4,,,,,{},3,records100/00000/00004_lr,\n"
    )
    return root


def test_ptbxl_takes_the_highest_rate_that_is_there(ptbxl_folder):
    archive = open_archive(ptbxl_folder)
    entries = archive.entries()
    assert [entry.record_id for entry in entries] == ["ptbxl/00001", "ptbxl/00002", "ptbxl/00003", "ptbxl/00004"]
    first, second = (archive.read(entry) for entry in entries[:2])
    assert (first.sampling_rate_hz, second.sampling_rate_hz) == (500.0, 100.0)
    assert (first.patient_id, entries[0].fold, first.report) == ("ptbxl/77", 3, "sinus")
    assert (first.age, first.sex, second.age, second.sex) == (56.0, "M", None, "F")
    assert second.codes == {("scp", "SR"), ("scp", "CLBBB")}
    assert len(archive.code_sets["ptbxl"]) == 71
    low = PtbXlArchive(root=ptbxl_folder, prefer="filename_lr")
    assert low.read(low.entries()[0]).sampling_rate_hz == 100.0


@pytest.mark.parametrize(("row", "reason"), [(2, "bad_metadata"), (3, "missing_file")])
def test_a_bad_ptbxl_row_rejects_its_record_alone(ptbxl_folder, row, reason):
    archive = open_archive(ptbxl_folder)
    with pytest.raises(RecordError) as error:
        archive.read(archive.entries()[row])
    assert error.value.reason == reason


def test_a_table_of_another_kind_is_one_sentence(ptbxl_folder):
    (ptbxl_folder / "ptbxl_database.csv").write_text("ecg_id,age\n1,2\n")
    with pytest.raises(UserError, match="lacks the column 'filename_hr'"):
        open_archive(ptbxl_folder).entries()


def test_archives_travel_to_tasks(ptbxl_folder, folder):
    for archive in (open_archive(ptbxl_folder), open_archive(folder)):
        copy = pickle.loads(pickle.dumps(archive))
        assert copy == archive
        assert copy.entries() == archive.entries()


def test_the_fingerprint_follows_labels_and_sizes(folder):
    before = open_archive(folder).fingerprint()
    assert open_archive(folder).fingerprint() == before
    header = folder / "E00001.hea"
    header.write_text(header.read_text().replace("426177001", "427084000"))
    assert open_archive(folder).fingerprint() != before


def assert_equal_to_wfdb(header_path):
    ours = read_recording(read_header(header_path))
    theirs = wfdb.rdrecord(str(header_path.with_suffix("")))
    np.testing.assert_allclose(ours.signal_mv, theirs.p_signal.T, atol=1e-6, rtol=1e-6)
    assert ours.lead_names == tuple(theirs.sig_name)
    assert ours.sampling_rate_hz == theirs.fs


@pytest.mark.parametrize("fmt", ["16", "212", "24"])
def test_every_format_reads_as_wfdb_reads_it(tmp_path, make_ecg, fmt):
    signal = make_ecg(3)[:, :1001].T.astype(float)
    signal[5, 2] = np.nan
    stored = {"fmt": [fmt] * 12, "adc_gain": [400.0] * 12, "baseline": [11] * 12}
    wfdb.wrsamp("a", 500, ["mV"] * 12, list(LEADS), p_signal=signal, write_dir=str(tmp_path), **stored)
    assert_equal_to_wfdb(tmp_path / "a.hea")


def test_gain_baseline_and_unit_are_obeyed(folder):
    header = folder / "E00001.hea"
    plain = read_only(folder).signal_mv
    header.write_text(header.read_text().replace("1000(0)/mV", "2000(-100)/mV"))
    assert_equal_to_wfdb(header)
    header.write_text(header.read_text().replace("2000(-100)/mV", "1(0)/uV"))
    np.testing.assert_allclose(read_only(folder).signal_mv, plain, atol=1e-6)


def test_the_practice_archive_reads_as_its_own(tmp_path):
    out = tmp_path / "practice"
    write_practice_archive(out, 6, seed=3)
    archive = open_archive(out)
    assert (archive.name, archive.default_label_space) == ("practice", "practice")
    for entry in archive.entries():
        record = archive.read(entry)
        assert record.patient_id.startswith("practice/")
        assert {f"{system}:{code}" for system, code in record.codes} <= archive.code_sets["practice"]
        assert record.quality == ()
        assert_equal_to_wfdb(out / f"{entry.locator}.hea")


@pytest.mark.parametrize("name", ["ptbxl-100hz", "ptbxl-500hz", "cinc-mix"])
def test_real_records_read_as_wfdb_reads_them(real_data, name):
    archive = open_archive(real_data / name)
    paths = [archive.root / f"{entry.locator}.hea" for entry in archive.entries()]
    readable = [path for path in paths if ".mat" not in path.read_text().split(maxsplit=1)[0]]
    assert len(paths) - len(readable) == (33 if name == "cinc-mix" else 0)
    for path in random.Random(0).sample(readable, 60):
        assert_equal_to_wfdb(path)


@pytest.mark.parametrize(
    ("name", "flags", "rates_hz"),
    [
        ("cinc-mix", {"flat_lead": 2}, {500.0: 175, 1000.0: 1}),
        ("ptbxl-500hz", {"clipped": 3}, {500.0: 250}),
        ("ptbxl-100hz", {"clipped": 83, "limb_leads_inconsistent": 1}, {100.0: 7499}),
    ],
)
def test_real_archives_are_accepted_whole(real_data, name, flags, rates_hz):
    archive = open_archive(real_data / name)
    found_flags, found_rates_hz = Counter(), Counter()
    for entry in archive.entries():
        record = archive.read(entry)
        found_flags.update(record.quality)
        found_rates_hz[record.sampling_rate_hz] += 1
    assert found_flags == flags
    assert found_rates_hz == rates_hz
    assert isinstance(archive, PtbXlArchive if name.startswith("ptbxl") else WfdbFolderArchive)
