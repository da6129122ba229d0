#!/usr/bin/python3
"""clients/python against the real server: AITER's functions on numpy arrays and torch tensors against float64, errors,
statistics, options, threads; and against a server that misbehaves: connections reused, requests repeated only where that
is safe. The package's types, and that it needs neither torch nor anything but numpy.
"""
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

import numpy as np

import aiterd_test as t

PACKAGE = os.path.join(t.HERE, "..", "..", "clients", "python")
sys.path.insert(0, PACKAGE)
import aiter_remote as ar  # noqa: E402
from aiter_remote import arrays, wire  # noqa: E402

try:
    import torch
except ImportError:
    torch = None

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


def qkv(dtype=np.float16, b=2, s=33, h=4, d=16, hk=None, sk=None, dv=None):
    return (normal(b, s, h, d, seed=1, dtype=dtype), normal(b, sk or s, hk or h, d, seed=2, dtype=dtype),
            normal(b, sk or s, hk or h, dv or d, seed=3, dtype=dtype))


class Numpy(unittest.TestCase):
    def test_attention(self):
        """Both floats numpy has, masks, groups, other lengths and dimensions; positional arguments in AITER's order."""
        for dtype, name in ((np.float32, "fp32"), (np.float16, "fp16")):
            for how in ({}, {"causal": True}, {"window_size": (5, 3)}, {"window_size": (5, 3, 0), "causal": True},
                        {"softmax_scale": 0.3}):
                with self.subTest(dtype=name, **how):
                    q, k, v = qkv(dtype, hk=2, sk=40, dv=24)
                    want, lse = t.attention(q, k, v, how.get("causal", False), how.get("window_size", (-1, -1))[:2],
                                            how.get("softmax_scale"))
                    out = ar.flash_attn_func(q, k, v, **how)
                    self.assertEqual((type(out), out.dtype), (np.ndarray, dtype))
                    t.assert_close(out, want, name)
                    out, got = ar.flash_attn_func(q, k, v, return_lse=True, **how)
                    t.assert_close(out, want, name)
                    t.assert_close(got, lse, "fp32", "softmax_lse")
        q, k, v = qkv()
        t.assert_close(ar.flash_attn_func(q, k, v, 0.0, 0.5, True, (7, -1, 0), None, None, False, True)[0],
                       t.attention(q, k, v, True, (7, -1), 0.5)[0], "fp16")

    def test_varlen(self):
        cu_q, cu_k = np.array([0, 5, 5, 30], np.int32), np.array([0, 9, 12, 20], np.int32)
        q, k, v = normal(30, 4, 16, seed=1), normal(20, 2, 16, seed=2), normal(20, 2, 16, seed=3)
        want, lse = t.attention_varlen(q, k, v, cu_q, cu_k, causal=True)
        t.assert_close(ar.flash_attn_varlen_func(q, k, v, cu_q, cu_k, np.int64(25), 9, causal=True), want, "fp32")
        out = np.zeros_like(q)
        got = ar.flash_attn_varlen_func(q, k, v, cu_q, cu_k, 25, 9, causal=True, return_lse=True, out=out, min_seqlen_q=1)
        self.assertIs(got[0], out)
        t.assert_close(out, want, "fp32")
        t.assert_close(got[1], lse, "fp32")
        with self.assertRaisesRegex(RuntimeError, r"out is float32 of shape \[3\], the result float32 of shape"):
            ar.flash_attn_varlen_func(q, k, v, cu_q, cu_k, 25, 9, out=np.zeros(3, np.float32))

    def test_rmsnorm_spellings(self):
        x, w = normal(3, 5, 100, seed=1), normal(100, seed=2)
        want, want5 = t.rmsnorm(x, w, 1e-6), t.rmsnorm(x, w, 0.5)
        for got in (ar.rmsnorm(x, w), ar.rmsnorm(x, w, eps=1e-6), ar.rmsnorm(input=x, weight=w, epsilon=1e-6),
                    ar.rms_norm(x, w, 1e-6), ar.rmsnorm2d_fwd(x, w, epsilon=1e-6)):
            t.assert_close(got, want, "fp32")
        t.assert_close(ar.rmsnorm(x, w, 0.5), want5, "fp32")
        out = np.zeros_like(x)
        self.assertIsNone(ar.rmsnorm(out, x, w, 0.5))
        t.assert_close(out, want5, "fp32")
        out[:] = 0
        self.assertIsNone(ar.rmsnorm(out=out, input=x, weight=w, epsilon=0.5))
        t.assert_close(out, want5, "fp32")
        for args, how in (((x,), {}), ((x, w, 1e-6, 3), {}), ((x, w), {"epsilonn": 1}), ((x, w, 1e-6), {"eps": 1})):
            with self.assertRaises(TypeError):
                ar.rmsnorm(*args, **how)
        with self.assertRaises(TypeError):
            ar.rms_norm(x, w)  # AITER has no default there

    def test_layouts_in_memory(self):
        """What is not dense is made so; the shape is what counts. Empty and read-only arrays, too."""
        q, k, v = qkv()
        want = t.attention(q, k, v)[0]
        turned = [np.asfortranarray(x) for x in (q, k, v)]
        t.assert_close(ar.flash_attn_func(*turned), want, "fp16")
        wide = np.zeros((2, 33, 8, 16), np.float16)
        wide[:, :, ::2] = q
        t.assert_close(ar.flash_attn_func(wide[:, :, ::2], k, v), want, "fp16")
        t.assert_close(ar.flash_attn_func(q.astype(">f2"), k, v), want, "fp16")
        q.flags.writeable = False
        t.assert_close(ar.flash_attn_func(q, k, v), want, "fp16")
        self.assertEqual(ar.rmsnorm(np.zeros((0, 8), np.float32), np.ones(8, np.float32)).shape, (0, 8))

    def test_no_copy(self):
        """A dense array is sent from its own memory, and a reply read into the memory of what is returned."""
        x = normal(8, 8)
        sent = wire.safetensors({"x": arrays.operand(x)}, {})
        self.assertTrue(np.shares_memory(np.frombuffer(sent[-1], np.uint8), x))
        file = io.BytesIO(b"".join(sent))
        seen = []

        def make(name, dtype, shape):
            array, memory = arrays.NUMPY.make(dtype, shape)
            seen.append((array, memory))
            return array, memory
        got, _ = wire.read_safetensors(lambda m: self.assertEqual(file.readinto(m), len(m)), make)
        self.assertIs(got["x"], seen[0][0])
        np.testing.assert_array_equal(got["x"], x)


