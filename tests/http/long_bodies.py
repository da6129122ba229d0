#!/usr/bin/python3
"""What takes gigabytes or half a minute, against the running server: bodies beyond 4 GiB, deadlines of slow bodies, and a
minute of many clients of all kinds while workers die. Run by `tests/http/run --long`.
"""
import hashlib
import json
import os
import random
import signal
import socket
import struct
import threading
import time
import unittest

import numpy as np

import aiterd_test as t
from exchange import (RUN, SAFETENSORS, alive, fds, info, kill, problem, quiescent, reset, rms_body, rms_check, sockets,
                      until)

ROWS, COLUMNS, CHUNK_ROWS = 288 * 1024, 4096, 4096  # 4.5 GiB of fp32, 64 MiB at a time
SECONDS = float(os.environ.get("AITERD_TEST_CHAOS_SECONDS", "60"))


def memory_available():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("MemAvailable"))


class Huge(unittest.TestCase):
    """x is +1 and -1, weights are powers of two and eps is 3: then each output, x * weight / 2, is exact in fp32, and
    the digest of the whole must be that of numpy's."""

    def setUp(self):
        if memory_available() < 12 << 30:
            self.skipTest("12 GiB of memory are needed, %.1f are free" % (memory_available() / 2 ** 30))
        self.weight = np.exp2(np.arange(COLUMNS) % 9 - 4).astype(np.float32)
        rng = np.random.default_rng(11)
        self.base = rng.integers(0, 2, CHUNK_ROWS * COLUMNS, np.int8).astype(np.float32) * 2 - 1

    def chunks(self):
        """x from its first byte to its last: each piece differs from all others."""
        for i in range(ROWS // CHUNK_ROWS):
            yield np.roll(self.base, i * 999983)

    def upload(self, c, framed):
        size = ROWS * COLUMNS * 4
        header = {"__metadata__": {"params": json.dumps({"eps": 3, "outputs": "digest"})},
                  "x": {"dtype": "F32", "shape": [ROWS, COLUMNS], "data_offsets": [0, size]},
                  "weight": {"dtype": "F32", "shape": [COLUMNS], "data_offsets": [size, size + COLUMNS * 4]}}
        text = json.dumps(header).encode()
        start = struct.pack("<Q", len(text)) + text
        total = len(start) + size + COLUMNS * 4
        assert total > 1 << 32
        how = [("Transfer-Encoding", "chunked")] if framed else [("Content-Length", str(total))]
        c.send(c.head("POST", RUN, [SAFETENSORS, ("Accept", "application/json")] + how))
        if framed:
            c.send(b"%x\r\n" % total)  # one chunk of more than 4 GiB
        c.send(start)
        digest, one, wanted = hashlib.sha256(), self.weight / 2, {"min": np.inf, "max": -np.inf, "sum": 0.0}
        for chunk in self.chunks():
            c.send(memoryview(chunk).cast("B"))
            out = (chunk.reshape(-1, COLUMNS) * one).astype(np.float32)
            digest.update(memoryview(out.reshape(-1)).cast("B"))
            wanted["min"], wanted["max"] = min(wanted["min"], out.min()), max(wanted["max"], out.max())
            wanted["sum"] += out.sum(dtype=np.float64)
        c.send(self.weight.tobytes() + (b"\r\n0\r\n\r\n" if framed else b""))
        r = c.response(timeout=600)
        self.assertEqual(r.status, 200, r)
        out = json.loads(r.body.decode())["outputs"]["out"]
        self.assertEqual((out["dtype"], out["shape"]), ("fp32", [ROWS, COLUMNS]))
        got = out["digest"]
        self.assertEqual(got["sha256"].replace("sha256:", ""), digest.hexdigest())
        self.assertEqual((got["min"], got["max"], got["nan"]), (wanted["min"], wanted["max"], 0))
        self.assertAlmostEqual(got["mean"], wanted["sum"] / (ROWS * COLUMNS), 9)

    def test_beyond_4_gib(self):
        with t.Server("--arena", "11G", "--timeout", "600", start_timeout=120) as s:
            with s.client(600) as c:
                for framed in (False, True):
                    self.upload(c, framed)
                    alive(c)
            quiescent(s)


class SlowBodies(unittest.TestCase):
    def test_minimum_rate(self):
        """Slower than 4 KiB/s on average after 10 s: 408. Faster, however little at a time: served."""
        with t.Server("--loops", "2", "--prefault", "1M") as s:
            body = rms_body(200, 100)
            self.assertGreater(len(body), 60000)
            slow = [s.client(30) for _ in range(5)]
            steady = [s.client(30) for _ in range(5)]
            start = time.monotonic()
            for i, c in enumerate(slow + steady):
                framed = i % 2
                length = [("Transfer-Encoding", "chunked")] if framed else []
                c.send(c.head("POST", RUN, [SAFETENSORS] + length, len(body)))
                c.framed, c.at = framed, 0

            def send(c, n):
                piece = body[c.at:c.at + n]
                if piece:
                    c.send(b"%x\r\n%s\r\n" % (len(piece), piece) if c.framed else piece)
                    c.at += len(piece)
                    if c.at == len(body) and c.framed:
                        c.send(b"0\r\n\r\n")
            while any(c.at < len(body) for c in steady):
                for c in steady:
                    send(c, 1000)
                for c in slow:
                    if time.monotonic() - start < 9:
                        send(c, 10)
                time.sleep(0.2)
            self.assertGreater(time.monotonic() - start, 11, "the steady ones were to take longer than the grace")
            for c in steady:
                rms_check(c.response(), 200, 100)
                alive(c)
                c.close()
            for c in slow:
                problem(c.response(timeout=20), 408, "request-timeout")
                self.assertTrue(c.closed(5))
                c.close()
            quiescent(s)

    def test_any_rate(self):
        with t.Server("--min-body-rate", "0", "--prefault", "1M") as s, s.client(30) as c:
            body = rms_body()
            c.send(c.head("POST", RUN, [SAFETENSORS], len(body)) + body[:10])
            time.sleep(12)
            c.send(body[10:])
            rms_check(c.response())


class Chaos(unittest.TestCase):
    """Clients of all kinds, for a minute, while workers are killed and stopped: whoever behaves is answered, and
    nothing stays behind."""

    def behave(self, s, rng):
        seed = rng.randrange(1000)
        body = rms_body(4, 16, seed)
        with s.client(60) as c:
            for _ in range(rng.randrange(1, 20)):
                framed = rng.random() < 0.3
                r = c.request("POST", RUN, t.chunked(body, rng.randrange(1, 400)) if framed else body,
                              [SAFETENSORS] + [("Transfer-Encoding", "chunked")] * framed,
                              piece=rng.choice([None, None, 100, 7000]))
                if r.status == 500:
                    problem(r, 500, "worker-crashed")
                else:
                    rms_check(r, 4, 16, seed)
                self.answered += 1

    def misbehave(self, s, rng):
        body = rms_body(rng.choice([4, 4000]), 64, rng.randrange(1000))
        c = s.client(60)
        whole = c.head("POST", rng.choice([RUN, RUN, "/nowhere"]), [SAFETENSORS], len(body)) + body
        kind = rng.randrange(5)
        try:
            if kind == 0:
                c.send(whole[:rng.randrange(len(whole))])
            elif kind == 1:
                c.send(whole * rng.randrange(1, 5))
            elif kind == 2:
                c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                c.send(whole)
                c.sock.recv(rng.randrange(1, 500))
            elif kind == 3:
                mutated = bytearray(whole)
                for _ in range(rng.randrange(1, 20)):
                    mutated[rng.randrange(min(len(mutated), 600))] = rng.randrange(256)
                c.send(mutated)
            else:
                c.send(bytes(rng.randrange(256) for _ in range(300)))
            time.sleep(rng.random() * 0.02)
        except OSError:
            pass
        (reset if rng.random() < 0.5 else t.Client.close)(c)

    def work(self, s, seed, until_then):
        rng = random.Random(seed)
        while time.monotonic() < until_then and not self.errors:
            try:
                (self.behave if rng.random() < 0.6 else self.misbehave)(s, rng)
            except Exception as e:
                self.errors.append(e)
                raise

    def test_everything_at_once(self):
        with t.Server("--loops", "3", "--threads", "1", "--prefault", "1M", "--arena", "256M") as s:
            rms_check(s.request("POST", RUN, rms_body(), [SAFETENSORS]))
            quiescent(s)
            before = sockets(s)
            self.errors, self.answered = [], 0
            end = time.monotonic() + SECONDS
            threads = [threading.Thread(target=self.work, args=(s, i, end)) for i in range(12)]
            for thread in threads:
                thread.start()
            rng = random.Random(99)
            while time.monotonic() < end and not self.errors:
                time.sleep(1 + rng.random() * 2)
                pid = info(s)["devices"][0]["pid"]
                if pid > 0 and rng.random() < 0.7:
                    try:
                        kill(pid, rng.choice([signal.SIGKILL, signal.SIGABRT]))
                    except ProcessLookupError:
                        pass
            for thread in threads:
                thread.join()
            self.assertEqual(self.errors, [])
            self.assertGreater(self.answered, 20)
            quiescent(s, 30)
            until(lambda: sockets(s) <= before, lambda: "%d sockets, %d before" % (sockets(s), before))
            self.assertLess(fds(s), 300)
            rms_check(s.request("POST", RUN, rms_body(), [SAFETENSORS]))


if __name__ == "__main__":
    unittest.main()
