"""Refuses to build or install where a real AITER is. One module and no package: where both land in one folder, Python
takes the package, which is AITER's, and no file of it is overwritten.
"""
import importlib.machinery
import importlib.metadata
import os
import site
import sys
import sysconfig

from setuptools import setup

HERE = os.path.dirname(os.path.abspath(__file__))


def real_aiter():
    """Where it is. pip may hide what is installed from a build, so the usual folders are looked at as well."""
    places = sys.path + site.getsitepackages() + [site.getusersitepackages(), sysconfig.get_path("purelib"),
                                                  sysconfig.get_path("platlib")]
    places = [p for p in dict.fromkeys(places) if p and os.path.realpath(p) != os.path.realpath(HERE)]
    for d in importlib.metadata.distributions(path=places):
        if (d.metadata["Name"] or "").lower().replace("_", "-") in ("amd-aiter", "aiter"):
            return "the distribution %s %s" % (d.metadata["Name"], d.version)
    for place in places:
        spec = importlib.machinery.PathFinder.find_spec("aiter", [place])
        if spec is not None and spec.origin is not None:
            with open(spec.origin, encoding="utf-8", errors="replace") as f:
                if "aiter_remote's stand-in for AITER" not in f.read(4096):
                    return spec.origin
    return None


found = real_aiter()
if found:
    sys.exit("aiter-remote-shim is not installed: AITER itself is (%s)" % found)
setup()
