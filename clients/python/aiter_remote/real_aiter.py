"""Whether a real AITER (or another module of its name) is installed here: then nothing of ours may stand in its place."""
from __future__ import annotations

import importlib.machinery
import os
import sys
from typing import Optional

__all__ = ["MARK", "real_aiter"]

#: Stands in the head of the module that the distribution aiter-remote-shim installs.
MARK = "aiter_remote's stand-in for AITER"


def real_aiter() -> Optional[str]:
    """Where a module `aiter` is that is not our stand-in. Nothing is imported."""
    for entry in sys.path:
        spec = importlib.machinery.PathFinder.find_spec("aiter", [entry or os.getcwd()])
        if spec is None:
            continue
        if spec.origin is None:  # a folder without __init__.py, on no path of an installed package
            continue
        try:
            with open(spec.origin, encoding="utf-8", errors="replace") as f:
                if MARK in f.read(4096):
                    continue
        except OSError:
            pass
        return spec.origin
    return None
