"""What a run tells at its end is what its files hold, and the page that shows it loads nothing and trusts no name."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import expit, logit

from vizecg.platform import console
from vizecg.platform.bundle import FACTS, WEIGHTS, hash_of, load_bundle
from vizecg.platform.bundle_facts import Bundle, Recalibration
from vizecg.platform.errors import UserError
from vizecg.platform.evaluate.abstention import is_answered
from vizecg.platform.reference import reference_of
from vizecg.platform.score import tally
from vizecg.platform.score.report import MAX_SAMPLES, Sample, render_report, write_report
from vizecg.platform.score.report_text import drift_words, duration, percent, points, verdict
from vizecg.platform.score.rows import schema_of
from vizecg.platform.score.summary import QUANTILES, summarise, write_summary

ROWS, RECORDS = 3000, 900
START = datetime(2025, 3, 2, 8, 0, tzinfo=UTC)
FACTS_OF_RUN: dict[str, Any] = {
    "seconds": 125.0, "pages_per_s": 24.0, "backend": "torch-fp32",
    "input": {"place": "s3://archive/<b>2019", "kind": "pictures", "items": ROWS, "left_out": {".xml": 3}},
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With a reference, and bands in which it had better not decide."""
    facts = make_bundle(tmp_path_factory.mktemp("run") / "bundle")
    rng = np.random.default_rng(0)
    probability, target = answers(rng, RECORDS), (rng.random((RECORDS, 7)) < 0.2).astype(np.float32)
    known = rng.random((RECORDS, 7)) < 0.8
    known[:, 6] = False
    reference = reference_of(probability, target, known, np.array(facts.thresholds))
    return facts.model_copy(update={"reference": reference, "abstention_widths": [0.0, *[0.5] * 6]})


