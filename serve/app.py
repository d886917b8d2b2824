"""The Serve application.

On a CPU one deployment decodes and predicts: a second costs more than it gives (15.6 ms of overhead a request against
9.3, Ray 2.60 with its default proxy, measured). With GPUs, decoding needs other machines than predicting: PageReader
decodes on CPUs in front of Classifier. Metrics adds up what all replicas count.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.config import BackpressureConfig
from ray.serve.exceptions import RayServeException

from ..platform.errors import UserError
from .access import Access, require_keys
from .api import create_api
from .batcher import Pages, Predicted
from .grpc.service import GrpcService
from .keys import KeyRing
from .live import LiveChanges
from .loading import Loads, LocalModels, RemoteModels
from .models import ModelShelf, ServedModel
from .observe.hub import MetricsHub
from .observe.metrics import ReplicaMetrics
from .observe.push import MetricsPusher
from .observe.traces import Tracer
from .observe.watch import RequestWatch
from .places import Places
from .replica import PageReplica
from .settings import DEFAULT_MODEL, AppArgs, Canary, LiveSettings

DEPLOYMENT = "PageReader"
CLASSIFIER = "Classifier"
METRICS = "Metrics"


def _log() -> logging.Logger:
    return logging.getLogger("ray.serve")


@serve.deployment(name=METRICS, num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
class Metrics:
    """The figures of all replicas, those gone included."""

    def __init__(self) -> None:
        self._hub = MetricsHub()
        self._accepted: dict[str, Any] | None = None

    def push(self, deployment: str, replica_id: str, snapshot: bytes) -> int:
        """Take what a replica has counted so far; how many replicas its deployment has now."""
        return self._hub.push(replica_id, snapshot, deployment)

    def accept(self, live_settings: dict[str, Any]) -> None:
        """Remember what replicas have in force, for those that start while `user_config` holds a mistake."""
        self._accepted = live_settings

    def accepted(self) -> dict[str, Any] | None:
        """None before the first."""
        return self._accepted

    def collect(self) -> bytes:
        """In Prometheus' text format."""
        return self._hub.collect()


@serve.deployment(name=CLASSIFIER)
class Classifier:
    """Predicts prepared pages in batches, mostly on a GPU."""

    def __init__(self, args: AppArgs, hub: Any):
        self._metrics = ReplicaMetrics()
        self._models = LocalModels(args, self._metrics)
        self._room = 1 + args.other_models_in_memory + 1  # The default model, and one on trial.
        self._kept: OrderedDict[str, ServedModel] = OrderedDict()
        self._loading = asyncio.Lock()
        self._loads = Loads(self._load)
        self._pusher = MetricsPusher(hub, self._metrics)

    async def load(self, name: str, location: str, bundle_hash: str) -> str:
        """The backend that predicts with the bundle of that hash; UserError where another one lies there now."""
        return (await self._model((name, location, bundle_hash))).backend

    async def predict(self, name: str, location: str, bundle_hash: str, page: Pages) -> Predicted:
        """A page (3, H, W); those that arrive together are predicted together."""
        return await (await self._model((name, location, bundle_hash))).predict(page)

    async def _model(self, which: tuple[str, str, str]) -> ServedModel:
        bundle_hash = which[-1]
        if bundle_hash not in self._kept:
            return await self._loads(which)
        self._kept.move_to_end(bundle_hash)
        return self._kept[bundle_hash]

    async def _load(self, which: tuple[str, str, str]) -> ServedModel:
        name, location, bundle_hash = which
        async with self._loading:
            model = await asyncio.to_thread(self._models.load, name, location)
            if model.bundle.content_hash != bundle_hash:
                raise UserError(f"{location}: the bundle has changed since it was deployed; deploy it anew")
            self._kept[bundle_hash] = model
            if len(self._kept) > self._room:
                self._kept.popitem(last=False)
            return model


