"""An ASGI application without a framework: HTTP, server-sent events and a WebSocket that says everything back."""

from __future__ import annotations

import asyncio
import os
from typing import Any


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Starlette, FastAPI, Quart and Django (`asgi.py`) are served in the same way."""
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["type"] == "http" and scope["path"] == "/events":
        await events(receive, send)
    elif scope["type"] == "http":
        await page(scope, send)


async def page(scope: dict[str, Any], send: Any) -> None:
    client, scheme = scope["client"], scope["scheme"]
    text = f"Hello from process {os.getpid()}, {scope['method']} of {client and client[0]} by {scheme}\n"
    print(scope["method"], scope["path"], flush=True)
    await start(send, 200 if scope["path"] == "/" else 404, b"text/plain")
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text.encode()})


async def events(receive: Any, send: Any) -> None:
    """One a second, until the reader leaves."""
    await start(send, 200, b"text/event-stream")
    reader = asyncio.ensure_future(left(receive))
    count = 0
    while not reader.done():
        count += 1
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % count, "more_body": True})
        await asyncio.wait([reader], timeout=1.0)


async def left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def start(send: Any, status: int, content_type: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]})


async def echo(receive: Any, send: Any) -> None:
    message = await receive()
    while message["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            said = {name: message[name] for name in ("text", "bytes") if message.get(name) is not None}
            await send({"type": "websocket.send", **said})
        message = await receive()
