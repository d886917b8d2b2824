"""Shards hold what the archive holds, whatever the scheduling; bad records are counted; nobody is in two splits."""

import csv
import filecmp
import shutil
from collections import Counter, defaultdict
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from vizecg.platform.data import shards
from vizecg.platform.data.archives import open_archive
from vizecg.platform.data.dataset_info import ShardConfig, load_dataset_info, read_row_index, shard_files
from vizecg.platform.data.labels import load_label_space
from vizecg.platform.data.practice import write_practice_archive
from vizecg.platform.data.read_page import PageSpec, prepare
from vizecg.platform.data.records import LEADS, fit_samples, make_record
from vizecg.platform.data.shard_tasks import shard_schema
from vizecg.platform.data.shards import write_shards
from vizecg.platform.data.splits import SPLITS, assign_splits, fingerprint, group_records, make_projection
from vizecg.platform.errors import UserError

RECORDS = 60
CONFIG = ShardConfig(rows_per_file=16, rows_per_row_group=8)


@pytest.fixture(scope="module")
def practice(tmp_path_factory):
    out = tmp_path_factory.mktemp("archive") / "practice"
    write_practice_archive(out, RECORDS, seed=5)
    return out


@pytest.fixture(scope="module")
def dataset(ray_cluster, practice, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "practice"
    seen = []
    info = write_shards(practice, out, CONFIG, on_progress=lambda *now: seen.append(now))
    assert ("reading", RECORDS, RECORDS) in seen
    assert seen[-1] == ("writing", RECORDS, RECORDS)
    assert info == load_dataset_info(out)
    return out


def rows_of(location) -> list[dict]:
    tables = [pq.read_table(file) for split in SPLITS for file in shard_files(location, split)]
    return [row for table in tables for row in table.drop_columns(["signal"]).to_pylist()]


def signals_of(location) -> np.ndarray:
    tables = [pq.read_table(file) for split in SPLITS for file in shard_files(location, split)]
    return np.concatenate([table["signal"].combine_chunks().to_numpy_ndarray() for table in tables])


def same_bytes(one, other) -> bool:
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file())
    return filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


def test_every_record_arrives_once_and_whole(dataset, practice):
    archive = open_archive(practice)
    rows, signals = rows_of(dataset), signals_of(dataset)
    records = {entry.record_id: archive.read(entry) for entry in archive.entries()}
    assert sorted(row["record_id"] for row in rows) == sorted(records)
    for row, signal in zip(rows, signals, strict=True):
        record = records[row["record_id"]]
        expected, valid = fit_samples(record, 100.0, 1000)
        assert np.abs(signal - 1000 * expected).max() <= 0.51
        assert (row["valid_samples"], row["lead_present"], row["signal_known"]) == (valid, [True] * 12, True)
        assert (row["age"], row["sex"], row["patient_id"]) == (record.age, record.sex, record.patient_id)
        assert row["codes"] == sorted(f"snomed:{code}" for _, code in record.codes)
        assert prepare(row["page"], PageSpec(width_px=512, height_px=384)).shape == (3, 384, 512)


def test_files_have_the_one_schema_and_small_row_groups(dataset):
    for split in SPLITS:
        for file in shard_files(dataset, split):
            footer = pq.ParquetFile(file)
            assert pq.read_schema(file).equals(shard_schema(1000))
            sizes = [footer.metadata.row_group(group).num_rows for group in range(footer.num_row_groups)]
            assert sum(sizes) <= 16
            assert set(sizes[:-1]) <= {8}


def test_facts_beside_the_shards_are_those_of_the_rows(dataset):
    info, rows = load_dataset_info(dataset), rows_of(dataset)
    assert info.counts == {split: sum(row["split"] == split for row in rows) for split in SPLITS}
    assert info.num_records == RECORDS
    assert all(info.counts.values())
    for split in SPLITS:
        codes = Counter(code for row in rows if row["split"] == split for code in row["codes"])
        assert info.code_counts[split] == codes
    assert (info.sources, info.default_label_space, info.num_samples) == (["practice"], "practice", 1000)
    assert all(row["code_set"] == info.code_sets["practice"] for row in rows)
    known = load_label_space("practice").targets(rows[0]["codes"], rows[0]["code_set"])[1]
    assert known.all()
    assert "patient" not in (dataset / "dataset.json").read_text()


def test_no_patient_is_in_two_splits(dataset):
    splits = defaultdict(set)
    for row in rows_of(dataset):
        splits[row["patient_id"]].add(row["split"])
    assert 1 < len(splits) < RECORDS
    assert all(len(found) == 1 for found in splits.values())


