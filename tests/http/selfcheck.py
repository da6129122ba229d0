"""Checks of the test helpers themselves: against numpy's own npy code, naive formulas, and replies written by hand.
Run by aiterd_test.py; takes a folder of golden vectors (safetensors with expected.*) as an optional argument.
"""
import glob
import io
import json
import math
import os
import socket
import sys
import tempfile
import threading

import numpy as np

import aiterd_test as t


def refuses(kind, f, *args):
    try:
        f(*args)
    except kind:
        return
    raise AssertionError("%s%r was not refused" % (f.__name__, args))


def check_bf16():
    exact = np.arange(65536, dtype=np.uint16).view(t.BF16)
    values = t.to_float(exact)
    number = ~np.isnan(values)
    back = t.to_bf16(values)
    assert (back.view(np.uint16)[number] == exact.view(np.uint16)[number]).all(), "bf16 values must survive"
    assert np.isnan(t.to_float(back[~number])).all()
    # halfway between two neighbours goes to the even one; anything beyond halfway, however little, does not
    low, high = np.float64(1.0), np.float64(1.0078125)
    half = (low + high) / 2
    assert t.to_float(t.to_bf16(half)) == low
    assert t.to_float(t.to_bf16(half + 1e-15)) == high and t.to_float(t.to_bf16(half - 1e-15)) == low
    assert t.to_float(t.to_bf16(-(half + 1e-15))) == -high
    odd = np.float64(1.0078125) + 0.00390625
    assert t.to_float(t.to_bf16(odd)) == 1.015625
    assert t.to_float(t.to_bf16(3.4e38)) == math.inf and t.to_float(t.to_bf16(3.39e38)) < math.inf
    rng = np.random.default_rng(0)
    values = rng.standard_normal(5000) * np.exp2(rng.integers(-140, 127, 5000))
    got = t.to_float(t.to_bf16(values))
    grid = np.sort(t.to_float(exact[number]))
    grid = grid[np.isfinite(grid)]
    at = np.clip(np.searchsorted(grid, values), 1, len(grid) - 1)
    nearest = np.minimum(np.abs(grid[at] - values), np.abs(grid[at - 1] - values))
    assert (np.abs(got - values) == nearest).all(), "not the nearest"


def check_bodies():
    rng = np.random.default_rng(2)
    arrays = {"a": rng.standard_normal((2, 3)).astype(np.float32), "b": t.normal((5,), "bf16", 3),
              "c": np.array(7, np.int64), "d": np.zeros((0, 4), np.float16), "e": np.array([True, False])}
    tensors, metadata = t.safetensors_parse(t.safetensors(arrays, {"shuffle": "b"}, {"causal": True}, "rmsnorm"))
    assert metadata == {"shuffle": "b", "op": "rmsnorm", "params": '{"causal": true}'}
    assert all(tensors[n].tobytes() == a.tobytes() and tensors[n].shape == a.shape and tensors[n].dtype == a.dtype
               for n, a in arrays.items())
    whole = t.safetensors(arrays)
    for bad in (whole[:-1], whole + b"x", whole[:5], b"\xff" * 20):
        refuses(ValueError, t.safetensors_parse, bad)
    for a in (arrays["a"], arrays["d"], arrays["c"], np.asfortranarray(arrays["a"])):
        data = t.npy(a)
        assert (np.load(io.BytesIO(data)) == a).all() and np.load(io.BytesIO(data)).shape == a.shape
        buffer = io.BytesIO()
        np.save(buffer, a)
        assert (t.npy_parse(buffer.getvalue()) == a).all()
    f = t.npy(arrays["a"], fortran=True, version=(2, 0))
    assert (np.load(io.BytesIO(f)) == arrays["a"]).all() and (t.npy_parse(f) == arrays["a"]).all()
    assert t.npy_parse(t.npy(arrays["b"])).tobytes() == arrays["b"].tobytes() and b"'<V2'" in t.npy(arrays["b"])
    refuses(ValueError, t.npy_parse, t.npy(arrays["a"])[:-1])
    x = np.arange(6, dtype=np.int16).astype("<f2")
    assert t.shuffled(x).tobytes() == x.tobytes()[0::2] + x.tobytes()[1::2]
    body, kind = t.multipart({"q": arrays["a"], "causal": "true"}, "XX")
    assert kind.endswith("boundary=XX") and body.count(b"--XX\r\n") == 2 and body.endswith(b"\r\n--XX--\r\n")
    assert t.npy(arrays["a"]) in body and b'name="causal"\r\n\r\ntrue\r\n' in body
    special = np.array([[1.5, math.nan], [math.inf, -math.inf]], np.float32)
    assert t.json_values(special) == [[1.5, "NaN"], ["Infinity", "-Infinity"]]
    j = json.loads(t.native_json({"c": np.array([2**62 + 1])}, {"eps": 1}))
    assert j["inputs"]["c"]["data"] == [2**62 + 1] and j["params"] == {"eps": 1}
    for binary in (True, False):
        body, headers = t.oip({"x": arrays["a"], "b": arrays["b"]}, {"eps": 0.1}, binary, ["out"], True, "7")
        length = dict(headers).get("Inference-Header-Content-Length")
        request = json.loads(body[:int(length)] if binary else body)
        request["outputs"] = request.pop("inputs")
        text = json.dumps(request).encode()
        reply, got = t.oip_parse(text + (body[int(length):] if binary else b""), len(text))
        assert (t.to_float(got["b"]) == t.to_float(arrays["b"])).all() and (got["x"] == arrays["a"]).all()
        assert reply["id"] == "7" and reply["parameters"] == {"eps": 0.1, "binary_data_output": True}


