#!/usr/bin/python3
"""Connections in bulk and in trouble, against the running server: deadlines, slow and vanishing clients, limits, and the
kinds of sockets it listens on. Whatever clients do, others are served and nothing stays behind.
"""
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import numpy as np

import aiterd_test as t
from exchange import (RUN, SAFETENSORS, alive, fds, info, problem, quiescent, refused, reset, rms_big, rms_body,
                      rms_check, sockets, until)

GET = b"GET /v1/limits HTTP/1.1\r\nHost: a\r\n\r\n"


def post_head(length, *fields):
    fields = ["Host: a", "Content-Type: application/x-safetensors", "Content-Length: %d" % length] + list(fields)
    return ("POST %s HTTP/1.1\r\n" % RUN + "\r\n".join(fields) + "\r\n\r\n").encode()


class Others:
    """Meanwhile, another client asks again and again, and must be answered each time."""

    def __init__(self, server):
        self.server, self.stop, self.count, self.error = server, threading.Event(), 0, None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            with self.server.client() as c:
                while not self.stop.is_set():
                    rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))
                    self.count += 1
                    time.sleep(0.002)
        except Exception as e:
            self.error = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        count = self.count
        if kind is None:
            until(lambda: self.count > count + 2 or self.error, "others are served")
        self.stop.set()
        self.thread.join()
        if kind is None:
            assert self.error is None, self.error


