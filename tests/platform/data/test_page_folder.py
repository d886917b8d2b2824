"""Labelled pages without signals become shards like recordings do; what cannot be read is counted."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vizecg.platform.data.archives import PageFolderArchive, open_archive
from vizecg.platform.data.batches import read_row_group
from vizecg.platform.data.dataset_info import PageSettings, ShardConfig, load_dataset_info, read_row_index, shard_files
from vizecg.platform.data.decode import BatchDecoder
from vizecg.platform.data.heart import Recorder
from vizecg.platform.data.labels import load_label_space
from vizecg.platform.data.order import RowGroup
from vizecg.platform.data.page import PageStyle, draw_page, encode_page
from vizecg.platform.data.patients import plan_record
from vizecg.platform.data.practice import draw_signal, write_practice_archive
from vizecg.platform.data.read_page import PageSpec, prepare
from vizecg.platform.data.shard_tasks import stored_page
from vizecg.platform.data.shards import write_shards
from vizecg.platform.data.splits import SPLITS
from vizecg.platform.errors import PageError, RecordError, UserError

CONFIG = ShardConfig(page=PageSettings(width_px=160, height_px=120), rows_per_file=8, rows_per_row_group=4)
SPEC = PageSpec(width_px=160, height_px=120)
FORMATS = ("png", "jpg", "bmp", "tiff", "webp")
SMALL, LARGE = (120, 90), (400, 300)


def picture(seed: int, kind: str = "png", size: tuple[int, int] = LARGE) -> bytes:
    """A blotchy page that a resize does not turn into another one."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size).save(file, {"jpg": "jpeg"}.get(kind, kind))
    return file.getvalue()


