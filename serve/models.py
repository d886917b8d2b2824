"""The bundles that a replica answers with: the default one, those that requests name, and one on trial.

Shapes: K labels, H x W pixels.
"""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

from ..platform.bundle_facts import CARD, Bundle, read_values
from ..platform.errors import UserError
from ..platform.predictor import Predictor
from .batcher import Pages, Predicted
from .problems import Refused
from .schemas import SNOMED_URI, Code, ModelInfo, ModelList, ModelSummary, ThresholdSource
from .settings import DEFAULT_MODEL, Canary, LiveSettings

Predict = Callable[[Pages], Awaitable[Predicted]]
"""A prepared page (3, H, W) -> its calibrated probabilities."""

MAX_WAIT_S = 10.0
"""For a model that a request names and that is still being loaded: whoever waits holds a place."""
_SYSTEMS = {"snomed": SNOMED_URI, "scp": "urn:oid:1.0.11073.91064"}
"""URIs of code systems; that of SCP-ECG (EN 1064) stands for its statement codes."""


@dataclass(eq=False)
class ServedModel:
    """A bundle ready to answer."""

    name: str
    folder: Path
    bundle: Bundle
    backend: str
    predict: Predict
    is_canary: bool = False
    _explainer: Predictor | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(
            name=self.name,
            architecture=self.bundle.model.name,
            bundle_hash=self.bundle.content_hash,
            backend=self.backend,
            canary=self.is_canary,
        )

    @property
    def is_calibrated(self) -> bool:
        return bool(self.bundle.calibration.get(self.bundle.deployed_stream))

    @property
    def card(self) -> str:
        """MODEL_CARD.md; empty where the bundle has none."""
        path = self.folder / CARD
        return path.read_text() if path.is_file() else ""

    def explainer(self) -> Predictor:
        """The torch model, which can be looked into; loaded when first asked for, since most replicas never are.

        Raises:
            Refused: other weights lie there by now than those that answer.
        """
        with self._lock:
            if self._explainer is None:
                self._explainer = self._loaded_explainer()
            return self._explainer

    def _loaded_explainer(self) -> Predictor:
        with suppress(UserError):  # Where they are being replaced at this moment, or are gone.
            # First what is quick to read: whoever asks again should not cost a whole model every time.
            if read_values(self.folder)[1].content_hash == self.bundle.content_hash:
                found = Predictor.load(self.folder, needs_pages=True)
                if found.bundle.content_hash == self.bundle.content_hash:
                    return found
        text = f"Model {self.name!r} cannot be explained: its files were replaced after it was loaded."
        raise Refused(409, "bundle_replaced", text)

    def label_index(self, key: str) -> int:
        """Raises Refused where the model has no such label."""
        keys = self.bundle.label_space.keys
        if key not in keys:
            shown = ", ".join(keys[:20]) + (" ..." if len(keys) > 20 else "")
            raise Refused(404, "no_such_label", f"Model {self.name!r} has no label {key[:40]!r}; it has {shown}.")
        return keys.index(key)

    def codes(self, index: int) -> list[Code]:
        """Of a label, SNOMED CT first."""
        split = [code.partition(":") for code in self.bundle.label_space.labels[index].codes]
        known = [Code(system=_SYSTEMS[system], code=code) for system, _, code in split]
        return sorted(known, key=lambda code: code.system != SNOMED_URI)


class Threshold(NamedTuple):
    """Of one label."""

    value: float
    source: ThresholdSource


@dataclass(frozen=True)
class Live:
    """One state of what may change, swapped as a whole."""

    settings: LiveSettings
    canary: ServedModel | None = None

    def has(self, wanted: Canary | None) -> bool:
        """Whether its bundle on trial is the one that is wanted."""
        here = self.settings.canary
        return wanted is not None and here is not None and here.bundle == wanted.bundle


