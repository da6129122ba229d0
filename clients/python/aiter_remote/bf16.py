"""bfloat16 for numpy, which has none: BF16 is an array of the 16 bits that behaves as float32 numbers in arithmetic.
Where the package ml_dtypes is installed its bfloat16 arrays are taken and given back instead.
"""
from __future__ import annotations

from typing import Any, Optional

import numpy as np

__all__ = ["BF16", "ml_bfloat16"]

try:
    import ml_dtypes as _ml_dtypes
    #: ml_dtypes' bfloat16 as a numpy dtype, None where the package is missing.
    ml_bfloat16: Optional[np.dtype[Any]] = np.dtype(_ml_dtypes.bfloat16)
except ImportError:
    ml_bfloat16 = None


def _round(x: Any) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """The bits of the nearest bfloat16 (ties to even); NaN stays NaN."""
    f = np.asarray(x, np.float32)
    u = np.atleast_1d(f).view(np.uint32)
    with np.errstate(over="ignore"):  # a NaN's may wrap around; it is not taken
        near = (u + (0x7FFF + ((u >> 16) & 1)).astype(np.uint32)) >> 16
    return np.where(np.isnan(np.atleast_1d(f)), (u >> 16) | 0x40, near).astype(np.uint16).reshape(f.shape)


def _plain(x: Any) -> Any:
    if isinstance(x, BF16):
        return x.float()
    if isinstance(x, (list, tuple)):
        return type(x)(_plain(i) for i in x)
    if isinstance(x, dict):
        return {k: _plain(v) for k, v in x.items()}
    return x


class BF16(np.ndarray):  # type: ignore[type-arg]
    """An array of bfloat16 numbers. `BF16(bits)` takes the bits as uint16 (or the 2-byte items `V2` of a .npy file)
    without copying; `BF16.of(x)` rounds numbers. `.float()` gives float32, `.bits()` the uint16 again.

    Arithmetic and numpy's functions see float32 numbers and give float32 results; reshaping, slicing and transposing
    keep BF16. np.asarray(x), as any ndarray's, gives the bits.
    """

    def __new__(cls, bits: Any) -> "BF16":
        a = np.asarray(bits)
        if a.dtype == np.dtype("V2"):
            a = a.view(np.uint16)
        if a.dtype != np.uint16:
            raise TypeError("BF16 takes the bits as uint16, found %s; BF16.of(x) rounds numbers" % a.dtype)
        return a.view(cls)

    @classmethod
    def of(cls, x: Any) -> "BF16":
        """x rounded to nearest even."""
        return _round(_plain(x)).view(cls)

    def float(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The numbers as float32; exact."""
        wide = np.atleast_1d(self.bits()).astype(np.uint32) << 16
        found: np.ndarray[Any, np.dtype[np.float32]] = wide.view(np.float32).reshape(self.shape)
        return found

    def bits(self) -> np.ndarray[Any, np.dtype[np.uint16]]:
        """The same memory as uint16."""
        return self.view(np.ndarray)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **how: Any) -> Any:
        out = how.get("out", ())
        if any(isinstance(o, BF16) for o in out):
            if method != "__call__" or len(out) != 1:
                return NotImplemented
            del how["out"]
            out[0][...] = getattr(ufunc, method)(*map(_plain, inputs), **how)
            return out[0]
        return getattr(ufunc, method)(*map(_plain, inputs), **how)

    def __array_function__(self, func: Any, types: Any, args: Any, how: Any) -> Any:
        return func(*_plain(args), **_plain(how))

    def __getitem__(self, key: Any) -> Any:
        got = super().__getitem__(key)
        return got if isinstance(got, BF16) else np.uint32(int(got) << 16).view(np.float32)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.bits()[key] = (value.bits() if isinstance(value, BF16) else _round(value))

    def astype(self, dtype: Any, *args: Any, **how: Any) -> Any:
        return self.float().astype(dtype, *args, **how)

    def dot(self, other: Any, out: Any = None) -> Any:
        return self.float().dot(_plain(other), out)

    def item(self, *args: Any) -> Any:
        return self.float().item(*args)

    def tolist(self) -> Any:
        return self.float().tolist()

    def __float__(self) -> Any:
        return float(self.float())

    def __repr__(self) -> str:
        return "BF16(%s)" % np.array2string(self.float(), separator=", ", prefix="BF16(")

    def __str__(self) -> str:
        return str(self.float())

    def __format__(self, spec: str) -> str:
        return format(self.float(), spec)

