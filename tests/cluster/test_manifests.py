"""Every manifest against the fields that Kubernetes and KubeRay know, and against what this project says elsewhere."""

import importlib.metadata
import importlib.resources
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

import vizecg
from vizecg.platform.config import load_config

ROOT = Path(vizecg.__file__).parent
CLUSTER = ROOT / "cluster"
MANIFESTS = sorted(CLUSTER.glob("ray-*.yaml"))
GRPC_FILE = "service.grpc.yaml"
CLUSTER_FILE, JOB_FILE, SERVICE_FILE = "ray-cluster.vizecg.yaml", "ray-job.train.yaml", "ray-service.predict.yaml"
KUBERNETES = "kubernetes-json-schema/v1.33.0-local-strict/_definitions.json"
IMAGE = f"vizecg:{vizecg.__version__}-ray{ray.__version__}"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = yaml.safe_load((Path(__file__).parent / "kuberay.schema.yaml").read_text())
    kubernetes = importlib.resources.files("kubernetes_validate").joinpath(KUBERNETES).read_text()
    registry: Registry = Resource.from_contents(json.loads(kubernetes)) @ Registry()
    return Draft202012Validator(schema, registry=registry)


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / name).read_text())


def cluster_spec(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def groups(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    spec = cluster_spec(manifest)
    yield spec["headGroupSpec"]
    yield from spec["workerGroupSpecs"]


def containers(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for group in groups(manifest):
        yield from group["template"]["spec"]["containers"]


def test_the_three_kinds_are_there():
    assert {yaml.safe_load(path.read_text())["kind"] for path in MANIFESTS} == {"RayCluster", "RayJob", "RayService"}


@pytest.mark.parametrize("path", sorted(CLUSTER.glob("*.yaml")), ids=lambda path: path.name)
def test_manifest_has_known_fields_only(path: Path, validator: Draft202012Validator):
    validator.validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("name", "place", "key", "value"),
    [
        (CLUSTER_FILE, "spec", "enableInTreeAutoScaling", True),
        (CLUSTER_FILE, "spec.headGroupSpec", "rayStartParam", {}),
        (CLUSTER_FILE, "spec.headGroupSpec.rayStartParams", "num-cpus", 0),
        (CLUSTER_FILE, "spec.workerGroupSpecs.0", "maxReplica", 3),
        (CLUSTER_FILE, "spec.workerGroupSpecs.0", "maxReplicas", "3"),
        (CLUSTER_FILE, "spec.autoscalerOptions", "version", "v3"),
        (CLUSTER_FILE, "spec.workerGroupSpecs.0.template.spec", "volume", []),
        (CLUSTER_FILE, "spec.workerGroupSpecs.0.template.spec.containers.0", "imagePullpolicy", "Always"),
        (CLUSTER_FILE, "spec.workerGroupSpecs.0.template.spec.containers.0.resources", "limit", {}),
        (JOB_FILE, "spec", "ttlSecondsAfterFinish", 600),
        (JOB_FILE, "spec.rayClusterSpec", "rayversion", "2.60.0"),
        (SERVICE_FILE, "spec", "rayClusterSpec", {}),
        (SERVICE_FILE, "spec", "serveConfigV2", {"applications": []}),
        (GRPC_FILE, "spec", "selectors", {}),
    ],
)
def test_a_mistyped_key_or_value_is_refused(
    name: str, place: str, key: str, value: Any, validator: Draft202012Validator
):
    manifest = load(name)
    node: Any = manifest
    for part in place.split("."):
        node = node[int(part)] if part.isdigit() else node[part]
    node[key] = value
    with pytest.raises(ValidationError):
        validator.validate(manifest)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_one_image_and_one_ray_version_everywhere(path: Path):
    manifest = yaml.safe_load(path.read_text())
    assert {container["image"] for container in containers(manifest)} == {IMAGE}
    assert cluster_spec(manifest)["rayVersion"] == ray.__version__


def test_dockerfile_builds_that_image():
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    assert f"-t {IMAGE} " in dockerfile
    assert re.findall(r"ARG RAY_VERSION=(\S+)", dockerfile) == [ray.__version__]
    assert "--constraint /tmp/constraints.txt" in dockerfile
    (extras,) = re.findall(r"\.whl\)\[(\S+)\]", dockerfile)
    assert set(extras.split(",")) <= set(importlib.metadata.metadata("vizecg").get_all("Provides-Extra") or ())


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_pods_ask_for_what_they_may_use_and_the_head_runs_nothing(path: Path):
    manifest = yaml.safe_load(path.read_text())
    assert cluster_spec(manifest)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for container in containers(manifest):
        assert container["resources"]["requests"] == container["resources"]["limits"], container["name"]
    for group in groups(manifest):
        assert group.get("minReplicas", 0) <= group.get("replicas", 0) <= group.get("maxReplicas", 0)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_mount_has_its_volume(path: Path):
    for group in groups(yaml.safe_load(path.read_text())):
        pod = group["template"]["spec"]
        mounts = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_service_holds_serve_yaml():
    embedded = yaml.safe_load(load(SERVICE_FILE)["spec"]["serveConfigV2"])
    assert embedded == yaml.safe_load((ROOT / "serve" / "serve.yaml").read_text())


def ports(container: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def test_both_protocols_have_a_kubernetes_service():
    manifest = load(SERVICE_FILE)
    config = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    head, worker = groups(manifest)
    # KubeRay makes its Service only where the head has a port of this name, and for that port alone.
    assert ports(head["template"]["spec"]["containers"][0])["serve"] == config["http_options"]["port"]
    spec = load(GRPC_FILE)["spec"]
    (port,) = spec["ports"]
    exposed = ports(worker["template"]["spec"]["containers"][0])
    assert exposed[port["targetPort"]] == port["port"] == config["grpc_options"]["port"]
    selector = dict(spec["selector"])
    assert selector.pop("ray.io/serve") == "true"
    assert selector.items() <= worker["template"]["metadata"]["labels"].items()


def test_job_trains_on_workers_that_its_cluster_has():
    manifest = load(JOB_FILE)
    program, verb, shards, out, *options = shlex.split(manifest["spec"]["entrypoint"])
    overrides = [value for option, value in zip(options[::2], options[1::2], strict=True) if option == "--set"]
    config = load_config(overrides=overrides)
    gpu_group = next(group for group in groups(manifest) if group.get("groupName") == "gpu")
    assert (program, verb, shards, out) == ("vizecg", "train", "/data/shards", "/data/run")
    assert config.scaling.use_gpu
    assert config.scaling.num_workers == gpu_group["minReplicas"]


def test_service_serves_what_the_job_writes():
    job, service = load(JOB_FILE), load(SERVICE_FILE)
    out = shlex.split(job["spec"]["entrypoint"])[3]
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert application["args"]["bundle"] == f"{out}/bundle"