class Bfloat16(unittest.TestCase):
    def test_rounding(self):
        x = np.concatenate([normal(1000), [0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-40]]).astype(np.float32)
        ties = (np.arange(65536, dtype=np.uint32) << 16 | 0x8000).view(np.float32)  # half way between two, and NaNs
        for y in (x, ties[~np.isnan(ties)]):
            np.testing.assert_array_equal(ar.BF16.of(y).bits(), t.to_bf16(y).view(np.uint16))
        self.assertTrue(np.isnan(ar.BF16.of(ties).float()[np.isnan(ties)]).all())
        bits = np.arange(65536, dtype=np.uint16)
        back = ar.BF16.of(ar.BF16(bits).float()).bits()
        nan = (bits & 0x7fff) > 0x7f80
        np.testing.assert_array_equal(back[~nan], bits[~nan])
        self.assertTrue(np.isnan(ar.BF16(back).float()[nan]).all())

    def test_behaves_as_numbers(self):
        x = ar.BF16.of(np.array([[1.5, -2.25], [0.1, 4]]))
        self.assertEqual(x[0, 1], -2.25)
        self.assertEqual((x + 1)[0].tolist(), [2.5, -1.25])
        self.assertEqual((x @ x).dtype, np.float32)
        self.assertEqual(float(x.mean()), float(x.float().mean()))
        self.assertEqual(np.abs(x).max(), 4)
        self.assertEqual(np.concatenate([x, x]).dtype, np.float32)
        self.assertIsInstance(x[0], ar.BF16)
        self.assertIsInstance(x.T.reshape(-1), ar.BF16)
        x[0, 0] = 0.1
        self.assertEqual(x[0, 0], x[1, 0])
        x += 1
        self.assertIsInstance(x, ar.BF16)
        self.assertEqual(x[1, 1], 5)
        self.assertIn("5.", repr(x))
        with self.assertRaises(TypeError):
            ar.BF16(np.zeros(3, np.float32))

    def test_runs(self):
        q, k, v = map(ar.BF16.of, qkv(np.float32))
        want = t.attention(q.float(), k.float(), v.float())[0]
        out = ar.flash_attn_func(q, k, v)
        self.assertIsInstance(out, ar.BF16)
        t.assert_close(out.float(), want, "bf16")
        raw = [x.bits().view("V2") for x in (q, k, v)]  # as np.load gives a bf16 file
        out = ar.flash_attn_func(*raw)
        self.assertEqual(out.dtype, np.dtype("V2"))
        t.assert_close(ar.BF16(out).float(), want, "bf16")
        with self.assertRaisesRegex(RuntimeError, r"q: numpy's uint16 is no dtype of the service; .*BF16"):
            ar.flash_attn_func(q.bits(), k, v)


