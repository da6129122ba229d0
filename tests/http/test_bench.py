#!/usr/bin/python3
"""Benches over HTTP: sweeps as NDJSON and SSE, a line at a time; modes, samples, baseline, given and generated inputs; errors
of a case and of the request; readers that are slow or leave. Read with Python's own HTTP client.
"""
import http.client
import json
import os
import re
import signal
import statistics
import threading
import time
import unittest
import urllib.parse

import aiterd_test as t
import calls
from calls import problem
from exchange import info, until

ATTENTION, VARLEN, RMS = "/v1/ops/flash_attn_func/bench", "/v1/ops/flash_attn_varlen_func/bench", "/v1/ops/rmsnorm/bench"
CACHE = 1 << 20  # what the worker is told its last-level cache has, so that copies are made quickly
NDJSON, SSE = "application/x-ndjson", "text/event-stream"
server = None


def setUpModule():
    global server
    server = t.Server("--loops", "2", "--threads", "1", "--prefault", "1M", "--idle-timeout", "3", "--max-cases", "64",
                      env={"AITERD_CACHE_BYTES": str(CACHE)})
    until(lambda: info(server)["devices"][0]["state"] == "ready", "the device is ready")


def tearDownModule():
    try:
        calls.nothing_lent(server)
    finally:
        server.stop()


class Bench:
    """A bench request under way. Parameters go into a form, as curl -d sends them."""

    def __init__(self, path, accept=None, body=None, kind="application/x-www-form-urlencoded", at=None, **params):
        self.connection = http.client.HTTPConnection(*(at or server).address, timeout=60)
        headers = {"Accept": accept} if accept else {}
        if body is None:
            body = urllib.parse.urlencode(params).encode()
        elif params:
            path += "?" + urllib.parse.urlencode(params)
        if body:
            headers["Content-Type"] = kind
        self.connection.request("POST", path, body, headers)
        self.reply = self.connection.getresponse()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    @property
    def kind(self):
        return self.reply.getheader("Content-Type")

    def line(self):
        """The next line's object, None at the end."""
        line = self.reply.readline()
        return json.loads(line) if line else None

    def event(self):
        """The next event, as (name, object)."""
        name, data = self.reply.readline(), self.reply.readline()
        assert self.reply.readline() == b"\n" and name.startswith(b"event: ") and data.startswith(b"data: "), (name, data)
        return name[7:].decode().strip(), json.loads(data[6:])


def lines(path, *, accept=None, **params):
    """All lines of a bench that must be one, the last (done) apart."""
    with Bench(path, accept, **params) as b:
        assert b.reply.status == 200, (b.reply.status, b.reply.read())
        assert b.kind == NDJSON, b.kind
        assert b.reply.getheader("Transfer-Encoding") == "chunked"
        assert b.reply.getheader("Content-Encoding") is None
        found = [json.loads(line) for line in b.reply.read().decode("ascii").splitlines()]
    done = found.pop()
    assert done == {"done": True, "cases": len(found), "failed": sum("error" in x for x in found)}, done
    for i, line in enumerate(found):
        assert (line["index"], line["of"]) == (i, len(found)), line
    return found


def check_times(k, iters, warmup, batch=None, samples=False):
    assert set(k) - {"per_sample", "samples"} == {"min", "median", "mean", "p95", "max", "stddev", "spread", "iters", "warmup"}
    assert (k["iters"], k["warmup"]) == (iters, warmup), k
    assert 0 < k["min"] <= k["median"] <= k["p95"] <= k["max"] and k["min"] <= k["mean"] <= k["max"], k
    assert abs(k["spread"] - (k["max"] - k["min"]) / k["median"]) <= 1e-3 * max(1, k["spread"]), k
    assert ("per_sample" in k) == (batch is not None), k
    assert batch is None or abs(k["per_sample"] - k["median"] / batch) < 1e-5, k
    assert ("samples" in k) == samples, k
    if samples:
        s = k["samples"]
        assert len(s) == iters and min(s) == k["min"] and max(s) == k["max"], k
        assert abs(statistics.median(s) - k["median"]) < 2e-6 and abs(statistics.mean(s) - k["mean"]) < 2e-6, k


