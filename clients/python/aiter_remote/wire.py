"""Bodies: safetensors as a list of pieces that point into the arrays, and a reply read straight into new arrays."""
from __future__ import annotations

import json
import math
import struct
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .arrays import BY_SAFETENSORS, DTYPES, Operand
from .errors import AiterdError

__all__ = ["Make", "plain", "read_safetensors", "safetensors"]

#: make(name, dtype, shape) -> (array, its memory)
Make = Callable[[str, str, Sequence[int]], Tuple[Any, memoryview]]
LONGEST_HEAD = 100 << 20


def plain(value: Any) -> Any:
    """value as json.dumps takes it: numpy's and torch's numbers become Python's, tuples lists."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if getattr(value, "ndim", 1) == 0 and hasattr(value, "item"):
        return value.item()
    if hasattr(value, "shape"):  # only parameters that the service refuses by name have arrays for values
        return "a tensor of shape %s" % (list(value.shape),)
    return str(value)


def safetensors(tensors: Mapping[str, Operand], metadata: Mapping[str, str]) -> List[memoryview]:
    """The pieces of a file: its head, then each tensor's own memory."""
    head: Dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, t in tensors.items():
        head[name] = {"dtype": DTYPES[t.dtype].safetensors, "shape": list(t.shape), "data_offsets": [at, at + t.data.nbytes]}
        at += t.data.nbytes
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [memoryview(struct.pack("<Q", len(text)) + text)] + [t.data for t in tensors.values() if t.data.nbytes]


def _is_entry(name: str, t: Any) -> bool:
    """A head's member has the form that it must have."""
    def lengths(value: Any) -> bool:
        return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)
    if not isinstance(t, dict):
        return False
    if name == "__metadata__":
        return all(isinstance(v, str) for v in t.values())
    return (isinstance(t.get("dtype"), str) and lengths(t.get("shape")) and lengths(t.get("data_offsets"))
            and len(t["data_offsets"]) == 2)


def read_safetensors(readinto: Callable[[memoryview], None], make: Make) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """(arrays by name, metadata). readinto fills all of what it is given."""
    length = bytearray(8)
    readinto(memoryview(length))
    n = struct.unpack("<Q", length)[0]
    if n > LONGEST_HEAD:
        raise AiterdError("the reply is no safetensors file: its head would have %d bytes" % n)
    text = bytearray(n)
    readinto(memoryview(text))
    try:
        head = json.loads(text)
    except ValueError as e:
        raise AiterdError("the reply's safetensors head cannot be read: %s" % e) from None
    if not isinstance(head, dict) or not all(_is_entry(name, t) for name, t in head.items()):
        raise AiterdError("the reply's safetensors head is none: %.200s" % text.decode("utf-8", "replace"))
    metadata: Optional[Dict[str, str]] = head.pop("__metadata__", None)
    arrays: Dict[str, Any] = {}
    at = 0
    for name, t in sorted(head.items(), key=lambda item: list(item[1]["data_offsets"])):
        dtype = BY_SAFETENSORS.get(t["dtype"])
        if dtype is None:
            raise AiterdError("the reply's %s has the unknown dtype %s" % (name, t["dtype"]))
        begin, end = t["data_offsets"]
        wanted = math.prod(t["shape"]) * DTYPES[dtype].size
        if begin != at or end - begin != wanted:
            raise AiterdError("the reply's %s has %d bytes at %d, wanted %d at %d" % (name, end - begin, begin, wanted, at))
        array, memory = make(name, dtype, t["shape"])
        if memory.nbytes != wanted:
            raise AiterdError("the reply's %s has %d bytes, wanted %d" % (name, wanted, memory.nbytes))
        if memory.nbytes:
            readinto(memory)
        at = end
        arrays[name] = array
    return {name: arrays[name] for name in head}, metadata or {}
