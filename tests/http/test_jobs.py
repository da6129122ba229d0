#!/usr/bin/python3
"""Long work: requests whose clients do not wait (Prefer: respond-async), what becomes of them, and that cancelled work ends.
"""
import gzip
import json
import re
import signal
import socket
import threading
import time
import unittest

import numpy as np

import aiterd_test as t
from exchange import RUN, SAFETENSORS, info, kill, problem, quiescent, reset, rms_big, rms_body, rms_check, until
from test_faults import ATTENTION, SMALL, busy, device, long_job, long_run

ASYNC = ("Prefer", "respond-async")
JOB = re.compile("/v1/jobs/[0-9a-f]{32}$")
KEYS = {"id", "op", "action", "state", "progress", "position", "created", "elapsed_ms", "expires_in_s", "result", "error"}


def wait_for(seconds):
    return ("Prefer", "respond-async, wait=%d" % seconds)


def state_in(r):
    assert r.get("content-type") == "application/json", r.headers
    j = json.loads(r.body.decode("ascii"))
    assert set(j) == KEYS, j
    finished = j["state"] in ("done", "failed")
    assert (j["result"] is not None) == finished and (j["expires_in_s"] is not None) == finished, j
    assert (j["error"] is not None) == (j["state"] == "failed"), j
    assert (j["position"] is not None) == (j["state"] == "queued"), j
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", j["created"]), j
    assert j["elapsed_ms"] >= 0, j
    if j["progress"] is not None:
        assert set(j["progress"]) == {"done", "of", "unit"} and 0 <= j["progress"]["done"] <= j["progress"]["of"], j
    return j


def accepted(r):
    """202, in every respect; the job's path."""
    assert r.status == 202, r
    path = r.get("location")
    assert JOB.match(path), path
    assert r.get("preference-applied") == "respond-async" and int(r.get("retry-after")) > 0, r.headers
    j = state_in(r)
    assert "/v1/jobs/" + j["id"] == path and j["state"] in ("queued", "running"), j
    return path


def start(server, target, body, headers=(SAFETENSORS,)):
    return accepted(server.request("POST", target, body, list(headers) + [ASYNC]))


def state(server, path):
    r = server.request("GET", path)
    assert r.status == 200, r
    j = state_in(r)
    assert (r.get("retry-after") is None) == (j["result"] is not None), r.headers
    return j


def finished(server, path, seconds=30):
    return until(lambda: (lambda j: j if j["result"] else None)(state(server, path)), "%s is finished" % path, seconds)


def result(server, path, method="GET", headers=()):
    return server.request(method, path + "/result", headers=list(headers))


def gone(server, path, words):
    for target in (path, path + "/result"):
        p = problem(server.request("GET", target), 410, "job-gone")
        assert words in p["detail"], p
    problem(server.request("DELETE", path), 410, "job-gone")


def jobs(server):
    r = server.request("GET", "/v1/jobs")
    assert r.status == 200, r
    j = json.loads(r.body.decode("ascii"))
    assert set(j) == {"jobs", "count", "max", "bytes", "quota_bytes"} and j["count"] == len(j["jobs"]), j
    return j


def forget_all(server):
    for j in jobs(server)["jobs"]:
        assert server.request("DELETE", "/v1/jobs/" + j["id"]).status in (202, 204, 410)
    until(lambda: jobs(server)["count"] == 0, lambda: "no jobs are left: %s" % jobs(server))
    quiescent(server)


