#!/usr/bin/python3
"""The GPU worker on the emulated device: our gfx942 kernels, executed by the emulator, through the real worker and the
real server, against float64; and what such a worker does when memory is short, a kernel faults or never ends.
"""
import ctypes
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest
import urllib.parse

import numpy as np

import aiterd_test as t
import calls
from calls import FLOATS, Reply, check_stats, problem, send
from exchange import info, kill, until

KERNELS = os.path.join(t.BUILD, "kernels", "gfx942")
CLANG = os.environ.get("KERNEL_CLANG", "clang-19")
# One thread of the emulator is enough for these, and leaves the machine to others.
OPTIONS = ("--device", "emulated", "--loops", "2", "--threads", "1", "--prefault", "1M")
server = None


def missing():
    """What the emulated device lacks here, or None."""
    if not os.path.exists(os.path.join(t.BUILD, "aiterd-worker-emulated")):
        return "this build has no aiterd-worker-emulated (it needs x86-64)"
    if not glob.glob(os.path.join(KERNELS, "*.co")):
        return "this build has no kernels for gfx942 (configure found no clang-19 with lld-19)"
    for name in ("libLLVM.so.19.1", "libLLVM-19.so.1", "libLLVM-19.so"):
        try:
            ctypes.CDLL(name)
            return None
        except OSError:
            continue
    return "there is no libLLVM 19 (Debian: libllvm19)"


def setUpModule():
    global server
    why = missing()
    if why:
        raise unittest.SkipTest(why)
    server = t.Server(*OPTIONS)
    until(lambda: device(server)["state"] == "ready", "the emulated device is ready", 60)


def tearDownModule():
    if server is None:
        return
    try:
        calls.nothing_lent(server)
    finally:
        server.stop()


def device(s, kind="emulated"):
    return [d for d in info(s)["devices"] if d["kind"] == kind][0]


class Test(unittest.TestCase):
    def run_(self, call, query="", name=None, **how):
        """A call that must run on the emulated device and be right."""
        reply = Reply(send(server, call, query=query))
        check_stats(reply, call, **how)
        call.check(reply.outputs)
        h = reply.header
        self.assertEqual(h["device"]["id"], "emulated:0")
        self.assertIs(h["device"]["timing_meaningless"], True)
        self.assertRegex(h["impl"], name or "^own:[a-z0-9_]+$")
        return reply


class Bench(Test):
    def test_times_mean_nothing(self):
        """A sweep runs, alternates, rotates and is validated; no rate, share or speed-up is claimed."""
        r = server.request("POST", "/v1/ops/flash_attn_func/bench?batch=1,2&seqlen=16&heads=1&head_dim=64&iters=2&warmup=1"
                           "&baseline=naive&samples=true&device=emulated:0", timeout=120)
        self.assertEqual(r.status, 200)
        first, second, done = [json.loads(line) for line in r.body.splitlines()]
        self.assertEqual(done, {"done": True, "cases": 2, "failed": 0})
        for x in (first, second):
            self.assertIs(x["device"]["timing_meaningless"], True)
            self.assertEqual({k: v for k, v in x["rates"].items() if v is not None and not isinstance(v, str)},
                             {"flop": 4 * 16 * 16 * 64 * x["case"]["batch"], "bytes_moved": 4 * 16 * 64 * 2 * x["case"]["batch"]})
            self.assertIsNone(x["baseline"]["speedup"])
            self.assertRegex(x["impl"], "^own:")
            self.assertRegex(x["baseline"]["impl"], "^naive:")
            self.assertEqual((x["validated"], x["identical"], x["max_diff_after"]), (True, True, 0))
            self.assertLess(x["baseline"]["max_abs_diff"], 4e-3)
            self.assertEqual(len(x["kernel_ms"]["samples"]), 2)
            self.assertEqual(len(x["baseline"]["kernel_ms"]["samples"]), 2)
            self.assertEqual(x["mode"], "cold")
            self.assertGreaterEqual(x["rotation"]["bytes"], 2 * x["rotation"]["cache_bytes"])
            self.assertGreater(x["rotation"]["copies"], 100)


