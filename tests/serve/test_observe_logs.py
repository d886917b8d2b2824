"""A request is one line of JSON under Serve's own formatter, with our fields and nothing of the client's choosing."""

import inspect
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray.serve.context
from ray.serve._private.common import ServeComponentType
from ray.serve._private.logging_utils import configure_component_logger
from ray.serve.schema import LoggingConfig

from vizecg.serve.observe.logs import LOGGER, log_request

FIELDS = {
    "request_id": "req-1", "protocol": "http", "method": "POST", "endpoint": "/v1/predict", "status": 415,
    "code": "not_an_image", "duration_ms": 12.346, "key": "ward-3", "bytes_in": 1234, "pages": 0, "model": "default",
    "bundle_hash": "ab" * 32, "trace_id": "0" * 31 + "1",
}  # fmt: skip


@pytest.fixture
def log_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As Serve sets up the logger of a replica with `encoding: JSON`."""
    logger = logging.getLogger(LOGGER)
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", logger.propagate)
    monkeypatch.setattr(logger, "level", logger.level)
    configure_component_logger(
        component_name="PageReader", component_id="r1", component_type=ServeComponentType.REPLICA,
        logging_config=LoggingConfig(encoding="JSON", logs_dir=str(tmp_path)), max_bytes=1 << 20, backup_count=1,
    )  # fmt: skip
    yield tmp_path
    for handler in logger.handlers:
        handler.close()


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in folder.glob("*.log") for line in path.read_text().splitlines()]


def test_a_line_is_json_with_the_fields(log_folder: Path):
    log_request(**FIELDS)
    (line,) = lines(log_folder)
    assert line | FIELDS | {"duration_ms": 12.35} == line
    assert line["message"] == "POST /v1/predict 415 not_an_image 12.3ms" and line["levelname"] == "INFO"
    assert set(inspect.signature(log_request).parameters) == FIELDS.keys() <= line.keys()
    # What else there is comes from the logger.
    assert (
        line.keys() - FIELDS.keys()
        == {"asctime", "levelname", "message", "filename", "lineno", "process", "timestamp_ns"} & line.keys()
    )


def test_the_id_is_ours_also_within_a_request_of_serve(log_folder: Path):
    """Serve takes over whatever the client sent as its id."""
    token = ray.serve.context._serve_request_context.set(
        ray.serve.context._RequestContext(request_id="Jane Doe, born 1950", route="/", app_name="vizecg")
    )
    try:
        log_request(**FIELDS)
        logging.getLogger(LOGGER).info("another")
    finally:
        ray.serve.context._serve_request_context.reset(token)
    ours, another = lines(log_folder)
    assert "Jane" not in json.dumps(ours) and ours["request_id"] == "req-1"
    assert another["request_id"] == "Jane Doe, born 1950", "Serve has changed, and log_request can be simplified"


@pytest.mark.parametrize(("status", "level"), [(200, "INFO"), (404, "INFO"), (503, "INFO"), (500, "ERROR")])
def test_only_faults_of_ours_are_errors(status: int, level: str, log_folder: Path):
    log_request(**FIELDS | {"status": status})
    (line,) = lines(log_folder)
    assert line["levelname"] == level


def test_text_encoding_reads_well(log_folder: Path, caplog: pytest.LogCaptureFixture):
    logging.getLogger(LOGGER).addHandler(caplog.handler)
    log_request(request_id="r", protocol="grpc", method="CALL", endpoint="Predict", status=200, duration_ms=8)
    assert caplog.messages == ["CALL Predict 200 8.0ms"]
