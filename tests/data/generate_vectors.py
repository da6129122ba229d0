#!/usr/bin/env python3
"""Makes api/generate-vectors.json: python3 tests/data/generate_vectors.py > api/generate-vectors.json

Follows api/generate.md literally and slowly: words in Python's integers, one float64 operation after the other (Python's
floats: no fused operations), rounding to the small dtypes in exact fractions. It shares no code with the server or the clients.
"""

import hashlib
import json
import math
import struct
from fractions import Fraction

# Known answers of Random123 (kat_vectors: philox 4x32 10): counter, key, words.
RANDOM123 = """
00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8
ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd
243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1
"""

CONSTANTS = {}
for line in """
LN2 0x1.62e42fefa39efp-1
TWO_PI 0x1.921fb54442d18p+2
L 0x1.5555555555558p-1 0x1.99999999952e2p-2 0x1.2492492df148dp-2 0x1.c71c62e5800a1p-3 0x1.7462b4ab2ef6bp-3 0x1.39fe606542ddep-3 0x1.2b584aae78a57p-3
S -0x1.4abbce625be52p+5 0x1.466bc6775a476p+6 -0x1.32d2cce500387p+6 0x1.50783208843ebp+5 -0x1.e3027dea82bd7p+3 0x1.e4a9d9166f052p+1
C -0x1.3bd3cc9be45dep+4 0x1.03c1f081b5ac0p+6 -0x1.55d3c7e3cb241p+6 0x1.e1f5068688d5bp+5 -0x1.a6d1eef479be1p+4 0x1.f9ce245cada0bp+2 -0x1.b2f3eb054afcdp+0
""".split("\n"):
    if line:
        name, *values = line.split()
        CONSTANTS[name] = [float.fromhex(v) for v in values]

M32 = 2**32


def philox(counter, key):
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p1 // M32 ^ c1 ^ k0, p1 % M32, p0 // M32 ^ c3 ^ k1, p0 % M32
        k0, k1 = (k0 + 0x9E3779B9) % M32, (k1 + 0xBB67AE85) % M32
    return c0, c1, c2, c3


