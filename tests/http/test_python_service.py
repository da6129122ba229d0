#!/usr/bin/python3
"""clients/python's ways to what the service offers beside running: inputs generated on the server, kept tensors, check and
its saved cases, bench, jobs.
"""
import os
import sys
import tempfile
import threading
import time
import unittest

import numpy as np

import aiterd_test as t

sys.path.insert(0, os.path.join(t.HERE, "..", "..", "clients", "python"))
import aiter_remote as ar  # noqa: E402

server = None


def setUpModule():
    global server
    server = t.Server("--loops", "2", "--threads", "2", "--prefault", "1M")
    ar.configure(server.url)


def tearDownModule():
    ar.default_client().close()
    server.stop()


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


class Generated(unittest.TestCase):
    def test_same_numbers_on_both_sides(self):
        """RMSNorm of what the server generated is that of what is generated here; the places of inputs differ."""
        w = np.ones(64, np.float32)
        for how in ({}, {"mean": 3, "std": 0.1}, {"stream": 5}):
            x = ar.generated("normal", (7, 64), "fp32", seed=11, **how)
            got = ar.rmsnorm(x, w)
            self.assertEqual((type(got), got.dtype, x.array().dtype), (np.ndarray, np.float32, np.float32))
            t.assert_close(got, t.rmsnorm(x.array(), w), "fp32")
        q, k, v = (ar.generated("normal", (1, 40, 2, 16), "bf16", seed=3) for _ in range(3))
        out = ar.flash_attn_func(q, k, v, causal=True)
        here = [x.array(stream=i).float() for i, x in enumerate((q, k, v))]
        t.assert_close(np.asarray(out.float() if isinstance(out, ar.BF16) else out, np.float64),
                       t.attention(*here, causal=True)[0], "bf16")
        self.assertFalse(np.array_equal(here[0], here[1]))

    def test_kinds_and_dtypes(self):
        self.assertEqual(ar.generated("arange", 6, np.int32, start=3).array().tolist(), [3, 4, 5, 6, 7, 8])
        self.assertEqual(ar.generated("ones", (2, 2), "torch.float16").array().dtype, np.float16)
        self.assertEqual(ar.generated("uniform", 3, "half").spec["dtype"], "fp16")
        with self.assertRaisesRegex(RuntimeError, "there is no dtype 'int3'"):
            ar.generated("zeros", 3, "int3")
        with self.assertRaises(RuntimeError):
            ar.rmsnorm(ar.generated("nonsense", (2, 8), "fp32"), np.ones(8, np.float32))


