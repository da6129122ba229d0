#!/usr/bin/python3
"""The server on a real GPU: our kernels through the real worker, against float64, and what the worker does when memory is
short, a kernel faults or never ends. Takes the device that AITERD_GPU names (cuda or hip), or the first of these whose
worker was built and starts; skipped where there is none.
"""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import unittest

import numpy as np

import aiterd_test as t
import calls
from calls import FLOATS, Reply, check_stats, problem, send
from exchange import info, until

KINDS = [os.environ["AITERD_GPU"]] if os.environ.get("AITERD_GPU") else ["cuda", "hip"]
OPTIONS = ("--loops", "2", "--prefault", "64M")
SRC = os.path.abspath(os.path.join(t.HERE, "..", ".."))
server, kind = None, None


def setUpModule():
    global server, kind
    reasons = []
    for kind in KINDS:
        if not os.path.exists(os.path.join(t.BUILD, "aiterd-worker-" + kind)):
            reasons.append("no aiterd-worker-%s was built" % kind)
            continue
        try:
            server = t.Server("--device", kind, *OPTIONS)
            until(lambda: device(server)["state"] == "ready", "the GPU is ready", 60)
            return
        except AssertionError as e:
            last = re.findall(r"last words: (.*)", str(e))
            reasons.append(last[-1] if last else str(e))
    raise unittest.SkipTest("; ".join(reasons))


def tearDownModule():
    if server is None:
        return
    try:
        calls.nothing_lent(server)
    finally:
        server.stop()


def device(s):
    return [d for d in info(s)["devices"] if d["kind"] == kind][0]


class Test(unittest.TestCase):
    def run_(self, call, query="", name="^own", on=None, **how):
        """A call that must run on the GPU and be right."""
        reply = Reply(send(on or server, call, query=query))
        check_stats(reply, call, **how)
        call.check(reply.outputs)
        self.assertEqual(reply.header["device"]["id"], kind + ":0")
        self.assertNotIn("timing_meaningless", reply.header["device"])
        self.assertRegex(reply.header["impl"], name)
        return reply


class Device(Test):
    def test_info(self):
        d = device(server)
        self.assertEqual((d["index"], d["id"], d["state"]), (0, kind + ":0", "ready"))
        self.assertRegex(d["arch"], "^sm_90$" if kind == "cuda" else "^gfx9")
        self.assertTrue(d["name"])
        self.assertRegex(d["runtime"], r"^CUDA \d+\.\d+$" if kind == "cuda" else r"^HIP \d+\.\d+\.\d+$")
        self.assertRegex(d["driver"], r"^(nvidia|CUDA|amdgpu|HIP) \d+\.\d+")
        self.assertGreater(d["compute_units"], 0)
        self.assertGreater(d["clock_mhz"], 100)
        self.assertTrue(0 < d["memory"]["free"] <= d["memory"]["total"])
        self.assertTrue({"auto", "own"} <= set(d["ops"]["rmsnorm"]))
        print("%s: %s" % (self.id(), json.dumps({n: v for n, v in d.items() if n != "ops"})))

    def test_choice_of_device(self):
        call = calls.rmsnorm("fp32")
        self.run_(call, "impl=own")
        for query, where, impl in (("impl=reference", "cpu:0", "^reference"), ("device=cpu:0", "cpu:0", "^cpu:")):
            with self.subTest(query):
                reply = Reply(send(server, call, query=query))
                call.check(reply.outputs)
                self.assertEqual(reply.header["device"]["id"], where)
                self.assertRegex(reply.header["impl"], impl)

    def test_flush(self):
        """Clearing the caches between runs costs no run its time, nor the request its memory."""
        call = calls.rmsnorm("fp16", shape=(512, 1024))
        warm = self.run_(call, "warmup=3&iters=20", warmup=3, iters=20).header
        cold = self.run_(call, "warmup=3&iters=20&flush=1", warmup=3, iters=20).header
        self.assertEqual(cold["memory"]["peak"], warm["memory"]["peak"])
        self.assertLess(cold["kernel_ms"]["median"], 1)


class RMSNorm(Test):
    def test_shapes(self):
        for dtype in FLOATS:
            for shape in ((1, 1), (3, 8), (2, 3, 40), (5, 127), (2, 4096), (1, 5000), (700, 1000), (3, 70000), (0, 64)):
                with self.subTest(dtype=dtype, shape=shape):
                    self.run_(calls.rmsnorm(dtype, shape=shape, eps=1e-3))

    def test_bodies(self):
        call = calls.rmsnorm("fp16", shape=(40, 1024))
        for body in calls.BODIES:
            with self.subTest(body):
                call.check(Reply(send(server, call, body)).outputs)


