#!/usr/bin/python3
"""What is refused and how: statuses and problem types, on /v2 as the protocol wants them; operators' refusals with what
was found, what is wanted, and what would be right. (Bodies that cannot be read: test_malformed.)
"""
import gzip
import json
import re
import struct
import unittest

import numpy as np

import aiterd_test as t
import calls
from calls import BODIES, Call, Reply, oip_error, problem, send
from refusing import ATTN, JSON, MAX_BODY, MAX_JSON, RMS, ST, Refusing, has


class Statuses(Refusing):
    """One of each status that comes without trouble in framing (those are test_framing's)."""

    def test_404(self):
        for path in ("/nowhere", "/v1", "/v1/op", "/v1/ops/rmsnorm/run", "/v3", "/v1/info/more", "/problems", "/v20"):
            self.refused(404, "not-found", "GET", path, detail=has(re.escape(path)), op=None)
        self.refused(404, "not-found", "GET", "/problems/none", detail=has("none"))
        for method, body in (("GET", None), ("POST", b"x" * 1000)):
            self.refused(404, "unknown-operator", method, "/v1/ops/rmsnorn", body, param="op", found="rmsnorn",
                         wanted="rmsnorm", detail=has("did you mean rmsnorm"))
        for name, near in (("flash_attn", "flash_attn_func"), ("flash_attn_varlen", "flash_attn_varlen_func")):
            self.refused(404, "unknown-operator", "GET", "/v1/ops/" + name, None, param="op", wanted=near)
        self.refused(404, "unknown-operator", "GET", "/v1/ops/gemm", None, param="op", wanted=has("/v1/ops"))
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
        for method, path, allow in (("GET", "/v2/models/rmsnorm/infer", "POST"),
                                    ("PUT", "/v2/models/stats", "GET, HEAD"),
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
        for more in (("Content-Type", JSON), ("content-type", ST), ("Content-Encoding", "gzip"),
                     ("Content-Encoding", "identity"),
                     ("Inference-Header-Content-Length", "5")):
            fields = [("Content-Type", ST), ("Content-Encoding", "identity"), ("Inference-Header-Content-Length", "6"),
                      more]
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


class Refusals(Refusing):
    """What is well-formed and still makes no sense; found, wanted and the name of what is wrong."""

    def attn(self, q=(2, 6, 4, 16), k=(2, 6, 4, 16), v=None, dtypes=("fp16",) * 3, **params):
        shapes = {"q": q, "k": k, "v": k if v is None else v}
        return Call("flash_attn_func", {n: t.normal(s, d, 1) for (n, s), d in zip(shapes.items(), dtypes)}, params, {},
                    "")

    def test_heads(self):
        p = self.call(422, "invalid-shape", self.attn((2, 6, 4, 16), (2, 6, 3, 16)), input="k", found="3 heads")
        self.assertRegex(p["detail"], "q has 4 heads, k and v have 3.*must divide")
        p = self.call(422, "invalid-shape", self.attn((2, 6, 2, 16), (2, 6, 4, 16)), input="k")
        p = self.call(422, "invalid-shape", self.attn(k=(2, 6, 4, 16), v=(2, 6, 2, 16)), input="v",
                      found="[2, 6, 2, 16]")
        self.assertRegex(p["detail"], "number of key/value heads")
        for make in ("multipart", "json", "json base64", "multipart mixed", "multipart safetensors"):
            self.call(422, "invalid-shape", self.attn((2, 6, 4, 16), (2, 6, 3, 16)), make, input="k")

    def test_dtypes(self):
        p = self.call(422, "invalid-dtype", self.attn(dtypes=("fp16", "bf16", "fp16")), input="k", found="bf16",
                      wanted="fp16")
        self.assertRegex(p["detail"], "q is fp16, k is bf16, v is fp16")
        self.call(422, "invalid-dtype", self.attn(dtypes=("fp64",) * 3), input="q", found="fp64",
                  wanted="fp32, fp16 or bf16")
        self.call(422, "invalid-dtype", Call("rmsnorm", {"x": np.ones((2, 4), np.int32),
                                                         "weight": np.ones(4, np.int32)},
                                             {}, {}, ""), input="x", found="int32")
        x = calls.varlen()
        x.tensors["cu_seqlens_q"] = x.tensors["cu_seqlens_q"].astype(np.int64)
        self.call(422, "invalid-dtype", x, input="cu_seqlens_q", found="int64", wanted="int32")
        a = t.normal((1, 4, 2, 8), "fp32", 1).astype(np.int8).view(np.uint8)
        body = t.safetensors({n: a for n in "qkv"}, dtypes={n: "F8_E4M3" for n in "qkv"})
        self.post(422, "invalid-dtype", ATTN, body, found="fp8_e4m3", detail=has("fp8.*flash_attn_fp8_pertensor_func"))

    def test_ranks(self):
        self.call(422, "invalid-shape", self.attn(q=(6, 4, 16)), input="q", found="[6, 4, 16]",
                  wanted=has("4 dimensions"))
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
                      wanted="POST /v1/ops/rmsnorm/check",
                      detail=has("candidate.*POST /v1/ops/rmsnorm/check"))

    def test_parameters(self):
        call = self.attn()
        for name, near in (("casual", "causal"), ("softmaxscale", "softmax_scale"), ("scale", "softmax_scale"),
                           ("window", "window_size"), ("iter", "iters"), ("warm_up", "warmup"), ("output", "outputs"),
                           ("shufle", "shuffle"), ("timeout", "timeout_ms"), ("Layout", "layout")):
            for query, params in (("%s=1" % name, {}), ("", {name: "1"})):
                p = self.call(422, "unknown-parameter", Call(call.op, call.tensors, params, {}, ""), query=query,
                              param=name, found=name, wanted=near)
                self.assertRegex(p["detail"], "did you mean %s" % near)
        self.call(422, "unknown-parameter", call, query="zzzzzz=1", param="zzzzzz",
                  detail=has("GET /v1/ops/flash_attn_func"))
        self.call(422, "unknown-parameter", call, query="q=1", param="q", detail=has("input tensor"))
        self.call(422, "unknown-parameter", call, query="x" * 100 + "=1")

    def test_values(self):
        call = self.attn()
        for query, param in (("causal=maybe", "causal"), ("causal=2", "causal"), ("softmax_scale=inf", "softmax_scale"),
                             ("softmax_scale=1e999", "softmax_scale"), ("softmax_scale=0x1p3", "softmax_scale"),
                             ("window_size=3", "window_size"), ("window_size=1,2,3,4", "window_size"),
                             ("window_size=a,b", "window_size"), ("window_size=-2,0", "window_size"),
                             ("layout=sbhd", "layout"), ("layout=BHSD", "layout"), ("iters=0", "iters"),
                             ("iters=-1", "iters"),
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
        for name, value, neutral in (("dropout_p", "0.1", "0.0"), ("bias", "1", "None"),
                                     ("alibi_slopes", "[1]", "None"),
                                     ("return_attn_probs", "true", "False"), ("softcap", "30", "0"),
                                     ("logits_soft_cap", "30.0", "0.0"), ("sink", "2", "None"),
                                     ("sink_ptr", "7", "None"), ("num_splits", "4", "0"),
                                     ("cu_seqlens_q", "[0, 3]", "None")):
            call = self.attn()
            p = self.call(422, "unsupported-parameter", Call(call.op, call.tensors, {name: value}, {}, ""), param=name)
            self.assertIn(name, p["detail"])
            self.assertEqual(send(self.c, Call(call.op, call.tensors, {name: neutral}, {}, "")).status, 200,
                             (name, neutral))
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
        self.assertEqual(self.c.request("POST", RMS, t.safetensors(call.tensors, op="rmsnorm"),
                                        [("Content-Type", ST)]).status, 200)
        r = self.c.request("POST", call.infer, *t.oip(call.tensors, {"timeout": 5000000, "timeout_ms": 4}))
        oip_error(r, 400, "timeout_ms")

    def test_devices(self):
        for make in calls.MAKERS:
            self.call(422, "unavailable-impl", make(), query="impl=aiter", param="impl", found="aiter",
                      wanted=has("own.*reference"), detail=has("gfx942 machine code, which the cpu device cannot run"))
            self.call(422, "unknown-device", make(), query="device=hip:0", param="device", found="hip:0",
                      wanted="cpu:0")

if __name__ == "__main__":
    unittest.main()
