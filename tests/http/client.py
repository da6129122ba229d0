"""A small HTTP/1.1 test client on a bare socket: sends exactly the bytes it is given, in the pieces it is given, and
reads replies strictly. Anything a careful client might stumble over raises Malformed. Everything has a deadline.
"""
import re
import socket
import time

TOKEN = re.compile(rb"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
STATUS = re.compile(rb"^HTTP/1\.1 ([1-5][0-9][0-9]) ([\t \x21-\x7e\x80-\xff]*)$")
VALUE = re.compile(rb"^[\t \x21-\x7e\x80-\xff]*$")


class Malformed(Exception):
    """The server sent something that is not HTTP/1.1."""


class Closed(Exception):
    """The server closed the connection where a reply was due."""


class Deadline(Exception):
    """Not there in time."""


class Response:
    def __init__(self, status, reason, headers, head):
        self.status, self.reason, self.headers, self.head = status, reason, headers, head
        self.body = b""
        self.trailers, self.interim = [], []
        self.chunked = False

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def get(self, name, default=None):
        """The one value of a header; twice the same name is an error of the server's."""
        found = self.all(name)
        if len(found) > 1:
            raise Malformed("%s stands in the reply %d times: %r" % (name, len(found), found))
        return found[0] if found else default

    def __repr__(self):
        return "<%d %s, %d bytes: %r>" % (self.status, self.reason, len(self.body), self.body[:300])


class Client:
    """address: (host, port), or the path of a Unix socket. timeout: seconds for each step."""

    def __init__(self, address, timeout=10.0):
        self.timeout = timeout
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(address)
            self.host = "localhost"
        else:
            self.sock = socket.create_connection(address, timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.host = ("[%s]:%d" if ":" in address[0] else "%s:%d") % address[:2]
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, *pieces, pause=0.0):
        """Each piece is a write of its own, with a pause between them."""
        self.sock.settimeout(self.timeout)
        for i, piece in enumerate(pieces):
            if i and pause:
                time.sleep(pause)
            self.sock.sendall(piece)

    def head(self, method, target, headers=(), length=None):
        """The bytes of a request head; Host and Content-Length are added unless given (or length is None)."""
        headers = list(headers.items() if isinstance(headers, dict) else headers)
        names = {n.lower() for n, _ in headers}
        if "host" not in names:
            headers.insert(0, ("Host", self.host))
        if length is not None and not names & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(length)))
        lines = ["%s %s HTTP/1.1" % (method, target)] + ["%s: %s" % h for h in headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin1")

    def request(self, method, target, body=None, headers=(), piece=None, pause=0.0, timeout=None):
        """Send a request, the body in pieces of that many bytes if asked, and read its reply. A server that answers
        before the body is sent, and then closes, gets heard."""
        if body is None and method in ("POST", "PUT", "PATCH"):
            body = b""
        head = self.head(method, target, headers, None if body is None else len(body))
        body = body or b""
        pieces = [body[i:i + piece] for i in range(0, len(body), piece)] if piece else [body]
        try:
            self.send(head, *pieces, pause=pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reply, read below, says why
        return self.response(method, timeout)

    def response(self, method="GET", timeout=None):
        """Read one final reply; 1xx ones before it are kept in .interim."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        interim = []
        while True:
            r = self._head(deadline)
            if r.status >= 200 or r.status == 101:
                break
            if r.all("content-length") or r.all("transfer-encoding"):
                raise Malformed("a %d reply announces a body" % r.status)
            interim.append(r)
        r.interim = interim
        self._body(r, method, deadline)
        return r

    def interim(self, timeout=None):
        """Read one reply head that must be a 1xx one."""
        r = self._head(time.monotonic() + (self.timeout if timeout is None else timeout))
        if r.status >= 200:
            raise Malformed("wanted an interim reply, found %d" % r.status)
        return r

    def quiet(self, seconds):
        """True when nothing, not even the end, comes for so long."""
        if self.pending:
            return False
        try:
            self._more(time.monotonic() + seconds)
        except Deadline:
            return True
        except Closed:
            return False
        return False

    def closed(self, timeout=None):
        """True when the server closes now, without another byte; bytes raise Malformed."""
        try:
            self._more(time.monotonic() + (self.timeout if timeout is None else timeout))
        except Closed:
            if self.pending:
                raise Malformed("left over before the end: %r" % self.pending[:200])
            return True
        except Deadline:
            if not self.pending:
                return False
        raise Malformed("bytes after the reply: %r" % self.pending[:200])

    # Reading

    def _more(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise Deadline("nothing more in time; so far %r" % self.pending[:200])
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(1 << 18)
        except (socket.timeout, BlockingIOError):
            raise Deadline("nothing more in time; so far %r" % self.pending[:200]) from None
        except ConnectionResetError:
            raise Closed("reset; so far %r" % self.pending[:200]) from None
        if not data:
            raise Closed("closed; so far %r" % self.pending[:200])
        self.pending += data

    def _line(self, deadline, what):
        while b"\r\n" not in self.pending:
            if b"\n" in self.pending:
                raise Malformed("%s ends in a bare LF: %r" % (what, self.pending[:200]))
            if len(self.pending) > 65536:
                raise Malformed("%s without end: %r" % (what, self.pending[:200]))
            self._more(deadline)
        line, self.pending = self.pending.split(b"\r\n", 1)
        if b"\n" in line or b"\r" in line:
            raise Malformed("%s holds a bare CR or LF: %r" % (what, line))
        return line

    def _fields(self, deadline):
        fields = []
        while True:
            line = self._line(deadline, "a header field")
            if not line:
                return fields
            name, colon, value = line.partition(b":")
            if not colon or not TOKEN.match(name) or not VALUE.match(value):
                raise Malformed("header field %r" % line)
            fields.append((name.decode(), value.strip(b" \t").decode("latin1")))

    def _head(self, deadline):
        line = self._line(deadline, "the status line")
        m = STATUS.match(line)
        if not m:
            raise Malformed("status line %r" % line)
        fields = self._fields(deadline)
        return Response(int(m.group(1)), m.group(2).decode("latin1"), fields, line)

    def _exactly(self, n, deadline):
        parts, have = [], 0
        while have + len(self.pending) < n:
            parts.append(self.pending)
            have += len(self.pending)
            self.pending = b""
            self._more(deadline)
        parts.append(self.pending[:n - have])
        self.pending = self.pending[n - have:]
        return b"".join(parts)

    def _body(self, r, method, deadline):
        coding, length = r.all("transfer-encoding"), r.all("content-length")
        if coding and length:
            raise Malformed("both Transfer-Encoding and Content-Length")
        if len(length) > 1 or (length and not re.fullmatch(r"[0-9]+", length[0])):
            raise Malformed("Content-Length: %r" % length)
        if method == "HEAD" or r.status in (204, 304) or r.status < 200:
            if r.status == 204 and (coding or length):
                raise Malformed("a 204 reply announces a body")
            return
        if coding:
            if [c.lower() for c in coding] != ["chunked"]:
                raise Malformed("Transfer-Encoding: %r" % coding)
            r.chunked = True
            self._chunks(r, deadline)
        elif length:
            r.body = self._exactly(int(length[0]), deadline)
        elif (r.get("connection") or "").lower() == "close":
            try:
                while True:
                    self._more(deadline)
            except Closed:
                r.body, self.pending = self.pending, b""
        else:
            raise Malformed("a reply without length: %r %r" % (r.head, r.headers))

    def _chunks(self, r, deadline):
        parts = []
        while True:
            line = self._line(deadline, "a chunk size")
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
                raise Malformed("chunk size %r" % line)
            n = int(line, 16)
            if n == 0:
                break
            parts.append(self._exactly(n, deadline))
            if self._exactly(2, deadline) != b"\r\n":
                raise Malformed("a chunk of %d bytes does not end there" % n)
        r.body = b"".join(parts)
        r.trailers = self._fields(deadline)


def chunked(body, size=1000):
    """body in the chunked coding."""
    pieces = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
