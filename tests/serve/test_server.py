"""`vizecg serve` as a process, and its refusals."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray

from vizecg.platform.errors import UserError
from vizecg.serve.server import running_endpoint

COMMAND = """
import sys
from vizecg.serve.listening import Listening
from vizecg.serve.server import serve_bundle
serve_bundle(sys.argv[1], Listening(port=0))
"""


def test_a_taken_port_is_one_sentence(bundle_folder: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refusal = pytest.raises(UserError, match=rf"cannot listen on 127.0.0.1:{port} .*--port")
        with refusal, running_endpoint(str(bundle_folder), port=port):
            pass


def test_no_bundle_is_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="no model bundle"), running_endpoint(str(tmp_path)):
        pass


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"backend": "openvno"}, "no backend 'openvno' on cpu; there are auto, openvino-bf16"),
        ({"backend": "openvino-f32", "num_gpus": 1}, "no backend 'openvino-f32' on cuda"),
        ({"models": {"old": "/nowhere/bundle"}}, "/nowhere/bundle: no model bundle"),
    ],
)
def test_what_replicas_would_fail_of_is_one_sentence_before_any_starts(
    bundle_folder: Path, wrong: dict[str, Any], said: str
):
    with pytest.raises(UserError, match=said), running_endpoint(str(bundle_folder), **wrong):
        pass


def test_gpus_that_are_not_there_are_asked_for_in_vain(
    ray_cluster: None, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    wanted = 1 + ray.cluster_resources().get("GPU", 0)
    refusal = pytest.raises(UserError, match="GPUs and Ray finds")
    with refusal, running_endpoint(str(bundle_folder), num_gpus=wanted, num_cpus=0.1):
        pass


def test_the_command_says_where_it_listens_and_ends_on_sigterm(
    ray_cluster: None, bundle_folder: Path, pages: list[bytes]
):
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(bundle_folder)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        (url,) = re.findall(r"page +(http://127\.0\.0\.1:\d+)/", "".join(lines))
        assert httpx.post(f"{url}/v1/predict", content=pages[0], timeout=30).status_code == 200
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(60) == 0
    assert rest.strip() == "stopping"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")
