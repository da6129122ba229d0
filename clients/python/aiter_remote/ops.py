"""AITER's functions: its names, argument order and defaults. Each says what the service calls its operator and the
inputs, and hands over; `execute` is where that happens (the launcher puts its own in place).
"""
from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from .arrays import is_array, is_torch
from .client import Client, Job, Verdict, current_options
from .errors import AiterdError
from .sources import Kept, Source

__all__ = ["bench", "check", "configure", "default_client", "flash_attn_func", "flash_attn_varlen_func", "get", "put",
           "rms_norm", "rmsnorm", "rmsnorm2d_fwd", "submit"]


class Call(NamedTuple):
    """What a function comes to: the service's operator, its inputs and parameters, and how outputs are returned."""

    op: str
    inputs: Dict[str, Any]
    params: Dict[str, Any]
    wanted: Tuple[str, ...] = ("out",)


_lock = threading.Lock()
_client: Optional[Client] = None


def configure(url: Optional[str] = None, key: Optional[str] = None, **more: Any) -> Client:
    """Set the Client that this module's functions use, see Client; without arguments, from the environment."""
    global _client
    made = Client(url, key, **more)
    with _lock:
        _client = made
    return made


def default_client() -> Client:
    """The Client in use; made from AITERD_URL and AITERD_KEY at its first use."""
    global _client
    with _lock:
        if _client is None:
            _client = Client()
        return _client


def _execute(call: Call) -> Dict[str, Any]:
    outputs = default_client().run(call.op, call.inputs, call.params)
    keep = dict(current_options().get("keep", {}))
    return {name: outputs[name] if name in outputs else Kept(keep[name]) if name in keep else None for name in call.wanted}


execute: Callable[[Call], Dict[str, Any]] = _execute


def _returned(call: Call) -> Any:
    outputs = execute(call)
    found = tuple(outputs[name] for name in call.wanted)
    return found[0] if len(found) == 1 else found


def _attention(op: str, inputs: Dict[str, Any], params: Dict[str, Any], neutral: Dict[str, Any], return_lse: bool) -> Call:
    """`neutral`: parameters with the value at which they change nothing; the others are sent. What the service does not
    offer it refuses by name."""
    for name, (value, nothing) in neutral.items():
        if value is not None and not (not is_array(value) and value == nothing):
            params[name] = value
    if return_lse:
        params["return_lse"] = True
    return Call(op, inputs, params, ("out", "softmax_lse") if return_lse else ("out",))


def _window(size: Sequence[int]) -> Sequence[int]:
    """AITER's third number, the attention sink, is only sent where it is one."""
    found = [int(n) for n in size]
    return found[:2] if found[2:] == [0] else found


def _flash_attn_func(q: Any, k: Any, v: Any, dropout_p: float = 0.0, softmax_scale: Optional[float] = None,
                     causal: bool = False, window_size: Sequence[int] = (-1, -1, 0), bias: Any = None,
                     alibi_slopes: Any = None, deterministic: bool = True, return_lse: bool = False,
                     return_attn_probs: bool = False, how_v3_bf16_cvt: int = 1, cu_seqlens_q: Any = None,
                     cu_seqlens_kv: Any = None, sink_ptr: Any = None, num_splits: int = 0) -> Call:
    return _attention(
        "flash_attn_func", {"q": q, "k": k, "v": v},
        {"softmax_scale": softmax_scale},
        {"causal": (causal, False), "window_size": (_window(window_size), [-1, -1]), "how_v3_bf16_cvt": (how_v3_bf16_cvt, 1),
         "dropout_p": (dropout_p, 0), "bias": (bias, None), "alibi_slopes": (alibi_slopes, None),
         "return_attn_probs": (return_attn_probs, False), "cu_seqlens_q": (cu_seqlens_q, None),
         "cu_seqlens_kv": (cu_seqlens_kv, None), "sink_ptr": (sink_ptr, None), "num_splits": (num_splits, 0)},
        return_lse)