@unittest.skipIf(torch is None, "torch is not installed")
class Torch(unittest.TestCase):
    def test_kinds(self):
        for name in ("float32", "float16", "bfloat16"):
            with self.subTest(dtype=name):
                dtype = getattr(torch, name)
                q, k, v = (torch.from_numpy(x).to(dtype) for x in qkv(np.float32))
                want, lse = t.attention(*(x.double().numpy() for x in (q, k, v)))
                out, got = ar.flash_attn_func(q, k, v, return_lse=True)
                self.assertEqual((type(out), out.dtype, got.dtype), (torch.Tensor, dtype, torch.float32))
                t.assert_close(out.double().numpy(), want, {"float32": "fp32", "float16": "fp16"}.get(name, "bf16"))
                t.assert_close(got.numpy(), lse, "fp32" if name == "float32" else "fp16")
                bhsd = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
                self.assertTrue(torch.equal(ar.flash_attn_func(*bhsd), out))
        x = torch.randn(4, 64)
        out = torch.zeros_like(x)
        ar.rmsnorm(out, x, torch.ones(64), 1e-6)
        t.assert_close(out.numpy(), t.rmsnorm(x.numpy(), np.ones(64)), "fp32")

    def test_gradients(self):
        q = torch.randn(1, 8, 1, 8, requires_grad=True)
        with self.assertRaisesRegex(RuntimeError, "q requires grad, but the service computes no gradients"):
            ar.flash_attn_func(q, q, q)
        with torch.no_grad():
            self.assertFalse(ar.flash_attn_func(q, q, q).requires_grad)

    def test_not_dense(self):
        with self.assertRaisesRegex(RuntimeError, "x is a tensor of layout torch.sparse_coo"):
            ar.rmsnorm(torch.eye(8).to_sparse(), torch.ones(8))
        with self.assertRaisesRegex(RuntimeError, "x: torch.complex64 is no dtype of the service"):
            ar.rmsnorm(torch.ones(2, 8, dtype=torch.complex64), torch.ones(8))


