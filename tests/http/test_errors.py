#!/usr/bin/python3
"""What is refused, how, and that nothing comes of it: statuses and problem types, on /v2 as the protocol wants them;
operators' refusals with what was found and wanted; malformed bodies of every kind; corrupt codings and bombs. After
each of them the server works on, and in the end no memory is lent.
"""
import base64
import gzip
import json
import re
import struct
import unittest
import zlib

import numpy as np

import aiterd_test as t
import calls
from calls import BODIES, CODINGS, Call, Reply, oip_error, problem, send

MAX_BODY, MAX_JSON, MAX_EXPANSION = 32 << 20, 4 << 20, 100
ST, JSON, NPY = "application/x-safetensors", "application/json", "application/octet-stream"
RMS, ATTN, VARLEN = ("/v1/ops/" + n for n in ("rmsnorm", "flash_attn_func", "flash_attn_varlen_func"))

server = None


def setUpModule():
    global server
    server = t.Server("--loops", "2", "--threads", "2", "--prefault", "1M", "--max-body", str(MAX_BODY),
                      "--max-json", str(MAX_JSON), "--max-expansion", str(MAX_EXPANSION))
    server.request("GET", "/v1/info")


def tearDownModule():
    try:
        calls.nothing_lent(server)
    finally:
        server.stop()


def has(pattern):
    return re.compile(pattern)


class Test(unittest.TestCase):
    def setUp(self):
        self.server, self.c = server, server.client(60)

    def tearDown(self):
        self.c.close()

    def goes_on(self, r):
        """The connection serves the next request, or the reply said that it would close, and it did."""
        if (r.get("connection") or "").lower() == "close":
            self.assertTrue(self.c.closed(5))
            self.c.close()
            self.c = self.server.client(60)
        call = calls.rmsnorm(seed=7)
        call.check(Reply(send(self.c, call)).outputs)

    def refused(self, status, slug, method, target, body=None, headers=(), **members):
        r = self.c.request(method, target, body, headers)
        p = problem(r, status, slug, **members)
        self.goes_on(r)
        return p

    def post(self, status, slug, target, body, kind=ST, coding=None, **members):
        fields = [("Content-Type", kind)] + ([("Content-Encoding", coding)] if coding else [])
        return self.refused(status, slug, "POST", target, body, fields, **members)

    def call(self, status, slug, call, body="safetensors", query="", **members):
        r = send(self.c, call, body, query=query)
        p = problem(r, status, slug, **members)
        self.assertEqual(p["op"], call.op)
        self.goes_on(r)
        return p