@pytest.fixture(scope="module")
def out(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of uneven files and row groups: 5 % rejected, ids that repeat, the third label drifted."""
    folder = tmp_path_factory.mktemp("out")
    (folder / "scores").mkdir()
    table = scores(bundle, np.random.default_rng(1), ROWS)
    for number, (start, stop) in enumerate([(0, 1400), (1400, 2950), (2950, 2950), (2950, ROWS)]):
        file = folder / "scores" / f"scores-{number:05d}.parquet"
        pq.write_table(table.slice(start, stop - start), file, row_group_size=350)
    (folder / "scores" / "scores-00001.parquet.4fd.tmp").write_bytes(b"cut short")
    return folder


@pytest.fixture(scope="module")
def summary(out: Path, bundle: Bundle) -> dict[str, Any]:
    return summarise(str(out), bundle, FACTS_OF_RUN)


def answers(rng: np.random.Generator, count: int, shift: float = 0.0) -> np.ndarray:
    """Calibrated probabilities (N, 7) in float32, the third label's moved."""
    log_odds = rng.normal(-1, 2, (count, 7))
    log_odds[:, 2] += shift
    return expit(log_odds).astype(np.float32)


def scores(bundle: Bundle, rng: np.random.Generator, count: int) -> pa.Table:
    probability, rejected = answers(rng, count, shift=2.0), rng.random(count) < 0.05
    reasons = rng.choice(["not_an_ecg", "truncated"], count)
    rows = []
    for n in range(count):
        bad = bool(rejected[n])
        found = [
            k for k, p, t in zip(bundle.label_space.keys, probability[n], bundle.thresholds, strict=True) if p >= t
        ]
        about = {
            "row": n // 2, "page": n % 2 + 1, "id": f"page {n // 2 if n > 40 else n // 6}", "source": f"{n // 2}.tif",
            "status": "rejected" if bad else "scored", "reason": reasons[n] if bad else None,
            "error": "no" if bad else None, "accepted": None, "upright": None if bad else True,
            "turned_deg": None if bad or n % 3 == 0 else int(rng.choice([0, 0, 90, 180])), "ecg_score": 0.5,
            "note": "rotated by 2 degrees" if n % 7 == 0 and not bad else None, "findings": None if bad else found,
            "bundle_hash": bundle.content_hash, "backend": "openvino-bf16" if n < 1000 else "torch-fp32",
            "scored_at": START + timedelta(seconds=(n * 7 + 100) % count),
        }  # fmt: skip
        said = dict(zip(bundle.label_space.keys, probability[n].tolist(), strict=True))
        rows.append(about | {f"p_{key}": None if bad else p for key, p in said.items()})
    return pa.Table.from_pylist(rows, schema_of(bundle.label_space.keys))


def read_whole(out: Path) -> pd.DataFrame:
    return pd.concat([pq.read_table(file).to_pandas() for file in sorted((out / "scores").glob("*.parquet"))])


def test_counts_are_those_of_a_literal_reading(
    out: Path, bundle: Bundle, summary: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_whole(out)
    scored = table[table["status"] == "scored"]

    assert (summary["pages"], summary["scored"], summary["num_files"]) == (ROWS, len(scored), 4)
    assert summary["rejected"] == dict(sorted(Counter(table["reason"].dropna()).items()))
    assert summary["findings"] == {
        key: sum(key in found for found in scored["findings"]) for key in bundle.label_space.keys
    }
    assert summary["duplicates"] == int(table.duplicated(["id", "page"]).sum()) > 0
    assert summary["turned"] == int((table["turned_deg"] > 0).sum()) > 0
    assert summary["noted"] == int(table["note"].notna().sum()) > 0
    assert summary["backends"] == scored["backend"].value_counts().to_dict()
    assert summary["first_scored_at"] == table["scored_at"].min().isoformat()
    assert summary["last_scored_at"] == table["scored_at"].max().isoformat()
    assert {name: summary[name] for name in FACTS_OF_RUN} == FACTS_OF_RUN
    probability = scored[[f"p_{key}" for key in bundle.label_space.keys]].to_numpy()
    open_to_doubt = ~is_answered(probability, np.array(bundle.thresholds), np.array(bundle.abstention_widths))
    assert summary["uncertain"] == int(open_to_doubt.any(1).sum()) > 0
    assert [label["uncertain"] for label in summary["labels"].values()] == open_to_doubt.sum(0).tolist()
    monkeypatch.setattr(tally, "_BATCH_ROWS", 97)
    again = summarise(str(out), bundle, FACTS_OF_RUN)
    means = [label.pop("mean_probability") for label in again["labels"].values()]
    assert means == pytest.approx([label["mean_probability"] for label in summary["labels"].values()])
    stated = {key: {**label} for key, label in summary["labels"].items()}
    assert again["labels"] == {key: label for key, label in stated.items() if label.pop("mean_probability")}
    assert {**again, "labels": stated} == {**summary, "labels": stated}


def test_labels_against_all_their_probabilities(out: Path, bundle: Bundle, summary: dict[str, Any]) -> None:
    table = read_whole(out)
    scored = table[table["status"] == "scored"]
    ends = np.concatenate([[-np.inf], summary["log_odds_edges"], [np.inf]])
    for k, (key, label) in enumerate(summary["labels"].items()):
        values = scored[f"p_{key}"].to_numpy(np.float64)
        assert label["histogram"] == np.histogram(logit(values), ends)[0].tolist()
        assert label["mean_probability"] == pytest.approx(values.mean())
        assert label["share"] == summary["findings"][key] / len(scored)
        inside = logit([label["quantiles"][f"{q:g}"] for q in QUANTILES])
        assert inside == pytest.approx(logit(np.quantile(values, QUANTILES)), abs=0.25)
        assert bundle.reference is not None and label["reference"]["histogram"] == bundle.reference.histogram[k]
        assert label["drift"]["flagged_difference"] == pytest.approx(label["share"] - label["reference"]["share"])
    moved = bundle.label_space.keys[2]
    assert summary["drift"]["very_different"] == [moved]
    assert len(summary["drift"]["like"]) == 6 and summary["drift"]["reference_records"] == RECORDS


def test_the_summary_is_written_as_json(tmp_path: Path, summary: dict[str, Any]) -> None:
    write_summary(str(tmp_path), summary)
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(json.dumps(summary))


def test_bundles_without_a_reference_load_and_keep_their_hash(
    make_bundle: Callable[..., Bundle], tmp_path: Path, out: Path
) -> None:
    made = make_bundle(tmp_path / "bundle")
    file = tmp_path / "bundle" / FACTS
    facts = json.loads(file.read_text())
    assert facts.pop("reference") is None
    facts["content_hash"] = hash_of(facts, (tmp_path / "bundle" / WEIGHTS).read_bytes())
    file.write_text(json.dumps(facts))

    old, _ = load_bundle(tmp_path / "bundle")

    assert old.reference is None and old.content_hash == facts["content_hash"] != made.content_hash
    summary = summarise(str(out), old, FACTS_OF_RUN)
    assert summary["drift"] is None and all(label["drift"] is None for label in summary["labels"].values())
    page = Outline(render_report(summary, old))
    assert page.text.count("does not hold what the model answered there") == 1
    assert "like the training data" not in page.text and "training data" in drift_words(summary)


def test_a_reference_that_does_not_fit_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    facts = bundle.model_dump(mode="json")
    for wrong in ({"histogram": facts["reference"]["histogram"][:6]}, {"num_records": RECORDS + 1}):
        (tmp_path / FACTS).write_text(json.dumps({**facts, "reference": facts["reference"] | wrong}))
        with pytest.raises(UserError, match="reference"):
            load_bundle(tmp_path)


class Outline(HTMLParser):
    """Collects text and addresses; fails where tags do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page.replace("<wbr>", ""))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def samples() -> list[Sample]:
    hostile = Sample(
        reason="truncated", id='a/<script>alert(1)</script>"&.png', error="ends <i>early</i>", thumbnail=None
    )
    pictures = [
        Sample(reason="not_an_ecg", id=f"letter {n}.png", error="no ECG", thumbnail=b"\x89PNG") for n in range(9)
    ]
    return [hostile, *pictures]


def test_the_page_says_what_the_summary_says(summary: dict[str, Any], bundle: Bundle) -> None:
    page = Outline(render_report(summary, bundle, samples(), {"Worklist": "worklist.html"}))
    figures = [f"{ROWS:,}", f"{summary['scored']:,}", str(summary["rejected"]["truncated"]), "2 min 05 s"]
    figures += [f"{summary['turned']:,}", str(summary["duplicates"]), bundle.content_hash[:16]]
    for label in summary["labels"].values():
        figures += [label["name"], f"{label['found']:,}", percent(label["share"]), percent(label["mean_probability"])]
        figures += [percent(label["reference"]["share"]), percent(label["reference"]["prevalence"])]
        figures += [points(label["drift"]["flagged_interval"][1]), f"{label['drift']['psi']:.3f}"]
    sentences = verdict(summary, bundle)
    for text in [*figures, *sentences, "2025-03-02, 08:00 to 08:49 UTC", "3 .xml", "letter 0.png", "truncated"]:
        assert text in page.text, text
    assert page.text.count("very different") == 3, "in the table, above its histogram and in how it is measured"
    assert page.text.count("like the training data") == 2 * 6
    assert f"letter {MAX_SAMPLES - 1}.png" in page.text and f"letter {MAX_SAMPLES}.png" not in page.text


def test_the_page_loads_nothing_and_trusts_no_name(summary: dict[str, Any], bundle: Bundle) -> None:
    page = render_report(summary, bundle, samples(), {"<u>Work": "work list.html?<b>"})
    outline = Outline(page)
    assert not {"script", "link", "iframe", "object", "i", "u"} & set(outline.tags)
    assert "http" not in page and "url(" not in page and "@import" not in page and "<script" not in page
    assert 'a/<script>alert(1)</script>"&.png' in outline.text and "Scores of <b>2019" in outline.text
    pictures = [address for address in outline.addresses if address.startswith("data:")]
    assert len(pictures) == MAX_SAMPLES
    assert [address for address in outline.addresses if address not in pictures] == ["work%20list.html%3F%3Cb%3E"]


def test_of_a_recalibrated_bundle_the_site_is_named(summary: dict[str, Any], bundle: Bundle) -> None:
    note = Recalibration(
        dataset_fingerprint="f", sources=("clinic",), num_records=RECORDS, original_bundle="0", refitted=(),
        shifted=(), kept=(),
    )  # fmt: skip
    page = Outline(render_report(summary, bundle.model_copy(update={"recalibration": note})))
    assert "900 records of clinic, on which the bundle was recalibrated" in page.text
    assert "training" not in page.text


def test_an_output_without_a_scored_page(bundle: Bundle, tmp_path: Path) -> None:
    summary = summarise(str(tmp_path), bundle, {})
    assert (summary["pages"], summary["num_files"], summary["drift"]["too_few_pages"]) == (
        0, 0, list(bundle.label_space.keys),
    )  # fmt: skip
    write_report(str(tmp_path), summary, bundle, [], {})
    assert "No page was scored" in (tmp_path / "report.html").read_text()
    console.show_scores(summary)


def test_the_terminal_says_it_in_short(summary: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    console.show_scores(summary)
    said = capsys.readouterr().out
    key, label = max(summary["labels"].items(), key=lambda item: item[1]["found"])
    first = next(line for line in said.splitlines() if f" {key} " in line)
    assert all(text in first for text in (f"{label['found']:,}", percent(label["share"]), label["drift"]["word"]))
    assert f"{summary['scored']:,} of 3,000 pages scored" in said
    assert f"rejected {summary['rejected']['truncated']:,}" in said and str(summary["duplicates"]) in said
    assert drift_words(summary) in " ".join(said.split())


def test_numbers_as_words() -> None:
    assert [percent(share) for share in (None, 0, 0.00001, 0.0012, 0.034, 1)] == [
        "–", "0 %", "<0.01 %", "0.12 %", "3.4 %", "100 %",
    ]  # fmt: skip
    assert [points(share) for share in (-0.034, 0.0012)] == ["\N{MINUS SIGN}3.4", "+0.12"]
    assert [duration(seconds) for seconds in (4.24, 3599.4, 90_000)] == ["4.2 s", "59 min 59 s", "25 h 00 min"]