class Errors(unittest.TestCase):
    def test_words_of_the_server(self):
        q, k, v = qkv(h=8, hk=16)
        with self.assertRaises(RuntimeError) as caught:
            ar.flash_attn_func(q, k, v)
        e = caught.exception
        self.assertEqual(str(e), "q has 8 heads, k and v have 16: the number of heads in key/value must divide the number in "
                                 "query")
        self.assertEqual((e.slug, e.status, e.input, e.found), ("invalid-shape", 422, "k", "16 heads"))
        self.assertEqual(e.problem["detail"], str(e))
        self.assertTrue(e.request_id)

    def test_not_offered(self):
        """Every parameter that AITER has and the service has not is refused by name, and only off its default."""
        q, k, v = qkv()
        for name, value in (("dropout_p", 0.5), ("bias", q), ("alibi_slopes", q), ("return_attn_probs", True),
                            ("cu_seqlens_q", q), ("cu_seqlens_kv", q), ("sink_ptr", q), ("num_splits", 2)):
            with self.subTest(name=name):
                with self.assertRaisesRegex(NotImplementedError, name):
                    ar.flash_attn_func(q, k, v, **{name: value})
        for how in ({"window_size": (1, 1, 1)}, {"window_size": (1,)}):
            with self.assertRaisesRegex(RuntimeError, "window_size"):
                ar.flash_attn_func(q, k, v, **how)
        x, w = normal(2, 8), normal(8)
        with self.assertRaisesRegex(NotImplementedError, "gemma_norm"):
            ar.rmsnorm(np.empty_like(x), x, w, 1e-6, True)
        with self.assertRaisesRegex(NotImplementedError, "use_model_sensitive_rmsnorm"):
            ar.rms_norm(x, w, 1e-6, 1)

    def test_before_sending(self):
        q, k, v = qkv()
        with self.assertRaisesRegex(RuntimeError, "k is a list: wanted an array"):
            ar.flash_attn_func(q, [1, 2], v)
        with self.assertRaisesRegex(RuntimeError, "q: numpy's complex64 is no dtype"):
            ar.flash_attn_func(q + 0j, k, v)
        with self.assertRaisesRegex(RuntimeError, "the server's address is 'ftp://x'"):
            ar.Client("ftp://x")

    def test_address_without_scheme(self):
        with ar.Client(server.url[len("http://"):]) as c:
            self.assertTrue(c.info()["devices"])

    def test_no_numpy(self):
        done = subprocess.run([sys.executable, "-S", "-c", "import aiter_remote"], capture_output=True, encoding="utf-8",
                              env={"PYTHONPATH": PACKAGE}, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "ImportError: aiter_remote needs numpy, and .*python.* has none")

    def test_nobody_there(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            url = "http://127.0.0.1:%d" % s.getsockname()[1]
            with self.assertRaisesRegex(ar.ServerUnreachable, "no answer from " + url):
                ar.Client(url).info()
        self.assertTrue(issubclass(ar.ServerUnreachable, RuntimeError))


class Calls(unittest.TestCase):
    def test_statistics_are_the_threads(self):
        x, w = normal(4, 64), normal(64)
        ar.rmsnorm(x, w)
        mine = ar.last_stats()
        seen = []

        def other():
            seen.append(ar.last_stats())
            ar.flash_attn_func(*qkv())
            seen.append(ar.last_stats())
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        self.assertEqual(seen[0], {})
        self.assertEqual((mine["op"], seen[1]["op"], ar.last_stats()), ("rmsnorm", "flash_attn_func", mine))
        self.assertGreater(mine["kernel_ms"]["median"], 0)
        self.assertGreaterEqual(mine["client"]["round_trip_ms"], mine["timing_ms"]["kernel"])
        self.assertGreater(mine["client"]["received_bytes"], x.nbytes)

    def test_options(self):
        q, k, v = qkv(s=128)
        with ar.options(iters=3, warmup=1, baseline="naive"):
            with ar.options(impl="reference", baseline=None):
                ar.flash_attn_func(q, k, v)
                self.assertEqual(ar.last_stats()["impl"].split(":")[0], "reference")
                self.assertNotIn("baseline", ar.last_stats())
            ar.flash_attn_func(q, k, v)
        s = ar.last_stats()
        self.assertEqual((s["kernel_ms"]["iters"], s["kernel_ms"]["warmup"]), (3, 1))
        self.assertIn("speedup", s["baseline"])
        with ar.options(outputs="none"):
            self.assertIsNone(ar.flash_attn_func(q, k, v))
        with ar.options(no_such_option=1):
            with self.assertRaisesRegex(RuntimeError, "no_such_option"):
                ar.flash_attn_func(q, k, v)
        ar.flash_attn_func(q, k, v)
        self.assertEqual(ar.last_stats()["kernel_ms"]["iters"], 1)
        client = ar.Client(server.url, impl="naive")
        self.assertEqual(client.run("flash_attn_func", {"q": q, "k": k, "v": v}).stats["impl"], "cpu:naive")
        digest = client.run("flash_attn_func", {"q": q, "k": k, "v": v}, outputs="digest")
        self.assertEqual((dict(digest), digest.metadata["outputs"]["out"]["shape"]), ({}, [2, 128, 4, 16]))
        self.assertEqual(client.run("flash_attn_func", {"q": q, "k": k, "v": v}, dry_run=True).metadata["dry_run"], True)
        client.close()

    def test_compressed(self):
        try:
            import zstandard  # noqa: F401
            codings = ("gzip", "zstd")
        except ImportError:
            codings = ("gzip",)
        x, w = np.round(normal(500, 600)), np.ones(600, np.float32)
        for coding in codings:
            with ar.Client(server.url, compress=coding) as c:
                got = c.run("rmsnorm", {"x": x, "weight": w})
                t.assert_close(got["out"], t.rmsnorm(x, w), "fp32")
                self.assertLess(got.stats["client"]["received_bytes"], got["out"].nbytes)

    def test_describes(self):
        c = ar.default_client()
        self.assertEqual(c.info()["devices"][0]["id"], "cpu:0")
        self.assertIn("rmsnorm", [op["name"] for op in c.ops()])
        self.assertEqual(c.op("rmsnorm")["name"], "rmsnorm")
        self.assertGreater(c.limits()["max_body_bytes"], 0)
        with self.assertRaises(ar.AiterdError) as caught:
            c.op("no/such")
        self.assertEqual(caught.exception.status, 404)

    def test_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "s")
            with t.Server("--listen", "unix:" + path) as s:
                with ar.Client("unix:" + path) as c:
                    x = normal(3, 8)
                    t.assert_close(c.run("rmsnorm", {"x": x, "weight": np.ones(8, np.float32)})["out"],
                                   t.rmsnorm(x, np.ones(8)), "fp32")
                del s

    def test_one_connection(self):
        """Calls of a thread go over one connection; another thread has its own; a server's restart is survived."""
        c = ar.Client(server.url)
        x = {"x": normal(3, 8), "weight": np.ones(8, np.float32)}
        c.run("rmsnorm", x)
        sock = c.transport._mine.connection.sock
        for _ in range(3):
            c.run("rmsnorm", x)
            with self.assertRaises(RuntimeError):
                c.run("rmsnorm", {"x": x["x"]})
            self.assertIs(c.transport._mine.connection.sock, sock)
        c.close()

    def test_too_large(self):
        """A body that the server refuses before it has it all: its words arrive."""
        with t.Server("--max-body", "1M") as s, ar.Client(s.url) as c:
            x = {"x": normal(1000, 1000), "weight": np.ones(1000, np.float32)}
            for _ in range(3):
                with self.assertRaises(ar.AiterdError) as caught:
                    c.run("rmsnorm", x)
                self.assertEqual(caught.exception.status, 413)


