#!/usr/bin/python3
"""README.md against the built server: runs its shell blocks in order, as a reader would paste them, and holds its
tables and links against the program and the tree.

  tests/docs/readme.py                 run; the last line is "N passed, N failed"; status 1 if any failed
  tests/docs/readme.py --show          also print what each block printed
  tests/docs/readme.py --options       print the table of options from --help, to paste into README.md

A block that begins with ```sh and has `<!-- run -->` above it is run; each `<!-- expect: TEXT -->` there must be found
in what it prints. All blocks run in one new folder, and talk to one server on a free port: 127.0.0.1:8000 is replaced
by its address, which is in AITERD_URL, too; what was built is in PATH. AITERD_BUILDDIR is where aiterd was built (default: build), AITERD_SRCDIR the checkout.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
SRC = os.path.abspath(os.environ.get("AITERD_SRCDIR", os.path.join(HERE, "..", "..")))
BUILD = os.path.abspath(os.environ.get("AITERD_BUILDDIR", os.path.join(SRC, "build")))
ADDRESS = "127.0.0.1:8000"
BLOCK_SECONDS = 300


class Block:
    def __init__(self, line, expect):
        self.line, self.expect, self.text = line, expect, ""


def runnable(readme):
    """The blocks to run, in order."""
    blocks, marks, run, block, fence = [], [], False, None, False
    for number, line in enumerate(readme.split("\n"), 1):
        if fence:
            if line.startswith("```"):
                fence, block = False, None
            elif block:
                block.text += line + "\n"
        elif line.startswith("```"):
            fence = True
            if run and line.rstrip() != "```sh":
                raise SystemExit("README.md:%d: <!-- run --> stands above a block that is not sh" % number)
            if run:
                block = Block(number, marks)
                blocks.append(block)
            elif marks:
                raise SystemExit("README.md:%d: <!-- expect --> without <!-- run -->" % number)
            run, marks = False, []
        elif line.strip() == "<!-- run -->":
            run = True
        elif line.startswith("<!-- expect: ") and line.rstrip().endswith(" -->"):
            marks.append(line.rstrip()[len("<!-- expect: "):-len(" -->")])
        elif line.strip() and run:
            raise SystemExit("README.md:%d: <!-- run --> is not followed by a block" % number)
    if fence or run:
        raise SystemExit("README.md: a block is not closed")
    return blocks


class Server:
    def __init__(self, folder):
        self.log = open(os.path.join(folder, "server.log"), "w+", encoding="utf-8")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AITERD_") and k != "AITER_ASM_DIR"}
        self.process = subprocess.Popen([os.path.join(BUILD, "aiterd"), "--listen", "127.0.0.1:0"], env=environment,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        found = re.match(r"listening on http://(\S+)$", line)
        if not found:
            self.stop()
            raise SystemExit("aiterd did not start: %r\n%s" % (line, self.words()))
        self.address = found.group(1)

    def words(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "killed"


def run_block(block, folder, environment, address):
    """None, or what is wrong; and what it printed."""
    text = block.text.replace(ADDRESS, address)
    # a session of its own: what outlives its time goes with its children
    child = subprocess.Popen(["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment, text=True,
                             errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, start_new_session=True)
    try:
        printed = child.communicate(timeout=BLOCK_SECONDS)[0].replace(address, ADDRESS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        return "took more than %d s" % BLOCK_SECONDS, child.communicate()[0]
    if child.returncode:
        return "ended with status %d" % child.returncode, printed
    for words in block.expect:
        if words not in printed:
            return "did not print %r" % words, printed
    return None, printed


def options_table():
    """--help as a table: option, default, what it is for. The variable's name follows from the option's."""
    text = subprocess.run([os.path.join(BUILD, "aiterd"), "--help"], check=True, stdout=subprocess.PIPE,
                          text=True).stdout
    rows = ["| option | default | |", "| --- | --- | --- |"]
    for name, arg, default, words in re.findall(
            r"^  --(\S+) (\S+)  \(AITERD_\w+\)(?: \[([^]]*)\])?\n((?:        .*\n)+)", text, re.M):
        words = " ".join(words.split()).replace("|", "\\|").replace("*", "\\*")
        rows.append("| `--%s %s` | %s | %s |" % (name, arg, "`%s`" % default if default else "", words))
    return rows


def between(readme, mark):
    found = re.search(r"<!-- %s -->\n(.*?)\n<!-- /%s -->" % (mark, mark), readme, re.S)
    return found.group(1).split("\n") if found else []


def operators_wrong(readme, address):
    """The table of operators names the same operators, inputs and parameters as the catalogue."""
    wrong, rows = [], {}
    for line in between(readme, "operators")[2:]:
        cells = line.split("|")
        rows[cells[1].strip().strip("`")] = set(re.findall(r"`(\w+)`", "|".join(cells[2:])))
    with urllib.request.urlopen("http://%s/v1/ops" % address) as reply:
        names = [op["name"] for op in json.load(reply)["ops"]]
    if set(names) != set(rows):
        wrong.append("the table has %s, the server %s" % (sorted(rows), sorted(names)))
    for name in names:
        with urllib.request.urlopen("http://%s/v1/ops/%s" % (address, name)) as reply:
            op = json.load(reply)
        said = rows.get(name, set())
        missing = [x["name"] for x in op["inputs"] + op["outputs"] + op["params"] if x["name"] not in said]
        if missing:
            wrong.append("%s: the table does not name %s" % (name, ", ".join(missing)))
    return wrong


def links_wrong(readme):
    return [target for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", readme)
            if "://" not in target and not os.path.exists(os.path.join(SRC, target))]


def main():
    with open(os.path.join(SRC, "README.md"), encoding="utf-8") as f:
        readme = f.read()
    passed, failed = 0, 0

    def verdict(name, problem, printed=""):
        nonlocal passed, failed
        if problem:
            failed += 1
            print("FAIL README.md %s: %s\n%s" % (name, problem, printed), flush=True)
        else:
            passed += 1
            print("ok   README.md %s" % name, flush=True)

    if not os.access(os.path.join(BUILD, "aiterd"), os.X_OK):
        raise SystemExit("readme.py: there is no aiterd in %s; AITERD_BUILDDIR says where it was built" % BUILD)
    show = "--show" in sys.argv
    blocks = runnable(readme)
    folder = tempfile.mkdtemp(prefix="aiterd-readme-")
    # Debian's Python has numpy, whatever stands first in PATH
    os.mkdir(os.path.join(folder, "bin"))
    os.symlink(sys.executable, os.path.join(folder, "bin", "python3"))
    environment = dict(os.environ, PATH=os.path.join(folder, "bin") + os.pathsep + os.environ.get("PATH", ""),
                       LC_ALL="C.UTF-8", PYTHONPATH=os.path.join(SRC, "clients", "python"))  # as if installed
    work = os.path.join(folder, "work")
    os.mkdir(work)
    server = None
    try:
        server = Server(folder)
        environment["AITERD_URL"] = "http://" + server.address
        environment["PATH"] = BUILD + os.pathsep + environment["PATH"]
        verdict("has blocks to run", None if blocks else "there are none")
        for block in blocks:
            problem, printed = run_block(block, work, environment, server.address)
            verdict("line %d" % block.line, problem, printed)
            if show:
                print("$ " + block.text.replace("\n", "\n  ").rstrip() + "\n" + printed)
        wrong = operators_wrong(readme, server.address)
        verdict("table of operators", "\n".join(wrong) or None)
        status = server.stop()
        verdict("the server stops cleanly", None if status == 0 else "status %s" % status, server.words())
    finally:
        if server:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    same = between(readme, "options") == options_table()
    verdict("table of options", None if same else "it is not what --options prints", "\n".join(options_table()))
    wrong = links_wrong(readme)
    verdict("links", "nothing is at " + ", ".join(wrong) if wrong else None)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    if "--options" in sys.argv:
        print("\n".join(options_table()))
        sys.exit(0)
    sys.exit(main())