def block(seed, stream, b):
    return philox((b % M32, b // M32, stream % M32, stream // M32), (seed % M32, seed // M32))


def horner(coefficients, x, last):
    total = coefficients[-1]
    for c in [*coefficients[-2::-1], last]:
        total = total * x
        total = total + c
    return total


SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")


def normal_pair(r, a):
    u = Fraction(2 * r + 1, 2**33)
    m, e = math.frexp(float(u))  # m in [1/2, 1)
    if m < SQRT_HALF:
        m, e = 2 * m, e - 1
    assert Fraction(m) * Fraction(2) ** e == u and SQRT_HALF <= m < 2 * SQRT_HALF
    s = (m - 1.0) / (m + 1.0)
    w = s * s
    logarithm = e * CONSTANTS["LN2"][0] + s * horner(CONSTANTS["L"], w, 2.0)
    radius = math.sqrt(-2.0 * logarithm)  # correctly rounded, as IEEE 754 wants it
    axis = (a + 2**29) // 2**30
    turn = Fraction(2 * a + 1, 2**33) - Fraction(axis, 4)
    x = float(turn)
    assert Fraction(x) == turn and abs(x) < 1 / 8
    z = x * x
    sine = x * horner(CONSTANTS["S"], z, CONSTANTS["TWO_PI"][0])
    cosine = horner(CONSTANTS["C"], z, 1.0)
    first, second = [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)][axis % 4]
    return radius * first, radius * second


# bits of the mantissa, bias, largest code, code beyond it
FORMATS = {
    "fp16": (10, 15, 0x7BFF, 0x7C00),
    "bf16": (7, 127, 0x7F7F, 0x7F80),
    "fp8_e5m2": (2, 15, 0x7B, 0x7C),
    "fp8_e4m3": (3, 7, 0x7E, 0x7F),
    "fp8_e4m3fnuz": (3, 8, 0x7F, None),
}
SIZES = {"fp16": 2, "bf16": 2, "fp8_e5m2": 1, "fp8_e4m3": 1, "fp8_e4m3fnuz": 1}
WHOLE = {"int8": "b", "uint8": "B", "int32": "i", "int64": "q", "bool": "?"}
REALS = ["fp64", "fp32", *FORMATS]


def small_float(dtype, v):
    """v rounded to nearest even, as the code of a format with an implicit leading one."""
    mantissa, bias, largest, beyond = FORMATS[dtype]
    size = SIZES[dtype]
    sign = (1 << (8 * size - 1)) if math.copysign(1, v) < 0 else 0
    exact = abs(Fraction(v)) if math.isfinite(v) else None
    if exact is None:
        code = largest + 1
    else:
        exponent = 1 - bias
        while exact >= Fraction(2) ** (exponent + 1):
            exponent += 1
        steps = round(exact / Fraction(2) ** (exponent - mantissa))  # Python rounds halves to even
        code = steps + (exponent + bias - 1) * 2**mantissa
    if code > largest:
        code = beyond
    if dtype == "fp8_e4m3fnuz":
        code = 0x80 if code is None else code + sign if code else 0
    else:
        code += sign
    return code.to_bytes(size, "little")


def fp32(v):
    try:
        return struct.pack("<f", v)
    except OverflowError:  # Python's pack refuses what rounds to infinity
        return struct.pack("<f", math.copysign(math.inf, v))


def store(dtype, v):
    if dtype in WHOLE:
        return struct.pack("<" + WHOLE[dtype], v)
    v = float(v)
    if dtype == "fp64":
        return struct.pack("<d", v)
    return fp32(v) if dtype == "fp32" else small_float(dtype, v)


def element(source, i):
    kind, dtype = source["generate"], source["dtype"]
    seed, stream = source.get("seed", 0), source.get("stream", 0)
    if kind in ("zeros", "ones"):
        return int(kind == "ones")
    if kind == "arange":
        start, step = source.get("start", 0), source.get("step", 1)
        if dtype in WHOLE:
            return start + i * step
        return float(start) + float(i) * float(step)
    if kind == "normal":
        words = block(seed, stream, i // 4)
        pair = normal_pair(*words[2:] if i % 4 >= 2 else words[:2])
        return float(source.get("mean", 0)) + float(source.get("std", 1)) * pair[i % 2]
    words = block(seed, stream, i // 2)[2 * (i % 2) :]
    word = words[0] + M32 * words[1]
    if kind == "randint":
        low, high = source.get("low", 0), source["high"]
        return low + word * (high - low) // 2**64
    low, high = float(source.get("low", 0)), float(source.get("high", 1))
    return low + (high - low) * (word // 2**11 / 2**53)


def tensor(source, first, count):
    data = b"".join(store(source["dtype"], element(source, first + i)) for i in range(count))
    case = {"source": source, "first": first, "count": count}
    if count <= 64:
        case["hex"] = data.hex()
    else:
        case["sha256"] = hashlib.sha256(data).hexdigest()
    return case


BIG = 2**64 - 1


def tensors():
    for dtype in REALS:
        yield tensor({"generate": "normal", "dtype": dtype}, 0, 13)
        yield tensor({"generate": "normal", "dtype": dtype, "seed": 7, "stream": 2}, 3, 22)
        yield tensor({"generate": "normal", "dtype": dtype, "seed": 2**40 + 1, "stream": 1, "mean": 1.5, "std": 0.1}, 0, 3001)
        yield tensor({"generate": "normal", "dtype": dtype, "seed": 3, "stream": BIG}, 4 * M32 - 5, 11)
        yield tensor({"generate": "normal", "dtype": dtype, "seed": 4, "stream": 1, "std": 30000}, 255, 514)
        yield tensor({"generate": "normal", "dtype": dtype, "seed": 9, "std": 0.00001}, 1, 258)
        yield tensor({"generate": "uniform", "dtype": dtype}, 0, 9)
        yield tensor({"generate": "uniform", "dtype": dtype, "seed": BIG, "stream": 5, "low": -3, "high": 2.5}, 1, 17)
        yield tensor({"generate": "uniform", "dtype": dtype, "seed": 11, "stream": 1}, 2 * M32 - 3, 1001)
        yield tensor({"generate": "uniform", "dtype": dtype, "seed": 12, "low": -1e39, "high": 1e39}, 0, 65)
        yield tensor({"generate": "arange", "dtype": dtype}, 0, 19)
        yield tensor({"generate": "arange", "dtype": dtype, "start": -2.75, "step": 0.1}, 5, 301)
        yield tensor({"generate": "randint", "dtype": dtype, "seed": 5, "low": -20, "high": 20}, 0, 15)
        yield tensor({"generate": "randint", "dtype": dtype, "seed": 5, "stream": 3, "low": -(2**62), "high": 2**62 + 12345}, 7, 6)
    for dtype, (low, high) in {
        "int8": (-128, 128),
        "uint8": (3, 250),
        "int32": (-(2**31), 2**31),
        "int64": (-(2**63), 2**63 - 1),
        "bool": (0, 2),
    }.items():
        yield tensor({"generate": "randint", "dtype": dtype, "seed": 1, "low": low, "high": high}, 0, 21)
        yield tensor({"generate": "randint", "dtype": dtype, "seed": 77, "stream": 2, "high": 2}, 2 * M32 - 1, 1025)
        yield tensor({"generate": "randint", "dtype": dtype, "seed": 78, "stream": 3, "low": 0, "high": 1}, 0, 3)
    yield tensor({"generate": "randint", "dtype": "int64", "seed": 6, "low": -5, "high": M32 - 5}, 0, 9)
    yield tensor({"generate": "randint", "dtype": "int64", "seed": 6, "low": -5, "high": M32 - 4}, 0, 9)
    yield tensor({"generate": "arange", "dtype": "int8", "start": 100, "step": -7}, 0, 32)
    yield tensor({"generate": "arange", "dtype": "uint8", "start": 255, "step": -1}, 1, 255)
    yield tensor({"generate": "arange", "dtype": "int32", "start": -5}, 2, 300)
    yield tensor({"generate": "arange", "dtype": "int64", "start": -(2**63), "step": 2**40}, 3, 8)
    yield tensor({"generate": "arange", "dtype": "bool"}, 0, 2)
    for dtype in [*REALS, *WHOLE]:
        yield tensor({"generate": "zeros", "dtype": dtype}, 3, 5)
        yield tensor({"generate": "ones", "dtype": dtype}, 0, 5)
        yield tensor({"generate": "ones", "dtype": dtype}, 1, 511)


def main():
    known = []
    for line in RANDOM123.split("\n"):
        if line:
            words = [int(w, 16) for w in line.split()]
            assert list(philox(words[:4], words[4:6])) == words[6:]
            known.append({"counter": words[:4], "key": words[4:6], "words": words[6:]})
    corners = [0, 1, 2**29 - 1, 2**29, 2**30, 2**31 - 1, 2**31, 2**32 - 2**29, 2**32 - 1, 0xB504F333, 0xB504F334]
    pairs = [(r, a) for r in corners for a in corners]
    normal = [{"words": p, "z": [z.hex() for z in normal_pair(*p)]} for p in pairs]
    parts = {"philox": known, "normal": normal, "tensors": list(tensors())}
    print("{")
    for n, (name, cases) in enumerate(parts.items()):
        lines = ",\n".join("    " + json.dumps(c) for c in cases)
        print(f'  "{name}": [\n{lines}\n  ]' + ("," if n < len(parts) - 1 else ""))
    print("}")


if __name__ == "__main__":
    main()
