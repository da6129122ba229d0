"""Client: one server, all it offers. The module's functions (ops.py) use a Client made from the environment."""
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
import urllib.parse
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from .arrays import NUMPY, Kind, Operand, dtype_name, is_array, kind_of, operand
from .errors import AiterdError
from .sources import Kept, Source
from .transport import Reply, Transport
from .wire import Make, plain, read_safetensors, safetensors

__all__ = ["Client", "Job", "Outputs", "Verdict", "last_stats", "options"]

SAFETENSORS = "application/x-safetensors"
SMALL = 1 << 16  # bytes that are sent sooner than asked after
DEFAULT_URL = "http://127.0.0.1:8000"

_thread = threading.local()


def last_stats() -> Dict[str, Any]:
    """The statistics of this thread's last run or check: kernel_ms, timing_ms, memory, impl ... as the server told
    them, and `client`: round_trip_ms, sent_bytes, received_bytes as measured here. Empty before the first."""
    return dict(getattr(_thread, "stats", {}))


@contextlib.contextmanager
def options(**more: Any) -> Iterator[None]:
    """Run options for the calls of this thread within a `with`: iters, warmup, baseline="naive", impl, device, flush,
    timeout_ms, outputs="none" (nothing comes back), keep={"out": "h1"} (the server keeps the output under that name).

        with aiter_remote.options(warmup=2, iters=10, baseline="naive"):
            aiter_remote.flash_attn_func(q, k, v)
        print(aiter_remote.last_stats()["baseline"]["speedup"])
    """
    before = current_options()
    _thread.options = {**before, **more}
    try:
        yield
    finally:
        _thread.options = before


def current_options() -> Dict[str, Any]:
    found: Dict[str, Any] = getattr(_thread, "options", {})
    return found


class Outputs(Dict[str, Any]):
    """A run's outputs by name; `.stats`, and `.metadata`: what else the reply says."""

    stats: Dict[str, Any]
    metadata: Dict[str, Any]


class Verdict(Dict[str, Any]):
    """check's answer. True if it passed; str() is its summary; the whole JSON is the dict's."""

    @property
    def passed(self) -> bool:
        return bool(self["pass"])

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return str(self.get("summary", "pass" if self.passed else "fail"))