class Device(Test):
    def test_info(self):
        d, cpu = device(server), device(server, "cpu")
        self.assertEqual((d["index"], d["id"], d["state"], d["arch"]), (0, "emulated:0", "ready", "gfx942"))
        self.assertIs(d["timing_meaningless"], True)
        self.assertTrue(d["name"])
        self.assertRegex(d["runtime"], r"^HIP \d+\.\d+\.\d+$")
        self.assertRegex(d["driver"], r"^emulator \((avx512|avx2|base)\)$")
        self.assertGreater(d["compute_units"], 0)
        self.assertTrue(0 < d["memory"]["free"] <= d["memory"]["total"])
        self.assertEqual(cpu["id"], "cpu:0")
        self.assertNotIn("timing_meaningless", cpu)
        for op, impls in d["ops"].items():
            self.assertNotIn("reference", impls, op)
            self.assertIn("reference", cpu["ops"][op], op)
        self.assertTrue({"auto", "own", "naive"} <= set(d["ops"]["flash_attn_func"]))
        self.assertTrue({"auto", "own"} <= set(d["ops"]["rmsnorm"]))

    def test_choice_of_device(self):
        """auto is the first device of --device that can; reference is the cpu's; a device can be named."""
        call = calls.attention("fp32", causal=True)
        self.run_(call)
        self.run_(call, "impl=own")
        for query, where, impl in (("impl=reference", "cpu:0", "^reference"), ("device=cpu:0", "cpu:0", "^cpu:"),
                                   ("device=cpu", "cpu:0", "^cpu:"), ("device=emulated&impl=own", "emulated:0", "^own:"),
                                   ("device=emulated:0&impl=own", "emulated:0", "^own:")):
            with self.subTest(query):
                reply = Reply(send(server, call, query=query))
                call.check(reply.outputs)
                self.assertEqual(reply.header["device"]["id"], where)
                self.assertRegex(reply.header["impl"], impl)
        problem(send(server, call, query="impl=reference&device=emulated:0"), 422, "unavailable-impl", param="impl")
        p = problem(send(server, call, query="impl=reference&device=emulated"), 422, "unavailable-impl", param="impl")
        self.assertEqual(p["detail"], "emulated:0 has no reference implementation of %s; emulated:0 has auto, own, naive" % call.op)
        p = problem(send(server, call, query="impl=aiter"), 422, "unavailable-impl", param="impl")
        self.assertRegex(p["detail"], "^no device here has the aiter implementation of %s: emulated:0 has .*AITER.*; "
                         "emulated:0 has auto, own, naive; cpu:0 has auto, own, naive, reference$" % call.op)

    def test_dry_run(self):
        r = send(server, calls.attention("bf16"), query="dry_run=1")
        plan = json.loads(r.body.decode())
        self.assertEqual((r.status, plan["device"]), (200, "emulated:0"))
        self.assertRegex(plan["impl"], "^own:attn_fwd_bf16_d32x32(_w[0-9]+)?$")
        self.assertRegex(plan["why_not_aiter"], "--aiter-dir")

    def test_flush(self):
        problem(send(server, calls.attention("fp32"), query="flush=1"), 422, "invalid-parameter", param="flush")


class Attention(Test):
    # batch, Sq, Sk, Hq, Hk, D, Dv
    SHAPES = ((1, 1, 1, 1, 1, 8, 8), (2, 5, 7, 4, 2, 16, 8), (1, 33, 70, 2, 1, 64, 64), (1, 3, 200, 8, 2, 64, 32),
              (1, 40, 40, 1, 1, 128, 128), (1, 20, 17, 2, 2, 100, 60), (1, 9, 12, 1, 1, 192, 128), (1, 6, 5, 1, 1, 256, 256))

    def test_shapes(self):
        for dtype in FLOATS:
            for n, shape in enumerate(self.SHAPES):
                with self.subTest(dtype=dtype, shape=shape):
                    call = calls.attention(dtype, seed=n, shape=shape, causal=bool(n % 2))
                    reply = self.run_(call, name="^own:attn_fwd_%s_d[0-9]+x[0-9]+(_w[0-9]+)?$" % dtype)
                    dim, dim_v = re.search(r"_d(\d+)x(\d+)", reply.header["impl"]).groups()
                    self.assertTrue(int(dim) >= shape[5] and int(dim_v) >= shape[6], reply.header["impl"])

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
        """Tensors without a single row, and keys that nobody sees."""
        self.run_(calls.attention("fp16", shape=(2, 0, 5, 2, 2, 16, 16)), name="^own$")
        self.run_(calls.attention("fp16", shape=(1, 4, 0, 2, 2, 16, 16)))

    def test_layout(self):
        call = calls.attention("bf16", seed=8, shape=(1, 12, 18, 4, 2, 32, 32), lse=False)
        turned = calls.Call(call.op, {n: np.ascontiguousarray(a.swapaxes(1, 2)) for n, a in call.tensors.items()},
                            {"layout": "bhsd"}, {"out": call.want["out"].swapaxes(1, 2)}, "bf16")
        self.run_(turned)


