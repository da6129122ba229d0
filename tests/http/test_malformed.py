#!/usr/bin/python3
"""Bodies that cannot be read: malformed npy, safetensors, multipart, JSON and Open Inference Protocol; truncated,
corrupt and trailing gzip, deflate and zstd; bombs by ratio and by size.
"""
import gzip
import json
import os
import struct
import unittest
import zlib

import numpy as np

import aiterd_test as t
import calls
from calls import CODINGS, Reply, oip_error, problem
from refusing import JSON, MAX_BODY, MAX_EXPANSION, MAX_JSON, RMS, ST, Refusing, has


class Files(Refusing):
    """Malformed npy, safetensors, multipart, JSON."""

    def npy_part(self, status, slug, data, **members):
        body, kind = t.multipart([("x", data), ("weight", np.ones(4, np.float32))])
        return self.post(status, slug, RMS, body, kind, **members)

    def test_npy(self):
        good = t.npy(t.normal((2, 4), "fp32", 1))
        for what, data in (("short", good[:-1]), ("long", good + b"\0"), ("no data", good[:128]),
                           ("half header", good[:40]),
                           ("magic alone", good[:8]), ("version", good[:6] + b"\x09\0" + good[8:]),
                           ("empty", b""), ("zip", b"PK\3\4" + bytes(100)),
                           ("no shape", good.replace(b"'shape'", b"'shapf'")),
                           ("words", good.replace(b"(2, 4)", b"(2, x)")),
                           ("number", good.replace(b"(2, 4), }", b"(8),    }")),
                           ("minus", good.replace(b"(2, 4)", b"(-2,4)")),
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
        fields = good.replace(b"'<f4'", b"[('a', '<f4')]").replace(b" " * 10 + b"\n", b"\n")
        self.npy_part(422, "invalid-dtype", fields, input="x")
        self.npy_part(422, "invalid-shape", t.npy(np.ones((1,) * 9, np.float32)), input="x", detail=has("8 dimensions"))
        self.npy_part(422, "invalid-dtype", t.npy(np.ones((2, 4), np.uint8), descr="|V1"), input="x",
                      detail=has("dtype.x=fp8_e4m3"))
        huge = good.replace(b"(2, 4), }" + b" " * 20, b"(%d, 4), }" % 10 ** 17 + b" " * 3)
        self.npy_part(413, "too-large", huge, input="x")

    def test_npy_good(self):
        """Unusual, but right: versions 2 and 3, one-dimensional Fortran order, |V2."""
        call = calls.rmsnorm("bf16", shape=(3, 8))
        for how in ({"version": (2, 0)}, {"version": (3, 0)}, {"descr": "|V2"}):
            body, kind = t.multipart([("x", t.npy(call.tensors["x"], **how)),
                                      ("weight", t.npy(call.tensors["weight"], fortran=True))])
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
                ("fraction", file(tree(weight={**w, "shape": [4.5]}))), ("offsets",
                                                                         file(tree(weight={**w,
                                                                                           "data_offsets": [32]}))),
                ("words", file(tree(weight={**w, "shape": ["4"]}))), ("dtype", file(tree(weight={**w, "dtype": 4}))),
                ("more members", file(tree(weight={**w, "stride": [1]}))), ("none", file(tree(weight=None))),
                ("metadata", file(tree(__metadata__=["x"]))), ("metadata value",
                                                               file(tree(__metadata__={"params": {"eps": 1}}))),
                ("params no JSON", file(tree(__metadata__={"params": "eps=1"}))),
                ("params a list", file(tree(__metadata__={"params": "[1]"}))),
                ("long op", file(tree(__metadata__={"op": "x" * 100}))),
                ("NUL", file(head[:-1] + b"\0")), ("deep", file(b'{"x":' + b"[" * 60000 + b"]" * 60000 + b"}")),
                ("UTF-8", file(tree().replace(b'"weight"', b'"wei\xffht"')))):
            with self.subTest(what):
                self.post(400, "malformed-body", RMS, body)
                body, kind = t.multipart([("all", body)]) if body else (b"", None)
                if kind and what not in ("short length", "length 0", "length huge", "not JSON", "list", "string",
                                         "deep"):
                    self.post(400, "malformed-body", RMS, body, kind)
        self.post(400, "malformed-body", RMS, t.npy(np.ones((2, 4), np.float32)), detail=has(".npy file"))
        self.post(400, "malformed-body", RMS, b"PK\3\4\x14" + bytes(100), detail=has("ZIP archive"))
        for dtype in ("F4", "f32", "C64", "I16", "U16", "F8_E8M0"):
            self.post(422, "invalid-dtype", RMS, file(tree(weight={**w, "dtype": dtype})), input="weight", found=dtype)
        self.post(422, "invalid-shape", RMS, file(tree(weight={**w, "shape": [1] * 8 + [4]})), input="weight")
        self.post(422, "invalid-parameter", RMS, file(tree(__metadata__={"params": '{"eps":{"a":1}}'})), param="eps")
        many = {"x%d" % i: np.ones(1, np.float32) for i in range(100)}
        self.post(400, "malformed-body", RMS, t.safetensors(many), detail=has("more than 24 tensors"))

    def test_multipart(self):
        call = calls.rmsnorm(shape=(2, 4))
        good, kind = t.multipart(call.tensors)
        mark = b"------aiterd-test-boundary"
        for what, body in (
                ("empty", b""), ("no last boundary", good[:-4]), ("cut in data", good[:len(good) // 2]),
                ("cut in head", good[:60]), ("other boundary", good.replace(b"aiterd-test", b"another-one")),
                ("bare LF", good.replace(b"\r\n", b"\n")), ("no name", good.replace(b'; name="x"', b"")),
                ("empty name", good.replace(b'name="x"', b'name=""')), ("open quote",
                                                                        good.replace(b'name="x"', b'name="x')),
                ("no disposition", good.replace(b"Content-Disposition", b"Content-Whatever")),
                ("attachment", good.replace(b"form-data", b"attachment")),
                ("long name", good.replace(b'name="x"', b'name="%s"' % (b"x" * 200))),
                ("head too long", good.replace(b"\r\nContent-Type", b"\r\nX-Long: " + b"y" * 9000 + b"\r\nContent-Type",
                                               1)),
                ("control", good.replace(b"\r\nContent-Type", b"\r\nX: \x01\r\nContent-Type", 1)),
                ("no colon", good.replace(b"\r\nContent-Type", b"\r\nNo colon\r\nContent-Type", 1)),
                ("epilogue", good + b"x" * 70000), ("preamble", b"x" * 70000 + b"\r\n" + good),
                ("parts",
                 mark + 100 * (b'\r\nContent-Disposition: form-data; name="eps"\r\n\r\n1\r\n' + mark) + b"--\r\n"),
                ("twice", t.multipart([("x", call.tensors["x"]), ("x", call.tensors["x"])])[0])):
            with self.subTest(what):
                self.post(400, "malformed-body", RMS, body, kind)
        # What curl makes of -F 'window_size=(8,0)'.
        nested = (mark + b'\r\nContent-Disposition: form-data; name="window_size"\r\nContent-Type: multipart/mixed; '
                  b'boundary=----inner\r\n\r\n------inner\r\n\r\n8,0)\r\n------inner--\r\n\r\n')
        self.post(400, "malformed-body", RMS, nested + good, kind, param="window_size",
                  detail=has("-F window_size=8,0"))
        self.post(415, "unsupported-encoding", RMS, good.replace(
            b"\r\nContent-Type", b"\r\nContent-Transfer-Encoding: base64\r\nContent-Type", 1), kind)
        for bad in ("multipart/form-data", "multipart/form-data; boundary=",
                    "multipart/form-data; boundary=" + "x" * 71):
            self.post(400, "malformed-body", RMS, good, bad, param="Content-Type")
        for parts, status, slug in (
                ([("x", b"nonsense, no file")], 400, "malformed-body"), ([("x", "3")], 400, "malformed-body"),
                ([("x", b"{", JSON)], 400, "malformed-body"), ([("x", b'{"dtype":"fp32"} x', JSON)], 400,
                                                               "malformed-body"),
                ([("x", b'{"dtype":"fp32","data":[1]}}', JSON)], 400, "malformed-body"),
                ([("x", b'{"dtype":"fp32","data":[1]', JSON)], 400, "malformed-body"),
                ([("x", b'{"generate":"nromal","shape":[2],"dtype":"fp32"}', JSON)], 422, "invalid-parameter"),
                ([("x", b'{"tensor":"w1"}', JSON)], 422, "unknown-tensor"),
                ([("eps", "1" * 70000)], 422, "invalid-parameter"), ([("nonsense", "1")], 422, "unknown-parameter"),
                ([("eps", "1")], 422, "missing-input"), ([("file", t.npy(np.ones(3, np.float32)))], 422,
                                                         "unknown-input")):
            with self.subTest(parts):
                body, kind = t.multipart(parts)
                r = self.c.request("POST", RMS, body, [("Content-Type", kind)])
                problem(r, status, slug)
                self.goes_on(r)

    def test_multipart_good(self):
        """Quoted boundary, preamble and epilogue, fields before files."""
        call = calls.rmsnorm(eps=0.5)
        body, _ = t.multipart([("eps", "0.5")] + list(call.tensors.items()), boundary="a b")
        kind = 'multipart/form-data; charset=x; boundary="a b"'
        r = self.c.request("POST", RMS, b"hello\r\n" + body + b"bye", [("Content-Type", kind)])
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
            ("[2,2]", "[2,-2]"), ("[2,2]", "[2,2.5]"), ("[2,2]", '"2,2"'), ("[2,2]", "[2,[2]]"),
            ('"shape":[2,2],"data":[1,2,3,4]', '"base64":"%s=="' % ("A" * 22)),
            ('"data":[1,2,3,4]', '"data":[1,2,3,4],"base64":"AAAA"'), ('"data":[1,2,3,4]', '"base64":"AAA"'),
            ('"data":[1,2,3,4]', '"base64":"AAAA"'), ('"data":[1,2,3,4]', '"base64":"%s"' % ("A" * 21 + "-")),
            ('"data":[1,2,3,4]', '"base64":[1]'), ('"data":[1,2,3,4]', '"base64":"%s=x"' % ("A" * 20)))]
        for text in bad:
            with self.subTest(text[:120]):
                self.post(400, "malformed-body", RMS, text.encode(), JSON)
        for text, members in (
                (json.dumps({"inputs": {"x": {"dtype": "fp32", "data": [[1, float("nan")]]}}}),
                 {"input": "x", "found": "NaN", "detail": has('JSON has no such number; the string "NaN"')}),
                (both(params=json.dumps({"eps": float("-inf")})), {"detail": has("JSON has no number NaN or Infinity")}),
                (both(x.replace("3,4]", "3,4,]")), {"input": "x", "detail": has("a comma before ]")}),
                (both('{"dtype":"fp32","data":[[1,2],[3]]}'),
                 {"input": "x", "detail": has(r"data\[1\] is a list of 1, but one of 2 is wanted")})):
            with self.subTest(text):
                self.post(400, "malformed-body", RMS, text.encode(), JSON, **members)
        self.post(400, "malformed-body", RMS, both().encode("utf-16"), JSON)
        self.post(400, "malformed-body", RMS, both().encode().replace(b'"x"', b'"x\xff"'), JSON)
        for text, status, slug in ((both(x.replace("fp32", "fp31")), 422, "invalid-dtype"),
                                   (both(x.replace("[2,2]", "[1,1,1,1,1,1,1,2,2]")), 422, "invalid-shape"),
                                   (both(params='{"eps":{}}'), 422, "invalid-parameter"),
                                   (both(params='{"eps":[1,{}]}'), 422, "invalid-parameter"),
                                   (both(params='{"eps":1,"eps":2}'), 400, "malformed-body"),
                                   (both(params='{"eps":"x"}'), 422, "invalid-parameter"),
                                   (both('{"generate":"normal","seed":-7,"shape":[2,2],"dtype":"fp32"}'), 422,
                                    "invalid-parameter"),
                                   (both('{"tensor":"sha256:00"}'), 422, "unknown-tensor"),
                                   (both(x.replace("[2,2]", "[3000000000,3000000000,3000000000]")), 422, "invalid-shape"),
                                   (both(x.replace("[2,2]", "[4000000000]")), 413, "too-large")):
            with self.subTest(text):
                r = self.c.request("POST", RMS, text.encode(), [("Content-Type", JSON)])
                problem(r, status, slug)
                self.goes_on(r)


