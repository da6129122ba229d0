#!/usr/bin/python3
"""aiterctl against the real server, as a person or a script runs it: what it prints and writes, its exit statuses, odd file
names, pipes, refusals, servers that are not there, busy, or no servers at all. Results are checked against float64.
"""
import contextlib
import hashlib
import json
import os
import pty
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import numpy as np

import aiterd_test as t
import calls

CTL = os.path.join(t.BUILD, "aiterctl")
SRC = os.environ.get("AITERD_SRCDIR", os.path.join(t.HERE, "..", ".."))
OK, FAILED, USAGE, REFUSED, UNREACHABLE, SERVER, LOCAL = range(7)

server = folder = None


def setUpModule():
    global server, folder
    if not os.access(CTL, os.X_OK):
        raise unittest.SkipTest("there is no aiterctl in this build (libcurl was missing, or --disable-client)")
    folder = tempfile.mkdtemp(prefix="aiterctl-test-")
    server = t.Server("--loops", "2", "--threads", "2", "--prefault", "1M",
                      "--listen", "127.0.0.1:0,unix:" + os.path.join(folder, "a socket"))


def tearDownModule():
    if server:
        server.stop()
    if folder:
        shutil.rmtree(folder)


class Result:
    def __init__(self, status, out, err):
        self.status, self.bytes, self.err = status, out, err

    @property
    def out(self):
        return self.bytes.decode()

    @property
    def json(self):
        return json.loads(self.bytes)

    def __repr__(self):
        return "<status %d, %r, %r>" % (self.status, self.bytes[-2000:], self.err[-2000:])


