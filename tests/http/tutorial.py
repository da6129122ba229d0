"""AITER's tutorial "Basic Usage" (tests/data/basic_usage.rst) block by block: each Python block, as it stands there, is a
script of its own under `python3 -m aiter_remote`. Used by test_tutorial.py and long_tutorial.py.
"""
import os
import re
import subprocess
import sys
import tempfile
import textwrap

import aiterd_test as t

PACKAGE = os.path.join(t.HERE, "..", "..", "clients", "python")
TEXT = os.path.join(t.HERE, "..", "data", "basic_usage.rst")


def blocks():
    """The Python blocks, as {title of their section: text}."""
    found, title, lines = {}, None, open(TEXT, encoding="utf-8").read().split("\n")
    at = 0
    while at < len(lines):
        if at + 1 < len(lines) and re.fullmatch(r"[=\-^]{4,}", lines[at + 1]):
            title = lines[at]
        if lines[at].strip() == ".. code-block:: python":
            start = at = at + 1
            while at < len(lines) and (not lines[at].strip() or lines[at].startswith("   ")):
                at += 1
            if title in found:
                raise AssertionError("two blocks in the section %s" % title)
            found[title] = textwrap.dedent("\n".join(lines[start:at])).strip() + "\n"
        else:
            at += 1
    return found


def run(server, script, *options, after="", limit=500, expect=0):
    """(standard output's lines, standard error). `after` is run in the script's place once it is over, with its names."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "block.py")
        with open(path, "w", encoding="utf-8") as f:
            f.write(script)
        start = [path]
        if after:
            # the block itself stays as it is: another script runs it and looks at what it left
            start = [os.path.join(folder, "look.py")]
            with open(start[0], "w", encoding="utf-8") as f:
                f.write("import runpy\nglobals().update(runpy.run_path(%r, run_name='__main__'))\n" % path)
                f.write("print('-- after')\n" + textwrap.dedent(after))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AITERD_")}
        environment.update(PYTHONPATH=PACKAGE, AITERD_URL=server.url, PYTHONIOENCODING="utf-8")
        done = subprocess.run([sys.executable, "-m", "aiter_remote", *options, *start], env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=limit)
    if done.returncode != expect:
        raise AssertionError("status %d:\n%s\n%s" % (done.returncode, done.stdout, done.stderr))
    return done.stdout.splitlines(), done.stderr


def match(test, lines, *patterns):
    """Each line matches its pattern, and there is no other; the groups, as floats."""
    test.assertEqual(len(lines), len(patterns), "\n".join(lines))
    found = []
    for line, pattern in zip(lines, patterns):
        m = re.fullmatch(pattern, line)
        test.assertIsNotNone(m, "%r is not %r" % (line, pattern))
        found += map(float, m.groups())
    return found


# float64 attention of marked tensors, and the largest difference of an output from it; used within scripts
REFERENCE = """
def reference(q, k, v, causal=False):
    q, k, v = (x.cpu().double().transpose(1, 2) for x in (q, k, v))
    s = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if causal:
        s = s.masked_fill(torch.ones(s.shape[-2:]).triu(1 + s.shape[-1] - s.shape[-2]).bool(), float('-inf'))
    return (s.softmax(-1) @ v).transpose(1, 2)
def off(out, want):
    return float((out.cpu().double() - want).abs().max())
"""

MS = r"(\d+\.\d\d) ms"


def check_comparison(test, lines, repeats):
    """The comparison's four lines, and what `after` printed of both results. The times are divided by 100 in the block."""
    aiter_ms, torch_ms, speedup, difference = match(
        test, lines[:4], "AITER time: " + MS, "PyTorch time: " + MS, r"Speedup: (\d+\.\d\d)x", r"Max difference: (\d\.\d{6})")
    if repeats == 100:
        # both were rounded for printing
        low, high = (torch_ms - 0.006) / (aiter_ms + 0.006), (torch_ms + 0.006) / max(aiter_ms - 0.006, 1e-9)
        test.assertTrue(low - 0.006 <= speedup <= high + 0.006, lines)
    test.assertGreater(aiter_ms, 0)
    test.assertGreater(torch_ms, 0)
    test.assertLess(difference, 2e-3)
    off_aiter, off_torch, off_each = match(test, lines[4:], "-- after", r"(\S+) (\S+) (\S+)")
    for off in (off_aiter, off_torch):
        test.assertLess(off, 1e-3)
        test.assertGreater(off, 0)  # fp16 is not exact: this compared two different things
    test.assertAlmostEqual(off_each, difference, delta=1e-6)


AFTER_COMPARISON = REFERENCE + """
want = reference(q[:1], k[:1], v[:1])
print(off(out_aiter[:1], want), off(out_pytorch[:1], want), float((out_aiter.cpu().double() - out_pytorch.cpu().double()).abs().max()))
"""