def naive_attention(q, k, v, allowed, scale):
    """Element by element, with the definition only."""
    out, lse = np.zeros((q.shape[0], v.shape[1])), np.full(q.shape[0], -math.inf)
    for i in range(q.shape[0]):
        terms = [(math.exp(scale * math.fsum(q[i] * k[j])), v[j]) for j in range(k.shape[0]) if allowed(i, j)]
        total = math.fsum(w for w, _ in terms)
        if terms:
            out[i] = sum(w * row for w, row in terms) / total
            lse[i] = math.log(total)
    return out, lse


def check_references():
    rng = np.random.default_rng(4)
    for sq, sk, causal, left, right in [(5, 5, False, -1, -1), (5, 7, True, -1, -1), (7, 4, True, -1, -1),
                                        (1, 6, True, -1, -1), (6, 6, False, 2, 0), (6, 6, False, 1, 1),
                                        (6, 8, True, 2, -1), (5, 5, False, -1, 1), (4, 0, False, -1, -1),
                                        (5, 6, True, 3, 2)]:
        q, k = rng.standard_normal((2, sq, 4, 8)), rng.standard_normal((2, sk, 2, 8))
        v = rng.standard_normal((2, sk, 2, 5))
        out, lse = t.attention(q, k, v, causal, (left, right), 0.3)
        assert out.shape == (2, sq, 4, 5) and lse.shape == (2, 4, sq)

        def allowed(i, j):
            at = i + sk - sq
            return (not causal or j <= at) and (left < 0 or j >= at - left) and (right < 0 or j <= at + right)
        for b in range(2):
            for h in range(4):
                o, s = naive_attention(q[b, :, h], k[b, :, h // 2], v[b, :, h // 2], allowed, 0.3)
                assert np.allclose(out[b, :, h], o, atol=1e-12) and np.allclose(lse[b, h], s, atol=1e-12)
    q, k = rng.standard_normal((5, 2, 4)), rng.standard_normal((7, 1, 4))
    out, lse = t.attention_varlen(q, k, k, [0, 2, 2, 5], [0, 3, 6, 7], True)
    o, s = t.attention(q[None, 2:], k[None, 6:], k[None, 6:], True)
    assert np.allclose(out[2:], o[0]) and np.array_equal(lse[:, 2:], s[0]) and (lse[:, 2:4] == -math.inf).all()
    x = rng.standard_normal((3, 4))
    by_hand = [[x[i, j] / math.sqrt(sum(c * c for c in x[i]) / 4 + 0.5) * (j + 1) for j in range(4)] for i in range(3)]
    assert np.allclose(t.rmsnorm(x, np.arange(1, 5), 0.5), by_hand, atol=1e-14)
    t.assert_close(np.float32([1, math.inf]), [1.00001, math.inf], "fp32")
    refuses(AssertionError, t.assert_close, np.float32([1, 2]), [1, 2.001], "fp32")
    refuses(AssertionError, t.assert_close, np.float32([math.nan]), [1], "fp32")


def answering(reply, pieces=1):
    """A client connected to a socket that says `reply` and closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener, listener.accept()[0] as c:
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            step = max(1, math.ceil(len(reply) / pieces))
            for i in range(0, len(reply), step):
                c.sendall(reply[i:i + step])
            c.shutdown(socket.SHUT_WR)
            c.recv(65536)
    threading.Thread(target=serve, daemon=True).start()
    return t.Client(listener.getsockname(), 5)


def check_client():
    good = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: 1\r\nX-A: 2\r\n\r\nabc"
    for pieces in (1, len(good)):
        with answering(good + b"HTTP/1.1 204 No Content\r\n\r\n", pieces) as c:
            r = c.response()
            assert r.status == 200 and r.body == b"abc" and r.all("x-a") == ["1", "2"] and r.interim[0].status == 100
            refuses(t.Malformed, r.get, "X-A")
            assert c.response().status == 204 and c.closed()
    with answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n", 40) as c:
        r = c.response()
        assert r.body == b"abc0123456789" and r.trailers == [("T", "1")]
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") as c:
        assert c.response("HEAD").body == b"" and c.closed()
    with answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it") as c:
        assert c.response().body == b"all of it"
    for bad in (b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
                b"HTTP/1.1 200 OK\r\nA : 1\r\n\r\n", b"HTTP/1.1 200 OK\r\n A: 1\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", b"HTTP/1.1 200 OK\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", b"HTTP/1.1 99 OK\r\n\r\n",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"):
        with answering(bad) as c:
            refuses(t.Malformed, c.response)
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc") as c:
        refuses(t.Closed, c.response)
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 400 Bad\r\n") as c:
        assert c.response().status == 200
        refuses(t.Malformed, c.closed)
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, t.Client(listener.getsockname(), 5) as c, listener.accept()[0] as peer:
        assert c.quiet(0.05)
        refuses(t.Deadline, c.response, "GET", 0.05)
        c.send(b"a", b"b")
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert c.request("POST", "/x?y=1", b"body", {"A": "b"}, piece=1).status == 200
        peer.settimeout(5)
        sent = b""
        while not sent.endswith(b"body"):
            sent += peer.recv(1000)
        assert sent == (b"abPOST /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nA: b\r\nContent-Length: 4\r\n\r\nbody" %
                        listener.getsockname()[1])
    assert t.chunked(b"abcde", 4) == b"4\r\nabcd\r\n1\r\ne\r\n0\r\n\r\n"


STAND_IN = """#!/usr/bin/python3
import signal, socket, sys, time
s = socket.create_server(("127.0.0.1", 0))
print("warming up", file=sys.stderr, flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(%d))
print("listening on http://127.0.0.1:%%d" %% s.getsockname()[1], flush=True)
while True:
    c = s.accept()[0]
    c.recv(1000)
    c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    c.close()
"""


def check_server():
    with tempfile.TemporaryDirectory() as folder:
        programs = []
        for status in (0, 3):
            programs.append(os.path.join(folder, "stand-in-%d" % status))
            with open(programs[-1], "w") as f:
                f.write(STAND_IN % status)
            os.chmod(programs[-1], 0o755)
        with t.Server(program=programs[0]) as s:
            assert s.request("GET", "/").body == b"ok" and s.wait_for("warming").group() == "warming"
            assert s.stderr == "warming up" and s.workers() == []
        s = t.Server(program=programs[1])
        refuses(AssertionError, s.stop)
        s.lines.append(("err", "==1==ERROR: AddressSanitizer: heap-use-after-free"))
        refuses(AssertionError, s.check_sanitizers)
        refuses(AssertionError, lambda: t.Server(program="/bin/false"))
    assert t.Server._address("http://[::1]:80") == ("::1", 80) and t.Server._address("unix:/a/b") == "/a/b"


def check_vectors(folder):
    """The references against golden float64 answers made elsewhere."""
    checked = 0
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        with open(path, "rb") as f:
            tensors, metadata = t.safetensors_parse(f.read())
        op, params = metadata.get("op"), json.loads(metadata.get("params", "{}"))
        x = {n: t.to_float(a) for n, a in tensors.items()}
        if op == "rmsnorm":
            got = {"out": t.rmsnorm(x["x"], x["weight"], params.get("eps", 1e-6))}
        elif op in ("flash_attn_func", "flash_attn_varlen_func"):
            how = (params.get("causal", False), params.get("window_size", (-1, -1)), params.get("softmax_scale"))
            if op == "flash_attn_func":
                out, lse = t.attention(x["q"], x["k"], x["v"], *how)
            else:
                out, lse = t.attention_varlen(x["q"], x["k"], x["v"], tensors["cu_seqlens_q"],
                                              tensors["cu_seqlens_k"], *how)
            got = {"out": out, "softmax_lse": lse}
        else:
            continue
        for name, want in x.items():
            if name.startswith("expected."):
                assert np.allclose(got[name[9:]], want, rtol=1e-9, atol=1e-9), (path, name)
                checked += 1
    assert checked > 0, "no vectors in %s" % folder
    print("%d golden outputs agree" % checked)


def main():
    for check in (check_bf16, check_bodies, check_references, check_client, check_server):
        check()
        print("%s: ok" % check.__name__)
    data = sys.argv[1] if len(sys.argv) > 1 else os.path.join(t.HERE, "..", "data")
    if glob.glob(os.path.join(data, "*.safetensors")):
        check_vectors(data)


if __name__ == "__main__":
    main()