def environment(url, more=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AITERD_") and not k.lower().endswith("_proxy")}
    env.update(AITERD_URL=url, LC_ALL="C.UTF-8", **(more or {}))
    return env


class Test(unittest.TestCase):
    def ctl(self, *args, url=None, stdin=None, status=OK, env=None, timeout=120):
        r = subprocess.run([CTL, *args], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder,
                           env=environment(url or server.url, env), timeout=timeout)
        r = Result(r.returncode, r.stdout, r.stderr.decode())
        self.assertIsNone(t.SANITIZER.search(r.err), r.err)
        self.assertEqual(r.status, status, r)
        self.assertTrue(r.err or status in (OK, FAILED), r)
        return r

    def save(self, name, array):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(t.npy(array))
        return name

    def load(self, name):
        with open(os.path.join(folder, name), "rb") as f:
            return t.npy_parse(f.read())

    def inputs(self, call, before=""):
        """The call's inputs as files, and the arguments that name them."""
        return ["%s=%s" % (n, self.save(before + n + ".npy", a)) for n, a in call.tensors.items()] + \
               ["%s=%s" % (n, str(v).lower()) for n, v in call.params.items()]


class Runs(Test):
    def test_outputs_in_files(self):
        for dtype in calls.FLOATS:
            for call in calls.attention(dtype, causal=True), calls.rmsnorm(dtype), calls.varlen(dtype):
                with self.subTest(op=call.op, dtype=dtype):
                    outs = [a for n in call.want for a in ("-o", "%s=%s.npy" % (n, n))]
                    r = self.ctl("run", call.op, *self.inputs(call), *outs)
                    self.assertIn("kernel ", r.out)
                    call.check({n: self.load(n + ".npy") for n in call.want})
                    self.ctl("run", call.op, *self.inputs(call), "-o", "all.safetensors", "-q")
                    with open(os.path.join(folder, "all.safetensors"), "rb") as f:
                        tensors, meta = t.safetensors_parse(f.read())
                    call.check(tensors)
                    self.assertEqual(json.loads(meta["stats"])["op"], call.op)

    def test_pipes(self):
        """The input from standard input, the output to standard output; nothing else is written there."""
        call = calls.rmsnorm("bf16")
        args = self.inputs(call)
        r = self.ctl("run", "rmsnorm", "x=-", *args[1:], "-o", "-", stdin=t.npy(call.tensors["x"]))
        call.check({"out": t.npy_parse(r.bytes)})
        call = calls.rmsnorm("fp32")
        self.inputs(call)
        reader, writer = os.pipe()
        os.close(reader)  # nobody reads: it ends as any command before `head` does
        with os.fdopen(writer, "wb") as pipe:
            p = subprocess.run([CTL, "ops", "rmsnorm"], stdout=pipe, stderr=subprocess.PIPE, env=environment(server.url))
        self.assertEqual((p.returncode, p.stderr), (-13, b""))
        with open("/dev/full", "wb") as full:
            p = subprocess.run([CTL, "info"], stdout=full, stderr=subprocess.PIPE, env=environment(server.url))
        self.assertEqual(p.returncode, LOCAL)
        self.assertIn(b"No space left", p.stderr)

    def test_a_whole_safetensors_file(self):
        call = calls.attention("bf16", lse=False)
        with open(os.path.join(folder, "in.safetensors"), "wb") as f:
            f.write(t.safetensors(call.tensors, {"params": json.dumps({"causal": True, "window_size": [-1, -1]})}))
        causal = calls.attention("bf16", lse=False, causal=True)
        self.ctl("run", call.op, "in.safetensors", "-o", "out.npy")
        causal.check({"out": self.load("out.npy")})
        # what stands on the command line counts more than the file's
        self.ctl("run", call.op, "in.safetensors", "causal=false", "-o", "out.npy")
        call.check({"out": self.load("out.npy")})
        # single tensors of it, by the same or another name
        self.ctl("run", call.op, "q=in.safetensors", "k=in.safetensors#k", "v=in.safetensors#v", "-o", "out.npy")
        call.check({"out": self.load("out.npy")})
        r = self.ctl("run", call.op, "q=in.safetensors#x", "k=in.safetensors", "v=in.safetensors", status=USAGE)
        self.assertIn("no tensor 'x'", r.err)
        r = self.ctl("run", "rmsnorm", "x=in.safetensors", "weight=in.safetensors", status=USAGE)
        self.assertIn("holds 3 tensors", r.err)

    def test_digests_and_json(self):
        call = calls.rmsnorm("fp32")
        args = self.inputs(call)
        r = self.ctl("run", "rmsnorm", *args)
        self.assertIn("sha256", r.out)
        stats = self.ctl("run", "rmsnorm", *args, "--json", "iters=3", "baseline=naive").json
        self.assertEqual(stats["stats"]["kernel_ms"]["iters"], 3)
        self.assertIn("digest", stats["outputs"]["out"])
        r = self.ctl("run", "rmsnorm", *args, "-o", "o.npy", "--json").json
        self.assertEqual(r["outputs"], {"out": {"dtype": "fp32", "shape": [2, 3, 40], "bytes": 960}})
        self.assertEqual(r["stats"]["op"], "rmsnorm")
        r = self.ctl("run", "rmsnorm", *args, "iters=5", "baseline=naive")
        self.assertRegex(r.out, r"median of 5")
        self.assertRegex(r.out, r"speed-up [0-9.]+x, largest difference")
        r = self.ctl("run", "rmsnorm", *args, "dry_run=1")
        self.assertIn("would run", r.out)
        self.assertTrue(self.ctl("run", "rmsnorm", *args, "dry_run=1", "--json").json["dry_run"])
        r = self.ctl("run", "rmsnorm", *args, "dry_run=1", "-o", "none.npy", status=USAGE)
        self.assertFalse(os.path.exists(os.path.join(folder, "none.npy")))
        # the data as JSON, if they are asked for so
        r = self.ctl("run", "rmsnorm", *args, "format=json", "outputs=all", "--json").json
        np.testing.assert_allclose(np.array(r["outputs"]["out"]["data"]).ravel(), call.want["out"].ravel(), rtol=1e-4, atol=1e-4)

    def test_compressed(self):
        call = calls.attention("bf16", shape=(2, 130, 130, 4, 4, 64, 64), lse=False)
        for coding in "gzip", "zstd", "none":
            self.ctl("run", call.op, *self.inputs(call), "--compress", coding, "-o", "out.npy")
            call.check({"out": self.load("out.npy")})
        r = self.ctl("run", call.op, *self.inputs(call), "--compress", "lzma", status=USAGE)
        self.assertIn("gzip, zstd", r.err)

    def test_unix_socket(self):
        call = calls.rmsnorm("fp16")
        self.ctl("run", "rmsnorm", *self.inputs(call), "-o", "out.npy", url="unix:a socket")
        call.check({"out": self.load("out.npy")})
        self.assertIn("a socket", self.ctl("info", url="unix:" + os.path.join(folder, "a socket")).out)

    def test_odd_file_names(self):
        call = calls.rmsnorm("fp16")
        for name in "with space.npy", "a=b.npy", "caf\u00e9.npy", "q#1.npy", "normal:2.npy", "no extension", "-dash.npy", "@at", \
                    "new\nline.npy", "100%s%n.npy", "'\"$(x).npy", "a.safetensors":
            with self.subTest(name=name):
                with open(os.path.join(folder, name), "wb") as f:
                    f.write(t.npy(call.tensors["x"]))
                value = name if not name.startswith(("normal:", "@")) else "./" + name
                self.ctl("run", "rmsnorm", "x=" + value, "weight=" + self.save("w.npy", call.tensors["weight"]),
                         "-o", "out=" + ("out " + name.replace(".safetensors", "")))
                call.check({"out": self.load("out " + name.replace(".safetensors", ""))})
        # a newline in a name does not get into the message as it is
        r = self.ctl("run", "rmsnorm", "x=no\nsuch\x1b[31m.npy", status=USAGE)
        self.assertEqual(r.err.count("\n"), 1)
        self.assertNotIn("\x1b", r.err)

    def test_large_transfer(self):
        """32 MiB there and back, and through the compressor."""
        x = t.normal((4096, 2048), "fp32", 1)
        w = np.ones(2048, np.float32)
        args = ["x=" + self.save("big.npy", x), "weight=" + self.save("w.npy", w)]
        want = t.rmsnorm(x.astype(np.float64), w.astype(np.float64), 1e-6)
        for more in [], ["--compress", "zstd"]:
            self.ctl("run", "rmsnorm", *args, "-o", "out.npy", *more)
            t.assert_close(self.load("out.npy"), want, "fp32", "out")


class Statuses(Test):
    def test_usage(self):
        call = calls.rmsnorm("fp32")
        args = self.inputs(call)
        for line, says in ((["fly"], "fly"), ([], "Usage"), (["run"], "operator"), (["info", "--save", "x"], "--save"),
                           (["run", "rmsnorm", "x=none.npy"], "none.npy"), (["info", "more"], "no argument"),
                           (["run", "rmsnorm", args[0], args[0]], "twice"), (["run", "rmsnorm", "x=normal:2"], "dtype"),
                           (["tensors", "burn", "a"], "burn"), (["jobs", "show"], "id"), (["run", "rmsnorm", "--nope"], "--nope; aiterctl run --help"),
                           (["--nope"], "--nope; aiterctl --help"), (["run", "rmsnorm", "x=nomal:2x3:fp16"], "arange and randint"),
                           (["tensors", "put"], "NAME=SOURCE"), (["tensors", "rm"], "aiterctl tensors lists"),
                           (["run", "rmsnorm", "neither.file"], "neither.file"), (["info", "--url", "ftp://x"], "ftp")):
            r = self.ctl(*line, status=USAGE)
            self.assertIn(says, r.err)
            self.assertEqual(r.out, "")

    def test_help(self):
        self.assertIn("aiterctl COMMAND", self.ctl("--help").out)
        for command in "info", "ops", "run", "check", "bench", "tensors", "generate", "top", "jobs":
            self.assertIn("Usage: aiterctl " + command, self.ctl(command, "--help").out)
            self.assertIn("Usage: aiterctl " + command, self.ctl("help", command).out)
        self.assertRegex(self.ctl("--version").out, r"^aiterctl \d")

    def test_permissions(self):
        """A new file gets what the umask leaves, one that is replaced keeps its own."""
        for before, after in ((None, 0o640), (0o600, 0o600), (0o664, 0o664)):
            path = os.path.join(folder, "mode.npy")
            if before is not None:
                os.chmod(path, before)
            p = subprocess.run([CTL, "generate", "ones:4:fp32", "-o", path], umask=0o027, cwd=folder,
                               env=environment(server.url))
            self.assertEqual(p.returncode, OK)
            self.assertEqual(os.stat(path).st_mode & 0o777, after)
            self.assertEqual([n for n in os.listdir(folder) if n.startswith("mode.npy")], ["mode.npy"])

    def test_not_written(self):
        args = self.inputs(calls.rmsnorm("fp32"))
        r = self.ctl("run", "rmsnorm", *args, "-o", "no/such/folder/out.npy", status=LOCAL)
        self.assertIn("No such file", r.err)
        r = self.ctl("run", "rmsnorm", *args, "-o", "/dev/full", status=LOCAL)
        self.assertIn("No space", r.err)

    def test_refused(self):
        """The server's words reach the screen: detail, found, wanted, and the request's number."""
        call = calls.rmsnorm("fp32")
        args = self.inputs(call)
        r = self.ctl("run", "rmsnorm", args[0], "weight=" + self.save("w.npy", np.ones(7, np.float32)), status=REFUSED)
        self.assertRegex(r.err, r"weight")
        self.assertRegex(r.err, r"HTTP status 422, request [0-9a-f]{16}")
        r = self.ctl("run", "rmsnorn", *args, status=REFUSED)
        self.assertIn("did you mean rmsnorm", r.err)
        r = self.ctl("run", "rmsnorm", *args, "ebs=1", status=REFUSED)
        self.assertIn("ebs", r.err)
        r = self.ctl("run", "rmsnorm", *args, "device=hip:0", status=REFUSED)
        self.assertIn("hip:0", r.err)
        self.assertEqual(r.out, "")

    def test_too_large(self):
        """Refused before it is sent: the server's words arrive, not a broken connection."""
        with t.Server("--max-body", "1M", "--prefault", "1M") as small:
            x = self.save("big.npy", np.zeros((8192, 1024), np.float32))
            r = self.ctl("run", "rmsnorm", "x=" + x, "weight=ones:1024:fp32", url=small.url, status=REFUSED)
            self.assertIn("HTTP status 413", r.err)
            r = self.ctl("run", "rmsnorm", "x=" + x, "weight=ones:1024:fp32", "--compress", "zstd", url=small.url, status=REFUSED)
            self.assertIn("HTTP status 413", r.err)

    def test_not_there(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))  # bound, not listening: nobody can take the port meanwhile
            r = self.ctl("info", url="http://127.0.0.1:%d" % s.getsockname()[1], status=UNREACHABLE)
        self.assertIn("no server at", r.err)
        self.ctl("info", url="unix:" + os.path.join(folder, "none"), status=UNREACHABLE)
        self.ctl("info", url="http://no-such-host.invalid", status=UNREACHABLE)


