"""Arrays in and out: what an input is (dtype, shape, its memory, without copying where it is dense), and the making of
outputs of the same kind (numpy or torch) whose memory a reply is read into.
"""
from __future__ import annotations

import sys
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .bf16 import BF16, ml_bfloat16
from .errors import AiterdError

__all__ = ["DTYPES", "Kind", "NUMPY", "Operand", "dtype_name", "is_array", "is_torch", "kind_of", "operand"]


class _Dtype(NamedTuple):
    size: int
    safetensors: str
    numpy: Optional[str]
    torch: Optional[str]


#: The service's dtypes: bytes, safetensors' name, numpy's and torch's.
DTYPES: Dict[str, _Dtype] = {
    "fp64": _Dtype(8, "F64", "float64", "float64"),
    "fp32": _Dtype(4, "F32", "float32", "float32"),
    "fp16": _Dtype(2, "F16", "float16", "float16"),
    "bf16": _Dtype(2, "BF16", None, "bfloat16"),
    "int64": _Dtype(8, "I64", "int64", "int64"),
    "int32": _Dtype(4, "I32", "int32", "int32"),
    "int8": _Dtype(1, "I8", "int8", "int8"),
    "uint8": _Dtype(1, "U8", "uint8", "uint8"),
    "bool": _Dtype(1, "BOOL", "bool", "bool"),
    "fp8_e4m3": _Dtype(1, "F8_E4M3", None, "float8_e4m3fn"),
    "fp8_e4m3fnuz": _Dtype(1, "F8_E4M3FNUZ", None, "float8_e4m3fnuz"),
    "fp8_e5m2": _Dtype(1, "F8_E5M2", None, "float8_e5m2"),
}
BY_SAFETENSORS = {d.safetensors: name for name, d in DTYPES.items()}
_BY_NUMPY = {np.dtype(d.numpy): name for name, d in DTYPES.items() if d.numpy}
_ALIASES = {a: name for name, d in DTYPES.items() for a in (d.numpy, d.torch, name) if a}
_ALIASES.update({"half": "fp16", "float": "fp32", "double": "fp64", "long": "int64", "int": "int32"})
# ml_dtypes' names for what numpy has not
_ML = {"bfloat16": "bf16", "float8_e4m3fn": "fp8_e4m3", "float8_e4m3fnuz": "fp8_e4m3fnuz", "float8_e5m2": "fp8_e5m2"}


def is_torch(x: Any) -> bool:
    """x is a torch tensor; torch is never imported for asking."""
    torch = sys.modules.get("torch")
    return torch is not None and hasattr(torch, "Tensor") and isinstance(x, torch.Tensor)


def is_array(x: Any) -> bool:
    """x is something `operand` takes."""
    return isinstance(x, np.ndarray) or is_torch(x)


def dtype_name(dtype: Any) -> str:
    """The service's name ("fp16") of a dtype given by name, as numpy's or as torch's."""
    text = str(dtype).replace("torch.", "")
    if text in _ALIASES:
        return _ALIASES[text]
    try:
        return _numpy_name(np.dtype(dtype))
    except (TypeError, AiterdError):
        raise AiterdError("there is no dtype %r; there are %s" % (text, " ".join(DTYPES))) from None


def _numpy_name(dtype: np.dtype[Any]) -> str:
    if dtype in _BY_NUMPY:
        return _BY_NUMPY[dtype]
    if dtype.name in _ML:
        return _ML[dtype.name]
    if dtype == np.dtype("V2"):
        return "bf16"
    raise AiterdError("numpy's %s is no dtype of the service%s" % (
        dtype, "; for bfloat16 bits give aiter_remote.BF16(x)" if dtype == np.uint16 else ""))


class Operand(NamedTuple):
    """A dense tensor to send: row major, little endian."""

    dtype: str
    shape: Tuple[int, ...]
    data: memoryview
    owner: Any  # keeps the memory alive


def _bytes_of(a: np.ndarray[Any, Any]) -> memoryview:
    if a.size == 0:
        return memoryview(b"")
    return a.reshape(-1).view(np.uint8).data


