"""Where a run is: counts, rates and the predictors at work, from the rows as they come in."""

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from ..errors import UserError
from .job import OnProgress, Progress
from .output import ScoreFiles
from .rows import READER_FAILED

RECENT_S = 30.0
MAX_FAILED_PAGES, MAX_FAILED_SHARE = 64, 0.05
"""Pages that may meet a fault of the program before the run stops: more than both."""
_CHUNKS_PER_WORKER = 3
SILENT_S = 180.0
_WATCH_EVERY_S = 5.0
_SOON_S = 2.0
"""Chunks that come within it came together, and say nothing of a rate."""
MIN_PAGES_TO_JUDGE = 200
"""Before so many, or the end, nobody can say what share of an archive is bad."""


class Follower:
    """Tells `on_progress` where the run is, and stops it where too many pages are rejected."""

    def __init__(self, files: ScoreFiles, on_progress: OnProgress | None, max_rejected: float | None):
        self._files, self._max_rejected = files, max_rejected
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._resumed_items, self._items = int(files.done.sum()), int(files.done.sum())
        self._recent: deque[tuple[float, int, int, str]] = deque()
        """(when, pages, items, worker) of the last chunks: of half a minute, and at least some of every worker."""
        self._is_window = False
        """Whether older chunks have gone from `_recent`: before that it goes back to the start."""
        self._has_warned = False
        self.workers: Counter[str] = Counter()
        """Pages by worker, of this start."""

    def after(self, worker: str, num_pages: int, num_items: int) -> None:
        """A chunk has come in; UserError where too many pages were rejected."""
        self._items += num_items
        self.workers[worker] += num_pages
        now = time.monotonic()
        self._recent.append((now, num_pages, num_items, worker))
        while now - self._recent[0][0] > RECENT_S and len(self._recent) > _CHUNKS_PER_WORKER * len(self.workers):
            self._recent.popleft()
            self._is_window = True
        if self._on_progress:
            self._on_progress(self.progress())
        self.judge(MIN_PAGES_TO_JUDGE)

    @contextmanager
    def watched(self, update: OnProgress) -> Iterator[None]:
        """While the block runs, tell `update` every few seconds, also when nothing comes; say so when that lasts."""
        ended = Event()

        def watch() -> None:
            update(self.progress())
            while not ended.wait(_WATCH_EVERY_S):
                update(self.progress())
                last = self._recent[-1][0] if self._recent else self._started
                if time.monotonic() - last > SILENT_S and not self._has_warned:
                    self._has_warned = True
                    print(
                        f"vizecg: nothing was scored for {SILENT_S:.0f} s; is there a node with room for a predictor?"
                    )

        watching = Thread(target=watch, daemon=True, name="watch")
        watching.start()
        try:
            yield
        finally:
            ended.set()
            watching.join()

    def judge(self, min_pages: int = 1) -> None:
        """UserError where a greater share than allowed was rejected, and there are enough pages to say so."""
        pages, rejected = self._files.pages, self._files.reasons.total()
        failed = self._files.reasons[READER_FAILED]
        if failed > max(MAX_FAILED_PAGES, MAX_FAILED_SHARE * pages):
            raise UserError(
                f"a fault of VizECG itself hit {failed:,} of {pages:,} pages (reason {READER_FAILED}; the column "
                "`error` says which); please report it. What was scored is kept"
            )
        if self._max_rejected is None or pages < min_pages or rejected <= self._max_rejected * pages:
            return
        reason, count = self._files.reasons.most_common(1)[0]
        raise UserError(
            f"{rejected:,} of {pages:,} pages ({rejected / pages:.0%}) were rejected, more than max_rejected "
            f"{self._max_rejected:.0%}; most often: {reason} ({count:,}). What was scored is kept; the same command "
            "with a higher limit goes on"
        )

    def progress(self) -> Progress:
        """As of now."""
        now, files = time.monotonic(), self._files
        num_items = len(files.done)
        pages_per_s, items_per_s = self._rates(now)
        workers = {worker for _, _, _, worker in list(self._recent) if worker}
        return Progress(
            pages=files.pages,
            scored=files.pages - files.reasons.total(),
            rejected=dict(sorted(files.reasons.items())),
            items=self._items,
            num_items=num_items,
            resumed_items=self._resumed_items,
            elapsed_s=now - self._started,
            pages_per_s=pages_per_s,
            items_per_s=items_per_s,
            eta_s=(num_items - self._items) / items_per_s if items_per_s else None,
            predictors=len(workers),
            nodes=len({worker.partition("/")[0] for worker in workers}),
        )

    def _rates(self, now: float) -> tuple[float, float]:
        """Pages and items a second: of the last chunks, or since the start where those are all."""
        recent = list(self._recent)
        if self._is_window:
            # The first chunk of the window only says when it began.
            since, counted = recent[0][0], recent[1:]
        else:
            since, counted = self._started, recent
        waited_s = max(now - since, _SOON_S)
        return sum(entry[1] for entry in counted) / waited_s, sum(entry[2] for entry in counted) / waited_s
