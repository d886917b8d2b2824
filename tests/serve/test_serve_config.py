"""serve.yaml against Serve's own schema and the application's arguments."""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    ServeApplicationSchema,
    ServeDeploySchema,
    gRPCOptionsSchema,
)

import vizecg
from vizecg.platform.errors import UserError
from vizecg.serve.access import HAPROXY
from vizecg.serve.app import DEPLOYMENT, build
from vizecg.serve.settings import AppArgs, LiveSettings


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load((Path(vizecg.__file__).parent / "serve" / "serve.yaml").read_text())


def test_serve_accepts_it(config: dict[str, Any]):
    ServeDeploySchema.model_validate(config)


def test_every_key_means_something(config: dict[str, Any]):
    # Serve's schema passes over keys that it does not know.
    (application,) = config["applications"]
    (deployment,) = application["deployments"]
    for values, schema in [
        (config, ServeDeploySchema),
        (config["http_options"], HTTPOptionsSchema),
        (config["grpc_options"], gRPCOptionsSchema),
        (config["logging_config"], LoggingConfig),
        (application, ServeApplicationSchema),
        (deployment, DeploymentSchema),
        (deployment["autoscaling_config"], AutoscalingConfig),
    ]:
        assert set(values) <= set(schema.model_fields)


def test_it_names_this_application_and_deployment(config: dict[str, Any]):
    (application,) = config["applications"]
    module, name = application["import_path"].split(":")
    assert getattr(importlib.import_module(module), name) is build
    assert inspect.signature(build).parameters["args"].annotation is AppArgs
    assert [deployment["name"] for deployment in application["deployments"]] == [DEPLOYMENT]


def test_a_replica_is_always_warm_and_may_hold_what_scaling_aims_at(config: dict[str, Any]):
    (application,) = config["applications"]
    args = AppArgs.model_validate(application["args"])
    scaling = application["deployments"][0]["autoscaling_config"]
    assert scaling["min_replicas"] >= 1
    assert scaling["target_ongoing_requests"] < args.max_ongoing_requests


def test_the_application_takes_its_limits_from_the_arguments():
    application = build(AppArgs(bundle="/somewhere", num_replicas=3, num_cpus=0.5))
    deployment = application._bound_deployment
    assert (deployment.name, deployment.num_replicas) == (DEPLOYMENT, 3)
    assert deployment.ray_actor_options["num_cpus"] == 0.5


def test_what_it_changes_live_is_known(config: dict[str, Any]):
    (application,) = config["applications"]
    LiveSettings.of(application["deployments"][0]["user_config"])


def test_its_grpc_service_is_there(config: dict[str, Any]):
    for name in config["grpc_options"]["grpc_servicer_functions"]:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))


def test_it_asks_for_keys_and_so_does_haproxy(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    (application,) = config["applications"]
    assert AppArgs.model_validate(application["args"]).keys_file
    monkeypatch.setenv(HAPROXY, "1")
    with pytest.raises(UserError, match="keys_file"):
        build(AppArgs(bundle="/somewhere"))


def test_a_gpu_gets_a_deployment_of_its_own():
    application = build(AppArgs(bundle="/somewhere", num_gpus=0.5, num_classifiers=2, max_batch_size=32))
    _, _, classifier = application._bound_deployment.init_args
    deployment = classifier._bound_deployment
    assert deployment.num_replicas == 2 and deployment.ray_actor_options["num_gpus"] == 0.5
    assert application._bound_deployment.ray_actor_options.get("num_gpus", 0) == 0
    assert deployment.max_ongoing_requests >= 2 * 32, "or batches never fill"


def test_live_settings_travel_as_json():
    settings = LiveSettings.of({"thresholds": {"default": {"AF": 0.4}}, "canary": {"bundle": "b", "share": 0.1}})
    assert LiveSettings.of(json.loads(settings.model_dump_json())) == settings
    for wrong in ({"threshold": {}}, {"thresholds": {"default": {"AF": 2}}}, {"canary": {"bundle": "b", "share": -1}}):
        with pytest.raises(ValueError, match="threshold|AF|share"):
            LiveSettings.of(wrong)


def test_an_unknown_argument_is_refused():
    with pytest.raises(ValueError, match="bundel"):
        AppArgs.model_validate({"bundel": "/somewhere"})
