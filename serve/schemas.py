"""What comes out of the application: over HTTP as these models, over gRPC as the messages of the same names."""

from typing import Literal

from pydantic import BaseModel, Field

NOTICE = "For research use only. Not a medical device; no basis for diagnosis or treatment."
SNOMED_URI = "http://snomed.info/sct"


class Code(BaseModel):
    """A code of a finding."""

    system: str = Field(description="URI of the code system.", examples=["http://snomed.info/sct"])
    code: str = Field(examples=["164889003"])


ThresholdSource = Literal["bundle", "endpoint"]
_THRESHOLD_SOURCE = (
    "`bundle`: chosen on validation data when the model was trained; `endpoint`: set by whoever runs the endpoint."
)


class LabelResult(BaseModel):
    """What the model says about one label."""

    key: str = Field(description="Stable name of the label within its label space.", examples=["AF"])
    name: str = Field(description="The label for people.", examples=["Atrial fibrillation"])
    probability: float = Field(ge=0, le=1, description="Calibrated where `calibrated` of the answer says so.")
    threshold: float = Field(ge=0, le=1)
    positive: bool = Field(description="Whether the probability reaches the threshold.")
    uncertain: bool = Field(description="So near to the threshold that the model had better not decide.")
    codes: list[Code] = Field(description="That mean this label, SNOMED CT first.")
    threshold_source: ThresholdSource = Field("bundle", description=_THRESHOLD_SOURCE)


class Finding(BaseModel):
    """A label that reaches its threshold, as a report would name it."""

    key: str = Field(examples=["AF"])
    display: str = Field(examples=["Atrial fibrillation"])
    code: Code | None = Field(description="SNOMED CT where the label has such a code.")
    probability: float = Field(ge=0, le=1)


class ModelInfo(BaseModel):
    """Which weights answered."""

    name: str = Field(description="Under which requests ask for it.", examples=["default"])
    architecture: str = Field(examples=["vizecgnet"])
    bundle_hash: str = Field(description="Content hash of the bundle: weights, labels, thresholds and preprocessing.")
    backend: str = Field(description="What computed the probabilities.", examples=["openvino-bf16"])
    canary: bool = Field(description="Whether it answers a share of the requests on trial.")


class Timing(BaseModel):
    """Where the time went, in milliseconds; the transfer of the request is not in it."""

    decode: float = Field(description="Decoding, checking and setting upright, with the wait for a free thread.")
    predict: float = Field(description="The batch in which the page was predicted, with the wait for it.")
    explain: float = Field(0.0, description="Explanations.")
    total: float


class PageWarning(BaseModel):
    """Why the reading of this page deserves less trust."""

    code: str = Field(description="Stable snake_case word.", examples=["blurred"])
    text: str = Field(description="One sentence for people.", examples=["The picture is blurred."])


class PageFacts(BaseModel):
    """What was seen of the page before the model read it."""

    number: int = Field(1, ge=1, description="Of the page within its document.")
    num_pages: int = Field(1, ge=1, description="Of the document.")
    width_px: int | None = Field(None, description="Of the picture as it was sent; null of a PDF.")
    height_px: int | None = None
    turned_deg: int = Field(description="How far the picture was turned clockwise to stand upright.", examples=[180])
    turn_is_clear: bool = Field(True, description="Whether one way up is clearly best.")
    ecg_score: float | None = Field(description="How much it looks like a page of a 12-lead ECG, 0 to 1.")
    layout: str | None = Field(None, description="Rows and columns of leads where they could be told, such as 3x4+1.")
    warnings: list[PageWarning] = []
    note: str | None = Field(None, description="What was rectified.")


class Explanation(BaseModel):
    """The page with what speaks for one label under a highlighter (Grad-CAM)."""

    key: str = Field(description="Of the label.")
    media_type: str = "image/png"
    image: str = Field(description="The picture, base64.")


class PageImage(BaseModel):
    """The page as the model saw it: upright, in its own size."""

    media_type: str = "image/png"
    image: str = Field(description="The picture, base64.")


class PredictResponse(BaseModel):
    """One page, read."""

    request_id: str = Field(description="The X-Request-ID of the request, or one made for it.")
    model: ModelInfo
    labels: list[LabelResult] = Field(description="In the order of the label space.")
    findings: list[Finding] = Field(description="Those that reach their thresholds, most probable first.")
    calibrated: bool
    page: PageFacts
    explanations: list[Explanation] = []
    page_image: PageImage | None = None
    timing_ms: Timing
    notice: str = NOTICE


class Problem(BaseModel):
    """An error as RFC 9457 has it, with a `code` that programs can rely on."""

    type: str = "about:blank"
    title: str = Field(description="The status in words.", examples=["Unsupported Media Type"])
    status: int = Field(examples=[415])
    code: str = Field(description="Stable snake_case word.", examples=["not_an_image"])
    detail: str = Field(description="One sentence for people.")
    request_id: str


class BatchItem(BaseModel):
    """One page of a batch: either its result or its problem."""

    index: int = Field(ge=0, description="Of the file in the request, from 0.")
    file_name: str | None = Field(description="As the request has it.")
    page: int = Field(ge=1, description="Within the file.")
    status: int = Field(examples=[200], description="What a request of its own would have been answered.")
    result: PredictResponse | None = None
    problem: Problem | None = None


class BatchResponse(BaseModel):
    """Every page of every file of a batch, in order."""

    request_id: str
    num_read: int
    num_refused: int
    items: list[BatchItem]
    notice: str = NOTICE


class ModelSummary(BaseModel):
    """A model that may be asked for."""

    name: str = Field(examples=["default"])
    architecture: str | None = Field(description="Null of a model that this replica has not loaded yet.")
    bundle_hash: str | None = None
    loaded: bool = Field(description="In the memory of the replica that answered.")
    canary_share: float = Field(0.0, description="Share of the default model's requests that this one answers.")


class ModelList(BaseModel):
    """All models of the endpoint."""

    models: list[ModelSummary]


class LabelFacts(BaseModel):
    """A label of a model."""

    key: str
    name: str
    codes: list[Code]
    threshold: float
    threshold_source: ThresholdSource = Field("bundle", description=_THRESHOLD_SOURCE)


class ModelCard(BaseModel):
    """What is known of a model."""

    model: ModelInfo
    labels: list[LabelFacts]
    page_width_px: int
    page_height_px: int
    calibrated: bool
    metrics: dict[str, float | None] = Field(description="On the validation split, at the thresholds of the bundle.")
    card: str = Field(description="MODEL_CARD.md of the bundle, Markdown.")
    notice: str = NOTICE


class Health(BaseModel):
    """Alive: the process answers. Ready: its model is loaded and has predicted once."""

    status: Literal["ok", "starting", "draining"] = "ok"