class Jobs(unittest.TestCase):
    """One server with two loops; each test leaves it without jobs, and with nothing lent."""

    @classmethod
    def setUpClass(cls):
        cls.server = t.Server(*SMALL)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def tearDown(self):
        forget_all(self.server)

    def test_run(self):
        path = start(self.server, RUN, rms_body())
        j = finished(self.server, path)
        self.assertEqual((j["op"], j["action"], j["state"]), ("rmsnorm", "run", "done"))
        self.assertEqual(j["progress"], {"done": 1, "of": 1, "unit": "iterations"})
        self.assertEqual(j["result"], path + "/result")
        self.assertTrue(590 < j["expires_in_s"] <= 600, j)
        first = result(self.server, path)
        rms_check(first)
        # As often as one likes, and on whichever loop one lands.
        for _ in range(20):
            r = result(self.server, path)
            self.assertEqual((r.status, r.body), (200, first.body))
            for name in ("content-type", "aiterd-stats", "server-timing", "vary"):
                self.assertEqual(r.get(name), first.get(name))
            self.assertEqual(r.get("location"), None)
        r = result(self.server, path, "HEAD")
        self.assertEqual((r.status, r.body, r.get("content-length")), (200, b"", str(len(first.body))))
        r = self.server.request("HEAD", path)
        self.assertEqual((r.status, r.body), (200, b""))
        self.assertEqual(self.server.request("DELETE", path).status, 204)
        gone(self.server, path, "deleted")

    def test_as_if_one_had_waited(self):
        """The result is the reply that a waiting client gets: form, coding, outputs; only times differ."""
        arrays = {"x": t.normal((30, 64), "fp16", 1), "weight": t.normal((64,), "fp16", 2)}
        want = t.rmsnorm(t.to_float(arrays["x"]), t.to_float(arrays["weight"]))
        multipart, kind = t.multipart([("x", t.npy(arrays["x"])), ("weight", t.npy(arrays["weight"]))])
        for fields, query, own in (([], "", "application/x-npy"), ([("Accept-Encoding", "gzip")], "", "application/x-npy"),
                                   ([], "?format=safetensors", "application/x-safetensors"),
                                   ([("Accept", "application/json")], "", "application/json"),
                                   ([("Accept-Encoding", "gzip")], "?format=json&outputs=digest", "application/json"),
                                   ([], "?dry_run=1", "application/json")):
            with self.subTest(fields=fields, query=query):
                headers = [("Content-Type", kind)] + fields
                now = self.server.request("POST", RUN + query, multipart, headers)
                path = start(self.server, RUN + query, multipart, headers)
                finished(self.server, path)
                later = result(self.server, path)
                for r in (now, later):
                    self.assertEqual((r.status, r.get("content-type")), (200, own))
                for name in ("content-encoding", "vary"):
                    self.assertEqual(now.get(name), later.get(name))
                self.assertEqual(sorted(n for n, _ in now.headers), sorted(n for n, _ in later.headers))
                body = gzip.decompress(later.body) if later.get("content-encoding") else later.body
                if own == "application/x-npy":
                    t.assert_close(t.npy_parse(body), want, "fp16")
                elif own == "application/x-safetensors":
                    t.assert_close(t.safetensors_parse(body)[0]["out"], want, "fp16")

    def test_large(self):
        """The inputs' memory goes back when the job is done, the outputs' stays; who reads slowly gets all of it, even when
        the job is deleted meanwhile."""
        body = rms_big(32)
        path = start(self.server, RUN, body)
        j = finished(self.server, path)
        self.assertEqual(j["state"], "done")
        lent = info(self.server)["arena"]["borrowed"]
        self.assertTrue(32 << 20 <= lent <= 40 << 20, lent)
        told = jobs(self.server)["bytes"]
        self.assertTrue(lent <= told <= lent + (1 << 20), (lent, told))
        with self.server.client(30) as slow:
            slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            slow.send(slow.head("GET", path + "/result"))
            start_of_it = slow.sock.recv(1000)
            self.assertTrue(start_of_it.startswith(b"HTTP/1.1 200"), start_of_it)
            slow.pending = start_of_it
            self.assertEqual(self.server.request("DELETE", path).status, 204)
            gone(self.server, path, "deleted")
            self.assertGreaterEqual(info(self.server)["arena"]["borrowed"], 32 << 20)
            r = slow.response(timeout=60)
        tensors, _ = t.safetensors_parse(r.body)
        x = t.safetensors_parse(body)[0]["x"]
        t.assert_close(tensors["out"], t.rmsnorm(x, np.ones(262144)), "fp32")
        quiescent(self.server)

    def test_refused_at_once(self):
        """What is wrong with the request itself is said to who sent it; there is no job then."""
        with self.server.client(30) as c:
            for target, body, status, slug in (
                    (RUN + "?eps=x", rms_body(), 422, "invalid-parameter"),
                    (RUN + "?epps=1", rms_body(), 422, "unknown-parameter"),
                    (RUN + "?device=hip:0", rms_body(), 422, "unknown-device"),
                    (RUN + "?format=npy&outputs=none", rms_body(), 406, "not-acceptable"),
                    (RUN, b"nonsense", 400, "malformed-body"),
                    (RUN, t.safetensors({"x": t.normal((2, 8), "fp32", 1)}), 422, "missing-input"),
                    ("/v1/ops/rmsnorn", rms_body(), 404, "unknown-operator")):
                with self.subTest(target=target, slug=slug):
                    r = c.request("POST", target, body, [SAFETENSORS, ASYNC])
                    problem(r, status, slug)
                    self.assertEqual((r.get("location"), r.get("preference-applied")), (None, None))
            rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))
        self.assertEqual(jobs(self.server)["count"], 0)

    def test_unknown(self):
        for name in ("x", "0" * 32, "a" * 31, "a" * 33, "A" * 32, "a" * 200, "%2e%2e", "%41%73"):
            for method, target in (("GET", name), ("DELETE", name), ("GET", name + "/result"), ("HEAD", name)):
                r = self.server.request(method, "/v1/jobs/" + target)
                self.assertEqual(r.status, 404, (method, target, r))
        for method, target, allow in (("POST", "/v1/jobs", "GET, HEAD"), ("PUT", "/v1/jobs/x", "GET, HEAD, DELETE"),
                                      ("DELETE", "/v1/jobs/x/result", "GET, HEAD")):
            r = self.server.request(method, target)
            problem(r, 405, "method-not-allowed")
            self.assertEqual(r.get("allow"), allow)

    def test_only_where_it_means_something(self):
        with self.server.client(30) as c:
            self.assertEqual(c.request("GET", "/v1/info", headers=[ASYNC]).status, 200)
            x = t.normal((2, 8), "fp32", 1)
            r = c.request("POST", "/v2/models/rmsnorm/infer", json.dumps({"inputs": [
                {"name": "x", "shape": [2, 8], "datatype": "FP32", "data": x.ravel().tolist()},
                {"name": "weight", "shape": [8], "datatype": "FP32", "data": [1] * 8}]}).encode(), [ASYNC])
            self.assertEqual(r.status, 200, r)
            r = c.request("POST", RUN, rms_body(), [SAFETENSORS, ("Prefer", "return=minimal; respond-async, x=\"respond-async\"")])
            rms_check(r)
            # Spread over several fields, in other letters, it is the same preference.
            r = c.request("POST", RUN, rms_body(), [SAFETENSORS, ("Prefer", "handling=strict"), ("prefer", "Respond-Async;x=1")])
            accepted(r)

    def test_progress(self):
        path = start(self.server, ATTENTION, long_job())
        seen = []

        def moves():
            j = state(self.server, path)
            if j["state"] == "running":
                self.assertEqual((j["progress"]["of"], j["progress"]["unit"]), (20000, "iterations"))
                seen.append(j["progress"]["done"])
            return len(set(seen)) >= 5
        until(moves, "progress", 20)
        self.assertEqual(seen, sorted(seen))
        behind = [start(self.server, RUN, rms_body()) for _ in range(3)]
        self.assertEqual([state(self.server, p)["position"] for p in behind], [1, 2, 3])
        self.assertEqual([j["id"] for j in jobs(self.server)["jobs"]], [p[9:] for p in behind[::-1] + [path]])
        problem(result(self.server, path), 409, "job-unfinished")
        self.assertGreater(int(result(self.server, behind[0]).get("retry-after")), 0)
        self.assertEqual(self.server.request("DELETE", path).status, 202)
        for p in behind:
            self.assertEqual(finished(self.server, p)["state"], "done")
            rms_check(result(self.server, p))

    def test_wait(self):
        with self.server.client(30) as c:
            # Quick enough: the reply itself, and no job is left.
            for seconds in (10, 4294967295, 10 ** 20):
                r = c.request("POST", RUN, rms_body(), [SAFETENSORS, wait_for(seconds)])
                rms_check(r)
                self.assertEqual((r.get("location"), r.get("preference-applied")), (None, None))
            self.assertEqual(jobs(self.server)["count"], 0)
            problem(c.request("POST", RUN + "?eps=x", rms_body(), [SAFETENSORS, wait_for(10)]), 422)
            # Not quick enough: 202 after that time, and the job goes on.
            began = time.monotonic()
            path = accepted(c.request("POST", ATTENTION, long_job(timeout_ms=2500), [SAFETENSORS, wait_for(1)]))
            self.assertGreater(time.monotonic() - began, 0.99)
            self.assertIn(state(self.server, path)["state"], ("queued", "running"))
            # Waiting for the result, on any loop: what comes is what is there then.
            began = time.monotonic()
            problem(c.request("GET", path + "/result", headers=[("Prefer", "wait=1")]), 409, "job-unfinished")
            self.assertGreater(time.monotonic() - began, 0.99)
            for _ in range(3):
                problem_of(c.request("GET", path + "/result", headers=[("Prefer", "wait=20")]), 504, "deadline-exceeded")
            path = accepted(c.request("POST", RUN, rms_body(), [SAFETENSORS, wait_for(0)]))
            rms_check(c.request("GET", path + "/result", headers=[("Prefer", "wait=20")]))

    def test_wait_for_what_is_cancelled(self):
        with self.server.client(30) as first, self.server.client(30) as second:
            body = long_job()
            first.send(first.head("POST", ATTENTION, [SAFETENSORS, wait_for(20)], len(body)) + body)
            j = until(lambda: (jobs(self.server)["jobs"] or [None])[0], "the job")
            path = "/v1/jobs/" + j["id"]
            second.send(second.head("GET", path + "/result", [("Prefer", "wait=20")]))
            until(lambda: state(self.server, path)["state"] == "running", "it runs")
            self.assertEqual(self.server.request("DELETE", path).status, 202)
            problem(first.response(), 410, "job-gone")
            problem(second.response(), 410, "job-gone")

    def test_cancel_queued(self):
        first = start(self.server, ATTENTION, long_job())
        pid = busy(self.server)
        behind = [start(self.server, RUN, rms_body(seed=i)) for i in range(60)]
        for p in behind[::2]:
            r = self.server.request("DELETE", p)
            self.assertIn(r.status, (202, 204))
            self.assertTrue(r.status == 204 or state_in(r)["state"] == "cancelled")
        # Those the worker holds already are taken out there, the others here; the running one is not touched.
        for p in behind[::2]:
            until(lambda p=p: self.server.request("GET", p).status == 410, "%s is gone" % p)
            gone(self.server, p, "cancelled")
        self.assertEqual(state(self.server, first)["state"], "running")
        self.assertEqual(info(self.server)["server"]["requests"], 31)
        self.assertEqual(self.server.request("DELETE", first).status, 202)
        for i, p in list(enumerate(behind))[1::2]:
            finished(self.server, p)
            rms_check(result(self.server, p), seed=i)
        self.assertEqual(device(self.server)["pid"], pid, "nothing had to die for it")

    def test_cancel_running(self):
        """Between two of its runs; the device is free at once."""
        path = start(self.server, ATTENTION, long_job())
        pid = busy(self.server)
        began = time.monotonic()
        r = self.server.request("DELETE", path)
        self.assertEqual((r.status, state_in(r)["state"]), (202, "cancelled"))
        rms_check(self.server.request("POST", RUN, rms_body(), [SAFETENSORS]))
        self.assertLess(time.monotonic() - began, 10)
        until(lambda: self.server.request("GET", path).status == 410, "it is gone")
        gone(self.server, path, "cancelled")
        self.assertEqual(device(self.server)["pid"], pid, "nothing had to die for it")

    def test_cancel_a_single_run(self):
        """Nothing interrupts one run of a kernel: it ends by itself, or at its deadline together with its worker. Until then the
        job is said to be cancelled, no result is to be waited for, and deleting it again changes nothing."""
        path = start(self.server, ATTENTION, long_run(timeout_ms=3000))
        busy(self.server)
        for _ in range(2):
            r = self.server.request("DELETE", path)
            self.assertEqual((r.status, state_in(r)["state"]), (202, "cancelled"))
        self.assertEqual(state(self.server, path)["state"], "cancelled")
        p = problem(result(self.server, path), 410, "job-gone")
        self.assertRegex(p["detail"], "it was cancelled")
        until(lambda: self.server.request("GET", path).status == 410, "it is gone", 20)
        rms_check(self.server.request("POST", RUN, rms_body(), [SAFETENSORS]))

    def test_time_up(self):
        path = start(self.server, ATTENTION, long_job(timeout_ms=300))
        j = finished(self.server, path)
        self.assertEqual((j["state"], j["error"]["status"]), ("failed", 504))
        p = problem_of(result(self.server, path), 504, "deadline-exceeded")
        self.assertEqual(j["error"], p)

    def test_client_leaves(self):
        """The one who waits with wait= leaves before anybody told it the job's id: nobody wants it. Who got its 202 may leave."""
        path = start(self.server, RUN, rms_body())
        finished(self.server, path)
        for leave in (reset, t.Client.close):
            c = self.server.client(30)
            body = long_job()
            c.send(c.head("POST", ATTENTION, [SAFETENSORS, wait_for(25)], len(body)) + body)
            until(lambda: jobs(self.server)["count"] == 2, "the job")
            busy(self.server)
            leave(c)
            until(lambda: jobs(self.server)["count"] == 1, "it is cancelled")
            until(lambda: info(self.server)["server"]["requests"] == 0, "it has ended")
        c = self.server.client(30)
        c.send(c.head("GET", path + "/result", [("Prefer", "wait=20")]))
        reset(c)
        rms_check(result(self.server, path))

    def test_synchronous_client_leaves(self):
        """The same for who waits as ever, queued and running; no job is made of it."""
        with self.server.client(30) as first:
            body = long_job()
            first.send(first.head("POST", ATTENTION, [SAFETENSORS], len(body)) + body)
            busy(self.server)
            queued = self.server.client(30)
            queued.send(queued.head("POST", ATTENTION, [SAFETENSORS], len(body)) + body)
            until(lambda: info(self.server)["server"]["requests"] == 2, "two requests")
            queued.close()
            until(lambda: info(self.server)["server"]["requests"] == 1, "the queued one is gone")
        until(lambda: info(self.server)["server"]["requests"] == 0, "the running one is gone")
        self.assertEqual(jobs(self.server)["count"], 0)

    def test_many(self):
        """Jobs from many clients at once, asked for, fetched and cancelled on every loop: each is right or gone."""
        wrong = []

        def one(n):
            try:
                for i in range(12):
                    seed = 100 * n + i
                    with self.server.client(60) as c:
                        r = c.request("POST", RUN + "?iters=%d" % (1 + seed % 40), rms_body(seed=seed), [SAFETENSORS, ASYNC])
                        path = accepted(r)
                    with self.server.client(60) as c:
                        if i % 3 == 0:
                            assert c.request("DELETE", path).status in (202, 204)
                            continue
                        rms_check(c.request("GET", path + "/result", headers=[("Prefer", "wait=50")]), seed=seed)
                        if i % 3 == 1:
                            assert c.request("DELETE", path).status == 204
            except Exception as e:
                wrong.append("%d: %r" % (n, e))
        threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
        for x in threads:
            x.start()
        while any(x.is_alive() for x in threads):
            jobs(self.server)
            time.sleep(0.02)
        self.assertEqual(wrong, [])
        until(lambda: jobs(self.server)["count"] == 8 * 4, lambda: "the fetched ones: %s" % jobs(self.server)["count"])


