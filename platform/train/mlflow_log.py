"""A run in MLflow (extra `track`): its configuration as parameters, its epochs as metrics.

A tracking server that is slow or away costs training nothing: everything is sent from a thread, and what could not be
sent goes with the next epoch.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import TrainConfig
from ..errors import UserError
from ..files import write_atomically

MLFLOW = "mlflow.json"

MAX_PARAMS = 100
"""That MLflow takes at once."""
MAX_VALUE_LENGTH = 500
"""Of a parameter's value: what every version and database takes."""
MAX_REASON_LENGTH = 300
SQLITE = "sqlite:///"


@dataclass(frozen=True, kw_only=True)
class MlflowSettings:
    uri: str
    experiment_id: str
    params: dict[str, str]


def mlflow_settings(config: TrainConfig) -> MlflowSettings | None:
    """Where the configuration asks for a run to be logged; None where it does not. To be called by the driver.

    Raises:
        UserError: the package is missing, or the address is of no MLflow that answers.
    """
    uri, name = config.tracking.mlflow_uri, config.tracking.mlflow_experiment
    if uri is None:
        return None
    if uri.startswith(SQLITE):
        # Workers run in other folders.
        uri = SQLITE + str(Path(uri.removeprefix(SQLITE)).absolute())
    require_package(uri)
    try:
        client = _client(uri)
        experiment = client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    except _failure() as error:
        reason = " ".join(str(error).split())[:MAX_REASON_LENGTH]
        raise UserError(f"tracking.mlflow_uri = {uri!r}: no MLflow that can be written to ({reason})") from None
    return MlflowSettings(uri=uri, experiment_id=experiment_id, params=flattened(config.model_dump(mode="json")))


def flattened(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        deeper = isinstance(value, dict) and value
        flat |= flattened(value, f"{prefix}{key}.") if deeper else {f"{prefix}{key}": str(value)[:MAX_VALUE_LENGTH]}
    return flat


class MlflowLog:
    """One run. Started again in the same folder `out`, it goes on with the run it began there."""

    def __init__(self, out: Path, settings: MlflowSettings, run_name: str):
        self._place, self._settings, self._run_name = out / MLFLOW, settings, run_name
        self._run_id: str | None = None
        self._epochs_logged = 0
        self._unsent: list[tuple[int, dict[str, float]]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow")
        self._submit(self._send)

    def add(self, epoch: int, metrics: dict[str, float]) -> None:
        """The metrics of an epoch; one that an earlier start has logged is not logged again."""
        self._submit(lambda: self._send((epoch, metrics)))

    def close(self, finished: bool = True) -> None:
        self._submit(lambda: self._end("FINISHED" if finished else "KILLED"))
        self._thread.shutdown()

    def _submit(self, job: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                job()
            except _failure() as error:
                logging.getLogger("vizecg").warning("MLflow %s: %s", self._settings.uri, error)

        self._thread.submit(guarded)

    def _send(self, *rows: tuple[int, dict[str, float]]) -> None:
        from mlflow.entities import Metric

        self._unsent += rows
        client = _client(self._settings.uri)
        run_id = self._begin(client)
        while self._unsent:
            epoch, metrics = self._unsent[0]
            if epoch > self._epochs_logged:
                now_ms = int(time.time() * 1000)
                client.log_batch(
                    run_id, metrics=[Metric(name, value, now_ms, epoch) for name, value in metrics.items()]
                )
                self._epochs_logged = epoch
                self._remember()
            self._unsent.pop(0)

    def _begin(self, client: Any) -> str:
        """The run's id, once it is there."""
        if self._run_id is not None:
            return self._run_id
        known = json.loads(self._place.read_text()) if self._place.exists() else {}
        if known.get("uri") == self._settings.uri:
            client.update_run(known["run_id"], status="RUNNING")
            self._run_id, self._epochs_logged = str(known["run_id"]), int(known["epochs_logged"])
            return self._run_id
        self._run_id = str(client.create_run(self._settings.experiment_id, run_name=self._run_name).info.run_id)
        self._remember()
        self._log_params(client, self._run_id)
        return self._run_id

    def _log_params(self, client: Any, run_id: str) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in self._settings.params.items()]
        for start in range(0, len(params), MAX_PARAMS):
            client.log_batch(run_id, params=params[start : start + MAX_PARAMS])

    def _remember(self) -> None:
        facts = {"uri": self._settings.uri, "run_id": self._run_id, "epochs_logged": self._epochs_logged}
        write_atomically(self._place, json.dumps(facts))

    def _end(self, status: str) -> None:
        self._send()
        _client(self._settings.uri).set_terminated(self._run_id, status)


def require_package(uri: str) -> None:
    """UserError where MLflow is not installed."""
    try:
        import mlflow  # noqa: F401
    except ImportError:
        raise UserError(
            f"tracking.mlflow_uri = {uri!r} needs the package mlflow-skinny: "
            "install vizecg with its extra (pip install 'vizecg[track]'), or set tracking.mlflow_uri to null"
        ) from None


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    # MLflow would wait for minutes for a server that is away.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    return MlflowClient(tracking_uri=uri)


def _failure() -> type[Exception]:
    from mlflow.exceptions import MlflowException

    return MlflowException
