#!/usr/bin/python3
"""POST /v1/ops/{op}/check as a client sees it: right results pass, every kind of wrong one is told from the others and
located, the figures are numpy's in float64; determinism, case files and their replay, errors, and clients that leave.
"""
import json
import signal
import unittest

import numpy as np

import aiterd_test as t
import calls
from calls import BODIES, FLOATS, MAKERS, Call, Reply, check_stats, problem, send
from exchange import SAFETENSORS, info, kill, until

EDGES = [0, 1, 2] + [1 << k for k in range(2, 17)]
BUCKETS = ["0", "1", "2"] + ["%d-%d" % (a + 1, b) for a, b in zip(EDGES[2:-1], EDGES[3:])] + [">65536"]
BITS = {"fp32": (np.float32, np.int32), "fp16": (np.float16, np.int16)}

server = None


def setUpModule():
    global server
    server = t.Server("--loops", "2", "--threads", "2", "--prefault", "1M")


def tearDownModule():
    try:
        calls.nothing_lent(server)
    finally:
        server.stop()


def candidate(call, dtype=None, **changed):
    """The call with the right answers as candidates, rounded to the output's dtype or another; `changed` by output."""
    tensors = dict(call.tensors)
    for name, want in call.want.items():
        want = changed.get(name, want)
        tensors["expected." + name] = t.cast(np.asarray(want, np.float64), dtype or call.dtype_of(name))
    return Call(call.op, tensors, call.params, call.want, call.dtype)


def ask(call, body="safetensors", query="", c=None, **how):
    return send(c or server, call, body, query=query, path=call.path + "/check", **how)


def verdict(call, body="safetensors", query="", **how):
    r = ask(call, body, query, **how)
    assert r.status == 200 and r.get("content-type") == "application/json", r
    v = json.loads(r.body.decode("ascii"))
    assert v["op"] == call.op and v["pass"] == all(o["pass"] for o in v["outputs"].values()), v
    assert json.loads(r.get("aiterd-stats"))["impl"] == v["impl"] == v["stats"]["impl"], v
    return v


def ordinals(values, dtype):
    """How many numbers of this dtype lie between 0 and each value, rounded to it."""
    rounded = t.cast(np.asarray(values, np.float64), dtype)
    if dtype == "bf16":
        bits = rounded.view(np.int16)
    else:
        bits = rounded.view(BITS[dtype][1])
    bits = bits.astype(np.int64)
    return np.where(bits < 0, -(bits & (0x7FFFFFFF if dtype == "fp32" else 0x7FFF)), bits)