def problem_of(r, status, slug):
    """A problem that a job's result is: its request_id is that of the request that began it."""
    assert r.status == status and r.get("content-type") == "application/problem+json", r
    p = json.loads(r.body.decode("ascii"))
    assert p["type"] == "/problems/" + slug and p["status"] == status and p["request_id"], p
    return p


FORM = ("Content-Type", "application/x-www-form-urlencoded")
BENCH = "/v1/ops/flash_attn_func/bench"


class Benches(unittest.TestCase):
    """Sweeps without their clients: the lines are one reply at the end."""

    @classmethod
    def setUpClass(cls):
        cls.server = t.Server(*SMALL, env={"AITERD_CACHE_BYTES": str(1 << 20)})

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def tearDown(self):
        forget_all(self.server)

    def lines(self, r, kind="application/x-ndjson"):
        self.assertEqual((r.status, r.get("content-type")), (200, kind))
        if kind == "application/x-ndjson":
            return [json.loads(line) for line in r.body.decode("ascii").splitlines()]
        events = r.body.decode("ascii").strip("\n").split("\n\n")
        return [json.loads(re.fullmatch(r"event: \w+\ndata: (.*)", e).group(1)) for e in events]

    def test_sweep(self):
        body = b"batch=1,2&seqlen=16,32,7x&heads=2&head_dim=16&iters=3"
        problem(self.server.request("POST", BENCH, body, [FORM, ASYNC]), 422)
        self.assertEqual(jobs(self.server)["count"], 0)
        body = b"batch=1,2&seqlen=16,32&heads=2&kv_heads=2,3&head_dim=16&iters=3&progress=true"
        for kind in ("application/x-ndjson", "text/event-stream"):
            path = start(self.server, BENCH, body, (FORM, ("Accept", kind)))
            j = finished(self.server, path)
            self.assertEqual((j["action"], j["state"]), ("bench", "done"))
            self.assertEqual(j["progress"], {"done": 8, "of": 8, "unit": "cases"})
            r = result(self.server, path)
            lines = self.lines(r, kind)
            self.assertEqual(lines[-1], {"done": True, "cases": 8, "failed": 4})
            self.assertEqual([x["index"] for x in lines[:-1]], list(range(8)))
            self.assertEqual(sum("error" in x for x in lines), 4)
            self.assertTrue(all(x["kernel_ms"]["iters"] == 3 for x in lines[:-1] if "error" not in x))
            self.assertEqual(result(self.server, path).body, r.body)
            self.assertLess(info(self.server)["arena"]["borrowed"], 1 << 20)

    def test_wait(self):
        r = self.server.request("POST", BENCH, b"batch=1,2&seqlen=16&heads=2&iters=3", [FORM, wait_for(20)])
        self.assertEqual([x.get("index") for x in self.lines(r)], [0, 1, None])
        self.assertEqual(jobs(self.server)["count"], 0)
        # All cases fail at once: the sweep is over before anybody could have waited.
        r = self.server.request("POST", BENCH, b"batch=1,2&seqlen=16&heads=2&kv_heads=3", [FORM, ASYNC])
        self.assertEqual(self.lines(r)[-1], {"done": True, "cases": 2, "failed": 2})
        self.assertEqual(jobs(self.server)["count"], 0)

    def test_cancel(self):
        """In the midst of a sweep, and while it waits for the device."""
        body = b"batch=" + b",".join(b"%d" % n for n in range(1, 33)) + b"&seqlen=128&heads=4&iters=200"
        a, b = [start(self.server, BENCH, body, (FORM,)) for _ in range(2)]
        until(lambda: state(self.server, a)["progress"]["done"] > 0 and state(self.server, b)["progress"]["done"] > 0, "cases")
        self.assertEqual(state(self.server, a)["progress"]["of"], 32)
        for path in (a, b):
            self.assertEqual(self.server.request("DELETE", path).status, 202)
            until(lambda path=path: self.server.request("GET", path).status == 410, "it is gone")
        quiescent(self.server)

    def test_client_leaves(self):
        body = b"batch=1,2,3,4&seqlen=512&heads=8&iters=1000"
        c = self.server.client(30)
        c.send(c.head("POST", BENCH, [FORM, wait_for(30)], len(body)) + body)
        until(lambda: jobs(self.server)["count"] == 1, "the job")
        reset(c)
        until(lambda: jobs(self.server)["count"] == 0, "it is cancelled")
        quiescent(self.server)


