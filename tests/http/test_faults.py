#!/usr/bin/python3
"""What goes wrong behind the front, against the running server: workers that die, hang or never come up, jobs that take
too long, full queues and memory, and the end of the server itself. Each costs what it must and no more.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import numpy as np

import aiterd_test as t
from exchange import RUN, SAFETENSORS, alive, info, kill, problem, quiescent, reset, rms_big, rms_body, rms_check, state_of, until

ATTENTION = "/v1/ops/flash_attn_func"
FAKE = os.path.join(t.BUILD, "tests", "unit", "worker_fake")
SMALL = ("--loops", "2", "--threads", "1", "--prefault", "1M")


def long_job(**params):
    """A body that keeps the device busy for 30 s: many runs, between which the worker looks at the time."""
    q = t.normal((1, 256, 4, 64), "fp32", 1)
    return t.safetensors({"q": q, "k": q, "v": q}, params=dict({"iters": 10000, "warmup": 10000, "timeout_ms": 30000}, **params))


def long_run(**params):
    """The same with a single run, which nothing interrupts."""
    q = t.normal((1, 6000, 8, 64), "fp32", 1)
    return t.safetensors({"q": q, "k": q, "v": q}, params=dict({"impl": "reference", "timeout_ms": 30000}, **params))


class Asking(threading.Thread):
    """A request in the background: .reply() waits for it."""

    def __init__(self, server, target, body, timeout=120):
        super().__init__(daemon=True)
        self.how, self.server, self.got = (target, body, timeout), server, None
        self.start()

    def run(self):
        target, body, timeout = self.how
        try:
            with self.server.client(timeout) as c:
                self.got = c.request("POST", target, body, [SAFETENSORS])
        except Exception as e:
            self.got = e

    def reply(self, timeout=120):
        self.join(timeout)
        if self.got is None or isinstance(self.got, Exception):
            raise AssertionError("no reply: %r" % self.got)
        return self.got


def device(server):
    return info(server)["devices"][0]


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def busy(server, requests=1):
    """Wait until the worker computes and so many requests are there."""
    pid = until(lambda: max(0, device(server)["pid"]), "a worker")
    start = cpu_ticks(pid)
    until(lambda: cpu_ticks(pid) >= start + 8 and info(server)["server"]["requests"] >= requests,
          "the worker is busy with %d requests" % requests, 20)
    return pid


class Faults(unittest.TestCase):
    """Each test has a server of its own (a worker that dies often is replaced later and later), and leaves one that
    works."""

    def setUp(self):
        self.server = t.Server(*SMALL)
        self.addCleanup(self.server.kill)
        self.works()

    def tearDown(self):
        self.works()
        self.no_zombies()
        self.server.stop()

    def works(self):
        with self.server.client(30) as c:
            rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))
        quiescent(self.server)

    def no_zombies(self):
        def look():
            states = {p: state_of(p) for p in self.server.workers()}
            return len(states) == 1 and "Z" not in states.values() and "T" not in states.values()
        until(look, "one worker and no zombies")


class Workers(Faults):
    def test_killed_idle(self):
        for number in (signal.SIGKILL, signal.SIGABRT, signal.SIGKILL):
            before = device(self.server)
            kill(before["pid"], number)
            self.works()
            after = device(self.server)
            self.assertNotEqual(after["pid"], before["pid"])
            self.assertEqual(after["restarts"], before["restarts"] + 1)
            self.assertEqual(state_of(before["pid"]), "")
            self.assertRegex(after["last_death"], "(?i)signal|killed|abort")

    def test_killed_running(self):
        for number in (signal.SIGKILL, signal.SIGABRT):
            job = Asking(self.server, ATTENTION, long_job())
            kill(busy(self.server), number)
            p = problem(job.reply(), 500, "worker-crashed")
            self.assertRegex(p["detail"], r"was killed by signal %d \([A-Za-z]+\) while running a job" % number)
            self.assertEqual(p["op"], "flash_attn_func")

    def test_connection_survives(self):
        with self.server.client(60) as c:
            body = long_job()
            c.send(c.head("POST", ATTENTION, [SAFETENSORS], len(body)) + body)
            kill(busy(self.server), signal.SIGKILL)
            problem(c.response(), 500, "worker-crashed")
            rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))

    def test_queued_behind_a_crash(self):
        """Only the request that ran fails; however many wait, on whichever loop, are answered by the next worker."""
        job = Asking(self.server, ATTENTION, long_job())
        pid = busy(self.server)
        behind = [Asking(self.server, RUN, rms_body(seed=i)) for i in range(40)]
        until(lambda: info(self.server)["server"]["requests"] == 41, "41 requests")
        kill(pid, signal.SIGKILL)
        problem(job.reply(), 500, "worker-crashed")
        for i, b in enumerate(behind):
            rms_check(b.reply(), seed=i)

    def test_pages_while_away(self):
        """Pages do not need a worker, and requests that find none wait for it."""
        kill(device(self.server)["pid"], signal.SIGKILL)
        asking = [Asking(self.server, RUN, rms_body(seed=i)) for i in range(5)]
        for target in ("/", "/v1/info", "/v1/ops", "/v2/health/live"):
            self.assertEqual(self.server.request("GET", target).status, 200)
        for i, a in enumerate(asking):
            rms_check(a.reply(), seed=i)

    def test_stopped_while_running(self):
        """A worker that hangs in a job is ended when the job's time is up."""
        job = Asking(self.server, ATTENTION, long_job(timeout_ms=1500))
        behind = Asking(self.server, RUN, rms_body())
        pid = busy(self.server)
        kill(pid, signal.SIGSTOP)
        problem(job.reply(), 504, "deadline-exceeded")
        rms_check(behind.reply())
        self.assertEqual(state_of(pid), "")
        self.server.wait_for(r"worker cpu:0 \(pid %d\): the time was up" % pid)

    def test_stopped_idle(self):
        """A job sent to a worker that does not even start it: its time is up, and the next one is served."""
        pid = device(self.server)["pid"]
        kill(pid, signal.SIGSTOP)
        job = Asking(self.server, RUN + "?timeout_ms=200", rms_body())
        behind = Asking(self.server, RUN, rms_body())
        problem(job.reply(), 504, "deadline-exceeded")
        rms_check(behind.reply())
        self.assertEqual(state_of(pid), "")
        self.server.wait_for(r"worker cpu:0 \(pid %d\): .*lost a job" % pid)

    def test_stopped_for_a_moment(self):
        pid = device(self.server)["pid"]
        kill(pid, signal.SIGSTOP)
        asking = [Asking(self.server, RUN, rms_body(seed=i)) for i in range(10)]
        until(lambda: info(self.server)["server"]["requests"] == 10, "10 requests")
        kill(pid, signal.SIGCONT)
        for i, a in enumerate(asking):
            rms_check(a.reply(), seed=i)
        self.assertEqual(device(self.server)["pid"], pid)