class Fake:
    """A server that does what it is told. Each connection gets a list of answers: bytes to send after a request, or None
    to close without a word; after its last answer it is closed. `requests`: what was asked, in order."""

    def __init__(self, *connections):
        self.requests, self.connections = [], list(connections)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        for answers in self.connections:
            try:
                s = self.listener.accept()[0]
            except OSError:
                return
            with s, s.makefile("rb") as f:
                for answer in answers:
                    line = f.readline()
                    if not line:
                        break
                    head = {}
                    for field in iter(f.readline, b"\r\n"):
                        name, value = field.decode().split(":", 1)
                        head[name.lower()] = value.strip()
                    f.read(int(head.get("content-length", 0)))
                    self.requests.append((line.split()[0].decode(), head))
                    if answer is None:
                        break
                    s.sendall(answer)
                s.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)  # closing alone would not wake the thread
        self.listener.close()
        self.thread.join(10)


def answer(body=b"{}", status="200 OK", *headers):
    return b"\r\n".join([b"HTTP/1.1 " + status.encode(), b"Content-Type: application/json", *headers,
                         b"Content-Length: %d" % len(body), b"", body])


X = {"x": np.ones((2, 8), np.float32), "weight": np.ones(8, np.float32)}
BUSY = answer(json.dumps({"type": "/problems/overloaded", "detail": "busy", "status": 503}).encode(),
              "503 Service Unavailable", b"Retry-After: 0")


