#!/usr/bin/python3
"""What somebody meets who uses the server for the first time: slips that are answered with what to do instead, names
and spellings taken as numpy, torch and AITER's tutorial write them, replies fit for a terminal, starts that fail.
"""
import gzip
import io
import json
import os
import subprocess
import tempfile
import unittest

import numpy as np

import aiterd_test as t
import calls
from calls import Call, Reply, problem, send
from refusing import ATTN, JSON, RMS, ST, Refusing, has


class Bodies(Refusing):
    def parts(self, *parts, **members):
        body, kind = t.multipart(parts)
        return self.post(400, "malformed-body", RMS, body, kind, **members)

    def test_file_cut_short(self):
        """head -c in front of curl -F: the bytes found against those the header tells of."""
        x, w = t.normal((50, 40), "fp32", 1), t.normal((40,), "fp32", 2)
        file = t.npy(x)
        for n in (0, 1, 100, 4000, 7990, 7999):
            for more in ([("weight", w)], [("weight", w), ("rest", x)], []):
                with self.subTest(n, more=len(more)):
                    p = self.parts(("x", file[:len(file) - 8000 + n]), *more, input="x", found="%d bytes of data" % n,
                                   wanted="8000 bytes of data")
                    self.assertRegex(p["detail"], "'x' is cut short")
        body, kind = t.multipart([("all", t.safetensors({"x": x, "weight": w})[:1000]), ("weight", t.npy(w)), ("x", t.npy(x))])
        self.post(400, "malformed-body", RMS, body, kind, input="x", detail=has("cut short"))

    def test_file_too_long(self):
        x = t.normal((2, 4), "fp32", 1)
        self.parts(("x", t.npy(x) + b"and more"), ("weight", x[0]), input="x", detail=has("goes on after the data"))

    def test_packed_files(self):
        w = t.normal((4,), "fp32", 2)
        self.parts(("x", gzip.compress(t.npy(w))), ("weight", w), input="x", found="gzip",
                   detail=has("whole body.*Content-Encoding: gzip"))
        self.parts(("x", calls.zstd(t.npy(w))), ("weight", w), input="x", found="zstd", detail=has("Content-Encoding: zstd"))
        for save in (np.savez, np.savez_compressed):
            file = io.BytesIO()
            save(file, x=w)
            self.parts(("x", file.getvalue()), ("weight", w), input="x", detail=has(".npz.*not read.*numpy.save"))

    def test_no_body(self):
        for op, name in (("rmsnorm", "x"), ("flash_attn_func", "q")):
            self.refused(400, "malformed-body", "POST", "/v1/ops/" + op,
                         detail=has("has no body.*curl -F %s=@%s.npy.*application/json" % (name, name)))

    def test_not_a_form(self):
        """curl -d or --data-binary without a Content-Type: what is sent tells what was meant."""
        form = "application/x-www-form-urlencoded"
        for body, says in ((b'{"inputs": {}}', "Content-Type: application/json"), (b' \n{"inputs"', "Content-Type: application/json"),
                           (t.npy(t.normal((4,), "fp32", 1)), "curl -F q=@q.npy"), (b"\x93NUMPY\x01v" * 50000, "curl -F q=@q.npy"),
                           (t.safetensors({"x": t.normal((4,), "fp32", 1)}), "application/x-safetensors"),
                           (b"a=1\0", "write it as %00")):
            with self.subTest(body[:20]):
                self.post(400, "malformed-body", RMS, body, form, detail=has(says))

    def test_lengths_of_a_sweep(self):
        self.post(422, "invalid-parameter", RMS + "/bench", b"rows=a", "application/x-www-form-urlencoded", found="a",
                  wanted="an integer of at least 0")

    def test_candidate_misnamed(self):
        x = t.normal((2, 4), "fp32", 1)
        for name in "out", "expected", "expect.out", "expected_out":
            with self.subTest(name):
                self.post(422, "unknown-input", RMS + "/check", t.safetensors({"x": x, "weight": x[0], name: x}), input=name,
                          wanted="expected.out", detail=has("a candidate to be checked is named expected.out"))

    def test_expected(self):
        x = t.normal((2, 4), "fp32", 1)
        p = self.post(422, "expected-without-check", RMS, t.safetensors({"x": x, "weight": x[0], "expected.out": x}),
                      detail=has("POST /v1/ops/rmsnorm/check"))
        for text in (p["detail"], self.c.request("GET", p["type"]).body.decode()):
            self.assertIn("/check", text)

    def test_names_of_numpy_and_torch(self):
        for names, fits in ((("float32", "fp32", "F32", "FP32", "torch.float32"), "fp32"),
                            (("float16", "fp16", "F16", "FP16", "torch.float16"), "fp16"),
                            (("bfloat16", "bf16", "BF16", "torch.bfloat16"), "bf16")):
            for name in names:
                body = {"inputs": {"x": {"dtype": name, "data": [[3, 3, -3]]}, "weight": {"dtype": name, "data": [1, 2, 4]}}}
                r = self.c.request("POST", RMS, json.dumps(body).encode(), [("Content-Type", JSON)])
                out = json.loads(r.body.decode())["outputs"]["out"]
                self.assertEqual((out["dtype"], out["shape"]), (fits, [1, 3]))
                self.assertTrue(np.allclose(out["data"], [1, 2, -4], rtol=1e-2), out)
        body = t.safetensors({n: np.ones((1, 4, 2, 8), np.uint8) for n in "qkv"})
        for name, ours in (("float8_e4m3fn", "fp8_e4m3"), ("float8_e4m3fnuz", "fp8_e4m3fnuz"), ("float8_e5m2", "fp8_e5m2")):
            self.post(422, "invalid-dtype", ATTN + "?dtype.q=%s&dtype.k=%s&dtype.v=%s" % ((name,) * 3), body, found=ours)
        for name in ("half", "float", "torch.half", "torch.", "Float32", "float8", ""):
            body = {"inputs": {"x": {"dtype": name, "data": [1]}}}
            self.post(422, "invalid-dtype", RMS, json.dumps(body).encode(), JSON, input="x", found=name or None)

    def test_list_tells_its_length(self):
        for data, shape in (([1, 2, 3], [3]), ([], None), ([[1, 2]], [1, 2])):
            body = {"inputs": {"x": {"dtype": "fp32", "data": data}, "weight": {"dtype": "fp32", "data": data[0] if shape == [1, 2] else data}}}
            r = self.c.request("POST", RMS, json.dumps(body).encode(), [("Content-Type", JSON)])
            if shape is None:
                problem(r, 422, "invalid-shape", detail=has("row length"))
            else:
                self.assertEqual(json.loads(r.body.decode())["outputs"]["out"]["shape"], shape)