class Generated(Test):
    def test_made_here_and_there(self):
        """The same bits, whoever makes them: this program, the server, and the specification's vectors."""
        with open(os.path.join(SRC, "api", "generate-vectors.json"), encoding="utf-8") as f:
            vectors = [v for v in json.load(f)["tensors"] if v["first"] == 0]
        self.assertGreater(len(vectors), 30)
        for v in vectors:
            source = dict(v["source"])
            text = "%s:%d:%s" % (source.pop("generate"), v["count"], source.pop("dtype"))
            text += "".join(":%s=%s" % (k, json.dumps(x)) for k, x in source.items())
            with self.subTest(source=text):
                self.ctl("generate", text, "-o", "made.safetensors", url="http://127.0.0.1:1")
                with open(os.path.join(folder, "made.safetensors"), "rb") as f:
                    file = f.read()
                data = file[8 + int.from_bytes(file[:8], "little"):]
                if "hex" in v:
                    self.assertEqual(data.hex(), v["hex"])
                else:
                    self.assertEqual(hashlib.sha256(data).hexdigest(), v["sha256"])
        sources = ["%s=normal:2x64x4x32:bf16:seed=7" % n for n in "qkv"]
        self.ctl("run", "flash_attn_func", *sources, "-o", "there.npy")
        for i, n in enumerate("qkv"):
            self.ctl("generate", "normal:2x64x4x32:bf16:seed=7:stream=%d" % i, "-o", n + ".npy")
        self.ctl("run", "flash_attn_func", "q=q.npy", "k=k.npy", "v=v.npy", "-o", "here.npy")
        np.testing.assert_array_equal(self.load("there.npy").view(np.uint16), self.load("here.npy").view(np.uint16))

    def test_refused(self):
        for text, says in (("normal:2:int32", "fractions"), ("normal:2:fp16:low=1", "low"), ("randint:2:int8", "high"),
                           ("randint:2:int8:high=1000", "int8"), ("q.npy", "nothing to be generated")):
            self.assertIn(says, self.ctl("generate", text, "-o", "x.npy", status=USAGE).err)


