"""Other people's servers around our predictor, as benchmarks start them: the same check, decoding, backend and batches.

    python benchmarks/serving_peers.py litserve BUNDLE [--port 8100] [--workers 2] [--threads 1] [--batch 8]
    python benchmarks/serving_peers.py bentoml BUNDLE ...

Both answer `POST /predict` with a picture as the body by its probabilities, and 422 where it shows no ECG.

The peer must be installed in the interpreter that runs it: `pip install litserve` or `pip install bentoml`, best in an
environment of its own that sees this project's, because both pin versions (`--python` or the variable
VIZECG_PEERS_PYTHON names its interpreter).
"""

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vizecg.platform.data.read_page import Reading

if TYPE_CHECKING:
    from vizecg.platform.predictor import PagePredictor

PEERS = {"litserve": "/health", "bentoml": "/readyz"}
"""Where each says that it is ready."""
LONGEST_START_S = 180.0
READING = Reading(quality=True)
"""What the endpoint does with every page."""


def load_predictor(bundle: str = "", num_threads: int = 0) -> "PagePredictor":
    """Of the bundle that the starter was told, in a worker of a peer; or of this one, with so many threads."""
    import cv2
    from threadpoolctl import threadpool_limits

    from vizecg.platform.backends.cache import compile_cached
    from vizecg.platform.predictor import PagePredictor

    cv2.setNumThreads(1)
    threadpool_limits(1, user_api="blas")
    # What a measurement before it chose: workers that compare backends beside each other may choose worse.
    facts, compiled = compile_cached(bundle or os.environ["PEER_BUNDLE"])
    return PagePredictor(facts, compiled.load(num_threads or int(os.environ["PEER_THREADS"])), compiled.name)


def start_peer(
    name: str, bundle: Path | str, *,
    port: int = 8100, workers: int = 2, threads: int = 1, batch: int = 8, python: str = "",
) -> tuple[subprocess.Popen[bytes], str]:  # fmt: skip
    """Start one of `PEERS` and wait until it answers: its process, and the address that takes pages.

    Args:
        workers: processes that decode and predict, each on so many `threads`.
        python: interpreter in which the peer is installed; that of VIZECG_PEERS_PYTHON, else ours, where not said.

    Raises SystemExit where it is not installed or does not start.
    """
    python = python or os.environ.get("VIZECG_PEERS_PYTHON") or sys.executable
    if subprocess.run([python, "-c", f"import {name}"], capture_output=True).returncode:
        raise SystemExit(f"{name} cannot be imported by {python}; install it there: pip install {name}")
    environment = os.environ | {
        "PEER_BUNDLE": str(Path(bundle).resolve()), "PEER_PORT": str(port), "PEER_WORKERS": str(workers),
        "PEER_THREADS": str(threads), "PEER_BATCH": str(batch), "OMP_NUM_THREADS": str(threads),
        "BENTOML_DO_NOT_TRACK": "true",
    }  # fmt: skip
    app = Path(__file__).with_name(f"peer_{name}.py")
    process = subprocess.Popen([python, str(app)], env=environment, start_new_session=True)
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}{PEERS[name]}", name)
    except BaseException:
        stop_peer(process)
        raise
    return process, f"http://127.0.0.1:{port}/predict"


@contextmanager
def running_peer(name: str, bundle: Path | str, cores: int, *, port: int = 8100) -> Iterator[str]:
    """The address of a peer that uses so many cores, as serving.py compares it.

    LitServe: a process on every core, each decoding and predicting. BentoML: one that decodes on threads and one that
    predicts, because its services are processes of their own already.
    """
    workers, threads = (cores, 1) if name == "litserve" else (1, cores)
    process, address = start_peer(name, bundle, port=port, workers=workers, threads=threads)
    try:
        yield address
    finally:
        stop_peer(process)


def stop_peer(process: subprocess.Popen[bytes]) -> None:
    """With all its workers."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, name: str) -> None:
    end_s = time.monotonic() + LONGEST_START_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise SystemExit(f"{name} did not start; what it wrote above says why")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=list(PEERS))
    parser.add_argument("bundle")
    for option, default in (("port", 8100), ("workers", 2), ("threads", 1), ("batch", 8)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--python", default="", help="interpreter in which the peer is installed")
    options = vars(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # else the peer would outlive us
    process, address = start_peer(options.pop("peer"), options.pop("bundle"), **options)
    print(f"ready: {address}; stop with Ctrl-C", flush=True)
    try:
        process.wait()
    finally:
        stop_peer(process)


if __name__ == "__main__":
    main()
