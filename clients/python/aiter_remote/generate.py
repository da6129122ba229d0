"""Tensors that need not be uploaded: the server's generated inputs, made here with numpy, bit for bit the same.

``{"generate": "normal", "dtype": "fp16", "shape": [2, 512, 8, 64], "seed": 7}`` in place of an input's data tells the server
to make the tensor; :func:`generate` makes it on this side. ``api/generate.md`` of the server's source is the specification,
``api/generate-vectors.json`` the test vectors that this module, the server and the C client are held against.

numpy has neither bf16 nor fp8: bf16 comes as dtype ``V2`` (two opaque bytes, which is also how ml_dtypes saves it), fp8 as
``uint8``.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

__all__ = ["DTYPES", "KINDS", "generate", "generate_elements", "normal_pair", "philox"]

KINDS = ("normal", "uniform", "zeros", "ones", "arange", "randint")

#: The dtypes' names, and as what numpy holds them.
DTYPES: Dict[str, np.dtype[Any]] = {
    "fp32": np.dtype("<f4"),
    "fp16": np.dtype("<f2"),
    "bf16": np.dtype("V2"),
    "fp64": np.dtype("<f8"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "bool": np.dtype("?"),
    "fp8_e4m3": np.dtype("u1"),
    "fp8_e4m3fnuz": np.dtype("u1"),
    "fp8_e5m2": np.dtype("u1"),
}

# Exponent bias, bits of the mantissa, a power of two beyond the largest number.
_SMALL_FLOATS = {
    "fp16": (15, 10, 2.0**16),
    "bf16": (127, 7, 2.0**128),
    "fp8_e4m3": (7, 3, 2.0**9),
    "fp8_e4m3fnuz": (8, 3, 2.0**8),
    "fp8_e5m2": (15, 2, 2.0**16),
}
_WHOLE = {
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "bool": (0, 1),
}

# What belongs to a kind beside generate, dtype, shape, seed and stream.
_OWN = {"normal": ("mean", "std"), "uniform": ("low", "high"), "randint": ("low", "high"), "arange": ("start", "step")}

_CHUNK = 1 << 20  # elements made in one go: bounds the memory for what is between
_LOW32 = np.uint64(0xFFFFFFFF)

Number = Union[int, float]
Array = np.ndarray[Any, Any]


def philox(
    counter: Sequence[Any], key: Tuple[int, int]
) -> Tuple[Array, Array, Array, Array]:
    """Philox4x32-10: the four 32-bit words of blocks, as uint64 arrays; `counter` is four numbers or arrays of them."""
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, np.uint64) for c in counter))
    k0, k1 = key
    shift = np.uint64(32)
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = p1 >> shift ^ c1 ^ np.uint64(k0), p1 & _LOW32, p0 >> shift ^ c3 ^ np.uint64(k1), p0 & _LOW32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def _words(seed: int, stream: int, first: int, count: int) -> Tuple[Array, ...]:
    """The words of `count` blocks from number `first` on."""
    block = np.uint64(first) + np.arange(count, dtype=np.uint64)
    counter = (block & _LOW32, block >> np.uint64(32), stream % 2**32, stream // 2**32)
    return philox(counter, (seed % 2**32, seed // 2**32))


_SQRT_HALF = np.uint64(0x3FE6A09E667F3BCD)
_LN2 = float.fromhex("0x1.62e42fefa39efp-1")
_TWO_PI = float.fromhex("0x1.921fb54442d18p+2")
_LOG = [
    float.fromhex(c)
    for c in (
        "0x1.5555555555558p-1 0x1.99999999952e2p-2 0x1.2492492df148dp-2 0x1.c71c62e5800a1p-3 "
        "0x1.7462b4ab2ef6bp-3 0x1.39fe606542ddep-3 0x1.2b584aae78a57p-3"
    ).split()
]
_SIN = [
    float.fromhex(c)
    for c in (
        "-0x1.4abbce625be52p+5 0x1.466bc6775a476p+6 -0x1.32d2cce500387p+6 0x1.50783208843ebp+5 "
        "-0x1.e3027dea82bd7p+3 0x1.e4a9d9166f052p+1"
    ).split()
]
_COS = [
    float.fromhex(c)
    for c in (
        "-0x1.3bd3cc9be45dep+4 0x1.03c1f081b5ac0p+6 -0x1.55d3c7e3cb241p+6 0x1.e1f5068688d5bp+5 "
        "-0x1.a6d1eef479be1p+4 0x1.f9ce245cada0bp+2 -0x1.b2f3eb054afcdp+0"
    ).split()
]


def _horner(coefficients: Sequence[float], x: Array, last: float) -> Array:
    p = np.full_like(x, coefficients[-1])
    for c in (*coefficients[-2::-1], last):
        p *= x
        p += c
    return p


def normal_pair(r: Array, a: Array) -> Tuple[Array, Array]:
    """Standard normal pairs in float64 from pairs of 32-bit words (as uint64): Box and Muller's transformation."""
    u = (r.astype(np.float64) + 0.5) * 2.0**-32
    t = u.view(np.uint64) + (np.uint64(0x3FF0000000000000) - _SQRT_HALF)
    exponent = (t >> np.uint64(52)).astype(np.float64) - 1023.0
    m = ((t & np.uint64(0x000FFFFFFFFFFFFF)) + _SQRT_HALF).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    radius = np.sqrt(-2.0 * (exponent * _LN2 + s * _horner(_LOG, s * s, 2.0)))
    turned = a + np.uint64(2**29)
    axis = turned >> np.uint64(30)
    x = ((turned & np.uint64(2**30 - 1)).astype(np.float64) - (2.0**29 - 0.5)) * 2.0**-32
    z = x * x
    sine = x * _horner(_SIN, z, _TWO_PI)
    cosine = _horner(_COS, z, 1.0)
    odd = (axis & np.uint64(1)) != 0
    first, second = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    first = np.where((axis + np.uint64(1)) & np.uint64(2), -first, first)
    second = np.where(axis & np.uint64(2), -second, second)
    return radius * first, radius * second