class Checks(unittest.TestCase):
    """Checks without their clients, and results that lie in kept tensors."""

    @classmethod
    def setUpClass(cls):
        cls.server = t.Server(*SMALL)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def tearDown(self):
        for k in json.loads(self.server.request("GET", "/v1/tensors").body.decode())["tensors"]:
            self.server.request("DELETE", "/v1/tensors/" + k["name"])
        forget_all(self.server)

    def keep(self, name, array):
        r = self.server.request("PUT", "/v1/tensors/" + name, t.npy(array), [("Content-Type", "application/x-npy")])
        self.assertIn(r.status, (200, 201), r)

    def test_verdict(self):
        a = {"x": t.normal((300, 256), "fp32", 1), "weight": t.normal((256,), "fp32", 2)}
        good = t.rmsnorm(a["x"], a["weight"]).astype(np.float32)
        bad = good.copy()
        bad[7, 9] += 1
        for mine, right in ((good, True), (bad, False)):
            path = start(self.server, RUN + "/check?runs=5", t.safetensors({**a, "expected.out": mine}))
            j = finished(self.server, path)
            self.assertEqual((j["action"], j["state"], j["progress"]), ("check", "done", {"done": 6, "of": 6, "unit": "iterations"}))
            v = json.loads(result(self.server, path).body.decode())
            self.assertEqual((v["pass"], v["determinism"]["runs"], v["determinism"]["identical"]), (right, 5, True))
            self.assertEqual(v["outputs"]["out"]["vs_reference"]["mismatched"], int(not right))
        problem(self.server.request("POST", RUN + "/check", t.safetensors(a), [SAFETENSORS, ASYNC]), 422, "missing-input")
        self.assertEqual(jobs(self.server)["count"], 2)
        self.assertLess(info(self.server)["arena"]["borrowed"], 1 << 20)

    def test_cancelled_between_its_jobs(self):
        q = t.normal((1, 256, 4, 64), "fp32", 1)
        path = start(self.server, ATTENTION + "/check?runs=1000", t.safetensors({"q": q, "k": q, "v": q, "expected.out": q}))
        until(lambda: state(self.server, path)["progress"]["done"] > 3, "it is at work")
        self.assertEqual(state(self.server, path)["progress"]["of"], 1001)
        self.assertEqual(self.server.request("DELETE", path).status, 202)
        until(lambda: self.server.request("GET", path).status == 410, "it is gone", 5)
        quiescent(self.server)

    def test_client_of_a_check_leaves(self):
        q = t.normal((1, 256, 4, 64), "fp32", 1)
        body = t.safetensors({"q": q, "k": q, "v": q, "expected.out": q})
        with self.server.client() as c:
            c.send(c.head("POST", ATTENTION + "/check?runs=1000", [SAFETENSORS], len(body)) + body)
            busy(self.server)
        until(lambda: info(self.server)["server"]["requests"] == 0, "it is cancelled", 5)

    def test_case_file_with_a_kept_input(self):
        """The reply lies in what the server had kept: that may be deleted, the result is still there and right."""
        x, weight = t.normal((3000, 256), "fp32", 1), t.normal((256,), "fp32", 2)
        self.keep("x", x)
        mine = t.rmsnorm(x, weight).astype(np.float32)
        path = start(self.server, RUN + '/check?format=safetensors&inputs={"x":{"tensor":"x"}}'.replace('"', "%22").replace("{", "%7B").replace("}", "%7D"),
                     t.safetensors({"weight": weight, "expected.out": mine}))
        finished(self.server, path)
        self.assertEqual(self.server.request("DELETE", "/v1/tensors/x").status, 204)
        self.keep("other", np.zeros_like(x))
        tensors, meta = t.safetensors_parse(result(self.server, path).body)
        self.assertTrue(np.array_equal(tensors["x"], x) and np.array_equal(tensors["expected.out"], mine))
        self.assertTrue(json.loads(meta["verdict"])["pass"])

    def test_kept_input_is_let_go(self):
        """A result that does not lie in it does not hold it: deleted, its memory is back."""
        x = np.random.default_rng(1).standard_normal((8, 262144), np.float32)
        self.keep("x", x)
        before = info(self.server)["arena"]["borrowed"]
        self.assertGreaterEqual(before, 8 << 20)
        path = start(self.server, RUN + "?outputs=digest&inputs=%7B%22x%22:%7B%22tensor%22:%22x%22%7D%7D",
                     t.safetensors({"weight": np.ones(262144, np.float32)}))
        self.assertEqual(finished(self.server, path)["state"], "done")
        self.assertEqual(self.server.request("DELETE", "/v1/tensors/x").status, 204)
        self.assertLess(info(self.server)["arena"]["borrowed"], 1 << 20)
        self.assertEqual(result(self.server, path).status, 200)

    def test_kept_output(self):
        """The result lies in the output that was kept; each of the two may go first."""
        body = rms_big(4)
        want = t.rmsnorm(t.safetensors_parse(body)[0]["x"], np.ones(262144))
        for first in ("tensor", "job"):
            path = start(self.server, RUN + "?keep.out=y", body)
            finished(self.server, path)
            if first == "tensor":
                self.assertEqual(self.server.request("DELETE", "/v1/tensors/y").status, 204)
                self.keep("z", np.zeros((4, 262144), np.float32))
                t.assert_close(t.safetensors_parse(result(self.server, path).body)[0]["out"], want, "fp32")
                self.assertGreaterEqual(jobs(self.server)["bytes"], 4 << 20)
            self.assertEqual(self.server.request("DELETE", path).status, 204)
            if first == "job":
                r = self.server.request("GET", "/v1/tensors/y?format=npy")
                t.assert_close(t.npy_parse(r.body), want, "fp32")


