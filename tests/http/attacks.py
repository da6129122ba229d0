"""What test_strict and long_strict share: clients that hold connections as long as they can, and somebody who must be served
meanwhile.
"""
import os
import select
import socket
import threading
import time

import aiterd_test as t
from exchange import RUN, SAFETENSORS, info, rms_body, rms_check, until


class Others:
    """Another client asks on connections of its own, again and again: each answer must be right. `longest` is the longest wait."""

    def __init__(self, server, pause=0.02):
        self.server, self.pause, self.stop = server, pause, threading.Event()
        self.count, self.longest, self.error = 0, 0.0, None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stop.is_set():
                start = time.monotonic()
                with self.server.client(20) as c:
                    rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))
                self.longest = max(self.longest, time.monotonic() - start)
                self.count += 1
                time.sleep(self.pause)
        except Exception as e:
            self.error = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            until(lambda: self.count > 2 or self.error, "others are served", 30)
        self.stop.set()
        self.thread.join()
        if kind is None:
            assert self.error is None, self.error


def cpu_seconds(pid):
    """User and system time of a process so far."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Holder:
    """A connection on which `drip(i)` says what is sent at step i (b"": nothing) and, when `read` is set, how many bytes are read.
    Notes when the server ended it and what it said."""

    def __init__(self, server, first, drip=None, read=0):
        self.sock = socket.socket()
        if read:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.settimeout(10)
        self.sock.connect(server.address)
        self.start, self.ended, self.said, self.i = time.monotonic(), None, b"", 0
        self.drip, self.read = drip, read
        self.sock.sendall(first)
        self.sock.setblocking(False)

    def _over(self):
        self.ended = time.monotonic()
        self.sock.close()

    def step(self):
        if self.ended is not None:
            return
        if self.read:  # the end may stand behind much that is not read yet
            p = select.poll()
            p.register(self.sock, select.POLLRDHUP)
            if p.poll(0):
                self._over()
                return
        try:
            if self.drip:
                self.sock.send(self.drip(self.i))
                self.i += 1
        except BlockingIOError:
            pass
        except OSError:
            self._over()
            return
        try:
            got = self.sock.recv(self.read or 65536)
            self.said = (self.said + got)[:2000]
            if not got:
                self._over()
        except BlockingIOError:
            pass
        except OSError:
            self._over()

    @property
    def held(self):
        return (self.ended or time.monotonic()) - self.start

    def close(self):
        if self.ended is None:
            self.sock.close()


def hold(server, make, n, limit, every=0.1, done=None):
    """n such connections, dripped until all are over, or done() says so, or `limit` seconds have passed; the Holders."""
    holders = []
    try:
        for _ in range(n):
            holders.append(make())
        end = time.monotonic() + limit
        while time.monotonic() < end and any(h.ended is None for h in holders):
            for h in holders:
                h.step()
            if done and done():
                break
            time.sleep(every)
    finally:
        for h in holders:
            h.close()
    return holders


# The four ways of the tool slowhttptest.

def slow_head(server):
    """A field line now and then, and never the empty line."""
    return Holder(server, b"GET /v1/limits HTTP/1.1\r\nHost: a\r\n", lambda i: b"X-%d: y\r\n" % i)


def slow_body(server, framed, body=None, begun=0):
    """A good body, its first `begun` bytes as fast as they go, the rest a few at a time."""
    body = body or rms_body(200, 100)
    how = b"Transfer-Encoding: chunked" if framed else b"Content-Length: %d" % len(body)

    def drip(i):
        piece = body[begun + i * 5:begun + i * 5 + 5]
        return b"%x\r\n%s\r\n" % (len(piece), piece) if framed else piece
    return Holder(server, b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-safetensors\r\n%s\r\n\r\n%s" %
                  (RUN.encode(), how, body[:begun]), drip)


def many_ranges(n):
    """Overlapping ranges, for servers that make each of them."""
    ranges = b"bytes=0-" + b"".join(b",5-%d" % i for i in range(n))
    return b"GET /v1/ops HTTP/1.1\r\nHost: a\r\nRange: " + ranges + b"\r\n\r\n"


def slow_read(server, body, read=5):
    """A large reply, taken a few bytes at a time."""
    return Holder(server, b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-safetensors\r\nContent-Length: %d\r\n\r\n" %
                  (RUN.encode(), len(body)) + body, read=read)


def slow_read_pipelined(server, n=10000, read=5):
    """Many small replies, asked for ahead and taken a few bytes at a time. The client's machine need not hear of the end: it
    stands behind what the client does not take."""
    return Holder(server, b"GET /v1/ops HTTP/1.1\r\nHost: a\r\n\r\n" * n, read=read)


def nobody(server):
    """Has the server no connection but the asking one?"""
    return info(server)["server"]["connections"] == 1
