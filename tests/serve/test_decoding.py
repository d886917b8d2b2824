"""Pages from bytes on threads: each with what is wrong with it, and none for longer than is allowed."""

import asyncio
import threading
from pathlib import Path

import pytest

from vizecg.platform.data.read_page import PageSpec, Reading
from vizecg.platform.page_look import LEAST_PAGES, LearnedPages, learned_from
from vizecg.serve import decoding
from vizecg.serve.answer import page_facts
from vizecg.serve.decoding import Decoders
from vizecg.serve.problems import Refused

SPEC = PageSpec(width_px=256, height_px=192)


def decoders(max_s: float = 5.0, num_threads: int = 2) -> Decoders:
    return Decoders(num_threads, max_s, 32 << 20, 64_000_000)


def test_a_page_is_what_everybody_else_reads(pages: list[bytes], predictor):
    read = asyncio.run(decoders().read(pages[0], 1, SPEC, Reading()))
    assert (read.pixels == predictor.read(pages[0]).pixels).all()
    assert (read.number, read.num_pages) == (1, 1)


def test_a_page_unlike_those_that_its_model_learned_from_is_told(pages: list[bytes], predictor):
    read = predictor.read(pages[0]).pixels
    learned, other = learned_from([read] * LEAST_PAGES), learned_from([255 - read] * LEAST_PAGES)

    def warnings(of: LearnedPages | None) -> list[str]:
        decoded = asyncio.run(decoders().read(pages[0], 1, SPEC, Reading(quality=True), of))
        return [warning.code for warning in page_facts(decoded).warnings]

    assert warnings(None) == warnings(learned) == []
    assert warnings(other) == ["unlike_training"]


@pytest.mark.parametrize(
    ("data", "number", "status", "code"),
    [(b"", 1, 400, "empty"), (b"text", 1, 415, "not_an_image"), (None, 2, 404, "no_such_page")],
)
def test_what_cannot_be_read_is_refused(pages: list[bytes], data: bytes | None, number: int, status: int, code: str):
    with pytest.raises(Refused) as caught:
        asyncio.run(decoders().read(pages[0] if data is None else data, number, SPEC, Reading()))
    assert (caught.value.status, caught.value.code) == (status, code)


def test_what_takes_too_long_is_answered_and_a_stuck_replica_says_so(
    pages: list[bytes], monkeypatch: pytest.MonkeyPatch
):
    release = threading.Event()

    def slow(*_: object, **__: object) -> int:
        assert release.wait(10)
        return 1

    async def run() -> None:
        monkeypatch.setattr(decoding, "num_pages", slow)
        stuck = decoders(max_s=0.1)
        assert not stuck.is_stuck
        answers = await asyncio.gather(*(stuck.count(pages[0]) for _ in range(2)), return_exceptions=True)
        assert [answer.code for answer in answers if isinstance(answer, Refused)] == ["too_slow"] * 2
        assert stuck.is_stuck
        release.set()
        while stuck.is_stuck:
            await asyncio.sleep(0.01)
        assert await stuck.count(pages[0]) == 1

    asyncio.run(run())


def test_waiting_for_a_thread_is_not_held_against_a_page(pages: list[bytes], monkeypatch: pytest.MonkeyPatch):
    def slow(*_: object, **__: object) -> int:
        threading.Event().wait(0.15)
        return 1

    monkeypatch.setattr(decoding, "num_pages", slow)

    async def run() -> list[int]:
        one = decoders(max_s=0.4, num_threads=1)
        return await asyncio.gather(*(one.count(pages[0]) for _ in range(6)))

    assert asyncio.run(run()) == [1] * 6


def test_a_client_that_goes_away_leaves_no_trace(pages: list[bytes]):
    async def run() -> None:
        some = decoders()
        task = asyncio.create_task(some.read(b"text", 1, SPEC, Reading()))
        await asyncio.sleep(0)
        task.cancel()
        assert (await some.read(pages[0], 1, SPEC, Reading())).num_pages == 1

    asyncio.run(run())


@pytest.mark.parametrize("name", ["ecg.dcm"])
def test_dicom_is_read(name: str, real_data: Path):
    files = sorted((real_data / "format-samples").rglob("*.dcm"))
    if not files:
        pytest.skip("no DICOM file among the samples")
    read = asyncio.run(decoders().read(files[0].read_bytes(), 1, SPEC, Reading()))
    assert read.pixels.shape == (3, 192, 256)


def test_work_of_clients_that_went_away_is_dropped_and_a_hung_thread_still_counts(
    pages: list[bytes], monkeypatch: pytest.MonkeyPatch
):
    release, begun = threading.Event(), []

    def slow(*_: object, **__: object) -> int:
        begun.append(1)
        assert release.wait(10)
        return 1

    monkeypatch.setattr(decoding, "num_pages", slow)

    async def run() -> None:
        one = decoders(max_s=0.2, num_threads=1)
        tasks = [asyncio.create_task(one.count(pages[0])) for _ in range(20)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.25)
        assert one.is_stuck, "though nobody waits for it any more"
        release.set()
        monkeypatch.setattr(decoding, "num_pages", lambda *_, **__: 1)
        assert await one.count(pages[0]) == 1
        assert not one.is_stuck

    asyncio.run(run())
    assert len(begun) == 1, "what no thread had taken up was never done"
