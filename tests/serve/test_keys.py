"""API keys: what the file holds, who is admitted, how often, and what changes without a restart."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vizecg.platform.errors import UserError
from vizecg.serve.access import Access
from vizecg.serve.keys import KeyRing, add_key, check_keys, read_keys, remove_key
from vizecg.serve.problems import Refused


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def ring_of(path: Path, clock: Clock | None = None, errors: list[str] | None = None) -> KeyRing:
    return KeyRing(path, on_error=(errors if errors is not None else []).append, clock=clock or Clock())


def code_of(ring: KeyRing, secret: str | None) -> str:
    with pytest.raises(Refused) as caught:
        ring.admit(secret)
    return caught.value.code


def test_the_file_holds_hashes_and_only_its_owner_reads_it(tmp_path: Path):
    path = tmp_path / "keys.json"
    secret = add_key(path, "radiology")
    assert secret not in path.read_text()
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert [key.name for key in read_keys(path).keys] == ["radiology"]


def test_a_key_admits_and_nothing_else_does(tmp_path: Path):
    path = tmp_path / "keys.json"
    secrets = {name: add_key(path, name) for name in ("radiology", "research")}
    ring = ring_of(path)
    assert {name: ring.admit(secret).name for name, secret in secrets.items()} == {name: name for name in secrets}
    for wrong in (None, "", "vz_wrong", secrets["research"][:-1], read_keys(path).keys[0].sha256):
        assert code_of(ring, wrong) == "unauthorized"


def test_a_name_is_given_once_and_rotated_with_grace(tmp_path: Path):
    path = tmp_path / "keys.json"
    old = add_key(path, "radiology", requests_per_minute=60)
    with pytest.raises(UserError, match="rotate"):
        add_key(path, "radiology")
    new = add_key(path, "radiology", grace_hours=1)
    ring = ring_of(path)
    assert ring.admit(old).name == ring.admit(new).name == "radiology"
    assert ring.admit(new).requests_per_minute == 60
    newest = add_key(path, "radiology", grace_hours=0)
    ring = ring_of(path)
    assert code_of(ring, old) == code_of(ring, new) == "key_expired"
    assert ring.admit(newest)
    with pytest.raises(UserError, match="no valid key"):
        add_key(path, "nobody", grace_hours=1)


def test_an_expired_key_is_refused(tmp_path: Path):
    path = tmp_path / "keys.json"
    secret = add_key(path, "radiology", valid_days=1)
    assert ring_of(path).admit(secret)
    held = json.loads(path.read_text())
    held["keys"][0]["expires"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    path.write_text(json.dumps(held))
    assert code_of(ring_of(path), secret) == "key_expired"


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path):
    path, clock, errors = tmp_path / "keys.json", Clock(), []
    first = add_key(path, "first")
    ring = ring_of(path, clock, errors)
    second = add_key(path, "second")
    clock.now_s = 60
    assert ring.admit(second).name == "second"
    remove_key(path, "first")
    clock.now_s = 120
    assert code_of(ring, first) == "unauthorized"
    path.write_text("{")
    clock.now_s = 180
    assert ring.admit(second).name == "second"
    assert len(errors) == 1 and str(path) in errors[0]
    path.unlink()
    clock.now_s = 240
    assert ring.admit(second).name == "second"


def test_a_limit_holds_and_says_when_to_come_back(tmp_path: Path):
    path, clock = tmp_path / "keys.json", Clock()
    secret, other = add_key(path, "radiology", requests_per_minute=60), add_key(path, "free")
    ring = ring_of(path, clock)
    admitted = 0
    for tenth in range(1200):
        clock.now_s = tenth / 10
        try:
            ring.admit(secret)
            admitted += 1
        except Refused as refused:
            assert refused.status == 429 and 0 < (refused.retry_after_s or 0) <= 1
        ring.admit(other)
    assert 120 <= admitted <= 120 + 10, "one a second, and the burst at the beginning"


def test_replicas_share_a_limit(tmp_path: Path):
    path, clock = tmp_path / "keys.json", Clock()
    secret = add_key(path, "radiology", requests_per_minute=60)
    rings = [ring_of(path, clock) for _ in range(3)]
    for ring in rings:
        ring.num_replicas = 3
    admitted = 0
    for tenth in range(1200):
        clock.now_s = tenth / 10
        for ring in rings:
            try:
                ring.admit(secret)
                admitted += 1
            except Refused:
                pass
    assert 118 <= admitted <= 120 + 12


@pytest.mark.parametrize("content", ["", "[]", '{"keys": [{"name": "x"}]}', '{"keys": [], "more": 1}'])
def test_what_is_no_file_of_keys_is_one_sentence(tmp_path: Path, content: str):
    path = tmp_path / "keys.json"
    path.write_text(content)
    with pytest.raises(UserError, match="keys.json"):
        read_keys(path)


def test_a_missing_file_and_a_wrong_name_are_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="vizecg keys add"):
        read_keys(tmp_path / "none.json")
    with pytest.raises(UserError, match="a b"):
        add_key(tmp_path / "keys.json", "a b")
    add_key(tmp_path / "keys.json", "a")
    with pytest.raises(UserError, match="no key named"):
        remove_key(tmp_path / "keys.json", "b")


def test_no_endpoint_starts_that_nobody_could_use(tmp_path: Path):
    path = tmp_path / "keys.json"
    add_key(path, "a")
    check_keys(path)
    path.write_text(json.dumps({"keys": [json.loads(path.read_text())["keys"][0] | {"expires": "2020-01-01T00:00Z"}]}))
    with pytest.raises(UserError, match="keys.json holds no valid key.*vizecg keys add"):
        check_keys(path)
    remove_key(path, "a")
    with pytest.raises(UserError, match="keys.json holds no valid key.*vizecg keys add"):
        check_keys(path)


@pytest.mark.parametrize("client", ["127.0.0.1", "127.0.0.1:4711", "::1", "[::1]", "127.8.8.8"])
def test_without_keys_this_machine_is_answered(client: str):
    assert Access(None)({}, client) is None


@pytest.mark.parametrize("client", [None, "", "10.0.0.7", "192.0.2.1:80", "2001:db8::1", "testclient"])
def test_without_keys_no_other_is(client: str | None):
    with pytest.raises(Refused) as caught:
        Access(None)({"authorization": "Bearer x"}, client)
    assert caught.value.status == 401


@pytest.mark.parametrize("days", [0, -1.0])
def test_no_key_is_made_that_has_expired(tmp_path: Path, days: float):
    with pytest.raises(UserError, match="expired already"):
        add_key(tmp_path / "keys.json", "radiology", valid_days=days)
    assert not (tmp_path / "keys.json").exists()


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip"])
def test_without_keys_nobody_comes_through_a_proxy(header: str):
    with pytest.raises(Refused):
        Access(None)({header: "127.0.0.1"}, "127.0.0.1")


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "::1"])
def test_without_keys_this_machine_asks_for_itself(host: str):
    assert Access(None)({"host": host}, "127.0.0.1") is None


@pytest.mark.parametrize("host", ["ecg.example.org", "evil.example:8000", "192.0.2.7:8000", "127.0.0.1.evil.example"])
def test_without_keys_another_name_for_this_machine_opens_nothing(host: str):
    """A gateway that adds no header of its own, or a page elsewhere whose name was pointed here."""
    with pytest.raises(Refused, match="localhost"):
        Access(None)({"host": host}, "127.0.0.1")


def test_both_headers_bring_a_key(tmp_path: Path):
    path = tmp_path / "keys.json"
    secret = add_key(path, "radiology")
    access = Access(ring_of(path))
    assert access({"authorization": f"Bearer {secret}"}, "10.0.0.7") == "radiology"
    assert access({"authorization": f"bearer  {secret}"}, None) == "radiology"
    assert access({"x-api-key": secret}, "10.0.0.7") == "radiology"
    assert access({"x-api-key": secret, "authorization": "Bearer of-the-gateway"}, "10.0.0.7") == "radiology"
    with pytest.raises(Refused):
        access({"authorization": f"Basic {secret}"}, "127.0.0.1")
