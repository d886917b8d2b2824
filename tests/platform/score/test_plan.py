"""A plan's arithmetic against figures that are known, and its measurement against a plain loop."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from vizecg.platform.errors import UserError
from vizecg.platform.score.plan.facts import Plan, plan_of
from vizecg.platform.score.plan.page import render_plan, write_plan
from vizecg.platform.score.plan.predict import NODES, plan_scoring
from vizecg.platform.score.plan.sample import spread
from vizecg.platform.score.plan.text import assumptions, decisions, money, plan_table, size, span
from vizecg.platform.score.plan.work import RAY_START_S, Cluster, Prices, Sample, Stretch, Work

MILLION = 1_000_000


def stretch(items: int = 16, pages: int = 16, scored: int = 16, core_s: float = 0.32) -> Stretch:
    return Stretch(items=items, input_bytes=items * 30_000, pages=pages, scored=scored, core_s=core_s)


def sample(stretches: list[Stretch] | None = None, **changes: object) -> Sample:
    """10 million pages of 30 kB, 20 ms of a core each."""
    plain = Sample(
        stretches=tuple(stretches or [stretch() for _ in range(16)]), num_items=10 * MILLION,
        input_bytes=300_000 * MILLION, sources=("a.png",), cores=2, predict_core_s=0.012, output_page_bytes=150.0,
        listing_s=20.0, start_s=8.0,
    )  # fmt: skip
    return replace(plain, **changes)


def cluster(**changes: object) -> Cluster:
    plain = Cluster(
        cores_per_node=16, storage_bytes_per_s=1e11, gpu_pages_per_s=None, prices=Prices(core=0.05, gpu=1.0)
    )
    return replace(plain, **changes)


def plan(measured: Sample | None = None, on: Cluster | None = None, **changes: object) -> Plan:
    facts: dict[str, object] = {
        "source": "scans", "bundle_hash": "0" * 64, "backend": "openvino-bf16", "is_storage_told": False,
        "nodes": NODES, "efficiency": 1.0, **changes,
    }  # fmt: skip
    return plan_of(measured or sample(), on or cluster(), **facts)


def test_time_and_cost_are_those_of_the_sample():
    found = plan()
    start_s = RAY_START_S + 20 + 8
    for option in found.options:
        assert option.cores == 16 * option.nodes
        seconds = start_s + 10 * MILLION * 0.020 / option.cores
        assert option.hours == pytest.approx([seconds / 3600] * 3), "all stretches are alike: no interval"
        assert option.cost.value == pytest.approx(seconds / 3600 * option.cores * 0.05)
        assert option.core_hours == pytest.approx(seconds / 3600 * option.cores)
        assert option.pages_per_s == pytest.approx(option.cores / 0.020)
    assert [option.nodes for option in found.options] == list(NODES)
    assert found.output_bytes.value == pytest.approx(1500 * MILLION)
    assert found.page_core_s.value == pytest.approx(0.020)


def test_the_efficiency_makes_it_longer():
    full, less = plan(), plan(efficiency=0.8)
    busy_h = [p.options[0].hours.value - p.start_s / 3600 for p in (full, less)]
    assert busy_h[1] == pytest.approx(busy_h[0] / 0.8)
    assert less.page_core_s == pytest.approx(full.page_core_s), "the sample is what was measured"


def test_storage_ends_the_gain_of_more_nodes():
    # 300 GB at 100 MB/s take 3,000 s; 200,000 core seconds are as long on 66 cores.
    found = plan(on=cluster(storage_bytes_per_s=100e6))
    assert found.storage_cores == 66
    by_nodes = {option.nodes: option for option in found.options}
    assert [by_nodes[n].limited_by for n in (1, 4, 8, 64)] == ["cores", "cores", "storage", "storage"]
    assert by_nodes[64].hours.value == pytest.approx((found.start_s + 3000) / 3600)
    assert by_nodes[64].hours == by_nodes[8].hours and by_nodes[64].cost.value > 7 * by_nodes[8].cost.value
    assert found.fastest.nodes == 8, "of equally fast ones the cheaper"


def test_overnight_is_the_fewest_nodes_that_suffice():
    found = plan(sample([stretch(core_s=s) for s in np.linspace(1.0, 3.0, 16)]))
    assert found.overnight is not None
    work = Work.of(sample([stretch(core_s=s) for s in np.linspace(1.0, 3.0, 16)]), 1.0)
    enough = cluster().option(work, found.overnight.nodes)
    assert enough.hours.high <= 12
    assert cluster().option(work, found.overnight.nodes - 1).hours.high > 12


def test_overnight_may_be_out_of_reach():
    slow = plan(on=cluster(storage_bytes_per_s=5e6))  # 300 GB at 5 MB/s: 16.7 h
    assert slow.overnight is None
    assert "no number of nodes" in dict(decisions(slow))["overnight"]


def test_a_small_archive_is_done_by_one_node():
    found = plan(sample(num_items=500, input_bytes=15 * MILLION))
    assert found.overnight is not None and found.overnight.nodes == 1
    assert found.options[0].limited_by == "start-up"
    assert found.cheapest.nodes == 1


def test_documents_of_many_pages_and_rejected_ones_count():
    mixed = [stretch(items=10, pages=40, scored=30, core_s=1.0), stretch(items=10, pages=10, scored=10, core_s=0.5)]
    found = plan(sample(mixed * 8, num_items=1000))
    assert found.pages.value == pytest.approx(2500)
    assert found.rejected_share.value == pytest.approx(0.2)
    assert found.page_core_s.value == pytest.approx(1.5 / 50)
    assert found.pages.low < 2500 < found.pages.high


def test_intervals_cover_the_truth():
    """Stretches of a known mean: the interval of the time holds the true one in about 95 of 100 samples."""
    truth_s, covered = 0.4, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        seconds = rng.gamma(4, truth_s / 4, 32)
        work = Work.of(sample([stretch(core_s=s) for s in seconds]), 1.0, seed)
        hours = cluster().option(work, 1).hours
        true_h = (work.start_s + 10 * MILLION / 16 * truth_s / 16) / 3600
        covered += hours.low <= true_h <= hours.high
    assert 175 <= covered <= 199


def test_gpus_only_where_one_was_measured():
    without, with_gpu = plan(), plan(on=cluster(gpu_pages_per_s=2000.0))
    assert all(option.gpus == 0 for option in without.options)
    assert any("GPUs were not measured" in words for words in assumptions(without))
    on_gpus = [option for option in with_gpu.options if option.gpus]
    assert [option.nodes for option in on_gpus] == list(NODES)
    # 16 cores decode a page in 8 ms each: 2,000 a second, as many as the GPU takes.
    assert on_gpus[0].pages_per_s == pytest.approx(2000)
    slow_gpu = plan(on=cluster(gpu_pages_per_s=500.0)).options[-len(NODES)]
    assert slow_gpu.limited_by == "GPUs" and slow_gpu.pages_per_s == pytest.approx(500)
    hours = slow_gpu.hours.value
    assert slow_gpu.cost.value == pytest.approx(hours * (16 * 0.05 + 1.0))


@pytest.mark.parametrize(("num_items", "count", "length"), [(1000, 16, 8), (10**7, 32, 16), (130, 16, 8), (5, 16, 8)])
def test_the_sample_is_from_all_over(num_items: int, count: int, length: int):
    stretches = spread(num_items, count, length)
    rows = [row for each in stretches for row in each]
    assert len(rows) == len(set(rows)) and min(rows) >= 0 and max(rows) < num_items
    if num_items > count * length:
        for part, each in enumerate(sorted(stretches, key=lambda each: each.start)):
            edges = num_items * part // count, num_items * (part + 1) // count
            assert edges[0] <= each.start and each.stop <= edges[1], "one in each part"
        assert all(len(each) == length for each in stretches)
        assert [each.start for each in stretches] != sorted(each.start for each in stretches)
    else:
        assert sorted(rows) == list(range(num_items)), "all of a small archive"


def test_the_files_say_what_the_plan_says(tmp_path: Path):
    found = plan(sample([stretch(core_s=s) for s in np.linspace(0.2, 0.5, 16)]))
    write_plan(found, str(tmp_path / "new" / "plan"))
    told = json.loads((tmp_path / "new" / "plan" / "plan.json").read_text())
    assert told["options"][3]["nodes"] == 8
    assert told["options"][3]["hours"]["high"] == pytest.approx(found.options[3].hours.high, rel=1e-5)
    assert told["overnight"]["nodes"] == found.overnight.nodes if found.overnight else False
    page = (tmp_path / "new" / "plan" / "plan.html").read_text()
    assert page.count("<circle") == 2 * len(NODES) and "overnight" in page and "http" not in page


def test_what_is_not_known_is_no_number(tmp_path: Path):
    blind = plan(on=cluster(storage_bytes_per_s=math.inf))
    write_plan(blind, str(tmp_path))
    told = json.loads((tmp_path / "plan.json").read_text(), parse_constant=pytest.fail)
    assert told["storage_bytes_per_s"] is None
    assert any("could not be measured" in words for words in assumptions(blind))
    assert "inf" not in render_plan(blind)


def test_a_path_is_text_in_the_page():
    assert "<b>" not in render_plan(plan(source="scans/<b>x</b>"))


@pytest.mark.parametrize("width", [80, 130])
def test_the_table_fits_into_a_terminal(width: int):
    shown = Console(width=width, color_system=None)
    found = plan(sample([stretch(core_s=s) for s in np.linspace(0.2, 0.5, 16)]), cluster(gpu_pages_per_s=2000.0))
    with shown.capture() as captured:
        shown.print(plan_table(found, width))
    text = captured.get()
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    assert text.count(" GPU ") == len(NODES) and ("95 % interval" in text) is (width == 130)


def test_figures_are_readable():
    assert [span(h) for h in (0.01, 0.5, 3.44, 100, 5000)] == ["36 s", "30.0 min", "3.4 h", "4.2 days", "208 days"]
    assert [size(b) for b in (12, 34_100, 999_600, 1.2e12)] == ["12 B", "34.1 kB", "1 MB", "1.2 TB"]
    assert [money(m) for m in (0.128, 12.5, 1234.5)] == ["0.13", "12.50", "1,234"]


def test_a_folder_is_measured(bundle_folder: Path, pages: list[bytes], tmp_path: Path):
    for number in range(40):
        (tmp_path / f"{number:02}.png").write_bytes(pages[number % 4] if number % 10 else b"no picture")
    found = plan_scoring(
        bundle_folder, tmp_path, sample_pages=32, nodes=[1, 2], cores_per_node=4, price_per_core_hour=2
    )
    assert (found.num_items, found.sample_items, found.sample_pages) == (40, 40, 40), "all of a small folder"
    assert found.pages == (40, 40, 40) and found.rejected_share.value == pytest.approx(0.1)
    assert found.input_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 0 < found.predict_core_s < found.page_core_s.value < 5
    assert [option.cores for option in found.options] == [4, 8] and found.gpu_pages_per_s is None
    one = found.options[0]
    assert one.cost.value == pytest.approx(one.hours.value * 4 * 2)
    busy_s = 40 * found.page_core_s.value / found.efficiency / 4
    assert 3600 * one.hours.value == pytest.approx(found.start_s + busy_s)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sample_pages": 0}, "sample_pages must be 1 or more, not 0"),
        ({"nodes": [4, 0]}, "nodes must be 1 or more, .* not 4,0"),
        ({"nodes": []}, "nodes must be .* not none"),
        ({"cores_per_node": -1}, "cores_per_node must be 1 or more, not -1"),
        ({"storage_mb_per_s": 0.0}, "storage_mb_per_s must be positive, not 0.0"),
        ({"efficiency": 1.5}, "efficiency must be above 0 and at most 1, not 1.5"),
        ({"price_per_gpu_hour": -2.0}, "the price of a GPU hour must be 0 or more, not -2.0"),
    ],
)
def test_numbers_without_sense_are_refused(tmp_path: Path, changes: dict[str, object], words: str):
    with pytest.raises(UserError, match=words):
        plan_scoring(tmp_path, tmp_path, **changes)