class Workers(unittest.TestCase):
    def test_killed(self):
        with t.Server(*SMALL) as s:
            path = start(s, ATTENTION, long_job())
            pid = busy(s)
            behind = start(s, RUN, rms_body())
            kill(pid, signal.SIGKILL)
            j = finished(s, path)
            self.assertEqual((j["state"], j["error"]["status"]), ("failed", 500))
            self.assertRegex(j["error"]["detail"], r"was killed by signal 9 \(Killed\) while running a job")
            self.assertEqual(problem_of(result(s, path), 500, "worker-crashed"), j["error"])
            # What waited behind it goes to the next worker.
            self.assertEqual(finished(s, behind)["state"], "done")
            rms_check(result(s, behind))


class Limits(unittest.TestCase):
    def test_expiry(self):
        with t.Server("--jobs-ttl", "1.5", *SMALL) as s:
            self.assertEqual(json.loads(s.request("GET", "/v1/limits").body.decode())["jobs_ttl_ms"], 1500)
            path = start(s, RUN, rms_big(2))
            self.assertLessEqual(finished(s, path)["expires_in_s"], 1.5)
            self.assertEqual(result(s, path).status, 200)
            until(lambda: s.request("GET", path).status == 410, "it is gone")
            gone(s, path, "time to live")
            quiescent(s)

    def test_number(self):
        with t.Server("--jobs", "2", *SMALL) as s:
            self.assertEqual(json.loads(s.request("GET", "/v1/limits").body.decode())["max_jobs"], 2)
            a = start(s, RUN, rms_body())
            finished(s, a)
            b = start(s, ATTENTION, long_job())
            busy(s)
            c = start(s, RUN, rms_body())
            gone(s, a, "room")
            r = s.request("POST", RUN, rms_body(), [SAFETENSORS, ASYNC])
            problem(r, 503, "overloaded")
            self.assertGreater(int(r.get("retry-after")), 0)
            self.assertEqual(s.request("DELETE", b).status, 202)
            finished(s, c)
            rms_check(result(s, c))

    def test_none(self):
        with t.Server("--jobs", "0", *SMALL) as s:
            r = s.request("POST", RUN, rms_body(), [SAFETENSORS, ASYNC])
            rms_check(r)
            self.assertEqual(r.get("preference-applied"), None)

    def test_queue_counts_jobs(self):
        with t.Server("--queue", "2", *SMALL) as s:
            a = start(s, ATTENTION, long_job())
            busy(s)
            b = start(s, RUN, rms_body())
            problem(s.request("POST", RUN, rms_body(), [SAFETENSORS, ASYNC]), 503, "overloaded")
            self.assertEqual(s.request("DELETE", a).status, 202)
            finished(s, b)
            # Finished ones do not count.
            until(lambda: info(s)["server"]["requests"] == 0, "the places are free")
            finished(s, start(s, RUN, rms_body()))

    def test_bytes(self):
        with t.Server("--jobs-quota", "20M", *SMALL) as s:
            self.assertEqual(jobs(s)["quota_bytes"], 20 << 20)
            a, b, c = [start(s, RUN, rms_big(8)) for _ in range(3)]
            for path in (a, b, c):
                until(lambda path=path: s.request("GET", path).status == 410 or state(s, path)["result"], "it is finished")
            # Two fit; which of the three went depends on which was done first.
            left = [p for p in (a, b, c) if s.request("GET", p).status == 200]
            self.assertEqual(len(left), 2)
            gone(s, [p for p in (a, b, c) if p not in left][0], "room")
            self.assertTrue(16 << 20 <= jobs(s)["bytes"] <= 20 << 20, jobs(s))
            # More than there may be of all together: refused, nothing else goes for it, and its memory is back.
            d = start(s, RUN, rms_big(30))
            j = finished(s, d)
            self.assertEqual((j["state"], j["error"]["status"]), ("failed", 507))
            self.assertRegex(j["error"]["detail"], r"takes [0-9]+ bytes, .* may take 20971520 \(--jobs-quota\)")
            self.assertEqual(problem_of(result(s, d), 507, "out-of-memory"), j["error"])
            self.assertEqual([s.request("GET", p).status for p in left], [200, 200])
            self.assertLess(info(s)["arena"]["borrowed"], 20 << 20)
            # Who waits for it gets it all the same: it is not stored.
            r = s.request("POST", RUN, rms_big(30), [SAFETENSORS, wait_for(30)])
            self.assertEqual((r.status, len(r.body) > 30 << 20), (200, True))
            forget_all(s)