class RMSNorm(Test):
    def test_shapes(self):
        for dtype in FLOATS:
            for shape in ((1, 1), (3, 8), (2, 3, 40), (5, 127), (2, 4096), (1, 5000)):
                with self.subTest(dtype=dtype, shape=shape):
                    self.run_(calls.rmsnorm(dtype, shape=shape, eps=1e-3), name="^own:rmsnorm")


class Statistics(Test):
    def test_runs(self):
        call = calls.attention("fp16", shape=(1, 33, 64, 2, 2, 64, 64), causal=True)
        reply = self.run_(call, "warmup=10&iters=3", warmup=10, iters=3)
        self.assertGreater(reply.header["timing_ms"]["kernel"], 0)
        self.assertGreater(reply.header["timing_ms"]["upload"], 0)
        self.assertGreater(reply.header["timing_ms"]["download"], 0)

    def test_baseline(self):
        for call in (calls.attention("fp16", shape=(1, 33, 64, 2, 2, 64, 64), causal=True),
                     calls.rmsnorm("bf16", shape=(5, 127), eps=1e-3), calls.rmsnorm("fp32", shape=(3, 256), eps=1e-3)):
            with self.subTest(op=call.op):
                self.run_(call, "baseline=naive&iters=2", iters=2, baseline=True)
                self.run_(call, "impl=naive", name="^naive:")

    def test_limits_of_a_run(self):
        """A job of many runs ends at its deadline, between two of them, and the worker lives on."""
        call = calls.attention("fp16", shape=(1, 33, 64, 2, 2, 64, 64))
        pid = device(server)["pid"]
        problem(send(server, call, query="warmup=10000&iters=10000&timeout_ms=300"), 504, "deadline-exceeded",
                param="timeout_ms")
        self.run_(call)
        self.assertEqual(device(server)["pid"], pid)

    def test_memory(self):
        """Nothing is in use before and after; the peak is inputs, outputs and workspace, rounded to what the pool
        deals in; and dimensions that must be padded show as workspace."""
        plain = calls.attention("fp16", shape=(1, 64, 64, 2, 2, 64, 64), lse=False)
        padded = calls.attention("fp16", shape=(1, 64, 64, 2, 2, 20, 20), lse=False)
        for call, workspace in ((plain, False), (padded, True), (plain, False)):
            m = self.run_(call).header["memory"]
            self.assertEqual(m["allocated_before"], 0)
            self.assertEqual(m["workspace"] > 0, workspace, m)
            known = m["inputs"] + m["outputs"] + m["workspace"]
            self.assertTrue(known <= m["peak"] <= known + (2 << 20), m)
            if workspace:
                self.assertGreaterEqual(m["workspace"], 3 * 64 * 2 * 24 * 2)
        self.assertEqual(device(server)["memory"]["allocated"], 0)
        self.assertGreater(device(server)["memory"]["peak"], 0)

    def test_at_once(self):
        """Several connections: each gets its own answer."""
        failed = []

        def ask(n):
            try:
                call = calls.attention("fp16", seed=n, shape=(1, 4 + n, 9, 2, 1, 32, 32))
                with server.client(120) as c:
                    for _ in range(3):
                        call.check(Reply(send(c, call)).outputs)
            except Exception as e:
                failed.append(e)
        threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])


