"""What goes into the application and what comes out of it over HTTP."""

from pydantic import BaseModel, ConfigDict, Field

NOTICE = "For research use only. Not a medical device; no basis for diagnosis or treatment."


class AppArgs(BaseModel):
    """Arguments of `vizecg.serve.app:build`: the `args` of an application in a Serve config file."""

    model_config = ConfigDict(extra="forbid")

    bundle: str
    """Folder of the model bundle, the same on every node that holds a replica."""
    num_replicas: int = Field(1, ge=1)
    """Fixed number of replicas; `autoscaling_config` in a Serve config file takes its place."""
    max_ongoing_requests: int = Field(32, ge=1)
    """Requests that a replica holds at once, in work and waiting; what comes on top is answered 503."""
    max_queued_requests: int = Field(1024, ge=-1)
    """Requests that wait in front of all replicas; -1 sets no limit."""
    num_workers: int = Field(2, ge=1)
    """Threads of a replica: one decodes a page while another predicts."""
    num_threads: int = Field(1, ge=1)
    """Torch threads within one prediction."""
    num_cpus: float = Field(1.0, gt=0)
    """CPUs that Ray reserves for a replica."""
    max_body_bytes: int = Field(32 << 20, ge=1024)
    """Longest request body that is read."""
    check_pages: bool = True
    """Refuse pictures that are no page of an ECG."""
    rectify: bool = False
    """Undo rotation, skew and perspective of photos; takes 30 to 50 ms a picture."""


class LabelResult(BaseModel):
    """What the model says about one label."""

    key: str = Field(description="Stable name of the label within its label space.", examples=["AF"])
    name: str = Field(description="The label for people.", examples=["Atrial fibrillation"])
    probability: float = Field(ge=0, le=1)
    threshold: float = Field(description="Chosen on the validation split; part of the bundle.")
    positive: bool = Field(description="Whether the probability reaches the threshold.")


class ModelInfo(BaseModel):
    """Which weights answered."""

    name: str = Field(examples=["vizecgnet"])
    bundle_hash: str = Field(description="Content hash of the bundle: weights, labels, thresholds and preprocessing.")


class Timing(BaseModel):
    """Where the time went, in milliseconds; waiting and transfer are not in it."""

    decode: float
    predict: float


class PageFacts(BaseModel):
    """What was seen of the page before the model read it."""

    turned_deg: int = Field(description="How far the picture was turned clockwise to stand upright.", examples=[180])
    ecg_score: float | None = Field(description="How much it looks like a page of a 12-lead ECG, 0 to 1.")
    note: str | None = Field(description="What was rectified.")


class PredictResponse(BaseModel):
    """One page, read."""

    labels: list[LabelResult] = Field(description="In the order of the label space.")
    page: PageFacts
    model: ModelInfo
    timing_ms: Timing
    request_id: str = Field(description="The X-Request-ID of the request, or one made for it.")
    notice: str = NOTICE


class Health(BaseModel):
    """A replica that answers has its model loaded and has predicted once."""

    status: str = "ok"
    model: ModelInfo


class Problem(BaseModel):
    """An error as RFC 9457 has it, with a `code` that programs can rely on."""

    type: str = "about:blank"
    title: str = Field(description="The status in words.", examples=["Unsupported Media Type"])
    status: int = Field(examples=[415])
    code: str = Field(description="Stable snake_case word.", examples=["not_an_image"])
    detail: str = Field(description="One sentence for people.")
    request_id: str
