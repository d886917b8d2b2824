"""The load generator, against a small server whose times are known."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

import vizecg
from vizecg.benchmarks.load import send_load
from vizecg.benchmarks.load_report import LoadPlan, LoadReport, percentiles, plot

Handler = Callable[[web.Request], Awaitable[web.Response]]
SERVICE_S = 0.01


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"page %d" % number)
    (tmp_path / "notes.txt").write_text("no page")
    return tmp_path


def load(folder: Path, handler: Handler, while_serving: Callable[[str], Awaitable[object]] | None = None, **plan):
    """The report of a load on a server of one handler."""

    async def run() -> LoadReport:
        app = web.Application()
        app.router.add_post("/predict", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/predict"
        try:
            if while_serving is not None:
                await while_serving(url)
            return await send_load(LoadPlan(url=url, pages=str(folder), **{"warm_up_s": 0.3, "seconds": 1.5} | plan))
        finally:
            await runner.cleanup()

    return asyncio.run(run())


async def answer(request: web.Request) -> web.Response:
    await request.read()
    await asyncio.sleep(SERVICE_S)
    return web.json_response({})


def stalling(begin_s: float, stall_s: float) -> Handler:
    """Answers nothing between two times after the first request."""
    first: list[float] = []

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        now_s = asyncio.get_running_loop().time()
        first.append(now_s)
        since_s = now_s - first[0]
        await asyncio.sleep(begin_s + stall_s - since_s if begin_s <= since_s < begin_s + stall_s else 0.001)
        return web.json_response({})

    return handler


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_an_open_loop_sends_at_its_rate_and_measures_the_service_time(folder: Path, arrivals: str):
    report = load(folder, answer, rate_per_s=100, arrivals=arrivals)
    assert report.requests == report.answered == pytest.approx(150, abs=5 * 150**0.5) and report.errors == {}
    assert report.requests_per_s == pytest.approx(100, rel=0.35)
    assert 1000 * SERVICE_S <= report.latency_ms["p50"] < 1000 * SERVICE_S + 25
    assert report.latency_ms["p50"] <= report.latency_ms["p99"] <= report.latency_ms["max"]
    # Little's law: as many are in flight as arrive in a service time. A busy machine stands still at times: a median.
    assert np.median([number for _, number in report.in_flight]) < 10 and 0 < report.generator_cpu_share < 1.5


def test_poisson_arrivals_have_the_gaps_of_chance_and_the_seed_decides_them():
    plan = LoadPlan(url="", pages="", rate_per_s=50, seconds=200, seed=4)
    gaps_s = np.diff(plan.due_s())
    assert gaps_s.mean() == pytest.approx(1 / 50, rel=0.05) and gaps_s.std() == pytest.approx(1 / 50, rel=0.05)
    assert (plan.due_s() == LoadPlan(url="", pages="", rate_per_s=50, seconds=200, seed=4).due_s()).all()
    even = LoadPlan(url="", pages="", rate_per_s=50, seconds=200, arrivals="constant").due_s()
    assert np.ptp(np.diff(even)) < 1e-6 and even[-1] == pytest.approx(203, abs=0.1)


def test_a_stall_delays_all_requests_that_were_due_meanwhile(folder: Path):
    report = load(folder, stalling(1.0, 1.0), rate_per_s=50, arrivals="constant", seconds=4, warm_up_s=0.2)
    assert report.answered == report.requests == pytest.approx(200, abs=2)
    # Of 200 requests in 4 s, 50 were due while the server stood still; those due first waited for it longest.
    waits_ms = np.array([ms for _, ms in report.timeline])
    assert 40 <= (waits_ms > 100).sum() <= 80 and 20 <= (waits_ms > 500).sum() <= 40
    assert report.latency_ms["p99"] > 900 and report.latency_ms["p90"] > 400
    assert report.most_in_flight >= 20
    # A closed loop hides it: it waits, and sends nothing that could be late.
    closed = load(folder, stalling(1.0, 1.0), in_flight=1, seconds=4, warm_up_s=0.2)
    assert closed.latency_ms["max"] > 900 and closed.latency_ms["p99"] < 300


def test_a_late_generator_shows_in_the_latency(folder: Path):
    # The loop that sends stands still for 0.4 s: what was due then is late, whoever is to blame.
    async def block() -> None:
        await asyncio.sleep(0.8)
        __import__("time").sleep(0.4)

    async def later(_: str) -> None:
        tasks.append(asyncio.create_task(block()))

    tasks: list[asyncio.Task[None]] = []
    report = load(folder, answer, later, rate_per_s=50, arrivals="constant")
    assert report.sent_late_ms["max"] > 300 and report.latency_ms["max"] > 300


def test_a_closed_loop_keeps_so_many_in_flight(folder: Path):
    now, most = 0, 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return web.json_response({})

    report = load(folder, handler, in_flight=4)
    assert most == 4 and report.most_in_flight == 4
    # Little's law, because a busy machine takes longer than the 20 ms.
    mean_s = np.mean([ms for _, ms in report.timeline]) / 1000
    assert report.requests_per_s * mean_s == pytest.approx(4, rel=0.1) and report.requests_per_s <= 4 / 0.02


def test_pages_and_key_go_out_in_turn(folder: Path):
    seen: Counter[tuple[bytes, str, str]] = Counter()

    async def handler(request: web.Request) -> web.Response:
        seen[await request.read(), request.content_type, request.headers["Authorization"]] += 1
        return web.json_response({})

    report = load(folder, handler, rate_per_s=60, arrivals="constant", key="secret")
    assert set(seen) == {(b"page %d" % number, "image/png", "Bearer secret") for number in range(3)}
    assert max(seen.values()) - min(seen.values()) <= 1
    assert "secret" not in json.dumps(asdict(report))


def test_errors_are_counted_by_status_and_code_and_never_as_latency(folder: Path):
    async def handler(request: web.Request) -> web.Response:
        page = await request.read()
        if page == b"page 0":
            return web.json_response({"code": "busy"}, status=503)
        if page == b"page 1":
            assert request.transport is not None
            request.transport.close()
        await asyncio.sleep(0.05)
        return web.json_response({})

    report = load(folder, handler, rate_per_s=60, arrivals="constant")
    third = report.requests / 3
    assert report.errors["503 busy"] == pytest.approx(third, abs=1)
    assert report.errors["no answer: ServerDisconnectedError"] == pytest.approx(third, abs=1)
    assert report.answered == pytest.approx(third, abs=1) and report.retried == 0
    assert report.latency_ms["p50"] > 45


def test_requests_are_sent_again_only_where_asked_and_latency_counts_all_tries(folder: Path):
    tries: Counter[bytes] = Counter()

    async def handler(request: web.Request) -> web.Response:
        # By page, of which each comes again after 0.6 s alone: tries of one request are not taken for another's.
        tries[page := await request.read()] += 1
        return web.Response(status=429, headers={"Retry-After": "0.1"}) if tries[page] % 2 else web.json_response({})

    plan = {"rate_per_s": 5, "arrivals": "constant", "warm_up_s": 0}
    assert load(folder, handler, **plan).errors["429"] >= 3
    tries.clear()
    report = load(folder, handler, retries=1, **plan)
    assert report.errors == {} and report.retried == report.requests == 7
    assert report.latency_ms["p50"] >= 100


def test_what_takes_too_long_is_an_error(folder: Path):
    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.json_response({})

    report = load(folder, handler, rate_per_s=10, timeout_s=0.2, seconds=0.5, warm_up_s=0)
    assert report.answered == 0 and sum(report.errors.values()) == report.requests and report.latency_ms == {}
    assert all("Timeout" in error for error in report.errors)


def test_percentiles_are_measured_values():
    found = percentiles(list(range(1, 1001)))
    assert found == {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99.9": 999, "max": 1000}
    assert percentiles([]) == {}


def test_the_command_writes_report_and_plot(folder: Path, tmp_path: Path):
    async def command(url: str) -> None:
        script = str(Path(vizecg.__file__).parent / "benchmarks" / "load.py")
        arguments = ["--rate", "40", "--seconds", "1", "--warm-up-s", "0.2", "--json", str(tmp_path / "l.json")]
        arguments += ["--plot", str(tmp_path / "l.png")]
        process = await asyncio.create_subprocess_exec(
            sys.executable, script, url, str(folder), *arguments, stdout=subprocess.PIPE
        )
        told, _ = await process.communicate()
        assert process.returncode == 0 and b"requests answered" in told and b"p99.9" in told

    load(folder, answer, command, rate_per_s=5, seconds=0.2)
    report = LoadReport(**json.loads((tmp_path / "l.json").read_text()))
    assert report.answered == report.requests > 20
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")
    plot(report, tmp_path / "again.png")


@pytest.mark.parametrize("plan", [{}, {"rate_per_s": 1, "in_flight": 1}, {"rate_per_s": -1}, {"in_flight": 0}])
def test_a_plan_without_sense_is_refused(plan: dict[str, float]):
    with pytest.raises(ValueError, match="rate"):
        LoadPlan(url="", pages="", **plan)