class Time(Faults):
    def test_between_runs(self):
        pid = device(self.server)["pid"]
        with self.server.client(30) as c:
            p = problem(c.request("POST", ATTENTION, long_job(timeout_ms=300), [SAFETENSORS]), 504, "deadline-exceeded")
            self.assertEqual(p.get("param"), "timeout_ms")
            rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))
        self.assertEqual(device(self.server)["pid"], pid, "nothing had to die for it")

    def test_in_one_run(self):
        with self.server.client(30) as c:
            problem(c.request("POST", ATTENTION, long_run(timeout_ms=500), [SAFETENSORS]), 504, "deadline-exceeded")
            rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))

    def test_while_waiting(self):
        """Its time can be up before its turn comes; the one that runs is not touched."""
        job = Asking(self.server, ATTENTION, long_job(timeout_ms=2500))
        pid = busy(self.server)
        start = time.monotonic()
        waiting = [Asking(self.server, RUN + "?timeout_ms=%d" % ms, rms_body()) for ms in (1, 100, 200)]
        for w in waiting:
            problem(w.reply(), 504, "deadline-exceeded")
        self.assertTrue(job.is_alive() or time.monotonic() - start > 2, "the running job was cut short")
        problem(job.reply(), 504, "deadline-exceeded")
        self.assertEqual(device(self.server)["pid"], pid)

    def test_gone_while_running(self):
        """What clients that left had asked for is forgotten, and no worker has to die for it."""
        pid = device(self.server)["pid"]
        for stage in range(2):
            with self.server.client() as c:
                body = long_job(timeout_ms=60000)
                c.send(c.head("POST", ATTENTION, [SAFETENSORS], len(body)) + body)
                busy(self.server)
                if stage == 1:
                    with self.server.client() as queued:
                        body = rms_body()
                        queued.send(queued.head("POST", RUN, [SAFETENSORS], len(body)) + body)
                        until(lambda: info(self.server)["server"]["requests"] == 2, "two requests")
            quiescent(self.server)
        self.assertEqual(device(self.server)["pid"], pid)

    def test_gone_while_waiting(self):
        """What clients that left were waiting for is not computed: all but the few that the worker holds already."""
        with t.Server("--loops", "1", *SMALL[2:]) as s:
            job = Asking(s, ATTENTION, long_job(timeout_ms=3000))
            busy(s)
            waiting, body = [s.client() for _ in range(100)], rms_body()
            for c in waiting:
                c.send(c.head("POST", RUN, [SAFETENSORS], len(body)) + body)
            until(lambda: info(s)["server"]["requests"] == 101, "101 requests")
            for i, c in enumerate(waiting):
                (reset if i % 2 else t.Client.close)(c)
            until(lambda: info(s)["server"]["requests"] <= 50, lambda: "they are forgotten: %s" % info(s)["server"], 2)
            self.assertTrue(job.is_alive(), "only because the device was free again")
            problem(job.reply(), 504)
            quiescent(s)

    def test_gone_in_a_moment(self):
        """Clients that break off while device or helper have their small request: with luck, at every point of it."""
        pid = device(self.server)["pid"]
        digest = rms_body(64, 4096)
        for i in range(300):
            body, query = (digest, "?outputs=digest") if i % 3 == 0 else (rms_body(), "?iters=%d" % (1 + i % 50))
            c = self.server.client()
            c.send(c.head("POST", RUN + query, [SAFETENSORS], len(body)) + body)
            time.sleep(i % 23 * 1e-4)
            reset(c)
        quiescent(self.server)
        self.assertEqual(device(self.server)["pid"], pid)

    def test_longer_than_idle(self):
        """A small request that takes longer than a connection may be idle is not idle, whatever else its loop has to do
        meanwhile. (Once something small was answered, its memory is there, and it waits without being suspended.)"""
        q = t.normal((1, 8, 1, 32), "fp32", 1)
        body = t.safetensors({"q": q, "k": q, "v": q}, params={"iters": 100000000, "timeout_ms": 3500})
        with t.Server("--loops", "1", "--threads", "1", "--idle-timeout", "1", "--max-iters", "100000000") as s:
            with s.client(30) as c:
                rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))
                c.send(c.head("POST", ATTENTION, [SAFETENSORS], len(body)) + body)
                time.sleep(2.5)
                self.assertEqual(s.request("GET", "/v1/limits").status, 200)
                problem(c.response(), 504, "deadline-exceeded")

    def test_server_limit(self):
        with t.Server("--timeout", "0.3", *SMALL) as s:
            for extra in ({}, {"timeout_ms": 60000}):
                problem(s.request("POST", ATTENTION, long_job(**extra), [SAFETENSORS]), 504, "deadline-exceeded")
            rms_check(s.request("POST", RUN, rms_body(), [SAFETENSORS]))


