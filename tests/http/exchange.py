"""What test_framing, test_bodies, test_serving and test_faults share: small requests whose answers are known, checks of problem
replies, and looks at a server from outside.
"""
import json
import os
import socket
import struct
import time

import numpy as np

import aiterd_test as t

RUN = "/v1/ops/rmsnorm"
SAFETENSORS = ("Content-Type", "application/x-safetensors")
SMUGGLED = b"GET /v1/limits HTTP/1.1\r\nHost: smuggled\r\n\r\n"  # stands where nothing may be answered
MAX_BODY = 1 << 25  # of small_bodies_server()


def small_bodies_server():
    """A server for tests of framing, which has answered once."""
    server = t.Server("--loops", "2", "--threads", "1", "--prefault", "1M", "--max-body", str(MAX_BODY))
    server.request("GET", "/v1/info")
    return server


def head(*fields, line="GET /v1/limits HTTP/1.1", host=True):
    fields = (["Host: a"] if host else []) + list(fields)
    return ("\r\n".join([line] + fields) + "\r\n\r\n").encode("latin1")


def post(*fields):
    return head("Content-Type: application/x-safetensors", *fields, line="POST %s HTTP/1.1" % RUN)


def rms_arrays(rows=3, columns=8, seed=0):
    return {"x": t.normal((rows, columns), "fp32", seed), "weight": t.normal((columns,), "fp32", seed + 1000)}


def rms_body(rows=3, columns=8, seed=0):
    return t.safetensors(rms_arrays(rows, columns, seed))


def rms_check(r, rows=3, columns=8, seed=0):
    """A reply to rms_body() with these numbers."""
    assert r.status == 200, r
    tensors, _ = t.safetensors_parse(r.body)
    a = rms_arrays(rows, columns, seed)
    t.assert_close(tensors["out"], t.rmsnorm(a["x"], a["weight"]), "fp32")


def problem(r, status, slug=None):
    """r is a problem reply with this status, in every respect."""
    assert r.status == status, "wanted %s, found %r" % (status, r)
    assert r.get("content-type") == "application/problem+json", r.headers
    p = json.loads(r.body.decode())
    assert p["status"] == status, p
    assert p["type"].startswith("/problems/"), p
    assert slug is None or p["type"] == "/problems/" + slug, p
    assert p["title"] and p["detail"], p
    assert p["request_id"] == r.get("x-request-id"), (p, r.headers)
    return p


def refused(c, status, slug=None, timeout=None):
    """The one reply on this connection is that problem, and then the connection is closed."""
    r = c.response(timeout=timeout)
    p = problem(r, status, slug)
    assert (r.get("connection") or "").lower() == "close", r.headers
    assert not r.interim, r.interim
    assert c.closed(5), "the connection was not closed"
    return p


def alive(c):
    """The connection still serves."""
    r = c.request("GET", "/v1/limits")
    assert r.status == 200 and json.loads(r.body.decode())["max_body_bytes"] > 0, r


def info(server):
    r = server.request("GET", "/v1/info")
    assert r.status == 200, r
    return json.loads(r.body.decode())


def until(condition, what, seconds=10.0):
    """Wait for something that must come, and soon; `what` may be a function that says it."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("not within %g s: %s" % (seconds, what() if callable(what) else what))
        time.sleep(0.01)


def kill(pid, number):
    """One process: of a worker that is dead just now /v1/info tells -1, which to os.kill means everybody."""
    assert pid > 1, pid
    os.kill(pid, number)


def sockets(server):
    """How many sockets the server's process has open. (Descriptors of all kinds: fds().)"""
    n = 0
    for fd in os.listdir("/proc/%d/fd" % server.pid):
        try:
            n += os.readlink("/proc/%d/fd/%s" % (server.pid, fd)).startswith("socket:")
        except OSError:
            continue
    return n


def fds(server):
    return len(os.listdir("/proc/%d/fd" % server.pid))


def quiescent(server, seconds=10.0):
    """Nothing is being worked on and no memory is lent; one connection (the asking one) is there."""
    def look():
        i = info(server)
        return i["arena"]["borrowed"] == 0 and i["server"]["requests"] == 0 and i["server"]["connections"] == 1
    until(look, lambda: "everything returned: %s" % {k: info(server)[k] for k in ("arena", "server")}, seconds)


def reset(c):
    """Leave without a goodbye: an RST instead of a FIN."""
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()


def state_of(pid):
    """The letter of /proc/PID/stat, "" when there is no such process."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def rms_big(megabytes, seed=5):
    """A body of about so many MiB."""
    return t.safetensors({"x": np.random.default_rng(seed).standard_normal((megabytes, 262144), np.float32),
                          "weight": np.ones(262144, np.float32)})
