"""The shapes of test_generic_servers.py for ASGI."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["type"] == "http":
        await http(scope, receive, send)


async def echo(receive: Any, send: Any) -> None:
    message = await receive()
    while message["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            said = {name: message[name] for name in ("text", "bytes") if message.get(name) is not None}
            await send({"type": "websocket.send", **said})
        message = await receive()


async def http(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    fields = dict(scope["headers"])
    if scope["path"] == "/echo":
        await answer(send, body)
    elif scope["path"] == "/big":
        await big(send, int(scope["query_string"]))
    elif scope["path"] == "/events":
        await events(send, scope["query_string"])
    elif scope["path"] == "/about":
        client = scope["client"] and scope["client"][0]
        said = {"ip": client, "scheme": scope["scheme"], "host": fields[b"host"].decode()}
        await answer(send, json.dumps(said).encode())
    else:
        await answer(send, str(os.getpid()).encode(), silent=scope["method"] == "HEAD")


async def answer(send: Any, body: bytes, *, silent: bool = False) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": b"" if silent else body})


async def big(send: Any, size: int) -> None:
    length = (b"content-length", str(size).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    while size > 0:
        part = b"x" * min(size, 65536)
        size -= len(part)
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def events(send: Any, path: bytes) -> None:
    """The first event, and the others once there is a file of that name."""
    kind = (b"content-type", b"text/event-stream")
    await send({"type": "http.response.start", "status": 200, "headers": [kind]})
    for count in range(1, 4):
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % count, "more_body": True})
        while not os.path.exists(path):
            await asyncio.sleep(0.005)
    await send({"type": "http.response.body", "body": b""})
