"""One call: what its metadata say, and how its client is told how it ended."""

from typing import TYPE_CHECKING
from urllib.parse import unquote

from grpc import StatusCode

from ..guard import Exchange, request_id_of
from ..problems import Refused, told_of
from ..schemas import PredictResponse

if TYPE_CHECKING:
    from ray.serve.grpc_util import RayServegRPCContext

_CODES = {
    401: StatusCode.UNAUTHENTICATED,
    404: StatusCode.NOT_FOUND,
    409: StatusCode.FAILED_PRECONDITION,
    429: StatusCode.RESOURCE_EXHAUSTED,
    500: StatusCode.INTERNAL,
    503: StatusCode.UNAVAILABLE,
}
"""By the status over HTTP; every other is INVALID_ARGUMENT."""


class Call:
    """What a replica has of a call: Serve hands over the metadata, and takes back the status with an answer.

    Attributes:
        headers: the metadata that are text; gRPC has their keys in lower case.
        client: address of the other side, without its port; None where it has none.
        exchange: what is told of the call once it has ended; until then it counts as given up by its client.
    """

    def __init__(self, context: "RayServegRPCContext", method: str):
        self._context = context
        self.headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self.client = _host(context.peer())
        self.exchange = Exchange(request_id_of(self.headers.get("x-request-id")), "grpc", method)
        self.exchange.route = f"/vizecg.v1.VizECG/{method}"
        self.exchange.status, self.exchange.code = 499, "cancelled"
        context.set_trailing_metadata([("x-request-id", self.request_id)])

    @property
    def request_id(self) -> str:
        """The client's where it is harmless to repeat, or a new one."""
        return self.exchange.request_id

    def note(self, answer: PredictResponse) -> None:
        """A page was read."""
        self.exchange.pages += 1
        self.exchange.model, self.exchange.bundle_hash = answer.model.name, answer.model.bundle_hash

    def succeed(self) -> None:
        self.exchange.status, self.exchange.code = 200, ""

    def refuse(self, error: Exception) -> Refused:
        """End with the status of an error. Raising it would cost the trailing metadata, and fill Serve's log."""
        refused = told_of(error, self.request_id)
        self.exchange.status, self.exchange.code = refused.status, refused.code
        trailing = [("x-request-id", self.request_id), ("vizecg-code", refused.code)]
        if refused.retry_after_s is not None:
            # Read by the retries that gRPC's own clients can be configured to make.
            trailing.append(("grpc-retry-pushback-ms", str(round(1e3 * refused.retry_after_s))))
        self._context.set_trailing_metadata(trailing)
        self._context.set_code(_CODES.get(refused.status, StatusCode.INVALID_ARGUMENT))
        self._context.set_details(refused.detail)
        return refused


def _host(peer: str) -> str | None:
    """Of `ipv4:127.0.0.1:80`, `ipv6:[::1]:80` and `ipv6:%5B::ffff:127.0.0.1%5D:80`."""
    kind, _, address = unquote(peer).partition(":")
    host = address.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
    return host if host and kind in ("ipv4", "ipv6") else None
