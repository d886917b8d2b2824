"""Pages go together as they come, none waits, and each gets its own answer."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vizecg.serve.batcher import Batcher, Predicted


def page_of(value: int) -> np.ndarray:
    return np.full((3, 2, 2), value, np.uint8)


def mean_of(pages: np.ndarray) -> np.ndarray:
    """A page's own value, so that a mixed-up answer is seen."""
    return pages[:, 0, 0, :1].astype(np.float32)


def run(values: list[int], max_batch_size: int = 4, predict=mean_of) -> tuple[list[Predicted], list[int]]:
    sizes: list[int] = []

    async def main() -> list[Predicted]:
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(predict, max_batch_size, pool, sizes.append)
            return await asyncio.gather(*(batcher(page_of(value)) for value in values))

    return asyncio.run(main()), sizes


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=40), st.integers(1, 9))
def test_each_page_gets_its_own_answer_and_no_batch_is_too_large(values: list[int], most: int):
    answers, sizes = run(values, most)
    assert [int(answer.probability[0]) for answer in answers] == values
    assert sum(sizes) == len(values) and max(sizes) <= most


def test_a_page_alone_is_predicted_at_once():
    started = time.perf_counter()
    answers, sizes = run([7])
    assert sizes == [1] and answers[0].batch_pages == 1
    assert time.perf_counter() - started < 0.5


def test_what_comes_while_others_are_predicted_is_the_next_batch():
    first_in_work, release = threading.Event(), threading.Event()

    def predict(pages: np.ndarray) -> np.ndarray:
        first_in_work.set()
        assert release.wait(5)
        return mean_of(pages)

    async def main() -> list[int]:
        sizes: list[int] = []
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(predict, 8, pool, sizes.append)
            first = asyncio.create_task(batcher(page_of(1)))
            while not first_in_work.is_set():
                await asyncio.sleep(0.01)
            others = [asyncio.create_task(batcher(page_of(value))) for value in range(5)]
            await asyncio.sleep(0.05)
            assert batcher.num_waiting == 5
            release.set()
            await asyncio.gather(first, *others)
        return sizes

    assert asyncio.run(main()) == [1, 5]


def test_a_failure_is_told_to_its_batch_and_the_next_is_tried():
    def predict(pages: np.ndarray) -> np.ndarray:
        if 13 in pages:
            raise RuntimeError("unlucky")
        return mean_of(pages)

    async def main() -> None:
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(predict, 4, pool)
            with pytest.raises(RuntimeError, match="unlucky"):
                await batcher(page_of(13))
            assert (await batcher(page_of(12))).probability[0] == 12

    asyncio.run(main())


def test_who_has_gone_away_is_not_predicted():
    seen: list[int] = []
    release = threading.Event()

    def predict(pages: np.ndarray) -> np.ndarray:
        assert release.wait(5)
        seen.extend(pages[:, 0, 0, 0].tolist())
        return mean_of(pages)

    async def main() -> None:
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(predict, 8, pool)
            tasks = [asyncio.create_task(batcher(page_of(value))) for value in (1, 2, 3)]
            await asyncio.sleep(0.02)
            later = [asyncio.create_task(batcher(page_of(value))) for value in (4, 5)]
            await asyncio.sleep(0.02)
            later[0].cancel()
            await asyncio.sleep(0.02)
            release.set()
            await asyncio.gather(*tasks, later[1])

    asyncio.run(main())
    assert seen == [1, 2, 3, 5]
