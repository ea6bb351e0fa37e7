"""An exchange on loopback that misbehaves on demand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

BODY = (
    b'{"symbol":"BTCUSDT","lastPrice":"73369.84","bidPrice":"73369.83","askPrice":"73369.84","closeTime":1710328245391}'
)
"""Binance's ticker, at a moment of its own."""

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Exchange:
    """A server on loopback; `script` says how it answers, request by request; the last entry goes on for ever."""

    def __init__(self) -> None:
        self.script: list[Answer] = [well]
        self.requests: list[web.Request] = []
        self.connections: set[object] = set()
        self.at: list[float] = []
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)  # type: ignore[arg-type]
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        self.at.append(asyncio.get_running_loop().time())
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await answer(request)  # type: ignore[arg-type]


async def well(_: web.Request) -> web.StreamResponse:
    return web.Response(body=BODY, content_type="application/json")


async def hanging(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    raise AssertionError("cut long before")


def status(code: int, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, body=BODY, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def body(content: bytes, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=content, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def reset_mid_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(BODY))})
    await response.prepare(request)
    await response.write(BODY[:20])
    await asyncio.sleep(0.01)
    assert request.transport is not None
    request.transport.abort()
    return response


async def drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for byte in BODY:
        await response.write(bytes([byte]))
        await asyncio.sleep(1)
    return response


async def flood(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(10_000):
        await response.write(b" " * 65_536)
    return response


@contextlib.asynccontextmanager
async def exchanging() -> AsyncIterator[Exchange]:
    """One that answers well until it is told otherwise."""
    there = Exchange()
    server = web.Server(there.handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    there.url = f"http://{host}:{port}"
    try:
        yield there
    finally:
        await runner.cleanup()
