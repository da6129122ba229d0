#!/usr/bin/python3
"""The four modes of slowhttptest with hundreds of connections and the default deadlines (a shorter --idle-timeout where 75 s
would be waited for), while another client must be served. Run by `tests/http/run --long`.
"""
import time
import unittest

import aiterd_test as t
from attacks import Others, hold, many_ranges, nobody, slow_body, slow_head, slow_read, slow_read_pipelined
from exchange import info, quiescent, rms_big

COUNT = 200


class Slow(unittest.TestCase):
    def go(self, make, n, limit, options=(), said=None):
        with t.Server("--loops", "2", "--threads", "1", "--prefault", "1M", *options) as s:
            s.request("GET", "/v1/info")
            with Others(s) as others:
                holders = hold(s, lambda: make(s), n, limit + 30, every=1)
            self.assertLess(others.longest, 5)
            for h in holders:
                self.assertIsNotNone(h.ended, "still open after %.1f s" % h.held)
                self.assertLess(h.held, limit)
                if said is not None:
                    self.assertTrue(h.said.startswith(said), h.said)
            quiescent(s, 20)

    def test_headers(self):
        self.go(slow_head, COUNT, 25, said=b"HTTP/1.1 408 ")

    def test_bodies(self):
        for framed in (False, True):
            self.go(lambda s: slow_body(s, framed), COUNT, 25, said=b"HTTP/1.1 408 ")

    def test_ranges(self):
        with t.Server("--loops", "2", "--threads", "1", "--prefault", "1M") as s:
            with Others(s) as others:
                for _ in range(COUNT):
                    with s.client() as c:
                        c.send(many_ranges(1000))
                        self.assertEqual(c.response().status, 200)
            self.assertLess(others.longest, 5)
            self.assertEqual(info(s)["arena"]["borrowed"], 0)

    def test_readers(self):
        body = rms_big(12)
        self.go(lambda s: slow_read(s, body), 10, 45, ("--idle-timeout", "10"))
        with t.Server("--loops", "2", "--threads", "1", "--prefault", "1M", "--idle-timeout", "10") as s:
            s.request("GET", "/v1/info")
            start = time.monotonic()
            hold(s, lambda: slow_read_pipelined(s), COUNT, 60, every=1, done=lambda: nobody(s))
            self.assertLess(time.monotonic() - start, 45)
            quiescent(s)


if __name__ == "__main__":
    unittest.main()