class Deadlines(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = t.Server("--loops", "2", "--threads", "1", "--prefault", "1M", "--head-timeout", "1",
                              "--idle-timeout", "2")
        cls.server.request("GET", "/v1/info")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_dripping_head(self):
        """One byte now and then does not prolong the deadline; 408, closed, and others do not notice."""
        with Others(self.server):
            start, clients = time.monotonic(), [self.server.client() for _ in range(20)]
            drip = b"GET /v1/limits HTTP/1.1\r\nHost: a\r\nX-Drip: " + b"." * 1000
            for i in range(100):
                for c in clients:
                    c.send(drip[i * 5:i * 5 + 5])
                if not clients[0].quiet(0.05):
                    break
            else:
                self.fail("a head that drips for 5 s was not refused")
            for c in clients:
                refused(c, 408, "request-timeout", timeout=5)
                c.close()
            self.assertGreater(time.monotonic() - start, 0.9)

    def test_second_head_drips(self):
        with self.server.client() as c:
            alive(c)
            time.sleep(0.7)
            c.send(b"GET /v1")
            self.assertTrue(c.quiet(0.6), "the deadline runs from the head's first byte")
            refused(c, 408, "request-timeout", timeout=5)
        with self.server.client() as c:
            c.send(GET + b"GET /v1")
            self.assertEqual(c.response().status, 200)
            refused(c, 408, "request-timeout", timeout=5)

    def test_idle(self):
        """Closed after the idle timeout without a word, used before or not."""
        fresh, used = self.server.client(), self.server.client()
        alive(used)
        start = time.monotonic()
        for c in (fresh, used):
            self.assertTrue(c.closed(10))
            self.assertGreater(time.monotonic() - start, 0.9)
            c.close()

    def test_idle_counts_from_the_last_request(self):
        with self.server.client() as c:
            for _ in range(6):
                alive(c)
                time.sleep(0.5)
            alive(c)

    def test_reader_that_stops(self):
        """A reply nobody takes is given up, and its memory comes back."""
        body = rms_big(24)
        with self.server.client(30) as c:
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            c.send(post_head(len(body)) + body)
            until(lambda: info(self.server)["arena"]["borrowed"] > 0, "memory in use")
            quiescent(self.server, 20)

    def test_slow_reader(self):
        """One that takes its time but goes on gets everything."""
        body = rms_big(12)
        with self.server.client(30) as c, Others(self.server):
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            c.send(post_head(len(body)) + body)
            parts = []
            for i in range(60):
                time.sleep(0.05)
                parts.append(c.sock.recv(65536))
            c.pending = b"".join(parts)
            r = c.response()
            x = t.safetensors_parse(body)[0]["x"]
            t.assert_close(t.safetensors_parse(r.body)[0]["out"], t.rmsnorm(x, np.ones(262144)), "fp32")
            alive(c)
        quiescent(self.server)


    def test_stalled_body(self):
        """Fast at first, then nothing: --idle-timeout ends that, however good the average is."""
        body = rms_big(3)
        with self.server.client(30) as c:
            c.send(post_head(len(body)) + body[:len(body) // 2])
            refused(c, 408, "request-timeout")
        quiescent(self.server)


class Vanishing(unittest.TestCase):
    """Clients that leave, politely or not, at every stage."""

    @classmethod
    def setUpClass(cls):
        cls.server = t.Server("--loops", "2", "--threads", "1", "--prefault", "1M")
        cls.server.request("GET", "/v1/info")
        with cls.server.client() as c:
            rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))
        quiescent(cls.server)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def go(self, stage, times=10):
        """stage(client) leaves the client somewhere; then it goes, half of the times with an RST."""
        quiescent(self.server)
        before = sockets(self.server)
        with Others(self.server):
            for i in range(times):
                c = self.server.client()
                stage(c)
                if i % 2:
                    reset(c)
                else:
                    c.close()
            time.sleep(0.05)
        quiescent(self.server)
        until(lambda: sockets(self.server) <= before,
              lambda: "%d sockets, %d before" % (sockets(self.server), before))
        with self.server.client() as c:
            rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))

    def test_before_a_byte(self):
        self.go(lambda c: None, 50)

    def test_mid_head(self):
        self.go(lambda c: c.send(post_head(1000)[:60]), 50)

    def test_after_head(self):
        self.go(lambda c: c.send(post_head(1000)), 50)

    def test_mid_body(self):
        body = rms_big(3)
        self.go(lambda c: c.send(post_head(len(body)) + body[:len(body) // 2]))

    def test_mid_chunk(self):
        head = post_head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        self.go(lambda c: c.send(head + b"1000\r\n" + rms_body(8, 100)[:700]))

    def test_mid_drain(self):
        self.go(lambda c: c.send(post_head(500000).replace(RUN.encode(), b"/nowhere") + b"x" * 1000))

    def test_while_lingering(self):
        self.go(lambda c: c.send(post_head(1 << 62) + b"x" * 1000))

    def test_before_continue(self):
        self.go(lambda c: c.send(post_head(1000, "Expect: 100-continue")), 30)

    def test_while_queued_or_running(self):
        q = t.normal((1, 512, 8, 64), "fp32", 1)
        body = t.safetensors({"q": q, "k": q, "v": q}, params={"iters": 3})
        self.go(lambda c: c.send(post_head(len(body)).replace(RUN.encode(), b"/v1/ops/flash_attn_func") + body), 6)

    def test_while_decoding(self):
        text = t.native_json({"x": np.ones((100, 1000), np.float32), "weight": np.ones(1000, np.float32)})
        self.go(lambda c: c.send(post_head(len(text)).replace(b"x-safetensors", b"json") + text))

    def test_reply_unread(self):
        body = rms_big(8)

        def stage(c):
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            c.send(post_head(len(body)) + body)
            c.timeout = 30
            c.sock.recv(1000)
        self.go(stage, 4)

    def test_pipelined_and_gone(self):
        body = rms_body()
        self.go(lambda c: c.send((GET + post_head(len(body)) + body) * 30), 20)

    def test_descriptors_do_not_grow(self):
        """Of no kind, over hundreds of clients."""
        quiescent(self.server)
        before = fds(self.server)
        for i in range(300):
            c = self.server.client()
            c.send(post_head(1000)[:40 + i], b"x" * (i % 30))
            (reset if i % 2 else t.Client.close)(c)
        quiescent(self.server)
        until(lambda: fds(self.server) <= before, lambda: "%d descriptors, %d before" % (fds(self.server), before))


class Pipelined(unittest.TestCase):
    def test_beside_others(self):
        """Requests sent together are all answered, on each of several connections of one loop."""
        body = rms_body()
        with t.Server("--loops", "1", "--threads", "1", "--prefault", "1M") as s:
            clients = [s.client(20) for _ in range(4)]
            for c in clients:
                alive(c)
            for query in (b"?bogus=1", b"", b"?iters=20", b"?outputs=digest"):
                post = post_head(len(body)).replace(RUN.encode(), RUN.encode() + query) + body
                for c in clients:
                    c.send((post + GET) * 3)
                for c in clients:
                    for _ in range(3):
                        self.assertEqual(c.response().status, 422 if b"bogus" in query else 200)
                        self.assertEqual(c.response().status, 200)
            for c in clients:
                c.close()


class Limits(unittest.TestCase):
    def test_connections(self):
        with t.Server("--connections", "6", "--loops", "2", "--prefault", "1M") as s:
            held = [s.client() for _ in range(6)]
            for c in held:
                alive(c)
            for _ in range(10):
                with s.client() as c:
                    problem(c.response(), 503, "overloaded")
                    self.assertTrue(c.closed(5))
            for c in held:
                alive(c)
            held.pop().close()

            def room():
                try:
                    with s.client() as c:
                        return c.request("GET", "/v1/limits").status == 200
                except (t.Closed, OSError):
                    return False
            until(room, "room for one more")
            for c in held:
                c.close()

    def test_many_connections(self):
        """A multiple of 128 of them ready at once, among others."""
        with t.Server("--loops", "1", "--prefault", "1M") as s:
            for n in (127, 128, 129, 256):
                clients = [s.client() for _ in range(n)]
                for _ in range(3):
                    for c in clients:
                        c.send(GET)
                    for c in clients:
                        self.assertEqual(c.response().status, 200)
                for c in clients:
                    c.close()

    def test_heads(self):
        with t.Server("--max-head", "1K", "--max-head-fields", "5", "--max-target", "64", "--prefault", "1M") as s:
            limits = json.loads(s.request("GET", "/v1/limits").body.decode())
            self.assertEqual((limits["max_head_bytes"], limits["max_head_fields"], limits["max_target_bytes"]), (1024, 5, 64))
            for raw, status, slug in (
                    (b"GET /" + b"a" * 64 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri-too-long"),
                    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5 + b"\r\n", 431, "head-too-large"),
                    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 1000 + b"\r\n\r\n", 431, "head-too-large"),
                    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 1000, 431, "head-too-large")):
                with s.client() as c:
                    c.send(raw + b"\r\n\r\n" * raw.endswith(b"\r\n") + GET)
                    refused(c, status, slug)
            fit = b"GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n"
            with s.client() as c:
                c.send(b"GET /" + b"a" * 63 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
                self.assertEqual(c.response().status, 404)
                c.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 4 + b"\r\n")
                self.assertEqual(c.response().status, 200)
                c.send(fit % (b"y" * (1024 - len(fit % b""))))
                self.assertEqual(c.response().status, 200)

    def test_huge_heads_allowed(self):
        """The largest heads the options allow are served, with all their fields."""
        with t.Server("--max-head", "1M", "--max-head-fields", "10000", "--max-target", "512K", "--prefault", "1M") as s:
            with s.client() as c:
                r = c.request("GET", "/" + "a" * 500000)
                self.assertEqual(r.status, 404)
                r = c.request("GET", "/v1/limits", headers=[("X-%d" % i, "v" * 50) for i in range(9990)])
                self.assertEqual(r.status, 200)
                r = c.request("GET", "/v1/limits", headers=[("X-Long", "v" * 1000000)])
                self.assertEqual(r.status, 200)
                alive(c)

    def test_body(self):
        with t.Server("--max-body", "1K", "--prefault", "1M") as s, s.client() as c:
            problem(c.request("POST", RUN, bytes(1025), [SAFETENSORS]), 413, "too-large")
            rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))


