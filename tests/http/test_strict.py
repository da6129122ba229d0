#!/usr/bin/python3
"""HTTP as strict as the best, against the running server: the cases of the public checkers h1spec (what a server must
refuse or wait for) and smuggler (Transfer-Encoding in disguise beside Content-Length), rebuilt here; short forms of
slowhttptest's four modes; limits of connections, over all loops; many connections dropped; descriptors used up.
"""
import json
import os
import re
import resource
import selectors
import socket
import struct
import tempfile
import time
import unittest

import aiterd_test as t
from attacks import (Others, cpu_seconds, hold, many_ranges, nobody, slow_body, slow_head, slow_read, slow_read_pipelined)
from exchange import (RUN, SAFETENSORS, SMUGGLED, alive, fds, head, info, post, problem, quiescent, refused, reset, rms_big,
                      rms_body, rms_check, small_bodies_server, sockets, until)

GET = b"GET /v1/limits HTTP/1.1\r\nHost: a\r\n\r\n"

server = None


def setUpModule():
    global server
    server = small_bodies_server()


def tearDownModule():
    server.stop()


class H1spec(unittest.TestCase):
    """h1spec: bytes on a fresh connection, and which class of status they must get."""

    def test_fragments(self):
        """A part of a request is waited for, wherever it was cut, and the whole is then answered."""
        whole = b"GET /v1/limits HTTP/1.1\r\nHost: localhost\r\n\r\n"
        clients = [server.client() for _ in whole[1:]]
        for i, c in enumerate(clients):
            c.send(whole[:i + 1])
        time.sleep(0.5)
        for i, c in enumerate(clients):
            with self.subTest(whole[:i + 1]):
                self.assertTrue(c.quiet(0.001), "answered or closed after a part")
                c.send(whole[i + 1:])
                self.assertEqual(c.response().status, 200)
                alive(c)
            c.close()

    def test_statuses(self):
        host = b"Host: example.com\r\n"
        cases = [
            (b"GET / \r\n\r\n", 400), (b"GET / HTTP/1.1\r\n" + host + b"Expect: 100-continue\r\n\r\n", 200),
            (b"GET / HTTP/1.1\r\n" + host + b"\r\n", 200), (b"GET / HTTP/1.1\r\nhoSt:\texample.com\r\nempty:\r\n\r\n", 200),
            (b"GET / HTTP/1.1\r\n" + host + b"X-Invalid[]: test\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n" + host + b"Host: example.org\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n" + host + b"Content-Length: -" + b"123456789" * 3 + b"\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n" + host + b"Content-Length: -1234\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n" + host + b"Content-Length: abc\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n" + host + b"X-Empty-Header: \r\n\r\n", 200),
            (b"GET / HTTP/1.1\r\n" + host + b"X-Bad-Control-Char: test\x07\r\n\r\n", 400),
            (b"GET / HTTP/9.9\r\n" + host + b"\r\n", 505),
            (b"Extra lineGET / HTTP/1.1\r\n" + host + b"\r\n", 400),
            (b"GET / HTTP/1.1\r\n" + host + b"\rSome-Header: Test\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\n" + host + b"content-LengtH: 5\r\nTransFer-Encoding: chunked\r\n\r\n"
             b"c\r\nHellO world1\r\n0\r\n\r\n", 400),
        ]
        for raw, status in cases:
            with self.subTest(raw), server.client() as c:
                c.send(raw)
                if status == 200:
                    self.assertEqual(c.response().status, 200)
                    alive(c)
                else:
                    refused(c, status)

    def test_bodies(self):
        """h1spec wants bodies echoed; here a body that gets its result proves that it was read whole."""
        body = rms_body()
        for framing, sent in (("Content-Length: %d" % len(body), body), ("Transfer-Encoding: chunked", t.chunked(body, 12))):
            with self.subTest(framing), server.client() as c:
                c.send(post(framing) + sent)
                rms_check(c.response())
                alive(c)