def test_the_row_index_covers_every_row(dataset):
    index = read_row_index(dataset, "train")
    assert sum(num_rows for _, _, num_rows in index) == load_dataset_info(dataset).counts["train"]
    file, row_group, num_rows = index[1]
    assert len(pq.ParquetFile(file).read_row_group(row_group)) == num_rows


def test_the_same_archive_and_settings_give_the_same_bytes(dataset, practice, tmp_path):
    # Elsewhere, and after a run that was killed half-way.
    moved = shutil.copytree(practice, tmp_path / "moved")
    (tmp_path / "again/train").mkdir(parents=True)
    (tmp_path / "again/train/part-99999.parquet").write_text("left behind")
    (tmp_path / "again/.unfinished").write_text('{"package": "vizecg"}')
    write_shards(moved, f"file://{tmp_path}/again", CONFIG)
    assert same_bytes(dataset, tmp_path / "again")


def test_a_finished_dataset_is_returned_at_once(dataset, practice, monkeypatch):
    monkeypatch.setattr(shards, "_scan", None)
    assert write_shards(practice, dataset, CONFIG) == load_dataset_info(dataset)


def test_other_settings_or_another_archive_do_not_overwrite(dataset, practice, tmp_path):
    with pytest.raises(UserError, match=r"holds a finished dataset \(seed: 0 -> 1\)"):
        write_shards(practice, dataset, CONFIG.model_copy(update={"seed": 1}))
    other = shutil.copytree(practice, tmp_path / "other")
    next(other.rglob("*.hea")).unlink()
    with pytest.raises(UserError, match="the archive is another one or has changed"):
        write_shards(other, dataset, CONFIG)


def test_a_folder_of_other_things_is_left_alone(practice, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"is not empty and no dataset: it holds thesis.tex"):
        write_shards(practice, tmp_path, CONFIG)


@pytest.mark.parametrize("marker", [None, '{"package": "another"}', "no JSON"])
def test_a_train_folder_of_somebody_else_is_left_alone(practice, tmp_path, marker):
    photo = tmp_path / "train/cat.jpg"
    photo.parent.mkdir()
    photo.write_text("a cat")
    if marker:
        (tmp_path / ".unfinished").write_text(marker)
    with pytest.raises(UserError, match=r"is not empty and no dataset: it holds (train|.unfinished); choose another"):
        write_shards(practice, tmp_path, CONFIG)
    assert photo.read_text() == "a cat"


def test_an_interrupted_dataset_is_marked_and_written_anew(ray_cluster, practice, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards, "save_dataset_info", raise_interrupt)
        write_shards(practice, out, CONFIG)
    assert {path.name for path in out.iterdir()} == {".unfinished", *SPLITS}
    (out / "train/part-99999.parquet").write_text("left behind")
    assert write_shards(practice, out, CONFIG).num_records == RECORDS
    assert {path.name for path in out.iterdir()} == {"dataset.json", *SPLITS}
    assert not (out / "train/part-99999.parquet").exists()


def raise_interrupt(*_) -> None:
    raise KeyboardInterrupt


def test_unfinished_and_damaged_datasets_are_one_sentence(dataset, tmp_path):
    with pytest.raises(UserError, match="no finished dataset"):
        load_dataset_info(tmp_path)
    damaged = shutil.copytree(dataset, tmp_path / "damaged")
    (damaged / "train/part-00000.parquet").unlink()
    with pytest.raises(UserError, match=r"train records and dataset.json says"):
        read_row_index(damaged, "train")
    (damaged / "dataset.json").write_text('{"schema_version": 0}')
    with pytest.raises(UserError, match="is not of this version"):
        load_dataset_info(damaged)
    with pytest.raises(UserError, match="no split 'training'"):
        shard_files(dataset, "training")


@pytest.mark.parametrize(
    "values",
    [{"val_fraction": 0.5, "test_fraction": 0.5}, {"page": {"layout": "2x2"}}, {"duration_s": 0.001}, {"rate": 1}],
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValidationError):
        ShardConfig(**values)


@pytest.fixture
def bad_archive(tmp_path, write_wfdb, make_ecg):
    """Five bad records, and four good ones of which one is short, one loud and one without labels."""
    root = tmp_path / "bad"
    for seed, name in enumerate(["truncated", "orphan", "good"]):
        write_wfdb(root / name, make_ecg(seed), comments="#Dx: 426177001\n")
    write_wfdb(root / "short", make_ecg(4, duration_s=7), comments="#Dx: 164889003\n")
    write_wfdb(root / "slow", make_ecg(6, 257), 257)
    write_wfdb(root / "eleven", make_ecg(5)[:11], lead_names=LEADS[:11])
    write_wfdb(root / "nan", np.full((12, 5000), np.nan, np.float32))
    (root / "unreadable.hea").write_text("?")
    (root / "orphan.dat").unlink()
    (root / "truncated.dat").write_bytes((root / "truncated.dat").read_bytes()[:50000])
    (root / "loud.hea").write_text((root / "slow.hea").read_text().replace("slow", "loud").replace("1000(0)", "20(0)"))
    shutil.copy(root / "slow.dat", root / "loud.dat")
    return root


