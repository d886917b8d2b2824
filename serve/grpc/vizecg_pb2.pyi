# Made from vizecg.proto by `make proto`, with grpcio-tools 1.74.0.
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictOptions(_message.Message):
    __slots__ = ("model", "labels", "explain", "page", "rectify", "page_image")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    RECTIFY_FIELD_NUMBER: _ClassVar[int]
    PAGE_IMAGE_FIELD_NUMBER: _ClassVar[int]
    model: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    explain: _containers.RepeatedScalarFieldContainer[str]
    page: int
    rectify: bool
    page_image: bool
    def __init__(self, model: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., explain: _Optional[_Iterable[str]] = ..., page: _Optional[int] = ..., rectify: bool = ..., page_image: bool = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("image", "options", "file_name")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    options: PredictOptions
    file_name: str
    def __init__(self, image: _Optional[bytes] = ..., options: _Optional[_Union[PredictOptions, _Mapping]] = ..., file_name: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetHealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Code(_message.Message):
    __slots__ = ("system", "code")
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    system: str
    code: str
    def __init__(self, system: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...

class LabelResult(_message.Message):
    __slots__ = ("key", "name", "probability", "threshold", "positive", "uncertain", "codes", "threshold_source")
    KEY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_FIELD_NUMBER: _ClassVar[int]
    UNCERTAIN_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_SOURCE_FIELD_NUMBER: _ClassVar[int]
    key: str
    name: str
    probability: float
    threshold: float
    positive: bool
    uncertain: bool
    codes: _containers.RepeatedCompositeFieldContainer[Code]
    threshold_source: str
    def __init__(self, key: _Optional[str] = ..., name: _Optional[str] = ..., probability: _Optional[float] = ..., threshold: _Optional[float] = ..., positive: bool = ..., uncertain: bool = ..., codes: _Optional[_Iterable[_Union[Code, _Mapping]]] = ..., threshold_source: _Optional[str] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("key", "display", "code", "probability")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    key: str
    display: str
    code: Code
    probability: float
    def __init__(self, key: _Optional[str] = ..., display: _Optional[str] = ..., code: _Optional[_Union[Code, _Mapping]] = ..., probability: _Optional[float] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "architecture", "bundle_hash", "backend", "canary")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    name: str
    architecture: str
    bundle_hash: str
    backend: str
    canary: bool
    def __init__(self, name: _Optional[str] = ..., architecture: _Optional[str] = ..., bundle_hash: _Optional[str] = ..., backend: _Optional[str] = ..., canary: bool = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("decode", "predict", "explain", "total")
    DECODE_FIELD_NUMBER: _ClassVar[int]
    PREDICT_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    decode: float
    predict: float
    explain: float
    total: float
    def __init__(self, decode: _Optional[float] = ..., predict: _Optional[float] = ..., explain: _Optional[float] = ..., total: _Optional[float] = ...) -> None: ...

class PageWarning(_message.Message):
    __slots__ = ("code", "text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: str
    text: str
    def __init__(self, code: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class PageFacts(_message.Message):
    __slots__ = ("number", "num_pages", "width_px", "height_px", "turned_deg", "turn_is_clear", "ecg_score", "layout", "warnings", "note")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NUM_PAGES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    TURNED_DEG_FIELD_NUMBER: _ClassVar[int]
    TURN_IS_CLEAR_FIELD_NUMBER: _ClassVar[int]
    ECG_SCORE_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    number: int
    num_pages: int
    width_px: int
    height_px: int
    turned_deg: int
    turn_is_clear: bool
    ecg_score: float
    layout: str
    warnings: _containers.RepeatedCompositeFieldContainer[PageWarning]
    note: str
    def __init__(self, number: _Optional[int] = ..., num_pages: _Optional[int] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ..., turned_deg: _Optional[int] = ..., turn_is_clear: bool = ..., ecg_score: _Optional[float] = ..., layout: _Optional[str] = ..., warnings: _Optional[_Iterable[_Union[PageWarning, _Mapping]]] = ..., note: _Optional[str] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("key", "media_type", "image")
    KEY_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    key: str
    media_type: str
    image: bytes
    def __init__(self, key: _Optional[str] = ..., media_type: _Optional[str] = ..., image: _Optional[bytes] = ...) -> None: ...

class PageImage(_message.Message):
    __slots__ = ("media_type", "image")
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    media_type: str
    image: bytes
    def __init__(self, media_type: _Optional[str] = ..., image: _Optional[bytes] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("request_id", "model", "labels", "findings", "calibrated", "page", "explanations", "page_image", "timing_ms", "notice")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    PAGE_IMAGE_FIELD_NUMBER: _ClassVar[int]
    TIMING_MS_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: ModelInfo
    labels: _containers.RepeatedCompositeFieldContainer[LabelResult]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    calibrated: bool
    page: PageFacts
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    page_image: PageImage
    timing_ms: Timing
    notice: str
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[_Union[ModelInfo, _Mapping]] = ..., labels: _Optional[_Iterable[_Union[LabelResult, _Mapping]]] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., calibrated: bool = ..., page: _Optional[_Union[PageFacts, _Mapping]] = ..., explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ..., page_image: _Optional[_Union[PageImage, _Mapping]] = ..., timing_ms: _Optional[_Union[Timing, _Mapping]] = ..., notice: _Optional[str] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("type", "title", "status", "code", "detail", "request_id")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    def __init__(self, type: _Optional[str] = ..., title: _Optional[str] = ..., status: _Optional[int] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class BatchItem(_message.Message):
    __slots__ = ("index", "file_name", "page", "status", "result", "problem")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    index: int
    file_name: str
    page: int
    status: int
    result: PredictResponse
    problem: Problem
    def __init__(self, index: _Optional[int] = ..., file_name: _Optional[str] = ..., page: _Optional[int] = ..., status: _Optional[int] = ..., result: _Optional[_Union[PredictResponse, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class ModelSummary(_message.Message):
    __slots__ = ("name", "architecture", "bundle_hash", "loaded", "canary_share")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    CANARY_SHARE_FIELD_NUMBER: _ClassVar[int]
    name: str
    architecture: str
    bundle_hash: str
    loaded: bool
    canary_share: float
    def __init__(self, name: _Optional[str] = ..., architecture: _Optional[str] = ..., bundle_hash: _Optional[str] = ..., loaded: bool = ..., canary_share: _Optional[float] = ...) -> None: ...

class ModelList(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelSummary]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelSummary, _Mapping]]] = ...) -> None: ...

class LabelFacts(_message.Message):
    __slots__ = ("key", "name", "codes", "threshold", "threshold_source")
    KEY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_SOURCE_FIELD_NUMBER: _ClassVar[int]
    key: str
    name: str
    codes: _containers.RepeatedCompositeFieldContainer[Code]
    threshold: float
    threshold_source: str
    def __init__(self, key: _Optional[str] = ..., name: _Optional[str] = ..., codes: _Optional[_Iterable[_Union[Code, _Mapping]]] = ..., threshold: _Optional[float] = ..., threshold_source: _Optional[str] = ...) -> None: ...

class ModelCard(_message.Message):
    __slots__ = ("model", "labels", "page_width_px", "page_height_px", "calibrated", "metrics", "card", "notice")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PAGE_WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    PAGE_HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    model: ModelInfo
    labels: _containers.RepeatedCompositeFieldContainer[LabelFacts]
    page_width_px: int
    page_height_px: int
    calibrated: bool
    metrics: _containers.ScalarMap[str, float]
    card: str
    notice: str
    def __init__(self, model: _Optional[_Union[ModelInfo, _Mapping]] = ..., labels: _Optional[_Iterable[_Union[LabelFacts, _Mapping]]] = ..., page_width_px: _Optional[int] = ..., page_height_px: _Optional[int] = ..., calibrated: bool = ..., metrics: _Optional[_Mapping[str, float]] = ..., card: _Optional[str] = ..., notice: _Optional[str] = ...) -> None: ...

class Health(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: str
    def __init__(self, status: _Optional[str] = ...) -> None: ...