def mutations():
    """smuggler's: a Transfer-Encoding field that some program may take for one and another not."""
    te = b"Transfer-Encoding"
    yield from (b" " + te + b": chunked", te + b":\tchunked", te + b"\t:\tchunked", te + b" : chunked")
    for i in (0x00, 0x01, 0x04, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x1f, 0x20, 0x7f, 0x85, 0xa0, 0xff):
        b = bytes([i])
        yield from (te + b":" + b + b"chunked", te + b + b": chunked", b + te + b": chunked", te + b": chunked" + b,
                    b"X: X" + b + te + b": chunked", te + b": chunked" + b + b"X: X", b"X: X\r" + b + te + b": chunked",
                    b"X: X" + b + b"\n" + te + b": chunked", te + b": chunked\r" + b + b"X: X",
                    te + b": chunked" + b + b"\nX: X")
    for value in (b"chunked", b"x-chunked", b"xchunked", b"identity", b"chunked, identity", b"identity, chunked", b'"chunked"',
                  b"'chunked'", b"chunk", b"chunked;q=1", b"CHUNKED", b"chu\xadnked", b"chunked\t", b"\xef\xbb\xbfchunked",
                  b"cow", b"nope\r\n" + te + b": chunked", b"chunked\r\n" + te + b": cow"):
        yield te + b": " + value
    for name in (b"Transfer_Encoding", b"Transfer Encoding", b"Transfer-Encoding\xef\xbb\xbf", b"\"Transfer-Encoding\"",
                 b"Transfer-\rEncoding", b"transfer\x00-encoding", b"Tr\xc0\xb6nsfer-Encoding", b"T\xd2\x8dansfer-Encoding"):
        yield name + b": chunked"


def is_plain(gadget):
    """By the letter of RFC 9112: whole fields, none of them framing. Then they mean nothing, and Content-Length decides."""
    for line in gadget.split(b"\r\n"):
        m = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t\x20-\x7e\x80-\xff]*", line)
        if not m or m.group(1).lower() in (b"transfer-encoding", b"content-length"):
            return False
    return True


