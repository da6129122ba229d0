#!/usr/bin/python3
"""api/openapi.yaml against the running server: the same paths and methods, every documented path, method and status
exercised, every JSON reply of those exchanges valid by its schema, the catalogue and the problem pages in agreement.
"""
import json
import os
import re
import signal
import threading
import time
import unittest

import jsonschema
import numpy as np
import yaml

import aiterd_test as t
import calls
from calls import BODIES, MAKERS, send

ROOT = os.path.join(t.HERE, "..", "..")
OPS = ("flash_attn_func", "flash_attn_varlen_func", "rmsnorm")

server = None


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


def resolve(spec, node):
    """node with its references filled in, and OpenAPI's nullable as JSON Schema says it."""
    if isinstance(node, list):
        return [resolve(spec, n) for n in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        assert set(node) == {"$ref"}, "members beside a reference are ignored: %r" % node
        target = spec
        for part in node["$ref"].lstrip("#/").split("/"):
            target = target[part]
        return resolve(spec, target)
    out = {k: resolve(spec, v) for k, v in node.items()}
    if out.pop("nullable", False) is True:
        out["type"] = [out["type"], "null"]
    return out


class Contract:
    """The yaml, and which parts of it were seen on the wire."""

    def __init__(self):
        self.spec = yaml.safe_load(read("api", "openapi.yaml"))
        self.paths = resolve(self.spec, self.spec["paths"])
        self.seen = set()

    def operations(self):
        return {(method, path): op for path, item in self.paths.items() for method, op in item.items()
                if method in ("get", "post", "put", "delete", "patch", "head")}

    def schema(self, name):
        return resolve(self.spec, self.spec["components"]["schemas"][name])

    def check(self, method, template, r):
        """r answers this method and path as documented; what it holds is valid."""
        responses = self.operations()[method.lower(), template]["responses"]
        status = str(r.status)
        documented = responses.get(status, responses.get("default"))
        assert documented is not None, "%s %s answers %s, which is not documented: %r" % (method, template, status, r)
        self.seen.add((method.lower(), template, status if status in responses else "default"))
        kind = r.get("content-type", "").split(";")[0]
        if "content" not in documented:
            assert r.body == b"", r
        else:
            assert kind in documented["content"], "%s %s: %s is not documented" % (method, template, kind)
        if kind == "application/x-ndjson":
            for line in r.body.decode("ascii").splitlines():
                validate(json.loads(line), documented["content"][kind]["schema"], "a line of %s" % template)
        elif kind.endswith("json") and r.body:
            body = json.loads(calls.decoded(r).decode("ascii"))
            validate(body, documented["content"][kind]["schema"], "%s %s -> %s" % (method, template, status))
        for name in documented.get("headers", {}):
            wanted = {"ETag": True, "Location": True, "Aiterd-Tensor": True, "Preference-Applied": True,
                      "Allow": r.status == 405, "Retry-After": r.status in (202, 409, 503),
                      "Aiterd-Stats": b'"dry_run":true' not in r.body, "Server-Timing": b'"dry_run":true' not in r.body}
            assert (r.get(name) is not None) == wanted[name], (name, r.status, r.headers)
        return r


def contract_limits():
    return json.loads(server.request("GET", "/v1/limits").body.decode())


validators = {}  # by the schema's id(); each holds its schema, so that the id stays its own


def validate(value, schema, what):
    if id(schema) not in validators:
        jsonschema.Draft7Validator.check_schema(schema)
        validators[id(schema)] = jsonschema.Draft7Validator(schema)
    errors = sorted(validators[id(schema)].iter_errors(value), key=lambda e: list(map(str, e.path)))
    lines = ["%s: %s" % ("/".join(map(str, e.path)), e.message[:300]) for e in errors]
    lines += ["  " + c.message[:300] for e in errors for c in e.context or ()]
    assert not errors, "%s:\n%s\n%s" % (what, "\n".join(lines), json.dumps(value)[:2000])


def setUpModule():
    global server
    if "ASAN_OPTIONS" in os.environ:
        raise unittest.SkipTest("whether contract and server agree does not depend on sanitizers; the requests are others' too")
    server = t.Server("--loops", "2", "--threads", "2", "--prefault", "1M")
    server.request("GET", "/v1/info")


def tearDownModule():
    server.stop()


class Source(unittest.TestCase):
    """What the source's tables say, the yaml says, and the server serves."""

    def setUp(self):
        self.contract = Contract()

    def test_routes(self):
        rows = [(m, p, "summary" in more) for m, p, more in
                re.findall(r'^\t\{(GET|POST|PUT|DELETE), "([^"]+)", ([^}]+)\},', read("server", "front", "routes.c"), re.M)]
        self.assertGreater(len(rows), 20)
        self.assertEqual(sorted((m.lower(), p) for m, p, _ in rows), sorted(self.contract.operations()))
        index = server.request("GET", "/").body.decode()
        listed = re.findall(r"^(GET|POST|PUT|DELETE)(?:, HEAD)? +(\S+)  ", index, re.M)
        self.assertEqual(sorted(listed),
                         sorted((m, p) for m, p, told in rows if told))

    def test_schemas_are_schemas(self):
        for name in self.contract.spec["components"]["schemas"]:
            with self.subTest(name):
                jsonschema.Draft7Validator.check_schema(self.contract.schema(name))
        for (method, path), op in self.contract.operations().items():
            item = self.contract.paths[path]
            told = {p["name"] for p in item.get("parameters", []) + op.get("parameters", []) if p["in"] == "path"}
            self.assertEqual(told, set(re.findall(r"{(\w+)}", path)), path)
            self.assertTrue(op["summary"] and op["responses"], path)

    def test_problem_types(self):
        """Each of errors.def is served, with its status and title; the yaml names the statuses."""
        rows = re.findall(r'^E\((\w+), "([a-z0-9-]+)", (\d+), "([^"]+)"', read("server", "errors.def"), re.M)
        self.assertGreater(len(rows), 30)
        self.assertEqual(len({slug for _, slug, _, _ in rows}), len(rows))
        documented = self.contract.spec["components"]["responses"]["Problem"]["description"]
        for _, slug, status, title in rows:
            r = server.request("GET", "/problems/" + slug)
            self.assertEqual(r.status, 200, slug)
            text = r.body.decode()
            self.assertIn(title, text)
            self.assertIn("HTTP status %s, type /problems/%s" % (status, slug), text)
            if status != "499":
                self.assertIn(status, documented, "%s is not among the statuses of Problem" % status)
        for status in re.findall(r"\b[45]\d\d\b", documented):
            self.assertIn(status, {s for _, _, s, _ in rows})

    def test_catalogue(self):
        """Run options: the same names, defaults, choices and kinds here and there."""
        kinds = {"bool": "boolean", "int": "integer", "float": "number", "string": "string"}
        post = self.contract.operations()["post", "/v1/ops/{op}"]
        documented = {p["name"]: p for p in post["parameters"] if p["in"] == "query"}
        for op in OPS:
            told = json.loads(server.request("GET", "/v1/ops/" + op).body.decode())
            self.assertEqual({o["name"] for o in told["run_options"]}, set(documented))
            for o in told["run_options"]:
                schema = documented[o["name"]]["schema"]
                self.assertEqual(schema["type"], kinds[o["type"]], o["name"])
                self.assertEqual(schema.get("enum"), o.get("choices"), o["name"])
                default = schema.get("default")
                self.assertEqual(None if default is None else str(default).lower(), o["default"], o["name"])
                if "minimum" in schema:
                    self.assertEqual(schema["minimum"], o["min"], o["name"])
            judging = {p["name"]: p["schema"] for p in
                       self.contract.operations()["post", "/v1/ops/{op}/check"]["parameters"] if p["in"] == "query"}
            self.assertEqual({o["name"] for o in told["check_options"]}, set(judging) - set(documented))
            for o in told["check_options"]:
                self.assertEqual((judging[o["name"]]["type"], judging[o["name"]]["minimum"]), (kinds[o["type"]], o["min"]))
                self.assertEqual(judging[o["name"]].get("default"), o["default"] and int(o["default"]), o["name"])
            self.assertRegex(told["tolerance_source"], "AITER's")
            names = [p["name"] for p in told["params"]] + [a for p in told["params"] for a in p.get("aliases", [])]
            self.assertFalse(set(names) & set(documented), "one namespace")
            self.assertEqual(set(told["tolerance"]), set(calls.FLOATS))
            self.assertEqual({n: v["atol"] for n, v in told["tolerance"].items()},
                             {n: t.TOLERANCE[n] for n in calls.FLOATS})
        impls = self.contract.spec["components"]["schemas"]["Impl"]["enum"]
        self.assertEqual(impls, documented["impl"]["schema"]["enum"])

    def test_choices_work(self):
        """Every documented choice of every option is understood."""
        call = calls.rmsnorm()
        for p in self.contract.operations()["post", "/v1/ops/{op}"]["parameters"]:
            for value in p["schema"].get("enum", []):
                r = send(server, call, query="%s=%s" % (p["name"], value))
                self.assertEqual(r.status, 422 if value == "aiter" else 200, (p["name"], value, r))


class Exchanges(unittest.TestCase):
    """At least one exchange for each path, method and status; each reply is valid."""

    def test_all(self):
        contract = Contract()
        with server.client(60) as c:
            self.plain(contract, c)
            self.runs(contract, c)
            self.checks(contract, c)
            self.infers(contract, c)
            self.benches(contract, c)
            self.jobs(contract, c)
            self.kept(contract, c)
        self.draining(contract)
        wanted = {(*where, status) for where, op in contract.operations().items() for status in op["responses"]}
        self.assertEqual(sorted(wanted - contract.seen), [], "documented, but never seen")

    def go(self, contract, c, method, template, path=None, body=None, headers=(), status=200):
        r = c.request(method, path or template, body, headers)
        self.assertEqual(r.status, status, (path or template, r))
        return contract.check(method, template, r)

    def plain(self, contract, c):
        for path, item in contract.paths.items():
            if "get" not in item or "{name}" in path or "{id}" in path:
                continue
            for op in OPS:
                real = path.replace("{op}", op).replace("{version}", "1").replace("{slug}", "invalid-shape")
                r = self.go(contract, c, "GET", path, real)
                head = c.request("HEAD", real)
                self.assertEqual((head.status, head.body, head.get("content-type")), (200, b"", r.get("content-type")))
                if path.startswith(("/v1/ops", "/problems")) or path == "/":
                    self.assertEqual(head.get("content-length"), str(len(r.body)))
                if "404" in item["get"]["responses"]:
                    wrong = path.replace("{op}", "none").replace("{version}", "1").replace("{slug}", "none")
                    self.go(contract, c, "GET", path, wrong, status=404)
                    if "{version}" in path:
                        self.go(contract, c, "GET", path, real.replace("/1", "/2"), status=404)
        self.go(contract, c, "POST", "/v2/repository/index", body=b"")
        for verb in ("load", "unload"):
            path = "/v2/repository/models/{op}/" + verb
            self.go(contract, c, "POST", path, path.replace("{op}", "rmsnorm"), b"{}", status=501)
            self.go(contract, c, "POST", path, path.replace("{op}", "none"), b"{}", status=404)

    def runs(self, contract, c):
        template, request = "/v1/ops/{op}", contract.schema("RunRequest")
        for make in MAKERS:
            call = make("fp16")
            for body in BODIES:
                for query in ("", "format=json", "format=json&json=base64", "format=json&outputs=digest",
                              "outputs=none", "format=json&outputs=none&baseline=naive&iters=3&warmup=1", "dry_run=1",
                              "format=npy", "impl=aiter", "format=json&impl=naive", "format=json&impl=reference",
                              "nonsense=1", "format=safetensors"):
                    for accept in ([], [("Accept-Encoding", "gzip")]):
                        contract.check("POST", template, send(c, call, body, query=query, headers=accept))
            for form in ("list", "flat", "base64"):
                validate(json.loads(calls.as_json(call.tensors, call.params, form)[1]), request, "our own request")
        # hints, NaN and infinities in digests, timings of one with a batch
        contract.check("POST", template, send(c, calls.attention("fp32", shape=(1, 2, 64, 2, 2, 8, 8), causal=True),
                                              query="format=json"))
        contract.check("POST", template, send(c, calls.rmsnorm(shape=(0, 8)), query="format=json&outputs=digest"))
        good, kind = t.safetensors(calls.rmsnorm().tensors), ("Content-Type", "application/x-safetensors")
        for status, path, body, fields in (
                (404, "/v1/ops/none", b"x", []), (400, "/v1/ops/rmsnorm", b"x", [("Content-Type", "application/json")]),
                (415, "/v1/ops/rmsnorm", b"x", [("Content-Type", "x/y")]),
                (422, "/v1/ops/rmsnorm?eps=x", good, [kind]),
                (406, "/v1/ops/rmsnorm", good, [kind, ("Accept", "text/html")]), (400, "/v1/ops/rmsnorm", b"", []),
                (417, "/v1/ops/rmsnorm", b"", [("Expect", "x")]), (504, None, None, None)):
            if status == 504:
                slow = calls.attention("fp32", shape=(1, 256, 256, 4, 4, 64, 64), lse=False)
                r = send(c, slow, query="timeout_ms=30&iters=10000")
            else:
                r = c.request("POST", path, body, fields)
            contract.check("POST", template, r)
            if r.get("connection") == "close":
                c.close()
                c.__init__(server.address, 60)
            self.assertEqual(r.status, status, r)
        r = c.request("PUT", "/v1/ops/rmsnorm", b"")
        self.assertEqual(r.status, 405)
        contract.check("POST", template, r)

    def checks(self, contract, c):
        template = "/v1/ops/{op}/check"
        for make in MAKERS:
            call = make("fp16")
            right = {"expected." + n: t.cast(w, call.dtype_of(n)) for n, w in call.want.items()}
            for spoil in (lambda a: a, lambda a: -a, lambda a: np.full_like(a, np.nan), lambda a: np.full_like(a, np.inf)):
                told = calls.Call(call.op, {**call.tensors, **{n: spoil(a) for n, a in right.items()}}, call.params, {}, "")
                for query in ("", "runs=2&rtol=0", "format=safetensors", "dry_run=1", "format=npy", "rtol=x"):
                    contract.check("POST", template, send(c, told, query=query, path=call.path + "/check"))
        contract.check("POST", template, c.request("POST", "/v1/ops/none/check", b"x"))

    def benches(self, contract, c):
        template, form = "/v1/ops/{op}/bench", ("Content-Type", "application/x-www-form-urlencoded")
        tiny = {"rmsnorm": "rows=2&hidden=8"}
        for op in OPS:
            path = template.replace("{op}", op)
            body = (tiny.get(op, "batch=1,2&seqlen=4&heads=2&kv_heads=2,3") + "&iters=2&baseline=naive&samples=true"
                    "&mode=cold,warm&dtype=fp32,bf16").encode()
            self.go(contract, c, "POST", template, path, body, [form])
            self.go(contract, c, "POST", template, path, body, [form, ("Accept", "text/event-stream")])
            self.go(contract, c, "POST", template, path, b"nonsense=1", [form], status=422)
        self.go(contract, c, "POST", template, template.replace("{op}", "none"), b"", status=404)
        params, path = {"batch": [1, 2], "seqlen": 256, "heads": 8, "iters": 5, "mode": "warm"}, "/v1/ops/flash_attn_func/bench"
        for again in (True, False):
            validate({"params": params}, contract.schema("BenchRequest"), "our own request")
            r = self.go(contract, c, "POST", template, path, json.dumps({"params": params}).encode(),
                        [("Content-Type", "application/json")])
            if again:  # so often that the second case takes some seconds
                ms = json.loads(r.body.splitlines()[1])["kernel_ms"]["mean"]
                params.update(progress=True, iters=min(10000, max(20, int(4000 / ms))))
        self.assertIn(b'{"progress":', r.body, "took so short a time that there was none")
        options = {p["name"]: p["schema"] for p in contract.operations()["post", template]["parameters"] if p["in"] == "query"}
        page = json.loads(c.request("GET", "/v1/ops/rmsnorm").body)
        for o in page["bench_options"]:
            default = options[o["name"]].get("default")
            self.assertEqual((None if default is None else str(default).lower(), options[o["name"]].get("enum")),
                             (o["default"], o.get("choices")), o["name"])

    def jobs(self, contract, c):
        one, result, wait = "/v1/jobs/{id}", "/v1/jobs/{id}/result", [("Prefer", "wait=30")]
        rms, form = calls.rmsnorm(), ("Content-Type", "application/x-www-form-urlencoded")
        slow = calls.attention("fp32", shape=(1, 256, 256, 4, 4, 64, 64), lse=False)
        paths = []
        for call, query in ((rms, "format=npy"), (rms, "format=safetensors"), (rms, "format=json"),
                            (rms, "dry_run=1"), (slow, "timeout_ms=30&iters=10000")):
            r = send(c, call, query=query, headers=[("Prefer", "respond-async")])
            self.assertEqual(contract.check("POST", "/v1/ops/{op}", r).status, 202, r)
            paths.append(r.get("location"))
        template = "/v1/ops/{op}/bench"
        for accept in ("application/x-ndjson", "text/event-stream"):
            r = self.go(contract, c, "POST", template, template.replace("{op}", "rmsnorm"), b"rows=2&hidden=8,16&iters=2",
                        [form, ("Accept", accept), ("Prefer", "respond-async")], 202)
            paths.append(r.get("location"))
        for path in paths:
            status = 504 if path == paths[4] else 200
            self.go(contract, c, "GET", one, path)
            self.go(contract, c, "GET", result, path + "/result", headers=wait, status=status)
            self.go(contract, c, "GET", one, path)
        self.assertEqual(len(json.loads(self.go(contract, c, "GET", "/v1/jobs").body)["jobs"]), len(paths))
        r = send(c, slow, query="iters=10000", headers=[("Prefer", "respond-async")])
        paths.append(r.get("location"))
        self.go(contract, c, "GET", one, paths[-1])
        self.go(contract, c, "GET", result, paths[-1] + "/result", status=409)
        self.go(contract, c, "DELETE", one, paths[-1], status=202)
        while c.request("GET", paths[-1]).status != 410:
            time.sleep(0.02)
        for status, path in ((404, "/v1/jobs/none"), (410, paths[-1])):
            for method in ("GET", "DELETE"):
                self.go(contract, c, method, one, path, status=status)
            self.go(contract, c, "GET", result, path + "/result", status=status)
        for path in paths[:-1]:
            self.go(contract, c, "DELETE", one, path, status=204)

    def infers(self, contract, c):
        request = contract.schema("InferRequest")
        for template in ("/v2/models/{op}/infer", "/v2/models/{op}/versions/{version}/infer"):
            for make in MAKERS:
                call = make("bf16")
                path = template.replace("{op}", call.op).replace("{version}", "1")
                for binary in (True, False):
                    for out in (True, False, None):
                        body, fields = t.oip(call.tensors, call.params, binary, [{"name": "out"}], out, "some id")
                        self.go(contract, c, "POST", template, path, body, fields)
                        n = dict(fields).get("Inference-Header-Content-Length")
                        validate(json.loads(body[:int(n) if n else None]), request, "our own request")
                for options in ({"outputs": "none"}, {"outputs": "digest"}, {"baseline": "naive", "iters": 2},
                                {"dry_run": True}):
                    body, fields = t.oip(call.tensors, {**call.params, **options})
                    self.go(contract, c, "POST", template, path, body, fields)
                self.go(contract, c, "POST", template, path, b"nonsense", status=400)
                self.go(contract, c, "POST", template, path, *t.oip(call.tensors, {**call.params, "eqs": 1}),
                        status=422)
                self.go(contract, c, "POST", template, path, *t.oip(call.tensors, {**call.params, "impl": "aiter"}),
                        status=422)
                self.go(contract, c, "POST", template, path.replace(call.op, "none"), b"{}", status=404)

    def kept(self, contract, c):
        template, path, x = "/v1/tensors/{name}", "/v1/tensors/w.1", t.normal((3, 4), "fp16", 1)
        tag = self.go(contract, c, "PUT", template, path, t.npy(x), status=201).get("etag")
        self.go(contract, c, "PUT", template, path, t.npy(x), status=200)
        self.go(contract, c, "PUT", template, path, t.npy(x), [("If-None-Match", "*")], 412)
        self.go(contract, c, "PUT", template, path, b"nonsense", status=400)
        self.go(contract, c, "PUT", template, path, status=507, body=(
            b'{"generate":"zeros","dtype":"int8","shape":[%d]}' % min(contract_limits()["max_body_bytes"],
                                                                     2 * contract_limits()["tensors_quota_bytes"])))
        for form in ("npy", "safetensors", "json", "json&json=base64"):
            self.go(contract, c, "GET", template, path + "?format=" + form)
            head = c.request("HEAD", path + "?format=" + form)
            self.assertEqual((head.status, head.body, head.get("etag")), (200, b"", tag))
        self.go(contract, c, "GET", template, path, headers=[("If-None-Match", tag)], status=304)
        self.go(contract, c, "GET", template, path + "?nonsense=1", status=422)
        self.go(contract, c, "GET", "/v1/tensors")
        self.go(contract, c, "GET", "/v1/tensors", "/v1/tensors?nonsense=1", status=422)
        self.go(contract, c, "DELETE", template, path, headers=[("If-Match", '"no"')], status=412)
        self.go(contract, c, "DELETE", template, path + "?nonsense=1", status=422)
        run = json.dumps({"inputs": {"x": {"tensor": "w.1"}, "weight": {"tensor": "none"}}}).encode()
        kind = [("Content-Type", "application/json")]
        self.go(contract, c, "POST", "/v1/ops/{op}", "/v1/ops/rmsnorm", run, kind, 422)
        self.go(contract, c, "PUT", template, "/v1/tensors/none", t.npy(x[0]), status=201)
        self.go(contract, c, "POST", "/v1/ops/{op}", "/v1/ops/rmsnorm?keep.out=h&format=json", run, kind)
        self.go(contract, c, "GET", "/v1/tensors")
        for name in ("w.1", "h", "none"):
            self.go(contract, c, "DELETE", template, "/v1/tensors/" + name, status=204)
        self.go(contract, c, "DELETE", template, path, status=404)
        self.go(contract, c, "GET", template, path, status=404)

    def draining(self, contract):
        """A server that is told to leave while it works is alive, not ready, and takes nothing new."""
        with t.Server("--loops", "1", "--threads", "1", "--prefault", "1M", "--drain-timeout", "60") as s:
            asking = s.client(60)
            self.go(contract, asking, "GET", "/v2/health/ready")
            # as many runs as make it a matter of seconds here
            slow = calls.attention("fp32", shape=(1, 256, 256, 4, 4, 64, 64), lse=False)
            one = calls.Reply(send(asking, slow, query="iters=3")).header["kernel_ms"]["median"]
            replies = []

            def work():
                replies.append(send(s, slow, query="iters=%d" % min(10000, max(10, 3000 / max(one, 0.01)))))
            worker = threading.Thread(target=work)
            worker.start()
            while json.loads(asking.request("GET", "/v1/info").body.decode())["server"]["requests"] == 0:
                pass
            s.process.send_signal(signal.SIGTERM)
            while not json.loads(asking.request("GET", "/v1/info").body.decode())["server"]["draining"]:
                pass
            self.go(contract, asking, "GET", "/v2/health/live")
            self.go(contract, asking, "GET", "/v2/health/ready", status=503)
            for template in ("/v2/models/{op}/ready", "/v2/models/{op}/versions/{version}/ready"):
                path = template.replace("{op}", "rmsnorm").replace("{version}", "1")
                self.go(contract, asking, "GET", template, path, status=503)
            r = self.go(contract, asking, "POST", "/v2/repository/index", body=b"")
            self.assertEqual({m["state"] for m in json.loads(r.body.decode())}, {"UNAVAILABLE"})
            r = send(asking, calls.rmsnorm())
            contract.check("POST", "/v1/ops/{op}", r)
            calls.problem(r, 503, "draining")
            asking.close()
            worker.join()
            slow.check(calls.Reply(replies[0]).outputs)


if __name__ == "__main__":
    unittest.main()
