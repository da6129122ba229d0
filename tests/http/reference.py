"""What the operators should answer, in float64 numpy: written from their definition, sharing nothing with the server.
"""
import numpy as np


def rmsnorm(x, weight, eps=1e-6):
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def visible(sq, sk, causal=False, window=(-1, -1)):
    """Which key each query sees, [sq, sk]: causal and window are aligned to the bottom right; -1 is no bound,
    and causal is the window's right end at 0, whatever was given for it."""
    offset = np.arange(sk)[None, :] - (np.arange(sq)[:, None] + sk - sq)
    left, right = window
    if causal:
        right = 0
    mask = np.ones((sq, sk), bool)
    if left >= 0:
        mask &= offset >= -left
    if right >= 0:
        mask &= offset <= right
    return mask


def attention(q, k, v, causal=False, window=(-1, -1), scale=None):
    """(out [B, Sq, Hq, Dv], lse [B, Hq, Sq]) of q [B, Sq, Hq, D], k [B, Sk, Hk, D], v [B, Sk, Hk, Dv]; Hk divides Hq.
    A query that sees no key gets zeros and a lse of minus infinity."""
    q, k, v = (np.asarray(t, np.float64) for t in (q, k, v))
    batch, sq, heads, dim = q.shape
    sk, groups = k.shape[1], heads // k.shape[2] if k.shape[2] else 1
    scale = dim ** -0.5 if scale is None else scale
    mask = visible(sq, sk, causal, window)
    out, lse = np.zeros((batch, sq, heads, v.shape[3])), np.full((batch, heads, sq), -np.inf)
    some = mask.any(axis=1)
    for b in range(batch):
        for h in range(heads):
            if not some.any():
                continue
            s = np.where(mask, q[b, :, h] @ k[b, :, h // groups].T * scale, -np.inf)[some]
            top = s.max(axis=1, keepdims=True)
            p = np.exp(s - top)
            total = p.sum(axis=1, keepdims=True)
            out[b, some, h] = p / total @ v[b, :, h // groups]
            lse[b, h, some] = (np.log(total) + top)[:, 0]
    return out, lse


def attention_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=False, window=(-1, -1), scale=None):
    """(out [Tq, Hq, Dv], lse [Hq, Tq]) of packed sequences; each is attention by itself."""
    out = np.zeros((q.shape[0], q.shape[1], v.shape[2]))
    lse = np.full((q.shape[1], q.shape[0]), -np.inf)
    for a, b, c, d in zip(cu_seqlens_q[:-1], cu_seqlens_q[1:], cu_seqlens_k[:-1], cu_seqlens_k[1:]):
        if b > a:
            o, s = attention(q[None, a:b], k[None, c:d], v[None, c:d], causal, window, scale)
            out[a:b], lse[:, a:b] = o[0], s[0]
    return out, lse
