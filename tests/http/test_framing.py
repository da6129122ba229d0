#!/usr/bin/python3
"""HTTP/1.1 framing against the running server, from raw sockets: strict heads, pipelining, keep-alive, HEAD. What could
be read in two ways must be refused and nothing behind it answered.
"""
import socket
import time
import unittest

import aiterd_test as t
from exchange import (MAX_BODY, RUN, SMUGGLED, alive, head, post, problem, refused, rms_body, rms_check,
                      small_bodies_server)

server = None


def setUpModule():
    global server
    server = small_bodies_server()


def tearDownModule():
    server.stop()


class Heads(unittest.TestCase):
    def refuse(self, raw, status, slug=None):
        """Refused however the bytes are cut, once, with the connection closed and nothing behind it answered."""
        raw += SMUGGLED
        cuts = {"whole": [raw], "halves": [raw[:len(raw) // 2], raw[len(raw) // 2:]],
                "bytes": [raw[i:i + 1] for i in range(len(raw))] if len(raw) < 300 else [raw[:1], raw[1:-1], raw[-1:]]}
        for how, pieces in cuts.items():
            with self.subTest(raw[:100], cut=how), server.client() as c:
                try:
                    c.send(*pieces, pause=0.001 if how == "halves" else 0.0)
                except OSError:
                    pass  # it may have closed by now
                refused(c, status, slug)

    def accept(self, raw, body=b""):
        """200, and the connection lives on."""
        for pieces in ([raw + body], [(raw + body)[i:i + 1] for i in range(len(raw + body))]):
            with self.subTest(raw[:100], pieces=len(pieces)), server.client() as c:
                c.send(*pieces)
                r = c.response()
                self.assertEqual(r.status, 200, r)
                alive(c)

    def test_content_length_twice(self):
        for fields in (("Content-Length: 5", "Content-Length: 6"), ("Content-Length: 5", "Content-Length: 5"),
                       ("content-length: 5", "CONTENT-LENGTH: 50"), ("Content-Length: 5, 5",), ("Content-Length: 5,6",)):
            self.refuse(post(*fields) + b"01234", 400, "malformed-request")
            self.refuse(head(*fields), 400, "malformed-request")

    def test_content_length_malformed(self):
        for value in ("+5", "-5", "-1", "0x5", "5 5", "", " ", "5;", "5.0", "1e3", "five", "5\u00a0", "\"5\""):
            self.refuse(post("Content-Length: " + value) + b"01234", 400, "malformed-request")

    def test_content_length_enormous(self):
        for value in (2 ** 63, 2 ** 64 - 1, 2 ** 64, 2 ** 64 + 5, 10 ** 30, int("9" * 400)):
            self.refuse(post("Content-Length: %d" % value) + b"01234", 413, "too-large")
        for value in (2 ** 63 - 1, 2 ** 62, MAX_BODY + 1):
            for line in ("POST " + RUN, "POST /v2/models/rmsnorm/infer", "POST /nowhere", "GET /v1/limits"):
                with self.subTest(value, line=line), server.client() as c:
                    c.send(head("Content-Type: application/x-safetensors", "Content-Length: %d" % value,
                                line=line + " HTTP/1.1") + b"01234")
                    r = c.response()
                    self.assertEqual(r.status, 404 if "nowhere" in line else 413, r)
                    self.assertEqual(r.get("connection"), "close")
                    self.assertTrue(c.closed(5))

    def test_length_beside_chunked(self):
        for fields in (("Content-Length: 5", "Transfer-Encoding: chunked"),
                       ("Transfer-Encoding: chunked", "Content-Length: 5"),
                       ("transfer-encoding: chunked", "content-length: 0"),
                       ("Content-Length: 5", "X-Between: 1", "Transfer-Encoding: identity")):
            self.refuse(post(*fields) + b"0\r\n\r\n", 400, "malformed-request")

    def test_transfer_encoding(self):
        for value, status in (("xchunked", 501), ("gzip, chunked", 501), ("identity", 501), ("gzip", 501),
                              ("chunked, chunked", 400), ("chunked, gzip", 400), ("", 400), (",chunked", 400),
                              ("chunked,", 400), ("\"chunked\"", 400), ("chunked;a=b", 501), ("cow", 501)):
            self.refuse(post("Transfer-Encoding: " + value) + b"0\r\n\r\n", status,
                        "not-implemented" if status == 501 else "malformed-request")
        for extra in ("Transfer-Encoding: chunked", "Transfer-Encoding: identity", "transfer-encoding: gzip"):
            self.refuse(post("Transfer-Encoding: chunked", extra) + b"0\r\n\r\n", 400)
        self.refuse(post("Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n", 400)
        self.refuse(head("Content-Type: application/x-safetensors", "Transfer-Encoding: chunked",
                         line="POST %s HTTP/1.0" % RUN) + b"0\r\n\r\n", 400)

    def test_transfer_encoding_good_spellings(self):
        body = rms_body()
        for field in ("Transfer-Encoding: chunked", "transfer-encoding:chunked", "TRANSFER-ENCODING: \tChunked \t"):
            self.accept(post(field), t.chunked(body, 100))

    def test_blank_before_colon(self):
        for field in ("Content-Length : 5", "Content-Length\t: 5", "Transfer-Encoding : chunked", "X-Any : 1",
                      " Content-Length: 5", "\tX-Any: 1"):
            self.refuse(post(field) + b"01234", 400, "malformed-request")

    def test_folding(self):
        for fields in (("X-A: 1", " folded"), ("X-A: 1", "\tfolded"), ("Content-Length: 1", " 0"),
                       ("Transfer-Encoding:", " chunked")):
            self.refuse(post(*fields), 400, "malformed-request")
        self.refuse(b"GET /v1/limits HTTP/1.1\r\n Host: a\r\n\r\n", 400)

    def test_bare_line_ends(self):
        good = head("X-A: 1")
        for raw in (good.replace(b"\r\n", b"\n"), good.replace(b"1.1\r\n", b"1.1\n"), good.replace(b": a\r\n", b": a\n"),
                    good[:-2] + b"\n", good.replace(b"X-A: 1", b"X-A: 1\n"), good.replace(b"X-A: 1", b"X-A: 1\rX-B: 2"),
                    good.replace(b"X-A", b"\rX-A"), good.replace(b"1.1\r\n", b"1.1\r\r\n"),
                    good.replace(b"1.1\r\n", b"1.1\r"), b"\n" + good, b"\r" + good):
            self.refuse(raw, 400, "malformed-request")

    def test_control_characters(self):
        good = head("X-A: value")
        for byte in (b"\0", b"\x01", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x7f"):
            for place in (b"X-A: va" + byte + b"lue", b"X-A: " + byte + b"value", b"X" + byte + b"A: value"):
                self.refuse(good.replace(b"X-A: value", place), 400, "malformed-request")
            self.refuse(good.replace(b"/v1/limits", b"/v1/lim" + byte + b"its"), 400)
            self.refuse(good.replace(b"GET", b"GE" + byte + b"T"), 400)

    def test_field_names(self):
        for name in ("", "X[]", "X A", "X(A)", "X\u00e4", "X/A", "X@A", "\"X\"", "X,A", "{X}"):
            self.refuse(head(name + ": 1"), 400, "malformed-request")
        self.refuse(head("no colon here"), 400)
        self.refuse(head("nocolon"), 400)
        self.accept(head("!#$%&'*+.^_`|~09azAZ-: odd, but a token", "X-High: \u00e4\u00ff", "X-Empty:"))

    def test_request_line(self):
        for line in ("GET", "GET ", "GET /", "GET /v1/limits", "GET  /v1/limits HTTP/1.1", "GET /v1/limits  HTTP/1.1",
                     "GET\t/v1/limits HTTP/1.1", "GET /v1/limits\tHTTP/1.1", "GET /v1/limits HTTP/1.1 ",
                     " GET /v1/limits HTTP/1.1", "GET /v1/ limits HTTP/1.1", "GET /v1/limits HTTP/1.1 X",
                     "GET /v1/limits http/1.1", "GET /v1/limits HTTP/1.10", "GET /v1/limits HTTP/1,1",
                     "GET /v1/limits HTTP/11", "GET /v1/limits HTTP/1.", "GET /v1/limits HTTP /1.1",
                     "GET /v1/limits XTTP/1.1", "G(T /v1/limits HTTP/1.1", "/v1/limits HTTP/1.1",
                     "GET v1/limits HTTP/1.1", "GET * HTTP/1.1", "GET a:80 HTTP/1.1", "GET /v1/lim\u00e4 HTTP/1.1",
                     "GET /v1/limits#part HTTP/1.1", "GET /v1/%00limits HTTP/1.1", "GET /v1/%zz HTTP/1.1",
                     "GET /v1/limits% HTTP/1.1", "GET /v1/%4 HTTP/1.1", "GET ftp://a/v1/limits HTTP/1.1",
                     "GET http://u@a/v1/limits HTTP/1.1", "GET http:///v1/limits HTTP/1.1", "X" * 40 + " / HTTP/1.1",
                     "Extra lineGET /v1/limits HTTP/1.1"):
            self.refuse(head(line=line), 400, "malformed-request")

    def test_not_http_at_all(self):
        self.refuse(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60), 400)
        self.refuse(b"\x00" * 32, 400)
        self.refuse(b"SSH-2.0-OpenSSH_9.2\r\n", 400)
        self.refuse(b"<policy-file-request/>\0", 400)

    def test_versions(self):
        for version in ("HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.0", "HTTP/9.9"):
            self.refuse(head(line="GET /v1/limits " + version), 505, "http-version")
        self.refuse(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)

    def test_host(self):
        self.refuse(head(host=False), 400, "malformed-request")
        self.refuse(head("Host: b"), 400, "malformed-request")
        self.refuse(head("Host: a"), 400, "malformed-request")
        for value in ("a b", "a/b", "u@a", "a,b", "a:b", "a:99999", "[::1", "a\\b", "a?b", "a#b"):
            self.refuse(head("Host: " + value, host=False), 400, "malformed-request")
        for value in ("a.example", "a.example:80", "[::1]:80", "127.0.0.1", "", "a:"):
            self.accept(head("Host:" + value, host=False))

    def test_expect(self):
        for value in ("foo", "200-ok", "100-continue, foo", "", "100continue"):
            self.refuse(post("Content-Length: 5", "Expect: " + value), 417, "expectation-failed")
        self.refuse(post("Content-Length: 5", "Expect: 100-continue", "Expect: 100-continue"), 417)

    def test_too_large(self):
        self.refuse(head(*["X-%d: %s" % (i, "v" * 1000) for i in range(20)]), 431, "head-too-large")
        self.refuse(head("X-Long: " + "v" * 17000), 431, "head-too-large")
        self.refuse(head("X" * 17000 + ": v"), 431, "head-too-large")
        self.refuse(head(*["X-%d: 1" % i for i in range(120)]), 431, "head-too-large")
        self.refuse(head(line="GET /" + "a" * 9000 + " HTTP/1.1"), 414, "uri-too-long")
        self.refuse(head(line="GET /?" + "a" * 100000 + " HTTP/1.1"), 414, "uri-too-long")
        self.accept(head("X-Long: " + "v" * 7500))

    def test_good_heads(self):
        for raw in (head(), b"\r\n" + head(), head("X-A: 1", "X-A: 2"), head("Content-Length: 0"),
                    head("Content-Length: 00"), head("Content-Length: \t0 "), head("Accept:*/*", "Connection:keep-alive"),
                    head(line="GET http://a.example/v1/limits HTTP/1.1"), head(line="GET /v1/limits?x=%00 HTTP/1.1"),
                    head(line="GET /v1/%6cimits HTTP/1.1"), head(line="GET /v1/limits/ HTTP/1.1")):
            self.accept(raw)

    def test_head_and_body_in_any_cut(self):
        raw = post("Content-Length: %d" % len(rms_body())) + rms_body()
        for size in (1, 2, 3, 7, 64, 150, 151, 152):
            with self.subTest(size), server.client() as c:
                c.send(*[raw[i:i + size] for i in range(0, len(raw), size)])
                rms_check(c.response())
                alive(c)

    def test_other_methods(self):
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "X-NEW"):
            with self.subTest(method), server.client() as c:
                r = c.request(method, "/v1/limits", b"")
                problem(r, 405, "method-not-allowed")
                self.assertIn("GET", r.get("allow"))
                alive(c)
        with server.client() as c:
            c.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n")
            for _ in range(2):
                problem(c.response(), 404, "not-found")


class Pipelining(unittest.TestCase):
    def test_gets(self):
        n = 300
        raw = b"".join(b"GET /v1/ops/%s HTTP/1.1\r\nHost: a\r\nX-Request-Id: g%d\r\n\r\n" %
                       ((b"rmsnorm", b"flash_attn_func", b"none%d" % i)[i % 3], i) for i in range(n))
        for size in (len(raw), 4096, 997):
            with self.subTest(size), server.client() as c:
                c.send(*[raw[i:i + size] for i in range(0, len(raw), size)])
                for i in range(n):
                    r = c.response()
                    self.assertEqual((r.status, r.get("x-request-id")), ((200, 200, 404)[i % 3], "g%d" % i))
                alive(c)

    def test_posts(self):
        n, pieces = 60, []
        for i in range(n):
            body = rms_body(2 + i % 5, 4 + i % 7, i)
            if i % 3 == 2:
                pieces.append(post("Transfer-Encoding: chunked", "X-Request-Id: p%d" % i) + t.chunked(body, 33))
            else:
                pieces.append(post("Content-Length: %d" % len(body), "X-Request-Id: p%d" % i) + body)
        raw = b"".join(pieces)
        for size in (len(raw), 1460, 301):
            with self.subTest(size), server.client(30) as c:
                c.send(*[raw[i:i + size] for i in range(0, len(raw), size)])
                for i in range(n):
                    r = c.response()
                    self.assertEqual(r.get("x-request-id"), "p%d" % i)
                    rms_check(r, 2 + i % 5, 4 + i % 7, i)
                alive(c)

    def test_mixed(self):
        """Good, refused and bodiless requests in one write, each answered once and in order."""
        body = rms_body()
        kinds = [
            (post("Content-Length: %d" % len(body)) + body, 200, "POST"),
            (head(line="HEAD /v1/limits HTTP/1.1"), 200, "HEAD"),
            (head("Content-Length: 7", line="POST /nowhere HTTP/1.1") + b"ignored", 404, "POST"),
            (head(), 200, "GET"),
            (head("Content-Type: text/x", "Content-Length: 9", line="POST %s HTTP/1.1" % RUN) + b"GET / HTT", 415, "POST"),
            (post("Transfer-Encoding: chunked") + b"8;x\r\nnot safe\r\n4\r\nGET \r\n0\r\nX: y\r\n\r\n", 400, "POST"),
            (b"\r\n" + head("Content-Length: 4") + b"GET ", 200, "GET"),
            (head("Content-Length: 2", line="POST /v1/limits HTTP/1.1") + b"no", 405, "POST"),
            (post("Content-Length: 0"), 400, "POST"),
        ] * 5
        raw = b"".join(k[0] for k in kinds)
        for size in (len(raw), 499, 61):
            with self.subTest(size), server.client() as c:
                c.send(*[raw[i:i + size] for i in range(0, len(raw), size)])
                for i, (_, status, method) in enumerate(kinds):
                    r = c.response(method)
                    self.assertEqual(r.status, status, (i, r))
                alive(c)

    def test_refused_in_the_middle(self):
        """What stands before a bad head is answered, what stands behind it is not."""
        body = rms_body()
        with server.client() as c:
            c.send(post("Content-Length: %d" % len(body)) + body + head() + b"GET / HTTP/1.1\nHost: a\n\n" + SMUGGLED)
            rms_check(c.response())
            self.assertEqual(c.response().status, 200)
            refused(c, 400)

    def test_leftover_then_more(self):
        """The next request comes half with the first, half later."""
        second = head("X-Request-Id: second")
        for cut in (1, 10, len(second) - 1):
            with self.subTest(cut), server.client() as c:
                c.send(head("X-Request-Id: first") + second[:cut])
                self.assertEqual(c.response().get("x-request-id"), "first")
                c.send(second[cut:])
                self.assertEqual(c.response().get("x-request-id"), "second")
                alive(c)

    def test_next_request_with_the_body(self):
        """Head and body come apart, and the end of the body comes together with the next request."""
        body = rms_body()
        for length, framed in (("Content-Length: %d" % len(body), body), ("Transfer-Encoding: chunked", t.chunked(body, 90))):
            for cut in (0, 1, len(framed) // 2, len(framed) - 1):
                with self.subTest(length, cut=cut), server.client() as c:
                    c.send(post(length) + framed[:cut])
                    self.assertTrue(c.quiet(0.05))
                    c.send(framed[cut:] + head("X-Request-Id: next") + head("X-Request-Id: last")[:9])
                    rms_check(c.response())
                    self.assertEqual(c.response().get("x-request-id"), "next")
                    c.send(head("X-Request-Id: last")[9:])
                    self.assertEqual(c.response().get("x-request-id"), "last")

    def test_close_in_the_middle(self):
        with server.client() as c:
            c.send(head() + head("Connection: close") + SMUGGLED)
            self.assertEqual(c.response().status, 200)
            r = c.response()
            self.assertEqual((r.status, r.get("connection").lower()), (200, "close"))
            self.assertTrue(c.closed())

    def test_half_closed(self):
        """A client that sends its requests and then closes its sending side gets the pages it asked for."""
        with server.client() as c:
            c.send(head() * 3)
            time.sleep(0.1)
            c.sock.shutdown(1)
            for _ in range(3):
                self.assertEqual(c.response().status, 200)
            self.assertTrue(c.closed())


class KeepAlive(unittest.TestCase):
    def test_http_1_1(self):
        with server.client() as c:
            for _ in range(200):
                alive(c)
        with server.client() as c:
            r = c.request("GET", "/v1/limits", headers={"Connection": "close"})
            self.assertEqual((r.status, r.get("connection").lower()), (200, "close"))
            self.assertTrue(c.closed())
        with server.client() as c:
            r = c.request("GET", "/v1/limits", headers={"Connection": "x, CLOSE"})
            self.assertTrue(c.closed())

    def test_http_1_0(self):
        with server.client() as c:
            c.send(b"GET /v1/limits HTTP/1.0\r\n\r\n")
            r = c.response()
            self.assertEqual(r.status, 200)
            self.assertIsNone(r.get("transfer-encoding"))
            self.assertTrue(c.closed())
        with server.client() as c:
            for _ in range(3):
                c.send(b"GET /v1/limits HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                r = c.response()
                self.assertEqual((r.status, r.get("connection").lower()), (200, "keep-alive"))
            alive(c)
        body = rms_body()
        for field in (b"", b"Expect: 100-continue\r\n"):  # which 1.0 does not know
            with server.client() as c:
                c.send(b"POST %s HTTP/1.0\r\nContent-Type: application/x-safetensors\r\nContent-Length: %d\r\n%s\r\n" %
                       (RUN.encode(), len(body), field))
                self.assertTrue(c.quiet(0.1))
                c.send(body)
                r = c.response()
                self.assertEqual(r.interim, [])
                rms_check(r)
                self.assertTrue(c.closed())

    def test_head(self):
        with server.client() as c:
            for target in ("/", "/v1/info", "/v1/limits", "/v1/ops", "/v1/ops/rmsnorm", "/problems/too-large", "/v2",
                           "/v2/health/live", "/v2/health/ready", "/v2/models/rmsnorm", "/v2/models/rmsnorm/config",
                           "/nowhere", "/v1/ops/none"):
                h, g = c.request("HEAD", target), c.request("GET", target)
                self.assertEqual((h.status, h.get("content-type")), (g.status, g.get("content-type")), target)
                if "info" not in target:
                    self.assertEqual(h.get("content-length"), g.get("content-length"), target)
                self.assertEqual(h.body, b"")
            r = c.request("HEAD", "/v2/models/rmsnorm/infer")
            self.assertEqual((r.status, r.get("allow")), (405, "POST"))
            alive(c)


class HalfClosed(unittest.TestCase):
    def test_end_with_the_request(self):
        """A client that stops sending right after its request is answered, and then the connection ends at once."""
        for _ in range(20):
            with server.client() as c:
                c.send(b"GET /v1/limits HTTP/1.1\r\nHost: a\r\n\r\n")
                c.sock.shutdown(socket.SHUT_WR)
                self.assertEqual(c.response().status, 200)
                self.assertTrue(c.closed(5), "still open")


if __name__ == "__main__":
    unittest.main()
