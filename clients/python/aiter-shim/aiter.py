"""aiter_remote's stand-in for AITER: the module name `aiter` on machines that have no AITER. Its functions are computed
by an aiterd server, see aiter_remote. It refuses to be imported where a real AITER is installed.
"""
from aiter_remote import __version__ as _version
from aiter_remote import (flash_attn_func, flash_attn_varlen_func, last_stats, options, rms_norm, rmsnorm,
                          rmsnorm2d_fwd)
from aiter_remote.real_aiter import real_aiter as _real_aiter

_real = _real_aiter()
if _real is not None:
    raise ImportError("aiter-remote-shim stands in the way of another aiter, %s: remove one of them "
                      "(pip uninstall aiter-remote-shim)" % _real)

__version__ = "%s (aiter_remote)" % _version
__all__ = ["flash_attn_func", "flash_attn_varlen_func", "rms_norm", "rmsnorm", "rmsnorm2d_fwd"]
