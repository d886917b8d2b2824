"""One run at a time in an OUT.

On a local disk the system holds a lock for as long as the process lives, so that it is free at once after a kill -9. An
object store knows no locks: there the run keeps a lease in OUT/run.lock, renewed three times in its life, and stops
where it finds another's. Clocks of the machines must agree to some seconds.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import IO
from uuid import uuid4

import pyarrow.fs as pafs

from ..errors import UserError
from ..storage import filesystem_of, write_whole

LOCK = "run.lock"
LEASE_S = 90.0
_SETTLE_S = 1.0


class Claim:
    """The right to write into an OUT."""

    def check(self) -> None:
        """UserError where another run has taken over. A lock of the system cannot be lost."""


@contextmanager
def claimed(out: str, lease_s: float = LEASE_S) -> Iterator[Claim]:
    """The only run that writes into `out`, until the block ends.

    Raises:
        UserError: another one does.
    """
    filesystem, path = filesystem_of(out)
    filesystem.create_dir(path, recursive=True)
    if isinstance(filesystem, pafs.LocalFileSystem):
        with _locked(path, out):
            yield Claim()
        return
    lease = Lease(filesystem, f"{path}/{LOCK}", out, lease_s)
    lease.take()
    try:
        yield lease
    finally:
        lease.give_back()


@contextmanager
def _locked(path: str, out: str) -> Iterator[None]:
    with open(os.path.join(path, LOCK), "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(out, _read(file)) from None
        file.truncate(0)
        json.dump(_who(), file)
        file.flush()
        yield


def _read(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        return dict(json.load(file))
    except ValueError:
        return {}


def _who() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _taken(out: str, who: dict[str, object]) -> UserError:
    where = f" (process {who['pid']} on {who['host']})" if "pid" in who else ""
    return UserError(f"{out}: another run writes there{where}; wait for its end, or choose another OUT")


class Lease(Claim):
    """A file that says who writes and until when."""

    def __init__(self, filesystem: pafs.FileSystem, path: str, out: str, lease_s: float):
        self._filesystem, self._path, self._out, self._lease_s = filesystem, path, out, lease_s
        self._me = uuid4().hex
        self._ended = Event()
        self._valid_until = 0.0
        self._is_lost = False
        self._renewing = Thread(target=self._renew, daemon=True, name="lease")

    def take(self) -> None:
        """UserError where it is another's."""
        found = self._found()
        if found and float(str(found["until"])) > time.time():
            raise _taken(self._out, found)
        self._write()
        # Where two take it at once, the last writer has it: the other one sees that after a moment.
        time.sleep(_SETTLE_S)
        self._look()
        self.check()
        self._renewing.start()

    def check(self) -> None:
        # As last seen: nobody takes a lease over before it has ended.
        if self._is_lost or time.time() > self._valid_until:
            raise UserError(
                f"{self._out}: this run could not renew its claim in time and another may write there now; "
                "the same command goes on once that one has ended"
            )

    def give_back(self) -> None:
        self._ended.set()
        if self._renewing.is_alive():
            self._renewing.join()
        with suppress(OSError):
            self._look()
            if not self._is_lost:
                self._filesystem.delete_file(self._path)

    def _renew(self) -> None:
        while not self._ended.wait(self._lease_s / 3):
            # An object store that fails now and then is asked again, for as long as the lease lasts.
            with suppress(OSError):
                self._look()
                if self._is_lost:
                    return
                self._write()

    def _look(self) -> None:
        found = self._found()
        self._is_lost = not found or found["run"] != self._me

    def _write(self) -> None:
        until = time.time() + self._lease_s
        content = {"run": self._me, "until": until, **_who()}
        write_whole(self._filesystem, self._path, json.dumps(content).encode())
        self._valid_until = until

    def _found(self) -> dict[str, object] | None:
        try:
            with self._filesystem.open_input_file(self._path) as file:
                return dict(json.loads(file.read()))
        except (FileNotFoundError, ValueError):
            return None
