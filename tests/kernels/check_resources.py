#!/usr/bin/python3
"""Reads the AMDGPU metadata of code objects and fails if a kernel spills, uses scratch memory, or asks for more than a
compute unit of gfx942 has. Prints registers, LDS and waves per SIMD of each. Arguments: code objects; needs llvm-readobj
(LLVM_READOBJ in the environment names another one)."""

import os
import re
import subprocess
import sys

LDS_MAX, REGISTERS, WAVES_MAX, SIMDS = 65536, 512, 8, 4


def kernels(path):
    tool = os.environ.get("LLVM_READOBJ", "llvm-readobj-19")
    text = subprocess.run([tool, "--notes", path], check=True, capture_output=True, text=True).stdout
    text = text[text.index("amdhsa.kernels:"):text.index("amdhsa.target")]
    # A kernel's own fields are indented by four; its arguments' by more.
    for part in re.split(r"\n  - ", text)[1:]:
        yield dict(re.findall(r"^(?: {4})?\.(\w+):\s+(\S+)", part, re.M))


def waves(k):
    """Waves a SIMD holds: registers come in eights out of 512; LDS belongs to workgroups, whole on a compute unit."""
    vgprs = (int(k["vgpr_count"]) + 7) // 8 * 8
    by_registers = min(WAVES_MAX, REGISTERS // max(vgprs, 8))
    group = int(k["max_flat_workgroup_size"]) // 64
    lds = int(k["group_segment_fixed_size"])
    groups = by_registers * SIMDS // group
    if lds:
        groups = min(groups, LDS_MAX // lds)
    return groups * group / SIMDS


def main():
    passed = failed = 0
    for path in sys.argv[1:]:
        for k in kernels(path):
            wrong = [f"{name} {k[name]}" for name in
                     ("private_segment_fixed_size", "vgpr_spill_count", "sgpr_spill_count") if int(k[name])]
            if int(k["group_segment_fixed_size"]) > LDS_MAX:
                wrong.append("LDS " + k["group_segment_fixed_size"])
            if int(k["vgpr_count"]) > REGISTERS or waves(k) < 1:
                wrong.append("does not fit a compute unit")
            print(f"{k['name']:28} vgpr {k['vgpr_count']:>3} of which agpr {k['agpr_count']:>3}, sgpr {k['sgpr_count']:>3}, "
                  f"LDS {k['group_segment_fixed_size']:>5}, waves/SIMD {waves(k):g}"
                  + (": " + ", ".join(wrong) if wrong else ""))
            failed += bool(wrong)
            passed += not wrong
    print(f"COUNTS {passed} {failed} 0")
    return failed != 0 or passed == 0


sys.exit(main())