@serve.deployment(name=DEPLOYMENT)
@serve.ingress()
class PageReader(GrpcService):
    """A replica that answers requests."""

    def __init__(self, args: AppArgs, hub: Any, classifier: Any = None):
        require_keys(args.keys_file)
        self._args = args
        self._metrics = ReplicaMetrics([DEFAULT_MODEL, *args.models])
        keys = KeyRing(args.keys_file, on_error=_log().error) if args.keys_file else None
        self._access = Access(keys)
        self._models = RemoteModels(classifier, self._metrics) if classifier else LocalModels(args, self._metrics)
        with ThreadPoolExecutor(1) as pool:  # On Serve's event loop no answer of a classifier can be waited for.
            default = pool.submit(self._models.load, DEFAULT_MODEL, args.bundle).result()
        if args.bundle_hash not in (None, found := default.bundle.content_hash):
            raise UserError(
                f"{args.bundle}: the bundle's hash is {found}, not {args.bundle_hash}, as `bundle_hash` asks"
            )
        self._shelf = ModelShelf(default, args.models, self._other_loader(), self._load_canary)
        self._pusher = MetricsPusher(hub, self._metrics, self._shared_by if keys else None)
        self._keys, self._hub = keys, hub
        # Metrics remembers what replicas have in force, for those that start while `user_config` holds a mistake.
        self._changes = LiveChanges(self._shelf, hub.accepted.remote, self._tell_settings, self._refuse_settings)
        tracer = Tracer.from_environment(replica=serve.get_replica_context().replica_tag)
        self._watch = RequestWatch(self._metrics, tracer)
        self._replica = PageReplica(args, self._shelf, self._metrics, self._pusher.collect, tracer)
        self._places = Places(args.max_ongoing_requests)
        super().__init__(self._replica, self._access, args, self._watch.around, self._places)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica after `__init__`."""
        return create_api(self._replica, self._args, self._access, self._watch.around, self._places)

    async def reconfigure(self, user_config: dict[str, Any] | None) -> None:
        """Thresholds and the bundle on trial, changed while requests are answered; called by Serve.

        A mistake fails the application's first start. Later, and in replicas that start later, the settings before it
        stay in force.
        """
        await self._changes.take(user_config)

    async def _tell_settings(self, settings: dict[str, Any]) -> None:
        try:
            await self._hub.accept.remote(settings)
        except (RayError, RayServeException) as error:
            _log().warning("%s could not be told of the settings in force: %s", METRICS, error)

    def _refuse_settings(self, error: Exception) -> None:
        self._metrics.settings_refused()
        _log().error("user_config was not taken, what was in force before stays: %s", error)

    def check_health(self) -> None:
        """Called by Serve; a replica that raises is replaced."""
        if self._replica.is_stuck:
            raise RuntimeError("every decoding thread is busy with a page that takes too long")

    def _other_loader(self) -> Callable[[str], Awaitable[ServedModel]]:
        @serve.multiplexed(max_num_models_per_replica=self._args.other_models_in_memory)
        async def load(name: str) -> ServedModel:
            return await asyncio.to_thread(self._models.load, name, self._args.models[name])

        # Serve makes room before it loads: for everyone who came and gave up waiting, if their calls ended with them.
        return Loads(load)  # pyrefly: ignore[bad-argument-type]

    def _load_canary(self, canary: Canary) -> ServedModel:
        return self._models.load(DEFAULT_MODEL, canary.bundle, is_canary=True)

    def _shared_by(self, num_replicas: int) -> None:
        assert self._keys is not None
        self._keys.num_replicas = max(1, num_replicas)


def build(args: AppArgs) -> Application:
    """The application for `serve.run`, and for `import_path: vizecg.serve.app:build` in a Serve config file.

    Raises:
        UserError: Serve is open to the network and no keys are asked for.
    """
    require_keys(args.keys_file)
    hub = Metrics.bind()  # pyrefly: ignore[missing-attribute]
    replicas: dict[str, Any] = (
        {"num_replicas": args.num_replicas} if args.autoscaling is None else {"autoscaling_config": args.autoscaling}
    )
    # What changes live must not be in the arguments: Serve restarts replicas whose arguments change.
    fixed = args.model_copy(update={"live": LiveSettings()})
    classifiers = [_classifier(fixed, hub)] if args.num_gpus or args.split else []
    return PageReader.options(  # pyrefly: ignore[missing-attribute]
        **replicas,
        # Serve answers what exceeds its own limit in plain text. It may hand over more than a replica takes, so that
        # the replica answers it, as JSON.
        max_ongoing_requests=2 * args.max_ongoing_requests,
        max_queued_requests=args.max_queued_requests,
        backpressure_config=BackpressureConfig(retry_after_s=1),
        ray_actor_options={"num_cpus": args.num_cpus},
        user_config=args.live.model_dump(),
    ).bind(fixed, hub, *classifiers)


def _classifier(args: AppArgs, hub: Any) -> Any:
    return Classifier.options(  # pyrefly: ignore[missing-attribute]
        num_replicas=args.num_classifiers,
        # Below it a batch could never fill.
        max_ongoing_requests=max(4 * args.max_batch_size, args.max_ongoing_requests),
        ray_actor_options={"num_cpus": args.num_cpus, "num_gpus": args.num_gpus},
    ).bind(args, hub)
