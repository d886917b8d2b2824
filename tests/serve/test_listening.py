"""Where an endpoint listens, and that nobody is let in without a key by accident."""

from pathlib import Path

import pytest

from vizecg.platform.errors import UserError
from vizecg.platform.verbs.serving import _replicas
from vizecg.serve.listening import Listening


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_loopback_needs_no_key(host: str):
    Listening(host=host).check(has_keys=False)


@pytest.mark.parametrize(
    "listening",
    [
        Listening(host="0.0.0.0"), Listening(host="10.0.0.1"), Listening(host="ecg.example.org"), Listening(host="::"),
        Listening(haproxy=True), Listening(grpc_port=9000),
    ],
)  # fmt: skip
def test_whatever_others_can_reach_does(listening: Listening):
    with pytest.raises(UserError, match="vizecg keys add"):
        listening.check(has_keys=False)
    listening.check(has_keys=True)


def test_tls_is_whole_and_not_behind_haproxy(tmp_path: Path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.touch()
    with pytest.raises(UserError, match="--tls-key"):
        Listening(tls_certificate=certificate).check(has_keys=True)
    with pytest.raises(UserError, match=r"key\.pem: no such file"):
        Listening(tls_certificate=certificate, tls_key=key).check(has_keys=True)
    key.touch()
    with pytest.raises(UserError, match="HAProxy"):
        Listening(tls_certificate=certificate, tls_key=key, haproxy=True).check(has_keys=True)
    with pytest.raises(UserError, match="gRPC"):
        Listening(tls_certificate=certificate, tls_key=key, grpc_port=0).check(has_keys=True)
    options = Listening(tls_certificate=certificate, tls_key=key).http_options(8443)
    assert options == {
        "host": "127.0.0.1", "port": 8443, "ssl_certfile": str(certificate), "ssl_keyfile": str(key),
    }  # fmt: skip


def test_haproxy_is_set_up_before_ray_and_its_files_are_ours(monkeypatch: pytest.MonkeyPatch):
    import os

    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY", raising=False)
    with Listening(port=0, haproxy=True).claimed() as ports:
        assert ports.http and os.environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        place = Path(os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"])
        assert place.parent.stat().st_mode & 0o077 == 0
        assert len(str(place)) + 57 <= 97, "a node's id comes between"
    assert "RAY_SERVE_ENABLE_HA_PROXY" not in os.environ and not place.parent.exists()


def test_replicas_are_a_number_or_a_range():
    assert _replicas("3") == {"num_replicas": 3}
    assert _replicas("1:4")["autoscaling"]["max_replicas"] == 4
    for wrong in ("", "0", "x", "4:1", "1:", ":3", "1:2:3", "-1", "²"):
        with pytest.raises(UserError, match="--replicas"):
            _replicas(wrong)


@pytest.mark.parametrize(
    ("host", "in_address"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("ecg", "ecg")],
)  # fmt: skip
def test_an_address_of_ipv6_has_brackets(host: str, in_address: str):
    assert Listening(host=host).url_host == in_address
