#!/usr/bin/python3
"""Inputs that nobody uploads: api/generate.md's vectors with the Python client's generator, and the server's generated inputs in
every place where a source may stand, against the same tensors made here and uploaded.
"""
import hashlib
import importlib.util
import json
import os
import re
import socket
import threading
import unittest
import urllib.parse

import numpy as np

import aiterd_test as t
import calls
from calls import FLOATS, Call, Reply, problem, send

ROOT = os.path.join(t.HERE, "..", "..")
ATTENTION, RMS, VARLEN = "/v1/ops/flash_attn_func", "/v1/ops/rmsnorm", "/v1/ops/flash_attn_varlen_func"
JSON, FORM, SAFETENSORS = "application/json", "application/x-www-form-urlencoded", "application/x-safetensors"

server = None


def load():
    path = os.path.join(ROOT, "clients", "python", "aiter_remote", "generate.py")
    spec = importlib.util.spec_from_file_location("aiter_remote_generate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load()


def setUpModule():
    global server
    server = t.Server("--loops", "2", "--threads", "2", "--prefault", "1M")
    server.request("GET", "/v1/info")


def tearDownModule():
    try:
        calls.nothing_lent(server)
    finally:
        server.stop()


class Vectors(unittest.TestCase):
    """The generator in Python; tests/unit/test_generate.c does the same with the one in C."""

    @classmethod
    def setUpClass(cls):
        with open(os.path.join(ROOT, "api", "generate-vectors.json"), encoding="utf-8") as f:
            cls.vectors = json.load(f)

    def test_words(self):
        for case in self.vectors["philox"]:
            self.assertEqual([int(w) for w in generate.philox(case["counter"], case["key"])], case["words"])

    def test_pairs(self):
        words = np.array([case["words"] for case in self.vectors["normal"]], np.uint64)
        z = np.stack(generate.normal_pair(words[:, 0], words[:, 1]), axis=1)
        self.assertEqual([[v.hex() for v in map(float, pair)] for pair in z], [c["z"] for c in self.vectors["normal"]])

    def test_tensors(self):
        kinds = set()
        for case in self.vectors["tensors"]:
            source = case["source"]
            kinds.add((source["generate"], source["dtype"]))
            with self.subTest(source, first=case["first"]):
                data = generate.generate_elements(source, case["first"], case["count"]).tobytes()
                if "hex" in case:
                    self.assertEqual(data.hex(), case["hex"])
                else:
                    self.assertEqual(hashlib.sha256(data).hexdigest(), case["sha256"])
        whole = {"int8", "uint8", "int32", "int64", "bool"}
        wanted = {(k, d) for k in generate.KINDS for d in generate.DTYPES
                  if not (k in ("normal", "uniform") and d in whole)}
        self.assertEqual(kinds, wanted, "every kind of every dtype has a vector")

    def test_made_by_the_script(self):
        """The committed file is what its script makes."""
        script = os.path.join(ROOT, "tests", "data", "generate_vectors.py")
        spec = importlib.util.spec_from_file_location("generate_vectors", script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        known = [json.dumps(case) for case in self.vectors["tensors"]]
        made = (json.dumps(case) for case in module.tensors())
        for n, case in zip(range(20), made):  # all of them would take seconds
            self.assertEqual(case, known[n])

    def test_refusals(self):
        good = {"generate": "normal", "dtype": "fp16", "shape": [2]}
        for change, word in (({"generate": "nromal"}, "nromal"), ({"dtype": "fp15"}, "fp15"), ({"low": 1}, "low"),
                             ({"seed": -1}, "seed"), ({"seed": 2**64}, "seed"), ({"seed": 1.5}, "seed"),
                             ({"std": -1}, "std"), ({"mean": float("inf")}, "mean"), ({"dtype": "int8"}, "randint"),
                             ({"shape": [-1]}, "length"), ({"generate": "randint"}, "high"),
                             ({"generate": "randint", "high": 0}, "below"),
                             ({"generate": "uniform", "low": 2}, "below"),
                             ({"generate": "randint", "high": 300, "dtype": "int8"}, "-128 to 127"),
                             ({"generate": "arange", "dtype": "bool", "shape": [3]}, "0 to 1")):
            with self.subTest(change), self.assertRaisesRegex(ValueError, word):
                generate.generate({**good, **change})


def source(kind="normal", dtype="fp16", shape=(2, 5, 4, 16), seed=7, **more):
    return {"generate": kind, "dtype": dtype, "shape": list(shape), "seed": seed, **more}


def attention_sources(dtype="fp16", seed=7):
    return {"q": source(dtype=dtype, seed=seed), "k": source(dtype=dtype, shape=(2, 7, 2, 16), seed=seed, mean=0.5),
            "v": source("uniform", dtype, (2, 7, 2, 8), seed, low=-2, high=2)}


def made(sources):
    """The same tensors, made here: the stream is the input's position."""
    return {name: generate.generate(s, stream=i) for i, (name, s) in enumerate(sources.items())}


# How sources travel: (path, body, headers), for given sources and parameters; all ask for digests as JSON

def by_json(path, sources, params):
    return path, json.dumps({"inputs": sources, "params": params}), [("Content-Type", JSON)]


def by_json_params(path, sources, params):
    return path, json.dumps({"params": {**params, "inputs": sources}}), [("Content-Type", JSON)]


def by_json_params_text(path, sources, params):
    return path, json.dumps({"params": {**params, "inputs": json.dumps(sources)}}), [("Content-Type", JSON)]


def by_parts(path, sources, params):
    body, kind = t.multipart([(n, json.dumps(s), JSON) for n, s in sources.items()] +
                             [(n, calls.text_of(v)) for n, v in params.items()])
    return path, body, [("Content-Type", kind)]


def by_plain_parts(path, sources, params):
    body, kind = t.multipart([(n, "  " + json.dumps(s)) for n, s in sources.items()] +
                             [(n, calls.text_of(v)) for n, v in params.items()])
    return path, body, [("Content-Type", kind)]


def by_field(path, sources, params):
    body, kind = t.multipart([(n, calls.text_of(v)) for n, v in params.items()] + [("inputs", json.dumps(sources))])
    return path, body, [("Content-Type", kind)]


def by_params_part(path, sources, params):
    body, kind = t.multipart([("params", json.dumps({**params, "inputs": sources}))])
    return path, body, [("Content-Type", kind)]


def by_metadata(path, sources, params):
    return path, t.safetensors({}, params={**params, "inputs": sources}), [("Content-Type", SAFETENSORS)]


def encoded(sources, params):
    return urllib.parse.urlencode({**{n: calls.text_of(v) for n, v in params.items()}, "inputs": json.dumps(sources)})


def by_form(path, sources, params):
    return path, encoded(sources, params), [("Content-Type", FORM)]


def by_query(path, sources, params):
    return path + "?" + encoded(sources, params), None, []


def by_query_empty_form(path, sources, params):
    return path + "?" + encoded(sources, params), "", [("Content-Type", FORM)]


PLACES = (by_json, by_json_params, by_json_params_text, by_parts, by_plain_parts, by_field, by_params_part, by_metadata,
          by_form, by_query, by_query_empty_form)
DIGEST = {"format": "json", "outputs": "digest"}


class Test(unittest.TestCase):
    def setUp(self):
        self.c = server.client(60)

    def tearDown(self):
        self.c.close()

    def post(self, path, body, headers):
        return self.c.request("POST", path, body.encode() if isinstance(body, str) else body, headers, timeout=60)

    def digests(self, place, path, sources, params=None):
        return Reply(self.post(*place(path, sources, {**DIGEST, **(params or {})}))).digests

    def uploaded(self, path, tensors, params=None):
        call = Call(path.rsplit("/", 1)[1], tensors, {}, {}, "")
        return Reply(send(self.c, call, params={**DIGEST, **(params or {})})).digests


class Same(Test):
    """Generated there or made here and uploaded: the same outputs to the last bit."""

    def test_every_place(self):
        sources = attention_sources()
        wanted = self.uploaded(ATTENTION, made(sources), {"causal": True})
        other = self.uploaded(ATTENTION, made(attention_sources(seed=8)), {"causal": True})
        self.assertNotEqual(wanted, other)
        for place in PLACES:
            with self.subTest(place.__name__):
                self.assertEqual(self.digests(place, ATTENTION, sources, {"causal": True}), wanted)

    def test_every_dtype(self):
        for dtype in FLOATS:
            sources = attention_sources(dtype, 2**64 - 1)
            tensors = made(sources)
            with self.subTest(dtype):
                self.assertEqual(self.digests(by_json, ATTENTION, sources), self.uploaded(ATTENTION, tensors))
                r = self.post(*by_json(ATTENTION, sources, {"format": "npy"}))
                want, _ = t.attention(*(t.to_float(tensors[n]) for n in "qkv"))
                t.assert_close(t.npy_parse(r.body), want, dtype, "out")

    def test_every_kind(self):
        n = 1000
        for dtype in FLOATS:
            for x in (source("normal", dtype, (3, n), std=0.25), source("uniform", dtype, (3, n), 1, low=-1),
                      source("arange", dtype, (3, n), start=-1.5, step=0.001),
                      source("randint", dtype, (3, n), 9, low=-5, high=6), source("ones", dtype, (3, n)),
                      source("zeros", dtype, (3, n)), source("normal", dtype, (3, n), stream=12345678901234567890)):
                sources = {"x": x, "weight": source("uniform", dtype, (n,), 3)}
                with self.subTest(dtype, kind=x["generate"]):
                    self.assertEqual(self.digests(by_json, RMS, sources), self.uploaded(RMS, made(sources)))

    def test_large(self):
        """More than a piece, filled by several threads, in a tensor whose length is odd."""
        sources = {"x": source("normal", "fp32", (1231, 4099), 5), "weight": source("normal", "fp32", (4099,), 5)}
        wanted = self.uploaded(RMS, made(sources))
        for _ in range(2):
            self.assertEqual(self.digests(by_form, RMS, sources), wanted)

    def test_positions(self):
        """Streams not given are the inputs' positions; aliases are the same input; given ones hold."""
        plain = {"q": source(), "k": source(), "v": source()}
        wanted = self.digests(by_json, ATTENTION, plain)
        aliases = {"value": source(), "query": source(), "key": source()}
        told = {n: source(stream=i) for i, n in enumerate("qkv")}
        self.assertEqual(self.digests(by_json, ATTENTION, aliases), wanted)
        self.assertEqual(self.digests(by_json, ATTENTION, told), wanted)
        tensors = made(plain)
        self.assertFalse((tensors["q"] == tensors["k"]).all())
        same = {n: source(stream=3) for n in "qkv"}
        self.assertNotEqual(self.digests(by_json, ATTENTION, same), wanted)

    def test_beside_uploads(self):
        """Some inputs generated, others sent, by any form of body."""
        sources = attention_sources()
        tensors = made(sources)
        wanted = self.uploaded(ATTENTION, tensors)
        sent = {"k": tensors["k"], "v": tensors["v"]}
        for form in ("multipart", "multipart safetensors", "safetensors", "json", "json base64"):
            call = Call("flash_attn_func", sent, {}, {}, "")
            query = urllib.parse.urlencode({"inputs": json.dumps({"q": sources["q"]})})
            with self.subTest(form):
                self.assertEqual(Reply(send(self.c, call, form, DIGEST, query)).digests, wanted)
        body, kind = t.multipart([("q", json.dumps(sources["q"])), ("k", sent["k"]), ("v", sent["v"])])
        r = self.post(ATTENTION + "?format=json&outputs=digest", body, [("Content-Type", kind)])
        self.assertEqual(Reply(r).digests, wanted)

    def test_compressed(self):
        sources = attention_sources()
        path, body, headers = by_json(ATTENTION, sources, DIGEST)
        _, code = calls.CODINGS["gzip"]
        r = self.post(path, code(body.encode()), headers + [("Content-Encoding", "gzip")])
        self.assertEqual(Reply(r).digests, self.uploaded(ATTENTION, made(sources)))

    def test_data_that_is_looked_at(self):
        """cu_seqlens must have numbers before they are checked."""
        heads = {"q": source(shape=(12, 4, 16)), "k": source(shape=(12, 2, 16)), "v": source(shape=(12, 2, 16))}
        cu = {"cu_seqlens_" + n: source("arange", "int32", (4,), 0, step=4) for n in "qk"}
        params = {"max_seqlen_q": 4, "max_seqlen_k": 4}
        sources = {**heads, **cu}
        self.assertEqual(self.digests(by_json, VARLEN, sources, params), self.uploaded(VARLEN, made(sources), params))
        cu["cu_seqlens_q"]["step"] = 3
        for dry in ("false", "true"):
            r = self.post(*by_json(VARLEN, {**heads, **cu}, {**params, "dry_run": dry}))
            problem(r, 422, "invalid-shape", input="cu_seqlens_q")

    def test_empty(self):
        sources = {"x": source(shape=(0, 8)), "weight": source("ones", shape=(8,))}
        self.assertEqual(self.digests(by_json, RMS, sources), self.uploaded(RMS, made(sources)))


class Oip(Test):
    def infer(self, body):
        r = self.c.request("POST", "/v2/models/flash_attn_func/infer", json.dumps(body).encode(),
                           [("Content-Type", JSON)])
        self.assertEqual(r.status, 200, r)
        return json.loads(r.body.decode())["parameters"]["digest.out"]

    def test_parameters(self):
        sources = attention_sources()
        wanted = self.uploaded(ATTENTION, made(sources))["out"]
        params = {"outputs": "digest", "inputs": json.dumps(sources)}
        for body in ({"parameters": params}, {"parameters": params, "inputs": []},
                     {"inputs": [], "parameters": {**params, "inputs": sources}}):
            self.assertEqual(json.loads(self.infer(body)), wanted)
        v = made(sources)["v"]
        one = {"name": "v", "datatype": "FP16", "shape": list(v.shape), "data": t.json_values(v.ravel())}
        rest = json.dumps({n: sources[n] for n in "qk"})
        self.assertEqual(json.loads(self.infer({"inputs": [one], "parameters": {**params, "inputs": rest}})), wanted)
        r = self.c.request("POST", "/v2/models/flash_attn_func/infer", b'{"parameters":{}}', [("Content-Type", JSON)])
        calls.oip_error(r, 400, "no inputs")


class Refused(Test):
    def refuse(self, status, slug, x, **members):
        """Wherever it stands."""
        members.setdefault("input", "x")
        for place in PLACES:
            with self.subTest(place.__name__, x=x):
                problem(self.post(*place(RMS, {"x": x, "weight": source("ones", "fp32", (4,))}, {})), status, slug,
                        **members)

    def test_sources(self):
        has = re.compile
        good = source(dtype="fp32", shape=(2, 4))
        for change, status, slug, members in (
                ({"generate": "nromal"}, 422, "invalid-parameter", {"found": "nromal", "detail": has("did you mean normal")}),
                ({"generate": "xyz"}, 422, "invalid-parameter", {"found": "xyz", "wanted": has("arange or randint")}),
                ({"generate": 3}, 422, "invalid-parameter", {}),
                ({"sed": 3}, 400, "malformed-body", {"found": "sed", "wanted": "seed", "detail": has("mean seed")}),
                ({"low": 3}, 400, "malformed-body", {"found": "low", "wanted": has("mean, std")}),
                ({"data": [1]}, 400, "malformed-body", {"found": "data"}),
                ({"dtype": "fp15"}, 422, "invalid-dtype", {"found": "fp15"}),
                ({"dtype": "int8"}, 422, "invalid-dtype", {"found": "int8", "wanted": has("randint")}),
                ({"seed": -1}, 422, "invalid-parameter", {"found": "-1", "wanted": has("2.64 - 1")}),
                ({"seed": 2**64}, 422, "invalid-parameter", {"found": str(2**64)}),
                ({"seed": 1.5}, 422, "invalid-parameter", {"found": "1.5"}),
                ({"seed": "7"}, 422, "invalid-parameter", {"found": "7"}),
                ({"mean": "much"}, 422, "invalid-parameter", {"found": "much", "wanted": "a number"}),
                ({"std": -1}, 422, "invalid-parameter", {"found": has("std -1")}),
                ({"generate": "randint"}, 400, "malformed-body", {"wanted": "high"}),
                ({"generate": "randint", "high": 3, "low": 3}, 422, "invalid-parameter", {}),
                ({"generate": "uniform", "high": -3}, 422, "invalid-parameter", {"wanted": has("low below high")}),
                ({"generate": "randint", "high": 300, "dtype": "uint8"}, 422, "invalid-parameter",
                 {"found": "0 to 299", "wanted": "0 to 255"}),
                ({"shape": "2,4"}, 400, "malformed-body", {}), ({"shape": [2, -4]}, 400, "malformed-body", {}),
                ({"shape": [1 << 30, 1 << 30, 1 << 30]}, 422, "invalid-shape", {}),
                ({"shape": [1 << 20, 1 << 20]}, 413, "too-large", {"found": has("bytes"), "wanted": has("at most")}),
                ({"shape": [2, 5]}, 422, "invalid-shape", {"input": "weight"})):
            self.refuse(status, slug, {**good, **change}, **members)
        for gone in ("dtype", "shape"):
            self.refuse(400, "malformed-body", {n: v for n, v in good.items() if n != gone}, wanted=gone)
        self.refuse(422, "unknown-tensor", {"tensor": "w1"}, found="w1")
        self.refuse(400, "malformed-body", {"tensor": "w1", **good})

    def test_inputs(self):
        has = re.compile
        for inputs, status, slug, members in (
                ("{", 400, "malformed-body", {"param": "inputs"}), ("[]", 400, "malformed-body", {"param": "inputs"}),
                ("", 400, "malformed-body", {"param": "inputs"}),
                ('{"x":3}', 400, "malformed-body", {"input": "x", "found": "no object"}),
                ('{"x":{"dtype":"fp32","shape":[1]}}', 400, "malformed-body", {"input": "x", "wanted": has("generate")}),
                ('{"y":{"generate":"ones","dtype":"fp32","shape":[1]}}', 422, "unknown-input", {"input": "y"}),
                ('{"x":{"generate":"ones","dtype":"fp32","shape":[1]}}', 422, "missing-input", {"input": "weight"}),
                ('{"x":{},"x":{}}', 400, "malformed-body", {"param": "inputs"})):
            with self.subTest(inputs):
                body = urllib.parse.urlencode({"inputs": inputs})
                problem(self.post(RMS, body, [("Content-Type", FORM)]), status, slug, **members)
        r = self.post(RMS, urllib.parse.urlencode({"inputss": "{}"}), [("Content-Type", FORM)])
        problem(r, 422, "unknown-parameter", detail=has("mean inputs"))
        problem(self.post(RMS, "inputs=%zz", [("Content-Type", FORM)]), 422, "invalid-parameter")
        problem(self.post(RMS, "a=" + "b" * 300000, [("Content-Type", FORM)]), 413, "too-large")
        problem(self.post(RMS, "a=\0", [("Content-Type", FORM)]), 400, "malformed-body")
        problem(self.post(RMS, None, []), 400, "malformed-body")

    def test_twice(self):
        """An input given as bytes and told, or told twice."""
        x, w = source(dtype="fp32", shape=(2, 4)), source(dtype="fp32", shape=(4,))
        a = generate.generate(x)
        inputs = json.dumps({"x": x, "weight": w})
        for parts in ([("x", a), ("inputs", inputs)], [("x", json.dumps(x)), ("inputs", inputs)],
                      [("input", json.dumps(x)), ("x", json.dumps(x)), ("weight", json.dumps(w))]):
            body, kind = t.multipart(parts)
            problem(self.post(RMS, body, [("Content-Type", kind)]), 400, "malformed-body",
                    detail=re.compile("twice"))
        body = json.dumps({"params": {"inputs": {"x": x}}})
        query = "?" + urllib.parse.urlencode({"inputs": inputs})
        problem(self.post(RMS + query, body, [("Content-Type", JSON)]), 400, "conflicting-parameter", param="inputs")

    def test_transport(self):
        """What is about bytes in the request cannot be said of generated ones."""
        x, w = source("randint", "uint8", (2, 4), high=9), source(dtype="fp32", shape=(4,))
        for name, value in (("shuffle", "x"), ("dtype.x", "fp8_e4m3")):
            path, body, headers = by_form(RMS, {"x": x, "weight": w}, {name: value})
            problem(self.post(path, body, headers), 422, "invalid-parameter", param=name,
                    found=re.compile("generated"))


class Resources(Test):
    def test_dry_run_takes_no_memory(self):
        """2 GiB of inputs are checked without being made; so is a request that is wrong elsewhere."""
        huge = {"x": source(dtype="fp32", shape=(1 << 17, 1 << 12)), "weight": source(dtype="fp32", shape=(1 << 12,))}
        with t.Server("--prefault", "1M") as s:
            def post(params):
                path, body, headers = by_form(RMS, huge, params)
                return s.request("POST", path, body.encode(), headers)

            r = post({"dry_run": "true"})
            self.assertEqual((r.status, json.loads(r.body.decode())["bytes_moved"]), (200, (2 << 31) + (1 << 14)), r)
            problem(post({"device": "cpu:7"}), 422, "unknown-device")
            huge["weight"]["shape"] = [9]
            problem(post({}), 422, "invalid-shape")
            arena = json.loads(s.request("GET", "/v1/info").body.decode())["arena"]
            self.assertLess(arena["reserved"], 64 << 20)

    def test_others_are_served_meanwhile(self):
        sources = {"x": source(dtype="fp32", shape=(1 << 13, 1 << 12)), "weight": source(dtype="fp32", shape=(1 << 12,))}
        replies = []

        def run():
            with server.client(60) as c:
                path, body, headers = by_form(RMS, sources, {"outputs": "none", "format": "json"})
                replies.append(c.request("POST", path, body.encode(), headers, timeout=60))

        threads = [threading.Thread(target=run) for _ in range(3)]
        for th in threads:
            th.start()
        while any(th.is_alive() for th in threads):
            call = calls.rmsnorm()
            call.check(Reply(send(self.c, call)).outputs)
        for th in threads:
            th.join()
        self.assertEqual([r.status for r in replies], [200] * 3, replies)

    def test_client_leaves(self):
        """While its inputs are made: nothing is left behind."""
        sources = {"x": source(dtype="fp32", shape=(1 << 13, 1 << 12)), "weight": source(dtype="fp32", shape=(1 << 12,))}
        path, body, _ = by_form(RMS, sources, {})
        for _ in range(4):
            with socket.create_connection(server.address) as s:
                s.sendall(("POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" %
                           (path, FORM, len(body), body)).encode())
        calls.nothing_lent(server)

    def test_limit(self):
        with t.Server("--max-body", "1M", "--prefault", "1M") as s:
            fits = {"x": source(dtype="fp32", shape=(255, 1024)), "weight": source(dtype="fp32", shape=(1024,))}
            path, body, headers = by_form(RMS, fits, DIGEST)
            self.assertEqual(s.request("POST", path, body.encode(), headers).status, 200)
            fits["x"]["shape"] = [256, 1024]
            path, body, headers = by_form(RMS, fits, DIGEST)
            problem(s.request("POST", path, body.encode(), headers), 413, "too-large", input="weight",
                    wanted="at most 1048576 bytes")


if __name__ == "__main__":
    unittest.main()