class Parameters(Refusing):
    def attn(self, q=(1, 3, 2, 8), k=None):
        return Call("flash_attn_func", {n: t.normal(q if n == "q" else k or q, "fp16", 1) for n in "qkv"}, {}, {}, "")

    def test_layout_in_capitals(self):
        p = self.call(422, "invalid-parameter", self.attn(), query="layout=BHSD", param="layout", found="BHSD",
                      wanted="bshd or bhsd")
        self.assertRegex(p["detail"], r"\[batch, sequence, heads, dim\].*layout=bshd.*\[batch, heads, sequence, dim\].*layout=bhsd")
        self.assertEqual(send(self.c, self.attn(), query="layout=BSHD").status, 200)

    def test_other_words_in_capitals(self):
        call = self.attn()
        r = Reply(send(self.c, call, query="impl=NAIVE&outputs=Digest&format=JSON&baseline=None&causal=TRUE"))
        self.assertEqual((r.form, r.header["impl"]), ("json", "cpu:naive"))
        self.assertIn("digest", json.loads(r.r.body.decode())["outputs"]["out"])
        r = Reply(send(self.c, call, query="outputs=None&format=json"))
        self.assertEqual(set(r.outputs), {"out"}, "None is Python's for not given")

    def test_swapped_query(self):
        hints = Reply(send(self.c, self.attn((2, 8, 64, 16), (2, 64, 8, 16)))).header["hints"]
        self.assertRegex(hints[0], "q and k look as if they had different layouts.*8 positions and 64 heads")
        p = self.call(422, "invalid-shape", self.attn((2, 64, 8, 16), (2, 8, 64, 16)), input="k")
        self.assertRegex(p["detail"], "must divide.*looks as if q and k had different layouts$")
        self.assertEqual(Reply(send(self.c, self.attn((1, 128, 128, 8)))).header["hints"], [])

    def test_limits_in_force(self):
        """The server's own, in the message and in the catalogue."""
        with t.Server("--max-iters", "30", "--loops", "1", "--threads", "1", "--prefault", "0") as s:
            for query, param, low in (("iters=0", "iters", 1), ("iters=31", "iters", 1), ("warmup=31", "warmup", 0),
                                      ("warmup=-1", "warmup", 0), ("iters=100000000", "iters", 1)):
                r = send(s, self.attn(), query=query)
                problem(r, 422, "invalid-parameter", param=param, wanted="an integer between %d and 30" % low)
            for query in ("iters=30", "warmup=30"):
                self.assertEqual(send(s, self.attn(), query=query).status, 200)
            options = json.loads(s.request("GET", ATTN).body.decode())["run_options"]
            found = {o["name"]: (o["min"], o["max"]) for o in options if "max" in o}
            self.assertEqual((found["iters"], found["warmup"]), ((1, 30), (0, 30)))
            self.assertEqual(found["timeout_ms"][1], 86400000)

    def test_words(self):
        """No lists with bars, no two colons in a sentence, one number."""
        call = self.attn()
        for query, words in (("dropout_p=0.1", "dropout_p=0.1: there is no dropout in inference. Leave it out or give 0"),
                             ("softcap=3", "softcap=3: a soft cap on the scores is not offered. Leave it out or give 0 or None"),
                             ("outputs=some", 'outputs is "some", wanted all, none or digest'),
                             ("format=npy&outputs=none", "npy holds exactly one output with its data; this reply has 1 output "
                              "without data: ask for safetensors or json")):
            self.assertEqual(json.loads(send(self.c, call, query=query).body.decode())["detail"], words)
        self.call(422, "invalid-parameter", call, query="window_size=8", found="1 number")
        x = np.ones((1, 3, 2, 8), np.int32)
        self.call(422, "invalid-dtype", Call(call.op, {n: x for n in "qkv"}, {}, {}, ""), wanted="fp32, fp16 or bf16",
                  detail=has("q is int32, wanted fp32, fp16 or bf16"))