class Smuggler(unittest.TestCase):
    def test_disguised_transfer_encoding(self):
        """Refused at once, or the field is no framing to anybody and the body is as long as Content-Length says."""
        plain = 0
        for gadget in mutations():
            for body in (b"0\r\n\r\nX", b"0\r\n\r\n", b"1\r\nZ\r\n0\r\n\r\n", b"1\r\nZ"):
                for order in ((gadget, b"Host: a", b"Content-Length: %d" % len(body)),
                              (b"Content-Length: %d" % len(body), b"Host: a", gadget)):
                    raw = (b"POST " + RUN.encode() + b" HTTP/1.1\r\n" + b"\r\n".join(order) +
                           b"\r\nContent-Type: application/x-safetensors\r\n\r\n" + body)
                    with self.subTest(gadget, body=body), server.client() as c:
                        c.send(raw + SMUGGLED)
                        if not is_plain(gadget):
                            r = c.response()
                            self.assertIn(r.status, (400, 501))
                            problem(r, r.status)
                            self.assertTrue(c.closed(5))
                            continue
                        plain += 1
                        problem(c.response(), 400)  # no safetensors, in a frame that was understood
                        self.assertEqual(c.response().status, 200)
                        alive(c)
        self.assertGreater(plain, 20)

    def test_part_of_a_body_is_waited_for(self):
        """smuggler's second look: fewer bytes than Content-Length are no reason to answer, nor to take the next ones for a request."""
        with server.client() as c:
            c.send(post("Content-Length: 11") + b"1\r\nZ\r\n0\r\n")
            self.assertTrue(c.quiet(0.3))
            c.send(b"\r\n" + SMUGGLED)
            problem(c.response(), 400)
            self.assertEqual(c.response().status, 200)

    def test_trailers_are_no_fields(self):
        """Framing in trailers changes nothing."""
        body = rms_body()
        for trailer in (b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: b", b"Connection: close"):
            with self.subTest(trailer), server.client() as c:
                c.send(post("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n%s\r\n\r\n" % (len(body), body, trailer) + SMUGGLED)
                rms_check(c.response())
                self.assertEqual(c.response().status, 200)
                alive(c)

    def test_empty_lines(self):
        """One before a request is forgiven, also in parts and between requests; a second one is not."""
        with server.client() as c:
            c.send(b"\r\n" + GET + b"\r\n" + GET + b"\r")
            self.assertEqual([c.response().status for _ in range(2)], [200, 200])
            time.sleep(0.05)
            c.send(b"\n")
            self.assertTrue(c.quiet(0.1))
            c.send(GET)
            self.assertEqual(c.response().status, 200)
            c.send(b"\r\n")
            self.assertTrue(c.quiet(0.1))
            c.send(b"\r\n" + GET)
            refused(c, 400, "malformed-request")
        with server.client() as c:
            c.send(b"\r\n\r\n" + GET)
            refused(c, 400, "malformed-request")


class Slow(unittest.TestCase):
    """slowhttptest's modes with few connections and short deadlines; long_strict.py has hundreds."""

    @classmethod
    def setUpClass(cls):
        cls.server = t.Server("--loops", "2", "--threads", "1", "--prefault", "1M", "--head-timeout", "1",
                              "--idle-timeout", "2", "--min-body-rate", "2K", "--min-reply-rate", "64K")
        cls.server.request("GET", "/v1/info")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def check(self, make, n, limit, said=None):
        with Others(self.server):
            holders = hold(self.server, make, n, 20)
        for h in holders:
            self.assertIsNotNone(h.ended, "still open after %.1f s" % h.held)
            self.assertLess(h.held, limit)
            if said is not None:
                self.assertTrue(h.said.startswith(said), h.said)
        quiescent(self.server)
        return holders

    def test_headers(self):
        self.check(lambda: slow_head(self.server), 20, 6, b"HTTP/1.1 408 ")

    def test_body(self):
        for framed in (False, True):
            self.check(lambda: slow_body(self.server, framed), 15, 8, b"HTTP/1.1 408 ")

    def test_body_after_a_good_beginning(self):
        """What came fast is no credit for what drips."""
        body = rms_big(12)
        for h in self.check(lambda: slow_body(self.server, False, body, 6 << 20), 3, 12, b"HTTP/1.1 408 "):
            self.assertIn(b"too slowly", h.said)
            self.assertGreater(h.held, 1.9)

    def test_ranges(self):
        """There are no ranges: the whole page once, or 431."""
        with Others(self.server), self.server.client() as c:
            whole = c.request("GET", "/v1/ops").body
            for n in (1, 100, 1000):
                c.send(many_ranges(n))
                r = c.response()
                self.assertEqual((r.status, r.body), (200, whole))
            c.send(many_ranges(3000))
            refused(c, 431, "head-too-large")

    def test_read(self):
        """A large reply taken 5 bytes at a time is cut off, and its memory comes back."""
        body = rms_big(16)
        for h in self.check(lambda: slow_read(self.server, body), 4, 15):
            self.assertGreater(h.held, 1.9)
        self.assertEqual(info(self.server)["arena"]["borrowed"], 0)

    def test_read_asked_ahead(self):
        start, beginning = time.monotonic(), []

        def done():
            beginning.append(nobody(self.server))
            return beginning[-1]
        hold(self.server, lambda: slow_read_pipelined(self.server), 4, 20, done=done)
        self.assertTrue(beginning[-1], "they are still there")
        self.assertFalse(beginning[0], "they never were")
        self.assertLess(time.monotonic() - start, 15)

    def test_read_fast_enough(self):
        """Whoever takes more than --min-reply-rate gets all, though that takes several periods."""
        body = rms_big(24)
        with self.server.client(30) as c:
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            c.send(post("Content-Length: %d" % len(body)) + body)
            start, parts, n = time.monotonic(), [], 0
            while n < 24 << 20:
                part = c.sock.recv(200000)
                self.assertTrue(part, "cut off after %d bytes and %.1f s" % (n, time.monotonic() - start))
                parts.append(part)
                n += len(part)
                if time.monotonic() - start < 5:
                    time.sleep(0.03)
            c.pending = b"".join(parts)
            self.assertEqual(c.response().status, 200)
            self.assertGreater(time.monotonic() - start, 4.5, "it was to take more than two periods")


class Connections(unittest.TestCase):
    def from_address(self, s, source):
        c = socket.socket()
        c.bind((source, 0))
        c.settimeout(10)
        c.connect(s.address)
        client = t.Client.__new__(t.Client)
        client.sock, client.timeout, client.host, client.pending = c, 10.0, "a", b""
        return client

    def test_per_address(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "s")
            with t.Server("--connections-per-address", "5", "--loops", "3", "--prefault", "1M", "--listen",
                          "127.0.0.1:0,unix:" + path) as s:
                self.assertEqual(json.loads(s.request("GET", "/v1/limits").body.decode())["max_connections_per_address"], 5)

                def nobody_else():
                    with t.Client(path) as c:
                        return json.loads(c.request("GET", "/v1/info").body.decode())["server"]["connections"] == 1
                until(nobody_else, "the first connection is gone")
                held = [s.client() for _ in range(5)]
                for c in held:
                    alive(c)
                for _ in range(10):
                    with s.client() as c:
                        r = c.response()
                        self.assertIn("connections-per-address", problem(r, 503, "overloaded")["detail"])
                        self.assertGreater(int(r.get("retry-after")), 0)
                        self.assertTrue(c.closed(5))
                    with self.from_address(s, "127.0.0.2") as c:
                        alive(c)
                local = [t.Client(path) for _ in range(20)]
                for c in held + local:
                    alive(c)
                reset(held.pop())

                def room():
                    try:
                        with s.client() as c:
                            return c.request("GET", "/v1/limits").status == 200
                    except (t.Closed, OSError):
                        return False
                until(room, "room for one more")
                for c in held + local:
                    c.close()
                self.assertEqual(len(re.findall("connection was refused", s.stderr)) > 0, True)

    def test_any_number(self):
        with t.Server("--connections-per-address", "0", "--loops", "2", "--prefault", "1M") as s:
            clients = [s.client() for _ in range(1200)]
            for c in clients[::100]:
                alive(c)
            for c in clients:
                c.close()

    def burst(self, s, n, allowed):
        """All at once: never more than allowed are served, over all loops."""
        socks, sel, opened = [], selectors.DefaultSelector(), {}
        for _ in range(n):
            c = socket.socket()
            c.setblocking(False)
            c.connect_ex(s.address)
            socks.append(c)
            sel.register(c, selectors.EVENT_WRITE)
        end = time.monotonic() + 20
        refusals = served = 0
        while refusals + served < n and time.monotonic() < end:
            for key, mask in sel.select(0.5):
                c = key.fileobj
                if mask & selectors.EVENT_WRITE:
                    sel.modify(c, selectors.EVENT_READ)
                    try:
                        c.send(GET)
                    except OSError:
                        pass
                    continue
                try:
                    got = c.recv(4096)
                except OSError:
                    got = b""
                refusals += not got.startswith(b"HTTP/1.1 200 ")  # 503, or an RST that came before it
                served += got.startswith(b"HTTP/1.1 200 ")
                sel.unregister(c)
        for c in socks:
            c.close()
        self.assertEqual((served, refusals), (allowed, n - allowed))

    def test_burst(self):
        for option in ("--connections", "--connections-per-address"):
            with t.Server(option, "40", "--loops", "4", "--prefault", "1M") as s:
                for _ in range(3):
                    self.burst(s, 300, 40)
                    # those of a burst have gone when one more asks
                    until(lambda: self.count(s) == 1, "all gone")

    @staticmethod
    def count(s):
        try:
            return info(s)["server"]["connections"]
        except (t.Closed, OSError, AssertionError):
            return None

    def test_ten_thousand(self):
        """Opened and dropped, in every way: nothing stays, and others are served meanwhile."""
        with t.Server("--loops", "2", "--threads", "1", "--prefault", "1M") as s:
            rms_check(s.request("POST", RUN, rms_body(), [SAFETENSORS]))
            quiescent(s)
            before, descriptors = sockets(s), fds(s)
            whole = post("Content-Length: %d" % len(rms_body())) + rms_body()
            sent = [b"", b"", GET, GET[:20], b"\r\n", b"nonsense\r\n\r\n", whole, whole[:-5]]
            with Others(s):
                for i in range(10000):
                    c = socket.socket()
                    c.connect(s.address)
                    if sent[i % 8]:
                        c.send(sent[i % 8])
                    if i % 3:
                        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    c.close()
            quiescent(s, 20)
            until(lambda: sockets(s) <= before, lambda: "%d sockets, %d before" % (sockets(s), before))
            self.assertLessEqual(fds(s), descriptors + 4)  # an arena may have been made


class Descriptors(unittest.TestCase):
    def test_few(self):
        """Where the process may have few, connections leave half of them to everything else."""
        with tempfile.TemporaryDirectory() as d:
            program = os.path.join(d, "aiterd")
            with open(program, "w") as f:
                f.write("#!/bin/sh\nulimit -n 128\nexec '%s' \"$@\"\n" % os.path.join(os.path.abspath(t.BUILD), "aiterd"))
            os.chmod(program, 0o755)
            with t.Server("--loops", "2", "--threads", "1", "--prefault", "1M", program=program) as s:
                self.assertRegex(s.stderr, "only 64 are taken")
                self.assertEqual(json.loads(s.request("GET", "/v1/limits").body.decode())["max_connections"], 64)
                until(lambda: info(s)["server"]["connections"] == 1, "the first one is gone")
                held = [s.client() for _ in range(64)]
                for c in held:
                    alive(c)
                for _ in range(50):
                    with s.client() as c:
                        problem(c.response(), 503, "overloaded")
                rms_check(held[0].request("POST", RUN, rms_body(), [SAFETENSORS]))
                body = rms_big(8)  # an arena of its own
                self.assertEqual(held[1].request("POST", RUN, body, [SAFETENSORS]).status, 200)
                for c in held:
                    c.close()
                quiescent(s)

    def test_used_up(self):
        """None left: whoever is connected is served, the loops do not spin, and all goes on when there are some again."""
        with t.Server("--loops", "2", "--threads", "1", "--prefault", "1M") as s:
            with s.client() as c:
                rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))
                old = resource.prlimit(s.pid, resource.RLIMIT_NOFILE)
                resource.prlimit(s.pid, resource.RLIMIT_NOFILE, (8, old[1]))
                waiting = [s.client(20) for _ in range(20)]
                for w in waiting:
                    w.send(GET)
                s.wait_for("accept: ")
                start, clock = cpu_seconds(s.pid), time.monotonic()
                while time.monotonic() < clock + 2:
                    time.sleep(0.2)
                    alive(c)
                used = cpu_seconds(s.pid) - start
                self.assertLess(used, 0.5, "processor seconds in two")
                self.assertTrue(waiting[0].quiet(0.01))
                resource.prlimit(s.pid, resource.RLIMIT_NOFILE, old)
                for w in waiting:
                    self.assertEqual(w.response().status, 200)
                    w.close()
                rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))
            self.assertLess(len(re.findall("accept: ", s.stderr)), 20)


if __name__ == "__main__":
    unittest.main()