class Stopping(unittest.TestCase):
    def test_many_signals(self):
        """Whoever is impatient ends an idle server just as well: status 0 (leaving the block checks it)."""
        with t.Server("--loops", "1", "--threads", "1", "--prefault", "1M") as s:
            while s.process.poll() is None:
                s.process.send_signal(signal.SIGTERM)
                time.sleep(0.001)


class Listening(unittest.TestCase):
    def serves(self, address):
        with t.Client(address) as c:
            alive(c)
            rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))

    def addresses(self, s):
        urls = re.findall(r"^listening on (\S+)$", s.text("out"), re.M)
        return [t.Server._address(u) for u in urls]

    def test_unix(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "socket")
            with t.Server("--listen", "unix:" + path, "--prefault", "1M") as s:
                self.assertEqual(s.url, "unix:" + path)
                self.serves(path)
                with s.client() as c:
                    for i in range(50):
                        c.send(post_head(len(rms_body())) + rms_body())
                    for i in range(50):
                        rms_check(c.response())
            self.assertFalse(os.path.exists(path), "the socket's file is removed")
            # One that a crash left behind is taken over; a file that is no socket is not.
            with socket.socket(socket.AF_UNIX) as old:
                old.bind(path)
            with t.Server("--listen", "unix:" + path, "--prefault", "1M"):
                self.serves(path)
                with self.assertRaisesRegex(AssertionError, "(?s)status [1-9].*" + re.escape(path)):
                    t.Server("--listen", "unix:" + path, "--prefault", "1M")
                self.serves(path)
            with open(path, "w") as f:
                f.write("precious")
            with self.assertRaisesRegex(AssertionError, "(?s)status [1-9].*" + re.escape(path)):
                t.Server("--listen", "unix:" + path, "--prefault", "1M")
            with open(path) as f:
                self.assertEqual(f.read(), "precious")

    def test_ipv6(self):
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as e:
            self.skipTest("no IPv6 here: %s" % e)
        with t.Server("--listen", "[::1]:0", "--prefault", "1M") as s:
            self.assertEqual(s.address[0], "::1")
            self.serves(s.address)

    def test_several(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "s")
            with t.Server("--listen", "127.0.0.1:0,127.0.0.2:0,unix:" + path, "--prefault", "1M") as s:
                found = until(lambda: len(self.addresses(s)) == 3 and self.addresses(s), "three addresses")
                self.assertEqual([a if isinstance(a, str) else a[0] for a in found], ["127.0.0.1", "127.0.0.2", path])
                for address in found:
                    self.serves(address)

    def test_all_addresses(self):
        with t.Server("--listen", "*:0", "--prefault", "1M") as s:
            self.serves(("127.0.0.1", s.address[1]))

    def test_taken(self):
        with t.Server("--prefault", "1M") as s:
            with self.assertRaisesRegex(AssertionError, r"(?s)status [1-9].*127\.0\.0\.1:%d" % s.address[1]):
                t.Server("--listen", "127.0.0.1:%d" % s.address[1], "--prefault", "1M")
            self.serves(s.address)

    def has_systemd(self):
        libraries = subprocess.run(["ldd", os.path.join(t.BUILD, "aiterd")], stdout=subprocess.PIPE, text=True).stdout
        if "libsystemd" not in libraries:
            self.skipTest("built without libsystemd")

    def test_socket_activation(self):
        self.has_systemd()

        class Activated(t.Server):
            @staticmethod
            def _address(url):
                return url

        with tempfile.TemporaryDirectory() as d, socket.socket() as tcp, socket.socket(socket.AF_UNIX) as local:
            tcp.bind(("127.0.0.1", 0))
            local.bind(os.path.join(d, "s"))
            tcp.listen(16)
            local.listen(16)
            # descriptors 3 and 4 and the process id in the environment, as systemd hands them over
            wrapper = os.path.join(d, "aiterd")
            with open(wrapper, "w") as f:
                f.write("#!/bin/sh\nexec 3<&%d 4<&%d\nLISTEN_FDS=2 LISTEN_PID=$$ exec '%s' \"$@\"\n" %
                        (7, 8, os.path.join(t.BUILD, "aiterd")))
            os.chmod(wrapper, 0o755)
            keep = [os.dup(tcp.fileno()), os.dup(local.fileno())]
            old = {n: os.dup(n) if os.path.exists("/proc/self/fd/%d" % n) else None for n in (7, 8)}
            popen = subprocess.Popen
            try:
                def passing(*args, **how):
                    return popen(*args, preexec_fn=lambda: (os.dup2(keep[0], 7), os.dup2(keep[1], 8)), close_fds=False, **how)
                subprocess.Popen = passing
                s = Activated("--prefault", "1M", program=wrapper)
            finally:
                subprocess.Popen = popen
                for fd in keep + [f for f in old.values() if f is not None]:
                    os.close(fd)
            with s:
                self.assertEqual(s.url, "systemd:0")
                self.serves(tcp.getsockname())
                self.serves(os.path.join(d, "s"))

    def test_notify(self):
        self.has_systemd()
        with tempfile.TemporaryDirectory() as d, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as n:
            n.bind(os.path.join(d, "notify"))
            n.settimeout(10)
            with t.Server("--prefault", "1M", env={"NOTIFY_SOCKET": os.path.join(d, "notify")}):
                self.assertIn(b"READY=1", n.recv(4096).split(b"\n"))
            self.assertIn(b"STOPPING=1", n.recv(4096).split(b"\n"))


if __name__ == "__main__":
    unittest.main()
