"""API keys: hashed in a file, rotated without a restart, each with a limit of its own.

A key is 256 random bits, so one round of SHA-256 is enough: nobody can guess what to try (a password would need a slow
hash). The file holds hashes alone; who reads it can make no request.
"""

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ..platform.errors import UserError
from ..platform.files import write_atomically
from .problems import Refused

PREFIX = "vz_"
_CHECK_EVERY_S = 2.0
_BURST_S = 10.0
"""How long a key may spend at once what it has not used: a tenth of a minute's requests and more come in bursts."""


class ApiKey(BaseModel):
    """One key of a name; a name may have several while it is rotated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    """Of whoever uses it; appears in logs and metrics."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: AwareDatetime
    expires: AwareDatetime | None = None
    requests_per_minute: int | None = Field(None, ge=1)
    """None sets no limit."""

    def is_valid(self, now: datetime) -> bool:
        return self.expires is None or now < self.expires


class KeyFile(BaseModel):
    """What the file holds."""

    model_config = ConfigDict(extra="forbid")

    keys: list[ApiKey] = []


def read_keys(path: Path | str) -> KeyFile:
    """Raises UserError where there is none, or it is no file of keys."""
    try:
        return KeyFile.model_validate_json(Path(path).read_text())
    except OSError as error:
        raise UserError(
            f"{path}: no file of API keys ({error.strerror}); `vizecg keys add {path} NAME` makes one"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; `vizecg keys` writes the one that is meant") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path}: {place}: {first['msg']}; `vizecg keys` writes this file") from None


def check_keys(path: Path | str) -> None:
    """Before `vizecg serve` starts what nobody could use; raises UserError as `read_keys`, and without a valid key."""
    now = datetime.now(UTC)
    if not any(key.is_valid(now) for key in read_keys(path).keys):
        raise UserError(f"{path} holds no valid key, so nobody could ask; `vizecg keys add {path} NAME` makes one")


def _write(path: Path, keys: list[ApiKey]) -> None:
    write_atomically(path, KeyFile(keys=keys).model_dump_json(indent=2) + "\n")
    os.chmod(path, 0o600)


def add_key(
    path: Path, name: str, *, requests_per_minute: int | None = None, valid_days: float | None = None,
    grace_hours: float | None = None,
) -> str:  # fmt: skip
    """A new key, which stands nowhere else; the file holds its hash.

    Args:
        grace_hours: rotate: older keys of that name stay valid for so long.

    Raises:
        UserError: the name is in use and nothing is rotated, or it has unusual characters.
    """
    if valid_days is not None and valid_days <= 0:
        raise UserError(f"a key that is valid for {valid_days:g} days would have expired already")
    now = datetime.now(UTC)
    keys = read_keys(path).keys if path.exists() else []
    if grace_hours is None and any(key.name == name and key.is_valid(now) for key in keys):
        raise UserError(f"{path} has a key named {name!r}; `vizecg keys rotate` replaces it, another name adds one")
    if grace_hours is not None:
        old = [key for key in keys if key.name == name and key.is_valid(now)]
        if not old:
            raise UserError(f"{path} has no valid key named {name!r}; `vizecg keys add` makes one")
        requests_per_minute = requests_per_minute or old[-1].requests_per_minute
        end = now + timedelta(hours=grace_hours)
        ended = {key.sha256: key.model_copy(update={"expires": min(end, key.expires or end)}) for key in old}
        keys = [ended.get(key.sha256, key) for key in keys]
    secret = PREFIX + secrets.token_urlsafe(32)
    expires = now + timedelta(days=valid_days) if valid_days is not None else None
    try:
        made = ApiKey(
            name=name, sha256=_hash(secret), created=now, expires=expires, requests_per_minute=requests_per_minute
        )
    except ValidationError as error:
        raise UserError(f"key {name!r}: {error.errors()[0]['msg']}") from None
    _write(path, [*keys, made])
    return secret


def remove_key(path: Path, name: str) -> int:
    """All keys of that name; how many. Raises UserError where there is none."""
    keys = read_keys(path).keys
    kept = [key for key in keys if key.name != name]
    if len(kept) == len(keys):
        raise UserError(f"{path} has no key named {name!r}")
    _write(path, kept)
    return len(keys) - len(kept)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyRing:
    """The keys of a file as they are now: who reads it again after it has changed needs no restart."""

    def __init__(
        self, path: Path | str, *, on_error: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ):
        """`on_error` hears of a file that became unreadable; the keys known before stay in force.

        Raises:
            UserError: as `read_keys`.
        """
        self._path, self._on_error, self._clock = Path(path), on_error, clock
        self._keys = read_keys(path).keys
        self._stamp, self._checked_at = self._now_stamp(), clock()
        self._buckets: dict[str, tuple[float, float]] = {}
        self.num_replicas = 1
        """Among which the limits are divided."""

    def _now_stamp(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        # A secret mounted by Kubernetes is a link that changes to another inode.
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _refresh(self) -> None:
        if self._clock() - self._checked_at < _CHECK_EVERY_S:
            return
        self._checked_at = self._clock()
        stamp = self._now_stamp()
        if stamp == self._stamp:
            return
        try:
            self._keys = read_keys(self._path).keys
        except UserError as error:
            self._on_error(str(error))
        self._stamp = stamp

    def admit(self, secret: str | None) -> ApiKey:
        """The key that a request brought; raises Refused without one, with a wrong or old one, and above its limit."""
        self._refresh()
        if not secret:
            raise Refused(
                401, "unauthorized", "This endpoint needs an API key: Authorization: Bearer KEY, or X-API-Key."
            )
        digest = _hash(secret)
        found = next((key for key in self._keys if hmac.compare_digest(key.sha256, digest)), None)
        if found is None:
            raise Refused(401, "unauthorized", "The API key is not known here.")
        if not found.is_valid(datetime.now(UTC)):
            raise Refused(401, "key_expired", "The API key has expired; ask for a new one.")
        self._take(found)
        return found

    def _take(self, key: ApiKey) -> None:
        """One request from its bucket (a token bucket, filled at the rate of its limit)."""
        if key.requests_per_minute is None:
            return
        rate = key.requests_per_minute / 60 / self.num_replicas
        room, now = max(1.0, rate * _BURST_S), self._clock()
        level, at = self._buckets.get(key.sha256, (room, now))
        level = min(room, level + (now - at) * rate)
        if level < 1:
            self._buckets[key.sha256] = level, now
            text = f"This key may make {key.requests_per_minute} requests a minute; try again later."
            raise Refused(429, "too_many_requests", text, retry_after_s=(1 - level) / rate)
        self._buckets[key.sha256] = level - 1, now