def figures(a, b, dtype, atol, rtol):
    """What the verdict must say of a against b, as numpy sees it."""
    d, n = np.abs(a - b), a.size
    steps = np.abs(ordinals(a, dtype) - ordinals(b, dtype))
    ulp = np.histogram(np.searchsorted(EDGES, steps), np.arange(len(BUCKETS) + 1))[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        rel = (d / np.abs(b))[b != 0].max()
    bad = int((d > atol + rtol * np.abs(b)).sum())
    return {"max_abs": d.max(), "max_rel": rel, "mean_abs": d.mean(), "rmse": np.sqrt((d * d).mean()),
            "cosine": (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), "ulp": ulp, "mismatched": bad, "total": n,
            "mismatched_share": bad / n}


class Right(unittest.TestCase):
    def test_right_results_pass(self):
        """Each operator, dtype and form; as the output's dtype and as fp64."""
        for make in MAKERS:
            for dtype in FLOATS:
                call = make(dtype, causal=True) if make is not calls.rmsnorm else make(dtype)
                for body in BODIES:
                    for given in (None, "fp64"):
                        with self.subTest(call.op, dtype=dtype, body=body, given=given):
                            v = verdict(candidate(call, given), body)
                            self.assertTrue(v["pass"], v["summary"])
                            self.assertEqual(set(v["outputs"]), set(call.want))
                            for name, o in v["outputs"].items():
                                self.assertEqual(o["tolerance_from"], "%s of %s" % (call.dtype_of(name), call.op))
                                self.assertEqual(o["dtype"], call.dtype_of(name))
                                self.assertEqual(o["your_dtype"], given or call.dtype_of(name))
                                self.assertEqual(o["vs_reference"]["mismatched"], 0)
                                self.assertTrue(o["nan"]["agree"] and o["inf"]["agree"])
                                self.assertIsNone(o["looks_like"], name)
                                self.assertIsNone(o["mismatched_within"])

    def test_own_output_passes(self):
        """What the server itself answers is 0 units off the kernel."""
        for make in MAKERS:
            for dtype in FLOATS:
                call = make(dtype)
                outputs = Reply(send(server, call, "safetensors")).outputs
                tensors = {**call.tensors, **{"expected." + n: a for n, a in outputs.items()}}
                v = verdict(Call(call.op, tensors, call.params, {}, dtype))
                self.assertTrue(v["pass"], v["summary"])
                for o in v["outputs"].values():
                    self.assertEqual(o["vs_kernel"]["ulp"]["0"], o["vs_kernel"]["total"])
                    self.assertEqual(o["vs_reference"], o["kernel_vs_reference"])

    def test_figures(self):
        """Errors of all sizes: every figure is numpy's."""
        for make in MAKERS:
            for dtype in FLOATS:
                call = make(dtype, lse=False) if make is not calls.rmsnorm else make(dtype, shape=(20, 40))
                exact = call.want["out"]
                noise = np.random.default_rng(3).standard_normal(exact.shape)
                yours = t.cast(exact + noise * 10.0 ** np.linspace(-8, 0, exact.size).reshape(exact.shape), dtype)
                tensors = {**call.tensors, "expected.out": yours}
                kernel = t.to_float(Reply(send(server, call)).outputs["out"]).astype(np.float64)
                for atol, rtol in ((None, None), (1e-2, 1e-3), (0, 1e-2)):
                    query = "" if atol is None else "atol=%g&rtol=%g" % (atol, rtol)
                    o = verdict(Call(call.op, tensors, call.params, {}, dtype), query=query)["outputs"]["out"]
                    self.assertEqual((o["atol"], o["rtol"]), (t.TOLERANCE[dtype],) * 2 if atol is None else (atol, rtol))
                    self.assertEqual(o["tolerance_from"], "%s of %s" % (dtype, call.op) if atol is None else "given")
                    mine = t.to_float(yours).astype(np.float64)
                    for pair, a, b in (("vs_reference", mine, exact), ("vs_kernel", mine, kernel),
                                       ("kernel_vs_reference", kernel, exact)):
                        want, got = figures(a, b, dtype, o["atol"], o["rtol"]), o[pair]
                        self.assertEqual(set(got), set(want))
                        ulp = [got["ulp"].get(n, 0) for n in BUCKETS]
                        self.assertEqual(set(got["ulp"]) - set(BUCKETS), set())
                        self.assertEqual(ulp, list(want["ulp"]), (pair, dtype))
                        for name in set(want) - {"ulp"}:
                            self.assertTrue(np.isclose(got[name], want[name], rtol=1e-7, atol=1e-13),
                                            (call.op, dtype, pair, name, got[name], want[name]))

    def test_tolerances_given_by_half(self):
        call = candidate(calls.rmsnorm("fp16"))
        o = verdict(call, query="rtol=0.5")["outputs"]["out"]
        self.assertEqual((o["rtol"], o["atol"], o["tolerance_from"]), (0.5, 2e-3, "rtol given, atol of fp16 of rmsnorm"))
        o = verdict(call, query="atol=0&rtol=0")["outputs"]["out"]
        self.assertFalse(o["pass"])
        self.assertGreater(o["vs_reference"]["mismatched"], 100)
        self.assertEqual(o["vs_reference"]["ulp"]["0"], o["vs_reference"]["total"])

    def test_optional_output_is_asked_for(self):
        call = calls.attention("bf16", lse=False, causal=True)
        lse = t.attention(*(t.to_float(call.tensors[n]) for n in "qkv"), True)[1]
        tensors = {**call.tensors, "expected.softmax_lse": lse.astype(np.float32)}
        v = verdict(Call(call.op, tensors, call.params, {}, "bf16"))
        self.assertEqual(set(v["outputs"]), {"softmax_lse"})
        self.assertTrue(v["pass"], v["summary"])
        tensors["expected.softmax_lse"] = (lse / np.log(2)).astype(np.float32)
        v = verdict(Call(call.op, tensors, call.params, {}, "bf16"))
        self.assertEqual(v["outputs"]["softmax_lse"]["looks_like"], "scaled by 1.443", "a logarithm of another base")

    def test_statistics_are_the_kernels(self):
        call = calls.attention("fp16", lse=False)
        r = ask(candidate(call), query="iters=3&warmup=1&baseline=naive&runs=2")
        reply = Reply(send(server, call))
        reply.header, reply.stats, reply.r = json.loads(r.get("aiterd-stats")), json.loads(r.body.decode())["stats"], r
        reply.form = "json"
        check_stats(reply, call, warmup=1, iters=3, baseline=True)

    def test_nothing_to_judge(self):
        v = verdict(candidate(calls.rmsnorm(shape=(0, 8))))
        self.assertTrue(v["pass"])
        self.assertEqual(v["outputs"]["out"]["vs_reference"]["total"], 0)
        self.assertIsNone(v["outputs"]["out"]["vs_reference"]["rmse"])


class Wrong(unittest.TestCase):
    def judged(self, call, out, query=""):
        v = verdict(candidate(call, out=out), query=query)
        return v, v["outputs"]["out"]

    def test_one_element_of_an_attention_output(self):
        """Planted and found, in each dtype and layout, wherever it is."""
        random = np.random.default_rng(11)
        for dtype in FLOATS:
            for _ in range(4):
                call = calls.attention(dtype, shape=(2, 37, 41, 4, 2, 16, 24), lse=False, causal=True)
                want = call.want["out"].copy()
                where = tuple(int(random.integers(n)) for n in want.shape)
                want[where] += 0.25
                v, o = self.judged(call, want)
                self.assertFalse(v["pass"])
                self.assertEqual(o["vs_reference"]["mismatched"], 1)
                self.assertEqual(o["worst"][0]["index"], list(where))
                self.assertTrue(np.isclose(o["worst"][0]["reference"], want[where] - 0.25, rtol=1e-9))
                self.assertTrue(np.isclose(o["worst"][0]["abs"], 0.25, atol=2e-2))
                self.assertLess(o["worst"][1]["abs"], 0.02)
                self.assertEqual(o["mismatched_within"], {"from": list(where), "to": list(where)})
                self.assertEqual(o["looks_like"], "one element")
                self.assertEqual(o["kernel_vs_reference"]["mismatched"], 0)
                self.assertRegex(v["summary"], r"out: 1 of %d elements off, worst at \[%s\]: yours .*, float64 " %
                                 (want.size, ",".join(map(str, where))))

    def test_kinds(self):
        """Each kind in each operator is told from the others."""
        for make in MAKERS:
            for dtype in FLOATS:
                call = {calls.rmsnorm: lambda: calls.rmsnorm(dtype, shape=(4, 24, 24)),
                        calls.attention: lambda: calls.attention(dtype, shape=(2, 24, 30, 6, 3, 16, 24), lse=False),
                        calls.varlen: lambda: calls.varlen(dtype, lengths=((9, 20), (15, 31)), lse=False)}[make]()
                want = call.want["out"]
                axes = {calls.rmsnorm: (1, 2), calls.attention: (1, 2), calls.varlen: (0, 1)}[make]
                some, other = want.copy(), want.copy()
                some[..., 3] = 0
                other.flat[:3] = -other.flat[:3] - 1
                kinds = {
                    "all zeros": want * 0,
                    "all NaN": want * np.nan,
                    "sign flipped": -want,
                    "scaled by 2": 2 * want,
                    "transposed (axes %d and %d swapped)" % axes: np.swapaxes(want, *axes).reshape(want.shape),
                    "shifted by 1 along axis 0": np.roll(want, 1, 0),
                    "off by a constant, 3": want + 3,
                    "only at index 3 of axis %d" % (want.ndim - 1): some,
                }
                for kind, out in kinds.items():
                    with self.subTest(call.op, dtype=dtype, kind=kind):
                        v, o = self.judged(call, out)
                        self.assertFalse(v["pass"])
                        if kind.startswith("only"):
                            self.assertTrue(o["looks_like"].startswith("zeros in "), o["looks_like"])
                            self.assertTrue(o["looks_like"].endswith(kind), o["looks_like"])
                        else:
                            self.assertEqual(o["looks_like"], kind, v["summary"])
                        self.assertIn("looks like: " + o["looks_like"], v["summary"])

    def test_not_a_number(self):
        call = calls.attention("fp16", lse=False)
        want = call.want["out"].copy()
        want[0, 1, 2, 3] = want[1, 4, 0, 7] = np.nan
        v, o = self.judged(call, want)
        self.assertEqual(o["looks_like"], "NaN in 2 elements")
        self.assertEqual(o["nan"], {"yours": 2, "kernel": 0, "reference": 0, "agree": False})
        self.assertEqual([w["index"] for w in o["worst"][:2]], [[0, 1, 2, 3], [1, 4, 0, 7]])
        self.assertEqual((o["worst"][0]["yours"], o["worst"][0]["abs"]), ("NaN", None))
        self.assertRegex(v["summary"], r"worst at \[0,1,2,3\]: yours NaN, float64 [-0-9]")
        self.assertEqual(o["mismatched_within"], {"from": [0, 1, 0, 3], "to": [1, 4, 2, 7]})

    def test_infinities(self):
        """A row of V that is infinite: infinities of the right sign are right, of the other they are not."""
        call = calls.attention("fp32", shape=(1, 6, 6, 2, 2, 8, 8), lse=False, causal=True)
        call.tensors["v"][0, 4, 1, 5] = np.inf
        want = call.want["out"].copy()
        want[0, 4:, 1, 5] = np.inf  # the two queries that see this key
        v, o = self.judged(call, want)
        self.assertTrue(v["pass"], v["summary"])
        self.assertEqual(o["inf"], {"yours": 2, "kernel": 2, "reference": 2, "agree": True})
        want[0, 4:, 1, 5] = -np.inf
        v, o = self.judged(call, want)
        self.assertEqual(o["looks_like"], "infinity of the wrong sign in 2 elements")
        self.assertFalse(o["inf"]["agree"])
        want[0, 4:, 1, 5] = 7
        v, o = self.judged(call, want)
        self.assertEqual((o["vs_reference"]["mismatched"], o["inf"]["agree"]), (2, False))

    def test_truncation(self):
        """bf16 cut off instead of rounded passes, and is told; so is fp16."""
        for dtype, bits in (("bf16", 16), ("fp16", 13)):
            call = calls.rmsnorm(dtype, shape=(16, 64))
            cut = (call.want["out"].astype(np.float32).view(np.uint32) >> bits << bits).view(np.float32)
            for given in (dtype, "fp32"):
                v = verdict(candidate(call, given, out=cut))
                self.assertTrue(v["pass"])
                self.assertEqual(v["outputs"]["out"]["looks_like"], "truncated instead of rounded")
                self.assertIn("truncated", v["summary"])
            tight = {"bf16": 2.0 ** -8, "fp16": 2.0 ** -11}[dtype] * 1.001
            v = verdict(candidate(call, out=cut), query="rtol=%r&atol=1e-9" % tight)
            self.assertFalse(v["pass"])
            self.assertEqual(v["outputs"]["out"]["looks_like"], "truncated instead of rounded")
            self.assertTrue(verdict(candidate(call), query="rtol=%r&atol=1e-9" % tight)["pass"], "rounded")

    def test_causal_forgotten(self):
        """A wrong mask is no kind of the list; what is known is that the kernel is right."""
        call = calls.attention("fp16", shape=(1, 40, 40, 2, 2, 16, 16), lse=False, causal=True)
        q, k, v = (t.to_float(call.tensors[n]) for n in "qkv")
        _, o = self.judged(call, t.attention(q, k, v, False)[0])
        self.assertIsNone(o["looks_like"])
        self.assertGreater(o["vs_reference"]["mismatched_share"], 0.5)
        self.assertEqual(o["kernel_vs_reference"]["mismatched"], 0)


class Determinism(unittest.TestCase):
    def test_runs(self):
        for make in MAKERS:
            v = verdict(candidate(make("fp16")), query="runs=4")
            self.assertEqual(v["determinism"], {"runs": 4, "identical": True, "differing": 0, "runs_differing": 0})
        self.assertNotIn("determinism", verdict(candidate(calls.rmsnorm())))
        for bad in ("0", "1001", "-1", "x"):
            problem(ask(candidate(calls.rmsnorm()), query="runs=" + bad), 422, "invalid-parameter", param="runs")


class Cases(unittest.TestCase):
    def test_replay(self):
        """The file holds all that is needed: the same verdict from it, on another server too."""
        call = calls.attention("bf16", causal=True, window_size=[3, 0], softmax_scale=0.4)
        want = call.want["out"].copy()
        want[1, 2, 3, 4] += 1
        told = candidate(call, out=want)
        with t.Server("--loops", "1", "--threads", "1", "--prefault", "1M") as other:
            for body, how in (("multipart", {}), ("json", {"headers": [("Accept", "application/x-safetensors")]}),
                              ("safetensors", {"headers": [("Accept-Encoding", "gzip")]})):
                query = "rtol=0.03&timeout_ms=9999&impl=own" + ("" if body == "json" else "&format=safetensors")
                r = ask(told, body, query=query, **how)
                self.assertEqual((r.status, r.get("content-type")), (200, "application/x-safetensors"), r)
                file = calls.decoded(r)
                tensors, metadata = t.safetensors_parse(file)
                self.assertEqual(set(metadata), {"op", "params", "verdict", "aiterd_case"})
                self.assertEqual((metadata["op"], metadata["aiterd_case"]), (call.op, "1"))
                self.assertEqual(set(json.loads(metadata["params"])), set(call.params) | {"rtol"})
                self.assertEqual(set(tensors), set(told.tensors))
                for name, a in told.tensors.items():
                    self.assertEqual(tensors[name].tobytes(), a.tobytes(), name)
                first = json.loads(metadata["verdict"])
                for s in (server, other):
                    again = s.request("POST", call.path + "/check", file, [SAFETENSORS])
                    self.assertEqual(again.status, 200, again)
                    second = json.loads(again.body.decode())
                    for v in (first, second):
                        self.assertFalse(v["pass"])
                        self.assertEqual(v["outputs"]["out"]["worst"][0]["index"], [1, 2, 3, 4])
                        self.assertEqual(v["outputs"]["out"]["tolerance_from"], "rtol given, atol of bf16 of " + call.op)
                    self.assertEqual(first["outputs"], second["outputs"])
                    self.assertEqual(first["summary"], second["summary"])
        problem(server.request("POST", "/v1/ops/rmsnorm/check", file, [SAFETENSORS]), 422, "unknown-input")


class Sources(unittest.TestCase):
    """Inputs and candidates that nobody sends."""

    def ask(self, inputs, path="/v1/ops/rmsnorm/check", query=""):
        body = json.dumps({"inputs": inputs}).encode()
        return server.request("POST", path + query, body, [("Content-Type", "application/json")])

    def test_generated(self):
        made = {"x": {"generate": "normal", "dtype": "fp16", "shape": [50, 64], "seed": 3},
                "weight": {"generate": "uniform", "dtype": "fp16", "shape": [64], "seed": 3, "low": 1, "high": 2}}
        out = json.loads(self.ask(made, "/v1/ops/rmsnorm", "?json=base64").body.decode())["outputs"]["out"]
        mine = {"dtype": out["dtype"], "shape": out["shape"], "base64": out["base64"]}
        r = self.ask({**made, "expected.out": mine})
        self.assertEqual(r.status, 200, r)
        v = json.loads(r.body.decode())
        self.assertTrue(v["pass"], v["summary"])
        self.assertEqual(v["outputs"]["out"]["vs_kernel"]["ulp"]["0"], 3200)
        for shape in ([50, 64], [5000, 64]):  # on the loop, and in pieces on helpers
            made["x"]["shape"] = shape
            for what, looks in (("zeros", "all zeros"), ("normal", None)):
                r = self.ask({**made, "expected.out": {"generate": what, "dtype": "fp32", "shape": shape, "seed": 9}})
                self.assertEqual(r.status, 200, r)
                o = json.loads(r.body.decode())["outputs"]["out"]
                self.assertEqual((o["pass"], o["looks_like"], o["your_dtype"]), (False, looks, "fp32"))
                self.assertLess(abs(o["vs_reference"]["cosine"] or 0), 0.2)
        r = self.ask({**made, "expected.out": {"generate": "ones", "dtype": "fp16", "shape": [2]}})
        problem(r, 422, "invalid-shape", input="expected.out")
        # the case holds the numbers themselves
        made["x"]["shape"] = [50, 64]
        r = self.ask({**made, "expected.out": mine}, query="?format=safetensors")
        tensors, _ = t.safetensors_parse(r.body)
        self.assertEqual(set(tensors), {"x", "weight", "expected.out"})
        want = t.rmsnorm(t.to_float(tensors["x"]), t.to_float(tensors["weight"]))
        t.assert_close(tensors["expected.out"], want, "fp16")
        again = json.loads(server.request("POST", "/v1/ops/rmsnorm/check", r.body, [SAFETENSORS]).body.decode())
        self.assertTrue(again["pass"])


    def test_kept(self):
        """Inputs and candidate that the server has; on a run's output that it kept, too."""
        call = calls.rmsnorm("bf16")
        try:
            for name, a in (("x", call.tensors["x"]), ("w", call.tensors["weight"]),
                            ("mine", t.cast(call.want["out"], "fp64"))):
                r = server.request("PUT", "/v1/tensors/check." + name, t.npy(a), [("Content-Type", "application/x-npy")])
                self.assertEqual(r.status, 201, r)
            inputs = {"x": {"tensor": "check.x"}, "weight": {"tensor": "check.w"}}
            self.assertEqual(self.ask(inputs, "/v1/ops/rmsnorm", "?keep.out=check.out&outputs=none").status, 200)
            for candidate_name in ("check.mine", "check.out"):
                r = self.ask({**inputs, "expected.out": {"tensor": candidate_name}}, query="?runs=2")
                self.assertEqual(r.status, 200, r)
                v = json.loads(r.body.decode())
                self.assertTrue(v["pass"] and v["determinism"]["identical"], v["summary"])
            r = self.ask({**inputs, "expected.out": {"tensor": "check.x"}}, query="?format=safetensors")
            tensors, metadata = t.safetensors_parse(r.body)
            self.assertFalse(json.loads(metadata["verdict"])["pass"])
            self.assertEqual(tensors["expected.out"].tobytes(), call.tensors["x"].tobytes())
            p = problem(self.ask({**inputs, "expected.out": {"tensor": "check.none"}}), 422, "unknown-tensor")
            self.assertEqual(p["input"], "expected.out")
            problem(self.ask({**inputs, "expected.out": {"tensor": "check.x"}}, query="?keep.out=y"), 422,
                    "unknown-parameter", param="keep.out")
        finally:
            for name in ("x", "w", "mine", "out"):
                server.request("DELETE", "/v1/tensors/check." + name)


class Errors(unittest.TestCase):
    def refused(self, status, slug, tensors, query="", op="rmsnorm", body="safetensors", **members):
        p = problem(ask(Call(op, tensors, {}, {}, ""), body, query), status, slug, **members)
        self.assertEqual(p["op"], op)
        return p

    def test_candidates(self):
        good = candidate(calls.rmsnorm("fp16")).tensors
        bare = calls.rmsnorm("fp16").tensors
        for body in ("safetensors", "multipart", "json"):
            self.refused(422, "missing-input", bare, body=body, input="expected.out")
            p = self.refused(422, "unknown-input", {**good, "expected.y": good["x"]}, body=body, input="expected.y",
                             wanted="expected.out")
            self.assertRegex(p["detail"], "no output 'y'")
            self.refused(422, "invalid-shape", {**good, "expected.out": good["x"][0]}, body=body, input="expected.out",
                         found="[3, 40]", wanted="[2, 3, 40]")
            self.refused(422, "invalid-dtype", {**good, "expected.out": np.ones((2, 3, 40), np.int32)}, body=body,
                         input="expected.out", found="int32")
        self.refused(422, "unknown-input", {**good, "expected.x": good["x"]}, input="expected.x")
        self.refused(422, "missing-input", {n: good[n] for n in ("x", "expected.out")}, input="weight")
        call = candidate(calls.attention("fp16", lse=False))
        p = self.refused(422, "invalid-shape", {**call.tensors, "expected.out": np.swapaxes(
            call.tensors["expected.out"], 1, 2).copy()}, op=call.op, input="expected.out")
        self.assertRegex(p["detail"], "other layout")

    def test_options(self):
        good = candidate(calls.rmsnorm("fp16"))
        for query, param in (("rtol=-1", "rtol"), ("atol=x", "atol"), ("rtol=nan", "rtol"), ("runs=1.5", "runs")):
            self.refused(422, "invalid-parameter", good.tensors, query, param=param)
        self.refused(422, "unknown-parameter", good.tensors, "rtoll=1", param="rtoll", wanted="rtol")
        self.refused(406, "not-acceptable", good.tensors, "format=npy", param="format")
        self.refused(422, "unavailable-impl", good.tensors, "impl=aiter", param="impl")
        self.refused(422, "unknown-device", good.tensors, "device=hip:0", param="device")
        for accept in ("application/x-npy", "text/html"):
            problem(ask(good, headers=[("Accept", accept)]), 406, "not-acceptable")
        # a run knows none of these
        for name in ("rtol", "atol", "runs"):
            problem(send(server, calls.rmsnorm(), query=name + "=1"), 422, "unknown-parameter", param=name)
        problem(send(server, good), 422, "expected-without-check", wanted="POST /v1/ops/rmsnorm/check")
        self.assertEqual(server.request("GET", "/v1/ops/rmsnorm/check").status, 405)

    def test_dry_run(self):
        r = ask(candidate(calls.rmsnorm("fp16")), query="dry_run=1")
        self.assertEqual((r.status, json.loads(r.body.decode())["dry_run"]), (200, True))

    def test_time_is_up(self):
        call = calls.attention("fp32", shape=(1, 512, 512, 8, 8, 64, 64), lse=False)
        problem(ask(candidate(call), query="timeout_ms=0.5"), 504, "deadline-exceeded")
        problem(ask(candidate(call), query="timeout_ms=50&runs=1000"), 504, "deadline-exceeded")


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


class Faults(unittest.TestCase):
    """What takes seconds: three kernels and a reference of 34 GFLOP on one core, in a server of its own."""

    @classmethod
    def setUpClass(cls):
        cls.server = t.Server("--loops", "1", "--threads", "1", "--prefault", "1M")
        q = t.normal((1, 4096, 8, 64), "fp16", 1)
        cls.big = t.safetensors({"q": q, "k": q, "v": q, "expected.out": q}, params={"runs": 3})

    @classmethod
    def tearDownClass(cls):
        try:
            calls.nothing_lent(cls.server)
        finally:
            cls.server.stop()

    def begin(self, c):
        c.send(c.head("POST", "/v1/ops/flash_attn_func/check", [SAFETENSORS], len(self.big)), self.big)
        until(lambda: info(self.server)["server"]["requests"] == 1, "the request is in hand", 20)

    def test_client_leaves(self):
        with self.server.client(60) as c:
            self.begin(c)
        until(lambda: info(self.server)["server"]["requests"] == 0, "the request is over", 60)
        self.goes_on()

    def test_client_leaves_a_reference_of_minutes(self):
        """A single run on the cpu ends in its middle when nobody wants it any more."""
        q, k = t.normal((1, 16384, 32, 64), "fp16", 1), t.normal((1, 16384, 1, 64), "fp16", 2)
        body = t.safetensors({"q": q, "k": k, "v": k}, params={"impl": "reference"})
        with self.server.client(60) as c:
            c.send(c.head("POST", "/v1/ops/flash_attn_func", [SAFETENSORS], len(body)), body)
            worker = info(self.server)["devices"][0]["pid"]
            before = cpu_ticks(worker)
            until(lambda: cpu_ticks(worker) > before + 20, "the worker computes", 60)
        until(lambda: info(self.server)["server"]["requests"] == 0, "the request is over", 15)
        self.assertEqual(info(self.server)["devices"][0]["pid"], worker, "it was not killed for it")
        self.goes_on()

    def test_worker_dies(self):
        with self.server.client(120) as c:
            self.begin(c)
            worker = info(self.server)["devices"][0]["pid"]
            before = cpu_ticks(worker)
            until(lambda: cpu_ticks(worker) > before + 20, "the worker computes", 60)
            kill(worker, signal.SIGKILL)
            p = problem(c.response("POST"), 500, "worker-crashed")
            self.assertRegex(p["detail"], "^the (kernel|kernel, run again|float64 reference): ")
        self.goes_on()

    def goes_on(self):
        until(lambda: info(self.server)["devices"][0]["state"] == "ready", "the worker is back", 60)
        v = verdict(candidate(calls.rmsnorm("fp16")), c=self.server)
        self.assertTrue(v["pass"])


class OtherDevice(unittest.TestCase):
    def test_emulated(self):
        """The kernel on one device, the reference on the cpu."""
        import test_emulated
        why = test_emulated.missing()
        if why:
            self.skipTest(why)
        with t.Server(*test_emulated.OPTIONS) as s:
            until(lambda: info(s)["devices"][0]["state"] == "ready", "the emulated device is ready", 60)
            for call in (calls.rmsnorm("bf16"), calls.attention("fp16", shape=(1, 16, 16, 1, 1, 64, 64), lse=False)):
                v = verdict(candidate(call), query="runs=2", c=s)
                self.assertTrue(v["pass"], v["summary"])
                self.assertEqual(v["stats"]["device"]["id"], "emulated:0")
                self.assertTrue(v["impl"].startswith("own:"), v["impl"])
                self.assertEqual(v["reference"]["device"], "cpu:0")
                self.assertTrue(v["determinism"]["identical"])


if __name__ == "__main__":
    unittest.main()
