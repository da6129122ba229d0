#!/usr/bin/python3
"""What black-box tests of aiterd need: a Server that runs the built program, and the client, bodies and references of
this folder under one name. `import aiterd_test as t`. Run by itself it checks those helpers, without a server.
"""
import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bodies import (BF16, DTYPES, cast, json_values, multipart, name_of, native_json, normal, npy,  # noqa: E402
                    npy_parse, oip, oip_parse, safetensors, safetensors_parse, shuffled, to_bf16, to_float)
from client import Client, Closed, Deadline, Malformed, Response, chunked  # noqa: E402
from reference import attention, attention_varlen, rmsnorm, visible  # noqa: E402

__all__ = ["BF16", "DTYPES", "Client", "Closed", "Deadline", "Malformed", "Response", "Server", "TOLERANCE",
           "assert_close", "attention", "attention_varlen", "cast", "chunked", "json_values", "multipart", "name_of",
           "native_json", "normal", "npy", "npy_parse", "oip", "oip_parse", "rmsnorm", "safetensors",
           "safetensors_parse", "shuffled", "to_bf16", "to_float", "visible"]

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("AITERD_BUILDDIR", os.path.join(HERE, "..", "..", "build"))
TOLERANCE = {"fp64": 1e-4, "fp32": 1e-4, "fp16": 2e-3, "bf16": 1.6e-2}
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")


class Server:
    """aiterd on a free port. `with Server("--queue", "1") as s:`; leaving checks that SIGTERM ends it with status 0
    and that no sanitizer complained. Options are those of the command line; --listen may be among them."""

    def __init__(self, *options, env=None, program=None, start_timeout=60.0, stop_timeout=60.0):
        self.stop_timeout = stop_timeout
        self.lines, self._lock = [], threading.Lock()
        argv = [program or os.path.join(BUILD, "aiterd")]
        if not any(o == "--listen" or o.startswith("--listen=") for o in options):
            argv += ["--listen", "127.0.0.1:0"]
        argv += list(options)
        # what the caller's shell says about aiterd must not decide what is tested
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AITERD_") and k != "AITER_ASM_DIR"}
        environment["AITERD_AITER_DIR"] = "none"
        environment.update(env or {})
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env=environment, text=True, errors="replace")
        self.pid = self.process.pid
        self._readers = [threading.Thread(target=self._read, args=(f, k), daemon=True)
                         for f, k in ((self.process.stdout, "out"), (self.process.stderr, "err"))]
        for r in self._readers:
            r.start()
        try:
            self.url = self.wait_for(r"listening on (\S+)", start_timeout).group(1)
        except Exception:
            self.kill()
            raise
        self.address = self._address(self.url)

    @staticmethod
    def _address(url):
        if url.startswith("unix:"):
            return url[5:]
        m = re.fullmatch(r"http://(?:\[([^]]+)\]|([^:/]+)):(\d+)/?", url)
        if not m:
            raise AssertionError("it listens on %r" % url)
        return (m.group(1) or m.group(2), int(m.group(3)))

    def _read(self, f, kind):
        for line in f:
            with self._lock:
                self.lines.append((kind, line.rstrip("\n")))
        f.close()

    def text(self, kind=None):
        """What it printed so far: "out", "err" or both."""
        with self._lock:
            return "\n".join(line for k, line in self.lines if kind in (None, k))

    @property
    def stderr(self):
        return self.text("err")

    def wait_for(self, pattern, timeout=10.0):
        """Wait until a line it prints matches."""
        deadline = time.monotonic() + timeout
        while True:
            over = self.process.poll() is not None
            m = re.search(pattern, self.text())
            if m:
                return m
            if over:
                for r in self._readers:
                    r.join(5)
                m = re.search(pattern, self.text())
                if m:
                    return m
                raise AssertionError("aiterd left with status %d before printing %r:\n%s" %
                                     (self.process.returncode, pattern, self.text()))
            if time.monotonic() > deadline:
                raise AssertionError("aiterd did not print %r in %.0f s:\n%s" % (pattern, timeout, self.text()))
            time.sleep(0.01)

    def client(self, timeout=10.0):
        return Client(self.address, timeout)

    def request(self, method, target, body=None, headers=(), **how):
        """One request on a connection of its own."""
        with self.client(how.pop("timeout", 60.0)) as c:
            return c.request(method, target, body, headers, **how)

    def workers(self):
        """Process ids of its children."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open("/proc/%s/stat" % entry) as f:
                        if int(f.read().rsplit(")", 1)[1].split()[1]) == self.pid:
                            found.append(int(entry))
                except (OSError, ValueError):
                    continue
        return found

    def stop(self):
        """SIGTERM; returns once it has left with status 0, and with nothing a sanitizer objects to."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(self.stop_timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("aiterd did not leave within %.0f s of SIGTERM:\n%s" %
                                 (self.stop_timeout, self.text())) from None
        for r in self._readers:
            r.join(10)
        if status != 0:
            raise AssertionError("aiterd left with status %d:\n%s" % (status, self.text()))
        self.check_sanitizers()

    def check_sanitizers(self):
        if SANITIZER.search(self.text()):
            raise AssertionError("a sanitizer complained:\n%s" % self.text())

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for r in self._readers:
            r.join(10)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
            return
        # The test failed already: what the server said helps more than a second failure.
        self.kill()
        print("aiterd printed:\n" + self.text(), file=sys.stderr)


def assert_close(got, want, dtype, what="out"):
    """Every element within the tolerance of its dtype of a float64 reference; NaN and infinities in the same places."""
    import numpy as np
    got, want = to_float(got), np.asarray(want, np.float64)
    if got.shape != want.shape:
        raise AssertionError("%s: shape %s, wanted %s" % (what, got.shape, want.shape))
    tol = TOLERANCE[dtype]
    ok = np.isclose(got, want, rtol=tol, atol=tol, equal_nan=True)
    if not ok.all():
        worst = np.unravel_index(np.argmax(np.where(ok, 0, np.nan_to_num(np.abs(got - want), nan=np.inf))), got.shape)
        raise AssertionError("%s: %d of %d elements off; at %s found %r, wanted %r (%s, tolerance %g)" % (
            what, (~ok).sum(), ok.size, tuple(map(int, worst)), got[worst], want[worst], dtype, tol))


if __name__ == "__main__":
    import selfcheck
    selfcheck.main()
