#!/usr/bin/python3
"""The Open Inference Protocol as its stock clients speak it: metadata, config, statistics, readiness, inference with
JSON and binary tensors both ways, compression, versions, and perf_analyzer's requests with the keys it reads.
"""
import gzip
import json
import time
import unittest
import zlib

import numpy as np

import aiterd_test as t
import calls
from calls import CODINGS, FLOATS, MAKERS, check_stats, oip_error

OPS = ("flash_attn_func", "flash_attn_varlen_func", "rmsnorm")
DATATYPES = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16"}

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


def scalars(params):
    """Parameters as the protocol can carry them: lists as JSON text."""
    return {n: json.dumps(v) if isinstance(v, list) else v for n, v in params.items()}


class Test(unittest.TestCase):
    def setUp(self):
        self.c = server.client(60)

    def tearDown(self):
        self.c.close()

    def get(self, path, method="GET", headers=()):
        r = self.c.request(method, path, None, headers)
        self.assertEqual((r.status, r.get("content-type")), (200, "application/json"), r)
        return json.loads(r.body.decode("ascii"))

    def infer(self, call, binary=True, outputs=None, binary_output=True, coding="identity", accept=None, path=None,
              request_id=None, params=None, headers=(), native_type=True):
        """The reply, the JSON of it, and the arrays; strictly as clients parse it."""
        body, fields = t.oip(call.tensors, scalars(call.params if params is None else params), binary, outputs,
                             binary_output, request_id)
        fields = [f for f in fields if native_type or f[0] != "Content-Type"]
        if coding != "identity":
            fields.append(("Content-Encoding", CODINGS[coding][0]))
        if accept:
            fields.append(("Accept-Encoding", accept))
        r = self.c.request("POST", path or call.infer, CODINGS[coding][1](body), fields + list(headers))
        self.assertEqual(r.status, 200, r)
        data, length = calls.decoded(r), r.get("inference-header-content-length")
        reply, arrays = t.oip_parse(data, length)
        self.assertEqual(r.get("content-type"), "application/json" if length is None else "application/octet-stream")
        self.assertEqual((reply["model_name"], reply["model_version"]), (call.op, "1"))
        self.assertEqual(reply.get("id"), request_id)
        is_binary = [o["name"] for o in reply["outputs"] if "binary_data_size" in o.get("parameters", {})]
        self.assertEqual(length is not None, bool(is_binary))
        for o in reply["outputs"]:
            self.assertEqual(o["datatype"], DATATYPES[call.dtype_of(o["name"])])
            self.assertTrue(all(type(n) is int for n in o["shape"]), o)
            if o["name"] in is_binary:
                self.assertNotIn("data", o)
                self.assertIs(type(o["parameters"]["binary_data_size"]), int)
            else:
                self.assertEqual(len(o["data"]), int(np.prod(o["shape"])))
        return r, reply, arrays


