#!/usr/bin/python3
"""Runs AITER's precompiled gfx942 kernels in the emulator and checks them against numpy in float64.

    aiter.py libamdhip64.so DIR

DIR holds fmha_v3_fwd/, topksoftmax/ ... as AITER's hsa/gfx942 does; what is not there is skipped. Every argument sits
in a 16-byte slot of its own. Exits 1 if a result is wrong.
"""
import ctypes
import os
import struct
import sys

import numpy as np

hip = None
folder = ''
random = np.random.default_rng(0)
failed = False


def check(error):
    if error:
        raise RuntimeError(f'hip error {error}')


class Device:
    """An array on the device."""

    def __init__(self, array):
        self.array = np.ascontiguousarray(array)
        self.pointer = ctypes.c_void_p()
        size = ctypes.c_size_t(self.array.nbytes)
        check(hip.hipMalloc(ctypes.byref(self.pointer), size))
        check(hip.hipMemcpy(self.pointer, self.array.ctypes.data_as(ctypes.c_void_p), size, 1))

    def get(self):
        size = ctypes.c_size_t(self.array.nbytes)
        check(hip.hipMemcpy(self.array.ctypes.data_as(ctypes.c_void_p), self.pointer, size, 2))
        return self.array

    def __del__(self):
        hip.hipFree(self.pointer)


def slot(x):
    if x is None:
        return struct.pack('<Q8x', 0)
    if isinstance(x, Device):
        return struct.pack('<Q8x', x.pointer.value)
    if isinstance(x, float):
        return struct.pack('<f12x', x)
    return struct.pack('<I12x', x)


def run(path, kernel, grid, block, *args):
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    check(hip.hipModuleLoad(ctypes.byref(module), os.path.join(folder, path).encode()))
    name = f'_ZN5aiter{len(kernel)}{kernel}E'
    check(hip.hipModuleGetFunction(ctypes.byref(function), module, name.encode()))
    data = b''.join(map(slot, args))
    buffer, size = ctypes.create_string_buffer(data, len(data)), ctypes.c_size_t(len(data))
    extra = (ctypes.c_void_p * 5)(1, ctypes.addressof(buffer), 2, ctypes.addressof(size), 3)
    check(hip.hipModuleLaunchKernel(function, *grid, block, 1, 1, 0, None, None, extra))
    check(hip.hipDeviceSynchronize())
    check(hip.hipModuleUnload(module))


def to_bf16(a):
    u = np.ascontiguousarray(a, np.float32).view(np.uint32)
    return ((u + 0x7fff + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(u):
    return (u.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def report(what, error, limit):
    global failed
    ok = bool(error <= limit)
    failed |= not ok
    print(f'{what}: error {error:.2g} (limit {limit:.2g}) {"ok" if ok else "WRONG"}')


def there(path):
    if os.path.exists(os.path.join(folder, path)):
        return True
    print(f'{path}: skipped, not in {folder}')
    return False


def attention(batch, tokens, heads, kv_heads, causal):
    """bf16, head size 128, [batch, token, head, 128]."""
    name = 'fwd_hd128_bf16_' + ('causal_' if causal else '') + 'rtne'
    path = f'fmha_v3_fwd/MI300/{name}.co'
    if not there(path):
        return
    q, k, v = (Device(to_bf16(random.standard_normal((batch, tokens, h, 128)))) for h in (heads, kv_heads, kv_heads))
    o = Device(np.zeros((batch, tokens, heads, 128), np.uint16))
    lse = Device(np.zeros((batch, heads, tokens), np.float32))
    scale = 128 ** -0.5
    q_stride, k_stride, tiles_each = heads * 256, kv_heads * 256, 2 if causal else 1
    option = 3 if causal and heads % 8 else 5
    tiles = (tokens + 255) // 256
    run(path, 'fmha_' + name, ((tiles + tiles_each - 1) // tiles_each, heads, batch), 512, o, q, k, v, lse, scale, tokens,
        q_stride, 256 * q_stride, 256, tokens * q_stride, heads // kv_heads, k_stride, 256, tokens * k_stride, option, 1,
        tokens, 128, 128, heads, k_stride, 256, tokens * k_stride, q_stride, 256, tokens * q_stride, None, None, tokens * 4,
        None, None, None, None, None, 0, 0, 0, 0, 0, 0)
    Q, K, V, O, L = from_bf16(q.array), from_bf16(k.array), from_bf16(v.array), from_bf16(o.get()), lse.get()
    error = lse_error = 0
    for b in range(batch):
        for h in range(heads):
            x = Q[b, :, h] @ K[b, :, h * kv_heads // heads].T * scale
            if causal:
                x = np.where(np.tri(tokens, dtype=bool), x, -np.inf)
            m = x.max(1, keepdims=True)
            e = np.exp(x - m)
            want = e / e.sum(1, keepdims=True) @ V[b, :, h * kv_heads // heads]
            error = max(error, abs(want - O[b, :, h]).max())
            lse_error = max(lse_error, abs(m[:, 0] + np.log(e.sum(1)) - L[b, h]).max())
    shape = f'{name} {batch}x{tokens}x{heads}/{kv_heads}'
    report(shape, error, 0.016)
    report(shape + ' lse', lse_error, 1e-5)


def top_k(tokens, experts, k):
    name = f'topksoftmax_4x{experts}x{k}'
    path = f'topksoftmax/{name}.co'
    if not there(path):
        return
    a = random.standard_normal((tokens, experts)).astype(np.float32)
    logits = Device(a)
    weights = Device(np.zeros(((tokens + 3) // 4 * 4, k), np.float32))
    ids = Device(np.zeros(((tokens + 3) // 4 * 4, k), np.int32))
    run(path, name, ((tokens + 3) // 4, 1, 1), 256, ids, weights, logits, tokens, experts, k, 1, k * 4)
    p = np.exp(a.astype(np.float64))
    best = np.argsort(-p, 1)[:, :k]
    want = np.take_along_axis(p, best, 1)
    want /= want.sum(1, keepdims=True)
    report(f'{name} {tokens} tokens: wrong experts', (best != ids.get()[:tokens]).sum(), 0)
    report(f'{name} {tokens} tokens: weights', abs(want - weights.get()[:tokens]).max(), 1e-6)


def main():
    global hip, folder
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    hip, folder = ctypes.CDLL(sys.argv[1]), sys.argv[2]
    attention(1, 256, 1, 1, False)
    attention(2, 300, 2, 1, False)
    attention(1, 300, 3, 1, True)
    attention(1, 520, 8, 2, True)
    top_k(33, 128, 8)
    sys.exit(failed)


main()
