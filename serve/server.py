"""`vizecg serve`: the application on this machine, until Ctrl-C.

Clusters use serve.yaml or cluster/ray-service.predict.yaml instead.
"""

import io
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from ..platform.backends.names import check_backend
from ..platform.bundle_facts import read_values
from ..platform.bundle_source import local_bundle
from ..platform.errors import UserError
from ..platform.predictor import Predictor
from ..platform.ray_session import start_ray
from .access import haproxy_is_on
from .keys import check_keys
from .listening import Listening

APPLICATION = "vizecg"
READY_TIMEOUT_S = 60
REQUEST_TIMEOUT_S = 60
_LOG = {"encoding": "JSON", "enable_access_log": False}
"""Requests have a line of ours, with more in it; Serve's own line of each would cost as much again."""
SERVICER = "vizecg.serve.grpc.vizecg_pb2_grpc.add_VizECGServicer_to_server"


@dataclass(frozen=True)
class Endpoint:
    """Where a running application answers."""

    url: str
    grpc_address: str | None


def serve_bundle(bundle: str, listening: Listening, **app_args: Any) -> None:
    """Serve a bundle until SIGINT or SIGTERM.

    Args:
        bundle: folder or URI of the model bundle.
        app_args: the other fields of `AppArgs`.

    Raises:
        UserError: no bundle there, one that needs signals, a port that is taken, or an endpoint open to others
            without keys.
    """
    with running_application(bundle, listening, **app_args) as endpoint:
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        print(_welcome(endpoint, bundle, needs_key=bool(app_args.get("keys_file"))), flush=True)
        stopped.wait()
        print("stopping", flush=True)


@contextmanager
def running_endpoint(bundle: str, *, host: str = "127.0.0.1", port: int = 0, **app_args: Any) -> Iterator[str]:
    """`running_application` over plain HTTP: yields its base URL."""
    with running_application(bundle, Listening(host=host, port=port), **app_args) as endpoint:
        yield endpoint.url


@contextmanager
def running_application(bundle: str, listening: Listening, **app_args: Any) -> Iterator[Endpoint]:
    """The application of `bundle`: yields where it is once it answers, and stops it in the end.

    Raises:
        UserError: as `serve_bundle`, or Serve runs on this cluster already.
    """
    listening.check(has_keys=bool(app_args.get("keys_file")))
    if app_args.get("keys_file"):
        app_args["keys_file"] = str(Path(app_args["keys_file"]).absolute())
        check_keys(app_args["keys_file"])
    # Here faults are one sentence; in a replica they would be a failed deployment.
    check_backend(app_args.get("backend", "auto"), "cuda" if app_args.get("num_gpus") else "cpu")
    Predictor.load(local_bundle(bundle), needs_pages=True)
    for other in app_args.get("models", {}).values():
        read_values(local_bundle(other))
    with listening.claimed() as ports:
        start_ray(min_cpus=1 + _places(app_args), min_gpus=_gpus(app_args))
        # Not before: both import Ray, which takes seconds that a wrong argument should not cost.
        from ray import serve

        from .app import build
        from .settings import AppArgs

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        if serve.status().proxies:
            raise UserError("Ray Serve runs on this cluster already, and has one port; `serve shutdown` stops it")
        try:
            serve.start(
                proxy_location="HeadOnly",
                http_options={**listening.http_options(ports.http), "request_timeout_s": REQUEST_TIMEOUT_S},
                grpc_options=None
                if ports.grpc is None
                else {
                    "port": ports.grpc,
                    "grpc_servicer_functions": [SERVICER],
                    "request_timeout_s": REQUEST_TIMEOUT_S,
                },
                logging_config={"log_level": "WARNING"},
            )
            serve.run(build(AppArgs(bundle=_absolute(bundle), **app_args)), name=APPLICATION, logging_config=_LOG)
            _wait_until_ready(listening, ports.http)
            host, scheme = listening.url_host, "https" if listening.tls else "http"
            grpc_address = f"{host}:{ports.grpc}" if ports.grpc is not None else None
            yield Endpoint(f"{scheme}://{host}:{ports.http}", grpc_address)
        finally:
            _shut_down()


def _places(app_args: dict[str, Any]) -> int:
    """Logical CPUs for all replicas there may be."""
    scaling = app_args.get("autoscaling") or {}
    most = int(scaling.get("max_replicas", app_args.get("num_replicas", 1)))
    predicting = int(app_args.get("num_classifiers", 1)) if app_args.get("num_gpus") or app_args.get("split") else 0
    return math.ceil((most + predicting) * float(app_args.get("num_cpus", 1)))


def _gpus(app_args: dict[str, Any]) -> float:
    return float(app_args.get("num_gpus", 0)) * int(app_args.get("num_classifiers", 1))


def _absolute(bundle: str) -> str:
    return bundle if "://" in bundle else str(Path(bundle).absolute())


def _wait_until_ready(listening: Listening, port: int) -> None:
    """Serve reports the application running a moment before its proxy knows the route."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _answers(listening, port):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the endpoint on port {port} did not answer within {READY_TIMEOUT_S} s")
        time.sleep(0.05)


def _answers(listening: Listening, port: int) -> bool:
    if listening.tls:
        import ssl

        # Its certificate may be of the hospital's own authority, or ask for a client's.
        context = ssl._create_unverified_context()
        connection: HTTPConnection = HTTPSConnection(listening.reached_at, port, timeout=5, context=context)
    else:
        connection = HTTPConnection(listening.reached_at, port, timeout=5)
    with closing(connection):
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False


def _shut_down() -> None:
    """Stop Serve, without the line on stdout by which Ray 2.60 reports its controller's wanted end as a failure."""
    from ray import serve

    with redirect_stdout(io.StringIO()) as printed:
        serve.shutdown()
    for line in printed.getvalue().splitlines():
        if "ServeController.graceful_shutdown failed" not in line:
            print(line)


def _welcome(endpoint: Endpoint, bundle: str, needs_key: bool) -> str:
    key = ' -H "X-API-Key: $KEY"' if needs_key else ""
    lines = [
        f"serving {bundle}" + (" behind HAProxy" if haproxy_is_on() else ""),
        f"  page   {endpoint.url}/",
        f"  API    curl{key} --data-binary @page.png {endpoint.url}/v1/predict",
        *([f"  gRPC   {endpoint.grpc_address}, service vizecg.v1.VizECG"] if endpoint.grpc_address else []),
        f"  docs   {endpoint.url}/openapi.json",
        f"  health {endpoint.url}/readyz, figures {endpoint.url}/metrics",
        "Ctrl-C stops it",
    ]
    return "\n".join(lines)
