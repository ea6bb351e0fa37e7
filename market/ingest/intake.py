"""All sources of one mode while it is on: started together, and drained before they end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from collections.abc import Callable, Coroutine, Mapping
from functools import partial

from core.clock import Clock
from core.logs import Logger
from core.settings import MarketSettings
from core.types import Mode
from market.ingest.collector import Collector
from market.ingest.metrics import SourceMetrics
from market.ingest.queues import SourceQueue
from market.ingest.streams import StreamSources
from market.ingest.tcp import TcpSource
from market.ingest.workers import Numbers, Refinery, work
from sources import SourceEntry
from sources.stream_metrics import StreamMetrics

Run = Callable[[], Coroutine[None, None, None]]

DRAIN_S = 10.0
"""How long what is in flight may take to reach the window when sources end."""


class Intake:
    """Sources, their queues and workers, and the collector of one mode.

    simulator: its control URL, for the streams of test mode. Without a catalogue no exchange is streamed.
    """

    def __init__(
        self,
        settings: MarketSettings,
        mode: Mode,
        collector: Collector,
        *,
        catalogue: Mapping[str, SourceEntry],
        simulator: str,
        numbers: Numbers,
        metrics: SourceMetrics,
        connections: StreamMetrics,
        clock: Clock,
        logger: Logger,
        rng: random.Random | None = None,
    ) -> None:
        self.collector = collector
        self._settings = settings
        self._numbers = numbers
        self._metrics = metrics
        self._log = logger
        rng = rng or random.SystemRandom()
        tcp = {name: own for name, own in settings.tcp.items() if own.mode in ("both", str(mode))}
        streamed = [name for name in settings.exchanges if name in catalogue]
        self.queues = {name: self._queue(name) for name in (*tcp, *streamed)}
        self._tcp = [
            TcpSource(
                name,
                own.address,
                self.queues[name],
                metrics=metrics,
                connections=connections,
                clock=clock,
                rng=rng,
                logger=logger,
            )
            for name, own in tcp.items()
        ]
        self._streams = StreamSources(
            catalogue,
            {name: self.queues[name] for name in streamed},
            pairs=settings.symbols,
            clock=clock,
            rng=rng,
            logger=logger,
            simulator=simulator if mode is Mode.TEST else None,
        )
        self._arriving: list[asyncio.Task[None]] = []
        self._working: list[asyncio.Task[None]] = []

    def _queue(self, source: str) -> SourceQueue:
        own = self._settings
        return SourceQueue(
            source, symbols=list(own.symbols), most=own.queue_ticks, workers=own.workers, metrics=self._metrics
        )

    def start(self) -> None:
        """Begin to read and to work. A task that ends by a fault of ours is started again, and logged."""
        retention_ms = self._settings.window_s * 1_000
        self._keep(self._working, "collector", self.collector.run)
        for source, queue in self.queues.items():
            refinery = Refinery(source, retention_ms=retention_ms, numbers=self._numbers, metrics=self._metrics)
            for index in range(self._settings.workers):
                self._keep(
                    self._working,
                    f"{source}:{index}",
                    partial(work, index, queue, refinery, self.collector),
                )
        for tcp in self._tcp:
            self._keep(self._arriving, tcp.name, tcp.run)
        if self._streams.names:
            self._keep(self._arriving, "streams", self._streams.run)

    def _keep(self, tasks: list[asyncio.Task[None]], name: str, run: Run) -> None:
        tasks.append(
            asyncio.create_task(
                self._supervised(name, run),
                name=f"market:{name}",
                context=contextvars.Context(),  # not the request's that switched the mode
            )
        )

    async def _supervised(self, name: str, run: Run) -> None:
        while True:
            try:
                await run()
            except Exception:  # noqa: BLE001 - one source's bug must not end the others, nor go unseen
                self._log.exception("market_task_failed", task=name)
            await asyncio.sleep(1.0)

    async def stop(self) -> None:
        """End the sources, let what is in flight arrive, end the workers."""
        await _end(self._arriving)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                for queue in self.queues.values():
                    await queue.drained()
                await self.collector.drained()
        await _end(self._working)

    def states(self) -> dict[str, dict[str, object]]:
        """Each source as `/health` shows it: its connection, its queue, what it sent, what was refused."""
        shown: dict[str, dict[str, object]] = {source.name: dict(source.state()) for source in self._tcp}
        shown.update(self._streams.states())
        for name, queue in self.queues.items():
            shown[name] |= {
                "queue": queue.size,
                "queue_limit": queue.most,
                "ticks": self._metrics.taken.get(name, 0),
                "dropped": self._metrics.refusals(name),
            }
            self._metrics.waiting.labels(name).set(queue.size)
        return shown


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks.clear()
