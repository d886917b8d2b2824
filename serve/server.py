"""`vizecg serve`: the application on this machine, until Ctrl-C.

Clusters use serve.yaml or cluster/ray-service.predict.yaml instead.
"""

import io
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stdout
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from ..platform.errors import UserError
from ..platform.predictor import Predictor
from ..platform.ray_session import start_ray

APPLICATION = "vizecg"
READY_TIMEOUT_S = 60
REQUEST_TIMEOUT_S = 60


def serve_bundle(bundle: str, host: str = "127.0.0.1", port: int = 8000, num_replicas: int = 1) -> None:
    """Serve a bundle until SIGINT or SIGTERM.

    Args:
        bundle: folder of the model bundle.
        host: address to listen on; anything but loopback opens the endpoint to the network, without any key.
        port: 0 takes a free one.

    Raises:
        UserError: no bundle there, one that needs signals, or the port is taken.
    """
    with running_endpoint(bundle, host=host, port=port, num_replicas=num_replicas) as url:
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        print(_welcome(url, bundle), flush=True)
        stopped.wait()
        print("stopping", flush=True)


@contextmanager
def running_endpoint(bundle: str, *, host: str = "127.0.0.1", port: int = 0, **app_args: Any) -> Iterator[str]:
    """The application of `bundle` behind HTTP: yields its base URL once it answers, and stops it in the end.

    Args:
        port: 0 takes a free one.
        app_args: the other fields of `AppArgs`.

    Raises:
        UserError: no bundle there, one that needs signals, the port is taken, or Serve runs on this cluster already.
    """
    # Here its faults are one sentence; in a replica they would be a failed deployment.
    Predictor.load(bundle, needs_pages=True)
    port = _claim_port(host, port)
    start_ray(min_cpus=1 + int(app_args.get("num_replicas", 1)))
    # Not before: both import Ray, which takes seconds that a wrong argument should not cost.
    from ray import serve

    from .app import build
    from .schemas import AppArgs

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if serve.status().proxies:
        raise UserError("Ray Serve runs on this cluster already, and has one port; `serve shutdown` stops it")
    reached_at = "127.0.0.1" if host == "0.0.0.0" else host
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": host, "port": port, "request_timeout_s": REQUEST_TIMEOUT_S},
            logging_config={"log_level": "WARNING"},
        )
        serve.run(build(AppArgs(bundle=str(Path(bundle).absolute()), **app_args)), name=APPLICATION)
        _wait_until_ready(reached_at, port)
        yield f"http://{reached_at}:{port}"
    finally:
        _shut_down()


def _claim_port(host: str, port: int) -> int:
    with closing(socket.socket()) as probe:
        # As Serve binds it: a port that lingers from the last run is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port, 0 takes a free one"
            ) from None
        return int(probe.getsockname()[1])


def _wait_until_ready(host: str, port: int) -> None:
    """Serve reports the application running a moment before its proxy knows the route."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _answers(host, port):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the endpoint on {host}:{port} did not answer within {READY_TIMEOUT_S} s")
        time.sleep(0.05)


def _answers(host: str, port: int) -> bool:
    with closing(HTTPConnection(host, port, timeout=5)) as connection:
        try:
            connection.request("GET", "/healthz")
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


def _welcome(url: str, bundle: str) -> str:
    return f"""serving {bundle}
  page   {url}/
  API    curl --data-binary @page.png {url}/v1/predict
  docs   {url}/openapi.json
Ctrl-C stops it"""
