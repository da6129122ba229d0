#!/usr/bin/python3
"""AITER's tutorial, its blocks unmodified, under `python3 -m aiter_remote`: what each prints, line by line, and the
numbers behind it against float64. And the launcher by itself: tensors that are marked, what it refuses, its options.
"""
import json
import os
import re
import subprocess
import sys
import unittest

import aiterd_test as t
import tutorial
from tutorial import MS, REFERENCE, match, run

try:
    import torch
except ImportError:
    torch = None

server = None
BLOCKS = tutorial.blocks()


def setUpModule():
    global server
    if torch is None:
        raise unittest.SkipTest("torch is not installed")
    server = t.Server("--device", "cpu")


def tearDownModule():
    if server:
        server.stop()


class Tutorial(unittest.TestCase):
    def test_all_blocks_are_here(self):
        self.assertEqual(list(BLOCKS), [
            "Installation Check", "Hello World: Flash Attention", "Comparing with PyTorch", "Working with Different Precisions",
            "RMSNorm Example", "Batched Operations", "Error Handling", "Memory Management"])

    def test_installation_check(self):
        lines, _ = run(server, BLOCKS["Installation Check"])
        device = json.loads(server.request("GET", "/v1/info").body)["devices"][0]
        match(self, lines, r"PyTorch: \d+\.\d+\S*", r"AITER: \d+\.\d+\.\d+ \(aiter_remote\)", "CUDA available: True",
              "ROCm version: None", "GPU: " + re.escape(device["name"]),
              r"Compute capability: \(0, 0\)")

    def test_hello_world(self):
        lines, _ = run(server, BLOCKS["Hello World: Flash Attention"], after=REFERENCE + """
            print(off(output, reference(query, key, value, True)), off(output, reference(query, key, value)))
            print(query.is_cuda, output.is_cuda, output.device, output.cpu().is_cuda)""".replace("            ", ""))
        size = r"torch.Size\(\[2, 512, 8, 64\]\)"
        off, unmasked = match(self, lines, "Input shape: " + size, "Output shape: " + size, "Output dtype: torch.float16",
                              "-- after", r"(\S+) (\S+)", "True True cuda:0 False")
        self.assertLess(off, t.TOLERANCE["fp16"])
        self.assertGreater(unmasked, 0.1)  # causal was asked for

    def test_comparison_in_short(self):
        """100 times is long_tutorial's; here twice."""
        block = BLOCKS["Comparing with PyTorch"]
        self.assertEqual(block.count("range(100)"), 2)
        short = block.replace("range(100)", "range(2)").replace("range(10)", "range(1)")
        lines, said = run(server, short, after=tutorial.AFTER_COMPARISON)
        tutorial.check_comparison(self, lines, 2)
        self.assertIn("attention written out in torch, softmax(q k^T) v on 'cuda', runs unfused on the service (cpu:0)", said)
        lines, said = run(server, short, "--local-attention", "--fetch", "--send", after=tutorial.AFTER_COMPARISON)
        tutorial.check_comparison(self, lines, 2)
        self.assertNotIn("runs unfused", said)

    def test_precisions(self):
        lines, _ = run(server, BLOCKS["Working with Different Precisions"],
                       after=REFERENCE + "print(output.dtype, off(output, reference(q, k, v)))")
        off = match(self, lines, *[r"torch\.%s: ✓ Output shape torch\.Size\(\[2, 512, 8, 64\]\)" % name
                                   for name in ("float32", "float16", "bfloat16")], "-- after", r"torch.bfloat16 (\S+)")
        self.assertLess(off[0], t.TOLERANCE["bf16"])

    def test_rmsnorm(self):
        lines, _ = run(server, BLOCKS["RMSNorm Example"], after="""
            y = x.cpu().double()
            print(float((output.cpu().double() - y / (y.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()).abs().max()))
            """.replace("            ", ""))
        size = r"torch.Size\(\[2, 1024, 4096\]\)"
        rms, off = match(self, lines, "Input shape: " + size, "Output shape: " + size,
                         r"Output RMS \(should be ~1.0\): (\d\.\d{4})", "-- after", r"(\S+)")
        self.assertAlmostEqual(rms, 1, delta=1e-3)
        self.assertLess(off, 4e-3)  # half a unit in the last place of the largest, which is between 4 and 8

    def test_batches(self):
        lines, _ = run(server, BLOCKS["Batched Operations"], after=REFERENCE + """
print(aiter.last_stats()["timing_ms"]["kernel"], elapsed, off(output[-1:], reference(q[-1:], k[-1:], v[-1:])))""")
        sizes = (1, 4, 16, 64)
        found = match(self, lines, *[r"Batch size %s: %s \((\d+\.\d\d) ms/sample\)" % ("%3d" % n, MS) for n in sizes],
                      "-- after", r"(\S+) (\S+) (\S+)")
        for i, n in enumerate(sizes):
            self.assertAlmostEqual(found[2 * i] / n, found[2 * i + 1], delta=0.0051 / n + 0.0051)
        self.assertGreater(found[6], found[0])  # 64 of them take longer than one
        kernel, elapsed, off = found[8:]
        self.assertAlmostEqual(kernel, elapsed, places=6)  # the events are the service's kernel time
        self.assertLess(off, t.TOLERANCE["fp16"])

    def test_errors(self):
        lines, _ = run(server, BLOCKS["Error Handling"])
        match(self, lines, r"Error caught: k and v disagree on the number of key/value heads .*",
              r"Error caught: q must be on CUDA, it is a CPU tensor.*")

    def test_memory(self):
        lines, _ = run(server, BLOCKS["Memory Management"], after="""
print(aiter.last_stats()["memory"]["overhead"] / 1024**2)
del q, k, v, output
print(torch.cuda.memory_allocated())""")
        initial, allocated, peak, overhead, kernels, left = match(
            self, lines, r"Initial memory: (\d+\.\d) MB", r"After allocation: (\d+\.\d) MB", r"Peak memory: (\d+\.\d) MB",
            r"Memory overhead: (\d+\.\d) MB", "-- after", r"(\S+)", r"(\S+)")
        self.assertEqual((initial, allocated, left), (0, 96, 0))  # three of 8 x 2048 x 16 x 64 halves
        self.assertAlmostEqual(peak, 128 + kernels, delta=0.051)
        self.assertAlmostEqual(overhead, 32 + kernels, delta=0.051)


