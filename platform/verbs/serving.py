"""Verbs around the endpoint: serve, keys."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from ..errors import UserError
from .app import Count, Port, app

keys_app = App(name="keys", help="API keys of the endpoint: a file holds their hashes, each key is shown once.")
app.command(keys_app)

Named = Annotated[list[str] | None, Parameter(negative=())]


@app.command
def serve(
    bundle: str, *, host: str = "127.0.0.1", port: Port = 8000, grpc_port: Port | None = None, replicas: str = "1",
    keys: Path | None = None, haproxy: Annotated[bool, Parameter(negative=())] = False, model: Named = None,
    backend: str = "auto", cpus_per_replica: Count = 1, gpus_per_replica: float = 0.0,
    tls_certificate: Path | None = None, tls_key: Path | None = None,
) -> None:  # fmt: skip
    """Serve a bundle over HTTP and gRPC, with a web page, until Ctrl-C.

    Parameters
    ----------
    bundle
        Folder or URI of the model bundle.
    host
        Address to listen on; any but this machine's own needs --keys.
    port
        0 takes a free one.
    grpc_port
        Also answer gRPC, on every address; needs --keys.
    replicas
        Processes that answer, or MIN:MAX for as many as the load asks for.
    keys
        File of API keys, written by `vizecg keys`; without it only this machine is answered.
    haproxy
        HAProxy in front, the fastest way in; listens on every address and needs --keys.
    model
        NAME=BUNDLE, another model for requests to name; repeatable.
    backend
        What predicts: auto, or a name such as openvino-bf16 or torch-fp32.
    cpus_per_replica
        Cores of every replica.
    gpus_per_replica
        GPU, or share of one, of every process that predicts.
    tls_certificate
        File of the certificate, PEM, for HTTPS.
    tls_key
        File of its key, PEM.
    """
    from ...serve.listening import Listening
    from ...serve.server import serve_bundle
    from ..settings import key_values

    listening = Listening(
        host=host, port=port, grpc_port=grpc_port, haproxy=haproxy, tls_certificate=tls_certificate, tls_key=tls_key,
    )  # fmt: skip
    serve_bundle(
        bundle, listening, **_replicas(replicas), keys_file=str(keys) if keys else None, backend=backend,
        models=key_values(model or [], "--model"), num_cpus=cpus_per_replica, num_gpus=gpus_per_replica,
    )  # fmt: skip


def _replicas(text: str) -> dict[str, Any]:
    """N or MIN:MAX as arguments of the application; UserError where it is neither."""
    least, colon, most = text.partition(":")
    numbers = [least, most] if colon else [least]
    if not all(number.isascii() and number.isdigit() and int(number) for number in numbers):
        raise UserError(f"--replicas {text}: expected a number, or MIN:MAX such as 1:4")
    if colon and int(least) > int(most):
        raise UserError(
            f"--replicas {text}: at least {least} is more than at most {most}; expected MIN:MAX such as 1:4"
        )
    if not colon:
        return {"num_replicas": int(least)}
    return {"autoscaling": {"min_replicas": int(least), "max_replicas": int(most), "target_ongoing_requests": 6}}


@keys_app.command
def add(file: Path, name: str, *, per_minute: Count | None = None, valid_days: float | None = None) -> None:
    """Make a key and show it, this once.

    Parameters
    ----------
    file
        File of keys; made where there is none.
    name
        Of whoever will use it: it appears in logs and metrics.
    per_minute
        Requests that the key may make a minute, of which a tenth at once.
    valid_days
        After which it expires.
    """
    from ...serve.keys import add_key

    print(add_key(file, name, requests_per_minute=per_minute, valid_days=valid_days))


@keys_app.command
def rotate(
    file: Path, name: str, *, grace_hours: float = 24.0, per_minute: Count | None = None,
    valid_days: float | None = None,
) -> None:  # fmt: skip
    """Make a new key for a name and show it; its older ones stay valid for a while.

    Parameters
    ----------
    file
        File of keys. A running endpoint reads it again within seconds.
    name
        As it was added.
    grace_hours
        How long the older keys stay valid.
    per_minute
        In place of the older key's limit.
    valid_days
        After which the new one expires.
    """
    from ...serve.keys import add_key

    print(add_key(file, name, requests_per_minute=per_minute, valid_days=valid_days, grace_hours=grace_hours))


@keys_app.command
def remove(file: Path, name: str) -> None:
    """Take all keys of a name away, at once.

    Parameters
    ----------
    file
        File of keys.
    name
        As it was added.
    """
    from ...serve.keys import remove_key

    print(f"removed {remove_key(file, name)} of {name}")


@keys_app.command(name="list")
def list_keys(file: Path) -> None:
    """Names, limits and dates; the keys themselves stand nowhere.

    Parameters
    ----------
    file
        File of keys.
    """
    from ...serve.keys import read_keys
    from ..console import show_keys

    show_keys(read_keys(file).keys)