class Statuses(Test):
    """One of each status that comes without trouble in framing (those are test_framing's)."""

    def test_404(self):
        for path in ("/nowhere", "/v1", "/v1/op", "/v1/ops/rmsnorm/run", "/v3", "/v1/info/more", "/problems", "/v20"):
            self.refused(404, "not-found", "GET", path, detail=has(re.escape(path)), op=None)
        self.refused(404, "not-found", "GET", "/problems/none", detail=has("none"))
        for method, body in (("GET", None), ("POST", b"x" * 1000)):
            self.refused(404, "unknown-operator", method, "/v1/ops/rmsnorn", body, param="op", found="rmsnorn",
                         wanted=has("/v1/ops"))
        self.refused(404, "not-found", "POST", "/nowhere", b"x" * 100000)
        self.assertEqual(self.c.request("GET", "/v1/%6fps/rms%6Eorm").status, 200, "percent-encoded, but the same path")
        self.assertEqual(self.c.request("GET", "/v1/ops/").status, 200)

    def test_405(self):
        for method, path, allow in (("POST", "/v1/info", "GET, HEAD"), ("DELETE", "/v1/ops", "GET, HEAD"),
                                    ("PUT", RMS, "GET, HEAD, POST"), ("DELETE", RMS, "GET, HEAD, POST"),
                                    ("POST", "/", "GET, HEAD"), ("POST", "/problems/not-found", "GET, HEAD")):
            r = self.c.request(method, path)
            problem(r, 405, "method-not-allowed", param="method", found=method, wanted=allow)
            self.assertEqual(r.get("allow"), allow)
            self.goes_on(r)
        for method, path, allow in (("GET", "/v2/models/rmsnorm/infer", "POST"), ("PUT", "/v2/models/stats", "GET, HEAD"),
                                    ("POST", "/v2", "GET, HEAD"), ("GET", "/v2/repository/index", "POST")):
            r = self.c.request(method, path)
            oip_error(r, 405, "not %s" % method)
            self.assertEqual(r.get("allow"), allow)
            self.goes_on(r)

    def test_406(self):
        call = calls.rmsnorm()
        for accept in ("text/html", "application/pdf, image/*"):
            r = send(self.c, call, headers=[("Accept", accept)])
            problem(r, 406, "not-acceptable", param="Accept", found=accept, wanted=has("safetensors"))
            self.goes_on(r)
        self.call(406, "not-acceptable", calls.attention(), query="format=npy", param="format", found="2 outputs")
        self.call(406, "not-acceptable", call, query="format=npy&outputs=none", param="format")

    def test_413(self):
        p = self.post(413, "too-large", RMS, bytes(MAX_BODY + 1), param="Content-Length")
        self.assertIn(str(MAX_BODY), p["wanted"])
        self.post(413, "too-large", RMS, b'{"inputs":{"x":{"dtype":"fp32","data":[[' + b"1," * (MAX_JSON // 2), JSON)
        big = t.safetensors({"x": np.zeros(0, np.float32)}).replace(b'"shape":[0]', b'"shape":[%d]' % (1 << 40))
        big = big.replace(b'"data_offsets":[0,0]', b'"data_offsets":[0,%d]' % (4 << 40))
        self.post(413, "too-large", RMS, struct.pack("<Q", len(big) - 8) + big[8:], input="x")

    def test_415(self):
        body = t.safetensors(calls.rmsnorm().tensors)
        for kind in ("text/plain", "application/octet-stream", "application/x-safetensors2", "application/json5", "x"):
            self.post(415, "unsupported-media-type", RMS, body, kind, param="Content-Type", found=kind,
                      wanted=has("multipart/form-data"))
        self.refused(415, "unsupported-media-type", "POST", RMS, body, param="Content-Type", found="none")
        for coding in ("br", "compress", "gzip, gzip", "gzip,deflate", "gzip;q=1", "zlib"):
            self.post(415, "unsupported-encoding", RMS, body, coding=coding, param="Content-Encoding", found=coding,
                      wanted=has("zstd"))

    def test_400_fields_twice(self):
        body = t.safetensors(calls.rmsnorm().tensors)
        for more in (("Content-Type", JSON), ("content-type", ST), ("Content-Encoding", "gzip"), ("Content-Encoding", "identity"),
                     ("Inference-Header-Content-Length", "5")):
            fields = [("Content-Type", ST), ("Content-Encoding", "identity"), ("Inference-Header-Content-Length", "6"), more]
            self.refused(400, "malformed-request", "POST", RMS, body, fields, found="two", detail=has("(?i)" + more[0]))

    def test_417(self):
        r = self.c.request("POST", RMS, b"", [("Content-Type", ST), ("Expect", "the-unexpected")])
        problem(r, 417, "expectation-failed", param="Expect")
        self.goes_on(r)

    def test_501(self):
        for verb in ("load", "unload"):
            r = self.c.request("POST", "/v2/repository/models/rmsnorm/" + verb)
            oip_error(r, 501, "^failed to load")
            self.goes_on(r)
        body, fields = t.oip(calls.rmsnorm().tensors, binary=False)
        shared = json.loads(body)
        del shared["inputs"][0]["data"]
        shared["inputs"][0]["parameters"] = {"shared_memory_region": "r", "shared_memory_byte_size": 4}
        r = self.c.request("POST", "/v2/models/rmsnorm/infer", json.dumps(shared).encode(), fields)
        oip_error(r, 501, "x.*shared memory")
        self.goes_on(r)

    def test_504(self):
        call = calls.attention("fp32", shape=(1, 256, 256, 4, 4, 64, 64), lse=False)
        self.call(504, "deadline-exceeded", call, query="timeout_ms=40&iters=10000")

    def test_507(self):
        """Too little arena: for a body, for outputs; with the bytes that would be needed and are free."""
        with t.Server("--prefault", "0", "--arena", "8M", "--loops", "1", "--threads", "1") as s:
            for shape in ((2, 1 << 20), (4, 1 << 18), (3, 1 << 20)):
                with self.subTest(shape), s.client(60) as c:
                    call = calls.rmsnorm(shape=shape)
                    r = send(c, call, query="outputs=none")
                    p = problem(r, 507, "out-of-memory")
                    self.assertRegex(p["detail"], r"[0-9]+")
                    r = c.request("POST", call.infer, *t.oip(call.tensors)) if r.get("connection") != "close" else (
                        s.request("POST", call.infer, *t.oip(call.tensors)))
                    oip_error(r, 507)
                    small = calls.rmsnorm()
                    small.check(Reply(send(s, small)).outputs)
            calls.nothing_lent(s)

    def test_v2_speaks_its_own(self):
        """The same troubles through the other door: the status, and {"error"}."""
        call = calls.rmsnorm()
        body, fields = t.oip(call.tensors)
        for status, target, data, more, pattern in (
                (404, "/v2/nothing", None, [], "nothing is served"),
                (404, "/v2/models/rmsnorn", None, [], "^Request for unknown model"),
                (404, "/v2/models/rmsnorn/infer", body, fields, "^Request for unknown model: 'rmsnorn'"),
                (404, "/v2/models/rmsnorm/versions/2/infer", body, fields, "^Request for unknown model.*version 2"),
                (413, call.infer, bytes(MAX_BODY + 1), [], "bytes"),
                (415, call.infer, body, fields + [("Content-Encoding", "br")], "Content-Encoding: br"),
                (400, call.infer, b"nonsense", [], ""), (400, call.infer, b"", [], "empty"),
                (400, call.infer, gzip.compress(body)[:-9], fields + [("Content-Encoding", "gzip")], "truncated"),
                (422, call.infer, t.oip({"x": call.tensors["x"]})[0], t.oip({"x": call.tensors["x"]})[1], "weight")):
            with self.subTest(target, status=status):
                r = self.c.request("GET" if data is None else "POST", target, data, more)
                oip_error(r, status, pattern)
                self.goes_on(r)

    def test_problem_pages(self):
        """Each type told in this file (and any other) is explained at its path."""
        for slug in ("not-found", "invalid-shape", "malformed-body", "expansion-limit", "overloaded", "out-of-memory"):
            r = self.c.request("GET", "/problems/" + slug)
            self.assertEqual((r.status, r.get("content-type")), (200, "text/plain; charset=utf-8"))
            self.assertIn("/problems/" + slug, r.body.decode())
            self.assertEqual(self.c.request("HEAD", "/problems/" + slug).status, 200)


class Refusals(Test):
    """What is well-formed and still makes no sense; found, wanted and the name of what is wrong."""

    def attn(self, q=(2, 6, 4, 16), k=(2, 6, 4, 16), v=None, dtypes=("fp16",) * 3, **params):
        shapes = {"q": q, "k": k, "v": k if v is None else v}
        return Call("flash_attn_func", {n: t.normal(s, d, 1) for (n, s), d in zip(shapes.items(), dtypes)}, params, {}, "")

    def test_heads(self):
        p = self.call(422, "invalid-shape", self.attn((2, 6, 4, 16), (2, 6, 3, 16)), input="k", found="3 heads")
        self.assertRegex(p["detail"], "q has 4 heads, k and v have 3.*must divide")
        p = self.call(422, "invalid-shape", self.attn((2, 6, 2, 16), (2, 6, 4, 16)), input="k")
        p = self.call(422, "invalid-shape", self.attn(k=(2, 6, 4, 16), v=(2, 6, 2, 16)), input="v", found="[2, 6, 2, 16]")
        self.assertRegex(p["detail"], "number of key/value heads")
        for make in ("multipart", "json", "json base64", "multipart mixed", "multipart safetensors"):
            self.call(422, "invalid-shape", self.attn((2, 6, 4, 16), (2, 6, 3, 16)), make, input="k")

    def test_dtypes(self):
        p = self.call(422, "invalid-dtype", self.attn(dtypes=("fp16", "bf16", "fp16")), input="k", found="bf16",
                      wanted="fp16")
        self.assertRegex(p["detail"], "q is fp16, k is bf16, v is fp16")
        self.call(422, "invalid-dtype", self.attn(dtypes=("fp64",) * 3), input="q", found="fp64", wanted="fp32|fp16|bf16")
        self.call(422, "invalid-dtype", Call("rmsnorm", {"x": np.ones((2, 4), np.int32), "weight": np.ones(4, np.int32)},
                                             {}, {}, ""), input="x", found="int32")
        x = calls.varlen()
        x.tensors["cu_seqlens_q"] = x.tensors["cu_seqlens_q"].astype(np.int64)
        self.call(422, "invalid-dtype", x, input="cu_seqlens_q", found="int64", wanted="int32")
        a = t.normal((1, 4, 2, 8), "fp32", 1).astype(np.int8).view(np.uint8)
        body = t.safetensors({n: a for n in "qkv"}, dtypes={n: "F8_E4M3" for n in "qkv"})
        self.post(422, "invalid-dtype", ATTN, body, found="fp8_e4m3", detail=has("fp8.*flash_attn_fp8_pertensor_func"))

    def test_ranks(self):
        self.call(422, "invalid-shape", self.attn(q=(6, 4, 16)), input="q", found="[6, 4, 16]", wanted=has("4 dimensions"))
        self.call(422, "invalid-shape", self.attn(q=(1, 2, 6, 4, 16)), input="q", wanted=has("B Sq Hq D"))
        self.call(422, "invalid-shape", self.attn(k=(6, 64)), input="k")
        call = calls.rmsnorm()
        call.tensors["weight"] = t.normal((1, 40), "fp32", 1)
        self.call(422, "invalid-shape", call, input="weight", wanted=has("1 dimension"))
        call.tensors["x"] = np.float32(3).reshape(())
        self.call(422, "invalid-shape", call, input="x", wanted=has("at least 1"))

    def test_lengths(self):
        self.call(422, "invalid-shape", self.attn(k=(3, 6, 4, 16)), input="k", detail=has("batch size"))
        self.call(422, "invalid-shape", self.attn(k=(2, 6, 4, 24)), input="k", detail=has("head dimension"))
        self.call(422, "invalid-shape", self.attn(v=(2, 7, 4, 16)), input="v", detail=has("key/value length"))
        self.call(422, "invalid-shape", self.attn((1, 3, 1, 4), (1, 3, 1, 4)), detail=has("between 8 and 256.*is 4"))
        self.call(422, "invalid-shape", self.attn((1, 3, 1, 264), (1, 3, 1, 264)), wanted="between 8 and 256")
        call = calls.rmsnorm()
        call.tensors["weight"] = t.normal((41,), "fp32", 1)
        self.call(422, "invalid-shape", call, input="weight", found="[41]", wanted="[40]", detail=has("40.*41"))

    def test_swapped_layout(self):
        """Shapes that only make sense the other way round: it says which parameter would make them right."""
        p = self.call(422, "invalid-shape", self.attn((2, 4, 60, 16), (2, 4, 100, 16)))
        self.assertRegex(p["detail"], "layout=bshd.*layout=bhsd they would fit")
        p = self.call(422, "invalid-shape", self.attn((2, 60, 4, 16), (2, 100, 4, 16), layout="bhsd"))
        self.assertRegex(p["detail"], "layout=bhsd.*layout=bshd they would fit")
        hints = Reply(send(self.c, self.attn((1, 2, 64, 16), (1, 2, 64, 16)))).header["hints"]
        self.assertTrue(any("layout=bhsd" in h for h in hints), hints)

    def test_varlen(self):
        for name, values, param, pattern in (
                ("cu_seqlens_q", [0, 5, 3, 9, 11], None, "must never decrease"),
                ("cu_seqlens_q", [1, 3, 3, 9, 11], None, "start at 0"),
                ("cu_seqlens_q", [0, 3, 3, 9, 12], None, "q has 11 rows"),
                ("cu_seqlens_k", [0, 5, 9, 15, 14], None, "never decrease"),
                ("cu_seqlens_k", [0, 5, 9, 15], None, "number of sequences"),
                ("cu_seqlens_k", [-1, 5, 9, 15, 15], None, "start at 0"),
                ("cu_seqlens_q", [0, 0, 0, 0, 11], "max_seqlen_q", "sequence 3 is longer"),
                ("cu_seqlens_q", [0, 2 ** 31 - 1, -2 ** 31, 9, 11], "max_seqlen_q", "longer")):
            call = calls.varlen()
            call.tensors[name] = np.array(values, np.int32)
            self.call(422, "invalid-parameter" if param else "invalid-shape", call, input=None if param else name,
                      param=param, detail=has(pattern))
        call = calls.varlen()
        del call.params["max_seqlen_k"]
        self.call(422, "invalid-parameter", call, param="max_seqlen_k", detail=has("max_seqlen_k"))
        call = calls.varlen()
        call.tensors["cu_seqlens_q"] = np.zeros(0, np.int32)
        self.call(422, "invalid-shape", call, input="cu_seqlens_q")

    def test_inputs(self):
        call = self.attn()
        for name in "qkv":
            tensors = {n: a for n, a in call.tensors.items() if n != name}
            self.call(422, "missing-input", Call(call.op, tensors, {}, {}, ""), input=name, found="nothing")
        for body in BODIES:
            if body != "multipart mixed":
                self.call(422, "missing-input", Call("rmsnorm", {"x": np.ones((2, 4), np.float32)}, {}, {}, ""), body,
                          input="weight", detail=has("rmsnorm needs the input weight"))
        for name, near in (("wieght", "weight"), ("weights", "weight"), ("scale", None), ("W", None), ("out", None)):
            tensors = {"x": np.ones((2, 4), np.float32), name: np.ones(4, np.float32)}
            for body in ("safetensors", "multipart", "json", "json base64"):
                p = self.call(422, "unknown-input", Call("rmsnorm", tensors, {}, {}, ""), body, input=name, found=name)
                self.assertRegex(p["detail"], "x, weight")
                if near:
                    self.assertRegex(p["detail"], "did you mean %s" % near)
        self.call(422, "unknown-input", Call("rmsnorm", {"eps": np.ones(1, np.float32)}, {}, {}, ""), input="eps",
                  detail=has("is a parameter"))
        self.call(422, "unsupported-parameter", Call(call.op, {**call.tensors, "bias": call.tensors["q"]}, {}, {}, ""),
                  input="bias")
        body = t.safetensors({"x": np.ones((2, 4), np.float32), "input": np.ones((2, 4), np.float32)})
        self.post(400, "malformed-body", RMS, body, input="input", detail=has("twice"))
        self.refused(400, "malformed-body", "POST", RMS, b"", [("Content-Type", JSON)])
        self.refused(400, "malformed-body", "POST", RMS)

    def test_expected(self):
        call = calls.rmsnorm()
        tensors = {**call.tensors, "expected.out": call.tensors["x"]}
        for body in BODIES:
            self.call(422, "expected-without-check", Call("rmsnorm", tensors, {}, {}, ""), body, input="expected.out",
                      detail=has("/check"))

    def test_parameters(self):
        call = self.attn()
        for name, near in (("casual", "causal"), ("softmaxscale", "softmax_scale"), ("scale", "softmax_scale"),
                           ("window", "window_size"), ("iter", "iters"), ("warm_up", "warmup"), ("output", "outputs"),
                           ("shufle", "shuffle"), ("timeout", "timeout_ms"), ("Layout", "layout")):
            for query, params in (("%s=1" % name, {}), ("", {name: "1"})):
                p = self.call(422, "unknown-parameter", Call(call.op, call.tensors, params, {}, ""), query=query,
                              param=name, found=name, wanted=near)
                self.assertRegex(p["detail"], "did you mean %s" % near)
        self.call(422, "unknown-parameter", call, query="zzzzzz=1", param="zzzzzz", detail=has("GET /v1/ops/flash_attn_func"))
        self.call(422, "unknown-parameter", call, query="q=1", param="q", detail=has("input tensor"))
        self.call(422, "unknown-parameter", call, query="x" * 100 + "=1")

    def test_values(self):
        call = self.attn()
        for query, param in (("causal=maybe", "causal"), ("causal=2", "causal"), ("softmax_scale=inf", "softmax_scale"),
                             ("softmax_scale=1e999", "softmax_scale"), ("softmax_scale=0x1p3", "softmax_scale"),
                             ("window_size=3", "window_size"), ("window_size=1,2,3,4", "window_size"),
                             ("window_size=a,b", "window_size"), ("window_size=-2,0", "window_size"),
                             ("layout=sbhd", "layout"), ("iters=0", "iters"), ("iters=-1", "iters"),
                             ("iters=1.5", "iters"), ("iters=10001", "iters"), ("warmup=10001", "warmup"),
                             ("iters=99999999999999999999", "iters"), ("outputs=some", "outputs"),
                             ("baseline=fast", "baseline"), ("flush=perhaps", "flush"), ("format=pickle", "format"),
                             ("json=hex", "json"), ("dry_run=2", "dry_run"), ("iters=", "iters"), ("causal", None),
                             ("shuffle=q,zz", "shuffle"), ("dtype.q=bf16", "dtype.q"), ("dtype.q=fp17", "dtype.q"),
                             ("dtype.zz=fp16", "dtype.zz")):
            if param is None:
                self.assertEqual(send(self.c, call, query=query).status, 200)
                continue
            self.call(422, "invalid-parameter", call, query=query, param=param)
        self.call(422, "invalid-parameter", Call("rmsnorm", calls.rmsnorm().tensors, {"eps": -1}, {}, ""), param="eps")
        for query in ("causal=%", "causal=%4", "causal=%zz", "%=1", "=1"):
            self.call(422, "invalid-parameter", call, query=query)
        self.call(422, "unsupported-parameter", call, query="window_size=1,1,4", param="window_size", found="4")

    def test_what_aiter_has(self):
        """Refused by its name, unless at the value that changes nothing."""
        for name, value, neutral in (("dropout_p", "0.1", "0.0"), ("bias", "1", "None"), ("alibi_slopes", "[1]", "None"),
                                     ("return_attn_probs", "true", "False"), ("softcap", "30", "0"),
                                     ("logits_soft_cap", "30.0", "0.0"), ("sink", "2", "None"),
                                     ("sink_ptr", "7", "None"), ("num_splits", "4", "0"),
                                     ("cu_seqlens_q", "[0, 3]", "None")):
            call = self.attn()
            p = self.call(422, "unsupported-parameter", Call(call.op, call.tensors, {name: value}, {}, ""), param=name)
            self.assertIn(name, p["detail"])
            self.assertEqual(send(self.c, Call(call.op, call.tensors, {name: neutral}, {}, "")).status, 200, (name, neutral))
        for name, value in (("block_table", "1"), ("min_seqlen_q", "3"), ("out", "x")):
            call = calls.varlen()
            call.params[name] = value
            self.call(422, "unsupported-parameter", call, param=name)
        for name, value in (("gemma_norm", "true"), ("use_model_sensitive_rmsnorm", "1")):
            self.call(422, "unsupported-parameter", Call("rmsnorm", calls.rmsnorm().tensors, {name: value}, {}, ""),
                      param=name)

    def test_conflicts(self):
        call = calls.rmsnorm(eps=0.25)
        for body in BODIES:
            self.call(400, "conflicting-parameter", call, body, query="eps=0.5", param="eps")
            self.call(400, "conflicting-parameter", call, body, query="iters=2&iters=3", param="iters")
        self.call(400, "conflicting-parameter", call, query="epsilon=0.5")
        body = t.safetensors(call.tensors, op="flash_attn_func")
        self.post(400, "conflicting-parameter", RMS, body, param="op", found="flash_attn_func", wanted="rmsnorm")
        self.assertEqual(self.c.request("POST", RMS, t.safetensors(call.tensors, op="rmsnorm"), [("Content-Type", ST)]).status, 200)
        r = self.c.request("POST", call.infer, *t.oip(call.tensors, {"timeout": 5000000, "timeout_ms": 4}))
        oip_error(r, 400, "timeout_ms")

    def test_devices(self):
        for make in calls.MAKERS:
            self.call(422, "unavailable-impl", make(), query="impl=aiter", param="impl", found="aiter",
                      wanted=has("own.*reference"))
            self.call(422, "unknown-device", make(), query="device=hip:0", param="device", found="hip:0", wanted="cpu:0")


class Files(Test):
    """Malformed npy, safetensors, multipart, JSON."""

    def npy_part(self, status, slug, data, **members):
        body, kind = t.multipart([("x", data), ("weight", np.ones(4, np.float32))])
        return self.post(status, slug, RMS, body, kind, **members)

    def test_npy(self):
        good = t.npy(t.normal((2, 4), "fp32", 1))
        for what, data in (("short", good[:-1]), ("long", good + b"\0"), ("no data", good[:128]), ("half header", good[:40]),
                           ("magic alone", good[:8]), ("version", good[:6] + b"\x09\0" + good[8:]),
                           ("empty", b""), ("zip", b"PK\3\4" + bytes(100)),
                           ("no shape", good.replace(b"'shape'", b"'shapf'")), ("words", good.replace(b"(2, 4)", b"(2, x)")),
                           ("number", good.replace(b"(2, 4), }", b"(8),    }")), ("minus", good.replace(b"(2, 4)", b"(-2,4)")),
                           ("twice", good.replace(b"{'descr': '<f4', ", b"{'shape': (2, 4),")),
                           ("open", good.replace(b"}", b" ")), ("huge header", good[:8] + b"\xff\xff" + good[10:]),
                           ("order", good.replace(b"False", b"Maybe"))):
            with self.subTest(what):
                self.npy_part(400, "malformed-body", data, input="x")
        self.npy_part(400, "unsupported-layout", t.npy(t.normal((2, 4), "fp32", 1), fortran=True), input="x",
                      detail=has("ascontiguousarray"))
        self.npy_part(400, "unsupported-layout", t.npy(t.normal((2, 4), "fp32", 1).astype(">f4")), input="x",
                      detail=has("big-endian"))
        self.npy_part(400, "unsupported-layout", good.replace(b"'<f4'", b"'|O' "), input="x", detail=has("pickled"))
        for descr in (b"'<c8'", b"'<U1'", b"'<i2'", b"'|V4'", b"'<f3'", b"'<m8'"):
            self.npy_part(422, "invalid-dtype", good.replace(b"'<f4'", descr), input="x")
        self.npy_part(422, "invalid-dtype", good.replace(b"'<f4', 'fortran_order': False", b"[('a', '<f4')], 'fortran_order': False").replace(b"          \n", b"\n"), input="x")
        self.npy_part(422, "invalid-shape", t.npy(np.ones((1,) * 9, np.float32)), input="x", detail=has("8 dimensions"))
        self.npy_part(422, "invalid-dtype", t.npy(np.ones((2, 4), np.uint8), descr="|V1"), input="x",
                      detail=has("dtype.x=fp8_e4m3"))
        huge = good.replace(b"(2, 4), }" + b" " * 20, b"(%d, 4), }" % 10 ** 17 + b" " * 3)
        p = self.npy_part(413, "too-large", huge)
        overflow = good.replace(b"(2, 4), }" + b" " * 46, b"(%d, %d, %d), }" % ((10 ** 17,) * 3) + b"")
        self.assertNotEqual(len(overflow), 0)
        self.assertEqual(p["input"], "x")

    def test_npy_good(self):
        """Unusual, but right: versions 2 and 3, one-dimensional Fortran order, |V2."""
        call = calls.rmsnorm("bf16", shape=(3, 8))
        for how in ({"version": (2, 0)}, {"version": (3, 0)}, {"descr": "|V2"}):
            body, kind = t.multipart([("x", t.npy(call.tensors["x"], **how)), ("weight", t.npy(call.tensors["weight"], fortran=True))])
            call.check(Reply(self.c.request("POST", RMS, body, [("Content-Type", kind)])).outputs)

    def test_safetensors(self):
        good = t.safetensors(calls.rmsnorm(shape=(2, 4)).tensors)
        (n,) = struct.unpack("<Q", good[:8])
        head, data = good[8:8 + n], good[8 + n:]

        def file(head, data=data, length=None):
            return struct.pack("<Q", len(head) if length is None else length) + head + data
        other = json.loads(head)
        x, w = other["x"], other["weight"]

        def tree(**entries):
            return json.dumps({"x": x, "weight": w, **entries}).encode()
        for what, body in (
                ("empty", b""), ("short length", good[:5]), ("header only half", good[:20]), ("no data", good[:8 + n]),
                ("short", good[:-1]), ("long", good + b"\0"), ("length 0", file(b"", length=0)),
                ("length huge", file(head, length=2 ** 63)), ("length beyond", file(head, length=n + 100)),
                ("not JSON", file(b"x" * n)), ("list", file(b"[]")), ("string", file(b'"' + b"x" * 10 + b'"')),
                ("two objects", file(head + head)), ("no closing", file(head.replace(b"}", b"]"))),
                ("twice the same", file(b'{"x":%s,"x":%s}' % ((json.dumps(x).encode(),) * 2))),
                ("overlap", file(tree(weight={**w, "data_offsets": [16, 32]}))),
                ("hole", file(tree(weight={**w, "data_offsets": [36, 52]}), data + b"1234")),
                ("backwards", file(tree(weight={**w, "data_offsets": [48, 32]}))),
                ("sizes", file(tree(weight={**w, "shape": [5]}))), ("minus", file(tree(weight={**w, "shape": [-4]}))),
                ("fraction", file(tree(weight={**w, "shape": [4.5]}))), ("offsets", file(tree(weight={**w, "data_offsets": [32]}))),
                ("words", file(tree(weight={**w, "shape": ["4"]}))), ("dtype", file(tree(weight={**w, "dtype": 4}))),
                ("more members", file(tree(weight={**w, "stride": [1]}))), ("none", file(tree(weight=None))),
                ("metadata", file(tree(__metadata__=["x"]))), ("metadata value", file(tree(__metadata__={"params": {"eps": 1}}))),
                ("params no JSON", file(tree(__metadata__={"params": "eps=1"}))),
                ("params a list", file(tree(__metadata__={"params": "[1]"}))),
                ("long op", file(tree(__metadata__={"op": "x" * 100}))),
                ("NUL", file(head[:-1] + b"\0")), ("deep", file(b'{"x":' + b"[" * 60000 + b"]" * 60000 + b"}")),
                ("UTF-8", file(tree().replace(b'"weight"', b'"wei\xffht"')))):
            with self.subTest(what):
                self.post(400, "malformed-body", RMS, body)
                body, kind = t.multipart([("all", body)]) if body else (b"", None)
                if kind and what not in ("short length", "length 0", "length huge", "not JSON", "list", "string", "deep"):
                    self.post(400, "malformed-body", RMS, body, kind)
        for dtype in ("F4", "f32", "C64", "I16", "U16", "F8_E8M0"):
            self.post(422, "invalid-dtype", RMS, file(tree(weight={**w, "dtype": dtype})), input="weight", found=dtype)
        self.post(422, "invalid-shape", RMS, file(tree(weight={**w, "shape": [1] * 8 + [4]})), input="weight")
        self.post(422, "invalid-parameter", RMS, file(tree(__metadata__={"params": '{"eps":{"a":1}}'})), param="eps")
        many = {"x%d" % i: np.ones(1, np.float32) for i in range(100)}
        r = self.c.request("POST", RMS, t.safetensors(many), [("Content-Type", ST)])
        self.assertIn(r.status, (400, 422))
        self.goes_on(r)

    def test_multipart(self):
        call = calls.rmsnorm(shape=(2, 4))
        good, kind = t.multipart(call.tensors)
        mark = b"------aiterd-test-boundary"
        for what, body in (
                ("empty", b""), ("no last boundary", good[:-4]), ("cut in data", good[:len(good) // 2]),
                ("cut in head", good[:60]), ("other boundary", good.replace(b"aiterd-test", b"another-one")),
                ("bare LF", good.replace(b"\r\n", b"\n")), ("no name", good.replace(b'; name="x"', b"")),
                ("empty name", good.replace(b'name="x"', b'name=""')), ("open quote", good.replace(b'name="x"', b'name="x')),
                ("no disposition", good.replace(b"Content-Disposition", b"Content-Whatever")),
                ("attachment", good.replace(b"form-data", b"attachment")),
                ("long name", good.replace(b'name="x"', b'name="%s"' % (b"x" * 200))),
                ("head too long", good.replace(b"\r\nContent-Type", b"\r\nX-Long: " + b"y" * 9000 + b"\r\nContent-Type", 1)),
                ("control", good.replace(b"\r\nContent-Type", b"\r\nX: \x01\r\nContent-Type", 1)),
                ("no colon", good.replace(b"\r\nContent-Type", b"\r\nNo colon\r\nContent-Type", 1)),
                ("epilogue", good + b"x" * 70000), ("preamble", b"x" * 70000 + b"\r\n" + good),
                ("parts", mark + b"".join(b'\r\nContent-Disposition: form-data; name="eps"\r\n\r\n1\r\n' + mark for _ in range(100)) + b"--\r\n"),
                ("twice", t.multipart([("x", call.tensors["x"]), ("x", call.tensors["x"])])[0])):
            with self.subTest(what):
                self.post(400, "malformed-body", RMS, body, kind)
        self.post(415, "unsupported-encoding", RMS, good.replace(
            b"\r\nContent-Type", b"\r\nContent-Transfer-Encoding: base64\r\nContent-Type", 1), kind)
        for bad in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 71):
            self.post(400, "malformed-body", RMS, good, bad, param="Content-Type")
        for parts, status, slug in (
                ([("x", b"nonsense, no file")], 400, "malformed-body"), ([("x", "3")], 400, "malformed-body"),
                ([("x", b"{", JSON)], 400, "malformed-body"), ([("x", b'{"dtype":"fp32"} x', JSON)], 400, "malformed-body"),
                ([("x", b'{"dtype":"fp32","data":[1]}}', JSON)], 400, "malformed-body"),
                ([("x", b'{"dtype":"fp32","data":[1]', JSON)], 400, "malformed-body"),
                ([("x", b'{"generate":"normal","shape":[2],"dtype":"fp32"}', JSON)], 422, "unsupported-parameter"),
                ([("x", b'{"tensor":"w1","dtype":"fp32"}', JSON)], 422, "unsupported-parameter"),
                ([("eps", "1" * 70000)], 422, "invalid-parameter"), ([("nonsense", "1")], 422, "unknown-parameter"),
                ([("eps", "1")], 422, "missing-input"), ([("file", t.npy(np.ones(3, np.float32)))], 422, "unknown-input")):
            with self.subTest(parts):
                body, kind = t.multipart(parts)
                r = self.c.request("POST", RMS, body, [("Content-Type", kind)])
                problem(r, status, slug)
                self.goes_on(r)

    def test_multipart_good(self):
        """Quoted boundary, preamble and epilogue, fields before files."""
        call = calls.rmsnorm(eps=0.5)
        body, _ = t.multipart([("eps", "0.5")] + list(call.tensors.items()), boundary="a b")
        r = self.c.request("POST", RMS, b"hello\r\n" + body + b"bye", [("Content-Type", 'multipart/form-data; charset=x; boundary="a b"')])
        call.check(Reply(r).outputs)

    def test_json(self):
        x, w = '{"dtype":"fp32","shape":[2,2],"data":[1,2,3,4]}', '{"dtype":"fp32","shape":[2],"data":[1,2]}'

        def both(x=x, w=w, params=None):
            return '{"inputs":{"x":%s,"weight":%s}%s}' % (x, w, ',"params":' + params if params else "")
        self.assertEqual(self.c.request("POST", RMS, both().encode(), [("Content-Type", JSON)]).status, 200)
        bad = [both()[:-1], both() + "}", both() + both(), "", "   ", "[]", "3", '"x"', "null", "{", "{}x", "nonsense",
               both().replace("inputs", "input"), both(params="[1]"), both(params="3"), both().replace(":", "=", 1),
               '{"inputs":[]}', '{"inputs":{"x":3}}', '{"inputs":{"x":[1,2]}}', both()[:-1] + ',"more":1}',
               both().replace('"x"', '"x\\ud800"'), both().replace("[1,2,3,4]", "[1,2,3,4,]"),
               '{"inputs":{"x":%s,"x":%s}}' % (x, x), "[" * 100000, '{"inputs":' * 1000]
        bad += [both(x.replace(*how)) for how in (
            ("[1,2,3,4]", "[1,2,3]"), ("[1,2,3,4]", "[1,2,3,4,5]"), ("[1,2,3,4]", "[[1,2],[3]]"),
            ("[1,2,3,4]", "[[1,2,3,4]]"), ("[1,2,3,4]", '[1,2,3,"4"]'), ("[1,2,3,4]", "[1,2,3,null]"),
            ("[1,2,3,4]", '"AAAA"'), ("[1,2,3,4]", "4"), ("[1,2,3,4]", "[1,2,3,{}]"), ("[1,2,3,4]", "[1,2,3,NaN]"),
            ("[1,2,3,4]", "[1,2,3,0x4]"), ("[1,2,3,4]", "[1,2,3,+4]"), ("[1,2,3,4]", "[1,2,3,.4]"),
            ("[1,2,3,4]", "[1,2,3,01]"), ("[1,2,3,4]", "[1,2,3,1.]"), ("[1,2,3,4]", "[1 2,3,4]"),
            ('"data":[1,2,3,4]', '"nodata":1'), ('"dtype":"fp32",', ""), ('"dtype":"fp32"', '"dtype":32'),
            ("[2,2]", "[2,-2]"), ("[2,2]", "[2,2.5]"), ("[2,2]", '"2,2"'), ("[2,2]", "[2,[2]]"), ('"shape":[2,2],', ""),
            ('"data":[1,2,3,4]', '"data":[1,2,3,4],"base64":"AAAA"'), ('"data":[1,2,3,4]', '"base64":"AAA"'),
            ('"data":[1,2,3,4]', '"base64":"AAAA"'), ('"data":[1,2,3,4]', '"base64":"%s"' % ("A" * 21 + "-")),
            ('"data":[1,2,3,4]', '"base64":[1]'), ('"data":[1,2,3,4]', '"base64":"%s=x"' % ("A" * 20)))]
        for text in bad:
            with self.subTest(text[:120]):
                self.post(400, "malformed-body", RMS, text.encode(), JSON)
        self.post(400, "malformed-body", RMS, both().encode("utf-16"), JSON)
        self.post(400, "malformed-body", RMS, both().encode().replace(b'"x"', b'"x\xff"'), JSON)
        for text, status, slug in ((both(x.replace("fp32", "fp31")), 422, "invalid-dtype"),
                                   (both(x.replace("[2,2]", "[1,1,1,1,1,1,1,2,2]")), 422, "invalid-shape"),
                                   (both(params='{"eps":{}}'), 422, "invalid-parameter"),
                                   (both(params='{"eps":[1,{}]}'), 422, "invalid-parameter"),
                                   (both(params='{"eps":1,"eps":2}'), 400, None), (both(params='{"eps":"x"}'), 422, "invalid-parameter"),
                                   (both('{"generate":"normal","seed":7,"shape":[2,2],"dtype":"fp32"}'), 422, "unsupported-parameter"),
                                   (both('{"tensor":"sha256:00"}'), 422, "unsupported-parameter"),
                                   (both(x.replace("[2,2]", "[3000000000,3000000000,3000000000]")), None, None),
                                   (both(x.replace("[2,2]", "[4000000000]")), 413, "too-large")):
            with self.subTest(text):
                r = self.c.request("POST", RMS, text.encode(), [("Content-Type", JSON)])
                if status is None:
                    self.assertIn(r.status, (400, 413, 422), r)
                else:
                    problem(r, status, slug or json.loads(r.body.decode())["type"][10:])
                self.goes_on(r)


class Codings(Test):
    body = t.safetensors(calls.rmsnorm(shape=(40, 200)).tensors)

    def bad(self, coding, data, slug="malformed-body", status=400, **members):
        """However it arrives: at once, or in pieces."""
        for piece in (None, 1 + len(data) // 7):
            r = self.c.request("POST", RMS, data, [("Content-Type", ST), ("Content-Encoding", coding)], piece=piece)
            problem(r, status, slug, **members)
            self.goes_on(r)

    def test_truncated(self):
        for name, (coding, code) in CODINGS.items():
            if coding == "identity":
                continue
            data = code(self.body)
            for n in {0, 1, 5, 11, len(data) // 2, len(data) - 5, len(data) - 1}:
                with self.subTest(name, bytes=n):
                    self.bad(coding, data[:n])

    def test_trailing(self):
        for name, (coding, code) in CODINGS.items():
            if coding == "identity":
                continue
            data = code(self.body)
            for tail in (b"\0", b"x", b"trailing garbage", data[:1] if coding == "deflate" else data[:9]):
                with self.subTest(name, tail=tail):
                    self.bad(coding, data + tail)
                    # in a read of its own, long after the end
                    fields = [("Content-Type", ST), ("Content-Encoding", coding), ("Content-Length", str(len(data + tail)))]
                    self.c.send(self.c.head("POST", RMS, fields) + data, tail, pause=0.03)
                    r = self.c.response()
                    problem(r, 400, "malformed-body")
                    self.goes_on(r)
        self.bad("deflate", zlib.compress(self.body) * 2)

    def test_corrupt(self):
        for name, (coding, code) in CODINGS.items():
            if coding == "identity":
                continue
            data = code(self.body)
            for at in (0, 1, len(data) // 2, len(data) - 3):
                with self.subTest(name, at=at):
                    wrong = bytearray(data)
                    wrong[at] ^= 0xff
                    r = self.c.request("POST", RMS, bytes(wrong), [("Content-Type", ST), ("Content-Encoding", coding)])
                    if name == "raw deflate" and r.status == 200:
                        continue  # it has no checksum
                    self.assertEqual(r.status, 400, r)
                    problem(r, 400, "malformed-body")
                    self.goes_on(r)
        for coding, data in (("gzip", self.body), ("deflate", self.body), ("zstd", self.body), ("gzip", zlib.compress(self.body)),
                             ("zstd", gzip.compress(self.body)), ("gzip", b"x"), ("deflate", b"\x78\x9c"), ("zstd", b"\x28")):
            with self.subTest(coding, data=data[:4]):
                self.bad(coding, data)
        wrong = bytearray(gzip.compress(self.body))
        wrong[-6] ^= 1
        self.bad("gzip", bytes(wrong), detail=has("checksum|data check"))
        plain = zlib.compressobj(9, zlib.DEFLATED, 15, 9, 0, b"dictionary")
        self.bad("deflate", plain.compress(self.body) + plain.flush(), detail=has("dictionary"))

    def test_not_declared(self):
        """Compressed, and not said so: a malformed file."""
        for name in ("gzip", "deflate", "zstd"):
            self.post(400, "malformed-body", RMS, CODINGS[name][1](self.body))

    def test_bombs_by_ratio(self):
        zeros = t.safetensors({"x": np.zeros((1000, 4000), np.float32), "weight": np.zeros(4000, np.float32)})
        for coding in ("gzip", "deflate", "raw deflate", "zstd", "gzip members"):
            data = CODINGS[coding][1](zeros)
            self.assertGreater(len(zeros), MAX_EXPANSION * len(data), "too small to be a bomb")
            with self.subTest(coding):
                p = self.post(413, "expansion-limit", RMS, data, coding=CODINGS[coding][0])
                self.assertIn("%d times" % MAX_EXPANSION, p["detail"])
                body, fields = t.oip({"x": np.zeros((1000, 4000), np.float32), "weight": np.zeros(4000, np.float32)})
                r = self.c.request("POST", "/v2/models/rmsnorm/infer", CODINGS[coding][1](body),
                                   fields + [("Content-Encoding", CODINGS[coding][0])])
                oip_error(r, 413, "times its size")
                self.goes_on(r)

    def test_bombs_by_size(self):
        """Within the ratio, but more than a body may have."""
        noise = np.random.default_rng(3).integers(0, 4, MAX_BODY + 100000, np.uint8)
        over = t.safetensors({"x": noise[:MAX_BODY - 64].view(np.float32)})  # it fits, but not with its header
        self.assertGreater(len(over), MAX_BODY)
        for coding, data in (("gzip", gzip.compress(over, 1)), ("deflate", zlib.compress(over, 1)), ("zstd", calls.zstd(over))):
            with self.subTest(coding):
                self.assertLess(len(over), MAX_EXPANSION * len(data))
                self.post(413, "expansion-limit", RMS, data, coding=coding, detail=has(str(MAX_BODY)))
        numbers = ",".join("%.7f" % v for v in noise[:MAX_JSON // 4].astype(float) + np.random.default_rng(4).random(MAX_JSON // 4))
        text = b'{"inputs":{"x":{"dtype":"fp32","shape":[1],"data":[' + numbers.encode()
        p = self.post(413, "too-large", RMS, gzip.compress(text, 1), JSON, "gzip")
        self.assertIn(str(MAX_JSON), p["detail"])

    def test_ratio_of_small_bodies(self):
        """Below a megabyte nobody is a bomb."""
        x = {"x": np.zeros((100, 1000), np.float32), "weight": np.ones(1000, np.float32)}
        r = self.c.request("POST", RMS, calls.zstd(t.safetensors(x)), [("Content-Type", ST), ("Content-Encoding", "zstd")])
        self.assertEqual(Reply(r).outputs["out"].any(), False)


class Oip(Test):
    """Malformed requests of the Open Inference Protocol; its well-formed ones are test_oip's."""
    call_ = calls.rmsnorm(shape=(2, 4))

    def bad(self, body, fields=(), status=400, pattern="", target=None):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        r = self.c.request("POST", target or self.call_.infer, body, fields)
        text = oip_error(r, status, pattern)
        self.goes_on(r)
        return text

    def request(self, **changes):
        body, _ = t.oip(self.call_.tensors, binary=False)
        tree = json.loads(body)
        for name, value in changes.items():
            where = tree if name in ("inputs", "outputs", "parameters", "id", "extra") else tree["inputs"][0]
            if value is None:
                where.pop(name, None)
            else:
                where[name] = value
        return tree

    def test_json(self):
        for body in (b"", b" ", b"{", b"[]", b"{}", b"nonsense", {"inputs": 3}, {"inputs": {}}, {"inputs": [3]}, {"inputs": [{}]},
                     json.dumps(self.request()).encode() + b"x", self.request(name=3), self.request(name=None),
                     self.request(shape=None), self.request(shape=[-1]), self.request(shape=["2"]), self.request(shape=2),
                     self.request(datatype=None), self.request(datatype=4), self.request(data=None), self.request(data=[1, 2]),
                     self.request(data=[1] * 9), self.request(data="x"), self.request(data=[[1, 2, 3], [4]]),
                     self.request(parameters=[1]), self.request(outputs=3), self.request(outputs=["out"]),
                     self.request(outputs=[{"nome": "out"}]), self.request(outputs=[{"name": "out"}, {"name": "out"}]),
                     self.request(extra=1), self.request(color=1), self.request(id=5), self.request(outputs=[{"name": "out", "x": 1}])):
            with self.subTest(body):
                self.bad(body)
        tree = self.request()
        tree["inputs"].append(tree["inputs"][0])
        self.bad(tree, pattern="twice")
        self.bad(self.request(datatype="FP33"), status=422, pattern="FP33")
        self.bad(self.request(datatype="BYTES"), status=422, pattern="strings")
        self.bad(self.request(outputs=[{"name": "nothing"}]), status=422, pattern="no output nothing")
        self.bad(self.request(outputs=[{"name": "out", "parameters": {"classification": 3}}]), status=422, pattern="classification")
        self.bad(self.request(parameters={"eps": [1]}), status=422, pattern="eps")
        self.bad(self.request(parameters={"eps": "many"}), status=422, pattern="eps")
        self.bad(self.request(parameters={"epz": 1}), status=422, pattern="did you mean eps")
        self.bad(self.request(parameters={"timeout": "soon"}), status=422, pattern="microseconds")
        self.bad(self.request(parameters={"binary_data_output": 1}), status=422, pattern="binary_data_output")
        self.bad(self.request(parameters={"shuffle": "y"}), status=422, pattern="shuffle")
        self.bad(self.request(name="y"), status=422, pattern="no input y")
        self.bad({"inputs": []}, status=422, pattern="needs the input x")

    def test_binary(self):
        body, fields = t.oip(self.call_.tensors)
        n = int(fields[1][1])
        tree = json.loads(body[:n])

        def send_(tree, tail=body[n:], length=None, **how):
            text = json.dumps(tree).encode()
            self.bad(text + tail, [("Inference-Header-Content-Length", str(len(text) if length is None else length))], **how)
        send_(tree, body[n:-1], pattern="weight.*ends after")
        send_(tree, body[n:] + b"x", pattern="goes on")
        send_(tree, b"", pattern="x.*0 bytes")
        for value in (31, 33, -1, 1.5, "32", None, [32], True, 1e300):
            tree["inputs"][0]["parameters"]["binary_data_size"] = value
            with self.subTest(value):
                send_(tree)
        tree["inputs"][0]["parameters"]["binary_data_size"] = 32
        tree["inputs"][0]["data"] = [1]
        send_(tree, pattern="exclude")
        del tree["inputs"][0]["data"]
        tree["inputs"][0]["parameters"]["other"] = 3
        send_(tree, status=422, pattern="other")

    def test_header_length(self):
        body, fields = t.oip(self.call_.tensors)
        n = int(fields[1][1])
        for value in (n - 1, n + 1, len(body), len(body) + 1, 1, 10 ** 15, 10 ** 17, "-1", "x", "1 2", "1,2", "+%d" % n, "0x10",
                      "%d.0" % n, ""):
            with self.subTest(value):
                r = self.c.request("POST", self.call_.infer, body, [("Inference-Header-Content-Length", str(value))])
                self.assertIn(r.status, (400, 413), r)
                oip_error(r, r.status)
                self.goes_on(r)
        self.bad(body, pattern="", fields=[])
        self.bad(json.dumps(json.loads(body[:n])).encode(), pattern="Inference-Header-Content-Length is missing")
        self.bad(body, [("Inference-Header-Content-Length", "0")], pattern="2 inputs")
        self.bad(body, [("Inference-Header-Content-Length", str(n))] * 2)
        good = self.c.request("POST", self.call_.infer, body, [("inference-header-content-LENGTH", "000%d" % n)])
        self.assertEqual(good.status, 200, good)


if __name__ == "__main__":
    unittest.main()
