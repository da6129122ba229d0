#!/usr/bin/python3
"""What people would write instead: aiohttp with numpy, in the plain way its documentation shows. bench/run starts it.

POST /sink      reads the body, answers 20 bytes
POST /echo      answers the body
POST /rmsnorm   safetensors (or multipart with npy parts) x and weight in fp32, the normed x out as raw bytes
POST /json      {"inputs": {name: {"data": [...], "shape": [...]}}}: parsed, made into arrays, counted
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
    args = p.parse_args()
    s = socket.create_server(("127.0.0.1", args.port), backlog=4096)
    if args.congestion:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, args.congestion.encode())  # accepted ones inherit it
    app = web.Application(client_max_size=1 << 31)
    app.add_routes([web.post("/sink", sink), web.post("/echo", echo), web.post("/rmsnorm", rmsnorm),
                    web.post("/json", from_json)])
    print("listening on http://127.0.0.1:%d" % s.getsockname()[1], flush=True)
    web.run_app(app, sock=s, print=None, access_log=None)


if __name__ == "__main__":
    main()