def flash_attn_func(q: Any, k: Any, v: Any, dropout_p: float = 0.0, softmax_scale: Optional[float] = None,
                    causal: bool = False, window_size: Sequence[int] = (-1, -1, 0), bias: Any = None,
                    alibi_slopes: Any = None, deterministic: bool = True, return_lse: bool = False,
                    return_attn_probs: bool = False, how_v3_bf16_cvt: int = 1, cu_seqlens_q: Any = None,
                    cu_seqlens_kv: Any = None, sink_ptr: Any = None, num_splits: int = 0) -> Any:
    """Attention: softmax(softmax_scale q k^T + mask) v, as aiter.flash_attn_func.

    q is [batch, sequence, heads, dim]; k and v may have fewer heads (their number divides q's) and another length;
    v another dim. fp32, fp16, bf16. softmax_scale defaults to 1/sqrt(dim). causal and window_size (left, right; -1: no
    limit) are aligned at the end of the sequences. Returns out, with return_lse=True (out, softmax_lse). dropout_p,
    bias, alibi_slopes, return_attn_probs, sink_ptr, num_splits and cu_seqlens_* are refused unless at their defaults;
    `deterministic` concerns the backward pass, which there is none of."""
    return _returned(_flash_attn_func(q, k, v, dropout_p, softmax_scale, causal, window_size, bias, alibi_slopes,
                                      deterministic, return_lse, return_attn_probs, how_v3_bf16_cvt, cu_seqlens_q,
                                      cu_seqlens_kv, sink_ptr, num_splits))


def _flash_attn_varlen_func(q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: int,
                            max_seqlen_k: int, min_seqlen_q: int = 0, dropout_p: float = 0.0,
                            softmax_scale: Optional[float] = None, logits_soft_cap: float = 0.0, causal: bool = False,
                            window_size: Sequence[int] = (-1, -1, 0), bias: Any = None, alibi_slopes: Any = None,
                            deterministic: bool = False, return_lse: bool = False, return_attn_probs: bool = False,
                            how_v3_bf16_cvt: int = 1, block_table: Any = None, out: Any = None,
                            cu_seqlens_q_padded: Any = None, cu_seqlens_k_padded: Any = None,
                            sink_ptr: Any = None) -> Call:
    return _attention(
        "flash_attn_varlen_func", {"q": q, "k": k, "v": v, "cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_k},
        {"max_seqlen_q": int(max_seqlen_q), "max_seqlen_k": int(max_seqlen_k), "softmax_scale": softmax_scale},
        {"causal": (causal, False), "window_size": (_window(window_size), [-1, -1]), "how_v3_bf16_cvt": (how_v3_bf16_cvt, 1),
         "dropout_p": (dropout_p, 0), "logits_soft_cap": (logits_soft_cap, 0), "bias": (bias, None),
         "alibi_slopes": (alibi_slopes, None), "return_attn_probs": (return_attn_probs, False),
         "block_table": (block_table, None), "cu_seqlens_q_padded": (cu_seqlens_q_padded, None),
         "cu_seqlens_k_padded": (cu_seqlens_k_padded, None), "sink_ptr": (sink_ptr, None)},
        return_lse)


def flash_attn_varlen_func(q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: int,
                           max_seqlen_k: int, min_seqlen_q: int = 0, dropout_p: float = 0.0,
                           softmax_scale: Optional[float] = None, logits_soft_cap: float = 0.0, causal: bool = False,
                           window_size: Sequence[int] = (-1, -1, 0), bias: Any = None, alibi_slopes: Any = None,
                           deterministic: bool = False, return_lse: bool = False, return_attn_probs: bool = False,
                           how_v3_bf16_cvt: int = 1, block_table: Any = None, out: Any = None,
                           cu_seqlens_q_padded: Any = None, cu_seqlens_k_padded: Any = None, sink_ptr: Any = None) -> Any:
    """Attention over sequences of different lengths, packed one after the other, as aiter.flash_attn_varlen_func.

    q is [total, heads, dim]; cu_seqlens_q and cu_seqlens_k (int32, batch + 1 numbers) say where each sequence begins,
    and the total. `out`, if given, receives the output. min_seqlen_q only steers AITER's choice of kernel and is not
    looked at. Otherwise as flash_attn_func; softmax_lse is [heads, total]."""
    call = _flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, min_seqlen_q,
                                   dropout_p, softmax_scale, logits_soft_cap, causal, window_size, bias, alibi_slopes,
                                   deterministic, return_lse, return_attn_probs, how_v3_bf16_cvt, block_table, out,
                                   cu_seqlens_q_padded, cu_seqlens_k_padded, sink_ptr)
    if out is None:
        return _returned(call)
    found = _returned(call)
    _fill(out, found[0] if return_lse else found)
    return (out, found[1]) if return_lse else out