class Repeats(unittest.TestCase):
    def test_closed_while_idle(self):
        """Closed by the server while idle: found before or after sending, sent once more on a new connection."""
        with Fake([answer(), None], [answer()]) as f, ar.Client(f.url) as c:
            c.run("rmsnorm", X)
            c.run("rmsnorm", X)
            self.assertEqual([r[0] for r in f.requests], ["POST"] * 3)
        with Fake([answer()], [answer()]) as f, ar.Client(f.url) as c:
            c.run("rmsnorm", X)
            c.run("rmsnorm", X)
            self.assertEqual(len(f.requests), 2)

    def test_fresh_connection_is_not_repeated(self):
        with Fake([None], [answer()]) as f, ar.Client(f.url) as c:
            with self.assertRaisesRegex(ar.ServerUnreachable, "closed the connection without an answer"):
                c.run("rmsnorm", X)
            self.assertEqual(len(f.requests), 1)

    def test_busy(self):
        with Fake([BUSY, BUSY, answer()]) as f, ar.Client(f.url, retries=2) as c:
            c.run("rmsnorm", X)
            self.assertEqual(len(f.requests), 3)
        with Fake([BUSY, BUSY]) as f, ar.Client(f.url, retries=1) as c:
            with self.assertRaisesRegex(ar.AiterdError, "^busy$"):
                c.run("rmsnorm", X)
            self.assertEqual(len(f.requests), 2)

    def test_a_job_is_sent_once(self):
        """Even on a connection that was idle: it is opened anew for it."""
        with Fake([answer(), None], [None], [answer()]) as f, ar.Client(f.url) as c:
            c.run("rmsnorm", X)
            with self.assertRaises(ar.ServerUnreachable):
                c.submit("rmsnorm", X)
            self.assertEqual(len(f.requests), 2)
            self.assertEqual(f.requests[1][1]["prefer"], "respond-async")

    def test_interrupted(self):
        """Ctrl-C while the server computes: the next call does not trip over what was left of the first."""
        def interrupt(*_):
            raise KeyboardInterrupt
        before = signal.signal(signal.SIGALRM, interrupt)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        with Fake([b"", b""], [answer()]) as f, ar.Client(f.url) as c:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with self.assertRaises(KeyboardInterrupt):
                c.run("rmsnorm", X)
            c.run("rmsnorm", X)
            self.assertEqual(len(f.requests), 2)

    def test_many_files_open(self):
        """A connection whose descriptor is beyond what select() takes is kept and used like any other."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limits[1] != resource.RLIM_INFINITY and limits[1] < 1200:
            self.skipTest("no more than %d files may be open" % limits[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 1200), limits[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        with contextlib.ExitStack() as files, Fake([answer(), answer()]) as f, ar.Client(f.url) as c:
            while files.enter_context(open(os.devnull)).fileno() < 1024:
                pass
            c.run("rmsnorm", X)
            c.run("rmsnorm", X)
            self.assertEqual(len(f.requests), 2)

    def test_cut_short(self):
        whole = b"".join(wire.safetensors({"out": arrays.operand(X["x"])}, {}))
        reply = answer(whole).replace(b"application/json", b"application/x-safetensors")
        for n in (len(reply) - 1, len(reply) - len(whole) + 4):
            with self.subTest(n=n), Fake([reply[:n]], [reply]) as f, ar.Client(f.url) as c:
                with self.assertRaisesRegex(ar.ServerUnreachable, "early|broke within"):
                    c.run("rmsnorm", X)
                np.testing.assert_array_equal(c.run("rmsnorm", X)["out"], X["x"])
                self.assertEqual(len(f.requests), 2)

    def test_lies(self):
        """Replies that are not what they say are errors, never wrong numbers."""
        def file(head, data=b"\0" * 64):
            text = json.dumps(head).encode()
            return len(text).to_bytes(8, "little") + text + data
        good = {"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]}
        for body in (file({"out": {**good, "shape": [2, 9]}}), file({"out": {**good, "dtype": "F99"}}),
                     file({"out": {**good, "data_offsets": [8, 72]}}), file({"out": good}, b"\0" * 65),
                     b"\xff" * 40, (4).to_bytes(8, "little") + b"nope", file([good]), file({"out": 5}), file({"out": [1, 2]}),
                     file({"out": {**good, "shape": [-2, -8]}}), file({"out": {**good, "shape": "2"}}), file({"out": {}}),
                     file({"out": {**good, "shape": [1 << 60]}}), file({"out": {**good, "data_offsets": [0, 64, 64]}}),
                     file({"out": {**good, "dtype": []}}), file({"__metadata__": {"stats": 5}, "out": good})):
            reply = answer(body).replace(b"application/json", b"application/x-safetensors")
            with self.subTest(body=body[:60]), Fake([reply]) as f, ar.Client(f.url) as c:
                with self.assertRaises(ar.AiterdError):
                    c.run("rmsnorm", X)
        with Fake([answer(b"no gzip at all", "200 OK", b"Content-Encoding: gzip")]) as f, ar.Client(f.url) as c:
            with self.assertRaisesRegex(ar.AiterdError, "cannot be unpacked"):
                c.run("rmsnorm", X)
        with Fake([answer(b"<html>a proxy's page", "502 Bad Gateway")]) as f, ar.Client(f.url) as c:
            with self.assertRaisesRegex(ar.AiterdError, "HTTP status 502: <html>a proxy's page"):
                c.run("rmsnorm", X)

    def test_key(self):
        with Fake([answer(b'{"devices":[]}')]) as f, ar.Client(f.url, "secret") as c:
            c.info()
            self.assertEqual(f.requests[0][1]["authorization"], "Bearer secret")


def child(code, **env):
    """Run code in a Python of its own, with the package on its path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AITERD_") and k != "PYTHONPATH"}
    environment.update(PYTHONPATH=PACKAGE, AITERD_URL=server.url, **env)
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


