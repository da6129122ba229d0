"""HTTP/1.1 over http.client: one kept-alive connection per thread, bodies sent in pieces without joining them, replies
read into memory that is given. Nothing here knows operators.
"""
from __future__ import annotations

import http.client
import json
import os
import select
import socket
import threading
import time
import urllib.parse
import zlib
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from .errors import AiterdError, ServerUnreachable, from_problem

__all__ = ["Reply", "Transport", "zstandard"]

zstandard: Any = None
try:
    import zstandard as _zstandard
    zstandard = _zstandard
except ImportError:
    pass

CHUNK = 1 << 20
LARGEST = 1 << 30  # bytes in one call; TLS takes less than 2 GiB
#: A busy server's Retry-After is followed, but not for longer than this.
LONGEST_PAUSE = 10.0
# What a connection that the server closed meanwhile looks like; BadStatusLine is RemoteDisconnected's kind.
GONE = (http.client.BadStatusLine, BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: Optional[float]) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

# What a reply raises that is not compressed as it says.
BROKEN: Tuple[Any, ...] = (zlib.error,) if zstandard is None else (zlib.error, zstandard.ZstdError)


def _readable(sock: socket.socket) -> bool:
    poll = select.poll()  # select() takes no descriptors beyond 1023
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class Reply:
    """A reply's head, and its body still to be read. Close it, or read it to the end; then the connection is free."""

    def __init__(self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> None:
        self._response, self._connection = response, connection
        self.status = response.status
        self.headers = response.headers
        self.content_type = response.headers.get_content_type()
        self.received = 0
        coding = (response.headers.get("Content-Encoding") or "identity").lower()
        self._decoder: Any = None
        self._left = memoryview(b"")
        if coding == "gzip":
            self._decoder = zlib.decompressobj(31)
        elif coding == "zstd" and zstandard is not None:
            self._decoder = zstandard.ZstdDecompressor().decompressobj()
        elif coding != "identity":
            raise AiterdError("the reply has the Content-Encoding %r, which was not asked for" % coding)

    def _some(self, memory: memoryview) -> int:
        """At least one byte into memory; 0 at the end."""
        try:
            if self._decoder is None:
                n = self._response.readinto(memory[:LARGEST])
                self.received += n
                return n
            while not self._left:
                raw = self._response.read1(CHUNK)
                self.received += len(raw)
                if not raw:
                    return 0
                self._left = memoryview(self._decoder.decompress(raw))
            n = min(len(memory), len(self._left))
            memory[:n] = self._left[:n]
            self._left = self._left[n:]
            return n
        except (OSError, http.client.HTTPException) as e:
            self.abandon()
            raise ServerUnreachable("the connection broke within the reply: %s" % (e or type(e).__name__)) from e
        except BROKEN as e:
            self.abandon()
            raise AiterdError("the reply cannot be unpacked: %s" % e, status=self.status) from e

    def readinto(self, memory: memoryview) -> None:
        """Fill all of memory."""
        memory = memory.cast("B") if memory.format != "B" else memory
        while len(memory):
            n = self._some(memory)
            if n == 0:
                self.abandon()
                raise ServerUnreachable("the reply ended %d bytes early" % len(memory))
            memory = memory[n:]

    def read(self) -> bytes:
        """All that is left."""
        pieces: List[bytes] = []
        buffer = bytearray(1 << 16)
        while True:
            n = self._some(memoryview(buffer))
            if n == 0:
                self.close()
                return b"".join(pieces)
            pieces.append(bytes(buffer[:n]))

    def lines(self) -> Iterator[bytes]:
        """The body's lines as they arrive. Ending the iteration early ends the connection, and so the server's work."""
        try:
            while True:
                line = self._response.readline()
                if not line:
                    break
                self.received += len(line)
                yield line.rstrip(b"\r\n")
        except (OSError, http.client.HTTPException) as e:
            raise ServerUnreachable("the connection broke within the reply: %s" % (e or type(e).__name__)) from e
        finally:
            self.abandon()  # this thread may have opened another meanwhile

    def json(self) -> Any:
        text = self.read()
        try:
            return json.loads(text) if text else None
        except ValueError as e:
            raise AiterdError("the reply's JSON cannot be read: %s" % e, status=self.status) from None

    def finish(self) -> None:
        """The body is read: see that nothing follows."""
        extra = bytearray(1)
        if self._some(memoryview(extra)):
            self.abandon()
            raise AiterdError("the reply goes on after its end")
        self.close()

    def close(self) -> None:
        if not self._response.isclosed():
            self._connection.close()  # what is unread would stand before the next reply
        self._response.close()

    def abandon(self) -> None:
        self._response.close()
        self._connection.close()

    def error(self) -> AiterdError:
        """The exception that says what this reply says."""
        body = self.read()
        try:
            problem = json.loads(body)
        except ValueError:
            problem = None
        if isinstance(problem, dict) and ("detail" in problem or "title" in problem):
            return from_problem(problem, self.status)
        return AiterdError("HTTP status %d: %s" % (self.status, body[:300].decode("utf-8", "replace").strip()),
                           status=self.status)


class Transport:
    """Where the server is, and how to talk to it. May be used from several threads: each has its own connection."""

    def __init__(self, url: str, key: Optional[str], timeout: Optional[float], compress: Optional[str], retries: int) -> None:
        self.url, self.key, self.timeout, self.compress, self.retries = url, key, timeout, compress, retries
        if compress not in (None, "gzip", "zstd"):
            raise AiterdError("compress is %r, wanted None, 'gzip' or 'zstd'" % compress)
        if compress == "zstd" and zstandard is None:
            raise AiterdError("compress='zstd' needs the package zstandard (Debian: python3-zstandard)")
        self._mine = threading.local()
        self._socket_path: Optional[str] = None
        self._prefix = ""
        if url.startswith("unix:"):
            self._socket_path = url[5:]
            return
        if "://" not in url:  # HOST:PORT, as aiterctl takes it
            self.url = "http://" + url
        parts = urllib.parse.urlsplit(self.url)
        try:
            self._host, self._port = parts.hostname, parts.port
        except ValueError:
            self._host = None
        if parts.scheme not in ("http", "https") or not self._host:
            raise AiterdError("the server's address is %r, wanted http://HOST:PORT, https://HOST, HOST:PORT or unix:PATH" % url)
        self._secure = parts.scheme == "https"
        self._prefix = parts.path.rstrip("/")

    def _fresh(self) -> http.client.HTTPConnection:
        if self._socket_path is not None:
            return _UnixConnection(self._socket_path, self.timeout)
        if self._secure:
            return http.client.HTTPSConnection(str(self._host), self._port, timeout=self.timeout)
        return http.client.HTTPConnection(str(self._host), self._port, timeout=self.timeout)

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's, or a new one if it was closed by the server while idle (or belongs to a parent process)."""
        mine = self._mine
        connection: Optional[http.client.HTTPConnection] = getattr(mine, "connection", None)
        if connection is None or mine.pid != os.getpid():
            mine.connection = connection = self._fresh()
            mine.pid = os.getpid()
        if connection.sock is not None:
            # A reply that was never read to its end blocks the connection; an idle one is readable only at its end.
            response = getattr(mine, "response", None)
            busy = response is not None and not response.isclosed()
            if busy and not getattr(mine, "streaming", False):
                connection.close()
            elif busy:
                mine.connection = connection = self._fresh()
            elif _readable(connection.sock):
                connection.close()
        return connection

    def close(self) -> None:
        """Close this thread's connection; the next request opens another."""
        if getattr(self._mine, "pid", None) == os.getpid():
            self._mine.connection.close()

    def request(self, method: str, target: str, headers: Optional[Mapping[str, str]] = None,
                pieces: Sequence[memoryview] = (), *, again: bool = True, streaming: bool = False) -> Reply:
        """Send a request; the reply's head. An error status is not raised here.

        It is sent a second time only where that is safe: on a connection that had been idle and turns out to be
        closed, without a byte of an answer, and after 429 or 503 with Retry-After, which say that nothing was done.
        `again=False`: only in the second case (for what must not be done twice)."""
        left = self.retries
        while True:
            connection = self._connection()
            idle = connection.sock is not None
            if idle and not again:
                connection.close()
                idle = False
            try:
                response = self._exchange(connection, method, self._prefix + target, dict(headers or {}), pieces)
            except GONE as e:
                connection.close()
                if idle:
                    continue  # the next connection is fresh, so this happens once
                raise ServerUnreachable("the server at %s closed the connection without an answer" % self.url) from e
            except (OSError, http.client.HTTPException) as e:
                connection.close()
                raise ServerUnreachable("no answer from %s: %s" % (self.url, e or type(e).__name__)) from e
            except BaseException:  # Ctrl-C: the server ends the work, and the next request begins on a fresh connection
                connection.close()
                raise
            self._mine.response, self._mine.streaming = response, streaming
            reply = Reply(response, connection)
            after = reply.headers.get("Retry-After", "")
            if reply.status in (429, 503) and after.isdigit() and left > 0:
                left -= 1
                reply.read()
                time.sleep(min(float(after), LONGEST_PAUSE))
                continue
            return reply

    def _exchange(self, connection: http.client.HTTPConnection, method: str, target: str, headers: Dict[str, str],
                  pieces: Sequence[memoryview]) -> http.client.HTTPResponse:
        size = sum(p.nbytes for p in pieces)
        compress = self.compress if size >= 1024 else None
        if self.key:
            headers.setdefault("Authorization", "Bearer " + self.key)
        headers.setdefault("User-Agent", "aiter_remote")
        headers.setdefault("Accept-Encoding", self.compress or "identity")
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if compress:
            connection.putheader("Content-Encoding", compress)
            connection.putheader("Transfer-Encoding", "chunked")
        elif pieces or method in ("POST", "PUT"):
            connection.putheader("Content-Length", str(size))
        try:
            connection.endheaders()
            if compress:
                for data in _compressed(pieces, compress):
                    connection.send(b"%x\r\n" % len(data) + data + b"\r\n")
                connection.send(b"0\r\n\r\n")
            else:
                for piece in pieces:
                    for at in range(0, piece.nbytes, LARGEST):
                        connection.send(piece[at:at + LARGEST])
        except (BrokenPipeError, ConnectionResetError):
            if connection.sock is None:
                raise
            # The server answers a request that it refuses before the body is there, and closes: its words are waiting.
        return connection.getresponse()


def _compressed(pieces: Sequence[memoryview], coding: str) -> Iterator[bytes]:
    """The pieces' compressed bytes, never empty, some at a time."""
    coder: Any = zlib.compressobj(1, zlib.DEFLATED, 31) if coding == "gzip" else zstandard.ZstdCompressor(3).compressobj()
    for piece in pieces:
        flat = piece.cast("B")
        for at in range(0, len(flat), CHUNK):
            data = coder.compress(flat[at:at + CHUNK])
            if data:
                yield data
    yield coder.flush()