class Launcher(unittest.TestCase):
    def test_attention_written_out(self):
        """What is recognised as attention, and what only looks like it, give what float64 says."""
        lines, said = run(server, REFERENCE.replace("def reference", "import torch, torch.nn.functional as F\ndef reference")
                          + """
torch.manual_seed(1)
q, k, v = (torch.randn(2, 64, 4, 32, device='cuda', dtype=torch.float16) for _ in range(3))
def parts(turned=True):
    return (x.transpose(1, 2) if turned else x.transpose(1, 2).contiguous() for x in (q, k, v))
want, scale = reference(q, k, v), 32 ** -0.5
a, b, c = parts()
print(off((F.softmax(torch.matmul(a, b.transpose(-2, -1)) / 32 ** 0.5, dim=-1) @ c).transpose(1, 2), want))
print(off((((a @ b.transpose(-2, -1)) * scale).softmax(-1) @ c).transpose(1, 2), want))
a, b, c = parts(False)
print(off((torch.softmax(scale * (a @ b.mT), -1) @ c).transpose(1, 2), want))
print(off((((a * scale) @ b.transpose(-2, -1)).softmax(-1) @ c).transpose(1, 2), want))
s = (a @ b.transpose(-2, -1)) * scale
s = s.masked_fill(torch.ones(64, 64, device='cuda').triu(1).bool(), float('-inf'))
print(off((s.softmax(-1) @ c).transpose(1, 2), reference(q, k, v, True)))
s = a @ b.transpose(-2, -1)
before = a.cpu().double() @ b.cpu().double().mT
a.mul_(2)                                     # the scores are those of before
print(off(s, before))
s = torch.matmul(b, c.transpose(-2, -1)) * scale
s[:, :, 0] = 0
print(off(s.softmax(-1)[:, :, 0], torch.full((2, 4, 64), 1 / 64.).double()))
p = (torch.matmul(b, c.transpose(-2, -1))).softmax(-2)   # another dimension
print(off(p.sum(-2), torch.ones(2, 4, 64).double()))
""")
        for i, x in enumerate(match(self, lines, *[r"(\S+)"] * 8)):
            self.assertLess(x, 0.03 if i == 5 else 3e-3, i)
        self.assertIn("runs unfused on the service", said)

    def test_marked_tensors(self):
        lines, _ = run(server, """
import copy, io, torch, aiter
x = torch.arange(6., device='cuda').reshape(2, 3).half()
assert x.is_cuda and x.device == torch.device('cuda', 0) and x.type() == 'torch.cuda.HalfTensor'
assert (x @ x.T).is_cuda and torch.cat([x, x]).is_cuda and x[0].is_cuda and x.max(dim=-1).values.is_cuda
assert not x.cpu().is_cuda and type(x.to('cpu')) is torch.Tensor and x.to('cuda') is x and x.cpu().cuda().is_cuda
assert torch.zeros_like(x).is_cuda and not torch.zeros_like(x, device='cpu').is_cuda and x.new_ones(3).is_cuda
assert torch.zeros(2).to(x).is_cuda and torch.zeros(2).to(x).dtype == torch.half
assert torch.sqrt(x).dtype == torch.half and torch.softmax(x, -1, dtype=torch.float32).dtype == torch.float32
assert x.tolist() == [[0, 1, 2], [3, 4, 5]] and f"{x.max():.2f}" == "5.00" and len(x) == 2
c = x.cpu(); c += 1; assert x[0, 0] == 0          # other memory, as on a GPU
for bad in (lambda: x.numpy(), lambda: x + torch.ones(3)):
    try: bad(); raise SystemExit('not refused')
    except (TypeError, RuntimeError) as e: print(e)
assert (x + torch.tensor(1.)).is_cuda
x += 1; x[0, 0] = 7; assert x.tolist()[0] == [7, 2, 3]
w = torch.ones(3, device='cuda', dtype=torch.half)
one = aiter.rmsnorm(x, w); x.mul_(0); assert aiter.rmsnorm(x, w).abs().max() == 0 and one.abs().max() > 0
q = torch.zeros(1, 8, 1, 8, device='cuda'); assert aiter.flash_attn_func(q, q, q).abs().max() == 0
q.data = torch.ones(1, 8, 1, 8, device='cuda'); assert (aiter.flash_attn_func(q, q, q) - 1).abs().max() < 1e-6
x.data = torch.ones(2, 3, device='cuda').half(); assert (aiter.rmsnorm(x, w).cpu() - 1).abs().max() < 1e-3
assert copy.deepcopy(x).is_cuda
f = io.BytesIO(); torch.save(x, f); f.seek(0); assert not torch.load(f).is_cuda
m = torch.nn.Linear(3, 2).to('cuda'); assert m.weight.is_cuda and m(torch.ones(1, 3, device='cuda')).is_cuda
p = torch.randn(4, device='cuda', requires_grad=True); (p * p).sum().backward(); assert torch.allclose(p.grad, 2 * p)
torch.manual_seed(5); a = torch.randn(3); torch.cuda.manual_seed(5); assert torch.equal(torch.randn(3, device='cuda').cpu(), a)
with torch.inference_mode(): assert aiter.rmsnorm(torch.ones(2, 3, device='cuda'), torch.ones(3, device='cuda')).is_cuda
print(x)
print(torch.cuda.device_count(), torch.cuda.current_device(), torch.cuda.get_device_properties(0).name == torch.cuda.get_device_name())
""")
        match(self, lines, "can't convert cuda:0 device type tensor to numpy. .*",
              "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
              r"tensor\(\[\[1\., 1\., 1\.\],", r" *\[1\., 1\., 1\.\]\], dtype=torch\.float16, device='cuda:0'\)", "1 0 True")

    def test_events(self):
        lines, _ = run(server, """
import torch, aiter
a, b, c = (torch.cuda.Event(enable_timing=True) for _ in range(3))
x, w = torch.randn(64, 64, device='cuda'), torch.ones(64, device='cuda')
total = 0
a.record()
for _ in range(3):
    aiter.rmsnorm(x, w); total += aiter.last_stats()['timing_ms']['kernel']
b.record(); c.record()
print(abs(a.elapsed_time(b) - total), b.elapsed_time(c))
for one, two in ((a, torch.cuda.Event(enable_timing=True)), (a, torch.cuda.Event())):
    try: one.elapsed_time(two)
    except RuntimeError as e: print(e)
""")
        off, none = match(self, lines, r"(\S+) (\S+)", "Both events must be recorded before calculating elapsed time.",
                          "Both events must be created with argument 'enable_timing=True'.")
        self.assertLess(off, 1e-9)
        self.assertEqual(none, 0)

    def test_options(self):
        lines, _ = run(server, """
import torch, aiter
q = torch.randn(1, 8, 1, 8, device='cuda')
aiter.flash_attn_func(q, q, q); print(aiter.last_stats()['impl'])
with aiter.options(impl='reference', iters=3, warmup=1): aiter.flash_attn_func(q, q, q)
print(aiter.last_stats()['impl'], aiter.last_stats()['kernel_ms']['iters'])
with aiter.options(outputs='none'): print(aiter.flash_attn_func(q, q, q))
with aiter.options(dry_run=True): print(aiter.flash_attn_func(q, q, q))
""", "--impl", "naive", "--device", "cpu:0")
        match(self, lines, "cpu:naive", "reference.* (3)", "None", "None")

    def test_gradients_are_refused(self):
        lines, _ = run(server, """
import torch, aiter
q = torch.randn(1, 8, 1, 8, device='cuda', requires_grad=True)
try: aiter.flash_attn_func(q, q, q)
except RuntimeError as e: print(e)
with torch.no_grad(): print(aiter.flash_attn_func(q, q, q).shape)
""")
        match(self, lines, "q requires grad, but the service computes no gradients: .*", r"torch.Size\(\[1, 8, 1, 8\]\)")

    def test_refusals(self):
        class Nowhere:
            url = "http://127.0.0.1:9"
        _, said = run(Nowhere, "print(1)", expect=1)
        self.assertIn("aiter_remote: no answer from http://127.0.0.1:9", said)
        self.assertIn("Is aiterd running there?", said)
        _, said = run(server, "print(1)", "--device", "hip:7", expect=1)
        self.assertIn("there is no device 'hip:7'", said)
        # a machine whose torch has a GPU
        code = ("import runpy, sys, torch\ntorch.cuda.is_available = lambda: True\n"
                "torch.cuda.get_device_name = lambda device: 'a real one'\n"
                "sys.argv = ['aiter_remote', '--url', %r, %r]\nrunpy.run_module('aiter_remote', run_name='__main__')" %
                (server.url, __file__))
        done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": tutorial.PACKAGE}, capture_output=True,
                              text=True, timeout=120)
        self.assertEqual(done.returncode, 1)
        self.assertIn("torch has a GPU here (a real one): run the script with plain python3", done.stderr)

    def test_script_goes_on_as_itself(self):
        """Arguments, __main__, its folder on the path, its exit status and its traceback."""
        lines, said = run(server, "import sys, os\nprint(sys.argv[1:], __name__, sys.path[0] == os.path.dirname(__file__))\n"
                                  "sys.exit(3)", expect=3)
        match(self, lines, r"\[\] __main__ True")
        _, said = run(server, "def f(): raise KeyError('mine')\nf()", expect=1)
        self.assertIn("KeyError: 'mine'", said)


