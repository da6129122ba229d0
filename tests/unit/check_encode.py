"""
Read reply bodies (test_encode.c) with independent means: numpy.load, the safetensors and OIP layouts as specified,
Python's json; compare with the raw tensors beside them. Exits 1 when one differs.
"""

import base64
import hashlib
import io
import json
import math
import os
import sys

import numpy as np

STATS = {"op": "sample", "timing_ms": {"total": 1.5}, "hints": ['a "quoted" one']}
# ours: numpy's, what np.load gives, safetensors', OIP's
TYPES = {
    "fp32": ("<f4", "<f4", "F32", "FP32"), "fp16": ("<f2", "<f2", "F16", "FP16"), "bf16": ("<u2", "V2", "BF16", "BF16"),
    "fp64": ("<f8", "<f8", "F64", "FP64"), "int8": ("i1", "i1", "I8", "INT8"), "uint8": ("u1", "u1", "U8", "UINT8"),
    "int32": ("<i4", "<i4", "I32", "INT32"), "int64": ("<i8", "<i8", "I64", "INT64"), "bool": ("?", "?", "BOOL", "BOOL"),
    "fp8_e4m3": ("u1", "V1", "F8_E4M3", None), "fp8_e4m3fnuz": ("u1", "V1", "F8_E4M3FNUZ", None),
    "fp8_e5m2": ("u1", "V1", "F8_E5M2", None),
}


def fp8_values(name):
    exponent_bits, mantissa_bits, bias = (5, 2, 15) if name == "fp8_e5m2" else (4, 3, 8 if "fnuz" in name else 7)
    out = []
    for code in range(256):
        sign = -1.0 if code & 128 else 1.0
        exponent = code >> mantissa_bits & (1 << exponent_bits) - 1
        mantissa = code & (1 << mantissa_bits) - 1
        value = sign * (
            math.ldexp(mantissa, 1 - bias - mantissa_bits) if exponent == 0 else
            math.ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits))
        if name == "fp8_e4m3" and code & 127 == 127 or name == "fp8_e4m3fnuz" and code == 128:
            value = math.nan
        if name == "fp8_e5m2" and exponent == 31:
            value = math.nan if mantissa else sign * math.inf
        out.append(value)
    return np.array(out)


def as_float64(raw, dtype):
    if dtype.startswith("fp8"):
        return fp8_values(dtype)[raw]
    with np.errstate(invalid="ignore"):  # signalling NaNs
        if dtype == "bf16":
            return (raw.view("<u2").astype("<u4") << 16).view("<f4").astype("<f8")
        return raw.view(TYPES[dtype][0]).astype("<f8")