def write_table(folder, lines: list[str]) -> None:
    (folder / "pages.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """20 pages, of every format, of which three cannot be used."""
    folder = tmp_path_factory.mktemp("pages") / "clinic"
    (folder / "scans").mkdir(parents=True)
    lines = ["page,codes,patient_id,age,sex"]
    for number in range(20):
        kind = FORMATS[number % 5]
        codes = ("snomed:426783006", "", "snomed:164889003;snomed:59118001")[number % 3]
        lines.append(f"scans/{number:02d}.{kind},{codes},P{number // 2},{20 + number},{'FM'[number % 2]}")
        page = picture(number, kind, SMALL if number % 2 else LARGE)
        (folder / f"scans/{number:02d}.{kind}").write_bytes(page)
    (folder / "scans/03.tiff").unlink()
    (folder / "scans/06.jpg").write_bytes(picture(6, "jpg")[:-40])
    (folder / "scans/10.png").write_text("no picture")
    write_table(folder, lines)
    return folder


@pytest.fixture(scope="module")
def dataset(ray_cluster, clinic, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "clinic"
    write_shards(clinic, out, CONFIG)
    return out


def rows_of(location) -> list[dict]:
    tables = [pq.read_table(file) for split in SPLITS for file in shard_files(location, split)]
    signal_known = [table["signal"].combine_chunks().to_numpy_ndarray().any() for table in tables]
    assert not any(signal_known)
    return [row for table in tables for row in table.drop_columns(["signal"]).to_pylist()]


def test_pages_become_rows_without_signals(dataset, clinic):
    rows = {row["record_id"]: row for row in rows_of(dataset)}
    assert sorted(rows) == sorted(
        f"pages-clinic/scans/{n:02d}.{FORMATS[n % 5]}" for n in range(20) if n not in (3, 6, 10)
    )
    for record_id, row in rows.items():
        number = int(record_id.rsplit("/", 1)[1].split(".")[0])
        original = (clinic / record_id.removeprefix("pages-clinic/")).read_bytes()
        assert (row["signal_known"], row["valid_samples"], any(row["lead_present"])) == (False, 0, False)
        assert (row["age"], row["sex"]) == (20 + number, "FM"[number % 2])
        assert row["patient_id"] == f"pages-clinic/P{number // 2}"
        assert row["codes"] == [["snomed:426783006"], [], ["snomed:164889003", "snomed:59118001"]][number % 3]
        assert row["code_set"] == ["snomed:164889003", "snomed:426783006", "snomed:59118001"]
        assert (row["page"] == original) == bool(number % 2)
        # A scaled page is what the original would be read as, but for JPEG's losses.
        off = np.abs(prepare(row["page"], SPEC).astype(int) - prepare(original, SPEC))
        assert off.mean() < 2


def test_pages_that_cannot_be_used_are_counted(dataset):
    info = load_dataset_info(dataset)
    assert info.rejected_counts == {"missing_file": 1, "not_an_image": 1, "truncated": 1}
    assert info.num_records == 17
    assert (info.sources, info.default_label_space) == (["pages-clinic"], "code6")
    reasons = {rejection.record_id[-6:]: rejection.message for rejection in info.rejected}
    assert "scans/10.png: the bytes are not" in reasons["10.png"]


def test_patients_stay_together_and_other_pages_apart(dataset):
    rows = rows_of(dataset)
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["patient_id"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    # Were pages without signals taken for one recording, all would lie in one split.
    assert {row["split"] for row in rows} == set(SPLITS)


def test_a_batch_of_pages_teaches_by_the_page_alone(dataset, one_thread):
    group = RowGroup(*read_row_index(dataset, "train")[0])
    batch = BatchDecoder(load_label_space("code6"), SPEC).batch(read_row_group(group), epoch=0)
    assert not batch.signal_known.any()
    assert batch.signal.shape == (group.num_rows, 12, 1000)
    assert torch.equal(batch.weight, torch.ones(group.num_rows))
    assert batch.target_known.any(0).tolist() == [False, True, False, False, True, False]


def test_pages_and_recordings_share_a_dataset(ray_cluster, clinic, tmp_path):
    write_practice_archive(tmp_path / "archive", 12, seed=1)
    info = write_shards([tmp_path / "archive", clinic], tmp_path / "out", CONFIG)
    assert info.num_records == 12 + 17
    assert (info.sources, info.default_label_space) == (["pages-clinic", "practice"], "practice")
    tables = [pq.read_table(file) for split in SPLITS for file in shard_files(tmp_path / "out", split)]
    known = [row for table in tables for row in table.select(["source", "signal_known"]).to_pylist()]
    assert all(row["signal_known"] == (row["source"] == "practice") for row in known)
    code_sets = load_dataset_info(tmp_path / "out").code_sets
    assert len(code_sets["practice"]) > len(code_sets["pages-clinic"]) == 3


def test_the_same_picture_twice_stays_in_one_split(ray_cluster, tmp_path):
    folder = tmp_path / "twice"
    folder.mkdir()
    lines = ["page,codes"]
    for number in range(24):
        (folder / f"{number:02d}.png").write_bytes(picture(number % 12))
        lines.append(f"{number:02d}.png,snomed:426783006")
    write_table(folder, lines)
    info = write_shards(folder, tmp_path / "out", CONFIG)
    splits = {row["record_id"][-6:-4]: row["split"] for row in rows_of(tmp_path / "out")}
    assert (info.num_records, len(set(splits.values()))) == (24, 3)
    assert all(splits[f"{n:02d}"] == splits[f"{n + 12:02d}"] for n in range(12))


def test_another_page_of_one_id_is_a_clash(ray_cluster, tmp_path):
    folder = tmp_path / "clash"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(picture(min(number, 1)))
    write_table(folder, ["page,codes,record_id", "0.png,,a", "1.png,,a", "1.png,,b", "2.png,,b"])
    info = write_shards(folder, tmp_path / "out", CONFIG)
    assert (info.num_records, info.rejected_counts) == (2, {"id_clash": 1, "duplicate_id": 1})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(0))
    return tmp_path


def test_folds_and_ids_of_the_table_are_taken(folder):
    write_table(folder, ["record_id,fold,page,codes", "x1, 8,a.png,scp:AFIB", ",,a.png,"])
    archive = open_archive(folder)
    assert isinstance(archive, PageFolderArchive)
    first, second = archive.entries()
    assert [(entry.record_id.split("/")[1], entry.fold) for entry in (first, second)] == [("a.png", None), ("x1", 8)]
    assert archive.read(second).codes == {("scp", "AFIB")}
    assert archive.read(first).codes == frozenset()


@pytest.mark.parametrize(
    ("row", "reason", "message"),
    [
        ("a.png,426783006,,", "bad_metadata", "code '426783006'; write snomed or scp, a colon and the code"),
        ("a.png,icd:I48,,", "bad_metadata", "code 'icd:I48'"),
        ("a.png,,old,", "bad_metadata", "an age that is no number"),
        ("a.png,,,X", "bad_metadata", "the sex 'X'"),
        ("b.png,,,", "missing_file", "b.png cannot be read: No such file"),
        ("../a.png,,,", "bad_metadata", "outside its folder"),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason(folder, row, reason, message):
    write_table(folder, ["page,codes,age,sex", row])
    archive = open_archive(folder)
    with pytest.raises(RecordError, match=message) as error:
        archive.read(archive.entries()[0])
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["page,label", "a.png,"], "lacks the column 'codes'"),
        (["page,codes", "a.png,", ",snomed:1"], "line 3: names no page"),
        (["page,codes,fold", "a.png,,eight"], "line 2: fold 'eight' is not a whole number"),
    ],
)
def test_a_bad_table_is_one_sentence(folder, lines, message):
    write_table(folder, lines)
    with pytest.raises(UserError, match=message):
        open_archive(folder).entries()


def test_the_fingerprint_changes_with_labels_and_pages(folder):
    write_table(folder, ["page,codes", "a.png,snomed:1"])
    prints = [open_archive(folder).fingerprint()]
    write_table(folder, ["page,codes", "a.png,snomed:2"])
    prints.append(open_archive(folder).fingerprint())
    (folder / "a.png").write_bytes(picture(1, size=SMALL))
    prints.append(open_archive(folder).fingerprint())
    assert len(set(prints)) == 3
    assert prints[2] == open_archive(folder).fingerprint()


def test_a_stored_page_is_small_and_readable():
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "png")
    photo, clean = stored_page(file.getvalue(), CONFIG.page), stored_page(picture(0), CONFIG.page)
    assert photo.startswith(b"\xff\xd8")
    assert len(photo) < len(file.getvalue())
    assert prepare(clean, SPEC).shape == (3, 120, 160)
    with pytest.raises(PageError):
        stored_page(b"", CONFIG.page)


def test_a_labelled_page_is_stored_upright():
    signal_mv = draw_signal(plan_record(0, 3), Recorder.of(250, 10.0)).T / 1000
    page = draw_page(signal_mv, 250, PageStyle(width_px=800, height_px=600))
    upright, turned = (stored_page(encode_page(np.ascontiguousarray(p)), CONFIG.page) for p in (page, np.rot90(page)))
    difference = np.abs(prepare(upright, SPEC).astype(int) - prepare(turned, SPEC))
    assert difference.mean() < 1, "but for the loss of a JPEG"