class Codings(Refusing):
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
                    fields = [("Content-Type", ST), ("Content-Encoding", coding),
                              ("Content-Length", str(len(data + tail)))]
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
        for coding, data in (("gzip", self.body), ("deflate", self.body), ("zstd", self.body),
                             ("gzip", zlib.compress(self.body)),
                             ("zstd", gzip.compress(self.body)), ("gzip", b"x"), ("deflate", b"\x78\x9c"),
                             ("zstd", b"\x28")):
            with self.subTest(coding, data=data[:4]):
                self.bad(coding, data)
        wrong = bytearray(gzip.compress(self.body))
        wrong[-6] ^= 1
        self.bad("gzip", bytes(wrong), detail=has("checksum|data check"))
        plain = zlib.compressobj(9, zlib.DEFLATED, 15, 9, 0, b"dictionary")
        self.bad("deflate", plain.compress(self.body) + plain.flush(), detail=has("dictionary"))

    def test_not_declared(self):
        """Compressed, and not said so: a malformed file; gzip and zstd are known by their first bytes."""
        for name in ("gzip", "deflate", "zstd"):
            says = has("safetensors" if name == "deflate" else "Content-Encoding: " + name)
            self.post(400, "malformed-body", RMS, CODINGS[name][1](self.body), detail=says)
        self.post(400, "malformed-body", RMS, gzip.compress(self.body, mtime=0), detail=has("Content-Encoding: gzip"))

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
        for coding, data in (("gzip", gzip.compress(over, 1)), ("deflate", zlib.compress(over, 1)),
                             ("zstd", calls.zstd(over))):
            with self.subTest(coding):
                self.assertLess(len(over), MAX_EXPANSION * len(data))
                self.post(413, "expansion-limit", RMS, data, coding=coding, detail=has(str(MAX_BODY)))
        numbers = ",".join("%.7f" % v for v in np.random.default_rng(4).random(MAX_JSON // 4))
        text = b'{"inputs":{"x":{"dtype":"fp32","shape":[1],"data":[' + numbers.encode()
        p = self.post(413, "too-large", RMS, gzip.compress(text, 1), JSON, "gzip")
        self.assertIn(str(MAX_JSON), p["detail"])

    def test_ratio_of_small_bodies(self):
        """Below a megabyte nobody is a bomb."""
        x = {"x": np.zeros((100, 1000), np.float32), "weight": np.ones(1000, np.float32)}
        r = self.c.request("POST", RMS, calls.zstd(t.safetensors(x)), [("Content-Type", ST),
                                                                       ("Content-Encoding", "zstd")])
        self.assertEqual(Reply(r).outputs["out"].any(), False)


class Oip(Refusing):
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
        for body in (b"", b" ", b"{", b"[]", b"{}", b"nonsense", {"inputs": 3}, {"inputs": {}}, {"inputs": [3]},
                     {"inputs": [{}]},
                     json.dumps(self.request()).encode() + b"x", self.request(name=3), self.request(name=None),
                     self.request(shape=None), self.request(shape=[-1]), self.request(shape=["2"]),
                     self.request(shape=2),
                     self.request(datatype=None), self.request(datatype=4), self.request(data=None),
                     self.request(data=[1, 2]),
                     self.request(data=[1] * 9), self.request(data="x"), self.request(data=[[1, 2, 3], [4]]),
                     self.request(parameters=[1]), self.request(outputs=3), self.request(outputs=["out"]),
                     self.request(outputs=[{"nome": "out"}]), self.request(outputs=[{"name": "out"}, {"name": "out"}]),
                     self.request(extra=1), self.request(color=1), self.request(id=5),
                     self.request(outputs=[{"name": "out", "x": 1}])):
            with self.subTest(body):
                self.bad(body)
        tree = self.request()
        tree["inputs"].append(tree["inputs"][0])
        self.bad(tree, pattern="twice")
        self.bad(self.request(datatype="FP33"), status=422, pattern="FP33")
        self.bad(self.request(datatype="BYTES"), status=422, pattern="strings")
        self.bad(self.request(outputs=[{"name": "nothing"}]), status=422, pattern="no output nothing")
        self.bad(self.request(outputs=[{"name": "out", "parameters": {"classification": 3}}]), status=422,
                 pattern="classification")
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
            self.bad(text + tail, [("Inference-Header-Content-Length", str(len(text) if length is None else length))],
                     **how)
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
        for value in (n - 1, n + 1, len(body), len(body) + 1, 1, 10 ** 12, 10 ** 15, 10 ** 17, "-1", "x", "1 2", "1,2", "+%d" % n,
                      "0x10",
                      "%d.0" % n, ""):
            with self.subTest(value):
                r = self.c.request("POST", self.call_.infer, body, [("Inference-Header-Content-Length", str(value))])
                oip_error(r, 413 if value == 10 ** 12 else 400)
                self.goes_on(r)
        self.bad(body, pattern="", fields=[])
        self.bad(json.dumps(json.loads(body[:n])).encode(), pattern="Inference-Header-Content-Length is missing")
        self.bad(body, [("Inference-Header-Content-Length", "0")], pattern="2 inputs")
        self.bad(body, [("Inference-Header-Content-Length", str(n))] * 2)
        good = self.c.request("POST", self.call_.infer, body, [("inference-header-content-LENGTH", "000%d" % n)])
        self.assertEqual(good.status, 200, good)


class Mutations(Refusing):
    """Good bodies with something wrong in them at random places: refused or run, never a server's trouble."""
    rounds = int(os.environ.get("AITERD_TEST_MUTATIONS", "40"))

    @staticmethod
    def mutate(data, rng):
        data = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            if not data:
                break
            at, n = int(rng.integers(0, len(data))), int(rng.integers(1, 9))
            how = rng.integers(0, 7)
            if how == 0:
                data[at:at + 1] = bytes([rng.integers(0, 256)])
            elif how == 1:
                del data[at:at + n]
            elif how == 2:
                data[at:at] = data[at:at + n]
            elif how == 3:
                del data[at:]
            elif how == 4:
                data[at:at + n] = rng.integers(0, 256, n, np.uint8).tobytes()
            elif how == 5:  # another number
                digits = [i for i, c in enumerate(data) if 48 <= c < 58] or [0]
                data[rng.choice(digits)] = rng.choice(list(b"0123456789-.e"))
            else:  # another punctuation mark
                marks = [i for i, c in enumerate(data) if c in b"{}[]:,\"'\r\n=;()"] or [0]
                data[rng.choice(marks)] = rng.choice(list(b"{}[]:,\"'\r\n=;() \\\0"))
        return bytes(data)

    def one(self, target, data, fields):
        r = self.c.request("POST", target, data, fields)
        self.assertIn(r.status, (200, 400, 406, 413, 415, 422), (r, target, data, fields))
        if r.status == 200:
            self.assertIsNotNone(r.get("aiterd-stats"), (r, data))
        elif target.startswith("/v2"):
            oip_error(r, r.status)
        else:
            problem(r, r.status, json.loads(r.body.decode())["type"][10:])
        if (r.get("connection") or "").lower() == "close":
            self.goes_on(r)

    def test_bodies(self):
        for make in calls.MAKERS:
            call = make("fp16", **({} if make is calls.rmsnorm else {"causal": True}))
            for name, body in calls.BODIES.items():
                rng = np.random.default_rng([len(name), len(call.op), self.rounds])
                query, data, fields = body(call.tensors, call.params)
                for _ in range(self.rounds):
                    self.one(calls.with_query(call.path, query), self.mutate(data, rng), fields)
            self.goes_on(self.c.request("GET", "/v1/limits"))

    def test_protocol(self):
        for make in calls.MAKERS:
            call = make("bf16")
            rng = np.random.default_rng([len(call.op), self.rounds])
            for binary in (True, False):
                data, fields = t.oip(call.tensors, call.params, binary, [{"name": "out"}], True, "an id")
                for _ in range(2 * self.rounds):
                    self.one(call.infer, self.mutate(data, rng), fields)
        self.goes_on(self.c.request("GET", "/v1/limits"))

    def test_codings(self):
        call = calls.attention("fp32")
        data = t.safetensors(call.tensors, params=call.params)
        for name, (coding, code) in CODINGS.items():
            rng = np.random.default_rng([len(name), self.rounds])
            for _ in range(2 * self.rounds):
                self.one(call.path, self.mutate(code(data), rng), [("Content-Type", ST), ("Content-Encoding", coding)])
        self.goes_on(self.c.request("GET", "/v1/limits"))

    def test_targets(self):
        """Query strings, too."""
        call = calls.attention("fp32")
        data = t.safetensors(call.tensors)
        good = calls.query_of({**call.params, "window_size": [3, 0], "iters": 1, "format": "json"}).encode()
        rng = np.random.default_rng(self.rounds)
        for _ in range(3 * self.rounds):
            query = self.mutate(good, rng)
            query = bytes(c if 33 <= c < 127 and c not in b"#\"<>\\^`{|}" else 0x25 for c in query).decode()
            self.one(call.path + "?" + query, data, [("Content-Type", ST)])


if __name__ == "__main__":
    unittest.main()
