#!/usr/bin/env python3
"""Our GPU kernels and PyTorch's side by side, from one run on one device: medians of event times, a buffer larger than the caches
overwritten before each run. Arguments: the program gpu_kernels built for CUDA, folder of code objects; then words that a line must
contain. Needs PyTorch. Prints a table; --json FILE keeps every figure."""

import json
import subprocess
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

FLUSH = 512 << 20
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
# dtype, batch, query length, key length, query heads, key/value heads, head dim, causal
ATTENTION = [
    ("fp16", 4, 1024, 1024, 16, 16, 64, 0), ("fp16", 8, 2048, 2048, 16, 16, 64, 0),
    ("fp16", 1, 512, 512, 8, 8, 64, 0), ("fp16", 4, 512, 512, 8, 8, 64, 0),
    ("fp16", 16, 512, 512, 8, 8, 64, 0), ("fp16", 64, 512, 512, 8, 8, 64, 0),
    ("bf16", 1, 8192, 8192, 32, 32, 128, 1), ("bf16", 1, 8192, 8192, 32, 8, 128, 1),
    ("fp32", 4, 1024, 1024, 16, 16, 64, 0), ("fp32", 8, 2048, 2048, 16, 16, 64, 0),
    ("fp32", 1, 4096, 4096, 16, 16, 128, 0), ("fp32", 4, 1024, 1024, 16, 16, 64, 1),
    ("fp32", 8, 2048, 2048, 16, 16, 64, 1), ("fp32", 1, 4096, 4096, 16, 16, 128, 1),
    ("fp32", 1, 512, 512, 8, 8, 64, 0), ("fp32", 1, 2048, 2048, 8, 8, 256, 0), ("fp32", 16, 1, 8192, 16, 16, 64, 0),
]
NAIVE = [("fp16", 4, 1024, 1024, 16, 16, 64, 0), ("fp32", 4, 1024, 1024, 16, 16, 64, 0)]
RMSNORM = [("fp16", 32768, 4096), ("bf16", 32768, 4096), ("fp32", 32768, 4096), ("fp16", 262144, 512), ("fp16", 65536, 1024),
           ("fp16", 16384, 8192), ("fp16", 8192, 16384), ("fp16", 1024, 4096), ("fp16", 1, 4096), ("fp16", 32768, 4095)]


class Device:
    def __init__(self, program, folder):
        self.flush = torch.empty(FLUSH, dtype=torch.uint8, device="cuda")
        self.ours = subprocess.Popen([program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def torch(self, call, repeats):
        """Microseconds, or None where PyTorch refuses."""
        try:
            for _ in range(3):
                call()
        except RuntimeError:
            return None
        times = []
        for i in range(repeats):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self.flush.fill_(i)
            begin.record()
            call()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) * 1000)
        return sorted(times)[repeats // 2]

    def own(self, line):
        self.ours.stdin.write(line + "\n")
        self.ours.stdin.flush()
        median, _, symbol = self.ours.stdout.readline().rstrip("\n").split(" ", 2)
        return (None if median == "-" else float(median)), symbol

    def close(self):
        self.ours.stdin.close()
        self.ours.wait()


def attention(device, case, naive):
    dtype, b, sq, sk, hq, hk, d, causal = case
    pairs = sq * sk if not causal else sq * sk / 2
    flop = 4 * b * hq * d * pairs
    repeats = 9 if flop > 2e12 else 21
    q = torch.randn(b, hq, sq, d, dtype=DTYPES[dtype], device="cuda")
    k, v = (torch.randn(b, hk, sk, d, dtype=DTYPES[dtype], device="cuda") for _ in range(2))
    # Ours are [B, S, H, D]; so are PyTorch's, seen as [B, H, S, D].
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
    ours, symbol = device.own(f"{'naive' if naive else 'own'} attn {dtype} {b} {sq} {sk} {hq} {hk} {d} {causal} {repeats}")
    row = {"case": f"{'unfused ' if naive else ''}attention {dtype} {b}x{sq}{f'/{sk}' if sk != sq else ''}x{hq}{f'/{hk}' if hk != hq else ''}x{d}"
                   + (" causal" if causal else ""), "symbol": symbol, "unit": "TFLOP/s", "ours": ours and flop / ours / 1e6}
    backends = [("math", SDPBackend.MATH)] if naive else [("flash", SDPBackend.FLASH_ATTENTION),
                                                           ("efficient", SDPBackend.EFFICIENT_ATTENTION),
                                                           ("cudnn", SDPBackend.CUDNN_ATTENTION)]
    for name, backend in backends:
        def call():
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, is_causal=bool(causal), enable_gqa=hk != hq)
        us = device.torch(call, repeats)
        row[name] = us and flop / us / 1e6
    return row


def rmsnorm(device, case, naive):
    dtype, rows, n = case
    x = torch.randn(rows, n, dtype=DTYPES[dtype], device="cuda")
    weight = torch.randn(n, dtype=DTYPES[dtype], device="cuda")
    out = torch.empty_like(x)
    moved = 2 * x.numel() * x.element_size()
    ours, symbol = device.own(f"{'naive' if naive else 'own'} rmsnorm {dtype} {rows} {n} 21")
    row = {"case": f"{'unfused ' if naive else ''}rmsnorm {dtype} {rows}x{n}", "symbol": symbol, "unit": "GB/s",
           "ours": ours and moved / ours / 1e3}
    if naive:
        calls = [("eager", lambda: x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6).to(x.dtype) * weight)]
    else:
        calls = [("rms_norm", lambda: F.rms_norm(x, (n,), weight, 1e-6)), ("copy", lambda: out.copy_(x))]
    for name, call in calls:
        us = device.torch(call, 21)
        row[name] = us and moved / us / 1e3
    return row


def main():
    args = sys.argv[1:]
    keep = args.pop(args.index("--json") + 1) if "--json" in args else None
    args = [a for a in args if a != "--json"]
    device = Device(*args[:2])
    rows = []
    columns = ["ours", "flash", "efficient", "cudnn", "math", "rms_norm", "eager", "copy"]
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    print("| case | unit | " + " | ".join(columns) + " | kernel |\n|---|---|" + "---|" * (len(columns) + 1))
    for measure, cases, naive in ((attention, ATTENTION, False), (attention, NAIVE, True), (rmsnorm, RMSNORM, False),
                                  (rmsnorm, RMSNORM[:1], True)):
        for case in cases:
            name = " ".join(map(str, (measure.__name__, *case)))
            if any(word not in name for word in args[2:]):
                continue
            row = measure(device, case, naive)
            rows.append(row)
            print(f"| {row['case']} | {row['unit']} | "
                  + " | ".join(f"{row[c]:.0f}" if row.get(c) else "" for c in columns) + f" | {row['symbol']} |", flush=True)
    device.close()
    if keep:
        with open(keep, "w") as f:
            json.dump(rows, f, indent=1)


main()
