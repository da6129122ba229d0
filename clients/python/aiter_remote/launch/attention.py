"""Attention on marked tensors: AITER's functions, and attention written out in torch. matmul(softmax(matmul(q, k^T) *
scale), v) on marked tensors is what a script compares AITER with; it runs on the service too, unfused (impl=naive), so that
both sides of the comparison run on the same device. Anything else that is done with the scores or the probabilities
computes them here.
"""
from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Tuple

import torch

from .. import ops
from ..client import current_options
from ..errors import AiterdError
from ..sources import Source
from . import tensor
from .buffers import fetch, form_of, version_of
from .tensor import RemoteTensor, plain_of, put_off, service, wrap

__all__ = ["install"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_LIKE = torch.empty(0)
#: Fetch outputs at once instead of when somebody looks at them.
fetch_at_once = False
#: What AITER's functions ask for.
default_impl: Optional[str] = None


# AITER's functions

def execute(call: ops.Call) -> Dict[str, Any]:
    """ops.execute under the launcher."""
    for name, x in call.inputs.items():
        if x is not None and not isinstance(x, (RemoteTensor, Source)):
            what = "a CPU tensor" if isinstance(x, torch.Tensor) else "a %s" % type(x).__name__
            raise AiterdError("%s must be on CUDA, it is %s: AITER only works with tensors on the GPU (device='cuda')" % (
                name, what))
        if isinstance(x, RemoteTensor) and x.requires_grad and torch.is_grad_enabled():
            raise AiterdError("%s requires grad, but the service computes no gradients: call this under torch.no_grad()"
                              % name)
    params = dict(call.params)
    if default_impl is not None and "impl" not in current_options():
        params["impl"] = default_impl
    return _run(call.op, {n: x for n, x in call.inputs.items() if x is not None}, params, call.wanted)


def _run(op: str, inputs: Dict[str, Any], params: Dict[str, Any], wanted: Tuple[str, ...]) -> Dict[str, Any]:
    gpu = service()
    buffers = [x._buffer for x in inputs.values() if isinstance(x, RemoteTensor)]
    gpu.tidy()
    for attempt in (1, 2):
        sent = {n: x._buffer.on_service(plain_of(x)) if isinstance(x, RemoteTensor) else x for n, x in inputs.items()}
        stays = gpu.resident and not fetch_at_once and not {"outputs", "keep", "dry_run"} & set(current_options())
        names = {n: gpu.new_name() for n in wanted} if stays else {}
        more: Dict[str, Any] = {"outputs": "none", "keep": names} if stays else {}
        try:
            outputs = gpu.client.run(op, sent, params, like=_LIKE, **more)
            break
        except AiterdError as e:
            gpu.freed(0, list(names.values()))
            if attempt == 2:
                raise
            if e.slug == "unknown-tensor":
                for b in buffers:
                    b.lost()
            elif e.slug == "tensors-quota" and stays:
                gpu.tell("the service has no room to keep results: they are sent with every call")
                gpu.resident = False
            else:
                raise
    gpu.called(outputs.stats)
    found: Dict[str, Any] = {}
    for name in wanted:
        if not stays:
            found[name] = wrap(outputs[name]) if name in outputs else None
            continue
        about = outputs.metadata["outputs"][name]
        found[name] = put_off(tuple(about["shape"]), _DTYPES[about["dtype"]], fetch(gpu, names[name]))
        buffer = found[name]._buffer
        buffer.names[form_of(buffer.memory)] = (names[name], version_of(buffer.memory))
        buffer.count()
    return found


# Attention written out in torch

class Scores(NamedTuple):
    """scale * q k^T; q and k are [batch, heads, sequence, dim]."""

    q: Any
    k: Any
    scale: float
    soft: bool = False  # softmax over the last dimension of it

    def compute(self) -> Any:
        """As torch would, here; intermediate results in fp32."""
        q, k = (plain_of(t).float() for t in (self.q, self.k))
        scores = torch.matmul(q, k.transpose(-2, -1))
        if self.scale != 1:
            scores *= self.scale
        return torch.softmax(scores, -1) if self.soft else scores


def _later(scores: Scores, shape: Tuple[int, ...]) -> Any:
    def fill(memory: Any) -> None:
        for t in (scores.q, scores.k):
            t._buffer.here()
        memory.copy_(scores.compute())
    made = put_off(shape, scores.q.dtype, fill, (scores.q._buffer, scores.k._buffer))
    made._put_off = scores
    return made


def _pending(t: Any) -> Optional[Scores]:
    """What this tensor was put off as, if it still is."""
    if isinstance(t, RemoteTensor) and t._buffer.fill is not None and isinstance(t._put_off, Scores):
        return t._put_off
    return None


def _matmul(args: Any, kwargs: Any) -> Any:
    if kwargs or len(args) != 2 or not all(isinstance(a, RemoteTensor) and a.dim() == 4 for a in args):
        return NotImplemented
    a, b = args
    if a.dtype != b.dtype or a.dtype not in _DTYPES.values() or a.shape[:2] != b.shape[:2] or a.shape[3] != b.shape[2]:
        return NotImplemented
    if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
        return NotImplemented
    probabilities = _pending(a)
    if probabilities is not None and probabilities.soft:
        return _attention(probabilities, b)
    # Only scores are worth waiting for: the second operand is a transposed one, and the product is no smaller.
    if probabilities is not None or b.stride(2) != 1 or b.shape[2] > 256:
        return NotImplemented
    for t in (a, b):
        if t._put_off is not None and t._buffer.fill is not None:
            return NotImplemented
    return _later(Scores(a, b.transpose(-2, -1), 1.0), (*a.shape[:3], b.shape[3]))


def _scaled(args: Any, kwargs: Any, inverse: bool) -> Any:
    if kwargs or len(args) != 2:
        return NotImplemented
    a, b = args if not isinstance(args[0], (int, float)) or inverse else args[::-1]
    scores = _pending(a)
    if scores is None or scores.soft or isinstance(b, bool) or not isinstance(b, (int, float)) or (inverse and b == 0):
        return NotImplemented
    return _later(scores._replace(scale=scores.scale / b if inverse else scores.scale * b), tuple(a.shape))


def _softmax(args: Any, kwargs: Any) -> Any:
    given = dict(zip(("input", "dim", "_stacklevel" if len(args) > 3 else "dtype", "dtype"), args))
    given.update(kwargs)
    scores = _pending(given.get("input"))
    if scores is None or scores.soft or given.get("dim") not in (-1, 3) or given.get("dtype") is not None:
        return NotImplemented
    return _later(scores._replace(soft=True), tuple(given["input"].shape))


def _attention(p: Scores, v: Any) -> Any:
    """softmax(scale q k^T) v on the service; the result is [batch, heads, sequence, dim]."""
    gpu = service()
    named = {"q": p.q, "k": p.k, "v": v}
    params: Dict[str, Any] = {"softmax_scale": p.scale, "impl": "naive"}
    turned = all(t.transpose(1, 2).is_contiguous() for t in named.values())
    inputs = {n: t.transpose(1, 2) for n, t in named.items()} if turned else named
    if not turned:
        params["layout"] = "bhsd"
    try:
        out = _run("flash_attn_func", inputs, params, ("out",))["out"]
    except AiterdError as e:
        if e.status not in (422, 507):
            raise
        gpu.tell("attention written out in torch is computed here, as the service does not take it: %s" % e)
        return NotImplemented
    gpu.tell("attention written out in torch, softmax(q k^T) v on 'cuda', runs unfused on the service (%s), so that "
             "times compare; other torch functions on 'cuda' tensors are computed here, on the CPU" %
             gpu.device["id"])
    return out.transpose(1, 2) if turned else out


def _recognise(name: str, args: Any, kwargs: Any) -> Any:
    if name in ("matmul", "__matmul__"):
        return _matmul(args, kwargs)
    if name in ("div", "true_divide", "__truediv__", "divide"):
        return _scaled(args, kwargs, True)
    if name in ("mul", "multiply", "__mul__", "__rmul__"):
        return _scaled(args, kwargs, False)
    if name == "softmax":
        return _softmax(args, kwargs)
    return NotImplemented


def install(recognised: bool, at_once: bool, impl: Optional[str]) -> None:
    """`recognised`: attention written out in torch runs on the service. `at_once`: results are fetched by each call.
    `impl`: what AITER's functions ask for."""
    global fetch_at_once, default_impl
    fetch_at_once, default_impl = at_once, impl
    ops.execute = execute
    if recognised:
        tensor.recognise = _recognise