class Checks(Test):
    def setUp(self):
        call = calls.attention("fp16", shape=(2, 37, 37, 4, 4, 64, 64), lse=False, causal=True)
        self.args = ["flash_attn_func"] + self.inputs(call)
        self.want = call.want["out"].astype(np.float16)
        self.bad = self.want.copy()
        self.bad[1, 5, 2, 60] = self.bad[1, 5, 2, 60] + np.float16(0.25)
        self.good = "expected.out=" + self.save("good.npy", self.want)
        self.wrong = "expected.out=" + self.save("bad.npy", self.bad)

    def test_verdicts(self):
        r = self.ctl("check", *self.args, self.good)
        self.assertTrue(r.out.startswith("passed"), r)
        r = self.ctl("check", *self.args, self.wrong, status=FAILED)
        self.assertTrue(r.out.startswith("FAILED"), r)
        self.assertRegex(r.out, r"(?m)^    \[1, 5, 2, 60\] ")
        self.assertIn("1 of %d" % self.want.size, r.out)
        r = self.ctl("check", *self.args, self.wrong, "--json", status=FAILED)
        self.assertEqual(r.json["outputs"]["out"]["worst"][0]["index"], [1, 5, 2, 60])
        self.ctl("check", *self.args, self.wrong, "rtol=1", "atol=1")
        self.assertEqual(self.ctl("check", *self.args, self.wrong, "-q", status=FAILED).bytes, b"")
        r = self.ctl("check", *self.args, self.good, "runs=3")
        self.assertIn("3 runs of the kernel gave the same bits", r.out)
        self.ctl("check", *self.args, status=REFUSED)  # nothing to judge

    def test_cases(self):
        """A saved case needs nothing else to be judged again; and it is a file as any other."""
        self.ctl("check", *self.args, self.wrong, "--save", "case.safetensors", status=FAILED)
        self.ctl("check", "case.safetensors", status=FAILED)
        self.ctl("check", "case.safetensors", "rtol=1", "atol=1", "--save", "again.safetensors")
        self.ctl("check", "again.safetensors", "impl=naive")
        with open(os.path.join(folder, "case.safetensors"), "rb") as f:
            tensors, meta = t.safetensors_parse(f.read())
        np.testing.assert_array_equal(tensors["expected.out"], self.bad)
        self.assertEqual(sorted(tensors), ["expected.out", "k", "q", "v"])
        self.assertFalse(json.loads(meta["verdict"])["pass"])
        self.ctl("check", "flash_attn_func", "q=case.safetensors", "k=case.safetensors", "v=case.safetensors", "causal=true",
                 self.good)
        self.assertIn("No such file", self.ctl("check", "none.safetensors", status=USAGE).err)
        self.assertIn("operator", self.ctl("check", "./good.npy", status=USAGE).err)
        self.ctl("check", *self.args, self.wrong, "--save", "no/folder/case", status=LOCAL)