def _interleave(parts: Sequence[Array]) -> Array:
    return np.stack(parts, axis=-1).reshape(-1)


def _wide(seed: int, stream: int, first: int, count: int) -> Array:
    """64-bit words for elements [first, first + count)."""
    w = _words(seed, stream, first // 2, (first + count + 1) // 2 - first // 2)
    both = _interleave((w[0] | w[1] << np.uint64(32), w[2] | w[3] << np.uint64(32)))
    return both[first % 2 : first % 2 + count]


def _normals(seed: int, stream: int, first: int, count: int) -> Array:
    w = _words(seed, stream, first // 4, (first + count + 3) // 4 - first // 4)
    z = _interleave((*normal_pair(w[0], w[1]), *normal_pair(w[2], w[3])))
    return z[first % 4 : first % 4 + count]


def _high_product(w: Array, n: int) -> Array:
    """w * n div 2^64."""
    low, high = np.uint64(n % 2**32), np.uint64(n // 2**32)
    w0, w1, shift = w & _LOW32, w >> np.uint64(32), np.uint64(32)
    middle = w1 * low + (w0 * low >> shift)
    rest = w0 * high + (middle & _LOW32)
    return w1 * high + (middle >> shift) + (rest >> shift)


def _narrow(v: Array, dtype: str) -> Array:
    """Round float64 once to a small float dtype: its codes as uint64."""
    bias, mantissa, limit = _SMALL_FLOATS[dtype]
    least, rest = np.uint64(1024 - bias << 52), np.uint64(52 - mantissa)
    a = np.minimum(np.abs(v), limit)
    exponent = np.maximum(a.view(np.uint64) & np.uint64(0xFFF0000000000000), least)
    # Added to a power of two whose last place is the small dtype's there, a number is rounded by the processor.
    big = exponent + (rest << np.uint64(52))
    code = (a + big.view(np.float64)).view(np.uint64) - big + (exponent - least >> rest)
    negative = np.signbit(v).astype(np.uint64)
    if dtype == "fp8_e4m3":
        code = np.minimum(code, np.uint64(0x7F))
    if dtype == "fp8_e4m3fnuz":
        sign = np.where(code != 0, negative << np.uint64(7), np.uint64(0))
        return np.where(code > np.uint64(0x7F), np.uint64(0x80), code | sign)
    return code | negative << np.uint64(8 * DTYPES[dtype].itemsize - 1)


def _store(v: Array, dtype: str) -> Array:
    if dtype in _WHOLE or dtype in ("fp64", "fp32"):
        with np.errstate(over="ignore"):
            return v.astype(DTYPES[dtype])
    v = v.astype(np.float64)
    if dtype == "fp16" or dtype == "bf16":
        return _narrow(v, dtype).astype(np.uint16).view(DTYPES[dtype])
    return _narrow(v, dtype).astype(np.uint8)


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or int(value) != value or not least <= int(value) <= most:
        raise ValueError(f"{name} is {value!r}; a whole number from {least} to {most} is wanted")
    return int(value)


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError(f"{name} is {value!r}; a finite number is wanted")
    return float(value)


def _check_fits(kind: str, dtype: str, least: int, most: int) -> None:
    if dtype in _WHOLE and (least < _WHOLE[dtype][0] or most > _WHOLE[dtype][1]):
        low, high = _WHOLE[dtype]
        raise ValueError(f"{kind} makes numbers of {least} to {most}, but {dtype} holds {low} to {high}")


def _check(source: Mapping[str, Any], elements: int) -> Tuple[str, str, int, int, Number, Number]:
    """(kind, dtype, seed, stream, and the kind's two numbers) of a source object; ValueError where the server refuses."""
    kind, dtype = source.get("generate"), source.get("dtype")
    if kind not in KINDS:
        raise ValueError(f"nothing is generated that is called {kind!r}; there are {', '.join(KINDS)}")
    if dtype not in DTYPES:
        raise ValueError(f"{dtype!r} is no dtype known here; there are {', '.join(DTYPES)}")
    known = ("generate", "dtype", "shape", "seed", "stream", *_OWN.get(kind, ()))
    for name in source:
        if name not in known:
            raise ValueError(f"{kind} has no {name}; it has {', '.join(known)}")
    seed = _whole("seed", source.get("seed", 0), 0, 2**64 - 1)
    stream = _whole("stream", source.get("stream", 0), 0, 2**64 - 1)
    if kind in ("normal", "uniform") and dtype in _WHOLE:
        raise ValueError(f"{kind} makes numbers with fractions, which {dtype} does not hold; randint makes whole numbers")
    if kind == "randint" and "high" not in source:
        raise ValueError("randint needs high, one more than the largest number")
    names = _OWN.get(kind, ("low", "high"))
    a, b = source.get(names[0], 0), source.get(names[1], 1)
    if kind == "randint" or (kind == "arange" and dtype in _WHOLE):
        a, b = (_whole(n, v, -(2**63), 2**63 - 1) for n, v in zip(names, (a, b)))
    else:
        a, b = (_real(n, v) for n, v in zip(names, (a, b)))
    if kind == "normal" and b < 0:
        raise ValueError(f"std is {b}; it must not be negative")
    if kind in ("uniform", "randint") and not a < b:
        raise ValueError(f"low is {a} and high is {b}: low must be below high")
    if kind == "uniform" and not math.isfinite(b - a):
        raise ValueError(f"low is {a} and high is {b}: their distance must be finite")
    if kind == "randint":
        _check_fits(kind, dtype, a, b - 1)
    last = a + max(elements - 1, 0) * b
    if kind == "arange" and elements > 0 and dtype in _WHOLE:
        _check_fits(kind, dtype, min(a, last), max(a, last))
    elif kind == "arange" and not math.isfinite(last):
        raise ValueError(f"start is {a} and step is {b}: the last number would not be finite")
    return kind, dtype, seed, stream, a, b


def _make(kind: str, dtype: str, seed: int, stream: int, a: Number, b: Number, first: int, count: int) -> Array:
    if kind == "normal":
        return a + b * _normals(seed, stream, first, count)
    if kind == "uniform":
        return a + (b - a) * ((_wide(seed, stream, first, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53)
    if kind == "randint":
        return (_high_product(_wide(seed, stream, first, count), int(b - a)) + np.uint64(a % 2**64)).view(np.int64)
    if kind == "arange" and dtype in _WHOLE:
        place = np.uint64(first) + np.arange(count, dtype=np.uint64)
        return (np.uint64(a % 2**64) + place * np.uint64(b % 2**64)).view(np.int64)
    if kind == "arange":
        return a + (np.float64(first) + np.arange(count, dtype=np.float64)) * b
    return np.full(count, 1 if kind == "ones" else 0, np.int64)


def generate_elements(source: Mapping[str, Any], first: int, count: int) -> Array:
    """Elements [first, first + count) of the tensor that a source object stands for, in row-major order; its shape does not
    matter. Any part of a tensor can be made by itself."""
    known = _check(source, first + count)
    out = np.empty(count, DTYPES[known[1]])
    for at in range(0, count, _CHUNK):
        n = min(_CHUNK, count - at)
        out[at : at + n] = _store(_make(*known, first + at, n), known[1])
    return out


def generate(source: Mapping[str, Any], *, stream: Optional[int] = None) -> Array:
    """The tensor that a source object stands for, such as ``{"generate": "normal", "dtype": "fp16", "shape": [4, 8],
    "seed": 7}``. `stream` is what holds where the object has none: for an operator's input, its position in the catalogue.

    >>> generate({"generate": "arange", "dtype": "int32", "shape": [2, 3]})
    array([[0, 1, 2],
           [3, 4, 5]], dtype=int32)
    """
    if "shape" not in source:
        raise ValueError("shape is missing")
    shape = [_whole("a length", n, 0, 2**53) for n in source["shape"]]
    told = dict(source)
    if stream is not None:
        told.setdefault("stream", stream)
    return generate_elements(told, 0, math.prod(shape)).reshape(shape)