class Job:
    """A request the server works on while nobody waits. `result()` waits for what the call would have returned."""

    def __init__(self, client: "Client", path: str, parse: Callable[[Reply], Any], state: Dict[str, Any]) -> None:
        self._client, self._parse, self.path = client, parse, path
        self.id = str(state.get("id") or path.rsplit("/", 1)[-1])

    def __repr__(self) -> str:
        return "Job(%s at %s)" % (self.id, self._client.url)

    def state(self) -> Dict[str, Any]:
        """{"state": "queued|running|done|failed|cancelled", "progress": ...}."""
        found: Dict[str, Any] = self._client.get_json(self.path)
        return found

    def result(self, timeout: Optional[float] = None, poll: float = 0.1) -> Any:
        """Wait until it is done. Raises TimeoutError after `timeout` seconds, AiterdError if the job failed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            state = self.state()
            if state["state"] not in ("queued", "running"):
                return self._parse(self._client.transport.request("GET", self.path + "/result", {"Accept": "*/*"}))
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError("job %s is still %s after %s s" % (self.id, state["state"], timeout))
            time.sleep(poll)

    def cancel(self) -> None:
        """Stop it, and forget it."""
        reply = self._client.transport.request("DELETE", self.path)
        if reply.status >= 400 and reply.status not in (404, 410):
            raise reply.error()
        reply.read()


class Client:
    """A server. `url`: http://HOST:PORT, https://HOST, HOST:PORT or unix:PATH (else AITERD_URL, else http://127.0.0.1:8000).
    `key` (else AITERD_KEY) is sent as Authorization: Bearer. `timeout`: seconds without progress on the connection.
    `compress`: "gzip" or "zstd" both ways, for slow networks. `retries`: how often a busy server (429, 503 with
    Retry-After) is asked again. Other keywords are options of every run: device=, impl= ...

    May be shared by threads; each has its own connection, kept open between calls."""

    def __init__(self, url: Optional[str] = None, key: Optional[str] = None, *, timeout: Optional[float] = 600.0,
                 compress: Optional[str] = None, retries: int = 3, **run_options: Any) -> None:
        self.url = url or os.environ.get("AITERD_URL") or DEFAULT_URL
        key = key if key is not None else os.environ.get("AITERD_KEY")
        self.transport = Transport(self.url, key or None, timeout, compress, retries)
        self.run_options = run_options

    def close(self) -> None:
        """Close this thread's connection; a later call opens another."""
        self.transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return "Client(%r)" % self.url

    # What the server tells about itself

    def get_json(self, path: str) -> Any:
        reply = self.transport.request("GET", path, {"Accept": "application/json"})
        if reply.status != 200:
            raise reply.error()
        return reply.json()

    def info(self) -> Dict[str, Any]:
        """Versions and devices."""
        found: Dict[str, Any] = self.get_json("/v1/info")
        return found

    def limits(self) -> Dict[str, Any]:
        """Every limit in force."""
        found: Dict[str, Any] = self.get_json("/v1/limits")
        return found

    def ops(self) -> List[Dict[str, Any]]:
        """The operators: name, summary, implementations."""
        found: List[Dict[str, Any]] = self.get_json("/v1/ops")["ops"]
        return found

    def op(self, name: str) -> Dict[str, Any]:
        """One operator's inputs, outputs, parameters, tolerances."""
        found: Dict[str, Any] = self.get_json("/v1/ops/" + urllib.parse.quote(name, safe=""))
        return found

    # Running

    def run(self, op: str, inputs: Mapping[str, Any], params: Optional[Mapping[str, Any]] = None, *, like: Any = None,
            **more: Any) -> Outputs:
        """Run an operator. `inputs`: arrays, generated(...) or kept(...) by name; `more`: run options. Outputs are of
        the kind of `like`, or of the first array among the inputs, or numpy's."""
        path, headers, pieces, kind = self._request(op, "", inputs, params, more)
        kind = kind_of(like) or kind
        started = time.perf_counter()
        reply = self.transport.request("POST", path, headers, pieces)
        return self._outputs(reply, kind, started, pieces)

    def check(self, op: str, inputs: Mapping[str, Any], expected: Mapping[str, Any],
              params: Optional[Mapping[str, Any]] = None, *, save: Optional[str] = None, **more: Any) -> Verdict:
        """Have `expected` (your outputs by name: {"out": mine}) judged against the float64 reference and the kernel.
        `more`: rtol, atol, runs (determinism), and run options. `save`: write the case (inputs, candidate, verdict) to
        this file, which replay() and anyone with curl can have judged again."""
        named = dict(inputs)
        named.update(("expected." + name, x) for name, x in expected.items())
        path, headers, pieces, _ = self._request(op, "/check", named, params, more)
        headers["Accept"] = SAFETENSORS if save else "application/json"
        started = time.perf_counter()
        return self._verdict(self.transport.request("POST", path, headers, pieces), started, pieces, save)

    def replay(self, path: str) -> Verdict:
        """Have a saved case judged again."""
        with open(path, "rb") as f:
            data = f.read()
        try:
            head = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
            op = head["__metadata__"]["op"]
        except (ValueError, KeyError, TypeError):
            raise AiterdError("%s is no saved case: there is no operator's name in its head" % path) from None
        pieces = [memoryview(data)]
        started = time.perf_counter()
        reply = self.transport.request("POST", "/v1/ops/%s/check" % urllib.parse.quote(op, safe=""),
                                       {"Content-Type": SAFETENSORS, "Accept": "application/json"}, pieces)
        return self._verdict(reply, started, pieces, None)

    def bench(self, op: str, inputs: Optional[Mapping[str, Any]] = None, params: Optional[Mapping[str, Any]] = None,
              *, progress: Optional[Callable[[Dict[str, Any]], None]] = None, **more: Any) -> Iterator[Dict[str, Any]]:
        """Time an operator; a dict per case as each finishes. Without inputs they are generated from dimensions. Any
        parameter, dimension, impl, dtype or device may be a list, which makes a sweep:

            for case in client.bench("flash_attn_func", batch=[1, 4, 16], seqlen=512, heads=8, head_dim=64, dtype="fp16"):
                print(case["case"], case["kernel_ms"]["median"])

        A case that failed has `error` (a problem object) in place of times; it does not end the sweep. `progress` is
        called about once a second. Leaving the loop early ends the work on the server."""
        if progress is not None:
            more["progress"] = True
        path, headers, pieces, _ = self._request(op, "/bench", inputs or {}, params, more, lists=True)
        headers["Accept"] = "application/x-ndjson"
        reply = self.transport.request("POST", path, headers, pieces, again=False, streaming=True)
        if reply.status != 200:
            raise reply.error()
        return self._cases(reply, progress)

    @staticmethod
    def _cases(reply: Reply, progress: Optional[Callable[[Dict[str, Any]], None]]) -> Iterator[Dict[str, Any]]:
        done = False
        for line in reply.lines():
            if not line:
                continue
            said = json.loads(line)
            if "done" in said:
                done = True
            elif "progress" in said:
                if progress is not None:
                    progress(said["progress"])
            else:
                yield said
        if not done:
            raise AiterdError("the server's answer ended before the last case")

    def submit(self, op: str, inputs: Mapping[str, Any], params: Optional[Mapping[str, Any]] = None, **more: Any) -> Job:
        """Like run(), but the server answers at once and works on; the Job's result() is what run() returns."""
        path, headers, pieces, kind = self._request(op, "", inputs, params, more)
        headers["Prefer"] = "respond-async"
        started = time.perf_counter()
        # Not sent again by itself: it could then run twice.
        reply = self.transport.request("POST", path, headers, pieces, again=False)
        if reply.status != 202:
            raise reply.error() if reply.status >= 400 else AiterdError(
                "the server answered at once (HTTP status %d): it has no jobs" % reply.status)
        location = urllib.parse.urlsplit(reply.headers.get("Location", "")).path
        return Job(self, location, lambda r: self._outputs(r, kind, started, pieces), reply.json() or {})

    def jobs(self) -> List[Dict[str, Any]]:
        """The jobs the server knows."""
        found: List[Dict[str, Any]] = self.get_json("/v1/jobs")["jobs"]
        return found

    # Kept tensors

    def put(self, name: str, x: Any, ttl: Optional[float] = None, *, replace: bool = True,
            known_absent: bool = False) -> Kept:
        """Keep an array (or a generated(...), or another kept(...)) on the server under a name, until it was not used
        for `ttl` seconds (default: the server's --tensors-ttl). What the server has already, under whatever name, is not
        uploaded (nor looked for with `known_absent`). `replace=False`: only if the name is free."""
        path = "/v1/tensors/" + urllib.parse.quote(name, safe="")
        query = "" if ttl is None else "?ttl=%s" % plain(ttl)
        pieces: Sequence[memoryview]
        headers, pieces, t = {"Content-Type": "application/json"}, [], None
        if isinstance(x, Source):
            spec: Dict[str, Any] = x.spec
        else:
            t = operand(x, name)
            spec = {"tensor": content_id(t)} if not known_absent and t.data.nbytes >= SMALL else {}
            if spec and self.head(spec["tensor"]) is None:
                spec = {}
        if spec:
            pieces = [memoryview(json.dumps(spec).encode())]
        elif t is not None:
            headers, pieces = {"Content-Type": SAFETENSORS}, safetensors({name: t}, {})
        if not replace:
            headers["If-None-Match"] = "*"
        reply = self.transport.request("PUT", path + query, headers, pieces)
        if reply.status not in (200, 201):
            raise reply.error()
        return Kept(name, reply.json())

    def head(self, name: str) -> Optional[Dict[str, Any]]:
        """What the server says of a kept tensor, by name or id: dtype, shape, bytes, id ...; None if there is none."""
        reply = self.transport.request("HEAD", "/v1/tensors/" + urllib.parse.quote(name, safe=":"))
        reply.read()
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise AiterdError("HTTP status %d" % reply.status, status=reply.status)
        about: Dict[str, Any] = json.loads(reply.headers.get("Aiterd-Tensor") or "{}")
        return about

    def get(self, name: str, like: Any = None) -> Any:
        """A kept tensor's data, as an array of the kind of `like` (default: numpy)."""
        kind = kind_of(like) or NUMPY
        return self._get(name, lambda _, dtype, shape: kind.make(dtype, shape))

    def get_into(self, name: str, memory: memoryview) -> None:
        """A kept tensor's data into memory that has just its size."""
        self._get(name, lambda name, dtype, shape: (None, memory))

    def _get(self, name: str, make: Make) -> Any:
        reply = self.transport.request("GET", "/v1/tensors/%s" % urllib.parse.quote(name, safe=":"),
                                       {"Accept": SAFETENSORS})
        if reply.status != 200:
            raise reply.error()
        arrays, _ = read_safetensors(reply.readinto, make)
        reply.finish()
        return next(iter(arrays.values()))

    def delete(self, name: str) -> bool:
        """Forget a kept tensor; False if there was none."""
        reply = self.transport.request("DELETE", "/v1/tensors/" + urllib.parse.quote(name, safe=":"))
        if reply.status >= 400 and reply.status != 404:
            raise reply.error()
        reply.read()
        return reply.status != 404

    def tensors(self) -> Dict[str, Any]:
        """{"tensors": [...], "bytes", "quota_bytes", "count"}."""
        found: Dict[str, Any] = self.get_json("/v1/tensors")
        return found

    # Requests and replies

    def _request(self, op: str, action: str, inputs: Mapping[str, Any], params: Optional[Mapping[str, Any]],
                 more: Mapping[str, Any], lists: bool = False) -> Tuple[str, Dict[str, str], Sequence[memoryview], Kind]:
        """(path, headers, body pieces, kind of outputs). One namespace holds parameters and run options."""
        params = {name: value for name, value in (params or {}).items() if value is not None}
        merged: Dict[str, Any] = {**self.run_options, **(current_options() if not action else {}), **more}
        merged = {name: value for name, value in merged.items() if value is not None}
        for output, name in dict(merged.pop("keep", {})).items():
            merged["keep." + output] = name
        if "dtype" in merged:
            merged["dtype"] = _dtypes(merged["dtype"])
        for name, value in merged.items():
            if params.setdefault(name, value) is not value:
                raise AiterdError("%s is given both as a parameter and as an option" % name)
        tensors: Dict[str, Operand] = {}
        sources: Dict[str, Any] = {}
        kind: Optional[Kind] = None
        for name, x in inputs.items():
            if x is None:
                continue
            if isinstance(x, Source):
                sources[name] = x.spec
                continue
            if not is_array(x) and isinstance(x, (list, tuple)):
                raise AiterdError("%s is a %s: wanted an array" % (name, type(x).__name__))
            tensors[name] = operand(x, name)
            found = kind_of(x)
            if kind is None or (found is not None and not kind.torch and tensors[name].dtype == "bf16"):
                kind = found
        path = "/v1/ops/%s%s" % (urllib.parse.quote(op, safe=""), action)
        # without data there is nothing for safetensors to hold; JSON says shapes and digests
        headers = {"Accept": "application/json" if merged.get("outputs") in ("none", "digest") else SAFETENSORS}
        wanted = plain(params)
        if not tensors:
            headers["Content-Type"] = "application/json"
            text = json.dumps({"inputs": sources, "params": wanted})
            return path, headers, [memoryview(text.encode())], kind or NUMPY
        if sources:
            wanted["inputs"] = json.dumps(sources)
        headers["Content-Type"] = SAFETENSORS
        metadata = {"params": json.dumps(wanted)} if wanted else {}
        return path, headers, safetensors(tensors, metadata), kind or NUMPY

    def _outputs(self, reply: Reply, kind: Kind, started: float, pieces: Sequence[memoryview]) -> Outputs:
        if reply.status != 200:
            raise reply.error()
        outputs = Outputs()
        outputs.metadata = {}
        if reply.content_type == "application/json":
            outputs.metadata = reply.json()
            stats = outputs.metadata.get("stats", {})
        else:
            arrays, metadata = read_safetensors(reply.readinto, lambda _, dtype, shape: kind.make(dtype, shape))
            reply.finish()
            outputs.update(arrays)
            outputs.metadata = dict(metadata)
            stats = json.loads(metadata.get("stats", "{}"))
        outputs.stats = self._remember(reply, stats, started, pieces)
        return outputs

    def _verdict(self, reply: Reply, started: float, pieces: Sequence[memoryview], save: Optional[str]) -> Verdict:
        if reply.status != 200:
            raise reply.error()
        if save is None:
            verdict = Verdict(reply.json())
        else:
            data = reply.read()
            head = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
            verdict = Verdict(json.loads(head["__metadata__"]["verdict"]))
            with open(save, "wb") as f:
                f.write(data)
        self._remember(reply, verdict.get("stats", {}), started, pieces)
        return verdict

    @staticmethod
    def _remember(reply: Reply, stats: Dict[str, Any], started: float, pieces: Sequence[memoryview]) -> Dict[str, Any]:
        text = reply.headers.get("Aiterd-Stats")  # has what the body cannot: encode and total
        found: Dict[str, Any] = dict(json.loads(text)) if text else dict(stats)
        found["client"] = {"round_trip_ms": (time.perf_counter() - started) * 1e3,
                           "sent_bytes": sum(p.nbytes for p in pieces), "received_bytes": reply.received}
        _thread.stats = found
        return found


def _dtypes(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_dtypes(v) for v in value]
    return ",".join(dtype_name(v) for v in value.split(",")) if isinstance(value, str) else dtype_name(value)


def content_id(t: Operand) -> str:
    """The id the server gives a tensor: SHA-256 of its dtype, shape and bytes."""
    digest = hashlib.sha256(("%s [%s]\n" % (t.dtype, ",".join(map(str, t.shape)))).encode())
    digest.update(t.data)
    return "sha256:" + digest.hexdigest()
