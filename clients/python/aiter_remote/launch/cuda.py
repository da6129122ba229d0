"""torch.cuda as the service: device names, events, memory; and the functions that make tensors, which mark those asked
for on 'cuda'. Put in place by `install`; takes effect in this process only.
"""
from __future__ import annotations

import contextlib
import functools
import re
from types import SimpleNamespace
from typing import Any, Callable, Dict, Optional, Tuple

import torch

from .tensor import DEVICE, RemoteTensor, is_cuda, moved, service, wrap

__all__ = ["Event", "install", "real_gpu"]

# Functions of torch that make a tensor from nothing (or from data of the CPU).
_MAKERS = """arange as_tensor asarray empty empty_strided eye from_numpy full linspace logspace normal ones rand randint randn
    randperm scalar_tensor tensor zeros tril_indices triu_indices hann_window hamming_window""".split()
# Asked of a CPU tensor with device='cuda'.
_METHODS = "new_empty new_full new_ones new_tensor new_zeros".split()
_LIKE = "empty_like full_like ones_like rand_like randint_like randn_like zeros_like".split()


def real_gpu() -> Optional[str]:
    """The GPU that torch itself would use on this machine, if there is one."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return None


def _marking(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        device = kwargs.get("device")
        if device is None or not is_cuda(device):
            return make(*args, **kwargs)
        del kwargs["device"]
        kwargs.pop("pin_memory", None)
        with torch.inference_mode(False):
            found = _made_half(make, args, kwargs)
        if isinstance(found, RemoteTensor):
            return found
        # as_tensor and its like may share the CPU's memory; a GPU has its own
        shares = make.__name__ in ("as_tensor", "asarray", "from_numpy")
        return wrap(found.clone() if shares else found)
    return made


def _made_half(make: Callable[..., Any], args: Any, kwargs: Dict[str, Any]) -> Any:
    try:
        return make(*args, **kwargs)
    except RuntimeError as e:
        if kwargs.get("dtype") != torch.float16 or "not implemented for 'Half'" not in str(e):
            raise
    return make(*args, **{**kwargs, "dtype": torch.float32}).to(torch.float16)


class Event:
    """torch.cuda.Event. elapsed_time is the kernel time, as the service measured it, of the calls between two events."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self.enable_timing = enable_timing
        self._at: Optional[float] = None

    def record(self, stream: Any = None) -> None:
        self._at = service().kernel_ms

    def elapsed_time(self, end_event: "Event") -> float:
        if not (self.enable_timing and end_event.enable_timing):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        if self._at is None or end_event._at is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        return end_event._at - self._at

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass

    def wait(self, stream: Any = None) -> None:
        pass


class Stream:
    """torch.cuda.Stream: there is one, and calls are over when they return."""

    device = DEVICE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def wait_stream(self, stream: Any) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass

    def record_event(self, event: Optional[Event] = None) -> Event:
        event = event or Event()
        event.record()
        return event

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: Any) -> None:
        pass


def capability(arch: str) -> Tuple[int, int]:
    """(9, 4) of "gfx942", (9, 0) of "sm_90"; (0, 0) of what is no GPU."""
    m = re.match(r"(?:gfx|sm_)(\d+)([0-9a-f])", arch)
    if m is None:
        return 0, 0
    if arch.startswith("gfx"):  # gfx942 is 9.4.2: the last digit is the stepping
        m = re.match(r"gfx(\d+)([0-9a-f])[0-9a-f]", arch)
        return (int(m.group(1)), int(m.group(2), 16)) if m else (0, 0)
    return int(m.group(1)), int(m.group(2))


def _memory() -> Dict[str, int]:
    """The service's own figures of the device."""
    gpu = service()
    for device in gpu.client.info()["devices"]:
        if device["id"] == gpu.device["id"]:
            return dict(device["memory"])
    return dict(gpu.device["memory"])


def _properties(device: Any = None) -> SimpleNamespace:
    d = service().device
    major, minor = capability(d["arch"])
    return SimpleNamespace(name=d["name"], major=major, minor=minor, total_memory=d["memory"]["total"],
                           multi_processor_count=d["compute_units"], gcnArchName=d["arch"])


def _reset_peak(device: Any = None) -> None:
    gpu = service()
    gpu.peak = gpu.live


def _check_device(device: Any) -> None:
    index = device if isinstance(device, int) else torch.device(device).index
    if index not in (None, 0):
        raise RuntimeError("CUDA error: invalid device ordinal (there is one device, the service's %s)" %
                           service().device["id"])


def _cuda_functions() -> Dict[str, Any]:
    def nothing(*args: Any, **kwargs: Any) -> None:
        pass

    def seed(n: int) -> None:
        torch.default_generator.manual_seed(n)

    return {
        "is_available": lambda: True, "is_initialized": lambda: True, "init": nothing, "device_count": lambda: 1,
        "current_device": lambda: 0, "set_device": _check_device, "synchronize": nothing, "empty_cache": nothing,
        "ipc_collect": nothing, "_lazy_init": nothing, "is_bf16_supported": lambda *a: True,
        "get_device_name": lambda device=None: service().device["name"],
        "get_device_capability": lambda device=None: capability(service().device["arch"]),
        "get_device_properties": _properties, "get_arch_list": lambda: [service().device["arch"]],
        "Event": Event, "Stream": Stream, "current_stream": Stream, "default_stream": Stream,
        "stream": lambda stream: contextlib.nullcontext(stream), "device": lambda device: contextlib.nullcontext(device),
        "memory_allocated": lambda device=None: service().live, "memory_reserved": lambda device=None: service().live,
        "max_memory_allocated": lambda device=None: service().peak,
        "max_memory_reserved": lambda device=None: service().peak,
        "reset_peak_memory_stats": _reset_peak, "reset_max_memory_allocated": _reset_peak,
        "memory_stats": lambda device=None: {"allocated_bytes.all.current": service().live,
                                             "allocated_bytes.all.peak": service().peak},
        "mem_get_info": lambda device=None: (_memory()["free"], _memory()["total"]),
        "manual_seed": seed, "manual_seed_all": seed, "seed": nothing, "seed_all": nothing,
    }


def install() -> None:
    """Change torch in this process. The service must be set."""
    module: Any = torch
    for name in _MAKERS + _LIKE:
        if hasattr(module, name):
            setattr(module, name, _marking(getattr(module, name)))
    tensor: Any = torch.Tensor
    for name in _METHODS:
        setattr(tensor, name, _marking(getattr(tensor, name)))
    plain_to = tensor.to

    @functools.wraps(plain_to)
    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        target = [a for a in args if isinstance(a, (str, torch.device, int)) and not isinstance(a, bool)]
        target += [a.device for a in args if isinstance(a, RemoteTensor)]
        target += [kwargs["device"]] if kwargs.get("device") is not None else []
        if isinstance(self, RemoteTensor) or (target and is_cuda(target[0])):
            return moved(self, list(args), dict(kwargs))
        return plain_to(self, *args, **kwargs)

    tensor.to = to
    tensor.cuda = lambda self, *args, **kwargs: moved(self, ["cuda"], {})
    for name, function in _cuda_functions().items():
        setattr(torch.cuda, name, function)
    version: Any = torch.version
    device = service().device
    version.hip = (device["runtime"] or None) if device["kind"] == "hip" else None