class Alone(unittest.TestCase):
    def test_numpy_only(self):
        """With every import blocked that is not the standard library's or numpy's."""
        done = child("""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "aiter_remote", "mkl", "sitecustomize"):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
import numpy as np, aiter_remote as ar
q, k, v = (np.random.standard_normal((1, 16, 2, 8)).astype(np.float16) for _ in range(3))
out = ar.flash_attn_func(q, k, v)
assert out.shape == (1, 16, 2, 8) and out.dtype == np.float16
assert isinstance(ar.flash_attn_func(*map(ar.BF16.of, (q, k, v))), ar.BF16)
assert "torch" not in sys.modules
print("fine", ar.last_stats()["device"]["id"])
""")
        self.assertEqual((done.returncode, done.stdout.strip()), (0, "fine cpu:0"), done.stderr)

    def test_without_torch_the_launcher_gives_aiter(self):
        with tempfile.TemporaryDirectory() as folder:
            script = os.path.join(folder, "s.py")
            with open(script, "w") as f:
                f.write("import sys, numpy as np, aiter\nx = np.ones((2, 8), np.float32)\n"
                        "print(aiter.rmsnorm(x, x[0]).sum(), sys.argv[1:], __name__, sys.modules['torch'])\n")
            done = child("import sys; sys.modules['torch'] = None\nfrom aiter_remote.launch.main import main\n"
                         "main([%r, 'a', '--url'])" % script)
        self.assertEqual(done.stdout.split(" ", 1)[1].strip(), "['a', '--url'] __main__ None", done.stderr)
        self.assertAlmostEqual(float(done.stdout.split()[0]), 16, places=4)

    @unittest.skipUnless(shutil.which("mypy"), "mypy is not installed")
    def test_types(self):
        with tempfile.TemporaryDirectory() as cache:
            done = subprocess.run(["mypy", "--config-file", "pyproject.toml", "--cache-dir", cache, "aiter_remote"],
                                  cwd=PACKAGE, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


@unittest.skipUnless(subprocess.run([sys.executable, "-c", "import setuptools, wheel, pip"],
                                    stderr=subprocess.DEVNULL).returncode == 0, "pip, setuptools or wheel are not installed")
class Installing(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.source = os.path.join(self.folder, "source")  # building writes beside the sources
        shutil.copytree(PACKAGE, self.source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
        self.target = os.path.join(self.folder, "target")

    def pip(self, *names, **env):
        """Without network, with what is installed here."""
        return subprocess.run([sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index",
                               "--no-cache-dir", "--quiet", "--target", self.target] +
                              [os.path.join(self.source, n) for n in names],
                              env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore", **env}, capture_output=True, text=True,
                              timeout=300)

    def python(self, code, *path):
        return subprocess.run([sys.executable, "-c", code], cwd=self.folder, capture_output=True, text=True, timeout=120,
                              env={**os.environ, "AITERD_URL": server.url, "PYTHONPATH": ":".join(path or (self.target,))})

    def real(self):
        """A folder with something that calls itself aiter."""
        place = os.path.join(self.folder, "real")
        os.makedirs(os.path.join(place, "aiter"))
        with open(os.path.join(place, "aiter", "__init__.py"), "w") as f:
            f.write("real = True\n")
        return place

    def test_both(self):
        done = self.pip(".", "aiter-shim")
        self.assertEqual(done.returncode, 0, done.stderr)
        done = self.python("import numpy as np, aiter, aiter_remote\nx = np.ones((2, 8), np.float32)\n"
                           "print(aiter_remote.__file__, aiter.rmsnorm(x, x[0], eps=1e-6).shape, aiter.__version__)")
        self.assertIn(self.target, done.stdout, done.stderr)
        self.assertIn("(2, 8) 0.1.0 (aiter_remote)", done.stdout)
        self.assertTrue(os.path.exists(os.path.join(self.target, "aiter_remote", "py.typed")))
        # A real one that comes later on the path, or sooner: never two that hide each other.
        real = self.real()
        done = self.python("import aiter", self.target, real)
        self.assertIn("aiter-remote-shim stands in the way of another aiter, " + real, done.stderr)
        self.assertEqual(self.python("import aiter; print(aiter.real)", real, self.target).stdout, "True\n")
        # In one folder Python takes the package.
        shutil.copytree(os.path.join(real, "aiter"), os.path.join(self.target, "aiter"))
        self.assertEqual(self.python("import aiter; print(aiter.real)").stdout, "True\n")

    def test_is_not_built_beside_a_real_one(self):
        done = self.pip("aiter-shim", PYTHONPATH=self.real())
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("aiter-remote-shim is not installed: AITER itself is", done.stdout + done.stderr)
        self.assertFalse(os.path.exists(os.path.join(self.target, "aiter.py")))

    def test_launcher_refuses_beside_a_real_one(self):
        done = subprocess.run([sys.executable, "-m", "aiter_remote", __file__], cwd=self.folder, capture_output=True,
                              text=True, timeout=120, env={**os.environ, "PYTHONPATH": PACKAGE + ":" + self.real()})
        self.assertEqual(done.returncode, 1)
        self.assertIn("AITER itself is installed", done.stderr)


def load_tests(loader, tests, pattern):
    """With sanitizers in the server what does not concern it is left out."""
    if "ASAN_OPTIONS" not in os.environ:
        return tests
    return unittest.TestSuite(map(loader.loadTestsFromTestCase, (Numpy, Bfloat16, Errors, Calls)))


if __name__ == "__main__":
    unittest.main()
