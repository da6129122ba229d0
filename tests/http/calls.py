"""Calls of the operators as tests make them: problems with float64 answers, bodies in every form and coding, replies in
every form, and what must hold for the statistics of each. Shared by test_runs, test_errors, test_oip, test_contract.
"""
import base64
import gzip
import hashlib
import json
import re
import subprocess
import time
import zlib

import numpy as np

import aiterd_test as t
from client import Client

FLOATS = ("fp32", "fp16", "bf16")
PROBLEM_KEYS = {"type", "title", "status", "detail", "op", "input", "param", "found", "wanted", "request_id"}
TIMINGS = {"receive", "decode", "reserve", "queue", "upload", "kernel", "download", "device"}
MEMORY = {"allocated_before", "inputs", "cached", "outputs", "workspace", "peak", "overhead", "device_free", "device_total"}
SAMPLES = {"warmup", "iters", "min", "median", "mean", "p95", "max", "stddev"}


class Call:
    """One problem: an operator, its inputs and parameters, and what it must answer."""

    def __init__(self, op, tensors, params, want, dtype):
        self.op, self.tensors, self.params, self.want, self.dtype = op, tensors, params, want, dtype
        self.path = "/v1/ops/" + op
        self.infer = "/v2/models/%s/infer" % op

    def dtype_of(self, output):
        return "fp32" if output == "softmax_lse" else self.dtype

    @property
    def bytes_in(self):
        return sum(a.nbytes for a in self.tensors.values())

    @property
    def bytes_out(self):
        return sum(w.size * t.DTYPES[self.dtype_of(n)][0].itemsize for n, w in self.want.items())

    def check(self, outputs, names=None):
        names = set(self.want) if names is None else set(names)
        assert set(outputs) == names, (sorted(outputs), sorted(names))
        for name, got in outputs.items():
            assert t.name_of(got) == self.dtype_of(name), (name, got.dtype)
            t.assert_close(got, self.want[name], self.dtype_of(name), name)


def rmsnorm(dtype="fp32", seed=0, shape=(2, 3, 40), eps=None):
    x, w = t.normal(shape, dtype, seed), t.normal(shape[-1:], dtype, seed + 1)
    want = t.rmsnorm(t.to_float(x), t.to_float(w), 1e-6 if eps is None else eps)
    return Call("rmsnorm", {"x": x, "weight": w}, {} if eps is None else {"eps": eps}, {"out": want}, dtype)


def attention(dtype="fp32", seed=0, shape=(2, 5, 7, 4, 2, 16, 8), lse=True, **params):
    """shape: batch, Sq, Sk, Hq, Hk, D, Dv."""
    b, sq, sk, hq, hk, d, dv = shape
    q, k = t.normal((b, sq, hq, d), dtype, seed), t.normal((b, sk, hk, d), dtype, seed + 1)
    v = t.normal((b, sk, hk, dv), dtype, seed + 2)
    out, s = t.attention(t.to_float(q), t.to_float(k), t.to_float(v), params.get("causal", False),
                         params.get("window_size", (-1, -1)), params.get("softmax_scale"))
    want = {"out": out}
    if lse:
        params["return_lse"], want["softmax_lse"] = True, s
    return Call("flash_attn_func", {"q": q, "k": k, "v": v}, params, want, dtype)


def varlen(dtype="fp32", seed=0, lengths=((3, 5), (0, 4), (6, 6), (2, 0)), lse=True, heads=(4, 2), dims=(16, 16), **params):
    """lengths: (queries, keys) of each sequence; heads: of q and k; dims: of q and v."""
    cq = np.cumsum([0] + [a for a, _ in lengths]).astype(np.int32)
    ck = np.cumsum([0] + [b for _, b in lengths]).astype(np.int32)
    q, k = (t.normal((c[-1], h, dims[0]), dtype, seed + i) for i, (c, h) in enumerate(zip((cq, ck), heads)))
    v = t.normal((ck[-1], heads[1], dims[1]), dtype, seed + 2)
    out, s = t.attention_varlen(t.to_float(q), t.to_float(k), t.to_float(v), cq, ck, params.get("causal", False),
                                params.get("window_size", (-1, -1)), params.get("softmax_scale"))
    want = {"out": out}
    if lse:
        params["return_lse"], want["softmax_lse"] = True, s
    params.setdefault("max_seqlen_q", int(max(a for a, _ in lengths)))
    params.setdefault("max_seqlen_k", int(max(b for _, b in lengths)))
    return Call("flash_attn_varlen_func", {"q": q, "k": k, "v": v, "cu_seqlens_q": cq, "cu_seqlens_k": ck}, params,
                want, dtype)