class ModelShelf:
    """Which model answers which request."""

    def __init__(
        self,
        default: ServedModel,
        others: dict[str, str],
        load_other: Callable[[str], Awaitable[ServedModel]],
        load_canary: Callable[[Canary], ServedModel],
    ):
        """`load_other` keeps what it has loaded, for as long as there is room."""
        self._default, self._others, self._load_other, self._load_canary = default, others, load_other, load_canary
        self._loaded: WeakValueDictionary[str, ServedModel] = WeakValueDictionary()
        self._live = Live(LiveSettings())

    @property
    def default(self) -> ServedModel:
        return self._default

    def has_to_load(self, settings: LiveSettings) -> bool:
        """Whether `prepared` takes as long as a bundle takes to load."""
        return settings.canary is not None and not self._live.has(settings.canary)

    def prepared(self, settings: LiveSettings, spare: Live | None = None) -> Live:
        """What `take` puts in force; on any thread. A bundle on trial that is in force, or in `spare`, is kept.

        Raises:
            UserError: a label or model that does not exist, or a bundle that cannot be served.
        """
        self.check(settings)
        if settings.canary is None:
            return Live(settings)
        having = [live for live in (self._live, spare) if live is not None and live.has(settings.canary)]
        canary = having[0].canary if having else self._load_canary(settings.canary)
        assert canary is not None
        if canary.bundle.label_space.keys != self._default.bundle.label_space.keys:
            raise UserError(f"canary {settings.canary.bundle}: its labels are not those of the default model")
        return Live(settings, canary)

    def take(self, live: Live) -> None:
        """From the next request on."""
        self._live = live

    def check(self, settings: LiveSettings) -> None:
        """All but the bundle on trial; raises UserError for a label or model that does not exist."""
        for name, thresholds in settings.thresholds.items():
            if name != DEFAULT_MODEL and name not in self._others:
                raise UserError(f"thresholds for model {name!r}, which is not served; there are {self._names}")
            known = self._default.bundle.label_space.keys if name == DEFAULT_MODEL else None
            unknown = [key for key in thresholds if known is not None and key not in known]
            if unknown:
                raise UserError(f"a threshold for label {unknown[0]!r}, which model {name!r} does not have")

    @property
    def _names(self) -> str:
        return ", ".join([DEFAULT_MODEL, *self._others])

    async def choose(self, name: str, request_id: str) -> ServedModel:
        """The model that answers a request; the same for every try of one request.

        Raises:
            Refused: no model of that name.
        """
        if name == DEFAULT_MODEL:
            live = self._live
            share = live.settings.canary.share if live.settings.canary else 0.0
            return live.canary if live.canary is not None and _lot(request_id) < share else self._default
        if name not in self._others:
            raise Refused(404, "no_such_model", f"There is no model {name[:40]!r}; there are {self._names}.")
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                model = self._loaded[name] = await self._load_other(name)
        except UserError as error:
            logging.getLogger("ray.serve").error("model %s cannot be loaded: %s", name, error)  # With its place.
            text = f"Model {name!r} cannot be loaded; the endpoint's log says why."
            raise Refused(503, "model_unavailable", text) from None
        except TimeoutError:
            text = f"Model {name!r} is being loaded; try again in a while."
            raise Refused(503, "model_loading", text, retry_after_s=MAX_WAIT_S) from None
        return model

    def thresholds(self, model: ServedModel) -> list[Threshold]:
        """In the order of the labels: the bundle's, with those of whoever runs the endpoint in their place."""
        own = self._live.settings.thresholds.get(model.name, {})
        return [
            Threshold(own[key], "endpoint") if key in own else Threshold(value, "bundle")
            for key, value in zip(model.bundle.label_space.keys, model.bundle.thresholds, strict=True)
        ]

    def listed(self) -> ModelList:
        """All that requests may name, and the one on trial."""
        live = self._live
        models = [_summary(self._default, 0.0)]
        if live.canary is not None and live.settings.canary is not None:
            models.append(_summary(live.canary, live.settings.canary.share))
        for name in self._others:
            known = self._loaded.get(name)
            models.append(_summary(known, 0.0) if known else ModelSummary(name=name, architecture=None, loaded=False))
        return ModelList(models=models)


def _summary(model: ServedModel, share: float) -> ModelSummary:
    info = model.info
    return ModelSummary(
        name=info.name, architecture=info.architecture, bundle_hash=info.bundle_hash, loaded=True, canary_share=share
    )


def _lot(request_id: str) -> float:
    """Evenly spread over 0 to 1, and always the same for one id."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:6], "big") / 2**48