def test_bad_records_are_counted_and_stop_nothing(ray_cluster, bad_archive, tmp_path):
    info = write_shards(bad_archive, tmp_path / "out")
    reasons = {"bad_header", "missing_file", "missing_lead", "nan_samples", "truncated_signal"}
    assert info.rejected_counts == dict.fromkeys(reasons, 1)
    assert [rejection.record_id for rejection in info.rejected] == [
        f"cinc/{name}" for name in ("eleven", "nan", "orphan", "truncated", "unreadable")
    ]
    assert "lacks lead V6" in info.rejected[0].message
    assert info.quality_counts == {"clipped": 1, "short": 1}
    rows = {row["record_id"]: row for row in rows_of(tmp_path / "out")}
    assert sorted(rows) == ["cinc/good", "cinc/loud", "cinc/short", "cinc/slow"]
    assert (rows["cinc/short"]["valid_samples"], rows["cinc/short"]["quality"]) == (700, ["short"])
    # Nobody wrote down what this source annotates, so what occurs in it stands for that.
    assert info.code_sets == {"cinc": ["snomed:164889003", "snomed:426177001"]}


def test_an_archive_without_a_usable_record_is_one_sentence(ray_cluster, bad_archive, tmp_path):
    for name in ["good", "short", "loud", "slow"]:
        (bad_archive / f"{name}.hea").unlink()
    with pytest.raises(UserError, match=r"no record of .* can be used: missing_lead \(1\), .*; the first: .*lead V6"):
        write_shards(bad_archive, tmp_path / "out")
    assert not (tmp_path / "out/dataset.json").exists()


def test_a_file_that_goes_away_between_the_passes_is_counted(ray_cluster, bad_archive, tmp_path):
    def remove_good(stage: str, done: int, total: int) -> None:
        (bad_archive / "good.dat").unlink(missing_ok=True)

    info = write_shards(bad_archive, tmp_path / "out", on_progress=remove_good)
    assert info.rejected_counts["missing_file"] == 2
    assert info.num_records == len(rows_of(tmp_path / "out")) == 3
    assert sum(len(index) for index in (read_row_index(tmp_path / "out", split) for split in SPLITS)) > 0


def test_two_ecgs_of_one_id_are_a_clash_and_no_copies(ray_cluster, tmp_path, write_wfdb, make_ecg):
    for number, folder in enumerate(["one", "other"]):
        write_wfdb(tmp_path / folder / "same", make_ecg(100))
        write_wfdb(tmp_path / folder / "flat", np.zeros((12, 5000), np.float32))
        write_wfdb(tmp_path / folder / "0001", make_ecg(number))
    info = write_shards([tmp_path / "one", tmp_path / "other"], tmp_path / "out")
    assert info.num_records == 3
    assert info.rejected_counts == {"duplicate_id": 2, "id_clash": 1}
    clash = next(rejection for rejection in info.rejected if rejection.reason == "id_clash")
    assert clash.record_id == "cinc/0001"
    assert "put both archives into one folder" in clash.message
    shutil.rmtree(tmp_path / "out")
    assert write_shards(tmp_path, tmp_path.parent / f"{tmp_path.name}-both").num_records == 6


def record_at(signal_mv, rate_hz, name="a"):
    return make_record(signal_mv, LEADS, sampling_rate_hz=rate_hz, file=name, record_id=name, source="test")


def test_a_recording_is_known_again_at_another_rate_and_gain(make_ecg):
    projection = make_projection()
    rng = np.random.default_rng(0)
    one = record_at(make_ecg(1), 500)
    louder = record_at(2 * one.signal_mv + 0.3, 500)
    slower = record_at(fit_samples(one, 100, 1000)[0] + rng.normal(0, 0.003, (12, 1000)), 100)
    longer = record_at(np.hstack([one.signal_mv, one.signal_mv]), 500)
    others = [record_at(make_ecg(seed), 500) for seed in range(2, 40)]
    silent = [record_at(np.zeros((12, 5000)), 500)] * 2
    records = [one, louder, slower, longer, *others, *silent]
    prints = np.stack([fingerprint(record, projection) for record in records])
    names = [str(row) for row in range(len(records))]
    groups = group_records(names, [None] * len(names), [None] * len(names), prints)
    assert len(set(groups[:4])) == 1
    assert len(set(groups)) == len(records) - 3