MAKERS = (rmsnorm, attention, varlen)


# Bodies: each takes tensors and params and gives (query, body, headers)

def text_of(v):
    return json.dumps(v) if isinstance(v, (bool, list, tuple)) else str(v)


def query_of(params):
    return "&".join("%s=%s" % (n, text_of(v).replace(" ", "%20").replace("[", "%5B").replace("]", "%5D"))
                    for n, v in params.items())


def with_query(path, query):
    return path + ("&" if "?" in path else "?") + query if query else path


def as_multipart(tensors, params):
    body, kind = t.multipart(list(tensors.items()) + [(n, text_of(v)) for n, v in params.items()])
    return "", body, [("Content-Type", kind)]


def as_multipart_safetensors(tensors, params):
    """Parameters first, then one part that holds all tensors."""
    body, kind = t.multipart([(n, text_of(v)) for n, v in params.items()] + [("tensors", t.safetensors(tensors))])
    return "", body, [("Content-Type", kind)]


def as_multipart_mixed(tensors, params):
    """An npy part, a JSON part, the rest in a safetensors part; parameters half as fields, half in the query."""
    names = list(tensors)
    parts = [(names[0], tensors[names[0]]),
             (names[1], json.dumps(json_tensor(tensors[names[1]])).encode(), "application/json")]
    if names[2:]:
        parts.append(("rest", t.safetensors({n: tensors[n] for n in names[2:]}), "application/x-safetensors"))
    fields = dict(list(params.items())[::2])
    body, kind = t.multipart(parts + [(n, text_of(v)) for n, v in fields.items()])
    return query_of({n: v for n, v in params.items() if n not in fields}), body, [("Content-Type", kind)]


def as_safetensors(tensors, params):
    return "", t.safetensors(tensors, params=params), [("Content-Type", "application/x-safetensors")]


def as_safetensors_query(tensors, params):
    return query_of(params), t.safetensors(tensors, pad=1), [("Content-Type", "application/vnd.safetensors")]


def json_tensor(a, form="list"):
    one = {"dtype": t.name_of(a), "shape": list(a.shape)}
    if form == "base64":
        one["base64"] = base64.b64encode(a.tobytes()).decode()
    else:
        one["data"] = t.json_values(a.ravel() if form == "flat" else a)
    return one


def as_json(tensors, params, form="list"):
    body = {"inputs": {n: json_tensor(a, form) for n, a in tensors.items()}, "params": params}
    return "", json.dumps(body).encode(), [("Content-Type", "application/json")]


def as_json_flat(tensors, params):
    return as_json(tensors, params, "flat")


def as_json_base64(tensors, params):
    return as_json(tensors, params, "base64")


BODIES = {"multipart": as_multipart, "multipart safetensors": as_multipart_safetensors,
          "multipart mixed": as_multipart_mixed, "safetensors": as_safetensors,
          "safetensors query": as_safetensors_query, "json": as_json, "json flat": as_json_flat,
          "json base64": as_json_base64}
# the reply's form when nothing is said, with one output and with several
OWN_FORM = {"multipart": ("npy", "safetensors"), "multipart safetensors": ("npy", "safetensors"),
            "multipart mixed": ("npy", "safetensors"), "safetensors": ("safetensors",) * 2,
            "safetensors query": ("safetensors",) * 2, "json": ("json",) * 2, "json flat": ("json",) * 2,
            "json base64": ("json",) * 2}


# Codings