class Infer(Test):
    def test_every_way(self):
        """Operators, dtypes, JSON and binary in and out."""
        for make in MAKERS:
            for dtype in FLOATS:
                for binary in (True, False):
                    for out in (True, False, None):
                        params = {"eps": 0.25} if make is calls.rmsnorm else {"causal": True, "window_size": [3, 0]}
                        call = make(dtype, **params)
                        with self.subTest(call.op, dtype=dtype, binary=binary, out=out):
                            r, reply, arrays = self.infer(call, binary, binary_output=out)
                            call.check(arrays)
                            self.assertEqual(r.get("inference-header-content-length") is not None, out is True)
                            stats = json.loads(reply["parameters"]["stats"])
                            header = json.loads(r.get("aiterd-stats"))
                            self.assertEqual(stats["kernel_ms"], header["kernel_ms"])
                            self.assertEqual(stats["memory"], header["memory"])

    def test_statistics(self):
        call = calls.attention("fp16", lse=False)
        r, reply, _ = self.infer(call, params={"iters": 3, "warmup": 1, "baseline": "naive"})

        class Plain:  # what check_stats reads of a native reply
            header, stats = json.loads(r.get("aiterd-stats")), json.loads(reply["parameters"]["stats"])
        Plain.r = r
        check_stats(Plain, call, 1, 3, baseline=True)

    def test_codings(self):
        """gzip and deflate both ways, whatever Accept-Encoding asks; the header's length counts decoded bytes."""
        call = calls.attention("bf16", shape=(1, 64, 64, 4, 2, 64, 64))
        for coding in ("identity", "gzip", "deflate", "zstd", "raw deflate", "gzip members"):
            for accept in (None, "gzip", "deflate", "gzip, deflate", "zstd", "identity"):
                for binary, out in ((True, True), (False, False)):
                    with self.subTest(coding=coding, accept=accept, binary=binary):
                        r, _, arrays = self.infer(call, binary, binary_output=out, coding=coding, accept=accept)
                        call.check(arrays)
                        want = {"gzip, deflate": "gzip", "identity": None}.get(accept, accept)
                        self.assertEqual(r.get("content-encoding"), want)

    def test_binary_per_output(self):
        """An output's own binary_data wins over binary_data_output."""
        call = calls.attention("fp16")
        for whole in (True, False, None):
            for out in (True, False, None):
                for lse in (True, False, None):
                    named = [{"name": n, **({} if b is None else {"parameters": {"binary_data": b}})}
                             for n, b in (("out", out), ("softmax_lse", lse))]
                    with self.subTest(whole=whole, out=out, lse=lse):
                        _, reply, arrays = self.infer(call, outputs=named, binary_output=whole)
                        call.check(arrays)
                        told = {o["name"]: "binary_data_size" in o.get("parameters", {}) for o in reply["outputs"]}
                        want = {"out": bool(whole) if out is None else out,
                                "softmax_lse": bool(whole) if lse is None else lse}
                        self.assertEqual(told, want)

    def test_outputs(self):
        """Naming outputs: only those come back; naming an optional one asks for it."""
        for make in (calls.attention, calls.varlen):
            call = make("fp16")
            bare = {n: v for n, v in call.params.items() if n != "return_lse"}
            for named in (["out"], ["softmax_lse"], ["out", "softmax_lse"], ["softmax_lse", "out"]):
                for params in (bare, call.params):
                    with self.subTest(make.__name__, named=named):
                        _, reply, arrays = self.infer(call, outputs=named, params=params)
                        call.check(arrays, named)
            call.check(self.infer(call, params=bare)[2], ["out"])
            call.check(self.infer(call)[2], ["out", "softmax_lse"])
            call.check(self.infer(call, outputs=[], params=bare)[2], ["out"])

    def test_id(self):
        call = calls.rmsnorm()
        for name in ("1", "my request", "ü\"\\/\u20ac", "x" * 1000):
            self.infer(call, request_id=name)
            self.infer(call, request_id=name, binary=False, binary_output=False)

    def test_unaligned(self):
        """Tensors begin wherever the JSON ends; a header's JSON may be padded."""
        call = calls.rmsnorm("fp32")
        body, fields = t.oip(call.tensors, {}, True, None, True)
        n = int(fields[1][1])
        for pad in range(9):
            r = self.c.request("POST", call.infer, body[:n] + b" " * pad + body[n:],
                               [("Inference-Header-Content-Length", str(n + pad))])
            call.check(t.oip_parse(r.body, r.get("inference-header-content-length"))[1])

    def test_mixed(self):
        """One input binary, the other as JSON data, nested."""
        call = calls.rmsnorm("fp16")
        x, w = call.tensors["x"], call.tensors["weight"]
        for first in ("x", "weight"):
            inputs = [{"name": n, "shape": list(a.shape), "datatype": "FP16",
                       **({"parameters": {"binary_data_size": a.nbytes}} if n == first else {"data": t.json_values(a)})}
                      for n, a in (("x", x), ("weight", w))]
            text = json.dumps({"inputs": inputs}).encode()
            r = self.c.request("POST", call.infer, text + call.tensors[first].tobytes(),
                               [("Inference-Header-Content-Length", str(len(text)))])
            call.check(t.oip_parse(r.body)[1])

    def test_header_length_of_all(self):
        """C++ clients name the header's length even when all inputs are JSON."""
        call = calls.rmsnorm()
        body, fields = t.oip(call.tensors, binary=False)
        for name in ("Inference-Header-Content-Length", "inference-header-content-length",
                     "INFERENCE-HEADER-CONTENT-LENGTH"):
            r = self.c.request("POST", call.infer, body, [(name, str(len(body)))])
            call.check(t.oip_parse(r.body)[1])

    def test_no_content_type(self):
        """The Python client sends none; one that says something else does not matter either."""
        call = calls.attention("fp16")
        for kind in (None, "application/json", "application/octet-stream", "text/plain", "application/x-safetensors"):
            headers = [("Content-Type", kind)] if kind else []
            call.check(self.infer(call, native_type=False, headers=headers)[2])
            call.check(self.infer(call, binary=False, native_type=False, headers=headers)[2])
        call.check(self.infer(call, headers=[("Accept", "text/html"), ("User-Agent", "x")])[2])

    def test_versions_and_names(self):
        call = calls.rmsnorm()
        for path in ("/v2/models/rmsnorm/versions/1/infer", "/v2/models/rms%6eorm/infer",
                     "/v2/models/%72%6D%73norm/versions/%31/infer",
                     "/v2/models/rmsnorm/infer/"):
            with self.subTest(path):
                call.check(self.infer(call, path=path)[2])

    def test_query_is_ignored(self):
        """Clients' users may add anything: none of it is a parameter here."""
        call = calls.rmsnorm()
        for query in ("?test_1=1&test_2=2", "?eps=7", "?iters=0", "?", "?a=%zz", "?format=npy&dry_run=1"):
            r, _, arrays = self.infer(call, path=call.infer + query)
            call.check(arrays)
            self.assertEqual(json.loads(r.get("aiterd-stats"))["kernel_ms"]["iters"], 1)
            for path in ("/v2", "/v2/models/rmsnorm", "/v2/models/rmsnorm/config", "/v2/models/stats",
                         "/v2/health/live"):
                self.get(path + query)
            self.get("/v2/repository/index" + query, "POST")

    def test_reserved_parameters(self):
        call = calls.rmsnorm()
        params = {"sequence_id": 3, "sequence_start": True, "sequence_end": False, "priority": 1, "timeout": 20000000,
                  "headers": "x", "triton_enable_empty_final_response": False, "triton_anything": "y"}
        call.check(self.infer(call, params=params)[2])
        call.check(self.infer(call, params={**params, "timeout": 0})[2])

    def test_timeout(self):
        """In microseconds; a part of a millisecond counts as a whole one."""
        call = calls.attention("fp32", shape=(1, 256, 256, 4, 4, 64, 64), lse=False)
        body, fields = t.oip(call.tensors, {"iters": 10000, "timeout": 50000})
        start = time.monotonic()
        oip_error(self.c.request("POST", call.infer, body, fields), 504)
        self.assertLess(time.monotonic() - start, 30)
        call.check(self.infer(call, params={"timeout": 60000000})[2])

    def test_run_options(self):
        call = calls.rmsnorm("fp16")
        for impl in ("own", "naive", "reference"):
            call.check(self.infer(call, params={"impl": impl})[2])
        _, reply, arrays = self.infer(call, params={"outputs": "none"}, binary_output=None)
        self.assertEqual((reply["outputs"], arrays), ([], {}))
        _, reply, _ = self.infer(call, params={"outputs": "digest"}, binary_output=None)
        calls.check_digest(json.loads(reply["parameters"]["digest.out"]), self.infer(call)[2]["out"])
        r = self.c.request("POST", call.infer, *t.oip(call.tensors, {"dry_run": True}, request_id="7"))
        reply, arrays = t.oip_parse(r.body)
        self.assertEqual((r.status, reply["model_name"], reply["id"], arrays), (200, "rmsnorm", "7", {}))
        self.assertEqual(json.loads(reply["parameters"]["dry_run"])["outputs"]["out"]["shape"], [2, 3, 40])
        sent = calls.Call(call.op, {n: t.shuffled(a) for n, a in call.tensors.items()}, {"shuffle": "x,weight"},
                          call.want, "fp16")
        call.check(self.infer(sent, coding="gzip")[2])

    def test_special_values(self):
        x = np.array([[1, np.nan], [np.inf, 1], [3, 4]], np.float32)
        want = np.array([[np.nan] * 2, [np.nan, 0], x[2] / np.sqrt(12.5 + 1e-6)])
        call = calls.Call("rmsnorm", {"x": x, "weight": np.ones(2, np.float32)}, {}, {"out": want}, "fp32")
        for binary in (True, False):
            for out in (True, False):
                call.check(self.infer(call, binary, binary_output=out)[2])

    def test_empty(self):
        call = calls.rmsnorm(shape=(0, 8))
        for binary in (True, False):
            for out in (True, False):
                call.check(self.infer(call, binary, binary_output=out)[2])

    def test_big(self):
        """Megabytes, binary and as JSON, chunked and in pieces."""
        call = calls.rmsnorm("bf16", shape=(300, 4096))
        call.check(self.infer(call)[2])
        small = calls.rmsnorm("fp32", shape=(100, 1000))
        small.check(self.infer(small, binary=False, binary_output=False)[2])
        body, fields = t.oip(call.tensors, {}, True, None, True)
        for piece in (9999, 70000):
            r = self.c.request("POST", call.infer, body, fields, piece=piece)
            call.check(t.oip_parse(r.body, r.get("inference-header-content-length"))[1])
        r = self.c.request("POST", call.infer, t.chunked(body, 50000), fields + [("Transfer-Encoding", "chunked")])
        call.check(t.oip_parse(r.body, r.get("inference-header-content-length"))[1])


