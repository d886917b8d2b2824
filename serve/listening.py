"""Where `vizecg serve` listens, what lies in front of it, and who may come without a key: this machine alone."""

import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..platform.errors import UserError
from .access import HAPROXY

_WILDCARD = "0.0.0.0"
_FIRST_REPLICA_PORT, _REPLICA_PORTS, _PORT_BLOCKS = 20_000, 100, 60
"""Below those that Linux gives to connections."""
MAX_GRPC_BYTES = 64 << 20
"""Of one message, either way: a picture at its limit, or an answer with all its explanations."""


@dataclass(frozen=True)
class Ports:
    """Free when they were looked at."""

    http: int
    grpc: int | None


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Addresses, ports and certificates."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    grpc_port: int | None = None
    """None leaves gRPC out, 0 takes a free port. Serve opens it on every address."""
    haproxy: bool = False
    """HAProxy in front, in C, in place of Ray's own proxy in Python: a request costs 2 ms where it was 9."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @property
    def tls(self) -> bool:
        return self.tls_certificate is not None

    @property
    def reached_at(self) -> str:
        """From this machine."""
        return {_WILDCARD: "127.0.0.1", "::": "::1"}.get(self.host, self.host)

    @property
    def url_host(self) -> str:
        """`reached_at` as it stands in an address."""
        return f"[{self.reached_at}]" if ":" in self.reached_at else self.reached_at

    @property
    def is_open(self) -> bool:
        """Whether others than this machine can reach it."""
        return self.haproxy or self.grpc_port is not None or not _is_loopback(self.host)

    def check(self, *, has_keys: bool) -> None:
        """Raises UserError for what does not go together."""
        if self.is_open and not has_keys:
            why = "with HAProxy" if self.haproxy else "with gRPC" if self.grpc_port is not None else f"on {self.host}"
            raise UserError(
                f"{why} the endpoint is open to other machines, so it needs API keys: "
                "`vizecg keys add keys.json NAME`, then --keys keys.json"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise UserError("TLS needs both --tls-certificate and --tls-key")
        if self.haproxy and self.tls:
            raise UserError("Ray's HAProxy speaks no TLS; leave out --haproxy, or let a gateway in front speak it")
        if self.grpc_port is not None and self.tls:
            raise UserError("Ray's gRPC port speaks no TLS; leave out --grpc-port, or let a gateway in front speak it")
        for file in (self.tls_certificate, self.tls_key):
            if file is not None and not file.is_file():
                raise UserError(f"{file}: no such file")

    def http_options(self, port: int) -> dict[str, Any]:
        """For `serve.start`."""
        options: dict[str, Any] = {"host": _WILDCARD if self.haproxy else self.host, "port": port}
        names = {"ssl_certfile": self.tls_certificate, "ssl_keyfile": self.tls_key}
        return options | {name: str(file.absolute()) for name, file in names.items() if file is not None}

    @contextmanager
    def claimed(self) -> Iterator[Ports]:
        """Ports that were free, and the surroundings of HAProxy; before Ray is started, whose processes inherit them.

        Raises:
            UserError: a port is taken.
        """
        with ExitStack() as stack:
            host = _WILDCARD if self.haproxy else self.host
            ports = Ports(
                claim_port(host, self.port, "--port"),
                claim_port(_WILDCARD, self.grpc_port, "--grpc-port") if self.grpc_port is not None else None,
            )
            # Each line would be written twice, and flushed: half of what a request costs beside its page.
            stack.enter_context(_environment({"RAY_SERVE_LOG_TO_STDERR": "0"}))
            if self.haproxy:
                stack.enter_context(_haproxy())
            if ports.grpc is not None:
                # Ray would take 2 GiB before any key is looked at.
                stack.enter_context(_environment({"RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(MAX_GRPC_BYTES)}))
            yield ports


@contextmanager
def _haproxy() -> Iterator[None]:
    """Ray keeps HAProxy's files in one folder of /tmp that all would share, its socket writable by everybody.

    Short names, wherever TMPDIR is: the id of the node comes below, and the path of a socket has 97 characters at most.
    """
    with tempfile.TemporaryDirectory(prefix="vz-", dir="/tmp") as folder:
        # A replica that dies frees its port, and HAProxy knows it for a moment longer: where another endpoint of this
        # machine drew from the same ports, it would get our requests. So each draws from a hundred of its own.
        first = _FIRST_REPLICA_PORT + _REPLICA_PORTS * (os.getpid() % _PORT_BLOCKS)
        blocks = {"HTTP": first, "GRPC": first + _REPLICA_PORTS * _PORT_BLOCKS}
        settings = {
            **{f"RAY_SERVE_DIRECT_INGRESS_MIN_{kind}_PORT": str(port) for kind, port in blocks.items()},
            **{
                f"RAY_SERVE_DIRECT_INGRESS_MAX_{kind}_PORT": str(port + _REPLICA_PORTS) for kind, port in blocks.items()
            },
            HAPROXY: "1",
            # On the replica's own loop: faster, and a gRPC stream is read no faster than it is answered.
            "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
            # A replica that goes stays open so long for balancers on other machines to hear of it; ours is on this one.
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",  # On a busy machine HAProxy takes more than 5.
            "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(claim_port(_WILDCARD, 0)),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(claim_port(_WILDCARD, 0)),
        }
        with _environment(settings):
            yield


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Read by Ray's processes when they start; what whoever calls has set himself stays, but for HAProxy's switch."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= {name: before[name] or value for name, value in settings.items() if name != HAPROXY}
    os.environ |= {name: value for name, value in settings.items() if name == HAPROXY}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def claim_port(host: str, port: int, option: str = "") -> int:
    """The port, or a free one for 0; UserError where it is taken."""
    with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        # As Serve binds it: a port that lingers from the last run is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another with {option}, 0 takes a free one"
            ) from None
        return int(probe.getsockname()[1])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
