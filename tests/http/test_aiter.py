#!/usr/bin/python3
"""AITER's attention kernels through the real worker and the real server on the emulated device, against float64: the tests of
class Kernels and those after it need AITER's files and are skipped unless AITER_ASM_DIR names them (the folder that
holds gfx942/). What happens without them, or with damaged ones, is tested always.
"""
import json
import os
import shutil
import tempfile
import unittest

import numpy as np

import aiterd_test as t
import calls
from calls import Reply, check_stats, problem, send
from exchange import info, until
from test_contract import Contract
from test_emulated import OPTIONS, device, missing

REAL = os.environ.get("AITER_ASM_DIR")
ROUNDINGS = ("rtne", "rtna", "rtz")
FOLDER = "gfx942/fmha_v3_fwd"
server = None


def start(folder, **env):
    s = t.Server(*OPTIONS, "--aiter-dir", folder, env=env)
    until(lambda: device(s)["state"] == "ready", "the emulated device is ready", 60)
    return s


def setUpModule():
    why = missing()
    if why:
        raise unittest.SkipTest(why)


def tearDownModule():
    if server is not None:
        server.stop()


def plan(s, call, query=""):
    r = send(s, call, query="dry_run=1&" + query)
    assert r.status == 200, r
    p = json.loads(r.body.decode())
    return p["impl"], p["why_not_aiter"]


def bf16(shape=(1, 20, 30, 2, 1, 128, 128), **params):
    return calls.attention("bf16", shape=shape, **params)


class Options(unittest.TestCase):
    def test_no_folder(self):
        """An option that names no folder is a mistake, said at the start."""
        for folder in ("/nonexistent", __file__):
            with self.assertRaisesRegex(AssertionError, "left with status 2(?s:.)*--aiter-dir: '%s' is no folder" % folder):
                t.Server(*OPTIONS, "--aiter-dir", folder).kill()

    def test_without(self):
        with t.Server(*OPTIONS) as s:
            until(lambda: device(s)["state"] == "ready", "the emulated device is ready", 60)
            self.assertIsNone(info(s)["aiter"])
            self.assertNotIn("aiter", device(s))
            self.assertNotIn("aiter", device(s)["ops"]["flash_attn_func"])
            impl, why = plan(s, bf16())
            self.assertRegex(impl, "^own:attn_fwd_bf16_d128x128")
            self.assertRegex(why, "--aiter-dir")
            p = problem(send(s, bf16(), query="impl=aiter"), 422, "unavailable-impl", param="impl")
            self.assertIn("emulated:0 has no folder of AITER's code objects; --aiter-dir names it", p["detail"])
            p = problem(send(s, calls.rmsnorm("bf16"), query="impl=aiter"), 422, "unavailable-impl", param="impl")
            self.assertIn("AITER has no code object for it; ", p["detail"])

    def test_empty_folder(self):
        """Our kernels do the work; what is wrong is in the log, in /v1/info and in a dry run. Found by each of the ways
        in which the folder can be named."""
        with tempfile.TemporaryDirectory(prefix="aiterd-test-") as d:
            os.makedirs(os.path.join(d, "aiterd/aiter"))
            for env in ({"AITERD_AITER_DIR": d}, {"AITER_ASM_DIR": d, "AITERD_AITER_DIR": ""},
                        {"XDG_DATA_HOME": d, "AITERD_AITER_DIR": ""}):
                with self.subTest(env), t.Server(*OPTIONS, env=env) as s:
                    until(lambda s=s: device(s)["state"] == "ready", "the emulated device is ready", 60)
                    folder = d if "XDG_DATA_HOME" not in env else d + "/aiterd/aiter"
                    self.assertEqual(info(s)["aiter"]["dir"], folder)
                    self.assertRegex(info(s)["aiter"]["commit"], "^[0-9a-f]{40}$")
                    why = "none of AITER's kernels: .*fmha_fwd.csv cannot be opened: No such file"
                    self.assertRegex(device(s)["aiter"], why)
                    s.wait_for("warn: emulated:0 .* has " + why)
                    call = bf16()
                    reply = Reply(send(s, call))
                    call.check(reply.outputs)
                    self.assertRegex(reply.header["impl"], "^own:")
                    self.assertRegex(plan(s, call)[1], "fmha_fwd.csv cannot be opened")
                    for query in ("impl=aiter", "impl=aiter&device=emulated", "impl=aiter&dry_run=1"):
                        p = problem(send(s, call, query=query), 422, "unavailable-impl", param="impl")
                        self.assertRegex(p["detail"], ": emulated:0 has " + why)