class Management(Test):
    def test_server(self):
        for path in ("/v2", "/v2/"):
            m = self.get(path)
            self.assertEqual(m["name"], "aiterd")
            self.assertTrue({"binary_tensor_data", "statistics", "model_configuration",
                             "model_repository"} <= set(m["extensions"]))
            self.assertIsInstance(m["version"], str)

    def test_health(self):
        self.assertEqual(self.get("/v2/health/live"), {"live": True})
        self.assertEqual(self.get("/v2/health/ready"), {"ready": True})
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/rmsnorm/ready"):
            r = self.c.request("HEAD", path)
            self.assertEqual((r.status, r.body), (200, b""))
        for op in OPS:
            for path in ("/v2/models/%s/ready", "/v2/models/%s/versions/1/ready"):
                self.assertEqual(self.get(path % op), {"name": op, "ready": True})

    def test_metadata(self):
        """Names and ranks agree with the catalogue of /v1."""
        for op in OPS:
            m, catalogue = self.get("/v2/models/" + op), self.get("/v1/ops/" + op)
            self.assertEqual(m, self.get("/v2/models/%s/versions/1" % op))
            self.assertEqual((m["name"], m["versions"]), (op, ["1"]))
            for kind in ("inputs", "outputs"):
                self.assertEqual([(x["name"], len(x["shape"])) for x in m[kind]],
                                 [(x["name"], len(x["shape"])) for x in catalogue[kind]])
                self.assertTrue(all(type(n) is int and n == -1 for x in m[kind] for n in x["shape"]))
                self.assertTrue(all(x["datatype"] in ("FP32", "INT32") for x in m[kind]))

    def test_config(self):
        for op in OPS:
            config, m = self.get("/v2/models/%s/config" % op), self.get("/v2/models/" + op)
            self.assertEqual(config, self.get("/v2/models/%s/versions/1/config" % op))
            self.assertIs(type(config["max_batch_size"]), int)
            self.assertEqual((config["name"], config["max_batch_size"]), (op, 0))
            self.assertNotEqual(config["platform"], "ensemble")
            for kind in ("input", "output"):
                self.assertEqual([(x["name"], x["data_type"], x["dims"]) for x in config[kind]],
                                 [(x["name"], "TYPE_" + x["datatype"], x["shape"]) for x in m[kind + "s"]])

    def test_index(self):
        """It comes without a body and without a Content-Length, or with either; what it says is the same."""
        want = [{"name": op, "version": "1", "state": "READY", "reason": ""} for op in OPS]
        self.c.send(b"POST /v2/repository/index HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(sorted(json.loads(self.c.response().body.decode()), key=lambda m: m["name"]), want)
        for body in (b"", b"{}", b'{"ready":true}', b"anything" * 1000):
            r = self.c.request("POST", "/v2/repository/index", body)
            self.assertEqual(sorted(json.loads(r.body.decode()), key=lambda m: m["name"]), want)

    def test_unknown(self):
        for path in ("/v2/models/none", "/v2/models/none/ready", "/v2/models/none/config", "/v2/models/none/stats",
                     "/v2/models/none/versions/1", "/v2/models/rmsnorm/versions/2",
                     "/v2/models/rmsnorm/versions/2/ready",
                     "/v2/models/rmsnorm/versions/01/config", "/v2/models/none/versions/1/stats", "/v2/models/a%20b"):
            r = self.c.request("GET", path)
            text = oip_error(r, 404, "^Request for unknown model")
            self.assertIn(path.split("/")[3].replace("%20", " "), text)
        for path in ("/v2/models/none/infer", "/v2/models/none/versions/1/infer", "/v2/models/rmsnorm/versions/3/infer",
                     "/v2/repository/models/none/load", "/v2/repository/models/none/unload"):
            oip_error(self.c.request("POST", path, b"{}" * 1000), 404, "^Request for unknown model")
        for method, path in (("GET", "/v2/logging"), ("GET", "/v2/trace/setting"),
                             ("GET", "/v2/systemsharedmemory/status"),
                             ("POST", "/v2/cudasharedmemory/region/r/register"), ("GET", "/v2/models"),
                             ("GET", "/v2/health")):
            oip_error(self.c.request(method, path), 404)
        for verb in ("load", "unload"):
            oip_error(self.c.request("POST", "/v2/repository/models/rmsnorm/" + verb, b'{"parameters":{}}'), 501,
                      "^failed to load")

    def test_statistics_count(self):
        """Successes, failures, executions; each with whole numbers."""
        def stats(op="rmsnorm"):
            (s,) = self.get("/v2/models/%s/stats" % op)["model_stats"]
            self.assertEqual([s], self.get("/v2/models/%s/versions/1/stats" % op)["model_stats"])
            return s
        before, call = stats(), calls.rmsnorm()
        begun = time.time()
        for _ in range(3):
            self.c.request("POST", call.infer, *t.oip(call.tensors, {"iters": 4}))
        calls.send(self.c, call)
        after = stats()
        self.assertEqual(after["inference_count"] - before["inference_count"], 4)
        self.assertEqual(after["execution_count"] - before["execution_count"], 13)
        self.assertTrue(begun - 1 <= after["last_inference"] / 1000 <= time.time() + 1)
        for key in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
            self.assertEqual(after["inference_stats"][key]["count"] - before["inference_stats"][key]["count"], 4)
        for key in ("success", "compute_infer"):
            self.assertGreater(after["inference_stats"][key]["ns"], before["inference_stats"][key]["ns"])
        self.assertEqual(after["inference_stats"]["fail"], before["inference_stats"]["fail"])
        slow = calls.attention("fp32", shape=(1, 256, 256, 4, 4, 64, 64), lse=False)
        failed = stats("flash_attn_func")["inference_stats"]["fail"]["count"]
        oip_error(self.c.request("POST", slow.infer, *t.oip(slow.tensors, {"iters": 10000, "timeout_ms": 30})), 504)
        self.assertEqual(stats("flash_attn_func")["inference_stats"]["fail"]["count"], failed + 1)


class PerfAnalyzer(Test):
    """perf_analyzer's requests, in its order, and every key it reads without looking whether it is there."""

    def statistics(self, path):
        entries = self.get(path)["model_stats"]
        for s in entries:
            self.assertTrue(s["version"].isdigit(), s)
            for key in ("inference_count", "execution_count", "last_inference"):
                self.assertIs(type(s[key]), int)
            for key in ("success", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit",
                        "cache_miss"):
                for part in ("count", "ns"):
                    self.assertIs(type(s["inference_stats"][key][part]), int, (key, part))
                    self.assertGreaterEqual(s["inference_stats"][key][part], 0)
        return {s["name"]: s for s in entries}

    def test_sequence(self):
        self.assertIn("statistics", self.get("/v2")["extensions"])
        for op, make in zip(OPS, (calls.attention, calls.varlen, calls.rmsnorm)):
            with self.subTest(op):
                self.get("/v2/health/ready")
                m = self.get("/v2/models/" + op)
                config = self.get("/v2/models/%s/config" % op)
                for key in ("sequence_batching", "dynamic_batching", "ensemble_scheduling", "model_transaction_policy"):
                    self.assertNotIn(key, config)
                self.assertEqual(config["max_batch_size"], 0)
                call = make("fp32")
                self.assertEqual({x["name"] for x in m["inputs"]}, set(call.tensors))
                before = self.statistics("/v2/models/stats")[op]
                params = scalars({n: v for n, v in call.params.items() if n != "return_lse"})
                for i in range(20):
                    outputs = [{"name": x["name"], "parameters": {"binary_data": True}} for x in m["outputs"]]
                    body, fields = t.oip(call.tensors, params, outputs=outputs, request_id=str(i))
                    r = self.c.request("POST", call.infer, body, fields[1:])
                    reply, arrays = t.oip_parse(r.body, r.get("inference-header-content-length"))
                    self.assertEqual(reply["id"], str(i))
                    call.check(arrays)
                after = self.statistics("/v2/models/%s/stats" % op)[op]
                done = after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"]
                self.assertEqual(done, 20)
                whole = after["inference_stats"]["success"]["ns"] - before["inference_stats"]["success"]["ns"]
                parts = sum(after["inference_stats"][k]["ns"] - before["inference_stats"][k]["ns"]
                            for k in ("queue", "compute_input", "compute_infer", "compute_output"))
                self.assertLessEqual(parts, whole)

    def test_bf16(self):
        """Its bf16 data is binary, as all its clients' is."""
        call = calls.attention("bf16", shape=(1, 32, 32, 2, 2, 16, 16), lse=False)
        _, reply, arrays = self.infer(call)
        self.assertEqual(reply["outputs"][0]["datatype"], "BF16")
        self.assertEqual(reply["outputs"][0]["parameters"]["binary_data_size"], 1 * 32 * 2 * 16 * 2)
        call.check(arrays)

    def test_concurrent_connections(self):
        """Eight connections in lock step, each asked before any is read."""
        clients = [server.client(60) for _ in range(8)]
        those = [calls.rmsnorm("fp16", seed=i) for i in range(8)]
        for _ in range(20):
            for c, call in zip(clients, those):
                body, fields = t.oip(call.tensors, binary_output=True)
                c.send(c.head("POST", call.infer, fields, len(body)) + body)
            for c, call in zip(clients, those):
                r = c.response()
                call.check(t.oip_parse(r.body, r.get("inference-header-content-length"))[1])
        for c in clients:
            c.close()


class Compressed(Test):
    def test_stock_headers(self):
        """Byte for byte what the Python client sends: no Content-Type, lower-case names, its own order."""
        call = calls.attention("fp16", shape=(1, 64, 64, 4, 4, 32, 32), lse=False)
        body, fields = t.oip(call.tensors, {"causal": False}, binary_output=True)
        for coding, code in (("gzip", gzip.compress), ("deflate", zlib.compress)):
            data = code(body)
            head = ("POST /v2/models/flash_attn_func/infer HTTP/1.1", "content-encoding: " + coding,
                    "accept-encoding: " + coding, "inference-header-content-length: " + fields[1][1],
                    "content-length: %d" % len(data), "host: a:1", "connection: keep-alive",
                    "user-agent: geventhttpclient-2.0", "", "")
            self.c.send("\r\n".join(head).encode() + data)
            r = self.c.response()
            self.assertEqual(r.get("content-encoding"), coding)
            call.check(t.oip_parse(calls.decoded(r), r.get("Inference-Header-Content-Length"))[1])


if __name__ == "__main__":
    unittest.main()
