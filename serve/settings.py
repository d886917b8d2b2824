"""What the application is told: once when it is built, and anew while it runs."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class AppArgs(BaseModel):
    """Arguments of `vizecg.serve.app:build`: the `args` of an application in a Serve config file."""

    model_config = ConfigDict(extra="forbid")

    bundle: str
    """Folder or URI of the model bundle that answers unless a request names another."""
    bundle_hash: str | None = None
    """Content hash that `bundle` must have, for a place whose files may change: another one there fails the start."""
    models: dict[Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")], str] = {}
    """Other bundles by the name under which requests ask for them; loaded when they are first asked for."""
    models_in_memory: int = Field(3, ge=1)
    """Bundles that a replica keeps loaded, the default one among them, and one more at least where there are others;
    the one not asked for longest goes first."""
    backend: str = "auto"
    """What predicts (platform/backends/choose.py): `auto` takes the fastest that agrees with torch in fp32."""
    keys_file: str | None = None
    """File with hashed API keys (`vizecg keys`). Without it only requests from this machine itself are answered."""

    max_batch_size: int = Field(8, ge=1, le=256)
    """Pages predicted at once; as many as wait are taken, and none waits for others."""
    num_decoders: int = Field(0, ge=0)
    """Threads of a replica that decode and check pages; 0 takes one more than `num_cpus`, because they wait for each
    other now and then."""
    num_threads: int = Field(0, ge=0)
    """Threads within one prediction; 0 takes as many as `num_cpus` says."""
    num_cpus: float = Field(1.0, gt=0)
    """CPUs that Ray reserves for a replica."""
    num_gpus: float = Field(0.0, ge=0)
    """GPU, or share of one, of every classifier; above 0 pages are decoded by replicas of their own in front."""
    num_classifiers: int = Field(1, ge=1)
    """Processes that predict where they are apart from those that decode."""
    split: bool = False
    """Decode and predict in processes of their own also without a GPU."""
    num_replicas: int = Field(1, ge=1)
    """Fixed number of replicas; `autoscaling_config` in a Serve config file takes its place."""
    autoscaling: dict[str, float] | None = None
    """Serve's AutoscalingConfig in place of a fixed number, for `vizecg serve`."""

    max_ongoing_requests: int = Field(64, ge=1)
    """Requests that a replica holds at once, in work and waiting; what comes on top is answered 503."""
    max_queued_requests: int = Field(1024, ge=-1)
    """Requests that wait in front of all replicas; -1 sets no limit."""
    max_body_bytes: int = Field(32 << 20, ge=1024)
    """Longest request body that is read."""
    max_pixels: int = Field(64_000_000, ge=10_000)
    """Largest picture that is decoded."""
    max_batch_pages: int = Field(64, ge=1)
    """Pages of one batch request."""
    max_upload_s: float = Field(30.0, gt=0)
    """Longest time in which a body, or the next file of a gRPC stream, must arrive: it holds a place meanwhile.
    A stream's runs anew once all its files are answered."""
    max_decode_s: float = Field(10.0, gt=0)
    """Longest time in which a page is decoded and checked; what takes longer is answered 422."""
    check_pages: bool = True
    """Refuse pictures that are no page of an ECG."""
    live: "LiveSettings" = Field(default_factory=lambda: LiveSettings())
    """What `user_config` of the deployment replaces while the application runs."""

    @property
    def other_models_in_memory(self) -> int:
        """Beside the default one."""
        return max(1, self.models_in_memory - 1)

    @property
    def predicting_threads(self) -> int:
        """As many as `num_threads` means."""
        return self.num_threads or max(1, round(self.num_cpus))

    @property
    def decoding_threads(self) -> int:
        """As many as `num_decoders` means."""
        return self.num_decoders or max(1, round(self.num_cpus)) + 1

    @model_validator(mode="after")
    def _names(self) -> "AppArgs":
        if DEFAULT_MODEL in self.models:
            raise ValueError(f"a model cannot be called {DEFAULT_MODEL!r}: that is the one of `bundle`")
        return self


DEFAULT_MODEL = "default"
"""The name of `AppArgs.bundle` among the models."""


class Canary(BaseModel):
    """A share of the requests for the default model that another bundle answers."""

    model_config = ConfigDict(extra="forbid")

    bundle: str
    """Folder or URI."""
    share: Share
    """Of requests, by their id: a request sent again is answered by the same bundle."""


class LiveSettings(BaseModel):
    """`user_config` of the deployment PageReader: changed without restarting a replica."""

    model_config = ConfigDict(extra="forbid")

    thresholds: dict[str, dict[str, Share]] = {}
    """By model and label key, in place of the bundle's."""
    canary: Canary | None = None

    @staticmethod
    def of(values: dict[str, Any] | None) -> "LiveSettings":
        """As Serve hands them over; nothing given is nothing changed."""
        return LiveSettings.model_validate(values or {})


AppArgs.model_rebuild()
