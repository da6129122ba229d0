"""python3 -m aiter_remote [OPTION]... SCRIPT [ARGUMENT]..."""
from __future__ import annotations

import argparse
import os
import runpy
import sys
import types
from typing import Any, List, Optional

from .. import AITER_NAMES, __version__, ops
from ..errors import AiterdError, ServerUnreachable
from ..real_aiter import real_aiter

__all__ = ["main"]

_DESCRIPTION = """Run a Python script that was written for AITER (and torch) on a GPU: `import aiter` is this package, tensors
on 'cuda' are CPU tensors that are marked, AITER's functions on them run on an aiterd server, and torch.cuda's events and
memory figures are that server's."""


def _arguments(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python3 -m aiter_remote", description=_DESCRIPTION)
    parser.add_argument("--url", help="the server (default: AITERD_URL, else http://127.0.0.1:8000)")
    parser.add_argument("--device", help="the server's device, an id from /v1/info (default: its first)")
    parser.add_argument("--impl", help="auto, aiter, own, naive or reference, for AITER's functions")
    parser.add_argument("--fetch", action="store_true",
                        help="fetch every result at once; default: it stays on the server until it is looked at")
    parser.add_argument("--send", action="store_true",
                        help="send inputs with every call; default: the server keeps them while they live")
    parser.add_argument("--local-attention", action="store_true",
                        help="compute attention that is written out in torch here; default: on the server, unfused")
    parser.add_argument("--force", action="store_true", help="also where there is a real GPU or a real AITER")
    parser.add_argument("--version", action="version", version="aiter_remote " + __version__)
    parser.add_argument("script", help="a file")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's")
    return parser.parse_args(argv)


def aiter_module() -> Any:
    """The module `aiter`."""
    import aiter_remote
    module: Any = types.ModuleType("aiter", "AITER's functions, computed by an aiterd server (aiter_remote %s)." % __version__)
    for name in AITER_NAMES:
        setattr(module, name, getattr(ops, name))
    module.__version__ = "%s (aiter_remote)" % __version__
    module.__all__ = list(AITER_NAMES)
    module.__file__ = aiter_remote.__file__
    module.last_stats = aiter_remote.last_stats
    module.options = aiter_remote.options
    return module


def _install(o: argparse.Namespace) -> None:
    """aiter, and torch if it is there."""
    more = {name: value for name, value in (("device", o.device),) if value}
    client = ops.configure(o.url, **more)
    try:
        client.info()  # better to say now than in the middle of the script that nobody answers
    except ServerUnreachable as e:
        raise AiterdError("%s. Is aiterd running there? --url or AITERD_URL says where it is" % e) from e
    try:
        import torch
    except ImportError:
        torch = None  # type: ignore[assignment]
    if torch is not None:
        from . import attention, buffers, cuda, tensor
        gpu = None if o.force else cuda.real_gpu()
        if gpu:
            raise AiterdError("torch has a GPU here (%s): run the script with plain python3, or give --force" % gpu)
        tensor.set_service(buffers.Service(client, resident=not o.send))
        attention.install(not o.local_attention, o.fetch, o.impl)
        cuda.install()
    elif o.impl:
        client.run_options["impl"] = o.impl
    sys.modules["aiter"] = aiter_module()


def main(argv: Optional[List[str]] = None) -> None:
    o = _arguments(sys.argv[1:] if argv is None else argv)
    real = None if o.force else real_aiter()
    try:
        if real:
            raise AiterdError("AITER itself is installed (%s): run the script with plain python3, or give --force" % real)
        if not os.path.exists(o.script):
            raise AiterdError("there is no file %s" % o.script)
        _install(o)
    except AiterdError as e:
        sys.exit("aiter_remote: %s" % e)
    sys.argv = [o.script] + o.arguments
    sys.path[0] = os.path.dirname(os.path.abspath(o.script))
    runpy.run_path(o.script, run_name="__main__")
