"""What test_errors and test_malformed share: a server with small limits, and requests that must be refused, after each
of which it works on; in the end no memory is lent.
"""
import re
import unittest

import aiterd_test as t
import calls
from calls import Reply, problem, send

MAX_BODY, MAX_JSON, MAX_EXPANSION = 32 << 20, 4 << 20, 100
ST, JSON = "application/x-safetensors", "application/json"
RMS, ATTN = "/v1/ops/rmsnorm", "/v1/ops/flash_attn_func"


def has(pattern):
    return re.compile(pattern)


class Refusing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = t.Server("--loops", "2", "--threads", "2", "--prefault", "1M", "--max-body", str(MAX_BODY),
                              "--max-json", str(MAX_JSON), "--max-expansion", str(MAX_EXPANSION))

    @classmethod
    def tearDownClass(cls):
        try:
            calls.nothing_lent(cls.server)
        finally:
            cls.server.stop()

    def setUp(self):
        self.c = self.server.client(60)

    def tearDown(self):
        self.c.close()

    def goes_on(self, r):
        """The connection serves the next request, or the reply said that it would close, and it did."""
        if (r.get("connection") or "").lower() == "close":
            self.assertTrue(self.c.closed(5))
            self.c.close()
            self.c = self.server.client(60)
        call = calls.rmsnorm(seed=7)
        call.check(Reply(send(self.c, call)).outputs)

    def refused(self, status, slug, method, target, body=None, headers=(), **members):
        r = self.c.request(method, target, body, headers)
        p = problem(r, status, slug, **members)
        self.goes_on(r)
        return p

    def post(self, status, slug, target, body, kind=ST, coding=None, **members):
        fields = [("Content-Type", kind)] + ([("Content-Encoding", coding)] if coding else [])
        return self.refused(status, slug, "POST", target, body, fields, **members)

    def call(self, status, slug, call, body="safetensors", query="", **members):
        r = send(self.c, call, body, query=query)
        p = problem(r, status, slug, **members)
        self.assertEqual(p["op"], call.op)
        self.goes_on(r)
        return p