class Full(unittest.TestCase):
    def test_queue(self):
        with t.Server("--queue", "1", *SMALL) as s:
            job = Asking(s, ATTENTION, long_job(timeout_ms=2500))
            busy(s)
            with s.client() as c:
                for _ in range(3):
                    r = c.request("POST", RUN, rms_body(), [SAFETENSORS])
                    problem(r, 503, "overloaded")
                    self.assertGreater(int(r.get("retry-after")), 0)
                    r = c.request("POST", "/v2/models/rmsnorm/infer", b"{}")
                    self.assertEqual((r.status, list(json.loads(r.body.decode()))), (503, ["error"]))
                    self.assertGreater(int(r.get("retry-after")), 0)
                    alive(c)
                problem(job.reply(), 504)
                # Its place is free once the reply is sent, which may be a moment after it was read here.
                until(lambda: info(s)["server"]["requests"] == 0, "the place is free")
                rms_check(c.request("POST", RUN, rms_body(), [SAFETENSORS]))

    def test_arena(self):
        with t.Server("--arena", "64M", *SMALL) as s:
            with s.client(30) as c:
                # It can never fit: 507. The body is larger than what is drained, so the connection ends.
                p = problem(c.request("POST", RUN, bytes(100 << 20), [SAFETENSORS]), 507, "out-of-memory")
                self.assertRegex(p["detail"], "[0-9]+ bytes")
            quiescent(s)
            rms_check(s.request("POST", RUN, rms_body(), [SAFETENSORS]))
            # Full at the moment: 503, and room again afterwards.
            held = []
            for _ in range(4):
                c = s.client()
                c.send(c.head("POST", RUN, [SAFETENSORS], 16 << 20) + rms_big(16)[:100000])
                held.append(c)
            until(lambda: info(s)["arena"]["borrowed"] > 32 << 20, "memory in use")
            with s.client(30) as c:
                r = c.request("POST", RUN, rms_big(24), [SAFETENSORS])
                problem(r, 503, "overloaded")
                self.assertGreater(int(r.get("retry-after")), 0)
            for c in held:
                c.close()
            quiescent(s)
            x = rms_big(16)
            r = s.request("POST", RUN, x, [SAFETENSORS])
            self.assertEqual(r.status, 200, r)
            t.assert_close(t.safetensors_parse(r.body)[0]["out"],
                           t.rmsnorm(t.safetensors_parse(x)[0]["x"], np.ones(262144)), "fp32")

    def test_arena_with_generous_shapes(self):
        """Output memory counts too; what is refused is given back."""
        with t.Server("--arena", "64M", *SMALL) as s:
            with s.client(30) as c:
                q = np.zeros((1, 200000, 1, 32), np.float32)
                k = np.zeros((1, 1, 1, 32), np.float32)
                v = np.zeros((1, 1, 1, 256), np.float32)
                r = c.request("POST", ATTENTION, t.safetensors({"q": q, "k": k, "v": v}), [SAFETENSORS])
                problem(r, 507, "out-of-memory")
            quiescent(s)