class RMSNorm(unittest.TestCase):
    """AITER's RMSNorm is ours to write: the same arithmetic, x * 1/rms * weight in fp32, rounded once. (AITER's T5 order rounds
    x * 1/rms before the weight; its bf16 result is cut off where ours is rounded to nearest.)"""

    def test_rounding_order(self):
        rows, width = 16, 512
        with t.Server(*OPTIONS) as s:
            until(lambda: device(s)["state"] == "ready", "the emulated device is ready", 60)
            for dtype, bits in (("fp16", np.float16), ("bf16", None)):
                call = calls.rmsnorm(dtype, seed=5, shape=(rows, width), eps=1e-6)
                x, w = (t.to_float(call.tensors[n]).astype(np.float32) for n in ("x", "weight"))
                got = t.to_float(Reply(send(s, call, query="impl=own&device=emulated:0")).outputs["out"])
                inverse = (1 / np.sqrt((x.astype(np.float64) ** 2).mean(1, keepdims=True) + 1e-6)).astype(np.float32)
                once = t.to_float(t.cast((x * inverse * w).astype(np.float64), dtype))
                twice = t.to_float(t.cast(t.to_float(t.cast((x * inverse).astype(np.float64), dtype)) * w, dtype))
                cut = once
                if bits is None:
                    product = (x * inverse * w).view(np.uint32) & np.uint32(0xffff0000)
                    cut = product.view(np.float32).astype(np.float64)
                # 1/rms may differ in fp32's last bit, which shows where a result lies next to the middle of two.
                self.assertLess((got != once).mean(), 0.003, dtype)
                self.assertGreater((got != twice).mean(), 0.1, dtype)
                if bits is None:
                    ulp = np.exp2(np.floor(np.log2(np.abs(got))) - 7)
                    self.assertTrue((np.abs(got - cut) <= ulp).all())
                    self.assertGreater((got != cut).mean(), 0.3)


