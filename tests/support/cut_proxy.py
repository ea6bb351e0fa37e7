"""A TCP proxy that a test can cut, freeze or slow: a server that is away, hangs or lags, and knows nothing of it."""

from __future__ import annotations

import asyncio
import contextlib


class CutProxy:
    """Forwards `port` to `host`:`to_port`."""

    def __init__(self, host: str, to_port: int) -> None:
        self._host, self._to_port = host, to_port
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._seconds_a_byte = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> CutProxy:
        """Listen; again on the same port after a cut."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def cut(self) -> None:
        """Refuse connections, and end those that stand."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)

    def freeze(self) -> None:
        """Accept connections, and forward nothing."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def slow(self, bytes_per_s: int | None) -> None:
        """Give the server so much of each connection; None: all that comes."""
        self._seconds_a_byte = 1 / bytes_per_s if bytes_per_s else 0.0

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there: asyncio.StreamWriter | None = None
        try:
            back, there = await asyncio.open_connection(self._host, self._to_port)
            await asyncio.gather(self._pump(reader, there, slowed=True), self._pump(back, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, there):
                if each is not None:
                    each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slowed: bool = False) -> None:
        while data := await reader.read(4_096 if slowed and self._seconds_a_byte else 65_536):
            await self._flows.wait()
            if slowed and self._seconds_a_byte:
                await asyncio.sleep(len(data) * self._seconds_a_byte)
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
