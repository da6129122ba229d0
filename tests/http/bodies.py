"""Tensors and the request and reply bodies that carry them, made with numpy alone, independently of the server.

bf16 has no numpy type: here it is an array of dtype V2 (two opaque bytes), which is also how ml_dtypes writes it to
npy. Used by the black-box tests in this folder and by bench/.
"""
import ast
import io
import json
import struct

import numpy as np

BF16 = np.dtype("V2")
# ours: (numpy, safetensors, Open Inference Protocol); fp8 is given as uint8 with its dtype named
DTYPES = {
    "fp32": (np.dtype("<f4"), "F32", "FP32"), "fp16": (np.dtype("<f2"), "F16", "FP16"), "bf16": (BF16, "BF16", "BF16"),
    "fp64": (np.dtype("<f8"), "F64", "FP64"), "int8": (np.dtype("i1"), "I8", "INT8"),
    "uint8": (np.dtype("u1"), "U8", "UINT8"), "int32": (np.dtype("<i4"), "I32", "INT32"),
    "int64": (np.dtype("<i8"), "I64", "INT64"), "bool": (np.dtype("?"), "BOOL", "BOOL"),
}
FP8_SAFETENSORS = {"F8_E4M3": np.dtype("u1"), "F8_E4M3FNUZ": np.dtype("u1"), "F8_E5M2": np.dtype("u1")}


def name_of(a):
    """Our name of an array's dtype."""
    return next(name for name, (dt, _, _) in DTYPES.items() if dt == a.dtype)


