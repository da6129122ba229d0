#!/usr/bin/python3
"""Tensors kept between requests: sent in every form and read back, used as inputs wherever a source may stand, kept from
outputs, replaced, forgotten, pushed out; what workers' deaths cost; and the copies that a device with memory of its own has.
"""
import gzip
import hashlib
import json
import signal
import threading
import unittest
import urllib.parse

import numpy as np

import aiterd_test as t
import calls
import test_emulated
from calls import Reply, problem
from exchange import info, kill, until

JSON = ("Content-Type", "application/json")
SMALL = ("--loops", "2", "--threads", "1", "--prefault", "1M")
server = None


def setUpModule():
    global server
    server = t.Server(*SMALL)


def tearDownModule():
    clean(server)
    calls.nothing_lent(server)
    server.stop()


def tensor_id(a):
    """As documented, by Python's hashlib."""
    text = "%s [%s]\n" % (t.name_of(a), ",".join(map(str, a.shape)))
    return "sha256:" + hashlib.sha256(text.encode() + np.ascontiguousarray(a).tobytes()).hexdigest()


def put(s, name, a, status=None, query="", fields=()):
    r = s.request("PUT", "/v1/tensors/" + name + query, a if isinstance(a, bytes) else t.safetensors({"t": a}), fields)
    assert r.status in ((200, 201) if status is None else (status,)), r
    return r


def listed(s):
    r = s.request("GET", "/v1/tensors")
    assert r.status == 200, r
    return json.loads(r.body.decode("ascii"))


def names(s):
    return [e["name"] for e in listed(s)["tensors"]]


def clean(s):
    for name in names(s):
        assert s.request("DELETE", "/v1/tensors/" + name).status == 204


def get(s, what):
    """The tensor as the server has it now."""
    r = s.request("GET", "/v1/tensors/%s?format=safetensors" % what)
    assert r.status == 200, r
    (a,) = t.safetensors_parse(r.body)[0].values()
    return a


def run(s, op, inputs, query="", status=200):
    """A call whose inputs are names or ids; the raw reply."""
    body = {"inputs": {n: {"tensor": v} for n, v in inputs.items()}}
    r = s.request("POST", "/v1/ops/%s?%s" % (op, query), json.dumps(body).encode(), [JSON])
    assert r.status == status, r
    return r


def long_run(s, call):
    """A query that makes the call a matter of a second or two here."""
    one = Reply(calls.send(s, call, query="iters=3")).header["kernel_ms"]["median"]
    return "format=safetensors&iters=%d" % min(10000, max(10, 1500 / max(one, 0.001)))


def ticks(pid):
    """Processor time of a process so far."""
    with open("/proc/%d/stat" % pid) as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))


def outputs(r):
    return t.safetensors_parse(r.body)[0]


def stats(r):
    return json.loads(r.get("aiterd-stats"))


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


class Test(unittest.TestCase):
    def tearDown(self):
        clean(server)


