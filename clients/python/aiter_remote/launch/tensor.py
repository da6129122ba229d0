"""RemoteTensor: what torch.randn(..., device='cuda') gives under the launcher. A CPU tensor that says it is on
cuda:0; AITER's functions on it run on the service, everything else is computed here, in fp32 where this torch has no
half precision on the CPU.
"""
from __future__ import annotations

import warnings
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch

from .buffers import Buffer, Service

__all__ = ["DEVICE", "RemoteTensor", "is_cuda", "plain_of", "put_off", "service", "set_service", "wrap"]

DEVICE = torch.device("cuda", 0)
_service: Optional[Service] = None


def set_service(made: Service) -> None:
    global _service
    _service = made


def service() -> Service:
    assert _service is not None
    return _service


#: Asked first, with (name, args, kwargs): attention.py's, which puts off what may become attention on the service.
recognise: Callable[[str, Any, Any], Any] = lambda name, args, kwargs: NotImplemented

# Told without looking at the numbers.
_ABOUT = frozenset("""shape dtype ndim size dim numel nelement element_size stride storage_offset is_contiguous layout
    requires_grad is_leaf grad_fn names is_floating_point is_complex is_sparse is_quantized is_meta _version grad __len__
    __hash__ itemsize nbytes output_nr is_inference is_signed retains_grad name is_mkldnn is_xpu is_ort is_mps is_ipu is_vulkan
    is_sparse_csr is_same_size is_nested is_conj is_neg _is_view _base""".split())
# The result is the same memory, seen otherwise.
_VIEWS = frozenset("""transpose permute T mT H mH t unsqueeze squeeze view detach narrow select expand movedim moveaxis
    swapaxes swapdims chunk split unbind data view_as expand_as requires_grad_ tensor_split unflatten diagonal
    __getitem__ reshape flatten as_subclass""".split())
# Tensors of the CPU may take part.
_MIXED = frozenset("""copy_ __getitem__ __setitem__ index_put_ index_put index_select type_as __set__ set_ grad data
    is_same_size view_as expand_as reshape_as __deepcopy__""".split())


class RemoteTensor(torch.Tensor):
    """A tensor on 'cuda', which is the service. `_buffer` is its memory; `_put_off` what it will be the result of."""

    _buffer: Buffer
    _put_off: Any

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _apply(func, tuple(args), dict(kwargs or {}))


def plain_of(t: Any) -> Any:
    """The same memory as an ordinary CPU tensor."""
    with torch._C.DisableTorchFunction():
        return t.as_subclass(torch.Tensor)


def wrap(t: Any, buffer: Optional[Buffer] = None) -> Any:
    """An ordinary tensor as a marked one; without `buffer` its memory is its own from now on."""
    if isinstance(t, RemoteTensor):
        return t
    if buffer is None:
        buffer = Buffer(service(), t.detach())
        buffer.count()
    with torch._C.DisableTorchFunction():
        leaf = t.requires_grad and t.is_leaf
        made = (t.detach() if leaf else t).as_subclass(RemoteTensor)
        if leaf:  # and so shall be what stands for it
            made.requires_grad_(True)
    made._buffer = buffer
    made._put_off = None
    return made


def put_off(shape: Tuple[int, ...], dtype: Any, fill: Callable[[Any], None], reads: Tuple[Buffer, ...] = ()) -> Any:
    """A tensor whose memory is filled when somebody looks. `reads`: what `fill` will read; written to, it is filled
    first."""
    buffer = Buffer(service(), torch.empty(shape, dtype=dtype), fill)
    for other in reads:
        other.dependents.add(buffer)
    return wrap(buffer.memory, buffer)


def is_cuda(device: Any) -> bool:
    if device is None or isinstance(device, int):
        return device is not None
    return bool(torch.device(device).type == "cuda")


def _tensors(x: Any) -> Iterator[Any]:
    if isinstance(x, torch.Tensor):
        yield x
    elif isinstance(x, (list, tuple)):
        for i in x:
            yield from _tensors(i)
    elif isinstance(x, dict):
        for i in x.values():
            yield from _tensors(i)


