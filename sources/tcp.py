"""One plain TCP connection to whoever sends lines of JSON: read in chunks, and opened again when it is lost.

Nothing is sent and nothing acknowledged, so the connection counts as up once it is open. A sender that has nothing to
tell is silent, and that is no fault: whether it is still there, TCP's own keep-alive finds out within half a minute.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable
from typing import NoReturn

from msgspec import Struct

from core.clock import Clock
from core.logs import Logger
from core.types import FailureCode
from sources.connection import Connection, LostBecause, StreamPolicy
from sources.errors import StreamLostError
from sources.lines import LineReader, LineTick
from sources.stream_control import Heard
from sources.stream_metrics import StreamMetrics

CHUNK_BYTES = 64 * 1024
"""Read at once, at most: some hundred lines, and less than a millisecond of the event loop's time."""
_KEEP_ALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

BatchSink = Callable[[list[LineTick], int], None]
"""Called with the ticks of one chunk, in order and at least one, and our clock at their receipt, on the event loop: it
must be quick, and must not raise. A sink that cannot take more has to drop."""


class LinesState(Struct, frozen=True, kw_only=True):
    """How one connection stands, for those who operate it. age_s: since anything came; -1: nothing came so far.

    ticks, bad: lines taken and skipped so far, over all connections. last_loss: why it was lost last, or "".
    """

    name: str
    address: str
    up: bool
    ticks: int
    bad: int
    age_s: float
    last_loss: str


class TcpLines(Connection):
    """Lines from `host`:`port`, called `name` in logs and metrics. `run` it until cancelled: it reconnects for ever."""

    def __init__(
        self,
        name: str,
        *,
        host: str,
        port: int,
        on_batch: BatchSink,
        clock: Clock,
        metrics: StreamMetrics,
        rng: random.Random,
        logger: Logger,
        policy: StreamPolicy | None = None,
    ) -> None:
        self.name = name
        self.address = f"{host}:{port}"
        super().__init__(
            name, metrics=metrics, rng=rng, logger=logger.bind(source=name, stream=self.address), policy=policy
        )
        self._host = host
        self._port = port
        self._on_batch = on_batch
        self._clock = clock
        self._reader = LineReader()
        self._ticks = 0
        self._counted: dict[FailureCode, int] = {}
        self._data = metrics.messages.labels(name, Heard.DATA.value)
        metrics.connected.labels(name).set(0)
        metrics.watch_age(name, self.age_s)

    def state(self) -> LinesState:
        return LinesState(
            name=self.name,
            address=self.address,
            up=self.line.up,
            ticks=self._ticks,
            bad=self._reader.bad.total(),
            age_s=round(self.age_s(), 3),
            last_loss=self.last_loss,
        )

    async def _connection(self) -> NoReturn:
        stream, writer = await self._open()
        try:
            self._reader.forget()
            self._heard_at = time.monotonic()
            self._set_up(True)
            while True:
                self._take(await self._next(stream))
        finally:
            # nothing of ours waits to be sent: there is no goodbye to wait for
            writer.transport.abort()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        limit_s = self._policy.connect_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                stream, writer = await asyncio.open_connection(self._host, self._port, limit=CHUNK_BYTES)
        except TimeoutError:
            raise StreamLostError(LostBecause.TIMEOUT, f"not open within {limit_s:g} s") from None
        except OSError as error:
            raise StreamLostError(LostBecause.REFUSED, f"{type(error).__name__}: {error}") from error
        _keep_alive(writer.get_extra_info("socket"))
        return stream, writer

    async def _next(self, stream: asyncio.StreamReader) -> bytes:
        silence_s = self._policy.silence_s
        try:
            if silence_s == float("inf"):
                chunk = await stream.read(CHUNK_BYTES)
            else:
                async with asyncio.timeout(silence_s):
                    chunk = await stream.read(CHUNK_BYTES)
        except TimeoutError:
            raise StreamLostError(LostBecause.SILENT, f"nothing for {silence_s:g} s") from None
        except OSError as error:
            raise StreamLostError(LostBecause.CLOSED, f"{type(error).__name__}: {error}") from error
        if not chunk:
            raise StreamLostError(LostBecause.CLOSED, "the sender closed it")
        return chunk

    def _take(self, chunk: bytes) -> None:
        self._heard_at = time.monotonic()
        received_ms = self._clock.now_ms()
        bad = self._reader.bad.total()
        ticks = self._reader.feed(chunk)
        if self._reader.bad.total() != bad:
            self._count_bad()
        if ticks:
            self._ticks += len(ticks)
            self._data.inc(len(ticks))
            self._on_batch(ticks, received_ms)

    def _count_bad(self) -> None:
        for code, count in self._reader.bad.items():
            if new := count - self._counted.get(code, 0):
                self._counted[code] = count
                self._metrics.bad.labels(self.name, code.value).inc(new)
                self._metrics.messages.labels(self.name, Heard.BAD.value).inc(new)
        self._log.debug("stream_lines_skipped", detail=self._reader.detail)


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has them all
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