class Pages(Test):
    def test_every_form_and_back(self):
        """Bit for bit the same, whatever way it came and goes, and called by its content."""
        for dtype in ("fp32", "fp16", "bf16", "fp64"):
            for shape in ((3, 4), (), (0, 5), (1,), (130, 257)):
                a = t.normal(shape, dtype, 3)
                flat = calls.json_tensor(a, "base64" if dtype == "bf16" or 0 in shape else "list")
                bodies = [(t.npy(a), "application/x-npy"), (t.npy(a), None), (t.npy(a), "application/octet-stream"),
                          (t.safetensors({"some.name": a}), "application/x-safetensors"),
                          (t.safetensors({"some.name": a}), None),
                          (b" \n" + json.dumps(flat).encode(), "application/json"), (json.dumps(flat).encode(), None),
                          (json.dumps(flat).encode(), "application/x-www-form-urlencoded")]
                for i, (body, kind) in enumerate(bodies):
                    with self.subTest(dtype=dtype, shape=shape, form=i):
                        r = put(server, "t", body, fields=[("Content-Type", kind)] if kind else [])
                        told = json.loads(r.body.decode())
                        self.assertEqual((told["name"], told["dtype"], told["shape"], told["bytes"], told["id"]),
                                         ("t", dtype, list(shape), a.nbytes, tensor_id(a)))
                        self.assertEqual(r.get("etag"), '"%s"' % tensor_id(a))
                        self.assertEqual(r.get("location"), "/v1/tensors/t" if r.status == 201 else None)
                        self.assertTrue(same(get(server, "t"), a))
                r = server.request("GET", "/v1/tensors/" + tensor_id(a))
                self.assertEqual(r.get("content-type"), "application/x-npy")
                self.assertTrue(same(t.npy_parse(r.body), a))
                r = server.request("GET", "/v1/tensors/t", headers=[("Accept", "application/json")])
                self.assertEqual(r.get("content-type"), "application/json")
                # what it answers can be sent again
                put(server, "u", r.body)
                self.assertTrue(same(get(server, "u"), a), (dtype, shape))
        self.assertEqual(len(names(server)), 2)

    def test_large_ones(self):
        """Beyond what is done on the loop; in pieces, chunked, compressed, shuffled."""
        a = t.normal((1500, 1024), "fp16", 5)
        st, npy = t.safetensors({"w": a}), t.npy(a)
        shuffled = t.safetensors({"w": t.shuffled(a)})
        bare = json.dumps(calls.json_tensor(a[:200], "list")).encode()
        for i, (body, fields, want, query) in enumerate((
                (st, [], a, ""), (npy, [], a, ""), (gzip.compress(st, 1), [("Content-Encoding", "gzip")], a, ""),
                (gzip.compress(npy, 1), [("Content-Encoding", "gzip"), ("Content-Type", "application/x-npy")], a, ""),
                (gzip.compress(shuffled, 1), [("Content-Encoding", "gzip")], a, "?shuffle=w"),
                (bare, [JSON], a[:200], ""))):
            with self.subTest(i):
                r = put(server, "big", body, query=query, fields=fields)
                self.assertEqual(json.loads(r.body.decode())["id"], tensor_id(want))
                self.assertTrue(same(get(server, "big"), want))
                server.request("DELETE", "/v1/tensors/big")
        with server.client(30) as c:
            c.send(c.head("PUT", "/v1/tensors/big", [("Transfer-Encoding", "chunked")]),
                   t.chunked(npy, 100001))
            self.assertEqual(c.response("PUT").status, 201)
            r = c.request("GET", "/v1/tensors/big", headers=[("Accept-Encoding", "gzip")])
            self.assertEqual(r.get("content-encoding"), "gzip")
            self.assertTrue(same(t.npy_parse(gzip.decompress(r.body)), a))
            r = c.request("GET", "/v1/tensors/big?format=json&json=base64")
            self.assertEqual(json.loads(r.body.decode())["shape"], list(a.shape))
            head = c.request("HEAD", "/v1/tensors/big")
            self.assertEqual((head.status, head.body, head.get("content-length")), (200, b"", str(len(npy))))
            told = json.loads(head.get("aiterd-tensor"))
            self.assertEqual((told["name"], told["dtype"], told["shape"], told["id"]),
                             ("big", "fp16", [1500, 1024], tensor_id(a)))

    def test_generated_and_other_names(self):
        r = put(server, "g", b'{"generate":"normal","dtype":"fp16","shape":[700,1000],"seed":3}')
        g = get(server, "g")
        self.assertEqual(g.shape, (700, 1000))
        self.assertLess(abs(float(np.mean(g.astype(np.float64)))), 0.01)
        self.assertEqual(json.loads(r.body.decode())["id"], tensor_id(g))
        alone = listed(server)["bytes"]
        self.assertEqual(put(server, "h", b'{"tensor":"g"}').get("etag"), r.get("etag"))
        found = listed(server)
        self.assertEqual((found["count"], [e["name"] for e in found["tensors"]]), (2, ["g", "h"]))
        self.assertEqual(found["bytes"], alone, "the same content is kept once")
        self.assertEqual(server.request("DELETE", "/v1/tensors/g").status, 204)
        self.assertTrue(same(get(server, "h"), g))
        problem(server.request("PUT", "/v1/tensors/i", b'{"tensor":"g"}'), 422, "unknown-tensor", found="g")

    def test_the_list(self):
        self.assertEqual(listed(server)["tensors"], [])
        quota = listed(server)["quota_bytes"]
        a = t.normal((2, 3), "fp32", 1)
        for name in ("b", "a-1", "a.2", "Z_9", "x" * 128):
            put(server, name, a, 201)
        put(server, "other", a + 1, 201)
        found = listed(server)
        self.assertEqual([e["name"] for e in found["tensors"]], sorted(["b", "a-1", "a.2", "Z_9", "x" * 128, "other"]))
        self.assertEqual((found["count"], found["quota_bytes"], found["in_use_bytes"]), (6, quota, 0))
        self.assertEqual(found["bytes"], 2 * 65536)
        for e in found["tensors"]:
            self.assertEqual(e["in_use"], False)
            self.assertTrue(0 < e["expires_in_s"] <= e["ttl_s"] == 3600, e)
            self.assertRegex(e["used_at"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        i = info(server)["tensors"]
        self.assertEqual((i["count"], i["bytes"]), (6, 2 * 65536))
        # by id: all its names
        self.assertEqual(server.request("DELETE", "/v1/tensors/" + tensor_id(a)).status, 204)
        self.assertEqual(names(server), ["other"])

    def test_conditions(self):
        a, b = t.npy(t.normal((2, 3), "fp32", 1)), t.npy(t.normal((2, 3), "fp32", 2))
        ta, tb = ('"%s"' % tensor_id(t.npy_parse(x)) for x in (a, b))
        path = "/v1/tensors/w"

        def go(method, body=None, **fields):
            return server.request(method, path, body, [(n.replace("_", "-"), v) for n, v in fields.items()])

        def failed(r, field, etag):
            problem(r, 412, "precondition-failed", param=field)
            self.assertEqual(r.get("etag"), etag)
        failed(go("PUT", a, If_Match="*"), "If-Match", None)
        failed(go("PUT", a, If_Match=ta), "If-Match", None)
        self.assertEqual(go("PUT", a, If_None_Match="*").status, 201)
        failed(go("PUT", b, If_None_Match="*"), "If-None-Match", ta)
        failed(go("PUT", b, If_None_Match='"x", W/%s' % ta), "If-None-Match", ta)
        failed(go("PUT", b, If_Match=tb), "If-Match", ta)
        failed(go("PUT", b, If_Match="W/" + ta), "If-Match", ta)  # strong comparison
        self.assertEqual(go("GET").get("etag"), ta, "nothing was changed")
        self.assertEqual(go("PUT", b, If_Match='"y",  %s' % ta).status, 200)
        self.assertEqual(go("PUT", b, If_Match="*", If_None_Match=ta).status, 200)
        self.assertEqual(go("GET", If_Match=tb).status, 200)
        failed(go("GET", If_Match=ta), "If-Match", tb)
        for method in ("GET", "HEAD"):
            for value in (tb, "W/" + tb, "*", '"x",%s' % tb):
                r = go(method, If_None_Match=value)
                self.assertEqual((r.status, r.body, r.get("etag")), (304, b"", tb))
            self.assertEqual(go(method, If_None_Match=ta).status, 200)
        failed(go("DELETE", If_Match=ta), "If-Match", tb)
        self.assertEqual(go("DELETE", If_Match=tb).status, 204)
        # without the tensor the conditions are not looked at
        problem(go("DELETE", If_Match=tb), 404, "not-found")
        problem(go("GET", If_Match=tb), 404, "not-found")

    def test_refused_before_the_body(self):
        a = t.npy(t.normal((1000, 1000), "fp32", 1))
        put(server, "w", a)
        for target, fields, status in (("/v1/tensors/w", [("If-None-Match", "*")], 412), ("/v1/tensors/a+b", [], 422),
                                       ("/v1/tensors/none", [("If-Match", "*")], 412),
                                       ("/v1/tensors/w", [("Content-Type", "text/html")], 415)):
            with server.client(60) as c:
                c.send(c.head("PUT", target, fields + [("Expect", "100-continue")], len(a)))
                r = c.response("PUT")
                self.assertEqual((r.status, r.interim), (status, []))
        with server.client(60) as c:
            c.send(c.head("PUT", "/v1/tensors/w", [("Expect", "100-continue")], len(a)))
            self.assertEqual(c.interim().status, 100)
            c.send(a)
            self.assertEqual(c.response("PUT").status, 200)

    def test_bad_requests(self):
        a = t.normal((2, 3), "fp32", 1)
        good, two = t.npy(a), t.safetensors({"first": a, "second": a})
        for path, body, fields, status, slug, members in (
                ("w", b"", [], 400, "malformed-body", {}), ("w", b"{", [], 400, "malformed-body", {}),
                ("w", good[:-1], [], 400, "malformed-body", {}), ("w", good + b"x", [], 400, "malformed-body", {}),
                ("w", good[:5], [], 400, "malformed-body", {}), ("w", b"{} {}", [], 400, "malformed-body", {}),
                ("w", b"\0" * 8, [], 400, "malformed-body", {}), ("w", b"        ", [], 400, "malformed-body", {}),
                ("w", two, [], 400, "malformed-body", {"found": "first, second"}),
                ("w", t.safetensors({}), [], 400, "malformed-body", {"found": "none"}),
                ("w", b'{"dtype":"fp99","shape":[1],"data":[1]}', [], 422, "invalid-dtype", {}),
                ("w", b'{"dtype":"fp32","shape":[2],"data":[1]}', [], None, None, {}),
                ("w", good, [JSON], 400, "malformed-body", {}),
                ("w", good, [("Content-Type", "application/x-safetensors")], 400, "malformed-body", {}),
                ("w", good, [("Content-Type", "multipart/form-data; boundary=x")], 415, "unsupported-media-type", {}),
                ("w", good, [("Content-Encoding", "br")], 415, "unsupported-encoding", {}),
                ("w?ttl=0", good, [], 422, "invalid-parameter", {"param": "ttl"}),
                ("w?ttl=x", good, [], 422, "invalid-parameter", {"param": "ttl"}),
                ("w?causal=1", good, [], 422, "unknown-parameter", {"param": "causal"}),
                ("w?dtype.tensor=fp16", good, [], 422, "invalid-parameter", {}),
                ("sha256:abc", good, [], 422, "invalid-parameter", {"param": "name"}),
                ("a%20b", good, [], 422, "invalid-parameter", {"param": "name"}),
                ("a%2Fb", good, [], 422, "invalid-parameter", {"param": "name"}),
                ("x" * 129, good, [], 422, "invalid-parameter", {"param": "name"}),
                ("x" * 1000, good, [], 422, "invalid-parameter", {"param": "name"})):
            with self.subTest(path=path, body=body[:20], fields=fields):
                r = server.request("PUT", "/v1/tensors/" + path, body, fields)
                if status is None:
                    self.assertIn(r.status, (400, 422))
                else:
                    problem(r, status, slug, **members)
        self.assertEqual(names(server), [])
        self.assertEqual(put(server, "w%2D1", good).get("location"), "/v1/tensors/w-1")
        r = server.request("PATCH", "/v1/tensors/w", good)
        self.assertIn(r.status, (405, 501))
        r = server.request("POST", "/v1/tensors/w", good)
        problem(r, 405, "method-not-allowed")
        self.assertEqual(r.get("allow"), "GET, HEAD, PUT, DELETE")
        for method in ("GET", "DELETE"):
            for what in ("none", "sha256:" + "0" * 64, "sha256:abc", "x" * 500, "a%20b"):
                problem(server.request(method, "/v1/tensors/" + what), 404, "not-found")
        problem(server.request("GET", "/v1/tensors/w-1", headers=[("Accept", "text/html")]), 406, "not-acceptable")
        problem(server.request("GET", "/v1/tensors/w-1?format=pickle"), 422, "invalid-parameter")


class Runs(Test):
    def keep(self, call):
        for n, a in call.tensors.items():
            put(server, "in." + n, a)
        return {n: "in." + n for n in call.tensors}

    def test_bit_equal_to_bytes(self):
        """By name and by id, for every operator: what a kernel makes of a kept tensor is what it makes of the bytes."""
        for make in calls.MAKERS:
            for dtype in ("fp32", "bf16"):
                call = make(dtype)
                want = Reply(calls.send(server, call)).outputs
                kept = self.keep(call)
                for how in (kept, {n: tensor_id(a) for n, a in call.tensors.items()}):
                    with self.subTest(op=call.op, dtype=dtype, how=how):
                        r = run(server, call.op, how, calls.query_of(call.params) + "&format=safetensors")
                        got = outputs(r)
                        call.check(got)
                        self.assertEqual({n: a.tobytes() for n, a in got.items()},
                                         {n: a.tobytes() for n, a in want.items()})
                for n, a in call.tensors.items():
                    self.assertTrue(same(get(server, "in." + n), a), "no kernel has changed it")

    def test_wherever_a_source_may_stand(self):
        call = calls.rmsnorm("fp16")
        x, w = call.tensors["x"], call.tensors["weight"]
        put(server, "w", w)
        source, text = {"tensor": "w"}, json.dumps({"weight": {"tensor": "w"}})
        url = "/v1/ops/rmsnorm?format=safetensors"
        multi, kind = t.multipart([("x", x), ("weight", json.dumps(source).encode())])
        field, field_kind = t.multipart([("x", x), ("inputs", text)])
        one = t.safetensors({"x": x})
        for i, (target, body, fields) in enumerate((
                (url, json.dumps({"inputs": {"x": calls.json_tensor(x), "weight": source}}).encode(), [JSON]),
                (url, json.dumps({"inputs": {"x": calls.json_tensor(x)}, "params": {"inputs": {"weight": source}}}).encode(), [JSON]),
                (url, multi, [("Content-Type", kind)]), (url, field, [("Content-Type", field_kind)]),
                (url + "&inputs=" + urllib.parse.quote(text), one, [("Content-Type", "application/x-safetensors")]),
                (url, t.safetensors({"x": x}, params={"inputs": {"weight": source}}),
                 [("Content-Type", "application/x-safetensors")]))):
            with self.subTest(i):
                r = server.request("POST", target, body, fields)
                self.assertEqual(r.status, 200, r)
                call.check(outputs(r))
        body, fields = t.oip({"x": x}, {"inputs": text})
        r = server.request("POST", call.infer, body, fields)
        self.assertEqual(r.status, 200, r)
        call.check(t.oip_parse(r.body, r.get("inference-header-content-length"))[1])

    def test_a_client_that_asks_first(self):
        """HEAD by the content's id tells whether the upload can be left out."""
        call = calls.rmsnorm("fp16", shape=(40, 256))
        ids = {n: tensor_id(a) for n, a in call.tensors.items()}
        for n, a in call.tensors.items():
            self.assertEqual(server.request("HEAD", "/v1/tensors/" + ids[n]).status, 404)
            put(server, n, a)
            self.assertEqual(server.request("HEAD", "/v1/tensors/" + ids[n]).status, 200)
        call.check(outputs(run(server, "rmsnorm", ids, "format=safetensors")))

    def test_a_replaced_name(self):
        one, two = calls.rmsnorm(seed=1), calls.rmsnorm(seed=9)
        for call in (one, two, one):
            kept = self.keep(call)
            call.check(outputs(run(server, "rmsnorm", kept, "format=safetensors")))

    def test_replaced_while_in_use(self):
        call = calls.attention("fp32", shape=(1, 256, 256, 4, 4, 64, 64), lse=False)
        kept = self.keep(call)
        got, query = [], long_run(server, call)
        worker = threading.Thread(target=lambda: got.append(run(server, call.op, kept, query)))
        worker.start()
        until(lambda: listed(server)["in_use_bytes"] > 0, "the run has them in hand", 60)
        for n, a in call.tensors.items():
            put(server, kept[n], np.zeros_like(a), 200)
        clean(server)
        worker.join(60)
        call.check(outputs(got[0]))
        self.assertEqual(listed(server)["bytes"], 0)

    def test_let_go_before_the_reply(self):
        """Who has the begin of a reply may count on the room of its inputs, though the reply is long in going."""
        put(server, "x", b'{"generate":"normal","dtype":"fp32","shape":[4096,2048]}')
        put(server, "weight", b'{"generate":"ones","dtype":"fp32","shape":[2048]}')
        body = json.dumps({"inputs": {n: {"tensor": n} for n in ("x", "weight")}}).encode()
        with server.client(60) as c:
            c.send(c.head("POST", "/v1/ops/rmsnorm?format=npy", [JSON], len(body)), body)
            self.assertEqual(c.sock.recv(12), b"HTTP/1.1 200")
            self.assertEqual(listed(server)["in_use_bytes"], 0)
        until(lambda: info(server)["server"]["requests"] == 0, "the request has ended", 60)

    def test_chained(self):
        """An output that stays there is the next input: the same as to take it and send it again, and as numpy's two steps."""
        for dtype in ("fp32", "fp16", "bf16"):
            x, w1, w2 = t.normal((64, 96), dtype, 1), t.normal((96,), dtype, 2), t.normal((96,), dtype, 3)
            for n, a in (("x", x), ("w1", w1), ("w2", w2)):
                put(server, n, a)
            r = run(server, "rmsnorm", {"x": "x", "weight": "w1"}, "keep.out=h1&format=json&outputs=none")
            self.assertEqual(stats(r)["kept"], [{"output": "out", "name": "h1"}])
            self.assertEqual(json.loads(r.body.decode())["stats"]["kept"], stats(r)["kept"])
            r = run(server, "rmsnorm", {"x": "h1", "weight": "w2"}, "keep.out=h2&format=safetensors")
            got = outputs(r)["out"]
            self.assertTrue(same(get(server, "h2"), got))
            h1 = get(server, "h1")
            sent = server.request("POST", "/v1/ops/rmsnorm", t.safetensors({"x": h1, "weight": w2}),
                                  [("Content-Type", "application/x-safetensors")])
            self.assertTrue(same(outputs(sent)["out"], got))
            want1 = t.rmsnorm(t.to_float(x), t.to_float(w1), 1e-6)
            t.assert_close(h1, want1, dtype)
            t.assert_close(got, t.rmsnorm(t.to_float(h1), t.to_float(w2), 1e-6), dtype)
            # an output's id is there once it was asked for
            self.assertEqual(server.request("HEAD", "/v1/tensors/h1").get("etag"), '"%s"' % tensor_id(h1))
            self.assertEqual(run(server, "rmsnorm", {"x": tensor_id(h1), "weight": "w2"}, "format=safetensors").body[-64:],
                             sent.body[-64:])
            self.assertNotIn("kept", stats(sent))
            # onto itself
            for _ in range(3):
                run(server, "rmsnorm", {"x": "h1", "weight": "w1"}, "keep.out=h1&outputs=none&format=json")

    def test_several_outputs(self):
        call = calls.attention("fp32", lse=False)
        kept = self.keep(call)
        r = run(server, call.op, kept, "keep.out=o&keep.softmax_lse=s&format=safetensors")
        self.assertEqual(stats(r)["kept"], [{"output": "out", "name": "o"}, {"output": "softmax_lse", "name": "s"}])
        got = outputs(r)
        self.assertEqual(set(got), {"out", "softmax_lse"}, "keeping it asks for it")
        for output, name in (("out", "o"), ("softmax_lse", "s")):
            self.assertTrue(same(get(server, name), got[output]))
        body, fields = t.oip(call.tensors, {"keep.out": "from.oip"})
        self.assertEqual(server.request("POST", call.infer, body, fields).status, 200)
        self.assertTrue(same(get(server, "from.oip"), got["out"]))

    def test_nothing_is_kept(self):
        """Of a dry run, of one that fails, of one that is refused."""
        call = calls.rmsnorm()
        kept = self.keep(call)
        run(server, call.op, kept, "keep.out=h&dry_run=1")
        slow = calls.attention("fp32", shape=(1, 256, 256, 4, 4, 64, 64), lse=False)
        problem(calls.send(server, slow, query="keep.out=h&timeout_ms=30&iters=10000"), 504, "deadline-exceeded")
        for query, status, slug, members in (
                ("keep.x=h", 422, "unsupported-output", {"param": "keep.x", "wanted": "out"}),
                ("keep.=h", 422, "unsupported-output", {"param": "keep."}),
                ("keep.out=", 422, "invalid-parameter", {"param": "keep.out"}),
                ("keep.out=a/b", 422, "invalid-parameter", {"param": "keep.out"}),
                ("keep.out=sha256:00", 422, "invalid-parameter", {"param": "keep.out"}),
                ("keep=h", 422, "unknown-parameter", {}), ("eps=x&keep.out=h", 422, "invalid-parameter", {"param": "eps"}),
                ("keep.out=h&keep.out=g", 400, "conflicting-parameter", {})):
            problem(run(server, call.op, kept, query, status), status, slug, **members)
        both = calls.send(server, slow, query="keep.out=h&keep.softmax_lse=h")
        problem(both, 400, "conflicting-parameter", found="h")
        self.assertEqual(names(server), sorted(kept.values()))

    def test_sources_that_are_none(self):
        x = calls.json_tensor(t.normal((2, 4), "fp32", 1))
        put(server, "w", t.normal((4,), "fp32", 1))
        put(server, "long", t.normal((5,), "fp32", 1))
        put(server, "half", t.normal((4,), "fp16", 1))
        for source, status, slug, members in (
                ({"tensor": "none"}, 422, "unknown-tensor", {"input": "weight", "found": "none"}),
                ({"tensor": ""}, 422, "unknown-tensor", {"input": "weight"}),
                ({"tensor": "sha256:" + "0" * 64}, 422, "unknown-tensor", {"input": "weight"}),
                ({"tensor": 5}, 400, "malformed-body", {"input": "weight"}),
                ({"tensor": "w", "dtype": "fp32"}, 400, "malformed-body", {"input": "weight"}),
                ({"tensor": "long"}, 422, "invalid-shape", {"input": "weight"}),
                ({"tensor": "half"}, 422, "invalid-dtype", {"input": "weight"})):
            with self.subTest(source=source):
                r = server.request("POST", "/v1/ops/rmsnorm", json.dumps({"inputs": {"x": x, "weight": source}}).encode(), [JSON])
                problem(r, status, slug, **members)
        r = server.request("POST", "/v1/ops/rmsnorm?inputs=" + urllib.parse.quote('{"weight":{"tensor":"w"}}'),
                           json.dumps({"inputs": {"x": x, "weight": {"tensor": "w"}}}).encode(), [JSON])
        problem(r, 400, "malformed-body", input="weight")
        self.assertEqual(listed(server)["in_use_bytes"], 0)


class Limits(unittest.TestCase):
    def test_quota(self):
        """What was used least recently makes room; what is in use does not; what can never fit is refused at once."""
        mib = 1 << 20
        a = {i: np.full((mib - 4096,), i, np.uint8) for i in range(9)}
        def put_alone(s, *args):
            """A request lets go of its tensor only behind its reply: what is in use then would not make room."""
            until(lambda: listed(s)["in_use_bytes"] == 0, "nothing is in use")
            put(s, *args)

        with t.Server(*SMALL, "--arena", "64M", "--tensors-quota", "4M") as s:
            for i in range(4):
                put_alone(s, "w%d" % i, a[i], 201)
            self.assertEqual(listed(s)["bytes"], 4 * mib)
            self.assertTrue(same(get(s, "w0"), a[0]))  # a use
            put_alone(s, "w4", a[4], 201)
            self.assertEqual(names(s), ["w0", "w2", "w3", "w4"])
            self.assertEqual(s.request("HEAD", "/v1/tensors/w2").status, 200)  # another
            put_alone(s, "w5", a[5], 201)
            self.assertEqual(names(s), ["w0", "w2", "w4", "w5"])
            p = problem(s.request("PUT", "/v1/tensors/big", t.npy(np.zeros(5 * mib, np.uint8))), 507, "tensors-quota")
            self.assertIn("%d" % (4 * mib), p["detail"])
            with s.client(60) as c:  # and without being sent
                c.send(c.head("PUT", "/v1/tensors/big", [("Expect", "100-continue")], 40 * mib))
                r = c.response("PUT")
                self.assertEqual((r.status, r.interim), (507, []))
            r = s.request("PUT", "/v1/tensors/big", b'{"generate":"zeros","dtype":"int8","shape":[%d]}' % (5 * mib))
            problem(r, 507, "tensors-quota")
            self.assertEqual(names(s), ["w0", "w2", "w4", "w5"], "in vain nothing is dropped")
            # an output has its share, too
            x = t.normal((1, 8), "fp32", 1)
            put_alone(s, "x", x)
            self.assertEqual(names(s), ["w2", "w4", "w5", "x"])
            call = calls.attention("fp32", shape=(1, 256, 256, 4, 4, 64, 64), lse=False)
            for n, v in call.tensors.items():
                put_alone(s, n, v)
            self.assertEqual(names(s), ["k", "q", "v", "w2", "w4", "w5", "x"], "256 KiB each")
            got, query = [], long_run(s, call) + "&keep.out=o"
            worker = threading.Thread(target=lambda: got.append(run(s, call.op, {n: n for n in "qkv"}, query)))
            worker.start()
            until(lambda: listed(s)["in_use_bytes"] == 4 * call.tensors["q"].nbytes, "it runs", 60)
            self.assertEqual(names(s), ["k", "q", "v", "w2", "w5", "x"], "room was made for the output")
            large = t.npy(np.zeros(3 * mib + 5000, np.uint8))  # of which there are pieces of 4 MiB
            p = problem(s.request("PUT", "/v1/tensors/large", large), 507, "tensors-quota")
            self.assertIn("%d are in use" % mib, p["detail"])
            self.assertEqual(names(s), ["k", "q", "v", "w2", "w5", "x"])
            worker.join(60)
            call.check(outputs(got[0]))
            self.assertEqual(names(s), ["k", "o", "q", "v", "w2", "w5", "x"])
            put_alone(s, "large", large, 201)
            self.assertEqual(names(s), ["large"])
            i = info(s)["tensors"]
            self.assertGreater(i["evicted"], 5)
            self.assertLessEqual(i["bytes"], 4 * mib)
            clean(s)
            calls.nothing_lent(s)

    def test_time_to_live(self):
        a = t.normal((2, 2), "fp32", 1)
        with t.Server(*SMALL, "--tensors-ttl", "0.3") as s:
            put(s, "short", a, 201)
            put(s, "long", a, 201, "?ttl=1000")
            until(lambda: names(s) == ["long"], "its time is over")
            self.assertEqual(s.request("GET", "/v1/tensors/short").status, 404)
            self.assertTrue(same(get(s, "long"), a))
            self.assertEqual(info(s)["tensors"]["expired"], 1)
            entry = listed(s)["tensors"][0]
            self.assertTrue(900 < entry["expires_in_s"] <= 1000 == entry["ttl_s"], entry)
            put(s, "again", t.normal((2, 2), "fp32", 2), 201)
            clean(s)
            calls.nothing_lent(s)

    def test_what_is_kept_is_no_body(self):
        """The limit of a body holds for each one that is sent, not for what its request names."""
        call = calls.attention("fp32", shape=(1, 96, 96, 2, 2, 64, 64), lse=False)
        with t.Server(*SMALL, "--max-body", "64K") as s:
            problem(calls.send(s, call), 413, "too-large")
            for n, a in call.tensors.items():
                put(s, n, a, 201)
            call.check(outputs(run(s, call.op, {n: n for n in call.tensors}, "format=safetensors")))
            clean(s)

    def test_many_clients(self):
        """Names that several clients replace, read, use and forget at the same time: each reply is of one tensor, whole."""
        wrong = []

        def work(seed):
            rng = np.random.default_rng(seed)
            try:
                for _ in range(40):
                    name, value, what = "n%d" % rng.integers(3), float(rng.integers(1, 100)), rng.integers(6)
                    path = "/v1/tensors/" + name
                    if what < 2:
                        a = np.full((int(rng.integers(1, 40)), 1024), value, np.float32)
                        assert s.request("PUT", path, t.npy(a)).status in (200, 201)
                    elif what == 2:
                        assert s.request("DELETE", path).status in (204, 404)
                    elif what == 3:
                        r = s.request("GET", path)
                        if r.status == 200:
                            a = t.npy_parse(r.body)
                            assert (a == a[0, 0]).all() and r.get("etag") == '"%s"' % tensor_id(a), r
                        else:
                            problem(r, 404, "not-found")
                    else:
                        body = {"inputs": {"x": {"tensor": name}, "weight": {"generate": "ones", "dtype": "fp32", "shape": [1024]}}}
                        r = s.request("POST", "/v1/ops/rmsnorm?format=safetensors&keep.out=n%d" % rng.integers(3),
                                      json.dumps(body).encode(), [JSON])
                        if r.status == 200:
                            assert np.allclose(outputs(r)["out"], 1, atol=1e-4), outputs(r)["out"]
                        else:
                            problem(r, 422, "unknown-tensor")
            except Exception as e:
                wrong.append(e)
        with t.Server(*SMALL, "--arena", "64M", "--tensors-quota", "8M") as s:
            threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
            for x in threads:
                x.start()
            for x in threads:
                x.join()
            self.assertEqual(wrong, [])
            self.assertLessEqual(listed(s)["bytes"], 8 << 20)
            self.assertEqual(listed(s)["in_use_bytes"], 0)
            clean(s)
            calls.nothing_lent(s)

    def test_bad_options(self):
        for options in (("--arena", "16M", "--tensors-quota", "17M"), ("--tensors-ttl", "0"), ("--tensors-quota", "x")):
            with self.assertRaisesRegex(AssertionError, "tensors-"):
                t.Server(*SMALL, *options)

    def test_a_dead_worker_loses_nothing(self):
        call = calls.rmsnorm("fp32", shape=(64, 64))
        with t.Server(*SMALL) as s:
            for n, a in call.tensors.items():
                put(s, n, a)
            run(s, "rmsnorm", {"x": "x", "weight": "weight"}, "keep.out=h&outputs=none&format=json")
            h = get(s, "h")
            for _ in range(2):
                (pid,) = s.workers()
                kill(pid, signal.SIGKILL)
                until(lambda: s.workers() not in ([], [pid]) and info(s)["devices"][0]["state"] == "ready", "a new worker", 30)
                call.check(outputs(run(s, "rmsnorm", {"x": "x", "weight": "weight"}, "format=safetensors")))
                again = outputs(run(s, "rmsnorm", {"x": "h", "weight": "weight"}, "format=safetensors"))["out"]
                t.assert_close(again, t.rmsnorm(t.to_float(h), t.to_float(call.tensors["weight"]), 1e-6), "fp32")
            clean(s)
            calls.nothing_lent(s)

    def test_a_worker_that_dies_with_them(self):
        """The run fails, its output is not kept, its inputs are whole."""
        call = calls.attention("fp32", shape=(1, 256, 256, 4, 4, 64, 64), lse=False)
        with t.Server(*SMALL) as s:
            for n, a in call.tensors.items():
                put(s, n, a)
            names_of = {n: n for n in call.tensors}
            got = []
            (pid,) = s.workers()
            before = ticks(pid)
            worker = threading.Thread(target=lambda: got.append(run(s, call.op, names_of, "iters=10000&keep.out=o", 500)))
            worker.start()
            until(lambda: ticks(pid) > before + 20, "the worker has it in hand", 60)
            kill(pid, signal.SIGKILL)
            worker.join(60)
            problem(got[0], 500, "worker-crashed")
            self.assertEqual(names(s), ["k", "q", "v"])
            for n, a in call.tensors.items():
                self.assertTrue(same(get(s, n), a))
            until(lambda: info(s)["devices"][0]["state"] == "ready", "a new worker", 30)
            call.check(outputs(run(s, call.op, names_of, "format=safetensors")))
            clean(s)
            calls.nothing_lent(s)


class Emulated(unittest.TestCase):
    """A device with memory of its own: it keeps copies of what it has seen, and its statistics say so."""

    @classmethod
    def setUpClass(cls):
        why = test_emulated.missing()
        if why:
            raise unittest.SkipTest(why)

    def server(self, **env):
        s = t.Server(*test_emulated.OPTIONS, env=env)
        until(lambda: test_emulated.device(s)["state"] == "ready", "the emulated device is ready", 60)
        return s

    def test_copies(self):
        x, w, other = t.normal((96, 256), "fp16", 1), t.normal((256,), "fp16", 2), t.normal((256,), "fp16", 3)

        def check(r, weights, rows=x):
            t.assert_close(outputs(r)["out"], t.rmsnorm(t.to_float(rows), t.to_float(weights), 1e-6), "fp16")
            self.assertEqual(stats(r)["device"]["id"], "emulated:0")
            return stats(r)["memory"]
        how, query = {"x": "x", "weight": "w"}, "format=safetensors"
        with self.server() as s:
            put(s, "x", x)
            put(s, "w", w)
            m = check(run(s, "rmsnorm", how, query), w)
            self.assertEqual((m["allocated_before"], m["cached"], m["inputs"]), (0, 0, x.nbytes + w.nbytes))
            m = check(run(s, "rmsnorm", how, query), w)
            self.assertEqual((m["cached"], m["inputs"]), (x.nbytes + w.nbytes, 0))
            self.assertGreaterEqual(m["allocated_before"], x.nbytes + w.nbytes)
            self.assertGreaterEqual(m["peak"], m["allocated_before"] + m["outputs"])
            # by id, under another name, beside bytes of the request: the same copy
            self.assertEqual(check(run(s, "rmsnorm", {"x": tensor_id(x), "weight": "w"}, query), w)["cached"], m["cached"])
            put(s, "v", b'{"tensor":"w"}')
            self.assertEqual(check(run(s, "rmsnorm", {"x": "x", "weight": "v"}, query), w)["cached"], m["cached"])
            s.request("DELETE", "/v1/tensors/v")
            # the name means another tensor: no stale copy is used
            put(s, "w", other, 200)
            m = check(run(s, "rmsnorm", how, query), other)
            self.assertEqual((m["cached"], m["inputs"]), (x.nbytes, w.nbytes))
            put(s, "w", w, 200)  # its old copy went with the old tensor, or goes yet
            check(run(s, "rmsnorm", how, query), w)
            check(run(s, "rmsnorm", how, query + "&iters=3&baseline=naive"), w)

            # an output that is kept stays on the device as well
            r = run(s, "rmsnorm", how, query + "&keep.out=h")
            h = outputs(r)["out"]
            m = check(run(s, "rmsnorm", {"x": "h", "weight": "w"}, query), w, h)
            self.assertEqual((m["cached"], m["inputs"]), (h.nbytes + w.nbytes, 0))
            self.assertTrue(same(get(s, "h"), h))

            # what is forgotten here goes there
            self.assertGreaterEqual(test_emulated.device(s)["memory"]["allocated"], x.nbytes + w.nbytes + h.nbytes)
            s.request("DELETE", "/v1/tensors/h")
            until(lambda: test_emulated.device(s)["memory"]["allocated"] == x.nbytes + w.nbytes, "one copy goes")
            clean(s)
            until(lambda: test_emulated.device(s)["memory"]["allocated"] == 0, "all go")
            put(s, "x", x)
            put(s, "w", w)
            self.assertEqual(check(run(s, "rmsnorm", how, query), w)["cached"], 0)

            # a dead worker's copies are gone; the next one gets its own
            pid = test_emulated.device(s)["pid"]
            kill(pid, signal.SIGKILL)
            until(lambda: test_emulated.device(s)["pid"] != pid and test_emulated.device(s)["state"] == "ready", "a new one", 60)
            self.assertEqual(check(run(s, "rmsnorm", how, query), w)["cached"], 0)
            self.assertGreater(check(run(s, "rmsnorm", how, query), w)["cached"], 0)
            clean(s)
            calls.nothing_lent(s)

    def test_copies_make_room(self):
        """More weights than the device has memory for: each run is right, none is refused for the sake of copies."""
        with self.server(EMUHIP_MEM=str(8 / 1024)) as s:
            x = t.normal((256, 2048), "fp16", 1)  # 1 MiB
            w = t.normal((2048,), "fp16", 2)
            put(s, "w", w)
            want = t.rmsnorm(t.to_float(x), t.to_float(w), 1e-6)
            hits = 0
            for round in range(2):
                for i in range(10):
                    rows = (x.astype(np.float32) * 2.0 ** -i).astype(np.float16)
                    if round == 0:
                        put(s, "x%d" % i, rows)
                    r = run(s, "rmsnorm", {"x": "x%d" % i, "weight": "w"}, "format=safetensors&eps=0")
                    t.assert_close(outputs(r)["out"], t.rmsnorm(t.to_float(rows), t.to_float(w), 0), "fp16")
                    hits += stats(r)["memory"]["cached"] >= w.nbytes
            self.assertGreater(hits, 10, "the weights are used most often: they stay")
            call = calls.attention("fp16", shape=(1, 1024, 1024, 16, 16, 64, 64), lse=False)  # 8 MiB with its output
            problem(calls.send(s, call), 507, "out-of-memory")
            self.assertEqual(want.shape, x.shape)
            clean(s)
            calls.nothing_lent(s)


if __name__ == "__main__":
    unittest.main()