class Sweeps(Test):
    args = "bench flash_attn_func batch=1,2 seqlen=32 heads=2 head_dim=32 dtype=fp16 iters=2 warmup=1".split()

    def test_tables(self):
        lines = self.ctl(*self.args, "baseline=naive").out.splitlines()
        self.assertEqual(lines[1], "first case: " + ", ".join("%s fp16 [1, 32, 2, 32]" % n for n in "qkv"))
        self.assertIn("speed-up", lines[2])
        self.assertEqual([line.split()[0] for line in lines[2:]], ["batch", "1", "2"])
        self.assertEqual(len({len(line) for line in lines[2:]}), 1, lines)
        lines = [json.loads(line) for line in self.ctl(*self.args, "--json").out.splitlines()]
        self.assertEqual([line.get("case", {}).get("batch") for line in lines], [1, 2, None])
        self.assertTrue(lines[-1]["done"])

    def test_failures(self):
        r = self.ctl("bench", "rmsnorm", "rows=8", "hidden=64,0", "dtype=fp16", "iters=1", status=REFUSED)
        self.assertIn("1 of 2 cases failed", r.err)
        self.assertIn("at least 1", r.out)
        self.assertIn("rows", self.ctl("bench", "rmsnorm", "raws=8", status=REFUSED).err)

    def test_cut_short(self):
        """A server that goes away in the middle of a sweep, with and without saying so."""
        line = b'{"case":{"rows":1},"index":0,"of":2,"mode":"cold","impl":"x","kernel_ms":{"median":1}}\n'
        op = reply("200 OK", b'{"inputs":[]}')
        fake = Fake(op, reply("200 OK", line, "application/x-ndjson"))
        self.addCleanup(fake.close)
        r = self.ctl("bench", "x", url=fake.url, status=SERVER)
        self.assertIn("ended before its last line; 1 cases", r.err)
        fake = Fake(op, b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n" +
                    b"%x\r\n%s\r\n" % (len(line), line))
        self.addCleanup(fake.close)
        self.ctl("bench", "x", url=fake.url, status=UNREACHABLE)


class Keeps(Test):
    def tearDown(self):
        for item in self.ctl("tensors", "--json").json["tensors"]:
            self.ctl("tensors", "rm", item["name"])

    def test_put_and_get(self):
        for dtype in "fp32", "fp16", "bf16":
            x = t.normal((3, 5), dtype, 1)
            r = self.ctl("tensors", "put", "w.1=" + self.save("w.npy", x), "--json").json
            self.assertEqual(r["id"], "sha256:" + hashlib.sha256(b"%s [3,5]\n" % dtype.encode() + x.tobytes()).hexdigest())
            self.ctl("tensors", "get", "w.1", "-o", "back.npy")
            self.assertEqual(self.load("back.npy").tobytes(), x.tobytes())
            self.assertEqual(t.npy_parse(self.ctl("tensors", "get", r["id"], "-o", "-").bytes).tobytes(), x.tobytes())
        self.ctl("tensors", "put", "g=ones:4x4:fp32")
        self.ctl("tensors", "get", "g")
        np.testing.assert_array_equal(self.load("g.npy"), np.ones((4, 4)))
        self.assertRegex(self.ctl("tensors").out, r"(?m)^w\.1 +bf16 +\[3, 5\] ")
        self.ctl("tensors", "rm", "w.1", "g")
        self.ctl("tensors", "rm", "w.1", status=REFUSED)
        self.ctl("tensors", "get", "w.1", "-o", "x", status=REFUSED)
        self.ctl("tensors", "put", "a b=w.npy", status=REFUSED)
        self.ctl("tensors", "put", "w", status=USAGE)

    def test_used(self):
        call = calls.rmsnorm("fp32")
        args = self.inputs(call)
        self.ctl("tensors", "put", args[0], args[1])
        self.ctl("run", "rmsnorm", "x=@x", "weight=tensor:weight", "-o", "out.npy", "keep.out=h")
        call.check({"out": self.load("out.npy")})
        self.ctl("tensors", "get", "h")
        call.check({"out": self.load("h.npy")})
        self.assertIn("zz", self.ctl("run", "rmsnorm", "x=@zz", "weight=@weight", status=REFUSED).err)

    def test_sent_once(self):
        """With --keep a large input is sent the first time only; small ones always."""
        x, w = t.normal((256, 128), "fp32", 1), t.normal((128,), "fp32", 2)
        args = ["run", "rmsnorm", "x=" + self.save("x.npy", x), "weight=" + self.save("w.npy", w), "--keep", "-o", "out.npy"]
        want = t.rmsnorm(x.astype(np.float64), w.astype(np.float64), 1e-6)
        for _ in range(2):
            self.ctl(*args)
            t.assert_close(self.load("out.npy"), want, "fp32", "out")
            kept = self.ctl("tensors", "--json").json["tensors"]
            self.assertEqual([(k["shape"], k["bytes"]) for k in kept], [([256, 128], x.nbytes)])
        name = kept[0]["name"]
        # the server has it under any name
        self.ctl("tensors", "put", "mine=x.npy")
        self.ctl("tensors", "rm", name)
        self.ctl(*args)
        self.assertEqual([k["name"] for k in self.ctl("tensors", "--json").json["tensors"]], ["mine"])


    def test_no_room(self):
        """With --keep and too little room for all of the inputs, or for one: they are sent, and the result is right."""
        call = calls.attention("fp32", shape=(2, 128, 128, 2, 2, 64, 64), lse=False)  # 128 KiB each
        args = ["run", call.op, *self.inputs(call), "--keep", "-o", "out.npy"]
        for quota in "300K", "100K":
            with t.Server("--tensors-quota", quota, "--prefault", "1M") as small:
                for _ in range(2):
                    self.ctl(*args, url=small.url)
                    call.check({"out": self.load("out.npy")})


