"""What a trial holds of the cluster, and how many of them the cluster holds at once."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..config import TrainConfig
from ..errors import UserError
from .config import SearchConfig

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Need:
    """Of one trial: logical CPUs and GPUs, of which each worker has its equal part."""

    workers: int
    cpus: float
    gpus: float

    @property
    def devices(self) -> float:
        """What its hours are counted in."""
        return self.gpus or self.workers

    def fit_into(self, resources: dict[str, float]) -> int:
        """Trials of one worker, or workers of greater ones, that these resources hold."""
        fits = [int(resources.get("CPU", 0.0) * self.workers / self.cpus + _ROUNDING)]
        if self.gpus:
            per_worker, held = self.gpus / self.workers, int(resources.get("GPU", 0.0))
            # Ray puts parts of a GPU on one GPU, not across two.
            fits.append(held * int(1 / per_worker + _ROUNDING) if per_worker < 1 else int(held / per_worker))
        return min(fits)


def need_of(config: TrainConfig, gpus_per_trial: float) -> Need:
    """What a trial of this configuration holds. A trial reads its shards itself, so that is all it needs."""
    scaling = config.scaling
    workers = scaling.min_workers
    gpus = 0.0 if not scaling.use_gpu else gpus_per_trial if workers == 1 else float(workers)
    return Need(workers, float(workers), gpus)


def greatest_need(search: SearchConfig, configs: Sequence[TrainConfig]) -> Need:
    """Of any trial of the space."""
    return max((need_of(config, search.gpus_per_trial) for config in configs), key=lambda need: (need.gpus, need.cpus))


def trials_at_once(nodes: dict[str, dict[str, float]], need: Need, search: SearchConfig) -> int:
    """How many trials run beside each other.

    Raises:
        UserError: not even one would run.
    """
    held = sum(need.fit_into(resources) for resources in nodes.values()) // need.workers
    if search.max_concurrent is not None and ("RAY_ADDRESS" in os.environ or held):
        # Whoever says so may know of an autoscaler that adds nodes.
        return search.max_concurrent if "RAY_ADDRESS" in os.environ else min(search.max_concurrent, held)
    if held:
        return held
    total = {name: sum(resources.get(name, 0.0) for resources in nodes.values()) for name in ("CPU", "GPU")}
    raise UserError(
        f"a trial needs {need.cpus:g} CPUs and {need.gpus:g} GPUs and this cluster has {total['CPU']:g} and "
        f"{total['GPU']:g}: no trial could start; lower base.scaling.num_workers or unset base.scaling.use_gpu, or, "
        "where an autoscaler adds nodes, say max_concurrent"
    )


def devices_of(nodes: dict[str, dict[str, float]], need: Need) -> dict[str, float]:
    """Devices that trials may hold, by node."""
    per_unit = need.devices / need.workers
    return {name: need.fit_into(resources) * per_unit for name, resources in nodes.items()}


def live_nodes() -> dict[str, dict[str, float]]:
    """Resources of every node that is up, by its name."""
    import ray

    return {
        node_name(node["NodeManagerAddress"], node["NodeID"]): node["Resources"]
        for node in ray.nodes()
        if node["Alive"]
    }


def node_name(address: str, node_id: str) -> str:
    """Short, and different for two nodes of one machine."""
    return f"{address}-{node_id[:4]}"


def here() -> tuple[str, dict[str, float]]:
    """Name and resources of the node that this process runs on."""
    import ray

    node_id = ray.get_runtime_context().get_node_id()
    node: dict[str, Any] = next(node for node in ray.nodes() if node["NodeID"] == node_id)
    return node_name(node["NodeManagerAddress"], node_id), node["Resources"]
