"""Backends by name. Imports neither torch nor OpenVINO: a mistyped name should not cost their seconds."""

from ..errors import UserError
from .compiled import REFERENCE

FASTEST_FIRST = {"cpu": ("openvino-bf16", "openvino-f32", REFERENCE), "cuda": ("torch-cuda-bf16", REFERENCE)}
"""What `auto` tries."""
BACKENDS = {"cpu": (*FASTEST_FIRST["cpu"], "torch-bf16"), "cuda": FASTEST_FIRST["cuda"]}
"""What may be asked for by name."""


def listed(kind: str) -> str:
    """All that may be asked for on a kind of device, `cpu` or `cuda`."""
    return ", ".join(("auto", *BACKENDS[kind]))


def check_backend(backend: str, kind: str) -> None:
    """UserError where that kind of device has no such backend."""
    if backend not in ("auto", *BACKENDS[kind]):
        raise UserError(f"no backend {backend!r} on {kind}; there are {listed(kind)}")