class Ends(unittest.TestCase):
    def test_work_in_flight(self):
        """SIGTERM: what was begun is answered, new work is not taken, and the status is 0."""
        with t.Server(*SMALL) as s:
            body = rms_big(12)
            idle, half, new = s.client(), s.client(30), s.client()
            alive(idle)
            alive(new)
            slow = s.client(60)
            slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            slow.send(slow.head("POST", RUN, [SAFETENSORS], len(body)) + body)
            until(lambda: info(s)["server"]["requests"] == 1, "the slow reader")
            small = rms_body()
            half.send(half.head("POST", RUN, [SAFETENSORS], len(small)) + small[:100])
            job = Asking(s, ATTENTION, long_job(timeout_ms=2500))
            busy(s, 3)
            queued = [Asking(s, RUN, rms_body(seed=i)) for i in range(10)]
            until(lambda: info(s)["server"]["requests"] == 13, lambda: "13 requests: %s" % info(s)["server"])
            kill(s.pid, signal.SIGTERM)
            until(lambda: idle.request("GET", "/v2/health/ready").status == 503, "not ready any more")
            self.assertEqual(idle.request("GET", "/v2/health/live").status, 200)
            self.assertTrue(json.loads(idle.request("GET", "/v1/info").body.decode())["server"]["draining"])
            r = new.request("POST", RUN, small, [SAFETENSORS])
            problem(r, 503, "draining")
            self.assertGreater(int(r.get("retry-after")), 0)
            self.assertEqual(r.get("connection").lower(), "close")
            half.send(small[100:])
            rms_check(half.response())
            problem(job.reply(), 504)
            for i, q in enumerate(queued):
                rms_check(q.reply(), seed=i)
            self.assertIsNone(s.process.poll(), "a reply is still being read")
            r = slow.response()
            self.assertEqual((r.status, t.safetensors_parse(r.body)[0]["out"].shape), (200, (12, 262144)))
            self.assertEqual(s.process.wait(30), 0)
            for c in (idle, half, new, slow):
                c.close()

    def gone(self, pid):
        until(lambda: state_of(pid) in ("", "Z"), "the worker leaves with its server")

    def test_second_signal(self):
        s = t.Server(*SMALL)
        try:
            job = Asking(s, ATTENTION, long_job())
            pid = busy(s)
            kill(s.pid, signal.SIGTERM)
            s.wait_for("draining")
            kill(s.pid, signal.SIGTERM)
            self.assertEqual(s.process.wait(20), 1)
            s.wait_for("unfinished")
            self.gone(pid)
            with self.assertRaises(AssertionError):
                job.reply()
            s.check_sanitizers()
        finally:
            s.kill()

    def test_drain_timeout(self):
        s = t.Server("--drain-timeout", "0.5", *SMALL)
        try:
            Asking(s, ATTENTION, long_job())
            pid = busy(s)
            kill(s.pid, signal.SIGTERM)
            self.assertEqual(s.process.wait(20), 1)
            self.gone(pid)
        finally:
            s.kill()

    def test_idle_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with t.Server(*SMALL) as s:
                pid = device(s)["pid"]
                with s.client() as c:
                    alive(c)
                    kill(s.pid, number)
                    self.assertEqual(s.process.wait(20), 0)
                self.gone(pid)

    def test_killed(self):
        """Even a front that is killed leaves no worker behind."""
        s = t.Server(*SMALL)
        pid = device(s)["pid"]
        s.kill()
        self.gone(pid)

    def test_stopped_worker_does_not_hold_up(self):
        with t.Server(*SMALL) as s:
            pid = device(s)["pid"]
            kill(pid, signal.SIGSTOP)
            kill(s.pid, signal.SIGTERM)
            self.assertEqual(s.process.wait(20), 0)
            self.gone(pid)


