#!/usr/bin/python3
"""Request bodies against the running server, from raw sockets: the chunked coding, 100-continue, bodies that are refused
before or while they come.
"""
import http.client
import json
import threading
import unittest
import zlib

import aiterd_test as t
from exchange import (MAX_BODY, RUN, SAFETENSORS, SMUGGLED, alive, fds, head, post, problem, quiescent, refused, reset,
                      rms_big, rms_body, rms_check, small_bodies_server)

server = None


def setUpModule():
    global server
    server = small_bodies_server()


def tearDownModule():
    server.stop()


class Chunked(unittest.TestCase):
    def test_odd_pieces(self):
        body = rms_body(5, 40, 9)
        for framed in (t.chunked(body, 1), t.chunked(body, 7), t.chunked(body, 100000)):
            for size in (1, 5, 1000, len(framed)):
                if len(framed) // size > 12000:
                    continue
                with self.subTest(chunks=len(framed), size=size), server.client() as c:
                    c.send(post("Transfer-Encoding: chunked"), *[framed[i:i + size] for i in range(0, len(framed), size)])
                    rms_check(c.response(), 5, 40, 9)
                    alive(c)

    def test_extensions_and_trailers(self):
        body = rms_body()
        ends = (b"0\r\n\r\n", b"000\r\n\r\n", b"0;last\r\n\r\n", b"0\r\nX-Check: 1\r\nContent-Length: 5\r\n\r\n",
                b"0;a=\"b;\\\"c\"\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nX: " + b"y" * 8000 + b"\r\n\r\n")
        sizes = (b"%x", b"%X", b"0000%x", b"%x;name", b"%x;name=value", b"%x ; n = \"quoted ; \\\\ \"", b"%x;a;b=c;d=\"\"",
                 b"%x;x=" + b"v" * 3000)
        for i, size in enumerate(sizes):
            framed = size % 50 + b"\r\n" + body[:50] + b"\r\n" + size % (len(body) - 50) + b"\r\n" + body[50:] + b"\r\n"
            framed += ends[i % len(ends)]
            for cut in (len(framed), 1, 3):
                with self.subTest(size, cut=cut), server.client() as c:
                    c.send(post("Transfer-Encoding: chunked"), *[framed[i:i + cut] for i in range(0, len(framed), cut)])
                    rms_check(c.response())
                    alive(c)

    def test_large(self):
        body = rms_big(6)
        with server.client(60) as c:
            c.send(post("Transfer-Encoding: chunked") + t.chunked(body, 100003))
            r = c.response()
            self.assertEqual((r.status, len(t.safetensors_parse(r.body)[0]["out"])), (200, 6))
            alive(c)

    def test_malformed(self):
        """400 and closed, and what follows is not taken for a request."""
        good = b"4\r\nabcd\r\n"
        for framed, status in ((b"g\r\n", 400), (b"\r\n", 400), (b"-1\r\n", 400), (b"+4\r\nabcd\r\n", 400), (b" 4\r\nabcd\r\n", 400),
                               (b"0x4\r\nabcd\r\n", 400), (b"4\nabcd\r\n", 400), (b"4\r\nabcd\n0\r\n\r\n", 400),
                               (b"4\r\nabcdX\r\n", 400), (b"4\r\nabc\r\n", 400), (b"4\rabcd\r\n", 400), (b"4 \r\nabcd\r\n", 400),
                               (b"4 x\r\nabcd\r\n", 400), (b"4;\r\nabcd\r\n", 400), (b"4;a=\"\r\nabcd\r\n", 400),
                               (b"4;a\0\r\nabcd\r\n", 400), (b"4;\n\r\n", 400), (b"00000000000000004\r\n", 400),
                               (b"fffffffffffffffff\r\n", 400), (b"8000000000000000\r\n", 413),
                               (b"ffffffffffffffff\r\n", 413), (b"4;" + b"a" * 5000 + b"\r\n", 400),
                               (good + b"0\r\nX\r\n\r\n", 400), (good + b"0\r\nX: a\n\r\n", 400), (good + b"0\r\n X: a\r\n\r\n", 400),
                               (good + b"0\r\nX : a\r\n\r\n", 400), (good + b"0\n\n", 400), (good + b"0\r\n\n", 400),
                               (good + b"0\r\nX: " + b"y" * 17000 + b"\r\n\r\n", 431)):
            raw = post("Transfer-Encoding: chunked") + framed + SMUGGLED
            for pieces in ([raw], [raw[:-len(framed) - len(SMUGGLED)], framed, SMUGGLED]):
                with self.subTest(framed[:40], pieces=len(pieces)), server.client() as c:
                    try:
                        c.send(*pieces)
                    except OSError:
                        pass
                    r = c.response()
                    self.assertEqual(r.get("connection"), "close", r)
                    problem(r, status)
                    self.assertTrue(c.closed(5))

    def test_beyond_max_body(self):
        """A chunked body says its size only as it comes: refused when it has passed the limit."""
        piece = b"%x\r\n" % 1048576 + bytes(1048576) + b"\r\n"
        text = b'{"x":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}' % (MAX_BODY, MAX_BODY * 4)
        with server.client(30) as c:
            start = len(text).to_bytes(8, "little") + text
            try:
                c.send(post("Transfer-Encoding: chunked") + b"%x\r\n" % len(start) + start + b"\r\n")
                for _ in range(40):
                    c.send(piece)
            except OSError:
                pass
            r = c.response()
            self.assertEqual(r.status, 413, r)
        quiescent(server)


