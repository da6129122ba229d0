"""Memory of tensors that a script believes to be on the GPU: held here, on the service, or on both; and the account
of it, of kernel times and of what was called. Tensors that share memory share a Buffer.
"""
from __future__ import annotations

import atexit
import secrets
import sys
import threading
import weakref
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import torch

from ..arrays import operand
from ..client import Client
from ..errors import AiterdError
from ..sources import Kept

__all__ = ["Buffer", "Service", "fetch", "form_of", "version_of"]

# What a view is, apart from its memory: shape, strides, offset.
Form = Tuple[Tuple[int, ...], Tuple[int, ...], int]


def form_of(t: Any) -> Form:
    return tuple(t.shape), tuple(t.stride()), t.storage_offset()


def version_of(t: Any) -> Optional[int]:
    """Grows whenever the memory is written to; None where torch does not count (inference mode)."""
    try:
        return int(t._version)
    except RuntimeError:
        return None


class Service:
    """The server as the script's GPU: names of tensors kept there, memory in use, kernel milliseconds so far."""

    # Names whose tensor is gone here are used again for outputs; beyond so many bytes they are deleted there.
    LONGEST_UNUSED = 256 << 20

    def __init__(self, client: Client, resident: bool = True) -> None:
        self.client, self.resident = client, resident
        self.lock = threading.RLock()
        self.info: Dict[str, Any] = client.info()
        wanted = client.run_options.get("device")
        found = [d for d in self.info["devices"] if wanted in (None, "auto", d["id"], d["kind"])]
        if not found:
            raise AiterdError("there is no device %r at %s; there is %s" % (
                wanted, client.url, ", ".join(d["id"] for d in self.info["devices"])))
        self.device: Dict[str, Any] = found[0]
        self.live = self.peak = 0
        self.kernel_ms = 0.0
        self.calls = 0
        self._prefix = "py-" + secrets.token_hex(6) + "-"
        self._count = 0
        self._unused: List[Tuple[str, int]] = []
        self._told: Set[str] = set()
        atexit.register(self._forget_all)

    def tell(self, text: str) -> None:
        """Once, on standard error."""
        if text not in self._told:
            self._told.add(text)
            print("aiter_remote: " + text, file=sys.stderr, flush=True)

    # Memory

    def allocated(self, size: int) -> None:
        with self.lock:
            self.live += size
            self.peak = max(self.peak, self.live)

    def freed(self, size: int, names: List[str]) -> None:
        with self.lock:
            self.live -= size
            self._unused += [(name, size) for name in names]

    def called(self, stats: Dict[str, Any]) -> None:
        """A run is over: its kernel time, and the high-water mark its outputs and workspace made."""
        if "timing_ms" not in stats:  # dry_run
            return
        with self.lock:
            self.calls += 1
            self.kernel_ms += float(stats["timing_ms"]["kernel"])
            if stats["device"].get("timing_meaningless"):
                self.tell("%s is emulated: its times mean nothing" % stats["device"]["id"])
            memory = stats["memory"]
            self.peak = max(self.peak, self.live + int(memory["outputs"]) + int(memory["overhead"]))

    # Names on the service

    def new_name(self) -> str:
        """For an output: one whose tensor nobody has any more, or a new one."""
        with self.lock:
            if self._unused:
                return self._unused.pop()[0]
            self._count += 1
            return "%s%d" % (self._prefix, self._count)

    def tidy(self) -> None:
        with self.lock:
            while sum(size for _, size in self._unused) > self.LONGEST_UNUSED or len(self._unused) > 64:
                self.client.delete(self._unused.pop(0)[0])

    def _forget_all(self) -> None:
        try:
            for name, _ in self._unused:
                self.client.delete(name)
            for buffer in list(_alive):
                if buffer.service is self:
                    for name in {name for name, _ in buffer.names.values()}:
                        self.client.delete(name)
        except AiterdError:
            pass  # they end by themselves, some time after their last use

    def upload(self, t: Any) -> Optional[str]:
        """Keep this tensor on the service; None where it keeps none, or has no room."""
        if not self.resident:
            return None
        name = self.new_name()
        try:
            self.client.put(name, t, known_absent=True)
        except AiterdError as e:
            if e.status in (404, 405, 501):
                self.resident = False
                self.tell("this service keeps no tensors: they are sent with every call")
                return None
            if e.status in (413, 507):
                self.tell("the service has no room to keep a tensor (%s): it is sent with every call" % e)
                return None
            raise
        return name


_alive: "weakref.WeakSet[Buffer]" = weakref.WeakSet()


class Buffer:
    """`memory`: a dense tensor here. `fill`: what will write its contents, None once they are there. `names`: what
    the service keeps of it, by view, with the version of the memory that it had."""

    def __init__(self, service: Service, memory: Any, fill: Optional[Callable[[Any], None]] = None) -> None:
        self.service, self.memory, self.fill = service, memory, fill
        self.names: Dict[Form, Tuple[str, Optional[int]]] = {}
        self.dependents: "weakref.WeakSet[Buffer]" = weakref.WeakSet()
        self.size = 0
        self._ends: Any = None
        _alive.add(self)

    def count(self) -> None:
        """It takes memory on the device from now on."""
        self.size = self.memory.numel() * self.memory.element_size()
        self.service.allocated(self.size)
        # names is a dict of its own that the finaliser may hold
        self._ends = weakref.finalize(self, _ended, self.service, self.size, self.names)
        self._ends.atexit = False

    def here(self) -> None:
        """See that the contents are here."""
        if self.fill is None:
            return
        with self.service.lock:
            if self.fill is not None:
                fill, self.fill = self.fill, None
                try:
                    with torch.no_grad():
                        fill(self.memory)
                except BaseException:
                    self.fill = fill
                    raise
                if not self.size:
                    self.count()
                # what the service keeps is what was just written
                for form, (name, _) in list(self.names.items()):
                    self.names[form] = (name, version_of(self.memory))

    def before_writing(self) -> None:
        """What was put off and reads this memory must be done first."""
        for other in list(self.dependents):
            other.here()
        self.dependents.clear()

    def on_service(self, view: Any) -> Any:
        """What to send for this view (a plain tensor) of the memory: kept(...), or the tensor itself."""
        form = form_of(view)
        name, version = self.names.get(form, (None, None))
        if name is not None and (self.fill is not None or (version is not None and version == version_of(self.memory))):
            return Kept(name)
        self.here()
        dense = view.detach().contiguous()
        name = self.service.upload(dense)
        if name is None:
            return dense
        old = self.names.get(form)
        if old is not None:
            self.service.freed(0, [old[0]])
        self.names[form] = (name, version_of(self.memory))
        return Kept(name)

    def lost(self) -> None:
        """The service forgot what it kept of this."""
        if self.fill is not None and self.names:
            raise _gone(self.memory)
        self.names.clear()


def _gone(memory: Any) -> AiterdError:
    return AiterdError("the service no longer has a result of %s that was left there (it keeps tensors for a limited time, "
                       "and while there is room); with --fetch results are sent at once" % (list(memory.shape),))


def _ended(service: Service, size: int, names: Dict[Form, Tuple[str, Optional[int]]]) -> None:
    service.freed(size, list({name for name, _ in names.values()}))


def fetch(service: Service, name: str) -> Callable[[Any], None]:
    """What fills a buffer with a tensor the service keeps."""
    def fill(memory: Any) -> None:
        try:
            service.client.get_into(name, operand(memory).data)
        except AiterdError as e:
            if e.status == 404:
                raise _gone(memory) from e
            raise
    return fill