class Residency(unittest.TestCase):
    """Tensors stay on the server between calls."""

    START = """
import torch, aiter, aiter_remote
from aiter_remote import default_client
x, w = torch.randn(64, 1024, device='cuda'), torch.ones(1024, device='cuda')
def norm(x): x = x.cpu().double(); return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
def off(y, want): return float((y.cpu().double() - want).abs().max())
def sent(): return aiter.last_stats()['client']['sent_bytes']
"""

    def kept(self):
        return json.loads(server.request("GET", "/v1/tensors").body)["count"]

    def test_nothing_moves_twice(self):
        lines, said = run(server, self.START + """
for i in range(3): y = aiter.rmsnorm(x, w)
print(sent(), default_client().tensors()['count'])
z = aiter.rmsnorm(y, w)                    # its input was never here
print(sent(), off(z, norm(norm(x))), off(y, norm(x)))
view = aiter.rmsnorm(x.reshape(128, 512)[:64], w[:512])
print(off(view, norm(x.reshape(128, 512)[:64])))
x[3] = 2                                   # changed: sent again
print(off(aiter.rmsnorm(x, w), norm(x)))
y += 1                                     # a result changed here
print(off(aiter.rmsnorm(y, w), norm(y)))
del x, y, z, view
for i in range(200): aiter.rmsnorm(torch.randn(2, 1024, device='cuda'), w)
print(default_client().tensors()['count'])
""")
        a, count, b, *rest, left = match(self, lines, r"(\d+) (\d+)", r"(\d+) (\S+) (\S+)", r"(\S+)", r"(\S+)", r"(\S+)", r"(\d+)")
        self.assertLess(max(a, b), 1000)
        self.assertLessEqual(count, 4)  # x, w and at most two results
        self.assertLess(left, 100)
        self.assertLess(max(rest), 1e-4)
        self.assertEqual((said, self.kept()), ("", 0))  # all is forgotten at the end

    def test_sent_and_fetched(self):
        lines, _ = run(server, self.START + """
for i in range(2): y = aiter.rmsnorm(x, w)
print(sent() > 64 * 4096, default_client().tensors()['count'], off(y, norm(x)) < 1e-4)
""", "--send")
        match(self, lines, "True 0 True")
        lines, _ = run(server, self.START + """
for i in range(2): y = aiter.rmsnorm(x, w)
print(sent() < 1000, aiter.last_stats()['client']['received_bytes'] > 64 * 4096, off(y, norm(x)) < 1e-4)
""", "--fetch")
        match(self, lines, "True True True")

    def test_forgotten_by_the_server(self):
        """Inputs are sent again; a result that was only there is gone, and that is said."""
        lines, _ = run(server, self.START + """
def forget():
    for t in default_client().tensors()['tensors']: default_client().delete(t['name'])
y = aiter.rmsnorm(x, w)
lost = aiter.rmsnorm(x, w)
print(off(y, norm(x)) < 1e-4)
forget()
print(off(aiter.rmsnorm(x, w), norm(x)) < 1e-4)
print(off(aiter.rmsnorm(y, w), norm(y)) < 1e-4)
forget()
for use in (lambda: lost.sum(), lambda: aiter.rmsnorm(lost, w)):
    try: use()
    except RuntimeError as e: print(e)
""")
        match(self, lines, "True", "True", "True", *[r"the service no longer has a result of \[64, 1024\] that was left there.*"] * 2)

    def test_older_service(self):
        """One that knows no kept tensors: said once, and all is sent."""
        sys.path.insert(0, tutorial.PACKAGE)
        from aiter_remote import AiterdError
        from aiter_remote.launch.buffers import Service

        class Old:
            run_options, url, puts = {}, "", 0

            def info(self):
                return {"devices": [{"id": "cpu:0", "kind": "cpu"}]}

            def put(self, *args, **how):
                self.puts += 1
                raise AiterdError("nothing here", status=404)
        old, said = Old(), []
        service = Service(old)
        service.tell = said.append
        self.assertEqual([service.upload(torch.zeros(2)) for _ in range(3)], [None] * 3)
        self.assertEqual((old.puts, len(said)), (1, 1))
        self.assertIn("keeps no tensors", said[0])

    def test_no_room(self):
        with t.Server("--tensors-quota", "128K") as small:
            lines, said = run(small, self.START + """
print(off(aiter.rmsnorm(x, w), norm(x)) < 1e-4, off(aiter.rmsnorm(aiter.rmsnorm(x, w), w), norm(norm(x))) < 1e-4)
""")
        match(self, lines, "True True")
        self.assertIn("the service has no room to keep", said)


def load_tests(loader, tests, pattern):
    """With sanitizers in the server two blocks are enough for it: what it is sent is the same as from other clients."""
    if "ASAN_OPTIONS" not in os.environ:
        return tests
    return unittest.TestSuite(map(Tutorial, ("test_hello_world", "test_errors")))


if __name__ == "__main__":
    unittest.main()
