"""Inputs that are not sent: generated on the server, or kept there from before."""
from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple, Union

from .arrays import dtype_name
from .bf16 import BF16
from .generate import generate

__all__ = ["Generated", "Kept", "Source", "generated", "kept"]


class Source:
    """Stands where an array would; the server has the bytes."""

    spec: Dict[str, Any]

    def __repr__(self) -> str:
        return "%s(%s)" % (type(self).__name__.lower(), ", ".join("%s=%r" % item for item in self.spec.items()))


class Generated(Source):
    """Numbers the server makes; array() makes the same here, bit for bit."""

    def __init__(self, spec: Dict[str, Any]) -> None:
        self.spec = spec
        self.shape: Tuple[int, ...] = tuple(spec["shape"])
        self.dtype: str = spec["dtype"]

    def array(self, stream: int = 0) -> Any:
        """The same numbers, made here with numpy (bf16 as BF16). `stream`: which it is where none was given: as an
        operator's input its place in GET /v1/ops/{op}, 0 for the first."""
        made = generate(self.spec, stream=stream)
        return BF16(made) if self.dtype == "bf16" else made


class Kept(Source):
    """A tensor the server keeps, by name or by content ("sha256:...")."""

    def __init__(self, name: str, about: Union[Dict[str, Any], None] = None) -> None:
        self.spec = {"tensor": name}
        self.name = name
        #: What the server said of it when it was stored: dtype, shape, bytes, id, expires_in_s ...
        self.about: Dict[str, Any] = dict(about or {})


def generated(kind: str, shape: Union[int, Sequence[int]], dtype: Any = "fp16", seed: int = 0, **more: Any) -> Generated:
    """An input that the server generates and nobody uploads: "normal", "uniform", "zeros", "ones", "arange" or
    "randint". `more`: stream, mean, std, low, high, start, step. Without `stream`, the inputs of one call with one seed
    differ from each other."""
    lengths: List[int] = [int(shape)] if isinstance(shape, int) else [int(n) for n in shape]
    spec: Dict[str, Any] = {"generate": kind, "dtype": dtype_name(dtype), "shape": lengths, "seed": int(seed)}
    spec.update(more)
    return Generated(spec)


def kept(name: str) -> Kept:
    """An input the server keeps: put there by put(), or as another call's output by options(keep=...)."""
    return Kept(name)
