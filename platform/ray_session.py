"""The one place where Ray is started and set up."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from .errors import UserError


def start_ray(min_cpus: int = 2, min_gpus: float = 0.0) -> None:
    """Join the cluster in RAY_ADDRESS, or start one on this machine; does nothing where Ray runs already.

    Args:
        min_cpus: logical CPUs that the job needs at once. On a machine of its own Ray is told that it has as many:
            a logical CPU is a place for a process, and Ray Data waits for ever where workers hold them all.
        min_gpus: GPUs, or shares of them, that it needs at once.

    Raises:
        UserError: the cluster has fewer CPUs or GPUs than that.
    """
    import ray

    # Read by worker processes, so they have to be in place before any starts.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # Relative paths mean the same in a trial as here.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not ray.is_initialized():
        ray.init(**_init_arguments(min_cpus))
    resources = ray.cluster_resources()
    available, gpus = int(resources.get("CPU", 0)), resources.get("GPU", 0.0)
    # A cluster that was joined may grow when it is asked; this machine does not.
    if gpus < min_gpus and "RAY_ADDRESS" not in os.environ:
        raise UserError(
            f"this needs {min_gpus:g} GPUs and Ray finds {gpus:g} here; leave out --gpus-per-replica to predict on CPUs"
        )
    if available < min_cpus and "RAY_ADDRESS" not in os.environ:
        raise UserError(
            f"this cluster has {available} CPUs and the job needs {min_cpus} at once (workers and the data tasks that "
            "feed them); lower scaling.num_workers or add nodes"
        )
    quiet_ray_data()


def _init_arguments(min_cpus: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if "RAY_ADDRESS" in os.environ:
        return arguments
    cores = os.cpu_count() or 1
    return {
        **arguments,
        "address": "local",
        "num_cpus": max(min_cpus, cores),
        "object_store_memory": 1 << 30,
        "include_dashboard": False,
    }


def share_of_cores(num_processes: int) -> int:
    """Threads for each of so many processes that compute at once on one machine."""
    return max(1, (os.cpu_count() or 1) // num_processes)


def quiet_ray_data() -> None:
    """Ray Data as this project uses it, in the driver and in every worker that runs a dataset of its own.

    The default Parquet reader starts a pool of actors at every execution: 8-10 s before the first batch of eight small
    files against 0.3-0.9 s (Ray 2.60, measured). Its progress bars print hundreds of lines into a pipe.
    """
    from ray.data import DataContext

    context = DataContext.get_current()
    context.use_datasource_v2 = False
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def actor_pool(dataset: Any, actor: type, num_actors: int, arguments: tuple[Any, ...], **batches: Any) -> Any:
    """`dataset.map_batches(actor)` on a fixed pool whose actors are not restarted.

    Where Ray restarts an actor itself, it greets every run with an error message about arguments that it will not miss.
    A caller who wants to survive the death of an actor catches ActorDiedError.
    """
    import ray

    with warnings.catch_warnings():
        # Ray 2.60 names no other way to say max_restarts yet; pyproject.toml keeps us below the version without it.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return dataset.map_batches(
            actor,
            fn_constructor_args=arguments,
            compute=ray.data.ActorPoolStrategy(size=num_actors),
            max_restarts=0,
            **batches,
        )


_NEEDLESS = (b"has constructor arguments in the object store and max_restarts > 0",)
"""Ray Data keeps those arguments for as long as it runs."""


@contextmanager
def without_needless_errors() -> Iterator[None]:
    """What Ray's C++ writes to standard error for every pool of actors that restart, left out; all else passes.

    Its only switch is a log level that would hide true errors, and that greets with a line of its own (2.60).
    """
    source, sink = os.pipe()
    kept = os.dup(2)
    os.dup2(sink, 2)
    os.close(sink)

    def forward() -> None:
        with os.fdopen(source, "rb") as lines, os.fdopen(kept, "wb", closefd=False, buffering=0) as onwards:
            for line in lines:
                if not any(needless in line for needless in _NEEDLESS):
                    onwards.write(line)

    forwarding = Thread(target=forward, daemon=True, name="standard-error")
    forwarding.start()
    try:
        yield
    finally:
        os.dup2(kept, 2)
        forwarding.join()
        os.close(kept)
