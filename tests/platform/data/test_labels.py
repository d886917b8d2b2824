"""Label spaces say what a code means, and what a source's silence means."""

import csv

import numpy as np
import pytest

from vizecg.platform.data.labels import label_space_names, load_label_space
from vizecg.platform.data.patients import LABELS, SNOMED
from vizecg.platform.errors import UserError

SIZES = {"cinc2021-scored": 26, "code6": 6, "practice": 7, "ptbxl-statements": 71, "ptbxl-superclass": 5}


def test_all_shipped_label_spaces_load():
    assert {name: len(load_label_space(name).labels) for name in label_space_names()} == SIZES
    assert all(load_label_space(name).name == name for name in SIZES)


def test_code6_is_in_the_order_of_its_paper():
    assert load_label_space("code6").keys == ("1dAVb", "RBBB", "LBBB", "SB", "AF", "ST")


def test_practice_means_the_codes_that_the_practice_archive_writes():
    labels = load_label_space("practice").labels
    assert {label.key: label.codes for label in labels} == {label: (f"snomed:{SNOMED[label]}",) for label in LABELS}


@pytest.mark.parametrize(("wrong", "nearest"), [("code-6", "code6"), ("ptbxl_superclas", "ptbxl-superclass")])
def test_an_unknown_name_is_answered_with_the_nearest(wrong, nearest):
    with pytest.raises(UserError, match=f"no label space '{wrong}'; did you mean '{nearest}'"):
        load_label_space(wrong)


def test_silence_of_a_source_that_does_not_annotate_is_unknown():
    target, known = load_label_space("code6").targets(["snomed:713427006"], ["snomed:164909002", "snomed:164889003"])
    np.testing.assert_array_equal(target, np.float32([0, 1, 0, 0, 0, 0]))
    # RBBB is known because it is there; LBBB and AF because the source would have said so.
    assert known.tolist() == [False, True, True, False, True, False]
    assert target.dtype == np.float32


def test_a_record_without_any_label_is_left_out_where_the_space_says_so():
    codes = ["scp:NORM", "scp:IMI", "scp:SR"]
    for name in ("ptbxl-superclass", "ptbxl-statements"):
        space = load_label_space(name)
        code_set = [code for label in space.labels for code in label.codes]
        assert space.targets(codes, code_set)[1].all()
        target, known = space.targets(["scp:ELSE"], code_set)
        assert not target.any() and not known.any()
    # A rhythm is a statement, but no diagnosis.
    assert load_label_space("ptbxl-statements").targets(["scp:SR"], code_set)[1].all()
    assert not load_label_space("ptbxl-superclass").targets(["scp:SR"], code_set)[1].any()
    assert load_label_space("practice").targets([], ["snomed:426783006"])[1].any()


def test_one_code_may_mean_several_labels_and_several_codes_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nlabels:\n"
        "- {key: any, name: Any block, codes: ['scp:CLBBB', 'scp:CRBBB']}\n"
        "- {key: left, name: Left block, codes: ['scp:CLBBB']}\n"
    )
    space = load_label_space(path)
    assert space.targets(["scp:CLBBB"], [])[0].tolist() == [1, 1]
    assert space.targets(["scp:CRBBB"], [])[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is not YAML"),
        ("name: a\nlabels: []", "labels: Tuple should have at least 1 item"),
        ("name: a\nlabels: [{key: b, name: B, codes: ['icd:I48']}]", "code 'icd:I48' of label 'b'"),
        ("name: a\nlabels: [{key: b, name: B, codes: ['scp:A']}, {key: b, name: C, codes: ['scp:C']}]", "occurs twice"),
        ("name: a\nlabel: []", "not a label space"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_label_space(path)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load_label_space(tmp_path / "mine.yaml")


def test_ptbxl_spaces_agree_with_its_own_table(real_data):
    with (real_data / "ptbxl-100hz/scp_statements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert load_label_space("ptbxl-statements").keys == tuple(row[""] for row in rows)
    for label in load_label_space("ptbxl-superclass").labels:
        assert label.codes == tuple(f"scp:{row['']}" for row in rows if row["diagnostic_class"] == label.key)


def test_cinc_space_agrees_with_the_challenge(real_data):
    with (real_data / "cinc-mix/cinc2021/weights.csv").open() as file:
        columns = next(csv.reader(file))[1:]
    labels = load_label_space("cinc2021-scored").labels
    assert [label.codes for label in labels] == [
        tuple(f"snomed:{code}" for code in column.split("|")) for column in columns
    ]