def test_groups_join_through_patients_and_names():
    silent = np.zeros((5, 160), np.float16)
    groups = group_records(list("abcde"), ["p", None, "p", None, "q"], [None, None, None, "c", "b"], silent)
    assert groups[0] == groups[2] == groups[3]
    assert groups[1] == groups[4] != groups[0]


def test_a_group_takes_its_most_held_out_fold():
    groups = np.array([0, 0, 1, 2, 3, 3], np.int32)
    splits, folds = assign_splits(
        groups, list("abcdef"), [3, 9, 8, 1, None, 2], val_fraction=0.5, test_fraction=0, seed=0
    )
    assert splits == ["test", "test", "val", "train", "train", "train"]
    assert folds == [9, 9, 8, 1, 2, 2]


def test_records_added_later_move_nobody():
    def split_of(names):
        options = {"val_fraction": 0.2, "test_fraction": 0.2, "seed": 0}
        splits, _ = assign_splits(np.arange(len(names), dtype=np.int32), names, [None] * len(names), **options)
        return dict(zip(names, splits, strict=True))

    few, many = split_of([f"p{i}" for i in range(300)]), split_of([f"p{i}" for i in range(1000)])
    assert many | few == many
    shares = Counter(many.values())
    assert 150 < shares["val"] < 250
    assert 150 < shares["test"] < 250
    assert set(split_of(["a", "b", "c"]).values()) == set(SPLITS)


@pytest.fixture
def disguised_ptbxl(real_data, tmp_path):
    """The 88 recordings that both PTB-XL archives hold, at 100 Hz under other ids, patients and folds."""
    with (real_data / "ptbxl-500hz/ptbxl_database.csv").open() as file:
        shared = {row["ecg_id"] for row in csv.DictReader(file)}
    with (real_data / "ptbxl-100hz/ptbxl_database.csv").open() as file:
        table = csv.DictReader(file)
        rows = [row for row in table if row["ecg_id"] in shared]
        with (tmp_path / "ptbxl_database.csv").open("w") as out:
            writer = csv.DictWriter(out, table.fieldnames)
            writer.writeheader()
            for number, row in enumerate(rows):
                disguise = {"ecg_id": 50000 + int(row["ecg_id"]), "patient_id": 900000 + number, "strat_fold": 1}
                writer.writerow(row | disguise)
    (tmp_path / "records100").symlink_to(real_data / "ptbxl-100hz/records100")
    assert len(rows) == 88
    return tmp_path


def test_no_real_patient_or_recording_is_in_two_splits(ray_cluster, real_data, disguised_ptbxl, tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "out"
    info = write_shards([real_data / "ptbxl-500hz", real_data / "cinc-mix", disguised_ptbxl], out)
    assert info.num_records == 250 + 176 + 88
    assert info.rejected == []
    assert info.quality_counts == {"clipped": 3, "flat_lead": 2}
    rows, signals = rows_of(out), signals_of(out).astype(np.float32)
    split_of = {row["record_id"]: row["split"] for row in rows}

    patients = defaultdict(set)
    for row in rows:
        patients[row["patient_id"] or row["record_id"]].add(row["split"])
    assert all(len(found) == 1 for found in patients.values())

    # Not by fingerprints: every pair, by the correlation of what was written.
    flat = (signals - signals.mean(axis=2, keepdims=True)).reshape(len(rows), -1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    same = np.argwhere(np.triu(flat @ flat.T > 0.95, k=1))
    twins = {frozenset((rows[one]["record_id"], rows[other]["record_id"])) for one, other in same}
    assert all(len({split_of[name] for name in pair}) == 1 for pair in twins)
    assert len(twins) > 88
    assert frozenset(("ptbxl/00137", "ptbxl/00138")) in twins
    assert frozenset(("cinc/HR00001", "ptbxl/00001")) in twins
    assert {split_of[f"ptbxl/{number}"] for number in range(50000, 60000) if f"ptbxl/{number}" in split_of} == set(
        SPLITS
    )


def test_one_ecg_id_at_two_rates_keeps_the_higher(ray_cluster, real_data, disguised_ptbxl, tmp_path_factory):
    table = disguised_ptbxl / "ptbxl_database.csv"
    table.write_text(table.read_text().replace("\n50", "\n"))
    out = tmp_path_factory.mktemp("rates") / "out"
    info = write_shards([disguised_ptbxl, real_data / "ptbxl-500hz"], out)
    assert info.num_records == 250
    assert info.rejected_counts == {"duplicate_id": 88}
    assert "at 500 Hz" in info.rejected[0].message


def test_pages_are_png_and_columns_arrow_strings(dataset):
    table = pq.read_table(shard_files(dataset, "train")[0])
    assert BytesIO(table["page"][0].as_py()).read(4) == b"\x89PNG"
    assert isinstance(table.schema.field("signal").type, pa.FixedShapeTensorType)