def _map(x: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(x, torch.Tensor):
        return change(x)
    if isinstance(x, dict):
        return {k: _map(v, change) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        made = [_map(i, change) for i in x]
        if hasattr(x, "_make"):
            return type(x)._make(made)  # type: ignore[attr-defined]
        return type(x)(made)  # torch.return_types take a list, too
    return x


def name_of(func: Any) -> str:
    """"shape" for the getter of Tensor.shape, else the function's own name."""
    name = getattr(func, "__name__", "")
    if name in ("__get__", "__set__", "__delete__") and hasattr(func, "__self__"):
        return str(getattr(func.__self__, "__name__", name)) if name == "__get__" else "__set__"
    return str(name)


def _is_plain_index(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, slice)) and not isinstance(p, bool) for p in parts)


def _is_view(name: str, args: Any, kwargs: Any) -> bool:
    if name not in _VIEWS:
        return False
    if name == "__getitem__":
        return _is_plain_index(args[1])
    if name in ("reshape", "flatten"):
        with torch._C.DisableTorchFunction():
            return bool(args[0].is_contiguous())
    return not (name == "view" and any(isinstance(a, torch.dtype) for a in args))


def _apply(func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
    name = name_of(func)
    special = _SPECIAL.get(name)
    if special is not None:
        found = special(func, args, kwargs)
        if found is not NotImplemented:
            return found
    found = recognise(name, args, kwargs)
    if found is not NotImplemented:
        return found
    tensors = list(_tensors((args, kwargs)))
    remote = [t for t in tensors if isinstance(t, RemoteTensor)]
    if name in _ABOUT:
        with torch._C.DisableTorchFunction():
            found = func(*args, **kwargs)
        return _map(found, lambda t: wrap(t) if isinstance(t, torch.Tensor) else t)
    if name not in _MIXED and any(t.dim() > 0 for t in tensors if not isinstance(t, RemoteTensor)):
        raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!")
    if not _is_view(name, args, kwargs):
        for t in remote:
            t._buffer.here()
    writes = (name.endswith("_") and not name.endswith("__")) or name in ("__setitem__", "__set__") or \
        name.startswith("__i") and name not in ("__invert__", "__index__", "__int__") or "out" in kwargs
    if writes:
        for t in remote:
            t._buffer.before_writing()
    to_cpu = "device" in kwargs and kwargs["device"] is not None and not is_cuda(kwargs["device"])
    kwargs.pop("device", None)
    with torch._C.DisableTorchFunction():
        found = _computed(func, name, args, kwargs)
    if writes:
        for t in remote:
            _follow(t, remote)
    if to_cpu:
        return _map(found, lambda t: plain_of(t).clone() if isinstance(t, RemoteTensor) else t)
    return _map(found, lambda t: _adopt(t, remote))


def _follow(t: Any, remote: List[Any]) -> None:
    """After writing, t may have other memory than before (t.data = ..., resize_, set_)."""
    place = _place(t)
    if place == _place(t._buffer.memory):
        return
    for other in remote:
        if other is not t and _place(other._buffer.memory) == place:
            t._buffer = other._buffer
            return
    t._buffer = Buffer(service(), plain_of(t).detach())
    t._buffer.count()


def _adopt(t: Any, remote: List[Any]) -> Any:
    """A result: one of the operands itself, a view of one, or memory of its own."""
    if isinstance(t, RemoteTensor):
        return t
    if t.numel():
        place = _place(t)
        for other in remote:
            if _place(other._buffer.memory) == place:
                return wrap(t, other._buffer)
    return wrap(t)


def _place(t: Any) -> int:
    with torch._C.DisableTorchFunction(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # later torch would rather be asked for untyped_storage
        return int(t.storage().data_ptr())


def _computed(func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """func's result; through fp32 where torch has it not for half precision on the CPU."""
    try:
        return func(*args, **kwargs)
    except RuntimeError as e:
        if "not implemented for 'Half'" not in str(e):
            raise
    half = torch.float16
    wider = any(t.dtype == torch.float32 and t.dim() for t in _tensors((args, kwargs)))

    def up(t: Any) -> Any:
        return t.float() if t.dtype == half else t

    if name.endswith("_") and not name.endswith("__") or name.startswith("__i"):
        target = args[0]
        return target.copy_(func(*_map(args, up), **_map(kwargs, up)))
    found = func(*_map(args, up), **_map(kwargs, up))
    if wider or kwargs.get("dtype") is not None:
        return found
    return _map(found, lambda t: t.to(half) if t.dtype == torch.float32 else t)


# What a GPU tensor answers otherwise than a CPU tensor

def _to(func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Any:
    me, rest = args[0], list(args[1:])
    return moved(me, rest, kwargs)


def moved(me: Any, rest: List[Any], kwargs: Dict[str, Any]) -> Any:
    """Tensor.to, from and to the CPU and 'cuda'."""
    device = kwargs.pop("device", None)
    dtype = kwargs.pop("dtype", None)
    copy = kwargs.pop("copy", False)
    other = kwargs.pop("other", None)
    kwargs.pop("non_blocking", None)
    for a in rest:
        if isinstance(a, torch.dtype):
            dtype = a
        elif isinstance(a, torch.Tensor):
            other = a
        elif isinstance(a, (str, torch.device)) or (isinstance(a, int) and not isinstance(a, bool)):
            device = a
    if other is not None:
        device, dtype = other.device, other.dtype
    remote = isinstance(me, RemoteTensor)
    there = remote if device is None else is_cuda(device)
    if remote:
        me._buffer.here()
    with torch._C.DisableTorchFunction():
        same = dtype in (None, me.dtype) and not kwargs
        if same and remote == there and not copy:
            return me
        source = plain_of(me) if remote else me
        made = source.to(dtype=source.dtype if dtype is None else dtype, copy=True, **kwargs)
    return wrap(made) if there else made


def _cpu(func: Any, args: Any, kwargs: Any) -> Any:
    return moved(args[0], ["cpu"], {})


def _no_numpy(func: Any, args: Any, kwargs: Any) -> Any:
    raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
                    "memory first.")


def _repr(func: Any, args: Any, kwargs: Any) -> Any:
    me = args[0]
    me._buffer.here()
    text = repr(plain_of(me))
    return text[:-1] + ", device='cuda:0')" if text.endswith(")") else text


def _format(func: Any, args: Any, kwargs: Any) -> Any:
    me, spec = args
    me._buffer.here()
    plain = plain_of(me)
    return format(plain.item(), spec) if plain.dim() == 0 else format(_repr(None, (me,), {}), spec)


def _type(func: Any, args: Any, kwargs: Any) -> Any:
    if len(args) == 1 and not kwargs:
        return str(plain_of(args[0]).type()).replace("torch.", "torch.cuda.")
    if len(args) > 1 and isinstance(args[1], torch.dtype):
        return moved(args[0], [args[1]], {})
    return NotImplemented


def _deepcopy(func: Any, args: Any, kwargs: Any) -> Any:
    return args[0].detach().clone().requires_grad_(args[0].requires_grad)


def _reduce(func: Any, args: Any, kwargs: Any) -> Any:
    args[0]._buffer.here()
    return plain_of(args[0]).__reduce_ex__(*args[1:])


def _constant(value: Any) -> Callable[[Any, Any, Any], Any]:
    return lambda func, args, kwargs: value


_SPECIAL: Dict[str, Callable[[Any, Any, Any], Any]] = {
    "device": _constant(DEVICE), "is_cuda": _constant(True), "is_cpu": _constant(False), "get_device": _constant(0),
    "to": _to, "cpu": _cpu, "cuda": lambda func, args, kwargs: args[0], "numpy": _no_numpy, "__array__": _no_numpy,
    "__repr__": _repr, "__str__": _repr, "__format__": _format, "type": _type, "__deepcopy__": _deepcopy, "__reduce_ex__": _reduce,
    "is_pinned": _constant(False),
    # A module moved to 'cuda' gets new parameters: what is not marked cannot become so.
    "_has_compatible_shallow_copy_type": _constant(False),
}