class Several(Test):
    def test_two_devices(self):
        """One worker each; device= pins one; what is left free takes the least busy, so both get work."""
        call = calls.attention("fp16", seed=4, shape=(1, 40, 130, 2, 1, 64, 64), causal=True)
        options = ("--device", "emulated:0,emulated:1") + OPTIONS[2:]
        with t.Server(*options, env={"EMUHIP_DEVICES": "2"}) as s:
            ids = ["emulated:0", "emulated:1", "cpu:0"]
            self.assertEqual([d["id"] for d in info(s)["devices"]], ids)
            until(lambda: all(d["state"] == "ready" for d in info(s)["devices"]), "all devices are ready", 60)
            for name in ids[:2]:
                reply = Reply(send(s, call, query="device=" + name))
                call.check(reply.outputs)
                self.assertEqual(reply.header["device"]["id"], name)
            p = problem(send(s, call, query="device=emulated"), 422, "unknown-device", param="device", found="emulated",
                        wanted="emulated:0, emulated:1")
            self.assertIn("there are 2 devices of the kind 'emulated' here", p["detail"])
            self.assertEqual(Reply(send(s, call, query="device=cpu")).header["device"]["id"], "cpu:0")
            used = []

            def ask():
                with s.client(120) as c:
                    for _ in range(4):
                        reply = Reply(send(c, call, query="iters=5"))  # long enough that others come meanwhile
                        call.check(reply.outputs)
                        used.append(reply.header["device"]["id"])
            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(len(used), 16)
            self.assertEqual(set(used), set(ids[:2]))

    def test_two_devices_many_loops(self):
        """Who is busy counts over all loops, and from the choice on: also while inputs are still being made."""
        source = '{"generate":"normal","dtype":"fp16","shape":[1,160,2,64]}'
        path = "/v1/ops/flash_attn_func?outputs=none&format=json&iters=40&inputs=" + urllib.parse.quote(
            '{"q":%s,"k":%s,"v":%s}' % (source, source, source))
        options = ("--device", "emulated:0,emulated:1", "--loops", "8") + OPTIONS[4:]
        with t.Server(*options, env={"EMUHIP_DEVICES": "2"}) as s:
            until(lambda: all(d["state"] == "ready" for d in info(s)["devices"]), "all devices are ready", 60)
            clients = [s.client(120) for _ in range(4)]
            for c in clients:  # none of them waits for another's reply
                c.send(c.head("POST", path, length=0))
            used = sorted(json.loads(c.response("POST").body)["stats"]["device"]["id"] for c in clients)
            for c in clients:
                c.close()
            self.assertEqual(used, ["emulated:0"] * 2 + ["emulated:1"] * 2)

    def test_a_device_that_is_away(self):
        """While a worker is dead or starting, the other device of its kind takes what comes."""
        call = calls.attention("fp16", seed=5, shape=(1, 40, 130, 2, 1, 64, 64))
        options = ("--device", "emulated:0,emulated:1") + OPTIONS[2:]
        with t.Server(*options, env={"EMUHIP_DEVICES": "2"}) as s:
            until(lambda: all(d["state"] == "ready" for d in info(s)["devices"]), "all devices are ready", 60)
            kill(info(s)["devices"][0]["pid"], signal.SIGKILL)
            until(lambda: info(s)["devices"][0]["state"] != "ready", "its death is known", 30)
            reply = Reply(send(s, call))
            call.check(reply.outputs)
            self.assertEqual(reply.header["device"]["id"], "emulated:1")

    def test_not_there(self):
        """A device that will never work here, because HIP has none of that number or the emulator cannot read code
        objects without libLLVM: the server does not start, and says why."""
        for name, env, why in (("emulated:1", {"EMUHIP_DEVICES": "1"}, "HIP finds 1 device"),
                               ("emulated", {"EMUHIP_LLVM": "/nonexistent"}, "libLLVM.*loading the code object")):
            with self.subTest(name), self.assertRaisesRegex(AssertionError, "left with status 1(?s:.)*cannot be started.*" + why):
                t.Server("--device", name, *OPTIONS[2:], env=env).kill()