def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def unzstd(data):
    return subprocess.run(["zstd", "-q", "-d", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def raw_deflate(data):
    c = zlib.compressobj(6, zlib.DEFLATED, -15)
    return c.compress(data) + c.flush()


def members(compress):
    """Compressed in several pieces, one after the other, an empty one among them."""
    def coded(data):
        cut = [0, len(data) // 3, len(data) // 3, len(data) - 1, len(data)]
        return b"".join(compress(data[a:b]) for a, b in zip(cut[:-1], cut[1:]))
    return coded


CODINGS = {"identity": ("identity", bytes), "gzip": ("gzip", gzip.compress), "x-gzip": ("x-gzip", gzip.compress),
           "gzip members": ("gzip", members(gzip.compress)), "deflate": ("deflate", zlib.compress),
           "raw deflate": ("deflate", raw_deflate), "zstd": ("zstd", zstd), "zstd frames": ("zstd", members(zstd))}


def decoded(r):
    """A reply's body without its content coding; gzip and deflate by zlib, strictly to the end."""
    coding = r.get("content-encoding")
    if coding is None:
        return r.body
    if coding == "zstd":
        return unzstd(r.body)
    d = zlib.decompressobj({"gzip": 31, "deflate": 15}[coding])
    data = d.decompress(r.body) + d.flush()
    assert d.eof and not d.unused_data, "the reply's %s stream is not one whole stream" % coding
    return data


# Replies

class Reply:
    """A 200 reply of /v1 taken apart: form, outputs, digests, stats of the body (None: npy has none) and the header."""

    def __init__(self, r):
        assert r.status == 200, r
        self.r, self.stats, self.digests, self.described = r, None, {}, {}
        body, kind = decoded(r), r.get("content-type")
        if kind == "application/x-npy":
            self.form, self.outputs = "npy", {"out": t.npy_parse(body)}
        elif kind == "application/x-safetensors":
            self.form = "safetensors"
            self.outputs, metadata = t.safetensors_parse(body)
            self.stats = json.loads(metadata["stats"])
            self.digests = {n[7:]: json.loads(v) for n, v in metadata.items() if n.startswith("digest.")}
            assert metadata["op"] == self.stats["op"]
        elif kind == "application/json":
            self.form, self.outputs = "json", {}
            reply = json.loads(body.decode("ascii"), parse_constant=no_constant)
            self.stats = reply["stats"]
            for name, o in reply["outputs"].items():
                self.described[name] = (o["dtype"], o["shape"])
                if "digest" in o:
                    self.digests[name] = o["digest"]
                if "base64" in o or "data" in o:
                    self.outputs[name] = from_json(o)
        else:
            raise AssertionError("Content-Type: %s" % kind)
        line = r.get("aiterd-stats")
        assert len(line) <= 4096 and line.isascii() and line.isprintable(), line
        self.header = json.loads(line, parse_constant=no_constant)


def no_constant(name):
    raise AssertionError("%s is no JSON" % name)


def from_json(o):
    dt = t.DTYPES[o["dtype"]][0]
    if "base64" in o:
        return np.frombuffer(base64.b64decode(o["base64"], validate=True), dt).reshape(o["shape"])
    flat = np.asarray(o["data"], object).ravel()
    values = np.array([float(v) for v in flat]) if dt.kind in "fV" else np.array([int(v) for v in flat])
    return t.cast(values, o["dtype"]).reshape(o["shape"])


def check_digest(digest, exact):
    """exact: the output that was digested."""
    assert set(digest) == {"sha256", "min", "max", "mean", "nan"}, digest
    assert re.fullmatch("[0-9a-f]{64}", digest["sha256"]), digest
    assert digest["sha256"] == hashlib.sha256(exact.tobytes()).hexdigest(), digest
    v = t.to_float(exact)
    told = [float(digest[n]) for n in ("min", "max", "mean")]
    assert told[:2] == [v.min(), v.max()], (digest, v.min(), v.max())
    assert np.isclose(told[2], v.mean(), rtol=1e-9, atol=1e-9), (digest, v.mean())
    assert digest["nan"] == np.isnan(v).sum()


def check_samples(s, warmup, iters, batch=None):
    assert set(s) == SAMPLES | ({"per_sample"} if batch else set()), s
    assert (s["warmup"], s["iters"]) == (warmup, iters), s
    assert 0 <= s["min"] <= s["median"] <= s["p95"] <= s["max"], s
    assert s["min"] <= s["mean"] <= s["max"] + 1e-6 and s["stddev"] >= 0, s
    if iters == 1:
        assert s["stddev"] == 0 and s["min"] == s["max"], s
    if batch:
        assert abs(s["per_sample"] - s["median"] / batch) < 2e-6, s


def check_stats(reply, call, warmup=0, iters=1, baseline=False, flop=None):
    """All that must hold for the statistics of this reply to this call."""
    h = reply.header
    timing = dict(h["timing_ms"])
    assert set(timing) == TIMINGS | {"encode", "total"}, timing
    assert all(v >= 0 for v in timing.values()), timing
    assert timing["total"] >= max(timing["device"], timing["encode"], timing["decode"]), timing
    assert timing["device"] + 1e-3 >= timing["kernel"], timing
    if reply.stats is not None:
        bare = {n: v for n, v in timing.items() if n not in ("encode", "total")}
        assert reply.stats == {**h, "timing_ms": bare}, (reply.stats, h)
    told = dict(re.fullmatch(r"([a-z]+);dur=([0-9.]+)", part).groups()
                for part in reply.r.get("server-timing").split(", "))
    assert set(told) == TIMINGS - {"device"} | {"encode", "total"}, told
    assert all(abs(float(v) - timing[n]) < 2e-6 for n, v in told.items()), (told, timing)
    assert h["op"] == call.op and h["impl"], h
    assert set(h["device"]) >= {"index", "id", "name", "arch"}, h["device"]
    first = next(iter(call.tensors.values()))
    batch = {"flash_attn_func": first.shape[0],
             "flash_attn_varlen_func": len(call.tensors.get("cu_seqlens_q", [0])) - 1}.get(call.op)
    check_samples(h["kernel_ms"], warmup, iters, batch)
    assert timing["kernel"] == h["kernel_ms"]["median"], h
    m = h["memory"]
    assert set(m) == MEMORY and all(isinstance(v, int) and v >= 0 for v in m.values()), m
    assert (m["inputs"], m["outputs"]) == (call.bytes_in, call.bytes_out), (m, call.bytes_in, call.bytes_out)
    assert m["overhead"] == m["peak"] - m["allocated_before"] - m["inputs"] - m["outputs"], m
    assert m["overhead"] >= m["workspace"] and 0 < m["device_free"] <= m["device_total"], m
    rates = h["rates"]
    assert set(rates) == {"flop", "bytes_moved", "tflops", "gb_per_s"}, rates
    assert rates["bytes_moved"] == call.bytes_in + call.bytes_out, rates
    assert flop is None or rates["flop"] == flop, (rates, flop)
    median = h["kernel_ms"]["median"]
    if median > 0:
        assert abs(rates["tflops"] - rates["flop"] / median / 1e9) <= 1e-4 + 1e-3 * rates["tflops"], rates
        assert abs(rates["gb_per_s"] - rates["bytes_moved"] / median / 1e6) <= 1e-4 + 1e-3 * rates["gb_per_s"], rates
    assert isinstance(h["hints"], list) and all(isinstance(s, str) for s in h["hints"]), h["hints"]
    assert ("baseline" in h) == baseline, h
    if baseline:
        b = h["baseline"]
        assert set(b) == {"impl", "kernel_ms", "speedup", "max_abs_diff"} and "naive" in b["impl"], b
        check_samples(b["kernel_ms"], warmup, iters)
        if median > 0:
            assert abs(b["speedup"] - b["kernel_ms"]["median"] / median) <= 1e-4 + 1e-3 * b["speedup"], h
        assert 0 <= b["max_abs_diff"] <= 4 * t.TOLERANCE[call.dtype], b


# Exchanges

def send(c, call, body="safetensors", params=None, query="", coding="identity", headers=(), path=None):
    """One request on a client (or to a server, on a connection of its own)."""
    more, data, fields = BODIES[body](call.tensors, call.params if params is None else params)
    name, code = CODINGS[coding]
    if coding != "identity":
        fields = fields + [("Content-Encoding", name)]
    target = with_query(with_query(path or call.path, more), query)
    if isinstance(c, Client):
        return c.request("POST", target, code(data), fields + list(headers), timeout=60)
    return c.request("POST", target, code(data), fields + list(headers))


def problem(r, status, slug, **members):
    """r is this problem, in every respect; members that must stand in it: a value, or a pattern for search()."""
    assert r.status == status, "wanted %d %s, found %r" % (status, slug, r)
    assert r.get("content-type") == "application/problem+json", r.headers
    p = json.loads(r.body.decode("ascii"))
    assert p["type"] == "/problems/" + slug, p
    assert set(p) <= PROBLEM_KEYS and p["status"] == status and p["title"] and p["detail"], p
    assert p["request_id"] == r.get("x-request-id"), (p, r.headers)
    for name, want in members.items():
        found = p.get(name)
        fits = found is None if want is None else found is not None and (
            want.search(found) if hasattr(want, "search") else found == want)
        assert fits, "%s: wanted %r in %r" % (name, want, p)
    return p


def oip_error(r, status, pattern=""):
    """r is an error of the Open Inference Protocol."""
    assert r.status == status, "wanted %d, found %r" % (status, r)
    assert r.get("content-type") == "application/json", r.headers
    p = json.loads(r.body.decode("ascii"))
    assert set(p) == {"error"} and p["error"], p
    assert re.search(pattern, p["error"]), "%r does not fit %r" % (p["error"], pattern)
    return p["error"]


def nothing_lent(server):
    """No request's memory is left behind."""
    deadline = time.monotonic() + 10
    while True:
        i = json.loads(server.request("GET", "/v1/info").body.decode())
        if i["arena"]["borrowed"] == 0 and i["server"]["requests"] == 0:
            return
        assert time.monotonic() < deadline, i
        time.sleep(0.02)