class Replies(Refusing):
    def test_end_with_a_line_end(self):
        call = calls.rmsnorm()
        for r in [self.c.request("GET", p) for p in (
                "/", "/v1/info", "/v1/limits", "/v1/ops", RMS, "/v1/nothing", "/problems/not-found", "/v2", "/v2/health/live",
                "/v2/health/ready", "/v2/models/rmsnorm", "/v2/models/rmsnorm/config", "/v2/models/rmsnorm/stats",
                "/v2/models/stats", "/v2/models/nothing")] + [
                send(self.c, call, query=q) for q in ("dry_run=1", "format=json", "format=json&outputs=none", "nonsense=1")] + [
                self.c.request("POST", "/v2/repository/index"),
                self.c.request("POST", call.infer, *t.oip(call.tensors, outputs=[{"name": "out"}])),
                self.c.request("GET", "/v1/info", headers=[("X-Long", "x" * 20000)])]:
            self.assertEqual((r.body[-1:], r.body[-2:-1] == b"\n"), (b"\n", False), r)
            if "json" in r.get("content-type"):
                json.loads(r.body.decode())
            if r.get("connection") == "close":
                self.c.close()
        self.c = self.server.client(60)

    def test_time_is_in_some_stage(self):
        """Making fresh memory is a stage of its own; from memory at hand it takes none."""
        with t.Server("--loops", "1", "--threads", "1", "--prefault", "0") as s, s.client(60) as c:
            call = calls.rmsnorm(shape=(2048, 2048))
            first, again = (Reply(send(c, call)).header["timing_ms"] for _ in range(2))
            self.assertGreater(first["reserve"], 0)
            self.assertLessEqual(first["reserve"], first["total"])
            self.assertEqual(again["reserve"], 0)


class Starts(unittest.TestCase):
    def start(self, *options):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AITERD_")}
        return subprocess.run([os.path.join(t.BUILD, "aiterd"), "--prefault", "0", *options], env=environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)

    def test_device_that_is_not_there(self):
        """No worker for it was built, or there is no such device: the worker may exist, a 200th GPU does not."""
        hip, cuda = (kind.upper() + " finds" if os.path.exists(os.path.join(t.BUILD, "aiterd-worker-" + kind)) else
                     "aiterd-worker-" + kind for kind in ("hip", "cuda"))
        for devices, missing, why in (("hip:200", "hip:200", hip), ("cpu,hip:201", "hip:201", hip),
                                      ("cuda:200,cpu", "cuda:200", cuda)):
            p = self.start("--device", devices, "--listen", "127.0.0.1:0")
            self.assertEqual((p.returncode, p.stdout), (1, ""), p.stderr)
            self.assertRegex(p.stderr, "the device %s cannot be started: .*%s" % (missing, why))

    def test_wrong_values(self):
        for option, values in (("--listen", ("nonsense", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999", ",", "", "unix:",
                                             "127.0.0.1:0,nonsense", "unix:" + "x" * 200)),
                               ("--device", ("HIP", "hip:", "cpu,hip:x", "../cpu", "toaster!", "hip:256"))):
            for value in values:
                with self.subTest(option, value=value):
                    p = self.start(option, value)
                    self.assertEqual((p.returncode, p.stdout), (2, ""), p.stderr)
                    self.assertRegex(p.stderr, r"^aiterd: %s: found '[^']*', wanted .*\nTry aiterd --help\.\n$" % option)

    def test_address_in_use(self):
        """Nothing is wrong with how it is written: status 1."""
        with tempfile.TemporaryDirectory() as d, t.Server("--loops", "1", "--threads", "1", "--prefault", "0") as s:
            for address in ("127.0.0.1:%d" % s.address[1], "unix:" + d):
                p = self.start("--listen", address)
                self.assertEqual((p.returncode, p.stdout), (1, ""), p.stderr)
                self.assertIn(address, p.stderr)

    def test_short_help(self):
        short, long = self.start("-h"), self.start("--help")
        self.assertEqual((short.returncode, short.stderr, short.stdout), (0, "", long.stdout))
        self.assertIn("-h, --help", long.stdout)


if __name__ == "__main__":
    unittest.main()