class Trouble(Test):
    def test_out_of_memory(self):
        """A device with 16 MiB: too much is refused with both numbers, and the worker lives on."""
        with t.Server(*OPTIONS, env={"EMUHIP_MEM": str(16 / 1024)}) as s:
            until(lambda: device(s)["state"] == "ready", "the emulated device is ready", 60)
            small = calls.attention("fp16", shape=(1, 33, 64, 2, 2, 64, 64))
            Reply(send(s, small))
            pid = device(s)["pid"]
            for shape in ((1, 8, 40000, 1, 1, 256, 256), (1, 9000, 8, 4, 4, 128, 128)):
                q = np.zeros((shape[0], shape[1], shape[3], shape[5]), np.float16)
                k = np.zeros((shape[0], shape[2], shape[4], shape[5]), np.float16)
                body = t.safetensors({"q": q, "k": k, "v": k})
                p = problem(s.request("POST", "/v1/ops/flash_attn_func", body,
                                      [("Content-Type", "application/x-safetensors")]), 507, "out-of-memory")
                needed, free, total = map(int, re.search(r"(\d+) bytes of device memory needed, (\d+) of (\d+) free",
                                                         p["detail"]).groups())
                self.assertTrue(needed > free and free <= total == 16 << 20, p)
                reply = Reply(send(s, small))
                small.check(reply.outputs)
                self.assertEqual(reply.header["memory"]["allocated_before"], 0)
            self.assertEqual(device(s)["pid"], pid)
            self.assertEqual(device(s)["restarts"], 0)

    SOURCE = r"""
#define KERNEL extern "C" __attribute__((global)) void
KERNEL WRITES(void *) { *(volatile int *)0x1230 = 1; }
KERNEL NEVER_ENDS(void *) { for (;;) __builtin_amdgcn_s_sleep(1); }
"""

    def test_bad_kernels(self):
        """A kernel that writes where nothing is, and one that never ends, in the place of ours for fp16: each costs its
        request and the worker, whose last words are in the error; the next one serves."""
        if not shutil.which(CLANG):
            self.skipTest("there is no %s to build the kernels of this test" % CLANG)
        writes, never_ends = (Reply(send(server, self.tiny(dim))).header["impl"][len("own:"):] for dim in (32, 64))
        with tempfile.TemporaryDirectory(prefix="aiterd-test-") as d:
            for kind in ("cpu", "emulated"):
                shutil.copy(os.path.join(t.BUILD, "aiterd-worker-" + kind), d)
            os.makedirs(os.path.join(d, "kernels", "gfx942"))
            for f in glob.glob(os.path.join(KERNELS, "*.co")):
                os.symlink(os.path.abspath(f), os.path.join(d, "kernels", "gfx942", os.path.basename(f)))
            bad = os.path.join(d, "kernels", "gfx942", "attn_fp16.co")
            os.unlink(bad)
            with open(os.path.join(d, "bad.hip"), "w") as f:
                f.write(self.SOURCE)
            subprocess.run([CLANG, "-x", "hip", "--offload-arch=gfx942", "--cuda-device-only",
                            "--no-gpu-bundle-output", "-nogpulib", "-nogpuinc", "-O1", "-DWRITES=" + writes,
                            "-DNEVER_ENDS=" + never_ends, f.name, "-o", bad], check=True)
            with t.Server(*OPTIONS, "--worker-dir", d) as s:
                until(lambda: device(s)["state"] == "ready", "the emulated device is ready", 60)
                self.bad_kernels(s, writes)

    def tiny(self, dim, dtype="fp16"):
        return calls.attention(dtype, shape=(1, 3, 4, 1, 1, dim, dim))

    def bad_kernels(self, s, writes):
        good = self.tiny(32, "bf16")
        good.check(Reply(send(s, good)).outputs)
        pid = device(s)["pid"]
        p = problem(send(s, self.tiny(32)), 500, "worker-crashed")
        self.assertRegex(p["detail"], "illegal address 1230.* lost the device: %s: hipErrorIllegalAddress$" % writes)
        until(lambda: device(s)["state"] == "ready", "the emulated device is ready again", 60)
        self.assertNotEqual(device(s)["pid"], pid)
        self.assertEqual(device(s)["restarts"], 1)
        good.check(Reply(send(s, good)).outputs)
        p = problem(send(s, self.tiny(64), query="timeout_ms=500"), 504,
                    "deadline-exceeded")
        until(lambda: device(s)["state"] == "ready" and device(s)["restarts"] == 2, lambda: json.dumps(device(s)), 60)
        good.check(Reply(send(s, good)).outputs)


if __name__ == "__main__":
    unittest.main()