class Kept(unittest.TestCase):
    def setUp(self):
        self.c = ar.default_client()

    def tearDown(self):
        for x in self.c.tensors()["tensors"]:
            self.c.delete(x["name"])

    def test_round_trip(self):
        for x in (normal(3, 5), normal(3, 5, dtype=np.float16), ar.BF16.of(normal(3, 5)), np.arange(4), np.array([True, False]),
                  np.zeros((0, 3), np.float32)):
            with self.subTest(dtype=x.dtype):
                kept = self.c.put("a", x)
                self.assertEqual(kept.about["shape"], list(x.shape))
                back = self.c.get("a", like=x)
                self.assertEqual((type(back), back.dtype), (type(x), x.dtype))
                np.testing.assert_array_equal(np.asarray(back), np.asarray(x))
                self.assertEqual(self.c.head(kept.about["id"])["name"], kept.about["name"])
        self.assertTrue(self.c.delete("a"))
        self.assertFalse(self.c.delete("a"))
        self.assertIsNone(self.c.head("a"))
        with self.assertRaises(ar.AiterdError) as caught:
            self.c.get("a")
        self.assertEqual(caught.exception.status, 404)

    def test_as_inputs_and_outputs(self):
        """A weight kept once, by name and by id; an output kept, and the next call's input without coming here."""
        x, w = normal(6, 64), normal(64, seed=2)
        weight = ar.put("w1", w)
        t.assert_close(ar.rmsnorm(x, weight), t.rmsnorm(x, w), "fp32")
        t.assert_close(ar.rmsnorm(x, ar.kept(weight.about["id"])), t.rmsnorm(x, w), "fp32")
        with ar.options(keep={"out": "h1"}, outputs="none"):
            h1 = ar.rmsnorm(x, weight)
        self.assertIsInstance(h1, ar.Kept)
        t.assert_close(ar.rmsnorm(h1, weight), t.rmsnorm(t.rmsnorm(x, w), w), "fp32")
        t.assert_close(ar.get("h1"), t.rmsnorm(x, w), "fp32")
        with self.assertRaisesRegex(RuntimeError, "nobody"):
            ar.rmsnorm(x, ar.kept("nobody"))

    def test_is_not_uploaded_twice(self):
        big = normal(100, 1000)
        first = self.c.put("one", big)
        sent = []
        plain = self.c.transport.request

        def request(method, target, headers=None, pieces=(), **how):
            sent.append((method, sum(p.nbytes for p in pieces)))
            return plain(method, target, headers, pieces, **how)
        self.c.transport.request = request
        try:
            second = self.c.put("two", big)
            changed = big.copy()
            changed[0, 0] += 1
            third = self.c.put("three", changed)
        finally:
            del self.c.transport.request
        self.assertEqual(second.about["id"], first.about["id"])
        self.assertNotEqual(third.about["id"], first.about["id"])
        self.assertEqual([m for m, _ in sent], ["HEAD", "PUT"] * 2)
        self.assertLess(sent[1][1], 200)
        self.assertGreater(sent[3][1], big.nbytes)
        np.testing.assert_array_equal(self.c.get("two"), big)
        with self.assertRaises(ar.AiterdError) as caught:
            self.c.put("two", changed, replace=False)
        self.assertEqual(caught.exception.status, 412)

    def test_generated_and_ttl(self):
        x = ar.generated("normal", (4, 64), "fp32", seed=4)
        kept = self.c.put("g", x, ttl=1000)
        self.assertLessEqual(990, kept.about["expires_in_s"])
        self.assertLessEqual(kept.about["expires_in_s"], 1000)
        np.testing.assert_array_equal(self.c.get("g"), x.array())


class Check(unittest.TestCase):
    def test_one_wrong_element_is_found(self):
        q, k, v = (normal(2, 33, 4, 16, seed=i, dtype=np.float16) for i in range(3))
        mine = t.attention(q, k, v, causal=True)[0].astype(np.float16)
        verdict = ar.check(ar.flash_attn_func, mine, q, k, v, causal=True)
        self.assertTrue(verdict)
        self.assertTrue(verdict.passed)
        mine[1, 5, 2, 6] += 0.25
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "case.safetensors")
            verdict = ar.check("flash_attn_func", {"out": mine}, q=q, k=k, v=v, causal=True, save=file)
            self.assertFalse(verdict)
            self.assertEqual(verdict["outputs"]["out"]["worst"][0]["index"], [1, 5, 2, 6])
            self.assertEqual(verdict["outputs"]["out"]["vs_reference"]["mismatched"], 1)
            self.assertIn("1 of %d elements off" % mine.size, str(verdict))
            self.assertIn("[1, 5, 2, 6]".replace(" ", ""), str(verdict).replace(" ", ""))
            again = ar.default_client().replay(file)
            self.assertEqual(again["outputs"]["out"]["worst"][0]["index"], [1, 5, 2, 6])
            with open(file, "wb") as f:
                f.write(b"\4\0\0\0\0\0\0\0{}  ")
            with self.assertRaisesRegex(ar.AiterdError, "is no saved case"):
                ar.default_client().replay(file)
        self.assertTrue(ar.check(ar.flash_attn_func, mine, q, k, v, causal=True, atol=0.5))
        self.assertFalse(ar.check(ar.flash_attn_func, mine, q, k, v))  # not the question it answers

    def test_more(self):
        q, k, v = (normal(1, 16, 2, 8, seed=i) for i in range(3))
        out, lse = t.attention(q, k, v)
        verdict = ar.check(ar.flash_attn_func, {"out": out, "softmax_lse": lse}, q, k, v, runs=3)
        self.assertTrue(verdict)
        self.assertEqual((set(verdict["outputs"]), verdict["determinism"]["runs"]), ({"out", "softmax_lse"}, 3))
        x, w = normal(3, 32), normal(32, seed=5)
        self.assertTrue(ar.check(ar.rmsnorm, t.rmsnorm(x, w), x, w, eps=1e-6))
        self.assertTrue(ar.check(ar.rms_norm, t.rmsnorm(x, w, 0.5), x, w, 0.5))
        self.assertFalse(ar.check(ar.rms_norm, t.rmsnorm(x, w, 0.6), x, w, 0.5))
        with self.assertRaisesRegex(RuntimeError, "outt"):
            ar.check(ar.rmsnorm, {"outt": x}, x, w)