class Attention(Test):
    # batch, Sq, Sk, Hq, Hk, D, Dv
    SHAPES = ((1, 1, 1, 1, 1, 8, 8), (2, 5, 7, 4, 2, 16, 8), (1, 33, 70, 2, 1, 64, 64), (1, 3, 200, 8, 2, 64, 32),
              (1, 40, 40, 1, 1, 128, 128), (1, 20, 17, 2, 2, 100, 60), (1, 9, 12, 1, 1, 192, 128),
              (1, 6, 5, 1, 1, 256, 256), (2, 300, 333, 4, 2, 64, 64), (1, 1, 2000, 8, 1, 128, 128))

    def test_shapes(self):
        for dtype in FLOATS:
            for n, shape in enumerate(self.SHAPES):
                with self.subTest(dtype=dtype, shape=shape):
                    self.run_(calls.attention(dtype, seed=n, shape=shape, causal=bool(n % 2)))

    def test_tutorial(self):
        """The size of the tutorial's comparison."""
        for dtype in ("fp16", "bf16"):
            with self.subTest(dtype=dtype):
                self.run_(calls.attention(dtype, seed=2, shape=(4, 1024, 1024, 16, 16, 64, 64), lse=False))

    def test_masks(self):
        for dtype in FLOATS:
            for params in ({"window_size": [3, 2]}, {"window_size": [0, 0], "causal": True}, {"softmax_scale": 0.7},
                           {"window_size": [-1, 4]}, {"softmax_scale": -1.5, "causal": True}):
                with self.subTest(dtype=dtype, **params):
                    self.run_(calls.attention(dtype, seed=3, shape=(1, 21, 17, 2, 1, 32, 32), **params))

    def test_varlen(self):
        for dtype in FLOATS:
            for params in ({}, {"causal": True}, {"window_size": [2, 1]}):
                with self.subTest(dtype=dtype, **params):
                    self.run_(calls.varlen(dtype, seed=5, **params))

    def test_nothing_to_do(self):
        self.run_(calls.attention("fp16", shape=(2, 0, 5, 2, 2, 16, 16)), name="^own$")
        self.run_(calls.attention("fp16", shape=(1, 4, 0, 2, 2, 16, 16)))

    def test_baseline(self):
        for call in (calls.attention("fp16", shape=(1, 33, 64, 2, 2, 64, 64), causal=True),
                     calls.rmsnorm("bf16", shape=(5, 127), eps=1e-3), calls.rmsnorm("fp32", shape=(3, 256), eps=1e-3)):
            with self.subTest(op=call.op):
                self.run_(call, "baseline=naive&warmup=2&iters=3", warmup=2, iters=3, baseline=True)
                self.run_(call, "impl=naive", name="^naive:")

    def test_memory(self):
        """Nothing is in use before and after; the peak is inputs, outputs and workspace, rounded to what the pool
        deals in."""
        call = calls.attention("fp16", shape=(2, 256, 256, 2, 2, 64, 64), lse=False)
        for query in ("", "", "impl=naive"):
            m = self.run_(call, query, name="own|naive").header["memory"]
            self.assertEqual(m["allocated_before"], 0)
            known = m["inputs"] + m["outputs"] + m["workspace"]
            self.assertTrue(known <= m["peak"] <= known + (8 << 20), m)
        self.assertGreater(m["workspace"], 4 * 2 * 2 * 256 * 256)
        self.assertEqual(device(server)["memory"]["allocated"], 0)


class Serving(Test):
    def test_at_once(self):
        """Several connections: each gets its own answer."""
        failed = []

        def ask(n):
            try:
                problems = [calls.rmsnorm("fp16", seed=n, shape=(1 + 50 * n, 1000)),
                            calls.attention("bf16", seed=n, shape=(1, 4 + n, 9, 2, 1, 32, 32))]
                with server.client(120) as c:
                    for i in range(20):
                        call = problems[i % 2]
                        call.check(Reply(send(c, call)).outputs)
            except Exception as e:
                failed.append(e)
        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])

    def test_limits_of_a_run(self):
        """A job of many runs ends at its deadline, between two of them, and the worker lives on."""
        call = calls.rmsnorm("fp32", shape=(4096, 4096))
        pid = device(server)["pid"]
        problem(send(server, call, query="warmup=10000&iters=10000&timeout_ms=100"), 504, "deadline-exceeded",
                param="timeout_ms")
        self.run_(call)
        self.assertEqual(device(server)["pid"], pid)

    def test_out_of_memory(self):
        """Scores that do not fit are refused with both numbers, and the worker lives on."""
        pid, total = device(server)["pid"], device(server)["memory"]["total"]
        n = 1 << 16
        heads = 1 + total // (n * n * 6)  # 4 bytes of a score, 2 of a probability
        a = np.zeros((1, n, heads, 8), np.float16)
        body = t.safetensors({"q": a, "k": a, "v": a})
        p = problem(server.request("POST", "/v1/ops/flash_attn_func?impl=naive&outputs=none", body,
                                   [("Content-Type", "application/x-safetensors")]), 507, "out-of-memory")
        needed, free, told = map(int, re.search(r"(\d+) bytes of device memory needed, (\d+) of (\d+) free",
                                                p["detail"]).groups())
        self.assertTrue(needed > free and free <= told, p)
        self.run_(calls.rmsnorm("fp16"))
        self.assertEqual(device(server)["pid"], pid)
        self.assertEqual(device(server)["restarts"], 0)