def check_case(line, flop=None, bytes_moved=None):
    assert line["validated"] is True and line["max_diff_after"] == 0 and line["identical"] is True, line
    assert line["device"]["id"] == "cpu:0" and line["impl"].startswith(("cpu:", "reference")), line
    r = line["rates"]
    assert flop is None or r["flop"] == flop, (r, flop)
    assert bytes_moved is None or r["bytes_moved"] == bytes_moved, (r, bytes_moved)
    median = line["kernel_ms"]["median"]
    assert abs(r["tflops"] - r["flop"] / median / 1e9) < 1e-3 and abs(r["gb_per_s"] / (r["bytes_moved"] / median / 1e6) - 1) < .01
    assert r["peak_tflops"] is r["peak_share"] is r["bandwidth_share"] is r["suspect"] is None, "nothing is known of a cpu"
    assert "median" in r["formula"] and r["flop_counted"] and r["bytes_counted"], r


def cases_done(op):
    s = json.loads(server.request("GET", "/v2/models/%s/stats" % op).body)["model_stats"][0]
    return s["inference_stats"]["success"]["count"]


class Sweeps(unittest.TestCase):
    def test_the_tutorials_batches(self):
        """Four batches, cold: each line has its shape, its rate and enough copies to be out of the cache."""
        found = lines(ATTENTION, batch="1,4,16,64", seqlen=16, heads=2, head_dim=32, iters=6, warmup=2)
        self.assertEqual([x["case"]["batch"] for x in found], [1, 4, 16, 64])
        for x in found:
            b = x["case"]["batch"]
            self.assertEqual(x["case"], {"batch": b, "seqlen": 16, "heads": 2, "head_dim": 32})
            self.assertEqual(x["inputs"], {n: {"dtype": "fp16", "shape": [b, 16, 2, 32]} for n in "qkv"})
            check_times(x["kernel_ms"], 6, 2, b)
            size = 4 * b * 16 * 2 * 32 * 2
            check_case(x, 4 * b * 2 * 16 * 16 * 32, size)
            self.assertEqual(x["mode"], "cold")
            r = x["rotation"]
            self.assertEqual((r["cache_bytes"], r["copies"], r["note"]), (CACHE, -(-2 * CACHE // size), None))
            self.assertEqual(r["bytes"], r["copies"] * size)
            self.assertGreaterEqual(r["bytes"], 2 * CACHE)

    def test_defaults(self):
        """No body, no parameters: the tutorial's shapes, 3 and 20 runs."""
        with Bench(RMS, body=b"") as b:
            self.assertEqual(b.reply.status, 200)
            x, done = b.line(), b.line()
            self.assertEqual((x["case"], x["mode"], x["of"]), ({}, "cold", 1))
            self.assertEqual(x["inputs"]["x"], {"dtype": "fp16", "shape": [2048, 4096]})
            self.assertEqual((x["rotation"]["copies"], x["rotation"]["bytes"]), (1, 2 * 2048 * 4096 * 2 + 8192))
            check_times(x["kernel_ms"], 20, 3)
            check_case(x, 4 * 2048 * 4096, 2 * 2048 * 4096 * 2 + 8192)
            self.assertEqual(done, {"done": True, "cases": 1, "failed": 0})
            self.assertIsNone(b.line())

    def test_product(self):
        """The first named varies slowest; parameters, options, dtypes and modes sweep like sizes."""
        found = lines(ATTENTION, seqlen="8,12", causal="true,false", dtype="bf16,fp32", mode="warm,cold", impl="own,naive",
                      batch=1, iters=1, warmup=0)
        self.assertEqual(len(found), 32)
        want = [{"seqlen": s, "causal": c, "dtype": d, "mode": m, "impl": i, "batch": 1} for s in (8, 12)
                for c in (True, False) for d in ("bf16", "fp32") for m in ("warm", "cold") for i in ("own", "naive")]
        self.assertEqual([x["case"] for x in found], want)
        for x in found:
            self.assertEqual(x["mode"], x["case"]["mode"])
            self.assertEqual(x["inputs"]["q"]["dtype"], x["case"]["dtype"])
            self.assertEqual(x["rotation"]["copies"] == 1, x["mode"] == "warm")
            self.assertEqual("naive" in x["impl"], x["case"]["impl"] == "naive")

    def test_json_lists_and_windows(self):
        body = json.dumps({"params": {"batch": [1, 2], "window_size": [[8, 0], [-1, -1]], "iters": 2, "seqlen": 8}}).encode()
        with Bench(ATTENTION, body=body, kind="application/json") as b:
            self.assertEqual([b.line()["case"] for _ in range(4)],
                             [{"batch": n, "window_size": w, "seqlen": 8} for n in (1, 2) for w in ([8, 0], [-1, -1])])
        found = lines(ATTENTION, window_size="8,0;-1,-1", seqlen=8, iters=1)
        self.assertEqual([x["case"]["window_size"] for x in found], [[8, 0], [-1, -1]])

    def test_varlen(self):
        """Packed sequences are made with starts that fit, whose work is counted."""
        for x in lines(VARLEN, batch="1,3", seqlen=10, seqlen_k=14, heads=4, kv_heads=2, head_dim=16, iters=2):
            b = x["case"]["batch"]
            self.assertEqual(x["inputs"]["cu_seqlens_q"], {"dtype": "int32", "shape": [b + 1]})
            self.assertEqual(x["inputs"]["k"]["shape"], [14 * b, 2, 16])
            check_case(x, 4 * b * 4 * 10 * 14 * 16)

    def test_generated_inputs_are_the_specified(self):
        """The same seed, the same inputs, whether generated by name or for a size: their results agree bit for bit."""
        sources = {n: {"generate": "normal", "dtype": "fp16", "shape": [1, 8, 2, 16], "seed": 5} for n in "qkv"}
        body = json.dumps({"inputs": sources, "params": {"iters": 1}}).encode()
        with Bench(ATTENTION, body=body, kind="application/json", impl="own,naive") as b:
            found = [b.line(), b.line()]
        self.assertEqual([x["inputs"]["q"]["shape"] for x in found], [[1, 8, 2, 16]] * 2)
        check_case(found[0])
        # a seed changes the numbers: so does the difference to the baseline, which depends on them
        diffs = [x["baseline"]["max_abs_diff"] for seed in (5, 5, 6) for x in
                 lines(ATTENTION, batch=2, seqlen=64, heads=4, head_dim=32, dtype="fp32", seed=seed, iters=1, baseline="naive")]
        self.assertEqual(diffs[0], diffs[1])
        self.assertNotEqual(diffs[0], diffs[2])
        self.assertTrue(all(0 < d < 1e-4 for d in diffs), diffs)

    def test_given_inputs(self):
        """Tensors in the body, with a sweep over parameters."""
        call = calls.rmsnorm("fp32", shape=(30, 64))
        body, kind = t.multipart(list(call.tensors.items()) + [("eps", "1e-6,1e-3"), ("iters", "4"), ("samples", "true")])
        with Bench(RMS, body=body, kind=kind) as b:
            for eps in (1e-6, 1e-3):
                x = b.line()
                self.assertEqual(x["case"], {"eps": eps})
                check_times(x["kernel_ms"], 4, 3, samples=True)
                check_case(x, 4 * 30 * 64, call.bytes_in + call.bytes_out)
            self.assertEqual(b.line()["failed"], 0)
        body, kind = t.multipart(list(call.tensors.items()))
        r = server.request("POST", RMS + "?rows=5", body, [("Content-Type", kind)])
        problem(r, 400, "conflicting-parameter", param="inputs")

    def test_kept_inputs(self):
        """Tensors that the server keeps, for every case of a sweep; they are free again afterwards."""
        kind = [("Content-Type", "application/json")]
        for name, shape in (("bench-x", [20, 64]), ("bench-w", [64])):
            r = server.request("PUT", "/v1/tensors/" + name,
                               json.dumps({"generate": "normal", "dtype": "bf16", "shape": shape}).encode(), kind)
            self.assertEqual(r.status, 201)
        body = json.dumps({"inputs": {"x": {"tensor": "bench-x"}, "weight": {"tensor": "bench-w"}},
                           "params": {"eps": [1e-6, 1e-3], "mode": ["cold", "warm"], "iters": 2}}).encode()
        with Bench(RMS, body=body, kind="application/json") as b:
            for _ in range(4):
                x = b.line()
                self.assertEqual(x["inputs"]["x"], {"dtype": "bf16", "shape": [20, 64]})
                check_case(x, 4 * 20 * 64, 2 * 20 * 64 * 2 + 128)
            self.assertEqual(b.line()["failed"], 0)
        for name in ("bench-x", "bench-w"):
            until(lambda: not json.loads(server.request("GET", "/v1/tensors").body)["in_use_bytes"], "nothing uses them")
            self.assertEqual(server.request("DELETE", "/v1/tensors/" + name).status, 204)

    def test_samples_and_baseline(self):
        x, = lines(ATTENTION, batch=2, seqlen=32, heads=2, head_dim=16, iters=7, warmup=1, baseline="naive", samples="true")
        check_times(x["kernel_ms"], 7, 1, 2, True)
        check_case(x)
        b = x["baseline"]
        check_times(b["kernel_ms"], 7, 1, samples=True)
        self.assertIn("naive", b["impl"])
        self.assertAlmostEqual(b["speedup"], b["kernel_ms"]["median"] / x["kernel_ms"]["median"], delta=1e-3 * b["speedup"])
        self.assertLess(b["max_abs_diff"], 4e-3)
        self.assertEqual(set(x["memory"]), {"inputs", "outputs", "workspace", "peak", "device_free", "device_total"})


class Streams(unittest.TestCase):
    def test_events(self):
        """SSE: case, error and done; a failed case in the middle does not end the sweep."""
        with Bench(ATTENTION, SSE, batch=1, seqlen=8, heads=4, kv_heads="4,3,2", iters=1) as b:
            self.assertEqual((b.reply.status, b.kind), (200, SSE))
            self.assertEqual(b.reply.getheader("Cache-Control"), "no-cache")
            found = [b.event() for _ in range(4)]
            self.assertEqual(b.reply.read(), b"")
        self.assertEqual([name for name, _ in found], ["case", "error", "case", "done"])
        failed = found[1][1]
        self.assertEqual(failed["case"]["kv_heads"], 3)
        self.assertEqual((failed["index"], failed["of"]), (1, 3))
        self.assertEqual((failed["error"]["type"], failed["error"]["status"]), ("/problems/invalid-shape", 422))
        self.assertIn("4 heads", failed["error"]["detail"])
        self.assertEqual(found[3][1], {"done": True, "cases": 3, "failed": 1})

    def test_all_kinds_of_failed_cases(self):
        """Shapes, devices, memory: each is its case's error, and the next case runs."""
        found = lines(ATTENTION, head_dim="16,300,16", batch="1,900000000", seqlen=8, heads=1, device="cpu:0,hip:7", iters=1)
        kinds = [x.get("error", {}).get("type") for x in found]
        bad_shape, device, memory = "/problems/invalid-shape", "/problems/unknown-device", "/problems/out-of-memory"
        self.assertEqual(kinds, [None, device, memory, device] + [bad_shape] * 4 + [None, device, memory, device])

    def test_accept(self):
        for accept, kind in (("*/*", NDJSON), (NDJSON, NDJSON), ("application/json", NDJSON), (SSE + ";q=0.5, */*", NDJSON),
                             (SSE, SSE), (SSE + ", application/x-ndjson;q=0.9", SSE)):
            with Bench(RMS, accept, rows=2, hidden=8, iters=1) as b:
                self.assertEqual((b.reply.status, b.kind), (200, kind), accept)
                b.reply.read()
        form = [("Content-Type", "application/x-www-form-urlencoded")]
        r = server.request("POST", RMS, b"rows=2", form + [("Accept", "image/png")])
        problem(r, 406, "not-acceptable", param="Accept")
        # a reply that comes in lines is not compressed
        r = server.request("POST", RMS, b"rows=2&hidden=8&iters=1", form + [("Accept-Encoding", "gzip")])
        self.assertIsNone(r.get("content-encoding"))
        self.assertEqual(json.loads(r.body.split(b"\n")[0])["case"], {"rows": 2, "hidden": 8})

    def test_lines_come_one_at_a_time(self):
        """The first case is told long before the last has begun."""
        with Bench(ATTENTION, seqlen="16,16,16,512", batch=2, iters=5, mode="warm") as b:
            begin, at = time.monotonic(), []
            for _ in range(4):
                b.line()
                at.append(time.monotonic() - begin)
            self.assertTrue(b.line()["done"])
        self.assertLess(at[0], at[3] / 2, at)
        self.assertLess(at[2], at[3] / 2, at)

    def test_progress_and_idle_timeout(self):
        """A case that takes longer than the idle timeout (3 s) is told of about once a second, and is not cut."""
        until(lambda: info(server)["server"]["requests"] == 0, "nothing runs")
        iters = self.iterations(5)
        with Bench(ATTENTION, batch=2, seqlen=256, mode="warm", iters=iters, progress="true") as b:
            found, begin = [], time.monotonic()
            while "done" not in (found[-1] if found else {}):
                found.append(b.line())
            self.assertGreater(time.monotonic() - begin, 3.2, "long enough to prove anything")
        steps = [x["progress"] for x in found if "progress" in x]
        self.assertGreaterEqual(len(steps), 2)
        for p in steps:
            self.assertEqual((p["index"], p["of"], p["iterations_of"]), (0, 1, iters + 3))
        counts = [p["iterations"] for p in steps]
        self.assertEqual(counts, sorted(counts))
        self.assertTrue(0 < counts[-1] <= iters + 3, counts)
        self.assertIn("kernel_ms", found[-2])

    def iterations(self, seconds):
        """So many of this test's runs take at least about so long: as if all went as fast as the fastest of a few."""
        x, = lines(ATTENTION, batch=2, seqlen=256, mode="warm", iters=30)
        return min(10000, max(20, int(seconds * 1000 / x["kernel_ms"]["min"])))

    def test_a_client_that_leaves_ends_the_work(self):
        with Bench(ATTENTION, batch=2, seqlen="16,512,512", mode="warm", iters=10000) as b:
            self.assertEqual(b.line()["index"], 0)
        begin = time.monotonic()
        until(lambda: info(server)["server"]["requests"] == 0, "the sweep has ended", 10)
        self.assertLess(time.monotonic() - begin, 8)
        calls.nothing_lent(server)
        self.assertEqual(len(lines(RMS, rows=2, hidden=8, iters=1)), 1)

    def test_clients_that_leave_at_any_moment(self):
        def leave(i):
            with Bench(ATTENTION, SSE if i % 2 else None, batch="1,2,3,4", seqlen="8,64,256", iters=5, baseline="naive") as b:
                time.sleep(i * 0.02)
                b.reply.read(1 + 700 * i)

        threads = [threading.Thread(target=leave, args=(i,)) for i in range(10)]
        for x in threads:
            x.start()
        for x in threads:
            x.join()
        calls.nothing_lent(server)

    def test_a_reader_that_stops_is_waited_for(self):
        """What nobody takes is bounded: the sweep rests, goes on when reading does, and ends with the idle timeout."""
        def params():
            return dict(rows="2,3,4,5,6,7,8,9", hidden="8,16,24,32,40,48,56,64", iters=10000, warmup=0, samples="true", mode="warm")

        with Bench(RMS, **params()) as b:
            found = b.reply.read().decode().splitlines()
        self.assertEqual(len(found), 65)
        self.assertGreater(sum(map(len, found)), 5 << 20, "more than sockets hold")
        before = cases_done("rmsnorm")
        with Bench(RMS, **params()) as b:
            self.assertEqual(b.line()["index"], 0)
            until(lambda: info(server)["server"]["requests"] == 0, "the reader that stopped is given up", 30)
        self.assertLess(cases_done("rmsnorm") - before, 60, "it did not work for nobody")
        calls.nothing_lent(server)

    def test_http_1_0_and_head(self):
        with server.client() as c:
            c.send(b"POST %s?rows=2,3&hidden=8&iters=1 HTTP/1.0\r\nHost: a\r\n\r\n" % RMS.encode())
            while not c.pending.endswith(b'"failed":0}\n'):
                c._more(time.monotonic() + 20)
            self.assertNotIn(b"Transfer-Encoding", c.pending)
            c.pending = b""
            self.assertTrue(c.closed(10))
        r = server.request("GET", RMS)
        problem(r, 405, "method-not-allowed")

    def test_a_server_that_leaves(self):
        """It drains for as long as it may; then the reply breaks off, and nothing is left behind."""
        s = t.Server("--loops", "1", "--threads", "1", "--prefault", "1M", "--drain-timeout", "1",
                     env={"AITERD_CACHE_BYTES": str(CACHE)})
        try:
            with Bench(ATTENTION, at=s, batch=2, seqlen="16,256", mode="warm", iters=10000) as b:
                self.assertEqual(b.line()["index"], 0)
                s.process.send_signal(signal.SIGTERM)
                with self.assertRaises((http.client.IncompleteRead, ConnectionError)):
                    while b.reply.read1(100):
                        pass
            self.assertEqual(s.process.wait(20), 1, "it says that a request was not finished")
            self.assertIn("1 requests unfinished", s.text())
            s.check_sanitizers()
        finally:
            s.kill()

    def test_a_worker_that_dies(self):
        """Its case fails with the worker's end, the next one runs on the new worker."""
        with Bench(ATTENTION, batch=2, seqlen="16,512,16", mode="warm", iters=5000, progress="true") as b:
            while b.line().get("progress", {}).get("index") != 1:
                pass
            os.kill(info(server)["devices"][0]["pid"], signal.SIGKILL)
            failed, good, done = [x for x in iter(b.line, None) if "progress" not in x]
        self.assertEqual(failed["error"]["type"], "/problems/worker-crashed")
        self.assertEqual((good["index"], good["validated"]), (2, True))
        self.assertEqual(done, {"done": True, "cases": 3, "failed": 1})

    def test_keep_alive(self):
        """After the last chunk the connection serves on."""
        with server.client() as c:
            for _ in range(3):
                r = c.request("POST", RMS + "?rows=2,3&hidden=8&iters=1", b"")
                self.assertEqual(len(r.body.splitlines()), 3)
                self.assertEqual(c.request("GET", "/v1/limits").status, 200)


class Errors(unittest.TestCase):
    def refused(self, status, slug, path=ATTENTION, **params):
        how = {k: params.pop(k) for k in ("param", "detail", "found") if k in params}
        r = server.request("POST", path, urllib.parse.urlencode(params).encode(),
                           [("Content-Type", "application/x-www-form-urlencoded")])
        return problem(r, status, slug, **how)

    def test_what_concerns_all_cases(self):
        """Before the first line there is a status of its own for it."""
        self.refused(422, "unknown-parameter", bach=3, param="bach", detail=re.compile("batch"))
        self.refused(422, "invalid-parameter", batch="1,x", param="batch", found="x")
        self.refused(422, "invalid-parameter", batch="1,,2", param="batch")
        self.refused(422, "invalid-parameter", mode="tepid", param="mode")
        self.refused(422, "invalid-parameter", dtype="fp17", param="dtype")
        self.refused(422, "invalid-parameter", iters="10001", param="iters")
        self.refused(422, "invalid-parameter", iters="1,2", param="iters")
        self.refused(400, "conflicting-parameter", batch=1, B=2, param="B")
        self.refused(422, "unsupported-parameter", dropout_p="0.1", param="dropout_p")
        self.refused(422, "unsupported-parameter", dry_run=1, param="dry_run")
        self.refused(422, "unsupported-parameter", outputs="none", param="outputs")
        self.refused(422, "invalid-parameter", batch="1,2,3,4,5,6,7,8,9", seqlen="1,2,3,4,5,6,7,8", param="cases",
                     found="72 cases", detail=re.compile("--max-cases"))
        self.refused(404, "unknown-operator", path="/v1/ops/flash_atn_func/bench")

    def test_bench_options_are_not_a_runs(self):
        r = server.request("POST", "/v1/ops/rmsnorm?mode=cold", *calls.as_safetensors(calls.rmsnorm().tensors, {})[1:])
        problem(r, 422, "unknown-parameter", param="mode")

    def test_the_reference_and_its_time(self):
        """timeout_ms is each case's."""
        found = lines(ATTENTION, batch=1, seqlen="8,4096", heads=1, impl="reference", device="cpu:0", iters=1000, warmup=0,
                      timeout_ms=1000)
        self.assertNotIn("error", found[0])
        self.assertEqual(found[1]["error"]["type"], "/problems/deadline-exceeded")


class Facts(unittest.TestCase):
    def test_what_the_pages_tell(self):
        self.assertEqual(info(server)["devices"][0]["cache_bytes"], CACHE)
        self.assertEqual(json.loads(server.request("GET", "/v1/limits").body)["max_cases"], 64)
        page = json.loads(server.request("GET", "/v1/ops/flash_attn_func").body)
        sizes = {s["name"]: s for s in page["sizes"]}
        self.assertEqual(list(sizes), ["B", "Sq", "Hq", "D", "Sk", "Hk", "Dv"])
        self.assertEqual((sizes["B"]["default"], sizes["Sk"]["default"], sizes["Sk"]["like"]), (2, None, "Sq"))
        self.assertIn("batch", sizes["B"]["aliases"])
        self.assertEqual(json.loads(server.request("GET", "/v1/ops/rmsnorm").body)["sizes"][1]["default"], 4096)

    def test_statistics_count_cases(self):
        def count():
            s = json.loads(server.request("GET", "/v2/models/rmsnorm/stats").body)["model_stats"][0]
            return s["inference_stats"]["success"]["count"], s["execution_count"]
        before = count()
        lines(RMS, rows="2,3", hidden=8, iters=5)
        after = count()
        self.assertEqual((after[0] - before[0], after[1] - before[1]), (2, 10))


if __name__ == "__main__":
    unittest.main()
