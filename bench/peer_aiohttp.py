#!/usr/bin/python3
"""What people would write instead: aiohttp with numpy, in the plain way its documentation shows. bench/run starts it.

POST /sink      reads the body, answers 20 bytes
POST /echo      answers the body
POST /rmsnorm   safetensors (or multipart with npy parts) x and weight in fp32, the normed x out as raw bytes
POST /json      {"inputs": {name: {"data": [...], "shape": [...]}}}: parsed, made into arrays, counted

With --torch (bench/gpu_service starts it so) the work is PyTorch's, on the GPU: /rmsnorm as above, and
POST /attention q, k and v, [batch, sequence, heads, dim], the output as raw bytes
"""
import argparse
import io
import json
import socket
import struct

import numpy as np
from aiohttp import web

DTYPES = {"F32": np.float32, "F16": np.float16, "F64": np.float64}


def safetensors(body):
    (n,) = struct.unpack_from("<Q", body)
    header = json.loads(body[8:8 + n])
    header.pop("__metadata__", None)
    return {name: np.frombuffer(body, DTYPES[t["dtype"]], int(np.prod(t["shape"])), 8 + n + t["data_offsets"][0])
            .reshape(t["shape"]) for name, t in header.items()}


async def inputs(request):
    if request.content_type != "multipart/form-data":
        return safetensors(await request.read())
    form = await request.post()
    return {name: np.load(io.BytesIO(field.file.read())) for name, field in form.items()}


async def rmsnorm(request):
    tensors = await inputs(request)
    x, weight = tensors["x"], tensors["weight"]
    scale = 1 / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + np.float32(1e-6))
    return web.Response(body=(x * scale * weight).tobytes(), content_type="application/octet-stream")


def torch_routes():
    """As PyTorch's documentation has it: to the GPU, its fused operator, back."""
    import torch
    from torch.nn import functional

    async def on_gpu(request):
        return {name: torch.from_numpy(a).to("cuda", non_blocking=True) for name, a in (await inputs(request)).items()}

    def answer(out):
        return web.Response(body=out.cpu().numpy().tobytes(), content_type="application/octet-stream")

    async def torch_rmsnorm(request):
        tensors = await on_gpu(request)
        with torch.inference_mode():
            return answer(functional.rms_norm(tensors["x"], tensors["weight"].shape, tensors["weight"], 1e-6))

    async def torch_attention(request):
        tensors = await on_gpu(request)
        with torch.inference_mode():
            out = functional.scaled_dot_product_attention(*(tensors[n].transpose(1, 2) for n in "qkv"))
            return answer(out.transpose(1, 2).contiguous())

    print("PyTorch %s on %s" % (torch.__version__, torch.cuda.get_device_name()), flush=True)
    return [web.post("/rmsnorm", torch_rmsnorm), web.post("/attention", torch_attention)]


async def sink(request):
    await request.read()
    return web.Response(body=b"the body was read..\n", content_type="application/octet-stream")


async def echo(request):
    return web.Response(body=await request.read(), content_type="application/octet-stream")


async def from_json(request):
    tensors = {name: np.array(t["data"], np.float32).reshape(t["shape"])
               for name, t in json.loads(await request.text())["inputs"].items()}
    return web.json_response({name: t.size for name, t in tensors.items()})


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--congestion", default="")
    p.add_argument("--torch", action="store_true")
    args = p.parse_args()
    s = socket.create_server(("127.0.0.1", args.port), backlog=4096)
    if args.congestion:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, args.congestion.encode())  # accepted ones inherit it
    app = web.Application(client_max_size=1 << 31)
    app.add_routes([web.post("/sink", sink), web.post("/echo", echo), web.post("/json", from_json)])
    app.add_routes(torch_routes() if args.torch else [web.post("/rmsnorm", rmsnorm)])
    print("listening on http://127.0.0.1:%d" % s.getsockname()[1], flush=True)
    web.run_app(app, sock=s, print=None, access_log=None)


if __name__ == "__main__":
    main()