def to_bf16(values):
    """Round to nearest even, once: from float64 too (via float32 made odd, so that no tie arises on the way)."""
    v = np.asarray(values, np.float64)
    with np.errstate(over="ignore"):
        f = v.astype(np.float32)
    bits = f.view(np.uint32).copy()
    inexact = np.isfinite(f) & (f.astype(np.float64) != v)
    away = inexact & (np.abs(f.astype(np.float64)) > np.abs(v))
    bits[away] -= 1  # towards zero ...
    bits[inexact] |= 1  # ... then odd: sticky
    nan = np.isnan(v)
    rounded = (bits + (np.uint32(0x7fff) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    rounded = np.where(nan, np.uint32(0x7fc0), rounded).astype(np.uint16)
    return rounded.view(BF16)


def cast(values, dtype):
    """Array of the dtype called so by us, each value rounded once."""
    return to_bf16(values) if dtype == "bf16" else np.asarray(values).astype(DTYPES[dtype][0])


def to_float(a):
    """float64 values of an array of any dtype above, exactly."""
    if a.dtype == BF16:
        with np.errstate(invalid="ignore"):  # signalling NaNs
            return (np.ascontiguousarray(a).view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return a.astype(np.float64)


def normal(shape, dtype, seed):
    return cast(np.random.default_rng(seed).standard_normal(shape, np.float32), dtype)


def shuffled(a):
    """Its bytes shuffled: all first bytes, then all second bytes and so on; same dtype and shape."""
    planes = np.frombuffer(a.tobytes(), np.uint8).reshape(-1, a.dtype.itemsize).T
    return np.frombuffer(planes.tobytes(), a.dtype).reshape(a.shape)


def safetensors(tensors, metadata=None, params=None, op=None, dtypes=None, pad=8):
    """A file of these arrays, in this order; params become __metadata__.params. dtypes overrides spellings."""
    metadata = dict(metadata or {})
    if params is not None:
        metadata["params"] = json.dumps(params)
    if op is not None:
        metadata["op"] = op
    header, at, pieces = ({"__metadata__": metadata} if metadata else {}), 0, []
    for name, a in tensors.items():
        spelling = (dtypes or {}).get(name) or DTYPES[name_of(a)][1]
        header[name] = {"dtype": spelling, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
        pieces.append(a.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % pad)
    return b"".join([struct.pack("<Q", len(text)), text, *pieces])


def safetensors_parse(data):
    """(arrays by name, metadata); refuses what the format refuses."""
    if len(data) < 8:
        raise ValueError("%d bytes are no safetensors file" % len(data))
    (n,) = struct.unpack_from("<Q", data)
    if n > len(data) - 8:
        raise ValueError("its header is said to have %d bytes, the file has %d" % (n, len(data)))
    header = json.loads(bytes(data[8:8 + n]).decode())
    metadata = header.pop("__metadata__", {})
    if any(not isinstance(v, str) for v in metadata.values()):
        raise ValueError("a metadata value is not a string: %r" % metadata)
    known = {spelling: dt for dt, spelling, _ in DTYPES.values()}
    known.update(FP8_SAFETENSORS)
    end, tensors = 0, {}
    for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, stop = t["data_offsets"]
        dt, count = known[t["dtype"]], int(np.prod(t["shape"], dtype=np.int64))
        if begin != end or stop - begin != count * dt.itemsize:
            raise ValueError("%s lies at %d..%d; %d bytes from %d wanted" %
                             (name, begin, stop, count * dt.itemsize, end))
        tensors[name] = np.frombuffer(data, dt, count, 8 + n + begin).reshape(t["shape"])
        end = stop
    if 8 + n + end != len(data):
        raise ValueError("%d bytes after the last tensor" % (len(data) - 8 - n - end))
    return tensors, metadata


def npy(a, descr=None, version=(1, 0), fortran=False):
    """An npy file; descr overrides the dtype's text ("|V2"), fortran stores column major."""
    if descr is None:
        descr = "<V2" if a.dtype == BF16 else a.dtype.str
    text = "{'descr': %r, 'fortran_order': %r, 'shape': %r, }" % (descr, fortran, tuple(a.shape))
    length = "<H" if version[0] == 1 else "<I"
    lead = 8 + struct.calcsize(length)
    text += " " * (-(lead + len(text) + 1) % 64) + "\n"
    return b"".join([b"\x93NUMPY", bytes(version), struct.pack(length, len(text)),
                     text.encode("utf-8" if version[0] > 2 else "latin1"), a.tobytes("F" if fortran else "C")])


def npy_parse(data):
    """The array; <V2 (which numpy itself refuses or takes for void) is bf16."""
    f = io.BytesIO(data)
    version = np.lib.format.read_magic(f)
    (n,) = struct.unpack("<H" if version[0] == 1 else "<I", f.read(2 if version[0] == 1 else 4))
    header = ast.literal_eval(f.read(n).decode("latin1"))
    if set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError("npy header: %r" % header)
    dt = BF16 if header["descr"] in ("<V2", "|V2") else np.dtype(header["descr"])
    rest = f.read()
    count = int(np.prod(header["shape"], dtype=np.int64))
    if len(rest) != count * dt.itemsize:
        raise ValueError("npy: %d bytes of data, %d wanted" % (len(rest), count * dt.itemsize))
    return np.frombuffer(rest, dt).reshape(header["shape"], order="F" if header["fortran_order"] else "C")


def multipart(parts, boundary="----aiterd-test-boundary"):
    """(body, content type). A part is an array (npy file), bytes (file), or text (a field): {name: value}, or a list
    of (name, value) to repeat names, or (name, value, content type)."""
    out = []
    for name, value, *kind in (parts.items() if isinstance(parts, dict) else parts):
        head = 'Content-Disposition: form-data; name="%s"' % name
        if isinstance(value, np.ndarray):
            value = npy(value)
        if isinstance(value, bytes):
            head += '; filename="%s.bin"\r\nContent-Type: %s' % (name, kind[0] if kind else "application/octet-stream")
        else:
            value = str(value).encode()
            head += "\r\nContent-Type: %s" % kind[0] if kind else ""
        out.append(b"--" + boundary.encode() + b"\r\n" + head.encode() + b"\r\n\r\n" + value + b"\r\n")
    out.append(b"--" + boundary.encode() + b"--\r\n")
    return b"".join(out), "multipart/form-data; boundary=" + boundary


def json_values(a):
    """Nested lists with NaN and infinities as the strings of the contract."""
    special = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

    def one(v):
        return [one(w) for w in v] if isinstance(v, list) else special.get(str(v), v) if isinstance(v, float) else v
    return one((to_float(a) if a.dtype.kind in "fV" else a).tolist())


def native_json(tensors, params=None, flat=False):
    inputs = {n: {"dtype": name_of(a), "shape": list(a.shape), "data": json_values(a.ravel() if flat else a)}
              for n, a in tensors.items()}
    return json.dumps({"inputs": inputs, **({"params": params} if params is not None else {})}).encode()


def oip(tensors, parameters=None, binary=True, outputs=None, binary_output=None, request_id=None):
    """(body, headers) of an Open Inference Protocol request; outputs: names, or the objects themselves."""
    inputs, tail = [], []
    for name, a in tensors.items():
        t = {"name": name, "shape": list(a.shape), "datatype": DTYPES[name_of(a)][2]}
        if binary:
            t["parameters"] = {"binary_data_size": a.nbytes}
            tail.append(a.tobytes())
        else:
            t["data"] = json_values(a.ravel())
        inputs.append(t)
    request = {"inputs": inputs}
    parameters = dict(parameters or {})
    if binary_output is not None:
        parameters["binary_data_output"] = binary_output
    if parameters:
        request["parameters"] = parameters
    if outputs is not None:
        request["outputs"] = [{"name": o} if isinstance(o, str) else o for o in outputs]
    if request_id is not None:
        request["id"] = request_id
    text = json.dumps(request).encode()
    if not binary:
        return text, [("Content-Type", "application/json")]
    return text + b"".join(tail), [("Content-Type", "application/octet-stream"),
                                   ("Inference-Header-Content-Length", str(len(text)))]


def oip_parse(body, header_length=None):
    """(the JSON object, arrays by name) of a reply."""
    cut = len(body) if header_length is None else int(header_length)
    reply = json.loads(body[:cut].decode())
    known = {spelling: dt for dt, _, spelling in DTYPES.values()}
    at, tensors = cut, {}
    for t in reply.get("outputs", []):
        dt = known[t["datatype"]]
        size = t.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = np.array([float(v) if isinstance(v, str) else v for v in np.asarray(t["data"], object).ravel()])
            tensors[t["name"]] = cast(values, next(n for n, d in DTYPES.items() if d[0] == dt)).reshape(t["shape"])
            continue
        if at + size > len(body):
            raise ValueError("%s: %d bytes announced, %d there" % (t["name"], size, len(body) - at))
        tensors[t["name"]] = np.frombuffer(body[at:at + size], dt).reshape(t["shape"])
        at += size
    if at != len(body):
        raise ValueError("%d bytes after the last output" % (len(body) - at))
    return reply, tensors
