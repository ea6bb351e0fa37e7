"""A market service in this process: its own TCP senders, its API without a network, a clock that tests may hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from core.clock import Clock, SystemClock
from core.logs import get_logger
from core.ops import Ops
from core.settings import LinesSettings, MarketSettings
from core.types import Mode
from market.service import MarketService
from market.store import MinuteStore, SqlMinuteStore
from sources import SourceEntry

TOKEN = "admin-token"


class Sender:
    """A TCP source under a test's control. It keeps its port when it is stopped and started again."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> Sender:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            await reader.read()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def send(self, raw: bytes) -> None:
        await until(lambda: bool(self._writers), "a connection")
        for writer in list(self._writers):
            writer.write(raw)
            await writer.drain()

    async def stop(self) -> None:
        """Stop listening, and cut who is connected."""
        assert self._server is not None
        self._server.close()
        self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        await until(lambda: not self._writers, "the end of connections")
        await asyncio.sleep(0.01)  # transports close on the loop's next turn


async def until(holds: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


def line(symbol: str, price: object, time_ms: int) -> bytes:
    return f'{{"symbol":"{symbol}","price":{price},"timestamp":{time_ms}}}\n'.encode()


class Running:
    """A running service with its API's client."""

    def __init__(self, service: MarketService, client: httpx.AsyncClient, ops: Ops) -> None:
        self.service = service
        self.client = client
        self.ops = ops

    async def get(self, path: str, **query: str) -> Any:
        response = await self.client.get(path, params=query)
        return response.json()

    async def switch(self, mode: str) -> Any:
        response = await self.client.post(f"/mode/{mode}", headers={"Authorization": f"Bearer {TOKEN}"})
        return response.json()

    def counted(self) -> int:
        """Ticks that came out of the queues, whatever became of them; bad lines too."""
        metrics = self.service.metrics
        bad = sum(int(str(state.get("bad_lines", 0))) for state in self.service._intake.states().values())
        return sum(metrics.taken.values()) + sum(metrics.refused.values()) + bad

    async def arrived(self, count: int) -> None:
        """Wait until so many lines have been dealt with."""
        try:
            await until(lambda: self.counted() >= count, f"{count} lines")
        except TimeoutError:
            raise AssertionError(f"{self.counted()} of {count} lines were dealt with") from None


def settings_for(senders: dict[str, Sender], mode: str = "both", **changes: Any) -> MarketSettings:
    tcp = {
        name: LinesSettings(address=f"127.0.0.1:{sender.port}", mode=mode)  # type: ignore[arg-type]
        for name, sender in senders.items()
    }
    return MarketSettings(**{"tcp": tcp, "exchanges": (), **changes})


@contextlib.asynccontextmanager
async def running(
    settings: MarketSettings,
    folder: Path,
    *,
    store: MinuteStore | None = None,
    clock: Clock | None = None,
    mode: Mode = Mode.TEST,
    catalogue: Mapping[str, SourceEntry] | None = None,
    token: str = TOKEN,
) -> AsyncIterator[Running]:
    """The service while the block runs; at its end it is cancelled, as by SIGTERM."""
    clock = clock or SystemClock()
    ops = Ops("market", mode, clock)
    service = MarketService(
        settings=settings,
        mode=mode,
        store=store or SqlMinuteStore(f"sqlite+aiosqlite:///{folder / 'market.sqlite'}"),
        spool=folder / "spool.jsonl",
        catalogue=catalogue or {},
        simulator="http://127.0.0.1:1",
        clock=clock,
        ops=ops,
        token=token,
        logger=get_logger("market", mode),
    )
    task = asyncio.create_task(service.run())
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://market") as client:
        try:
            await until(lambda: ops.ready or task.done(), "readiness")
            yield Running(service, client, ops)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
