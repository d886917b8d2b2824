"""A configuration says what it means, and a mistake in it is one sentence that names the place."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vizecg.models.objectives import ObjectiveConfig
from vizecg.platform.config import TrainConfig, load_config, parse_config
from vizecg.platform.errors import UserError
from vizecg.platform.settings import merge_overrides, valid_keys

SHIPPED = Path(__file__).parents[2] / "tune_configs"


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        (tmp_path / "run.yaml").write_text(text)
        return tmp_path / "run.yaml"

    return write


def sentence_of(*arguments) -> str:
    with pytest.raises(UserError) as caught:
        load_config(*arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("epoch", "epochs"),
        ("batchsize", "batch_size"),
        ("optimizer.learnign_rate", "optimizer.learning_rate"),
        ("scaling.num_worker", "scaling.num_workers"),
        ("data.page_width", "data.page_width_px"),
        ("objective.lamda_kd", "objective.lambda_kd"),
        ("objective.head_weights.imgae", "objective.head_weights.image"),
        ("optimiser", "optimizer"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(write, key: str, nearest: str) -> None:
    nested: object = 1
    for part in reversed(key.split(".")):
        nested = {part: nested}
    for sentence in (sentence_of(write(yaml.safe_dump(nested))), sentence_of(None, [f"{key}=1"])):
        assert f"unknown key {key!r}; did you mean {nearest!r}?" in sentence


def test_a_key_like_no_other_is_named_alone() -> None:
    assert sentence_of(None, ["zzz=1"]) == "--set: unknown key 'zzz'"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epochs=0", "epochs = 0: Input should be greater than or equal to 1"),
        ("epochs=2.5", "epochs = 2.5"),
        ("epochs=many", "epochs = 'many'"),
        ("epochs=", "epochs = None"),
        ("seed=-1", "seed = -1"),
        ("batch_size=12", "batch_size = 12: 12 is no multiple of the 8 lanes"),
        ("batch_size=0", "batch_size = 0"),
        ("scaling.num_workers=65", "batch_size 64 has no record for some of 65 workers"),
        ("scaling.num_workers=0", "scaling.num_workers = 0"),
        ("scaling.use_gpu=perhaps", "scaling.use_gpu = 'perhaps'"),
        ("precision=fp8", "precision = 'fp8': Input should be 'fp32', 'bf16', 'fp16' or 'fp64'"),
        ("schedule.name=cosin", "schedule.name = 'cosin'"),
        ("schedule.warmup_fraction=1", "schedule.warmup_fraction = 1"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate = 0"),
        ("optimizer.learning_rate=.inf", "optimizer.learning_rate = inf: Input should be a finite number"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate = nan"),
        ("objective.head_weights.image=.nan", "objective.head_weights.image = nan"),
        ("objective.head_weights.image=-1", "objective.head_weights.image = -1"),
        ("objective.student=fused", "objective: student and teacher are both 'fused'"),
        ("metric=accuracy", "metric = 'accuracy': Input should be 'val_image_macro_auroc'"),
        ("ema_decay=1", "ema_decay = 1"),
        ("data.page_width_px=10", "data.page_width_px = 10"),
        ("model.options=3", "model.options = 3"),
        ("model=vizecgnet", "model = 'vizecgnet'"),
        ("epochs.more=3", "--set epochs.more=3: epochs is a value"),
        ("epochs", "--set epochs: expected key=value"),
        ("metric=@foo", "--set metric=@foo: the value is not YAML"),
        ("model.options.channels=[1,", "the value is not YAML"),
        ("=3", "unknown key ''"),
    ],
)
def test_a_bad_value_is_one_sentence(write, override: str, words: str) -> None:
    assert words in sentence_of(write("epochs: 3\n"), [override])


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("1e-3", 1e-3), ("1.5", 1.5), ("-2", -2), ("3", 3), ("true", True), ("false", False), ("null", None),
        ("[1, 2]", [1, 2]), ("{a: 1}", {"a": 1}), ("word", "word"), ("'7'", "7.0"), ("a=b", "a=b"), ("", None),
    ],
)  # fmt: skip
def test_overrides_of_every_type(override: str, value: object) -> None:
    # A quoted number is a number, too: a shell eats quotes, so they cannot carry a meaning.
    value = 7.0 if value == "7.0" else value

    assert merge_overrides({}, [f"model.options.key={override}"]) == {"model": {"options": {"key": value}}}


def test_overrides_go_over_the_file_and_leave_the_rest(write) -> None:
    path = write("epochs: 3\noptimizer: {name: sgd, learning_rate: 0.5}\ndata:\n")

    config = load_config(path, ["optimizer.learning_rate=1e-3", "data.window_rows=16", "epochs=4", "epochs=5"])

    assert (config.epochs, config.optimizer.name, config.optimizer.learning_rate) == (5, "sgd", 1e-3)
    assert config.data.window_rows == 16


def test_overrides_do_not_change_what_they_are_put_over() -> None:
    values = {"model": {"options": {"dim": 64}}}

    merge_overrides(values, ["model.options.dim=128", "epochs=1"])

    assert values == {"model": {"options": {"dim": 64}}}


@given(
    batch_size=st.integers(1, 32).map(lambda n: 8 * n),
    learning_rate=st.floats(1e-8, 10),
    options=st.dictionaries(
        st.sampled_from(["dim", "use_smam", "page_encoder"]), st.integers() | st.booleans() | st.text(max_size=5)
    ),
    head_weights=st.dictionaries(st.sampled_from(["image", "signal", "fused"]), st.floats(0, 10)),
    label_space=st.none() | st.sampled_from(["practice", "code6"]),
)
@settings(max_examples=50, deadline=None)
def test_round_trip(batch_size, learning_rate, options, head_weights, label_space) -> None:
    values = {
        "batch_size": batch_size, "optimizer": {"learning_rate": learning_rate}, "model": {"options": options},
        "objective": {"head_weights": head_weights}, "label_space": label_space,
    }  # fmt: skip
    config = parse_config(values, "test")

    text = yaml.safe_dump(config.model_dump(mode="json"))
    again = parse_config(yaml.safe_load(text), "test")

    assert again == config
    assert yaml.safe_dump(again.model_dump(mode="json")) == text
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


def test_not_a_configuration_file(tmp_path: Path, write) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00\x01")

    assert "no such file" in sentence_of(tmp_path / "none.yaml")
    assert "not a YAML file" in sentence_of(tmp_path)
    assert "not a YAML file" in sentence_of(tmp_path / "bytes.yaml")
    assert "not a YAML file" in sentence_of(write("a: [1\nb: }"))
    assert "found list" in sentence_of(write("- epochs\n- 3"))
    assert "found str" in sentence_of(write("epochs"))
    assert "found NoneType" in sentence_of(write("# nothing\n"))
    assert "Keys should be strings" in sentence_of(write("1: 2"))


def test_yaml_makes_no_objects(tmp_path: Path, write) -> None:
    made = tmp_path / "made"

    assert "not a YAML file" in sentence_of(write(f"epochs: !!python/object/apply:os.mkdir ['{made}']"))
    assert not made.exists()


def test_nothing_given_is_the_default() -> None:
    assert load_config() == TrainConfig()


def test_the_objective_is_checked_field_by_field() -> None:
    """The checked section and the dataclass of the models have the same fields and defaults."""
    assert TrainConfig().objective.build() == ObjectiveConfig()


def test_every_default_key_is_valid() -> None:
    keys = set(valid_keys(TrainConfig))

    assert {"model.name", "model.size", "scaling.num_workers", "epochs", "objective.head_weights.signal"} <= keys


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("vizecgnet*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path: Path) -> None:
    assert load_config(path).model.name == "vizecgnet"


def test_no_password_gets_into_results() -> None:
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD"):
        load_config(None, ["tracking.mlflow_uri=http://me:secret@host:5000"])
    assert load_config(None, ["tracking.mlflow_uri=http://host:5000"]).tracking.mlflow_uri == "http://host:5000"


def test_workers_are_a_number_or_a_range() -> None:
    scaling = load_config(None, ["scaling.num_workers=[2, 8]"]).scaling
    assert (scaling.min_workers, scaling.max_workers) == (2, 8)
    for wrong in ("0", "[3, 2]", "[0, 2]", "[1, 2, 3]"):
        with pytest.raises(UserError, match="scaling.num_workers"):
            load_config(None, [f"scaling.num_workers={wrong}"])
    with pytest.raises(UserError, match="batch_size 8"):
        load_config(None, ["batch_size=8", "scaling.num_workers=[2, 9]"])
