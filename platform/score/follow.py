"""Where a run is: counts, rates and the predictors at work, from the rows as they come in."""

import time
from collections import Counter, deque

from ..errors import UserError
from .job import OnProgress, Progress
from .output import ScoreFiles

RECENT_S = 30.0
_SOON_S = 2.0
"""Chunks that come within it came together, and say nothing of a rate."""
MIN_PAGES_TO_JUDGE = 200
"""Before so many, or the end, nobody can say what share of an archive is bad."""


class Follower:
    """Tells `on_progress` where the run is, and stops it where too many pages are rejected."""

    def __init__(self, files: ScoreFiles, on_progress: OnProgress | None, max_rejected: float | None):
        self._files, self._max_rejected = files, max_rejected
        self._told = [on_progress] if on_progress else []
        self._started = time.monotonic()
        self._resumed_items, self._items = int(files.done.sum()), int(files.done.sum())
        self._recent: deque[tuple[float, int, int, str]] = deque()
        """(when, pages, items, worker) of the last chunks."""
        self.workers: Counter[str] = Counter()
        """Pages by worker, of this start."""

    def after(self, worker: str, num_pages: int, num_items: int) -> None:
        """A chunk has come in; UserError where too many pages were rejected."""
        self._items += num_items
        self.workers[worker] += num_pages
        now = time.monotonic()
        self._recent.append((now, num_pages, num_items, worker))
        while now - self._recent[0][0] > RECENT_S:
            self._recent.popleft()
        self.tell()
        self.judge(MIN_PAGES_TO_JUDGE)

    def tell(self) -> None:
        """Now, though nothing has come in."""
        progress = self.progress()
        for on_progress in self._told:
            on_progress(progress)

    def also(self, on_progress: OnProgress) -> None:
        """Tell it, too."""
        self._told.append(on_progress)

    def judge(self, min_pages: int = 1) -> None:
        """UserError where a greater share than allowed was rejected, and there are enough pages to say so."""
        pages, rejected = self._files.pages, self._files.reasons.total()
        if self._max_rejected is None or pages < min_pages or rejected <= self._max_rejected * pages:
            return
        reason, count = self._files.reasons.most_common(1)[0]
        raise UserError(
            f"{rejected:,} of {pages:,} pages ({rejected / pages:.0%}) were rejected, more than max_rejected "
            f"{self._max_rejected:.0%}; most often: {reason} ({count:,}). What was scored is kept; the same command "
            "with a higher limit goes on"
        )

    def progress(self) -> Progress:
        now, files = time.monotonic(), self._files
        num_items = len(files.done)
        waited_s = max(now - (self._recent[0][0] if self._recent else now), _SOON_S)
        # The first chunk of the window only says when it began.
        counted = list(self._recent)[1:]
        items_per_s = sum(entry[2] for entry in counted) / waited_s
        workers = {entry[3] for entry in self._recent}
        return Progress(
            pages=files.pages,
            scored=files.pages - files.reasons.total(),
            rejected=dict(sorted(files.reasons.items())),
            items=self._items,
            num_items=num_items,
            resumed_items=self._resumed_items,
            elapsed_s=now - self._started,
            pages_per_s=sum(entry[1] for entry in counted) / waited_s,
            items_per_s=items_per_s,
            eta_s=(num_items - self._items) / items_per_s if items_per_s else None,
            predictors=len(workers),
            nodes=len({worker.partition("/")[0] for worker in workers}),
        )
