"""serve.yaml against Serve's own schema and the application's arguments."""

import importlib
import inspect
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
)

import vizecg
from vizecg.serve.app import DEPLOYMENT, build
from vizecg.serve.schemas import AppArgs


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


def test_an_unknown_argument_is_refused():
    with pytest.raises(ValueError, match="bundel"):
        AppArgs.model_validate({"bundel": "/somewhere"})