class Leaving(unittest.TestCase):
    def test_drain(self):
        """What runs is finished, whoever waits for it gets it, nothing new is begun, and the server leaves with status 0. The
        results that nobody fetched are lost."""
        with t.Server("--drain-timeout", "30", *SMALL) as s:
            old = start(s, RUN, rms_body())
            finished(s, old)
            path = start(s, ATTENTION, long_job(timeout_ms=3000))
            busy(s)
            behind = start(s, RUN, rms_body(seed=3))
            with s.client(30) as waiting, s.client(30) as late:
                waiting.send(waiting.head("GET", behind + "/result", [("Prefer", "wait=20")]))
                until(lambda: info(s)["server"]["requests"] == 3, "it waits")
                s.process.send_signal(signal.SIGTERM)
                until(lambda: json.loads(late.request("GET", "/v1/info").body.decode())["server"]["draining"], "draining")
                rms_check(late.request("GET", old + "/result"))
                problem(late.request("POST", RUN, rms_body(), [SAFETENSORS, ASYNC]), 503, "draining")
                rms_check(waiting.response(), seed=3)
            self.assertEqual(s.process.wait(20), 0)
            self.assertNotEqual(path, behind)

    def test_drain_timeout(self):
        s = t.Server("--drain-timeout", "0.5", *SMALL)
        self.addCleanup(s.kill)
        start(s, ATTENTION, long_job())
        busy(s)
        s.process.send_signal(signal.SIGTERM)
        self.assertEqual(s.process.wait(20), 1)
        s.check_sanitizers()

    def test_stored_results(self):
        """Results that are there when the server leaves, large ones too, are given back."""
        with t.Server(*SMALL) as s:
            for _ in range(3):
                finished(s, start(s, RUN, rms_big(4)))


if __name__ == "__main__":
    unittest.main()
