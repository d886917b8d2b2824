"""Who may ask: whoever has a key, or, where there are no keys, this machine alone."""

import ipaddress
import os
from collections.abc import Mapping

from ..platform.errors import UserError
from .keys import KeyRing
from .problems import Refused

HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
"""Ray's switch. With it on, HAProxy and every replica listen on all addresses, whatever host is asked for."""


def haproxy_is_on() -> bool:
    return os.environ.get(HAPROXY) == "1"


def require_keys(keys_file: str | None) -> None:
    """UserError where Serve is open to the network and there are no keys."""
    if keys_file is None and haproxy_is_on():
        raise UserError(
            f"with {HAPROXY}=1 Ray Serve listens on every address of the machine, so `keys_file` must be set; "
            "`vizecg keys add FILE NAME` makes one"
        )


class Access:
    """Decides over requests of every protocol."""

    def __init__(self, keys: KeyRing | None):
        self._keys = keys

    def __call__(self, headers: Mapping[str, str], client: str | None) -> str | None:
        """The name of the key, None where none is needed; `headers` by names in lower case. Raises Refused."""
        if self._keys is not None:
            return self._keys.admit(_secret(headers)).name
        # A proxy in front would make everybody look like this machine, and what it says of others could be anybody's.
        # Of some that say nothing, and of a page elsewhere whose name was pointed here, the name asked for tells.
        forwarded = any(name in headers for name in ("x-forwarded-for", "forwarded", "x-real-ip"))
        if forwarded or client is None or not _is_loopback(client) or not _is_local_name(headers.get("host")):
            text = (
                "Without API keys this endpoint answers only its own machine, as localhost; `vizecg keys` makes some."
            )
            raise Refused(401, "unauthorized", text)
        return None


def _secret(headers: Mapping[str, str]) -> str | None:
    if key := headers.get("x-api-key"):
        return key  # First: a gateway's own token may stand in the other.
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _is_local_name(host: str | None) -> bool:
    """What a client of HTTP/1.1 asked for; gRPC's is not told."""
    return (
        host is None or host.partition(":")[0].lower() == "localhost" or _is_loopback(host.rpartition("]")[0] or host)
    )


def _is_loopback(client: str) -> bool:
    """An address with or without a port, as Serve tells it."""
    host = client.rsplit(":", 1)[0] if client.count(":") == 1 else client.strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
