"""One structured line for every request, with nothing of a patient in it: no file name, no query, no path as sent.

Serve's JSON formatter writes the fields beside the text of the line. Within a request Serve would also set
`request_id`, after us and to whatever the client sent, which need be no id at all. So its filters are told to skip the
line, and the fields by which Serve says where a line comes from are given here.
"""

import logging
from typing import Any

LOGGER = "ray.serve"
"""Of Serve: configured in every replica by `logging_config`."""


def log_request(
    *, request_id: str, protocol: str, method: str, endpoint: str, status: int, duration_ms: float, code: str = "",
    key: str = "", bytes_in: int = 0, pages: int = 0, model: str = "", bundle_hash: str = "", trace_id: str = "",
) -> None:  # fmt: skip
    """Log a request that was answered; as an error where the server failed.

    Args:
        endpoint: template of its route, such as `/v1/models/{name}`, or the gRPC method; never the path itself.
        code: of the Problem; empty where there is none.
        key: name of the API key; never the key.
        bytes_in: of the body, as far as it was read.
        pages: that were read.
        trace_id: of its `Span`, to find the trace by.
    """
    fields = {
        "request_id": request_id, "protocol": protocol, "method": method, "endpoint": endpoint, "status": status,
        "code": code, "duration_ms": round(duration_ms, 2), "key": key, "bytes_in": bytes_in, "pages": pages,
        "model": model, "bundle_hash": bundle_hash, "trace_id": trace_id, **_replica(),
    }  # fmt: skip
    # 503 is how a busy server answers: nothing to look into.
    level = logging.ERROR if status >= 500 and status != 503 else logging.INFO
    # One dictionary, which Serve flattens: no field can collide with one of the record's own.
    extra: dict[str, Any] = {"skip_context_filter": True, "ray_serve_extra_fields": fields}
    outcome = f"{status} {code}" if code else status
    logging.getLogger(LOGGER).log(level, "%s %s %s %.1fms", method, endpoint, outcome, duration_ms, extra=extra)


def _replica() -> dict[str, str]:
    """By the names that Serve gives them in its own lines; nothing outside of Serve."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        context = serve.get_replica_context()
    except RayServeException:
        return {}
    return {"application": context.app_name, "deployment": context.deployment, "replica": context.replica_tag}
