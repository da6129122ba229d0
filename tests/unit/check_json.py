"""Lines of "accepted hex-of-the-text" on stdin: does Python's json module, made strict, say the same?"""

import json
import sys


def no_duplicates(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def refuse(name):
    raise ValueError(name)


def accepts(text):
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # lone surrogates
        return "\\u0000" not in json.dumps(value)
    except (ValueError, UnicodeError):
        return False


lines = wrong = accepted = 0
for line in sys.stdin:
    verdict, _, text = line.strip().partition(" ")
    lines += 1
    accepted += verdict == "1"
    if accepts(bytes.fromhex(text)) != (verdict == "1"):
        wrong += 1
        print("ours %s: %r" % (verdict, bytes.fromhex(text)))
print("json: %d texts, %d accepted, %d differ" % (lines, accepted, wrong))
sys.exit(1 if wrong or lines < 1000 or not accepted else 0)