def round_to(values, dtype):
    """float64 to the dtype's bits, once, to nearest even."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype != "bf16":
            return values.astype(TYPES[dtype][0])
        # the decimals are short: none lies within a float32 rounding error of a bf16 tie but exactly on it
        bits = values.astype("<f4").view("<u4").astype("<u8")
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def from_json(data, raw, dtype):
    """Is the list `data` this raw tensor?"""
    if dtype in ("int8", "uint8", "int32", "int64"):
        return all(type(v) is int for v in data) and data == raw.view(TYPES[dtype][0]).tolist()
    if dtype == "bool":
        return all(type(v) is bool for v in data) and data == raw.view("?").tolist()
    words = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    if any(type(v) is str and v not in words for v in data) or any(type(v) is bool for v in data):
        return False
    values = np.array([words[v] if type(v) is str else v for v in data], "<f8")
    wanted = as_float64(raw, dtype)
    if len(values) != len(wanted) or not np.array_equal(np.isnan(values), np.isnan(wanted)):
        return False
    good = ~np.isnan(wanted)
    if dtype.startswith("fp8"):  # written as float32
        return np.array_equal(values[good].astype("<f4"), wanted[good])
    return round_to(values[good], dtype).tobytes() == round_to(wanted[good], dtype).tobytes()


def check_digest(d, raw, dtype):
    assert set(d) == {"sha256", "min", "max", "mean", "nan"}, d
    assert d["sha256"] == hashlib.sha256(raw.tobytes()).hexdigest()
    values = as_float64(raw, dtype)
    good = values[~np.isnan(values)]
    assert d["nan"] == len(values) - len(good)
    with np.errstate(invalid="ignore", over="ignore"):
        wanted = [good.min(), good.max(), good.mean()] if len(good) else [math.nan] * 3
    for found, want in zip((d["min"], d["max"], d["mean"]), wanted):
        if math.isfinite(want):
            assert math.isclose(found, want, rel_tol=1e-9, abs_tol=1e-300), (found, want)
        else:  # sums near the largest float64 may overflow in one order and not in another
            assert isinstance(found, str) or abs(found) > 1e300, (found, want)


def no_constants(name):
    raise ValueError(name)


def strict(text):
    return json.loads(text, parse_constant=no_constants)


def check_npy(body, tensors):
    (name, dtype, _, shape, raw), = tensors
    array = np.load(io.BytesIO(body), allow_pickle=False)
    assert array.dtype == np.dtype(TYPES[dtype][1]), array.dtype
    assert array.shape == shape and array.tobytes() == raw.tobytes()
    assert (len(body) - raw.nbytes) % 64 == 0


def check_safetensors(body, tensors, mode):
    n = int.from_bytes(body[:8], "little")
    assert body[8:9] == b"{" and (8 + n) % 8 == 0
    head = strict(body[8:8 + n].decode("ascii"))
    data = body[8 + n:]
    meta = head.pop("__metadata__")
    assert all(type(v) is str for v in meta.values())
    assert meta["op"] == "sample" and strict(meta["stats"]) == STATS
    end = 0
    for name, dtype, _, shape, raw in tensors:
        if mode == "digest":
            check_digest(strict(meta["digest." + name]), raw, dtype)
        if mode != "all":
            continue
        entry = head.pop(name)
        assert entry["dtype"] == TYPES[dtype][2] and tuple(entry["shape"]) == shape
        assert entry["data_offsets"] == [end, end + raw.nbytes]
        assert data[end:end + raw.nbytes] == raw.tobytes()
        end += raw.nbytes
    assert end == len(data) and not head


def check_json(body, tensors, mode, b64):
    reply = strict(body.decode("ascii"))
    assert set(reply) == {"outputs", "stats"} and reply["stats"] == STATS
    assert list(reply["outputs"]) == [t[0] for t in tensors]
    for name, dtype, _, shape, raw in tensors:
        out = reply["outputs"][name]
        assert out["dtype"] == dtype and tuple(out["shape"]) == shape
        keys = {"dtype", "shape"} | ({"digest"} if mode == "digest" else {"base64" if b64 else "data"} if mode == "all" else set())
        assert set(out) == keys
        if mode == "digest":
            check_digest(out["digest"], raw, dtype)
        elif mode == "all" and b64:
            assert base64.b64decode(out["base64"], validate=True) == raw.tobytes()
        elif mode == "all":
            assert from_json(out["data"], raw, dtype), "data of " + dtype


def check_oip(body, tensors, mode, header, content_type, ident):
    assert content_type == ("application/json" if header < 0 else "application/octet-stream")
    assert (header >= 0) == (mode == "all" and any(t[2] for t in tensors))
    text, data = (body, b"") if header < 0 else (body[:header], body[header:])
    assert header < 0 or header % 8 == 0
    reply = strict(text.decode("ascii"))
    assert reply["model_name"] == "sample" and reply["model_version"] == "1"
    assert reply.get("id", "-") == ident
    assert strict(reply["parameters"]["stats"]) == STATS
    if mode != "all":
        assert reply["outputs"] == []
        for name, dtype, _, _, raw in tensors if mode == "digest" else ():
            check_digest(strict(reply["parameters"]["digest." + name]), raw, dtype)
        return
    assert len(reply["outputs"]) == len(tensors)
    end = 0
    for out, (name, dtype, binary, shape, raw) in zip(reply["outputs"], tensors):
        assert out["name"] == name and tuple(out["shape"]) == shape
        assert out["datatype"] == (TYPES[dtype][3] or out["datatype"])
        if binary:
            assert out["parameters"]["binary_data_size"] == raw.nbytes and "data" not in out
            assert data[end:end + raw.nbytes] == raw.tobytes()
            end += raw.nbytes
        else:
            assert from_json(out["data"], raw, dtype), "data of " + dtype
    assert end == len(data)


def check(path):
    with open(path + ".body", "rb") as f:
        body = f.read()
    raw = np.fromfile(path + ".raw", "u1")
    with open(path + ".txt") as f:
        lines = f.read().splitlines()
    form, mode, b64, content_type, header, ident = lines[0].split(" ")
    tensors, at = [], 0
    for line in lines[1:]:
        name, dtype, binary, *shape = line.split()
        shape = tuple(int(n) for n in shape)
        size = int(np.prod(shape, dtype=int)) * np.dtype(TYPES[dtype][0]).itemsize
        tensors.append((name, dtype, binary == "1", shape, raw[at:at + size]))
        at += size
    assert at == len(raw)
    if form == "npy":
        check_npy(body, tensors)
    elif form == "safetensors":
        check_safetensors(body, tensors, mode)
    elif form == "json":
        check_json(body, tensors, mode, b64 == "1")
    else:
        check_oip(body, tensors, mode, int(header), content_type, ident)
    return form


counts, failed = {}, 0
for name in sorted(os.listdir(sys.argv[1])):
    if name.endswith(".body"):
        path = os.path.join(sys.argv[1], name[:-5])
        try:
            form = check(path)
            counts[form] = counts.get(form, 0) + 1
        except Exception as problem:  # each kind of disagreement is a failure
            failed += 1
            with open(path + ".txt") as f:
                print("%s: %s: %r" % (f.read().replace("\n", "; "), type(problem).__name__, problem))
print("encode: %s, %d failed" % (counts, failed))
sys.exit(1 if failed or len(counts) != 4 else 0)
