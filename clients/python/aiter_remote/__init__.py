"""aiter_remote: AITER's operators on a machine without a GPU, computed by an aiterd server over HTTP.

    import numpy as np, aiter_remote
    q, k, v = (np.random.standard_normal((2, 512, 8, 64)).astype(np.float16) for _ in range(3))
    out = aiter_remote.flash_attn_func(q, k, v, causal=True)
    print(aiter_remote.last_stats()["kernel_ms"]["median"])

The server is AITERD_URL (default http://127.0.0.1:8000), or what configure() is given. Arrays are numpy's or torch CPU
tensors, and results are of the same kind. `python3 -m aiter_remote SCRIPT` runs a script written for torch and AITER on a
GPU, see README.md.
"""
import importlib.util as _util
import sys as _sys

if _util.find_spec("numpy") is None:
    raise ImportError("aiter_remote needs numpy, and %s has none (Debian: apt install python3-numpy, which is for "
                      "/usr/bin/python3; else pip install numpy)" % _sys.executable, name="numpy")

from .arrays import DTYPES
from .bf16 import BF16
from .client import Client, Job, Outputs, Verdict, last_stats, options
from .errors import AiterdError, NotOffered, ServerUnreachable
from .ops import (bench, check, configure, default_client, flash_attn_func, flash_attn_varlen_func, get, put, rms_norm,
                  rmsnorm, rmsnorm2d_fwd, submit)
from .sources import Generated, Kept, generated, kept

__version__ = "0.1.0"

#: What is AITER's; the rest is this package's own.
AITER_NAMES = ("flash_attn_func", "flash_attn_varlen_func", "rms_norm", "rmsnorm", "rmsnorm2d_fwd")

__all__ = [
    "AITER_NAMES", "AiterdError", "BF16", "Client", "DTYPES", "Generated", "Job", "Kept", "NotOffered", "Outputs",
    "ServerUnreachable", "Verdict", "bench", "check", "configure", "default_client", "flash_attn_func",
    "flash_attn_varlen_func", "generated", "get", "kept", "last_stats", "options", "put", "rms_norm", "rmsnorm",
    "rmsnorm2d_fwd", "submit",
]