class Trouble(Test):
    SOURCE = r"""
#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
#else
#define KERNEL extern "C" __attribute__((global)) void
#endif
#include "rmsnorm.h"
KERNEL WRITES(rmsnorm_args) { *(volatile int *)0x1230 = 1; }
KERNEL NEVER_ENDS(rmsnorm_args a) { while (*(volatile const char *)a.x != 77 || a.n) ; }
"""

    def compile(self, folder, *defines):
        source, include = os.path.join(folder, "bad.hip"), "-I" + os.path.join(SRC, "kernels")
        with open(source, "w") as f:
            f.write(self.SOURCE)
        if kind == "cuda":
            tool = os.environ.get("NVCC") or shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
            argv = [tool, "-x", "cu", "-gencode=arch=compute_90a,code=sm_90a", "-cubin"]
        else:
            tool = os.environ.get("KERNEL_CLANG", "clang-19")
            argv = [tool, "-x", "hip", "--offload-arch=" + device(server)["arch"], "--cuda-device-only",
                    "--no-gpu-bundle-output", "-nogpulib", "-nogpuinc", "-O1"]
        if not shutil.which(tool):
            self.skipTest("there is no %s to build the kernels of this test" % tool)
        subprocess.run([*argv, include, *defines, source, "-o", os.path.join(folder, "bad")], check=True)

    def test_bad_kernels(self):
        """A kernel that writes where nothing is, and one that never ends, in the place of RMSNorm's: each costs its
        request and the worker, whose last words are in the error; the next one serves."""
        first, second = calls.rmsnorm("fp16", shape=(3, 32)), calls.rmsnorm("fp16", shape=(3, 9000))
        writes, never_ends = (Reply(send(server, c)).header["impl"][len("own:"):] for c in (first, second))
        arch = device(server)["arch"]
        with tempfile.TemporaryDirectory(prefix="aiterd-test-") as d:
            self.compile(d, "-DWRITES=" + writes, "-DNEVER_ENDS=" + never_ends)
            for name in ("cpu", kind):
                shutil.copy(os.path.join(t.BUILD, "aiterd-worker-" + name), d)
            os.makedirs(os.path.join(d, "kernels", arch))
            for f in glob.glob(os.path.join(t.BUILD, "kernels", arch, "*")):
                target = os.path.join(d, "kernels", arch, os.path.basename(f))
                os.symlink(os.path.join(d, "bad") if os.path.basename(f).startswith("rmsnorm.") else os.path.abspath(f),
                           target)
            with t.Server("--device", kind, *OPTIONS, "--worker-dir", d) as s:
                until(lambda: device(s)["state"] == "ready", "the GPU is ready", 60)
                self.bad_kernels(s, first, second)

    def bad_kernels(self, s, first, second):
        good = calls.attention("bf16", shape=(1, 3, 4, 1, 1, 32, 32))
        self.run_(good, on=s)
        pid = device(s)["pid"]
        p = problem(send(s, first), 500, "worker-crashed")
        if kind == "cuda":
            self.assertRegex(p["detail"], "lost the device: waiting for the device: CUDA_ERROR_ILLEGAL_ADDRESS$")
        until(lambda: device(s)["state"] == "ready" and device(s)["restarts"] == 1, lambda: json.dumps(device(s)), 60)
        self.assertNotEqual(device(s)["pid"], pid)
        self.run_(good, on=s)
        problem(send(s, second, query="timeout_ms=500"), 504, "deadline-exceeded")
        until(lambda: device(s)["state"] == "ready" and device(s)["restarts"] == 2, lambda: json.dumps(device(s)), 60)
        self.run_(good, on=s)


if __name__ == "__main__":
    unittest.main()