def _operand_numpy(a: np.ndarray[Any, Any], name: str) -> Operand:
    if isinstance(a, BF16):
        dtype, plain = "bf16", a.bits()
    else:
        plain = np.asarray(a)
        if plain.dtype.byteorder == ">" or (plain.dtype.byteorder == "=" and sys.byteorder == "big"):
            plain = plain.astype(plain.dtype.newbyteorder("<"))
        try:
            dtype = _numpy_name(plain.dtype.newbyteorder("="))
        except AiterdError as e:
            raise AiterdError("%s: %s" % (name, e)) from None
    dense = np.ascontiguousarray(plain)
    return Operand(dtype, tuple(int(n) for n in a.shape), _bytes_of(dense), dense)


def _torch_as_numpy(t: Any) -> np.ndarray[Any, Any]:
    """A dense CPU tensor's memory as bytes; numpy knows neither torch's bf16 nor its fp8."""
    torch = sys.modules["torch"]
    flat = t.reshape(-1)
    if flat.numel() == 0:
        return np.empty(0, np.uint8)
    wide = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    array: np.ndarray[Any, Any] = flat.view(wide).numpy()
    return array.view(np.uint8)


def _operand_torch(t: Any, name: str) -> Operand:
    torch = sys.modules["torch"]
    if t.device.type != "cpu":
        raise AiterdError("%s is on %s: this package takes CPU tensors (and numpy arrays)" % (name, t.device))
    if t.layout != torch.strided:
        raise AiterdError("%s is a tensor of layout %s: only dense ones can be sent" % (name, t.layout))
    if t.requires_grad and torch.is_grad_enabled():
        raise AiterdError("%s requires grad, but the service computes no gradients: call this under torch.no_grad() "
                          "or give %s.detach()" % (name, name))
    dtype = _ALIASES.get(str(t.dtype).replace("torch.", ""))
    if dtype is None:
        raise AiterdError("%s: %s is no dtype of the service" % (name, t.dtype))
    dense = t.detach().resolve_conj().resolve_neg().contiguous()
    return Operand(dtype, tuple(t.shape), _torch_as_numpy(dense).data, dense)


def operand(x: Any, name: str = "an input") -> Operand:
    """x as it is sent: its own memory if it is dense, else a dense copy."""
    if is_torch(x):
        return _operand_torch(x, name)
    if isinstance(x, np.ndarray):
        return _operand_numpy(x, name)
    raise AiterdError("%s is a %s: wanted a numpy array, a torch CPU tensor, generated(...) or kept(...)" % (
        name, type(x).__name__))


class Kind:
    """What outputs are made as. `bf16`: numpy's spelling of bfloat16: "ml_dtypes", "BF16" or "V2"."""

    def __init__(self, torch: bool = False, bf16: Optional[str] = None) -> None:
        self.torch = torch
        self.bf16 = bf16 or ("ml_dtypes" if ml_bfloat16 is not None else "BF16")

    def make(self, dtype: str, shape: Sequence[int]) -> Tuple[Any, memoryview]:
        """A new array and its memory."""
        return self._make_torch(dtype, shape) if self.torch else self._make_numpy(dtype, shape)

    def _make_numpy(self, dtype: str, shape: Sequence[int]) -> Tuple[Any, memoryview]:
        d = DTYPES[dtype]
        raw = np.empty(tuple(shape), np.dtype(d.numpy) if d.numpy else np.uint16 if d.size == 2 else np.uint8)
        view = _bytes_of(raw)
        if dtype == "bf16":
            if self.bf16 == "ml_dtypes" and ml_bfloat16 is not None:
                return raw.view(ml_bfloat16), view
            return (raw.view("V2") if self.bf16 == "V2" else BF16(raw)), view
        if not d.numpy and ml_bfloat16 is not None:
            import ml_dtypes
            return raw.view(getattr(ml_dtypes, str(d.torch))), view
        return raw, view

    def _make_torch(self, dtype: str, shape: Sequence[int]) -> Tuple[Any, memoryview]:
        torch = sys.modules["torch"]
        kind = getattr(torch, str(DTYPES[dtype].torch), None)
        if kind is None:
            raise AiterdError("torch %s has no %s" % (torch.__version__, DTYPES[dtype].torch))
        made = torch.empty(tuple(shape), dtype=kind)
        return made, _torch_as_numpy(made).data


NUMPY = Kind()


def kind_of(x: Any) -> Optional[Kind]:
    """The kind of outputs that goes with this input; None if it is no array."""
    if is_torch(x):
        return Kind(torch=True)
    if isinstance(x, np.ndarray):
        if isinstance(x, BF16):
            return Kind(bf16="BF16")
        return Kind(bf16="V2") if x.dtype == np.dtype("V2") else NUMPY
    return None