class Jobs(Test):
    def job(self, *args):
        return self.ctl(*args, "-b").out.strip()

    def test_results(self):
        call = calls.rmsnorm("fp32")
        args = self.inputs(call)
        job = self.job("run", "rmsnorm", *args)
        self.ctl("jobs", "wait", job)
        self.assertIn(job, self.ctl("jobs").out)
        self.assertEqual(self.ctl("jobs", "show", job, "--json").json["state"], "done")
        self.ctl("jobs", "get", job, "-o", "out.npy")
        call.check({"out": self.load("out.npy")})
        want = "expected.out=" + self.save("want.npy", call.want["out"].astype(np.float32) + np.float32(1))
        self.assertIn("FAILED", self.ctl("jobs", "get", self.job("check", "rmsnorm", *args, want), status=FAILED).out)
        r = self.ctl("jobs", "get", self.job("bench", "rmsnorm", "rows=8,16", "hidden=64", "dtype=fp16", "iters=1"))
        self.assertEqual([line.split()[0] for line in r.out.splitlines()[2:]], ["rows", "8", "16"])
        self.ctl("jobs", "cancel", job)
        self.ctl("jobs", "show", job, status=REFUSED)

    def test_failures(self):
        self.ctl("run", "rmsnorm", "x=ones:4:fp16", "weight=ones:5:fp16", "-b", status=REFUSED)
        self.ctl("jobs", "show", "none", status=REFUSED)
        job = self.job("run", "flash_attn_func", *["%s=normal:2x512x8x64:fp16" % n for n in "qkv"], "iters=10000")
        self.ctl("jobs", "cancel", job)
        self.ctl("jobs", "get", job, status=REFUSED)


def terminal(test):
    """Both ends of a pseudo-terminal; a place without any (a bare chroot) skips the test, visibly."""
    try:
        return pty.openpty()
    except OSError as e:
        test.skipTest("there are no pseudo-terminals here: %s" % e)


class Fake:
    """A server that gives each connection's first request the next of some prepared replies, and closes."""

    def __init__(self, *replies):
        self.replies, self.requests = list(replies), []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        for reply in self.replies:
            try:
                c, _ = self.socket.accept()
            except OSError:
                return
            with c:
                c.settimeout(20)
                head = b""
                while b"\r\n\r\n" not in head:
                    piece = c.recv(65536)
                    if not piece:
                        break
                    head += piece
                self.requests.append(head)
                c.sendall(reply)

    def close(self):
        self.socket.close()


def reply(status, body=b"{}", kind="application/json", *headers):
    return ("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n" % (
        status, kind, len(body), "".join(h + "\r\n" for h in headers))).encode() + body