def _fill(out: Any, result: Any) -> None:
    if result is None:
        return
    if not is_array(out) or tuple(out.shape) != tuple(result.shape) or out.dtype != result.dtype:
        raise AiterdError("out is %s, the result %s" % tuple(
            "%s of shape %s" % (x.dtype, list(x.shape)) if is_array(x) else type(x).__name__ for x in (out, result)))
    out[...] = result


def _without_grad(x: Any) -> Any:
    """AITER's norms have no backward pass and say nothing of it; its attention has one, so there it is an error here."""
    return x.detach() if is_torch(x) else x


def _rms_norm(input: Any, weight: Any, epsilon: float, use_model_sensitive_rmsnorm: int = 0) -> Call:
    params: Dict[str, Any] = {"eps": epsilon}
    input, weight = _without_grad(input), _without_grad(weight)
    if use_model_sensitive_rmsnorm:
        params["use_model_sensitive_rmsnorm"] = use_model_sensitive_rmsnorm
    return Call("rmsnorm", {"x": input, "weight": weight}, params)


def rms_norm(input: Any, weight: Any, epsilon: float, use_model_sensitive_rmsnorm: int = 0) -> Any:
    """input / sqrt(mean(input^2) + epsilon) * weight over the last dimension, as aiter.rms_norm. fp32, fp16, bf16."""
    return _returned(_rms_norm(input, weight, epsilon, use_model_sensitive_rmsnorm))


def rmsnorm2d_fwd(input: Any, weight: Any, epsilon: float, use_model_sensitive_rmsnorm: int = 0) -> Any:
    """AITER's other name of rms_norm."""
    return _returned(_rms_norm(input, weight, epsilon, use_model_sensitive_rmsnorm))


def _rmsnorm(*args: Any, **how: Any) -> Tuple[Call, Any]:
    """(the call, where its output goes or None). Three arrays, or a keyword of that form: AITER's; else the tutorial's."""
    aiters = "out" in how or "gemma_norm" in how or (len(args) >= 3 and (is_array(args[2]) or isinstance(args[2], Source)))
    names = ("out", "input", "weight", "epsilon", "gemma_norm") if aiters else ("x", "weight", "eps")
    if len(args) > len(names):
        raise TypeError("rmsnorm() takes %s" % ", ".join(names))
    given = dict(zip(names, args))
    for name, value in how.items():
        known = {"input": "x", "epsilon": "eps"}.get(name, name) if not aiters else name
        if known not in names or known in given:
            raise TypeError("rmsnorm() got an unexpected or repeated keyword argument %r" % name)
        given[known] = value
    missing = [n for n in names[:4 if aiters else 2] if n not in given]
    if missing:
        raise TypeError("rmsnorm() misses %s: wanted (%s)" % (" and ".join(missing), ", ".join(names)))
    x, eps = (given["input"], given["epsilon"]) if aiters else (given["x"], given.get("eps", 1e-6))
    params: Dict[str, Any] = {"eps": eps}
    if given.get("gemma_norm"):
        params["gemma_norm"] = True
    return Call("rmsnorm", {"x": _without_grad(x), "weight": _without_grad(given["weight"])}, params), given.get("out")


def rmsnorm(*args: Any, **how: Any) -> Any:
    """RMSNorm in both spellings there are: rmsnorm(x, weight, eps=1e-6) as AITER's tutorial has it, which returns the
    result, and rmsnorm(out, input, weight, epsilon, gemma_norm=False) as AITER's code has it, which fills out."""
    call, out = _rmsnorm(*args, **how)
    found = _returned(call)
    if out is None:
        return found
    _fill(out, found)
    return None


_CALLS: Dict[Any, Callable[..., Any]] = {}
_PAIRS: Tuple[Tuple[Callable[..., Any], Callable[..., Any]], ...] = (
    (flash_attn_func, _flash_attn_func), (flash_attn_varlen_func, _flash_attn_varlen_func), (rms_norm, _rms_norm),
    (rmsnorm2d_fwd, _rms_norm), (rmsnorm, lambda *args, **how: _rmsnorm(*args, **how)[0]))
