"""JSON-RPC over one connection that stays open, WebSocket or IPC: many requests in flight, answers in any order.

At most `IN_FLIGHT` at once: nodes and proxies drop or garble what comes faster than they read. A connection that fails
takes its open requests with it, each with an error; the next request opens another.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from contracts.errors import RpcUnavailableError

IN_FLIGHT = 20


_OUTSIDE = re.compile(rb'["{}]')
_IN_TEXT = re.compile(rb'"|\\.', re.DOTALL)
"""The marks that count: escapes are passed over in pairs."""


class _Head(msgspec.Struct):
    """All that is decoded of an answer here."""

    id: int | None = None


class Stream:
    """Requests to the node at `url`, `ws(s)://…` or `ipc:///path`. timeout_s: the bound of each, whole."""

    def __init__(self, url: str, *, timeout_s: float, max_bytes: int) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._turns = asyncio.Semaphore(IN_FLIGHT)
        self._connecting = asyncio.Lock()
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._write: Callable[[bytes], Awaitable[None]] | None = None
        self._reader: asyncio.Task[None] | None = None

    async def ask(self, request: bytes) -> bytes:
        """The answer to a JSON-RPC request, as the node sent it. Raises `TimeoutError` or `OSError`."""
        asked: dict[str, Any] = msgspec.json.decode(request)
        async with asyncio.timeout(self._timeout_s), self._turns:
            async with self._connecting:
                if self._write is None:
                    await self._connect()
                write = self._write
            assert write is not None  # noqa: S101 - connected just now
            number = next(self._ids)  # ids of our own: callers' may repeat
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting[number] = answer
            try:
                await write(msgspec.json.encode({**asked, "id": number}))
                return await answer
            finally:
                self._waiting.pop(number, None)
                if answer.done() and not answer.cancelled():
                    answer.exception()  # seen

    async def _connect(self) -> None:
        await self._drop()
        parts = urlsplit(self._url)
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        read = self._read_ipc(parts.path, opened) if parts.scheme == "ipc" else self._read_websocket(opened)
        self._reader = asyncio.create_task(self._run(read, opened), name=f"rpc:{self._url}")
        await opened

    async def _run(self, read: Awaitable[None], opened: asyncio.Future[None]) -> None:
        failure: Exception = ConnectionError(f"{self._url} closed the connection")
        try:
            await read
        except (OSError, aiohttp.ClientError, RpcUnavailableError, ValueError, asyncio.IncompleteReadError) as error:
            failure = error if isinstance(error, OSError) else ConnectionError(str(error) or type(error).__name__)
        finally:
            self._write = None
            if not opened.done():
                opened.set_exception(failure)
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(failure)

    async def _read_websocket(self, opened: asyncio.Future[None]) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self._url, max_msg_size=self._max_bytes, heartbeat=20) as socket,
        ):

            async def write(data: bytes) -> None:
                await socket.send_str(data.decode())

            self._write = write
            _done(opened)
            async for message in socket:
                if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    self._take(message.data.encode() if isinstance(message.data, str) else message.data)

    async def _read_ipc(self, path: str, opened: asyncio.Future[None]) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        try:

            async def write(data: bytes) -> None:
                writer.write(data + b"\n")
                await writer.drain()

            self._write = write
            _done(opened)
            await self._split(reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _split(self, reader: asyncio.StreamReader) -> None:
        """Nodes end an answer with a line break, or with nothing at all: an answer ends where its braces do."""
        buffer, depth, in_text, at = bytearray(), 0, False, 0
        while chunk := await reader.read(1 << 16):
            buffer += chunk
            if len(buffer) > self._max_bytes:
                raise RpcUnavailableError(f"{self._url} answered more than {self._max_bytes} bytes")
            # from one mark to the next: an answer of a hundred feeds is 70,000 digits in one text
            while (mark := (_IN_TEXT if in_text else _OUTSIDE).search(buffer, at)) is not None:
                byte, at = mark.group(), mark.end()
                if byte == b'"':
                    in_text = not in_text
                elif byte == b"{":
                    depth += 1
                elif byte == b"}":
                    depth -= 1
                    if depth == 0:
                        self._take(bytes(buffer[:at]))
                        del buffer[:at]
                        at = 0
            if not in_text or not buffer.endswith(b"\\"):
                at = len(buffer)
            elif at < len(buffer):  # an escape that is cut in two: look at it again with what follows
                at = len(buffer) - 1

    def _take(self, data: bytes) -> None:
        try:
            number = msgspec.json.decode(data, type=_Head).id
        except msgspec.MsgspecError as error:
            raise RpcUnavailableError(f"{self._url} does not speak JSON-RPC: {error}") from error
        answer = self._waiting.get(number) if number is not None else None
        if answer is not None and not answer.done():
            answer.set_result(data)

    async def _drop(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def close(self) -> None:
        """End the connection, and every open request with an error."""
        await self._drop()


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
