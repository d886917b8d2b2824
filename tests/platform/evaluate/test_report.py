"""The report says everything it was given, loads nothing, and trusts no name."""

import json
from dataclasses import MISSING, fields
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from vizecg.platform.data.page import PageStyle, draw_page, encode_page
from vizecg.platform.evaluate.abstention import coverage_curve
from vizecg.platform.evaluate.bootstrap import Interval, bootstrap_intervals
from vizecg.platform.evaluate.compare import compare_predictions
from vizecg.platform.evaluate.confusion import confusion_of
from vizecg.platform.evaluate.markdown import render_markdown
from vizecg.platform.evaluate.metrics import evaluate_predictions
from vizecg.platform.evaluate.plots import Chart, Line, label_curves
from vizecg.platform.evaluate.reliability import reliability_of
from vizecg.platform.evaluate.report import render_report, write_report
from vizecg.platform.evaluate.report_data import ExamplePage, Overlay, ReportData, WrongReading
from vizecg.platform.evaluate.report_text import interval_text
from vizecg.platform.evaluate.subgroups import subgroup_metrics

KEYS = ["AF", "SB", "<b>bold</b>", "rare"]
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Outline(HTMLParser):
    """Collects text and addresses; fails where tags do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def sample(**changes: object) -> ReportData:
    rng = np.random.default_rng(0)
    target = (rng.random((200, 4)) < [0.4, 0.2, 0.3, 0.0]).astype(np.float32)
    probability, known = np.clip(0.3 * target + 0.7 * rng.random((200, 4)), 0, 1), np.ones((200, 4), bool)
    known[:, 1] = rng.random(200) < 0.7
    limits, patients = np.full(4, 0.5), np.arange(200) // 2
    truth = (target, known)
    result = evaluate_predictions(probability, *truth, KEYS, limits)
    intervals = bootstrap_intervals(probability, *truth, KEYS, limits, patients, num_resamples=20)
    ours, theirs = (probability, limits.tolist()), (probability[::-1], limits.tolist())
    groups = {"sex": ["female", "male"] * 100, "source": ["practice"] * 200}
    page = encode_page(draw_page(np.zeros((12, 1000), np.float32), 100.0, PageStyle(width_px=160, height_px=120)))
    parts: dict[str, object] = {
        "title": "A <script>alert(1)</script> report",
        "facts": {"Records": "200 | all"},
        "streams": {"image": result, "fused": result},
        "intervals": {"image": intervals},
        "frequent_intervals": intervals.macro,
        "comparison": compare_predictions(ours, theirs, *truth, patients, KEYS, "an <i>other</i> model", 20),
        "label_names": {"AF": "Atrial fibrillation"},
        "curves": label_curves(probability, *truth, KEYS),
        "reliability": reliability_of(probability, *truth, KEYS),
        "coverage": coverage_curve(probability, *truth, limits),
        "subgroups": subgroup_metrics(probability, *truth, limits, patients, groups, num_resamples=20),
        "confusion": confusion_of(probability >= limits, *truth, KEYS),
        "errors": (
            WrongReading(
                record_id="practice/9 & 10", thumbnail=page, false={"<b>bold</b>": 0.93}, missed={"AF": 0.06}, found=()
            ),
            WrongReading(record_id="practice/11", thumbnail=page, false={"SB": 0.9}, missed={}, found=("AF",)),
        ),
        "history": (
            {"epoch": 1, "train_loss": 1.5, "train_kd": 0.1, "val_image_macro_auroc": None},
            {"epoch": 2, "train_loss": 1.25, "train_kd": 0.08, "val_image_macro_auroc": 0.8},
        ),
        "examples": (
            ExamplePage(
                title="practice/7 & 8",
                page=page,
                probabilities={"AF": 0.9, "SB": 0.7, "<b>bold</b>": 0.2, "rare": 0.1},
                thresholds=dict.fromkeys(KEYS, 0.5),
                truth={"AF": True, "SB": False, "<b>bold</b>": True},
                overlays=(Overlay(caption="What speaks for <b>AF</b>", picture=page),),
            ),
        ),
        "timings_s": {"Shards": 4.0, "Training": 95.0},
    }
    return ReportData(**(parts | changes))


def test_the_page_holds_every_part_and_loads_nothing() -> None:
    page = render_report(sample())
    outline = Outline(page)
    for text in [
        *KEYS,
        "Atrial fibrillation",
        "practice/7 & 8",
        "practice/9 & 10",
        "said <b>bold</b> 0.93",
        "missed AF 0.06",
        "an <i>other</i> model",
        "What speaks for <b>AF</b>",
        "Leaving the least certain to people",
        "female",
        "The same for all records: source practice.",
        "95 % intervals, from 20 resamples of 100 patients",
        "1 min 35 s",
        "research use only",
        "Training loss",
        "found",
        "missed",
    ]:
        assert text in outline.text
    places = [address for address in outline.addresses if address.startswith("#")]
    pictures = [address for address in outline.addresses if address not in places]
    assert len(pictures) == 4 and all(address.startswith("data:image/png;base64,") for address in pictures)
    assert len(places) == 11 and all(f'<section id="{place[1:]}"' in page for place in places)
    assert not {"script", "link", "iframe", "object"} & set(outline.tags)
    assert "http" not in page and "url(" not in page and "@import" not in page


def test_names_are_escaped() -> None:
    page = render_report(sample())
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "<b>bold" not in page and "<i>other" not in page and "<b>AF" not in page


def test_every_macro_figure_and_label_has_its_interval() -> None:
    data = sample()
    spread = data.deployed_intervals
    assert spread is not None
    texts = [Outline(render_report(data)).text, render_markdown(data)]
    for intervals in (spread.macro, spread.labels["AF"], spread.labels["<b>bold</b>"]):
        for name in ("auroc", "auprc", "f1", "precision", "recall", "brier"):
            shown = interval_text(intervals[name])
            assert shown and all(shown in text for text in texts)
    difference = data.comparison.differences["auroc"].interval
    assert all(interval_text(difference) in text for text in texts)


def test_intervals_below_zero_have_no_dash_beside_the_minus() -> None:
    assert (
        interval_text(Interval(-0.012, 0.5)) == "-0.012 to 0.500" and interval_text(Interval(0, 0.5)) == "0.000–0.500"
    )


def test_undefined_numbers_are_dashes_and_explained() -> None:
    text = Outline(render_report(sample())).text
    assert "Macro means count 3 of 4 labels" in text and "nan" not in text.lower().split() and "None" not in text


PARTS = {field.name: field for field in fields(ReportData) if field.name not in ("title", "summary", "label_names")}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_may_be_absent(part: str) -> None:
    field = PARTS[part]
    empty = field.default if field.default is not MISSING else field.default_factory()
    assert "research use only" in Outline(render_report(sample(**{part: empty}))).text
    assert "A page" in render_report(ReportData(title="A page"))


def test_files_are_written_and_agree(tmp_path: Path) -> None:
    data = sample()
    path = write_report(tmp_path / "new" / "folder", data)
    written = json.loads((path.parent / "metrics.json").read_text())
    assert set(written) == {
        "facts", "streams", "intervals", "frequent_intervals", "comparison", "conditions", "subgroups", "abstention",
        "confusion", "errors",
    }  # fmt: skip
    assert written["errors"][0]["missed"] == {"AF": 0.06} and written["confusion"]["label_keys"] == KEYS
    assert written["streams"]["image"]["macro"]["auroc"] == data.streams["image"].macro.auroc
    table = (path.parent / "metrics.md").read_text()
    assert all(f"| {key} |" in table for key in KEYS) and f"{data.streams['image'].macro.auroc:.3f}" in table
    assert path.read_text() == render_report(data)


def test_examples_of_many_labels_show_the_true_and_the_most_probable() -> None:
    keys = [f"label{k}" for k in range(40)]
    probabilities = {key: k / 40 for k, key in enumerate(keys)}
    example = ExamplePage(
        title="x", page=b"", probabilities=probabilities, thresholds=dict.fromkeys(keys, 0.99), truth={"label0": True}
    )
    assert example.bars == ["label0", *keys[31:]]
    assert example.verdict("label0") == "miss" and example.verdict("label5") == "open"


def test_charts_break_at_gaps_and_end_on_whole_ticks() -> None:
    line = Line(name="loss", x=[1, 2, 3, 4, 5], y=[0.31, None, 0.5, float("nan"), 0.68])
    chart = Chart(title="t", x_label="epoch", lines=(line,))
    assert len(chart.paths(line)) == 3
    assert [text for _, text in chart.y_ticks] == ["0.3", "0.4", "0.5", "0.6", "0.7"]
    assert [text for _, text in chart.x_ticks] == ["1", "2", "3", "4", "5"]
    flat = Chart(title="t", x_label="epoch", lines=(Line(name="flat", x=[1], y=[0.5]),))
    assert flat.paths(flat.lines[0]) and Chart(title="t", x_label="x", lines=()).y_ticks


def test_curves_keep_their_corners_with_few_points() -> None:
    score = np.linspace(0, 1, 5000)[:, None]
    curves = label_curves(score, (score > 0.5).astype(float), np.ones((5000, 1), bool), ["AF"])[0]
    assert len(curves.roc.split()) <= 121 and curves.roc.split()[0] == "0.0,100.0" and "0.0,0.0" in curves.roc
    assert curves.roc.split()[-1] == "100.0,0.0"
