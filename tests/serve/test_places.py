"""How many requests a replica holds, and when the others are told to come back."""

import asyncio

import pytest

from vizecg.serve.places import Places
from vizecg.serve.problems import Refused


@pytest.mark.parametrize(("held_s", "wait_s"), [(0.0, 1.0), (4.0, 4.0), (60.0, 10.0)])
def test_who_finds_no_place_is_told_how_long_the_last_one_was_held(
    monkeypatch: pytest.MonkeyPatch, held_s: float, wait_s: float
):
    now_s = [0.0]
    monkeypatch.setattr("vizecg.serve.places.time.monotonic", lambda: now_s[0])

    async def ask() -> Refused:
        places = Places(1)
        async with places.take():
            now_s[0] += held_s
        async with places.take():
            with pytest.raises(Refused) as caught:
                await places.take().__aenter__()
        async with places.take():
            return caught.value

    refused = asyncio.run(ask())
    assert (refused.status, refused.code, refused.retry_after_s) == (503, "busy", wait_s)
    assert f"in {wait_s:.0f} s" in refused.detail


def test_a_place_is_given_back_whatever_happens():
    async def ask() -> None:
        places = Places(2)
        for _ in range(5):
            with pytest.raises(ValueError, match="broken"):
                async with places.take():
                    raise ValueError("broken")
        async with places.take(), places.take():
            pass

    asyncio.run(ask())