class Kernels(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        global server
        if not REAL:
            raise unittest.SkipTest("AITER_ASM_DIR is not set: AITER's own kernels are not run")
        if server is None:
            server = start(REAL)

    def run_(self, call, name, query="", **how):
        reply = Reply(send(server, call, query=query))
        check_stats(reply, call, **how)
        call.check(reply.outputs)
        self.assertEqual(reply.header["impl"], "aiter:fmha_v3_fwd/MI300/fwd_" + name)
        self.assertEqual(reply.header["device"]["id"], "emulated:0")
        return reply


class Batch(Kernels):
    def test_info(self):
        self.assertEqual(device(server)["aiter"], "24 kernels of fmha_v3_fwd/MI300")
        self.assertEqual(info(server)["aiter"]["dir"], REAL)
        ops = device(server)["ops"]
        self.assertIn("aiter", ops["flash_attn_func"])
        self.assertIn("aiter", ops["flash_attn_varlen_func"])
        self.assertNotIn("aiter", ops["rmsnorm"])
        self.assertNotIn("aiter", device(server, "cpu")["ops"]["flash_attn_func"])
        contract = Contract()
        contract.check("GET", "/v1/info", server.request("GET", "/v1/info"))
        contract.check("GET", "/v1/ops/{op}", server.request("GET", "/v1/ops/flash_attn_func"))
        for query in ("dry_run=1", "dry_run=1&impl=own", "format=json"):
            contract.check("POST", "/v1/ops/{op}", send(server, bf16(), query=query))

    def test_the_issue(self):
        """A bf16 request with head dimension 128 runs AITER's code object, an fp16 one with 64 our kernel."""
        self.run_(bf16(shape=(2, 128, 128, 4, 4, 128, 128)), "hd128_bf16_rtna")
        call = calls.attention("fp16", shape=(1, 40, 64, 2, 2, 64, 64))
        reply = Reply(send(server, call))
        call.check(reply.outputs)
        self.assertRegex(reply.header["impl"], "^own:attn_fwd_fp16_d64x64")

    def test_golden(self):
        """The problems of tests/data, whose float64 answers another program made; LSE is asked for as well."""
        for name, kernel in (("attn_bf16_hd128", "hd128_bf16_rtna"), ("attn_bf16_hd128_causal_gqa", "hd128_bf16_causal_rtna"),
                             ("attn_bf16_hd192x128", "hd192x128_bf16_causal_rtna")):
            with self.subTest(name):
                with open(os.path.join(t.HERE, "..", "data", name + ".safetensors"), "rb") as f:
                    tensors, metadata = t.safetensors_parse(f.read())
                want = {n[len("expected."):]: t.to_float(a) for n, a in tensors.items() if n.startswith("expected.")}
                inputs = {n: a for n, a in tensors.items() if not n.startswith("expected.")}
                params = dict(json.loads(metadata["params"]), return_lse=True)
                self.run_(calls.Call(metadata["op"], inputs, params, want, "bf16"), kernel)

    def test_shapes(self):
        """Lengths within, at and beyond tiles of 256 (128) queries and 32 keys; no keys; groups of heads; rows that see no
        key, which are zeros with -inf; every rounding."""
        shapes = ((1, 1, 1, 1, 1), (1, 1, 333, 2, 2), (2, 63, 70, 3, 1), (1, 256, 32, 4, 2), (1, 257, 33, 2, 1),
                  (1, 300, 100, 8, 8), (1, 40, 0, 2, 1), (1, 513, 65, 1, 1))
        for n, shape in enumerate(shapes):
            for dim in (128, 192):
                causal, cvt = bool((n + dim) % 2) if dim == 128 else n % 3 == 0, n % 3
                for causal in (causal, not causal):
                    with self.subTest(shape=shape, dim=dim, causal=causal, cvt=cvt):
                        call = bf16(shape=shape + (dim, 128), seed=n, causal=causal, how_v3_bf16_cvt=cvt, lse=n % 4 != 3)
                        self.run_(call, "hd%s_bf16_%s%s" % ("128" if dim == 128 else "192x128",
                                                            "causal_" if causal and shape[1] > 1 else "", ROUNDINGS[cvt]))

    def test_layout(self):
        for dim in (128, 192):
            call = bf16(shape=(2, 70, 90, 4, 2, dim, 128), seed=8, lse=False, causal=True)
            turned = calls.Call(call.op, {n: np.ascontiguousarray(a.swapaxes(1, 2)) for n, a in call.tensors.items()},
                                {"layout": "bhsd", "causal": True}, {"out": call.want["out"].swapaxes(1, 2)}, "bf16")
            self.run_(turned, "hd%s_bf16_causal_rtna" % ("128" if dim == 128 else "192x128"))

    def test_scale(self):
        self.run_(bf16(softmax_scale=0.3), "hd128_bf16_rtna")
        self.run_(bf16(softmax_scale=2e-38), "hd128_bf16_rtna")
        self.run_(bf16(window_size=[-1, -1]), "hd128_bf16_rtna")

    def test_numbers_of_heads(self):
        """The causal kernels swizzle over 8 heads only where 8 divides their number: with AITER's option for other numbers
        they would fault here."""
        for heads in (1, 3, 6, 7, 8, 12, 16):
            with self.subTest(heads):
                for queries in (33, 1100 if heads in (3, 8) else 1):
                    call = bf16(shape=(1, queries, 90, heads, 1, 128, 128), causal=True)
                    self.run_(call, "hd128_bf16_%srtna" % ("causal_" if queries > 1 else ""))

    def test_runs(self):
        self.run_(bf16(), "hd128_bf16_rtna", "warmup=2&iters=3", warmup=2, iters=3)
        self.run_(bf16(), "hd128_bf16_rtna", "baseline=naive&impl=aiter", baseline=True)

    def test_order(self):
        """Waves that take turns after one instruction or after as many as they like: the same bits, so no barrier is
        missing in the kernels that are used."""
        call = bf16(shape=(1, 290, 130, 2, 1, 128, 128), causal=True)
        call192 = bf16(shape=(1, 140, 130, 2, 1, 192, 128))
        group = calls.varlen("bf16", lengths=((70, 90), (0, 5), (130, 70)), heads=(2, 1), dims=(192, 128), causal=True)
        seen = []
        for quantum in ("1", "64", "0"):
            with start(REAL, EMUHIP_QUANTUM=quantum) as s:
                seen.append([Reply(send(s, c)).outputs for c in (call, call192, group)])
        for other in seen[1:]:
            for a, b in zip(seen[0], other):
                for name in a:
                    self.assertEqual(a[name].tobytes(), b[name].tobytes(), name)


class Varlen(Kernels):
    LENGTHS = (((3, 5), (0, 4), (6, 6), (2, 0)), ((300, 70), (1, 1)), ((0, 50), (257, 33), (100, 0), (128, 129)))

    def test_lengths(self):
        """Empty sequences among them, and a longest query that is said to be longer than any: its tile then lies beyond all
        ends (one causal kernel counts tiles down from it)."""
        for n, lengths in enumerate(self.LENGTHS):
            for dim in (128, 192):
                for causal in (False, True):
                    more = {"max_seqlen_q": 600} if n == 2 else {}
                    with self.subTest(lengths=lengths, dim=dim, causal=causal, **more):
                        call = calls.varlen("bf16", n, lengths, heads=(4, 2), dims=(dim, 128), causal=causal,
                                            how_v3_bf16_cvt=n, **more)
                        self.run_(call, "hd%s_bf16_%s%s_group" % ("128" if dim == 128 else "192x128",
                                                                  "causal_" if causal else "", ROUNDINGS[n]))

    def test_nothing_to_do(self):
        call = calls.varlen("bf16", 1, ((0, 3), (0, 0)), heads=(4, 2), dims=(128, 128))
        reply = Reply(send(server, call))
        call.check(reply.outputs)
        self.assertEqual(reply.header["impl"], "aiter")


class Choice(Kernels):
    def test_plans(self):
        """What would run, and why it is not AITER's."""
        f = "aiter:fmha_v3_fwd/MI300/fwd_"
        for call, query, impl, why in (
                (bf16(), "", f + "hd128_bf16_rtna$", None), (bf16(), "impl=aiter", f + "hd128_bf16_rtna$", None),
                (bf16(causal=True, how_v3_bf16_cvt=2), "", f + "hd128_bf16_causal_rtz$", None),
                (calls.varlen("bf16", heads=(4, 2), dims=(192, 128)), "", f + "hd192x128_bf16_rtna_group$", None),
                (bf16(), "impl=own", "own:attn_fwd_bf16_d128x128", "another implementation was asked for"),
                (bf16(), "impl=naive", "naive:attn_", "another"),
                (bf16(), "device=cpu:0", "cpu", "gfx942"),
                (calls.attention("fp16"), "", "own:attn_fwd_fp16", "takes bf16, not fp16"),
                (bf16(shape=(1, 4, 4, 1, 1, 64, 64)), "", "own:attn_fwd_bf16_d64x64", "head dimensions"),
                (bf16(window_size=[3, 0]), "", "own:attn_fwd_bf16_d128x128", "window"),
                (bf16(softmax_scale=-1.0), "", "own:attn_fwd_bf16_d128x128", "softmax_scale"),
                (calls.rmsnorm("bf16"), "", "own:rmsnorm", "no code object for rmsnorm")):
            with self.subTest(op=call.op, params=call.params, query=query):
                planned = plan(server, call, query)
                self.assertRegex(planned[0], "^" + impl)
                if why is None:
                    self.assertIsNone(planned[1])
                else:
                    self.assertRegex(planned[1], why)
                if query.startswith("device"):
                    continue
                reply = Reply(send(server, call, query=query))
                call.check(reply.outputs)
                self.assertEqual(reply.header["impl"], planned[0])

    def test_asked_for(self):
        """impl=aiter where AITER has nothing is refused with the reason, dry or not."""
        for call, why in ((calls.attention("fp16", shape=(1, 4, 4, 1, 1, 128, 128)), "bf16, not fp16"),
                          (bf16(window_size=[3, 0]), "window"), (bf16(softmax_scale=0.0), "softmax_scale")):
            for query in ("impl=aiter", "impl=aiter&dry_run=1"):
                p = problem(send(server, call, query=query), 422, "unavailable-impl", param="impl")
                self.assertIn(why, p["detail"])
        problem(send(server, calls.rmsnorm("bf16"), query="impl=aiter"), 422, "unavailable-impl", param="impl")

    def test_nearby_folder(self):
        """AITER's checkout or package, which holds hsa/, and gfx942/ itself name the folder too."""
        with tempfile.TemporaryDirectory(prefix="aiterd-test-") as d:
            os.symlink(os.path.abspath(REAL), os.path.join(d, "hsa"))
            for folder in (d, d + "/hsa/gfx942/", d + "/hsa/"):
                with self.subTest(folder), start(folder) as s:
                    self.assertEqual(device(s)["aiter"], "24 kernels of fmha_v3_fwd/MI300")
            with t.Server(*OPTIONS, env={"AITER_ASM_DIR": d, "AITERD_AITER_DIR": ""}) as s:
                until(lambda: device(s)["state"] == "ready", "the emulated device is ready", 60)
                self.assertEqual(info(s)["aiter"]["dir"], d + "/hsa")

    def test_other_chip(self):
        with start(REAL, EMUHIP_CHIP="0x74a2") as s:
            self.assertEqual(device(s)["aiter"], "24 kernels of fmha_v3_fwd/MI308")
            for call in (bf16(shape=(1, 300, 40, 2, 1, 128, 128), causal=True),
                         calls.varlen("bf16", heads=(4, 2), dims=(192, 128), causal=True)):
                reply = Reply(send(s, call))
                call.check(reply.outputs)
                self.assertRegex(reply.header["impl"], "^aiter:fmha_v3_fwd/MI308/fwd_")

    def test_damaged(self):
        """One byte of one object: its problems go to our kernel, with the reason; the others' stay AITER's."""
        with tempfile.TemporaryDirectory(prefix="aiterd-test-") as d:
            shutil.copytree(os.path.join(REAL, FOLDER), os.path.join(d, FOLDER))
            path = os.path.join(d, FOLDER, "MI300", "fwd_hd128_bf16_rtna.co")
            with open(path, "r+b") as f:
                f.seek(5000)
                byte = f.read(1)
                f.seek(5000)
                f.write(bytes([byte[0] ^ 1]))
            with start(d) as s:
                why = r"fwd_hd128_bf16_rtna.co differs from AITER's commit [0-9a-f]{12}: SHA-256 "
                self.assertRegex(device(s)["aiter"], "^23 of 24 kernels of fmha_v3_fwd/MI300; .*" + why)
                impl, reason = plan(s, bf16())
                self.assertRegex(impl, "^own:")
                self.assertRegex(reason, why)
                self.assertRegex(plan(s, bf16(how_v3_bf16_cvt=0))[0], "^aiter:")
                p = problem(send(s, bf16(), query="impl=aiter"), 422, "unavailable-impl", param="impl")
                self.assertRegex(p["detail"], why)


class NotNumbers(Kernels):
    """NaN and Inf, where AITER's kernels differ from the float64 reference (kernels/README.md says how)."""

    def ask(self, impl, tensors, **params):
        call = calls.Call("flash_attn_func", tensors, dict(params, return_lse=True), {}, "bf16")
        reply = Reply(send(server, call, query="impl=" + impl))
        return [t.to_float(reply.outputs[n]) for n in ("out", "softmax_lse")]

    def inputs(self, **changed):
        a = {n: t.to_float(t.normal((1, 300, 1, 128), "bf16", i)) for i, n in enumerate("qkv")}
        for name, (row, value) in changed.items():
            a[name][0, row, 0, 3] = value
        return {n: t.cast(x, "bf16") for n, x in a.items()}

    def test_scores(self):
        """A row with a NaN among its scores is NaN, as it should be; but its LSE is -inf where the reference has NaN."""
        for name in ("q", "k"):
            for value in (np.nan, np.inf):
                for causal in (False, True):
                    tensors = self.inputs(**{name: (40, value)})
                    out, lse = self.ask("aiter", tensors, causal=causal)
                    want, want_lse = self.ask("reference", tensors, causal=causal)
                    self.assertTrue(np.isnan(want).any())
                    self.assertTrue((np.isnan(out) == np.isnan(want)).all())
                    self.assertFalse(np.isnan(lse).any())
                    self.assertTrue(((lse == -np.inf) == np.isnan(want_lse)).all())

    def test_values(self):
        """A NaN or Inf among the values also reaches rows that do not see its key, if others of their tile do: there it is
        multiplied by 0. Without a mask all rows see it, and all is as in the reference. Our kernel has it right."""
        for value in (np.nan, np.inf):
            tensors = self.inputs(v=(100, value))
            out, want = (self.ask(impl, tensors)[0] for impl in ("aiter", "reference"))
            self.assertTrue(np.array_equal(np.isfinite(out), np.isfinite(want)))
            out, want, own = (self.ask(impl, tensors, causal=True)[0] for impl in ("aiter", "reference", "own"))
            self.assertTrue(np.array_equal(np.isfinite(own), np.isfinite(want)))
            self.assertTrue(np.isfinite(want[0, :100]).all())
            self.assertTrue(np.isnan(out[0, :100, 0, 3]).all())
            rest = np.ones(128, bool)
            rest[3] = False
            self.assertTrue(np.isfinite(out[..., rest]).all())


if __name__ == "__main__":
    unittest.main()