class Fakes(Test):
    """Servers that fail in ways the real one does not on demand."""

    def with_fake(self, *replies):
        fake = Fake(*replies)
        self.addCleanup(fake.close)
        return fake

    def test_busy_for_a_moment(self):
        busy = reply("503 Service Unavailable", b'{"detail":"busy","status":503}', "application/problem+json", "Retry-After: 1")
        fake = self.with_fake(busy, reply("200 OK", b'{"ops":[]}'))
        begin = time.monotonic()
        self.ctl("ops", "--json", url=fake.url)
        self.assertGreater(time.monotonic() - begin, 0.9)
        self.assertEqual(len(fake.requests), 2)

    def test_busy_for_good(self):
        busy = reply("503 Service Unavailable", b'{"detail":"the queue is full","status":503,"request_id":"abc"}',
                     "application/problem+json", "Retry-After: 1")
        fake = self.with_fake(busy, busy, busy)
        r = self.ctl("ops", "--retries", "1", url=fake.url, status=SERVER)
        self.assertEqual(len(fake.requests), 2)
        self.assertIn("the queue is full", r.err)
        self.assertIn("patience of 1 s", r.err)
        fake = self.with_fake(busy, busy)
        self.ctl("ops", "--retries", "0", url=fake.url, status=SERVER)
        self.assertEqual(len(fake.requests), 1)
        # no Retry-After, no second try
        fake = self.with_fake(reply("503 Service Unavailable"), reply("200 OK"))
        self.ctl("ops", url=fake.url, status=SERVER)
        self.assertEqual(len(fake.requests), 1)

    def test_nonsense(self):
        for bad, status in ((b"SSH-2.0-OpenSSH_9.2\r\n", SERVER), (b"", UNREACHABLE),
                            (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", UNREACHABLE)):
            self.ctl("info", url=self.with_fake(bad, bad).url, status=status)
        fake = self.with_fake(reply("200 OK", b"<html>", "text/html"))
        self.assertIn("no JSON", self.ctl("info", url=fake.url, status=SERVER).err)
        fake = self.with_fake(reply("502 Bad Gateway", b"<html>\x1b[2J", "text/html"))
        r = self.ctl("info", url=fake.url, status=SERVER)
        self.assertIn("502", r.err)
        self.assertNotIn("\x1b", r.err)
        fake = self.with_fake(reply("401 Unauthorized", b'{"detail":"a key is needed"}', "application/problem+json"))
        self.assertIn("a key is needed", self.ctl("info", url=fake.url, status=REFUSED).err)

    def test_steering(self):
        """Nothing a server says steers the terminal: no control characters of either set, no marks that turn text around;
        names that are not plain never reach a shell by completion; and what should be an object may be anything."""
        x = self.save("steering.npy", np.zeros((4, 8), np.float32))
        evil = "\x1b]0;here\x07\x9b31m\u202e\N{GREEK SMALL LETTER ALPHA}"
        e, catalogue = json.dumps(evil, ensure_ascii=False).encode(), reply("200 OK", b'{"inputs":[{"name":"x"}]}')
        verdict = (b'{"pass":false,"summary":E,"outputs":{E:{"pass":false,"dtype":E,"shape":[E],"vs_reference":{"ulp":{E:1},'
                   b'"mismatched":1},"worst":[{"index":[E],"yours":E}],"looks_like":E}},"stats":{"impl":E}}')
        lists = b'{"pass":false,"outputs":[{"pass":false,"vs_reference":{"ulp":[1,2]},"worst":5,"nan":{"agree":false}},3]}'
        line = b'{"case":{E:E},"mode":E,"impl":E,"rates":{"suspect":E}}\n{"case":[1],"error":{"detail":E}}\n{"done":true}\n'
        odd = b'{"case":[1,2],"impl":"x"}\n[]\n5\n{"progress":5}\n{"done":true}\n'
        op = b'{"name":E,"inputs":[{"name":E,"dtypes":[E],"shape":[E]}],"params":[{"name":E,"default":E}],"tolerance":{E:{}}}'
        info = b'{"server":{"name":E},"devices":[{"id":E,"ops":{E:[E,1]}},{"ops":[[1]]},5]}'
        check = ["check", "rmsnorm", "x=" + x, "expected.out=" + x]
        for replies, args in (
                ([catalogue, verdict], check), ([catalogue, lists], check), ([catalogue, line], ["bench", "rmsnorm"]),
                ([catalogue, odd], ["bench", "rmsnorm"]), ([op], ["ops", "rmsnorm"]), ([info], ["info"]),
                ([b'{"tensors":[{"name":E,"id":E,"dtype":E,"shape":E}]}'], ["tensors"]),
                ([b'{"jobs":[{"id":E,"state":E,"progress":{"unit":E}}]}'], ["jobs"]),
                ([info, b'{"model_stats":[{"name":E}]}'], ["top", "-n", "1"])):
            for more in [], ["--json"]:
                fake = self.with_fake(*[r if r is catalogue else reply("200 OK", r.replace(b"E", e)) for r in replies])
                ours, theirs = terminal(self)
                p = subprocess.Popen([CTL, *args, *more], stdout=theirs, stderr=theirs, cwd=folder, env=environment(fake.url))
                os.close(theirs)
                said = b""
                with contextlib.suppress(OSError):  # how a pty tells its end
                    while piece := os.read(ours, 65536):
                        said += piece
                os.close(ours)
                with self.subTest(args=args + more):
                    self.assertIn(p.wait(60), (OK, FAILED, REFUSED, SERVER))
                    self.assertNotRegex(said.decode().replace("\x1b[H\x1b[2J", "").replace("\r\x1b[K", ""),
                                        "[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]")
        fake = self.with_fake(reply("200 OK", b'{"ops":[{"name":"$(id)"},{"name":"good"},{"name":E},{"name":"a;b"}]}'
                                    .replace(b"E", e)))
        self.assertEqual(self.ctl("_complete", "ops", url=fake.url).out, "good\n")

    def test_key(self):
        fake = self.with_fake(reply("200 OK", b'{"ops":[]}'))
        self.ctl("ops", url=fake.url, env={"AITERD_KEY": "s3cret"})
        self.assertIn(b"Authorization: Bearer s3cret\r\n", fake.requests[0])
        fake = self.with_fake(reply("200 OK", b'{"ops":[]}'))
        self.ctl("ops", url=fake.url + "/some/prefix/")
        self.assertTrue(fake.requests[0].startswith(b"GET /some/prefix/v1/ops HTTP/1.1\r\n"), fake.requests)

    def test_progress(self):
        """A long transfer has a bar if standard error is a terminal, and none otherwise."""
        x = self.save("big.npy", np.zeros((8192, 1024), np.float32))

        def serve(listener):
            with listener.accept()[0] as c:
                c.recv(65536)
                c.sendall(reply("200 OK", b'{"inputs":[]}'))
            with listener.accept()[0] as c:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += c.recv(1)
                c.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                time.sleep(2.5)
                left = int(head.split(b"Content-Length: ")[1].split()[0])
                while left:
                    left -= len(c.recv(min(left, 1 << 20)))
                c.sendall(reply("200 OK", b'{"outputs":{}}'))

        for on_terminal in False, True:
            ours, theirs = terminal(self) if on_terminal else os.pipe()
            with socket.create_server(("127.0.0.1", 0)) as listener:
                server_thread = threading.Thread(target=serve, args=(listener,), daemon=True)
                server_thread.start()
                p = subprocess.Popen([CTL, "run", "rmsnorm", "x=" + x], stdout=subprocess.DEVNULL, stderr=theirs, cwd=folder,
                                     env=environment("http://127.0.0.1:%d" % listener.getsockname()[1]))
                os.close(theirs)
                said = b""
                while True:
                    try:
                        piece = os.read(ours, 65536)
                    except OSError:  # how a pty tells its end
                        break
                    if not piece:
                        break
                    said += piece
                os.close(ours)
                self.assertEqual(p.wait(60), OK, said)
                server_thread.join(60)
            if on_terminal:
                self.assertRegex(said, rb"sending \[[#.]{30}\] +\d+ %  [0-9.]+ [KM]iB of 32.0 MiB")
                self.assertTrue(said.endswith(b"\r\x1b[K"), said[-100:])
            else:
                self.assertEqual(said, b"")

    def test_too_slow(self):
        with socket.create_server(("127.0.0.1", 0)) as s:  # takes the connection, says nothing
            r = self.ctl("info", "--timeout", "0.3", url="http://127.0.0.1:%d" % s.getsockname()[1], status=UNREACHABLE)
        self.assertIn("imed out", r.err)


class Views(Test):
    def test_info_and_ops(self):
        self.assertIn("cpu:0", self.ctl("info").out)
        self.assertEqual(self.ctl("info", "--json").json["server"]["name"], "aiterd")
        names = [op["name"] for op in self.ctl("ops", "--json").json["ops"]]
        self.assertEqual([line.split()[0] for line in self.ctl("ops").out.splitlines()], names)
        for name in names:
            op = self.ctl("ops", name, "--json").json
            shown = self.ctl("ops", name).out
            for item in op["inputs"] + op["outputs"] + op["params"] + op["run_options"]:
                self.assertRegex(shown, r"(?m)^  %s " % item["name"])

    def test_top(self):
        self.assertIn("flash_attn_func", self.ctl("top", "-n", "1").out)
        lines = self.ctl("top", "-n", "2", "-d", "0.1", "--json").out.splitlines()
        self.assertEqual([sorted(json.loads(line)) for line in lines], [["info", "stats"]] * 2)

    def test_completion(self):
        self.assertIn("tensors", self.ctl("_complete", "commands").out.split())
        self.assertIn("--save", self.ctl("_complete", "options", "check").out.split())
        self.assertNotIn("--save", self.ctl("_complete", "options", "run").out.split())
        self.assertIn("flash_attn_func", self.ctl("_complete", "ops").out.split())
        self.assertIn("causal=", self.ctl("_complete", "words", "flash_attn_func").out.split())
        self.assertEqual(self.ctl("_complete", "values", "flash_attn_func", "causal").out.split(), ["true", "false"])
        # without a server: no words, no message
        self.assertEqual(self.ctl("_complete", "ops", url="http://127.0.0.1:1").out, "")
        if shutil.which("bash"):
            script = os.path.join(SRC, "clients/c/completion/aiterctl")
            out = subprocess.run(["bash", "-c", '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _aiterctl; '
                                  'printf "%s\\n" "${COMPREPLY[@]}"', script, CTL, "run", "rmsnorm", "we"],
                                 stdout=subprocess.PIPE, env=environment(server.url), check=True).stdout
            self.assertEqual(out, b"weight=\n")


if __name__ == "__main__":
    unittest.main()