class Compressed(unittest.TestCase):
    """Bodies that a helper thread receives and inflates: beyond what it does in one go, and beside others."""

    @classmethod
    def setUpClass(cls):
        cls.rows, cls.columns = 600, 4096
        cls.body = cls.packed(rms_body(cls.rows, cls.columns))

    @staticmethod
    def packed(data):
        c = zlib.compressobj(1, zlib.DEFLATED, 31)
        return c.compress(data) + c.flush()

    def post(self, body, *framing):
        return post("Content-Encoding: gzip", *(framing or ["Content-Length: %d" % len(body)]))

    def test_large(self):
        """More than one go of a helper, with the next request right behind it."""
        for name, framed, framing in (("length", self.body, ()),
                                      ("chunks", t.chunked(self.body, 100003), ("Transfer-Encoding: chunked",)),
                                      ("small chunks", t.chunked(self.body, 300), ("Transfer-Encoding: chunked",))):
            with self.subTest(name), server.client(60) as c:
                c.send(self.post(framed, *framing) + framed + head())
                rms_check(c.response(), self.rows, self.columns)
                self.assertEqual(c.response().status, 200)
                alive(c)

    def test_in_pieces(self):
        """The helper finds nothing more to receive again and again."""
        body = self.packed(rms_body(40, 1000))
        for size in (1000, 20000, 70001):
            with self.subTest(size), server.client(60) as c:
                r = c.request("POST", RUN, body, [SAFETENSORS, ("Content-Encoding", "gzip")], piece=size)
                rms_check(r, 40, 1000)
                alive(c)

    def test_side_by_side(self):
        """More of them than helpers: all get their turns."""
        failed = []

        def one():
            try:
                with server.client(120) as c:
                    c.send(self.post(self.body) + self.body)
                    rms_check(c.response(), self.rows, self.columns)
            except Exception as e:  # told by the main thread
                failed.append(e)
        threads = [threading.Thread(target=one) for _ in range(6)]
        for th in threads:
            th.start()
        for th in threads:
            th.join()
        self.assertEqual(failed, [])

    def test_wrong_in_the_middle(self):
        """Where a moderate rest is left it is dropped and the connection lives; a large one costs the connection."""
        whole = zlib.compressobj(1, zlib.DEFLATED, 31)
        good = whole.compress(rms_body(self.rows, self.columns)[:5 << 20]) + whole.flush(zlib.Z_FULL_FLUSH)
        for rest, lives in ((500000, True), (4 << 20, False)):
            bad = good + b"\7" + bytes(rest)  # a block of the kind that does not exist
            with self.subTest(rest), server.client(60) as c:
                r = c.request("POST", RUN, bad, [SAFETENSORS, ("Content-Encoding", "gzip")])
                problem(r, 400, "malformed-body")
                if lives:
                    alive(c)
                else:
                    self.assertEqual(r.get("connection"), "close")

    def test_gone_in_the_middle(self):
        for leave in (reset, lambda c: c.close()):
            for n in (300000, len(self.body) // 2, len(self.body) - 1):
                with server.client(60) as c:
                    c.send(self.post(self.body) + self.body[:n])
                    leave(c)
        quiescent(server)


class Continue(unittest.TestCase):
    def test_honoured(self):
        body = rms_body()
        for length in ("Content-Length: %d" % len(body), "Transfer-Encoding: chunked"):
            with self.subTest(length), server.client() as c:
                for value in ("100-continue", "100-Continue"):
                    c.send(post(length, "Expect: " + value))
                    self.assertEqual(c.interim().status, 100)
                    self.assertTrue(c.quiet(0.05))
                    c.send(body if "Length" in length else t.chunked(body, 50))
                    rms_check(c.response())
                alive(c)

    def test_impatient(self):
        """A client that sends its body without waiting."""
        body = rms_body()
        with server.client() as c:
            for _ in range(20):
                c.send(post("Content-Length: %d" % len(body), "Expect: 100-continue") + body)
                rms_check(c.response())
            alive(c)

    def test_no_body_no_continue(self):
        with server.client() as c:
            for raw in (head("Expect: 100-continue"), head("Expect: 100-continue", "Content-Length: 0")):
                c.send(raw)
                r = c.response()
                self.assertEqual((r.status, r.interim), (200, []))
            alive(c)

    def test_refused_early(self):
        """The answer comes instead of 100, before any of the body."""
        for fields, line, status in (
                (("Content-Length: %d" % (MAX_BODY + 1),), "POST " + RUN, 413),
                (("Content-Length: %d" % (2 ** 63 - 1),), "POST " + RUN, 413),
                (("Content-Length: 100", "Content-Type: text/plain"), "POST " + RUN, 415),
                (("Content-Length: 100", "Content-Encoding: br"), "POST " + RUN, 415),
                (("Content-Length: 100",), "POST " + RUN + "x", 404),
                (("Content-Length: 100",), "POST /nowhere", 404),
                (("Content-Length: 100",), "POST /v1/limits", 405),
                (("Transfer-Encoding: chunked",), "POST /nowhere", 404),
                (("Content-Length: 100", "Accept: text/html"), "POST " + RUN, 406)):
            fields = fields if any("Content-Type" in f for f in fields) else ("Content-Type: application/x-safetensors",) + fields
            with self.subTest(line, fields=fields), server.client() as c:
                c.send(head("Expect: 100-continue", *fields, line=line + " HTTP/1.1"))
                r = c.response()
                self.assertEqual((r.status, r.interim), (status, []), r)
                self.assertEqual(r.get("connection"), "close")
                self.assertTrue(c.closed(5))


class Refusals(unittest.TestCase):
    def test_whole_body_sent_anyway(self):
        """A client that knows nothing of Expect and sends all of a body that is too large still reads why."""
        body = bytes(MAX_BODY + (1 << 20))
        for _ in range(3):
            c = http.client.HTTPConnection(*server.address, timeout=30)
            c.request("POST", RUN, body, {"Content-Type": "application/x-safetensors"})
            r = c.getresponse()
            self.assertEqual((r.status, json.loads(r.read().decode())["type"]), (413, "/problems/too-large"))
            c.close()
        alive_after(self)

    def test_moderate_bodies_are_drained(self):
        """An early error with a body of up to a MiB does not cost the connection."""
        with server.client(30) as c:
            for size in (1, 1000, 70000, 500000, 1 << 20):
                for target, kind, status in (("/nowhere", SAFETENSORS, 404), (RUN, ("Content-Type", "text/plain"), 415),
                                             ("/v1/limits", SAFETENSORS, 405), (RUN + "?nothing=1&iters=x", SAFETENSORS, None)):
                    body = b"GET / HTTP/1.1\r\n\r\n" * (size // 18) + b"x" * (size % 18)
                    r = c.request("POST", target, body, [kind])
                    self.assertEqual(r.status, status or 400, r)
            r = c.request("POST", "/nowhere", t.chunked(bytes(200000), 999), [("Transfer-Encoding", "chunked")])
            self.assertEqual(r.status, 404)
            alive(c)

    def test_large_bodies_are_not(self):
        with server.client(30) as c:
            r = c.request("POST", "/nowhere", bytes(9 << 20), [SAFETENSORS])
            self.assertEqual((r.status, r.get("connection")), (404, "close"))
            self.assertTrue(c.closed(5))

    def test_error_in_the_middle(self):
        """A body that turns out bad after a while: the rest of a moderate one is dropped and the connection lives."""
        bad = (8).to_bytes(8, "little") + b"not json" + bytes(300000)
        with server.client() as c:
            for piece in (None, 65536, 10000):
                problem(c.request("POST", RUN, bad, [SAFETENSORS], piece=piece), 400, "malformed-body")
            alive(c)
        with server.client(30) as c:
            r = c.request("POST", RUN, bad + bytes(20 << 20), [SAFETENSORS])
            problem(r, 400, "malformed-body")

    def test_pages_with_bodies(self):
        with server.client() as c:
            r = c.request("GET", "/v1/limits", b"a body nobody needs")
            self.assertEqual(r.status, 200)
            r = c.request("POST", "/v2/repository/index", b"{}")
            self.assertEqual(r.status, 200)
            c.send(b"POST /v2/repository/index HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            c.interim(5)
            c.send(b"{}")
            self.assertEqual(c.response().status, 200)
            alive(c)

    def test_early_refusals(self):
        """A reply that leaves before the body was read is one like the others."""
        with server.client() as c:
            c.send(b"POST /v1/limits HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")
            r = c.response()
            self.assertEqual((r.status, r.get("allow"), r.get("connection")), (405, "GET, HEAD", "close"))
        with server.client() as c:
            c.send(b"HEAD /v1/limits HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")
            self.assertEqual(c.response("HEAD").status, 413)
            self.assertTrue(c.closed(5), "a HEAD's refusal has a body")

    def test_heads_libmicrohttpd_chokes_on(self):
        """Long lists in the query or in a cookie: one reply, ours."""
        for line, *fields in (("GET /v1/limits?" + "a&" * 1900 + " HTTP/1.1",),
                              ("GET /v1/limits HTTP/1.1", "Cookie: " + "a=b;" * 1800)):
            with server.client() as c:
                c.send("\r\n".join([line, "Host: a", *fields, "", ""]).encode())
                self.assertEqual(c.response().status, 200)
                alive(c)
        with server.client() as c:
            c.send(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a\r\ncookie: b\r\n\r\n")
            refused(c, 400, "malformed-request")

    def test_encoded_slash(self):
        self.assertEqual(server.request("GET", "/v1%2Flimits").status, 404)


def alive_after(case):
    """The server serves others and has given everything back."""
    quiescent(server)
    with server.client() as c:
        rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))
    case.assertLess(fds(server), 200)


if __name__ == "__main__":
    unittest.main()
