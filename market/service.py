"""The market data as a service: the current mode's sources, a window and a book for each mode, minutes to the database.

Windows and books of both modes live side by side; sources feed those of the current one, and questions are answered
from it. A change of mode ends the old mode's sources, lets what is in flight arrive, writes the old mode's minutes, and
only then starts the new one's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI

from core.clock import Clock
from core.logs import Logger, get_logger
from core.ops import Ops
from core.settings import MarketSettings
from core.types import Mode
from market.api import build_app
from market.errors import NoSourceError, NotReadyError
from market.ingest.collector import Collector
from market.ingest.intake import Intake
from market.ingest.metrics import SourceMetrics
from market.ingest.workers import Numbers
from market.keeper import MinuteKeeper
from market.memory import MemoryWindow
from market.minutes import MinuteBook, MinuteRow
from market.mirror import MirroredWindow
from market.redis_window import RedisWindow
from market.spool import Spool
from market.statistics import Statistics
from market.store import MinuteStore
from sources import SourceEntry
from sources.stream_metrics import StreamMetrics

FLUSH_S = 5.0
"""How long the end waits for the database and for Redis."""


class _Side:
    """All that belongs to one mode."""

    def __init__(self, service: MarketService, mode: Mode) -> None:
        own = service.settings
        window_ms = own.window_s * 1_000
        self.mode = mode
        self.book = MinuteBook(mode, retention_ms=window_ms, grace_ms=own.grace_ms)
        self.memory = MemoryWindow(retention_ms=window_ms, max_ticks=own.window_ticks)
        self.mirror: MirroredWindow | None = None
        if own.redis_url is not None:
            copy = RedisWindow(own.redis_url, prefix=own.redis_prefix, mode=mode, retention_ms=window_ms)
            self.mirror = MirroredWindow(
                self.memory,
                copy,
                symbols=tuple(own.symbols),
                clock=service.clock,
                logger=service.log.bind(mode=str(mode)),
                numbers=service.numbers,
                left_out=service.metrics.left_out.labels(str(mode)),
            )
        window = self.mirror or self.memory
        self.collector = Collector(
            mode=mode, window=window, book=self.book, clock=service.clock, metrics=service.metrics
        )
        self.statistics = Statistics(
            mode=mode,
            symbols=tuple(own.symbols),
            exchanges=lambda: (*own.tcp, *own.exchanges),
            window=window,
            minutes=_Minutes(service, mode),
            clock=service.clock,
            window_ms=window_ms,
            longest_ms=max(own.longest_period_s, own.window_s) * 1_000,
        )


class _Minutes:
    """`market.statistics.Minutes` of one mode."""

    def __init__(self, service: MarketService, mode: Mode) -> None:
        self._service = service
        self._mode = mode

    async def rows(self, symbol: str, exchange: str | None, from_ms: int, to_ms: int) -> list[MinuteRow]:
        return await self._service.keeper.rows(self._mode, symbol, exchange, from_ms, to_ms)


class MarketService:
    """Serve `app` (with `core.ops.serve`) while `run` runs.

    store: where minutes go; it is opened and closed here. spool: the file in which they wait meanwhile. simulator: its
    control URL, for the streams of test mode. token: for `POST /mode/…`; empty: the mode cannot be switched.
    """

    def __init__(
        self,
        *,
        settings: MarketSettings,
        mode: Mode,
        store: MinuteStore,
        spool: Path,
        catalogue: Mapping[str, SourceEntry],
        simulator: str,
        clock: Clock,
        ops: Ops,
        token: str = "",
        logger: Logger | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.log = logger or get_logger("market", mode)
        self.metrics = SourceMetrics(ops.registry)
        self.numbers = Numbers()
        self._connections = StreamMetrics(ops.registry)
        self._catalogue = catalogue
        self._simulator = simulator
        self._store = store
        self._ops = ops
        self._switching = asyncio.Lock()
        self._sides = {each: _Side(self, each) for each in Mode}
        self._side = self._sides[mode]
        self._intake = self._make_intake()
        self.keeper = MinuteKeeper(
            store,
            Spool(spool, max_rows=settings.spool_rows),
            [side.book for side in self._sides.values()],
            clock=clock,
            logger=self.log,
            metrics=self.metrics,
            symbols=tuple(settings.symbols),
            window_ms=settings.window_s * 1_000,
            retention_days=settings.retention_days,
        )
        ops.depend("sources", self._check_sources, required=False)
        ops.depend("database", self.keeper.check, required=False, timeout_s=4.0)
        if settings.redis_url is not None:
            ops.depend("redis", self._check_redis, required=False)
        ops.show("sources", self._states)
        ops.show("queues", self._queues)
        self.app: FastAPI = build_app(self, ops=ops, clock=clock, token=token)

    @property
    def mode(self) -> Mode:
        return self._side.mode

    @property
    def statistics(self) -> Statistics:
        """Of the current mode."""
        return self._side.statistics

    def _make_intake(self) -> Intake:
        return Intake(
            self.settings,
            self.mode,
            self._side.collector,
            catalogue=self._catalogue,
            simulator=self._simulator,
            numbers=self.numbers,
            metrics=self.metrics,
            connections=self._connections,
            clock=self.clock,
            logger=self.log,
        )

    async def run(self) -> None:
        """Take ticks in until cancelled; then what is in flight arrives, and the current minute is written."""
        await self.keeper.start()
        mirrors = [side.mirror for side in self._sides.values() if side.mirror is not None]
        await asyncio.gather(*(mirror.load() for mirror in mirrors))  # of both modes: the other may be switched to
        keeping = asyncio.create_task(self.keeper.run(), name="market:minutes")
        copying = [asyncio.create_task(mirror.run(), name="market:redis") for mirror in mirrors]
        forgetting = asyncio.create_task(self._forget(), name="market:forget")
        try:
            self._intake.start()
            self._ops.set_ready()
            self.log.info("market_ready", sources=sorted(self._intake.queues), symbols=sorted(self.settings.symbols))
            await self._until_one_fails([keeping, forgetting, *copying])
        finally:
            self._ops.set_not_ready("stopping")
            await _end([keeping, forgetting])
            await self._close(copying)

    async def _forget(self) -> None:
        """Old ticks go as new ones come; to the window of the mode that is off none do."""
        while True:
            await asyncio.sleep(1.0)
            for side in self._sides.values():
                side.memory.take((), self.clock.now_ms())

    @staticmethod
    async def _until_one_fails(tasks: list[asyncio.Task[None]]) -> None:
        """Until cancelled, which leaves them running: what is in flight still needs them."""
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _close(self, copying: list[asyncio.Task[None]]) -> None:
        async with self._switching:
            await self._intake.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self.keeper.flush()
        for side in self._sides.values():
            if side.mirror is not None:
                await side.mirror.settle(FLUSH_S)
        await _end(copying)
        for side in self._sides.values():
            if side.mirror is not None:
                await side.mirror.close()
        await self._store.close()
        self.log.info("market_stopped")

    async def switch(self, mode: Mode) -> bool:
        """Go over to `mode`; False where it is the current one. The oracle's own mode is another matter.

        Raises `NotReadyError` before the start is over and once the end has begun.
        """
        async with self._switching:
            if not self._ops.ready:  # asked within the lock: whoever waited for it may find the service closed
                because = self._ops.not_ready_because
                raise NotReadyError(f"the market data is {because}: ask again when /ready answers 200")
            if mode is self.mode:
                return False
            old = self.mode
            await self._intake.stop()
            await self.keeper.flush()
            self._side = self._sides[mode]
            self._ops.mode = mode
            self.log = self.log.bind(mode=str(mode))
            self._intake = self._make_intake()
            self._intake.start()
            self.log.warning("market_mode", old=str(old), new=str(mode))
            return True

    async def _check_sources(self) -> str:
        states = self._intake.states()
        up = [name for name, state in states.items() if state["up"]]
        lost = [f"{name} ({state['last_loss'] or 'connecting'})" for name, state in states.items() if not state["up"]]
        if not up:
            raise NoSourceError(f"none is connected: {'; '.join(lost)}"[:500])
        return f"{', '.join(up)} up" + (f"; not connected: {'; '.join(lost)}"[:400] if lost else "")

    async def _check_redis(self) -> str:
        assert self._side.mirror is not None  # noqa: S101 - it is watched where it is configured only
        return await self._side.mirror.check()

    def _states(self) -> dict[str, dict[str, object]]:
        return self._intake.states()

    def _queues(self) -> dict[str, object]:
        side = self._side
        return {
            "sources": sum(queue.size for queue in self._intake.queues.values()),
            "collector": side.collector.waiting,
            "redis": 0 if side.mirror is None else side.mirror.waiting,
            "redis_left_out": 0 if side.mirror is None else side.mirror.left_out,
            "window_ticks": side.memory.held,
            "window_thinned": side.memory.thinned,
        }


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel and await, again where a library's call has swallowed it."""
    for _ in range(3):
        if not (left := [task for task in tasks if not task.done()]):
            break
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=2)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # looked at: whoever waited for the first to end has raised it