for _function, _maker in _PAIRS:
    _CALLS[_function] = _CALLS[_function.__name__] = _maker
_BENCH_OPTIONS = frozenset("mode warmup iters baseline samples impl device timeout_ms max_cases flush".split())


def _split(op: Union[str, Callable[..., Any]], args: Tuple[Any, ...], how: Mapping[str, Any]) -> Call:
    """The call that `op` of these arguments would be."""
    if args:
        maker = _CALLS.get(op)
        if maker is None:
            raise AiterdError("%r is none of AITER's functions here (%s): another operator of the server takes its inputs by "
                              "name" % (op, ", ".join(sorted(f.__name__ for f, _ in _PAIRS))))
        call: Call = maker(*args, **how)
        return call
    name = op if isinstance(op, str) else op.__name__
    name = {"rms_norm": "rmsnorm", "rmsnorm2d_fwd": "rmsnorm"}.get(name, name)
    inputs = {n: x for n, x in how.items() if is_array(x) or isinstance(x, Source)}
    params = {n: x for n, x in how.items() if n not in inputs}
    return Call(name, inputs, params)


def check(op: Union[str, Callable[..., Any]], expected: Any, *args: Any, rtol: Optional[float] = None,
          atol: Optional[float] = None, runs: Optional[int] = None, save: Optional[str] = None, impl: Optional[str] = None,
          device: Optional[str] = None, **how: Any) -> Verdict:
    """Is this result right? Judged by the service against the float64 reference and against its kernel.

        mine = my_attention(q, k, v)
        verdict = aiter_remote.check(aiter_remote.flash_attn_func, mine, q, k, v, causal=True)
        if not verdict: print(verdict)      # out: 1 of 524288 elements off, worst at [1, 5, 2, 60]: ...

    `op`: one of this module's functions, or an operator's name; then its own arguments. `expected`: your output, or
    {"out": ..., "softmax_lse": ...}. `runs`: also run the kernel so often and compare bit for bit. `save`: a file for
    the whole case, see Client.check."""
    call = _split(op, args, how)
    candidates = expected if isinstance(expected, Mapping) else {"out": expected}
    params = dict(call.params)
    if "softmax_lse" in candidates:
        params["return_lse"] = True
    return default_client().check(call.op, call.inputs, candidates, params, rtol=rtol, atol=atol, runs=runs, save=save,
                                  impl=impl, device=device)


def bench(op: Union[str, Callable[..., Any]], *args: Any, progress: Optional[Callable[[Dict[str, Any]], None]] = None,
          **how: Any) -> Iterator[Dict[str, Any]]:
    """Time an operator on the service; a dict per case, as each finishes. See Client.bench.

        for case in aiter_remote.bench("flash_attn_func", batch=[1, 4, 16, 64], seqlen=512, heads=8, head_dim=64,
                                       dtype="fp16", causal=True, baseline="naive"):
            print(case["case"]["batch"], case["kernel_ms"]["median"], case["baseline"]["speedup"])
    """
    if args:
        inner = {n: x for n, x in how.items() if n not in _BENCH_OPTIONS}
        call = _split(op, args, inner)
        return default_client().bench(call.op, call.inputs, call.params, progress=progress,
                                      **{n: x for n, x in how.items() if n in _BENCH_OPTIONS})
    call = _split(op, args, how)
    return default_client().bench(call.op, call.inputs, call.params, progress=progress)


def submit(op: Union[str, Callable[..., Any]], *args: Any, **how: Any) -> Job:
    """Start a run and do not wait; the Job's result() gives the outputs by name."""
    call = _split(op, args, how)
    return default_client().submit(call.op, call.inputs, call.params, **current_options())


def put(name: str, x: Any, ttl: Optional[float] = None) -> Kept:
    """Keep an array on the server under a name; what this gives is an input of any call. See Client.put."""
    return default_client().put(name, x, ttl)


def get(name: str, like: Any = None) -> Any:
    """A kept tensor's data, as an array of the kind of `like` (default: numpy)."""
    return default_client().get(name, like)
