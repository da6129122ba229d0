#!/usr/bin/python3
"""Running operators through /v1: every body form, coding, dtype, reply form and run option against float64, the
statistics that come with each reply, and the AITER tutorial, section by section, as HTTP exchanges.
"""
import hashlib
import json
import threading
import time
import unittest

import numpy as np

import aiterd_test as t
import calls
from calls import BODIES, CODINGS, FLOATS, MAKERS, OWN_FORM, Call, Reply, check_stats, problem, send

server = None


def setUpModule():
    global server
    server = t.Server("--loops", "2", "--threads", "2", "--prefault", "1M")
    server.request("GET", "/v1/info")


def tearDownModule():
    try:
        calls.nothing_lent(server)
    finally:
        server.stop()


class Test(unittest.TestCase):
    def setUp(self):
        self.c = server.client(60)

    def tearDown(self):
        self.c.close()

    def run_(self, call, *args, **how):
        return Reply(send(self.c, call, *args, **how))


class Forms(Test):
    def test_every_body_and_dtype(self):
        """Each operator, dtype and form of body; the reply in the form that follows from the request's."""
        for make in MAKERS:
            for dtype in FLOATS:
                for body in BODIES:
                    call = make(dtype, seed=len(body), **({} if make is calls.rmsnorm else {"causal": True}))
                    with self.subTest(op=call.op, dtype=dtype, body=body):
                        reply = self.run_(call, body)
                        self.assertEqual(reply.form, OWN_FORM[body][len(call.want) > 1])
                        call.check(reply.outputs)
                        check_stats(reply, call)

    def test_every_coding(self):
        """Each coding of each kind of body, whole and in small pieces."""
        call = calls.attention("bf16", causal=True)
        small = calls.rmsnorm("fp32", eps=0.5)
        for coding in CODINGS:
            for body in BODIES:
                with self.subTest(coding=coding, body=body):
                    reply = self.run_(call, body, coding=coding)
                    call.check(reply.outputs)
                    more, data, fields = BODIES[body](small.tensors, small.params)
                    name, code = CODINGS[coding]
                    r = self.c.request("POST", calls.with_query(small.path, more), code(data),
                                       fields + [("Content-Encoding", name)], piece=97)
                    small.check(Reply(r).outputs)

    def test_big_through_every_coding(self):
        """Some megabytes, which take the ways of large bodies and helper threads."""
        call = calls.rmsnorm("fp16", shape=(600, 4096))
        for body in ("multipart", "safetensors", "json base64"):
            for coding in ("identity", "gzip", "gzip members", "deflate", "raw deflate", "zstd", "zstd frames"):
                with self.subTest(coding=coding, body=body):
                    reply = self.run_(call, body, coding=coding, query="format=safetensors")
                    call.check(reply.outputs)
        call = calls.rmsnorm("fp32", shape=(300, 1000))
        for coding in ("identity", "gzip"):
            with self.subTest("list", coding=coding):
                reply = self.run_(call, "json", coding=coding, headers=[("Accept-Encoding", "gzip")])
                call.check(reply.outputs)
                self.assertEqual(reply.r.get("content-encoding"), "gzip")

    def test_chunked(self):
        call = calls.varlen("fp16")
        for body in BODIES:
            for coding in ("identity", "gzip", "zstd"):
                with self.subTest(body, coding=coding):
                    more, data, fields = BODIES[body](call.tensors, call.params)
                    fields += [("Content-Encoding", CODINGS[coding][0]), ("Transfer-Encoding", "chunked")]
                    r = self.c.request("POST", calls.with_query(call.path, more),
                                       t.chunked(CODINGS[coding][1](data), 333), fields)
                    call.check(Reply(r).outputs)

    def test_reply_forms(self):
        """format, json and outputs, each with each Accept-Encoding; what is left out is really left out."""
        plain, several = calls.attention("fp16", lse=False, shape=(1, 20, 30, 4, 2, 32, 32)), calls.varlen("bf16")
        for call in (plain, several):
            exact = self.run_(call, "json base64", query="json=base64").outputs
            call.check(exact)
            for form in ("npy", "safetensors", "json&json=list", "json&json=base64"):
                for outputs in ("all", "none", "digest"):
                    for accept in (None, "gzip", "deflate", "zstd", "identity", "br, gzip;q=0.5, *;q=0"):
                        with self.subTest(op=call.op, form=form, outputs=outputs, accept=accept):
                            r = send(self.c, call, query="format=%s&outputs=%s" % (form, outputs),
                                     headers=[("Accept-Encoding", accept)] if accept else [])
                            if form == "npy" and (outputs != "all" or len(call.want) > 1):
                                problem(r, 406, "not-acceptable", param="format")
                                continue
                            reply = Reply(r)
                            self.assertEqual(reply.form, form.split("&")[0])
                            self.forms(call, reply, exact, outputs)
                            self.assertIn("Accept-Encoding", r.get("vary"))
                            coding = r.get("content-encoding")
                            if accept in (None, "identity"):
                                self.assertIsNone(coding)
                            elif coding is not None or len(calls.decoded(r)) >= 1024:
                                self.assertEqual(coding, "gzip" if "br" in accept else accept)

    def forms(self, call, reply, exact, outputs):
        check_stats(reply, call)
        if outputs == "all":
            call.check(reply.outputs)
            for name, a in reply.outputs.items():
                self.assertEqual(a.tobytes(), exact[name].tobytes(), "the same bits in every form")
        else:
            self.assertEqual(reply.outputs, {})
        if outputs == "digest":
            self.assertEqual(set(reply.digests), set(call.want))
            for name, digest in reply.digests.items():
                calls.check_digest(digest, exact[name])
        else:
            self.assertEqual(reply.digests, {})
        for name, (dtype, shape) in reply.described.items():
            self.assertEqual((dtype, shape), (call.dtype_of(name), list(call.want[name].shape)))

    def test_accept(self):
        """The Accept header: specific wishes by their q, wildcards are none; format goes first."""
        call = calls.rmsnorm("fp16")
        for accept, form in (("application/json", "json"), ("application/x-npy", "npy"), ("application/npy", "npy"),
                             ("application/x-safetensors", "safetensors"), ("*/*", "npy"), ("application/*", "npy"),
                             ("application/vnd.safetensors", "safetensors"), ("application/octet-stream", "npy"),
                             ("text/html, application/json;q=0.9, */*;q=0.8", "json"), ("text/html, */*;q=0.1", "npy"),
                             ("application/json;q=0.2, application/x-safetensors;q=0.3", "safetensors"),
                             ("application/json;q=0, application/x-npy;q=0.001", "npy"), ("APPLICATION/JSON", "json")):
            with self.subTest(accept):
                self.assertEqual(self.run_(call, "multipart", headers=[("Accept", accept)]).form, form)
                reply = self.run_(call, "multipart", headers=[("Accept", accept)], query="format=safetensors")
                self.assertEqual(reply.form, "safetensors")
        for accept in ("text/html", "image/png, text/*;q=0.3", "application/json;q=0"):
            with self.subTest(accept):
                problem(send(self.c, call, headers=[("Accept", accept)]), 406, "not-acceptable", param="Accept")
                self.assertEqual(self.run_(call, headers=[("Accept", accept)], query="format=json").form, "json")
        problem(send(self.c, calls.varlen(), headers=[("Accept", "application/x-npy")]), 406, "not-acceptable")
        lines = [("Accept", "text/html"), ("accept", "application/json;q=0.1"), ("Accept", "image/png, x/y")]
        self.assertEqual(self.run_(call, headers=lines).form, "json", "a list over several lines is one list")
        problem(send(self.c, call, headers=lines[::2]), 406, "not-acceptable", found="text/html, image/png, x/y")
        lines = [("Accept-Encoding", "br;q=1.0"), ("Accept-Encoding", "gzip;q=0.1"), ("accept-encoding", "zstd;q=0.2")]
        big = calls.rmsnorm(shape=(50, 50))
        reply = self.run_(big, query="format=json", headers=lines)
        self.assertEqual(reply.r.get("content-encoding"), "zstd")
        big.check(reply.outputs)

    def test_shuffled(self):
        """Byte-shuffled tensors, declared in each place a parameter may stand in; those not named stay as they are."""
        for dtype in FLOATS:
            call = calls.attention(dtype, causal=True)
            for body in BODIES:
                with self.subTest(dtype=dtype, body=body):
                    sent = {n: t.shuffled(a) if n != "k" else a for n, a in call.tensors.items()}
                    odd = Call(call.op, sent, {**call.params, "shuffle": "q, v"}, call.want, dtype)
                    if body.startswith("json") and body != "json base64":
                        continue  # shuffled numbers need not be numbers
                    call.check(self.run_(odd, body, coding="gzip").outputs)
        call = calls.rmsnorm("bf16", shape=(300, 4096))
        sent = {n: t.shuffled(a) for n, a in call.tensors.items()}
        for body, coding in (("safetensors", "zstd"), ("multipart", "identity")):
            odd = Call(call.op, sent, {"shuffle": "x,weight"}, call.want, "bf16")
            call.check(self.run_(odd, body, coding=coding).outputs)
        r = self.c.request("POST", call.path, t.safetensors(sent, metadata={"shuffle": "x,weight"}),
                           [("Content-Type", "application/x-safetensors")])
        call.check(Reply(r).outputs)

    def test_spellings(self):
        """AITER's other names for inputs and parameters, and its values."""
        call = calls.attention("fp32", causal=True, window_size=[3, 0], lse=False)
        a = call.tensors
        other = Call(call.op, {"query": a["q"], "key": a["k"], "value": a["v"]},
                     {"causal": "True", "window_size": "(3, 0, 0)", "softmax_scale": "None", "dropout_p": "0.0",
                      "alibi_slopes": "None", "deterministic": "True", "return_attn_probs": "False"}, call.want, "fp32")
        for body in BODIES:
            with self.subTest(body):
                call.check(self.run_(other, body).outputs)
        call = calls.rmsnorm(eps=0.25)
        other = Call(call.op, {"input": call.tensors["x"], "weight": call.tensors["weight"]}, {"epsilon": 0.25},
                     call.want, "fp32")
        call.check(self.run_(other).outputs)

    def test_parameters_everywhere(self):
        """The query, a field, the header of the file: one namespace; the same value twice is fine."""
        call = calls.rmsnorm(eps=0.75)
        for body in BODIES:
            with self.subTest(body):
                call.check(self.run_(call, body, query="eps=0.75").outputs)
                call.check(self.run_(call, body, params={}, query="eps=7.5e-1").outputs)
                problem(send(self.c, call, body, query="eps=0.5"), 400, "conflicting-parameter", param="eps")
                problem(send(self.c, call, body, query="epsilon=0.75"), 400, "conflicting-parameter")

    def test_layouts(self):
        call = calls.attention("fp16", shape=(2, 9, 11, 4, 4, 16, 16), causal=True)
        turned = Call(call.op, {n: np.ascontiguousarray(a.swapaxes(1, 2)) for n, a in call.tensors.items()},
                      {**call.params, "layout": "bhsd"},
                      {"out": call.want["out"].swapaxes(1, 2), "softmax_lse": call.want["softmax_lse"]}, "fp16")
        turned.check(self.run_(turned).outputs)

    def test_attention_options(self):
        for params in ({"softmax_scale": 0.3}, {"window_size": [2, 1]}, {"window_size": [0, 0]}, {"causal": True},
                       {"causal": True, "window_size": [4, 4]}, {"softmax_scale": -0.2, "window_size": [-1, 2]}):
            for shape in ((1, 6, 6, 2, 2, 8, 8), (2, 9, 4, 4, 1, 24, 40), (1, 1, 33, 8, 2, 64, 64)):
                with self.subTest(params, shape=shape):
                    for make, how in ((calls.attention, {"shape": shape}), (calls.varlen, {})):
                        call = make("fp32", **how, **params)
                        call.check(self.run_(call).outputs)

    def test_json_numbers(self):
        """Nested lists tell their shape; every spelling of a number, each rounded once."""
        for dtype in FLOATS:
            x = ["1", "-0", "0.1", "1e-3", "2.5E+2", "-3.0000000000000001", "2049" if dtype == "fp16" else "16777217",
                 "1e-46", "0.30000001192092896"]
            want = t.to_float(t.cast(np.array([float(v) for v in x]), dtype)).reshape(3, 3)
            rows = ",".join(x[:3]), " , ".join(x[3:6]), ",\n".join(x[6:])
            text = '{"inputs":{"x":{"dtype":"%s","data":[[%s],[%s],[%s]]},' % (dtype, *rows)
            text += '"weight":{"dtype":"%s","shape":[3],"data":[1,1,1]}}}' % dtype
            for fields in ("application/json", "Application/JSON ; charset=utf-8"):
                reply = Reply(self.c.request("POST", "/v1/ops/rmsnorm", text.encode(), [("Content-Type", fields)]))
                t.assert_close(reply.outputs["out"], t.rmsnorm(want, np.ones(3)), dtype)
            big = {"fp16": "65520", "bf16": "3.4e38", "fp32": "-1e39"}[dtype]
            bad = text.replace(x[6], big).encode()
            r = self.c.request("POST", "/v1/ops/rmsnorm", bad, [("Content-Type", "application/json")])
            p = problem(r, 400, "malformed-body", input="x", found=big)
            self.assertIn("element 6", p["detail"])
            self.assertIn('Infinity"', p["detail"])
        call = calls.varlen()
        body = json.loads(calls.as_json(call.tensors, call.params)[1])
        good = body["inputs"]["cu_seqlens_q"]["data"]
        for bad in (3000000000, -3000000000, 2.5, "NaN", 10 ** 30, True):
            body["inputs"]["cu_seqlens_q"]["data"] = good[:1] + [bad] + good[2:]
            r = self.c.request("POST", call.path, json.dumps(body).encode(), [("Content-Type", "application/json")])
            problem(r, 400, "malformed-body", input="cu_seqlens_q")

    def test_several_large_lists(self):
        """Outputs too long for the JSON's own text lie beside it, in their order."""
        call = calls.attention("fp32", shape=(1, 300, 300, 8, 8, 32, 32))
        for query in ("format=json", "format=json&json=base64"):
            for accept in ("identity", "gzip", "zstd"):
                call.check(self.run_(call, query=query, headers=[("Accept-Encoding", accept)]).outputs)

    def test_special_values(self):
        """Infinities and NaN go through JSON as strings and through files as they are."""
        x = np.array([[1, np.nan, 2], [np.inf, 1, 2], [-3, 0, 3]], np.float32)
        want = np.array([[np.nan] * 3, [np.nan, 0, 0], x[2] / np.sqrt(6 + 1e-6)])
        call = Call("rmsnorm", {"x": x, "weight": np.ones(3, np.float32)}, {}, {"out": want}, "fp32")
        for body in BODIES:
            for form in ("npy", "safetensors", "json", "json&json=base64"):
                with self.subTest(body, form=form):
                    reply = self.run_(call, body, query="format=" + form)
                    call.check(reply.outputs)
        r = send(self.c, call, query="format=json")
        self.assertIn(b'"NaN"', r.body)
        digest = self.run_(call, query="outputs=digest").digests["out"]
        self.assertEqual(digest["nan"], 4)

    def test_empty(self):
        call = calls.rmsnorm(shape=(0, 8))
        for body in ("multipart", "safetensors", "json flat", "json base64"):
            for query in ("format=npy", "format=safetensors", "format=json", "outputs=none"):
                with self.subTest(body, query=query):
                    reply = self.run_(call, body, query=query)
                    if "none" not in query:
                        call.check(reply.outputs)
        self.assertEqual(self.run_(call, query="outputs=digest").digests["out"]["min"], "NaN")

    def test_request_id(self):
        call = calls.rmsnorm()
        r = send(self.c, call, headers=[("X-Request-Id", "my-run_7:a/b")])
        self.assertEqual(r.get("x-request-id"), "my-run_7:a/b")
        ids = {send(self.c, call).get("x-request-id") for _ in range(10)}
        ids.add(send(self.c, call, headers=[("X-Request-Id", "not fine \"quoted\"")]).get("x-request-id"))
        self.assertEqual(len(ids), 11)