class Starts(unittest.TestCase):
    def run_aiterd(self, *options, env=None, timeout=30):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AITERD_")}
        environment.update(env or {})
        return subprocess.run([os.path.join(t.BUILD, "aiterd"), *options], env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout)

    def test_no_worker(self):
        with tempfile.TemporaryDirectory() as d:
            p = self.run_aiterd("--worker-dir", d, "--listen", "127.0.0.1:0", *SMALL)
            self.assertEqual(p.returncode, 1, p.stderr)
            self.assertEqual(p.stdout, "")
            self.assertIn("aiterd-worker-cpu", p.stderr)
            self.assertIn(d, p.stderr)

    def test_no_such_kind(self):
        p = self.run_aiterd("--device", "toaster!", "--listen", "127.0.0.1:0", *SMALL)
        self.assertNotEqual(p.returncode, 0)
        self.assertIn("toaster!", p.stderr)
        for kind in ("gpu", "rocm:0", "mi300", "nvidia"):
            p = self.run_aiterd("--device", kind, "--listen", "127.0.0.1:0", *SMALL)
            self.assertEqual((p.returncode, p.stdout), (2, ""), p.stderr)
            self.assertIn("unknown device kind %s; there are cpu, hip:N, cuda:N, emulated" % kind.split(":")[0], p.stderr)

    def test_bad_options(self):
        """Status 2; the message names the option, what was found, and what was wanted."""
        for options, found in ((("--queue", "0"), ("--queue", "0", "integer")), (("--queue", "many"), ("--queue", "many")),
                               (("--queue=1e3",), ("--queue", "1e3")), (("--queue",), ("--queue", "missing")),
                               (("--max-body", "8X"), ("--max-body", "8X", "bytes")), (("--max-body=-1",), ("--max-body", "-1")),
                               (("--timeout", "0"), ("--timeout", "seconds")), (("--timeout", "nan"), ("--timeout", "nan")),
                               (("--head-timeout", "15s"), ("--head-timeout", "15s")),
                               (("--threads", "1025"), ("--threads", "1025", "1024")),
                               (("--nonsense", "1"), ("--nonsense", "--help")), (("stray",), ("stray",)),
                               (("--max-head", ""), ("--max-head",))):
            with self.subTest(options):
                p = self.run_aiterd(*options)
                self.assertEqual((p.returncode, p.stdout), (2, ""), p.stderr)
                for word in found:
                    self.assertIn(word, p.stderr)
        p = self.run_aiterd(env={"AITERD_QUEUE": "x"})
        self.assertEqual(p.returncode, 2)
        self.assertIn("AITERD_QUEUE", p.stderr)
        for options in (("--log-level", "loud"), ("--log-format", "xml")):
            p = self.run_aiterd(*options)
            self.assertEqual((p.returncode, p.stdout), (2, ""), p.stderr)
            self.assertIn(options[0] + ": found '" + options[1], p.stderr)
        for options in (("--listen", "nonsense"), ("--listen", "127.0.0.1:"), ("--listen", "127.0.0.1:http"),
                        ("--listen", "256.0.0.1:1"), ("--listen", "127.0.0.1:99999"), ("--listen", ","),
                        ("--listen", "unix:" + "x" * 200), ("--listen", "192.0.2.1:0")):
            with self.subTest(options):
                p = self.run_aiterd(*options)
                self.assertNotEqual(p.returncode, 0)
                self.assertIn(options[0], p.stderr)

    def test_help_and_version(self):
        p = self.run_aiterd("--help")
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        for name in ("--listen", "--queue", "--max-body", "--drain-timeout", "AITERD_"):
            self.assertIn(name, p.stdout)
        p = self.run_aiterd("--version")
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        self.assertRegex(p.stdout, r"aiterd.*[0-9]+\.[0-9]+")

    def test_environment(self):
        """Options may come from the environment; the command line wins."""
        with t.Server("--max-head", "2K", env={"AITERD_MAX_HEAD": "4K", "AITERD_MAX_TARGET": "100", "AITERD_PREFAULT": "0"}) as s:
            limits = json.loads(s.request("GET", "/v1/limits").body.decode())
            self.assertEqual((limits["max_head_bytes"], limits["max_target_bytes"]), (2048, 100))

    def fake(self, folder, order):
        if not os.access(FAKE, os.X_OK):
            self.skipTest("make check builds %s" % FAKE)
        shutil.copy(FAKE, os.path.join(folder, "aiterd-worker-cpu"))
        with open(os.path.join(folder, "orders"), "w") as f:
            f.write(order + "\n")

    def test_device_refuses(self):
        """A worker that says there is no such device is not tried again; its last words are passed on."""
        with tempfile.TemporaryDirectory() as d:
            self.fake(d, "exit2")
            p = self.run_aiterd("--worker-dir", d, "--listen", "127.0.0.1:0", *SMALL)
            self.assertEqual((p.returncode, p.stdout), (1, ""), p.stderr)
            self.assertIn("no such device", p.stderr)

    def test_another_build(self):
        with tempfile.TemporaryDirectory() as d:
            self.fake(d, "build")
            p = self.run_aiterd("--worker-dir", d, "--listen", "127.0.0.1:0", *SMALL)
            self.assertEqual((p.returncode, p.stdout), (1, ""), p.stderr)
            self.assertIn("another", p.stderr)

    def test_dies_at_first(self):
        """A worker that dies at its start is tried again until it works; a signal meanwhile ends the server."""
        with tempfile.TemporaryDirectory() as d:
            self.fake(d, "die")
            process = subprocess.Popen([os.path.join(t.BUILD, "aiterd"), "--worker-dir", d, "--listen", "127.0.0.1:0", *SMALL],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            seen = ""
            while not re.search("(?i)signal|abort", seen):
                line = process.stderr.readline()
                self.assertTrue(line, "it ended: " + seen)
                seen += line
            os.remove(os.path.join(d, "orders"))
            self.assertRegex(process.stdout.readline(), "^listening on ")
            process.terminate()
            process.communicate(timeout=20)
            self.assertEqual(process.returncode, 0)
            self.fake(d, "silent")
            process = subprocess.Popen([os.path.join(t.BUILD, "aiterd"), "--worker-dir", d, "--listen", "127.0.0.1:0", *SMALL],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            until(lambda: os.path.exists("/proc/%d/task/%d/children" % (process.pid, process.pid)) and
                  open("/proc/%d/task/%d/children" % (process.pid, process.pid)).read(), "a worker was started")
            time.sleep(0.2)
            process.terminate()
            out, _ = process.communicate(timeout=20)
            self.assertEqual((process.returncode, out), (0, ""))


if __name__ == "__main__":
    unittest.main()