class Bench(unittest.TestCase):
    def test_sweep(self):
        seen = []
        cases = list(ar.bench("flash_attn_func", batch=[1, 2], seqlen=64, heads=2, head_dim=16, dtype="fp16",
                              causal=[True, False], mode="warm", iters=3, warmup=1, baseline="naive", progress=seen.append))
        self.assertEqual([(c["case"]["batch"], c["case"]["causal"]) for c in cases],
                         [(1, True), (1, False), (2, True), (2, False)])
        for c in cases:
            self.assertEqual((c["kernel_ms"]["iters"], c["mode"], c["of"], c["validated"]), (3, "warm", 4, True))
            self.assertGreater(c["baseline"]["speedup"], 0)

    def test_own_inputs_and_failed_cases(self):
        q, k, v = (normal(1, 32, 2, 16, seed=i, dtype=np.float16) for i in range(3))
        cases = list(ar.bench(ar.flash_attn_func, q, k, v, causal=True, mode="warm", iters=2, impl=["own", "naive"]))
        self.assertEqual([c["case"]["impl"] for c in cases], ["own", "naive"])
        self.assertEqual(cases[1]["impl"], "cpu:naive")
        cases = list(ar.bench("flash_attn_func", batch=1, seqlen=32, heads=[2, 3], head_dim=16, mode="warm", iters=2,
                              Hk=2))
        self.assertIn("kernel_ms", cases[0])
        self.assertEqual(cases[1]["error"]["type"], "/problems/invalid-shape")
        with self.assertRaisesRegex(RuntimeError, "seqlenn"):
            list(ar.bench("flash_attn_func", batch=1, seqlenn=32))

    def test_leaving_ends_the_work(self):
        for case in ar.bench("flash_attn_func", batch=[1] * 500, seqlen=256, heads=8, head_dim=64, mode="warm", iters=50):
            break
        del case
        deadline = time.monotonic() + 60
        while ar.default_client().info()["server"]["requests"] > 1:  # this one
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_between_cases(self):
        """Other calls of the thread go on beside an open sweep."""
        x, w = normal(3, 8), np.ones(8, np.float32)
        n = 0
        for _ in ar.bench("rmsnorm", rows=[8, 16, 32], hidden=64, mode="warm", iters=2):
            t.assert_close(ar.rmsnorm(x, w), t.rmsnorm(x, w), "fp32")
            n += 1
        self.assertEqual(n, 3)


class Jobs(unittest.TestCase):
    def test_result(self):
        x, w = normal(3, 64), normal(64, seed=1)
        job = ar.submit(ar.rmsnorm, x, w, eps=0.5)
        out = job.result(timeout=60)
        t.assert_close(out["out"], t.rmsnorm(x, w, 0.5), "fp32")
        self.assertEqual((job.state()["state"], out.stats["op"]), ("done", "rmsnorm"))
        self.assertIn(job.id, [j["id"] for j in ar.default_client().jobs()])
        job.cancel()
        with self.assertRaises(ar.AiterdError) as caught:
            job.state()
        self.assertIn(caught.exception.status, (404, 410))

    def test_failed_and_cancelled(self):
        q = normal(1, 512, 8, 64, dtype=np.float16)
        with ar.options(iters=10000):
            job = ar.submit("flash_attn_func", q=q, k=q, v=q)
        with self.assertRaises(TimeoutError):
            job.result(timeout=0.01, poll=0.01)
        done = threading.Thread(target=job.cancel)
        done.start()
        done.join(60)
        self.assertFalse(done.is_alive())
        with self.assertRaisesRegex(ar.AiterdError, "cancelled"):
            job.result(timeout=60)
        deadline = time.monotonic() + 60
        while True:
            try:
                if job.state()["state"] == "cancelled":
                    break
            except ar.AiterdError as e:
                self.assertIn(e.status, (404, 410))
                break
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)


if __name__ == "__main__":
    unittest.main()