class Options(Test):
    def test_iterations(self):
        call = calls.attention("fp32")
        for warmup, iters in ((0, 1), (2, 1), (0, 5), (3, 20)):
            with self.subTest(warmup=warmup, iters=iters):
                reply = self.run_(call, query="warmup=%d&iters=%d" % (warmup, iters))
                call.check(reply.outputs)
                check_stats(reply, call, warmup, iters)
        none = {n: "None" for n in ("iters", "warmup", "impl", "baseline", "outputs", "format", "json", "timeout_ms",
                                    "flush",
                                    "dry_run", "device")}
        reply = self.run_(call, params={**call.params, **none})
        self.assertEqual(reply.form, "safetensors")
        call.check(reply.outputs)
        check_stats(reply, call)

    def test_baseline(self):
        for make in MAKERS:
            for dtype in FLOATS:
                with self.subTest(make.__name__, dtype=dtype):
                    call = make(dtype)
                    reply = self.run_(call, query="baseline=naive&iters=3&warmup=1")
                    call.check(reply.outputs)
                    check_stats(reply, call, 1, 3, baseline=True)
                    check_stats(self.run_(call, query="baseline=none"), call)

    def test_impl(self):
        for make in MAKERS:
            call = make("bf16")
            for impl, told in (("auto", r"^cpu:"), ("own", r"^cpu:"), ("naive", "naive"), ("reference", "reference")):
                with self.subTest(call.op, impl=impl):
                    reply = self.run_(call, query="impl=" + impl)
                    call.check(reply.outputs)
                    check_stats(reply, call)
                    self.assertRegex(reply.header["impl"], told)
            problem(send(self.c, call, query="impl=aiter"), 422, "unavailable-impl", param="impl", found="aiter")
            problem(send(self.c, call, query="impl=fast"), 422, "invalid-parameter", param="impl", found="fast")

    def test_device(self):
        call = calls.rmsnorm()
        info = json.loads(server.request("GET", "/v1/info").body.decode())
        for device in ["auto", "cpu"] + [d["id"] for d in info["devices"]]:
            reply = self.run_(call, query="device=" + device)
            call.check(reply.outputs)
            self.assertIn(reply.header["device"]["id"], [d["id"] for d in info["devices"]])
        self.run_(call, query="device=None")
        for device in ("nonsense", "cpu:1", "hip:0", "hip", "cp", ""):
            problem(send(self.c, call, query="device=" + device), 422, "unknown-device", param="device",
                    found=device or None)

    def test_flush(self):
        call = calls.rmsnorm("fp16", shape=(64, 512))
        reply = self.run_(call, query="flush=true&iters=3")
        call.check(reply.outputs)
        check_stats(reply, call, 0, 3)

    def test_dry_run(self):
        """What would run, without running it: nothing is counted as finished by the device."""
        def finished():
            return sum(d["jobs_finished"] for d in json.loads(server.request("GET",
                                                                             "/v1/info").body.decode())["devices"])
        before = finished()
        for make in MAKERS:
            call = make("fp16")
            for query in ("dry_run=1", "dry_run", "dry_run=true&impl=own&baseline=naive"):
                r = send(self.c, call, query=query)
                self.assertEqual((r.status, r.get("content-type")), (200, "application/json"), r)
                plan = json.loads(r.body.decode())
                self.assertEqual((plan["op"], plan["dry_run"], plan["device"]), (call.op, True, "cpu:0"))
                self.assertEqual({n: (o["dtype"], o["shape"], o["bytes"]) for n, o in plan["outputs"].items()},
                                 {n: (call.dtype_of(n), list(w.shape), w.size * (4 if n == "softmax_lse" else 2))
                                  for n, w in call.want.items()})
                self.assertEqual(plan["bytes_moved"], call.bytes_in + call.bytes_out)
                self.assertIn("gfx942", plan["why_not_aiter"])
            problem(send(self.c, call, query="dry_run=1&impl=aiter"), 422, "unavailable-impl")
        self.assertEqual(finished(), before)
        plan = json.loads(send(self.c, call, query="dry_run=1").body.decode())
        ran = self.run_(call).header
        self.assertEqual((plan["flop"], plan["impl"]), (ran["rates"]["flop"], ran["impl"]))

    def test_timeout(self):
        """504 when time is up, whether waiting or running; one that is long enough changes nothing."""
        call = calls.attention("fp32", shape=(1, 256, 256, 4, 4, 64, 64), lse=False)
        call.check(self.run_(call, query="timeout_ms=60000").outputs)
        start = time.monotonic()
        problem(send(self.c, call, query="timeout_ms=50&iters=10000"), 504, "deadline-exceeded")
        self.assertLess(time.monotonic() - start, 30)
        call.check(self.run_(call).outputs)
        for value in ("0", "-1", "soon", "1e99", "nan"):
            problem(send(self.c, call, query="timeout_ms=" + value), 422, "invalid-parameter", param="timeout_ms")

    def test_flop(self):
        """Counted by hand: products of visible pairs only."""
        call = calls.attention("fp32", shape=(2, 16, 16, 4, 4, 32, 32), lse=False)
        check_stats(self.run_(call), call, flop=2 * 4 * 16 * 16 * 4 * 32)
        call = calls.attention("fp32", shape=(2, 16, 16, 4, 4, 32, 32), lse=False, causal=True)
        check_stats(self.run_(call), call, flop=2 * 4 * (16 * 17 // 2) * 4 * 32)
        call = calls.attention("fp32", shape=(2, 9, 7, 4, 2, 16, 24), lse=False, causal=True, window_size=[3, 0])
        pairs = int(t.visible(9, 7, True, (3, 0)).sum())
        check_stats(self.run_(call), call, flop=2 * 4 * pairs * 2 * (16 + 24))
        call = calls.rmsnorm(shape=(5, 7, 8))
        check_stats(self.run_(call), call, flop=4 * 5 * 7 * 8)

    def test_same_bits_again(self):
        """The same request gives the same bits, whatever ran before."""
        call = calls.attention("fp16", shape=(2, 100, 120, 8, 2, 64, 64), causal=True)
        first = self.run_(call, query="outputs=digest").digests
        send(self.c, calls.attention("bf16", seed=9))
        self.assertEqual(self.run_(call, query="outputs=digest").digests, first)


class Tutorial(Test):
    """The AITER tutorial's sections; each names what the section prints."""

    @staticmethod
    def qkv(b, s, h, d, dtype="fp16", seed=0):
        return {n: t.normal((b, s, h, d), dtype, seed + i) for i, n in enumerate("qkv")}

    def post(self, op, tensors, query="", body="multipart"):
        call = Call(op, tensors, {}, {}, "fp16")
        return send(self.c, call, body, query=query)

    def close(self, out, tensors, dtype, causal=False, heads=2):
        """The first batch's first heads against float64."""
        q, k, v = (t.to_float(tensors[n][:1, :, :heads]) for n in "qkv")
        t.assert_close(out[:1, :, :heads], t.attention(q, k, v, causal)[0], dtype)

    def test_installation_check(self):
        i = json.loads(self.c.request("GET", "/v1/info").body.decode())
        self.assertTrue(i["server"]["version"] and i["server"]["ready"])
        self.assertIsNone(i["aiter"])
        self.assertTrue(i["devices"][0]["name"] and i["devices"][0]["arch"])

    def test_hello_world(self):
        x = self.qkv(2, 512, 8, 64)
        reply = Reply(self.post("flash_attn_func", x, "causal=True"))
        self.assertEqual((reply.form, reply.outputs["out"].shape, reply.outputs["out"].dtype),
                         ("npy", (2, 512, 8, 64), np.float16))
        self.close(reply.outputs["out"], x, "fp16", causal=True)
        same = Reply(self.post("flash_attn_func", x, "causal=True&softmax_scale=0.125"))
        self.assertEqual(same.outputs["out"].tobytes(), reply.outputs["out"].tobytes())

    def test_comparing(self):
        x = self.qkv(1, 1024, 16, 64)
        reply = Reply(self.post("flash_attn_func", x, "warmup=1&iters=2&baseline=naive&format=safetensors"))
        self.close(reply.outputs["out"], x, "fp16")
        b = reply.header["baseline"]
        self.assertGreater(b["speedup"], 0)
        self.assertLess(b["max_abs_diff"], 4e-3)
        self.assertEqual(reply.header["kernel_ms"]["iters"], 2)

    def test_precisions(self):
        for dtype in FLOATS:
            with self.subTest(dtype):
                x = self.qkv(2, 512, 8, 64, dtype)
                out = Reply(self.post("flash_attn_func", x)).outputs["out"]
                self.assertEqual((out.shape, t.name_of(out)), ((2, 512, 8, 64), dtype))
                self.close(out, x, dtype)

    def test_rmsnorm(self):
        x = t.normal((2, 1024, 4096), "fp16", 3)
        out = Reply(self.post("rmsnorm", {"x": x, "weight": np.ones(4096, np.float16)}, "eps=1e-6")).outputs["out"]
        self.assertEqual(out.shape, x.shape)
        rms = np.sqrt((out.astype(np.float32) ** 2).mean(axis=-1))
        self.assertAlmostEqual(rms.mean(), 1.0, places=3)
        t.assert_close(out[0, :64], t.rmsnorm(x[0, :64], np.ones(4096)), "fp16")

    def test_batches(self):
        for batch in (1, 4, 16, 64):
            r = self.post("flash_attn_func", self.qkv(batch, 512, 8, 64), "warmup=1&outputs=none", "safetensors")
            s = Reply(r).header["kernel_ms"]
            self.assertAlmostEqual(s["per_sample"], s["median"] / batch, places=5)

    def test_error_heads(self):
        x = self.qkv(2, 512, 8, 64)
        x["k"] = t.normal((2, 512, 16, 64), "fp16", 1)
        p = problem(self.post("flash_attn_func", x), 422, "invalid-shape", op="flash_attn_func")
        self.assertIn(p["input"], ("k", "v"))
        self.assertRegex(p["detail"], r"k \[2, 512, 16, 64\] has 16, v \[2, 512, 8, 64\] has 8.*q is \[2, 512, 8, 64\]")

    def test_error_device(self):
        """A tensor on the wrong device cannot be sent; a device that is not there can be named."""
        p = problem(self.post("flash_attn_func", self.qkv(2, 512, 8, 64), "device=cuda"), 422, "unknown-device")
        self.assertEqual(p["wanted"], "cpu:0")

    def test_memory(self):
        """Never the score matrix: 16 heads of 2048 x 2048 would take 256 MiB in fp32."""
        x = self.qkv(1, 2048, 16, 64)
        reply = Reply(self.post("flash_attn_func", x, "outputs=none&causal=1"))
        m = reply.header["memory"]
        self.assertEqual((m["inputs"], m["outputs"]), (3 * 2048 * 16 * 64 * 2, 2048 * 16 * 64 * 2))
        self.assertEqual(m["peak"], m["allocated_before"] + m["inputs"] + m["outputs"] + m["overhead"])
        self.assertLess(m["overhead"], 32 << 20)
        naive = Reply(self.post("flash_attn_func", self.qkv(1, 512, 8, 64), "outputs=none&impl=naive")).header["memory"]
        self.assertGreaterEqual(naive["workspace"], 512 * 512 * 4)

    def test_gotcha_lengths(self):
        hints = Reply(self.post("flash_attn_func", self.qkv(1, 500, 2, 64))).header["hints"]
        self.assertEqual(len(hints), 1)
        self.assertRegex(hints[0], "500 is not a multiple of 128")
        x = self.qkv(1, 200, 2, 64)
        x["q"] = t.normal((1, 130, 2, 64), "fp16", 5)
        self.assertEqual(len(Reply(self.post("flash_attn_func", x)).header["hints"]), 2)
        self.assertEqual(Reply(self.post("flash_attn_func", self.qkv(1, 128, 2, 64))).header["hints"], [])


class Concurrency(unittest.TestCase):
    def test_everyone_gets_their_own(self):
        """16 clients at once, each with its own data, forms and codings."""
        bodies, codings, errors = list(BODIES), list(CODINGS), []

        def client(i):
            try:
                with server.client(60) as c:
                    for k in range(12):
                        call = MAKERS[(i + k) % 3](FLOATS[(i + k // 3) % 3], seed=1000 * i + k)
                        r = send(c, call, bodies[(i + k) % len(bodies)], coding=codings[(i * 3 + k) % len(codings)],
                                 query="format=" + ("safetensors", "json")[k % 2],
                                 headers=[("X-Request-Id", "c%d-%d" % (i, k))])
                        assert r.get("x-request-id") == "c%d-%d" % (i, k), r.headers
                        reply = Reply(r)
                        call.check(reply.outputs)
                        check_stats(reply, call)
            except BaseException as e:
                errors.append("client %d: %r" % (i, e))
        threads = [threading.Thread(target=client, args=(i,)) for i in range(16)]
        for th in threads:
            th.start()
        for th in threads:
            th.join()
        self.assertEqual(errors, [])

    def test_pipelined(self):
        """Requests sent without waiting are answered in order."""
        sizes = [3, 400, 8, 2, 900, 1, 60]
        those = [calls.rmsnorm("fp16", seed=i, shape=(n, 64)) for i, n in enumerate(sizes)]
        with server.client(30) as c:
            for call in those:
                data = t.safetensors(call.tensors)
                c.send(c.head("POST", call.path, [("Content-Type", "application/x-safetensors")], len(data)) + data)
            for call in those:
                call.check(Reply(c.response()).outputs)


class Digests(Test):
    def test_sha256_of_what_is_sent(self):
        """Of sizes around the block's, against hashlib."""
        for n in (1, 13, 14, 15, 16, 17, 31, 32, 33, 1000):
            call = calls.rmsnorm("fp32", seed=n, shape=(n, 1))
            out = self.run_(call).outputs["out"]
            digest = self.run_(call, query="outputs=digest").digests["out"]
            self.assertEqual(digest["sha256"], hashlib.sha256(out.tobytes()).hexdigest())


if __name__ == "__main__":
    unittest.main()
