"""Send pages to an endpoint as users would, and say how long they wait.

    python benchmarks/load.py URL PAGES --rate 30 --seconds 60 [--key KEY] [--json load.json] [--plot load.png]
    python benchmarks/load.py URL PAGES --in-flight 8          as many requests as the endpoint can take

URL is the whole address, such as http://127.0.0.1:8000/v1/predict?labels=AF; PAGES a file or folder of them.

--rate       open loop: requests are due at times fixed beforehand, whatever the endpoint does, and latency counts from
             the time a request was due. A server that stalls for a second thus delays all that were due meanwhile, as
             it would delay users; a loop that waits for answers would send fewer and not see it
--in-flight  closed loop: the next request follows an answer. For throughput at saturation; its latencies say little

Of a request sent again (--retries) latency counts to the answer that it ends with. Percentiles are of answers with a
status below 300; whatever else came is counted by status and code. The generator is one process on one core, and
reports its own CPU time and how late it sent: above some milliseconds it measures itself.
"""

import argparse
import asyncio
import json
import mimetypes
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path

import aiohttp

from vizecg.benchmarks.load_report import LoadPlan, LoadReport, Request, plot, report_of, show

SENT_AGAIN = frozenset((0, 429, 502, 503, 504))
"""Statuses after which a request may be sent again; 0 where there was no answer."""
LONGEST_WAIT_S = 5.0
AFTER_ERROR_S = 0.05
"""A closed loop does not hammer an endpoint that refuses."""

Bodies = list[tuple[str, bytes]]
OnAnswer = Callable[[int, int, bytes], None]
"""Told of every answer: the place of its page among the sorted files, the status, the body."""


class Sender:
    """Sends requests and notes what becomes of them."""

    def __init__(self, plan: LoadPlan, session: aiohttp.ClientSession, bodies: Bodies, on_answer: OnAnswer | None):
        self.plan, self.bodies = plan, bodies
        self.requests: list[Request] = []
        self._session, self._on_answer = session, on_answer
        self._begun = time.perf_counter()

    def now_s(self) -> float:
        return time.perf_counter() - self._begun

    async def open_loop(self) -> None:
        """All requests when they are due."""
        async with asyncio.TaskGroup() as group:
            for number, due_s in enumerate(self.plan.due_s().tolist()):
                if (wait_s := due_s - self.now_s()) > 0:
                    await asyncio.sleep(wait_s)
                group.create_task(self._send(number, due_s))

    async def closed_loop(self) -> None:
        """Always the same number of requests in flight."""
        numbers, end_s = count(), self.plan.warm_up_s + self.plan.seconds

        async def one_after_another() -> None:
            while self.now_s() < end_s:
                request = await self._send(next(numbers), self.now_s())
                await asyncio.sleep(0 if request.is_good else AFTER_ERROR_S)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.plan.in_flight or 0):
                group.create_task(one_after_another())

    async def _send(self, number: int, due_s: float) -> Request:
        request = Request(page=number % len(self.bodies), due_s=due_s, sent_s=self.now_s())
        self.requests.append(request)
        while True:
            request.tries += 1
            wait_s = await self._try(request)
            # HAProxy says 500, without a problem's code, where the replica has died that had the request in work.
            died = request.status == 500 and not request.code
            if not (died or request.status in SENT_AGAIN) or request.tries > self.plan.retries:
                break
            await asyncio.sleep(min(LONGEST_WAIT_S, wait_s if wait_s is not None else 0.1 * 2**request.tries))
        request.done_s = self.now_s()
        return request

    async def _try(self, request: Request) -> float | None:
        """Send it once; the seconds after which the endpoint wants it again, where it says so."""
        kind, body = self.bodies[request.page]
        try:
            async with self._session.post(self.plan.url, data=body, headers={"Content-Type": kind}) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            request.status, request.code = 0, type(error).__name__
            return None
        request.status, request.code = response.status, ""
        if response.status >= 300:
            with suppress(ValueError, AttributeError):
                request.code = str(json.loads(answer).get("code", ""))
        if self._on_answer is not None:
            self._on_answer(request.page, response.status, answer)
        with suppress(ValueError):
            return float(response.headers.get("Retry-After", ""))
        return None


async def send_load(plan: LoadPlan, on_answer: OnAnswer | None = None) -> LoadReport:
    """Send it from this event loop."""
    bodies = read_bodies(Path(plan.pages))
    headers = {"Authorization": f"Bearer {plan.key}"} if plan.key else {}
    timeout = aiohttp.ClientTimeout(total=plan.timeout_s)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers=headers, timeout=timeout
    ) as session:
        sender = Sender(plan, session, bodies, on_answer)
        cpu_s = time.process_time()
        await (sender.open_loop() if plan.rate_per_s is not None else sender.closed_loop())
        cpu_share = (time.process_time() - cpu_s) / sender.now_s()
    return report_of(plan, sender.requests, cpu_share)


def load_in_process(plan: LoadPlan) -> LoadReport:
    """The same in a process of its own, whose work is not the caller's. Raises CalledProcessError."""
    command = [sys.executable, __file__, "--plan-from-stdin"]
    told = subprocess.run(command, input=json.dumps(asdict(plan)), stdout=subprocess.PIPE, text=True, check=True)
    return LoadReport(**json.loads(told.stdout))


def read_bodies(pages: Path) -> Bodies:
    """Media type and bytes of every page, sorted by name. Raises SystemExit where there is none."""
    files = [pages] if pages.is_file() else sorted(path for path in pages.rglob("*") if path.is_file())
    kinds = [mimetypes.guess_type(file.name)[0] or "" for file in files]
    wanted = ("image/", "application/pdf", "application/dicom")
    bodies = [(kind, file.read_bytes()) for kind, file in zip(kinds, files, strict=True) if kind.startswith(wanted)]
    if not bodies:
        raise SystemExit(f"{pages} holds no pictures; give a folder with PNG, JPEG or PDF files")
    return bodies


def main() -> None:
    if sys.argv[1:] == ["--plan-from-stdin"]:
        print(json.dumps(asdict(asyncio.run(send_load(LoadPlan(**json.load(sys.stdin)))))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("pages")
    parser.add_argument("--rate", type=float, dest="rate_per_s", help="requests a second")
    parser.add_argument("--in-flight", type=int)
    parser.add_argument("--arrivals", choices=["poisson", "constant"], default=LoadPlan.arrivals)
    for name, meaning in (("seconds", "that count"), ("warm_up_s", "before them"), ("timeout_s", "of a request")):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(LoadPlan, name), help=meaning)
    parser.add_argument("--retries", type=int, default=0, help="of a request that got no answer, 429, 502, 503 or 504")
    parser.add_argument("--key", help="API key")
    parser.add_argument("--seed", type=int, default=0, help="of the arrivals")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--plot", type=Path, help="draw it here")
    options = vars(parser.parse_args())
    json_path, plot_path = options.pop("json"), options.pop("plot")
    try:
        plan = LoadPlan(**options)
    except ValueError as error:
        parser.error(str(error))
    report = asyncio.run(send_load(plan))
    show(report)
    if json_path is not None:
        json_path.write_text(json.dumps(asdict(report)))
    if plot_path is not None:
        plot(report, plot_path)


if __name__ == "__main__":
    main()
