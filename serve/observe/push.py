"""What a replica has counted, told to the deployment that adds it up."""

import asyncio
import logging
import threading
import time
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from ..problems import Refused
from .metrics import ReplicaMetrics

_PUSH_EVERY_S = 2.0
_COLLECT_S = 10.0


class MetricsPusher:
    """Tells Metrics every two seconds what this replica has counted."""

    def __init__(self, hub: Any, metrics: ReplicaMetrics, on_num_replicas: Any = None):
        self._hub, self._metrics, self._on_num_replicas = hub, metrics, on_num_replicas
        context = serve.get_replica_context()
        self._names = context.deployment, context.replica_tag
        self._failed = False
        threading.Thread(target=self._run, daemon=True, name="metrics").start()

    async def collect(self) -> bytes:
        """Of all replicas; of this one up to now. Raises Refused while Metrics is started anew."""
        try:
            async with asyncio.timeout(_COLLECT_S):
                await self._hub.push.remote(*self._names, self._metrics.snapshot())
                return await self._hub.collect.remote()
        except (TimeoutError, RayError, RayServeException):
            raise Refused(503, "no_metrics", "What adds up the metrics does not answer; try again.") from None

    def _run(self) -> None:
        while True:
            time.sleep(_PUSH_EVERY_S)
            self._push()

    def _push(self) -> None:
        try:
            num_replicas = self._hub.push.remote(*self._names, self._metrics.snapshot()).result(timeout_s=10)
        except Exception as error:  # Whatever Serve raises while Metrics is started anew; counts are cumulative.
            if not self._failed:
                logging.getLogger("ray.serve").warning("metrics could not be added up: %s", error)
            self._failed = True
            return
        self._failed = False
        if self._on_num_replicas is not None:
            self._on_num_replicas(num_replicas)
