"""Derive server/codec/pow10.h's table again from big integers; exits 1 when an entry differs."""

import re
import sys

text = open(sys.argv[1]).read()
lo = int(re.search(r"POW10_MIN \((-\d+)\)", text).group(1))
hi = int(re.search(r"POW10_MAX (\d+)", text).group(1))
found = [(int(a, 16), int(b, 16)) for a, b in re.findall(r"\{0x([0-9a-f]{16}), 0x([0-9a-f]{16})\}", text)]
wanted = []
for q in range(lo, hi + 1):
    # numerator / denominator = 10^q, scaled into [2^127, 2^128)
    num, den = (10**q, 1) if q >= 0 else (1, 10**-q)
    shift = 128 - (num.bit_length() - den.bit_length())
    value = (num << shift) // den if shift >= 0 else num // (den << -shift)
    while value >= 1 << 128:
        shift -= 1
        value = (num << shift) // den if shift >= 0 else num // (den << -shift)
    assert value >= 1 << 127
    wanted.append((value >> 64, value & (1 << 64) - 1))
if found != wanted:
    print("pow10.h: %d entries, %d wanted; first difference at %s" % (
        len(found), len(wanted), [i for i, (a, b) in enumerate(zip(found, wanted)) if a != b][:1]))
    sys.exit(1)
print("pow10.h: %d entries as derived" % len(found))
