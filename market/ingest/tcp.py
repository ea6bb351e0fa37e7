"""A TCP source: lines of JSON into its queue. The connection is `sources.tcp`'s, which comes back for ever."""

from __future__ import annotations

import random
from collections.abc import Mapping

from core.clock import Clock
from core.logs import Logger
from market.ingest.metrics import SourceMetrics
from market.ingest.queues import Chunk, SourceQueue
from sources.lines import LineTick
from sources.stream_metrics import StreamMetrics
from sources.tcp import TcpLines


class Entry:
    """The way from a connection's batches into a queue."""

    def __init__(self, queue: SourceQueue, metrics: SourceMetrics) -> None:
        self._queue = queue
        self._metrics = metrics

    def __call__(self, ticks: list[LineTick], received_ms: int) -> None:
        by_symbol: dict[str, list[LineTick]] = {}
        for tick in ticks:
            own = by_symbol.get(tick.symbol)
            if own is None:
                by_symbol[tick.symbol] = [tick]
            else:
                own.append(tick)
        for symbol, own in by_symbol.items():
            if self._queue.knows(symbol):
                chunk = Chunk(received_ms, [tick.time_ms for tick in own], [tick.price for tick in own])
                self._queue.put(symbol, chunk)
            else:
                self._metrics.dropped(self._queue.source, "unknown_symbol", len(own))


class TcpSource:
    """One TCP source. `run` it until cancelled."""

    def __init__(
        self,
        name: str,
        address: str,
        queue: SourceQueue,
        *,
        metrics: SourceMetrics,
        connections: StreamMetrics,
        clock: Clock,
        rng: random.Random,
        logger: Logger,
    ) -> None:
        host, _, port = address.rpartition(":")
        self.name = name
        self.queue = queue
        self._lines = TcpLines(
            name,
            host=host.strip("[]"),
            port=int(port),
            on_batch=Entry(queue, metrics),
            clock=clock,
            metrics=connections,
            rng=rng,
            logger=logger,
        )

    async def run(self) -> None:
        await self._lines.run()

    @property
    def up(self) -> bool:
        return self._lines.line.up

    def state(self) -> Mapping[str, object]:
        state = self._lines.state()
        return {
            "kind": "tcp",
            "address": state.address,
            "up": state.up,
            "age_s": state.age_s,
            "bad_lines": state.bad,
            "last_loss": state.last_loss,
        }
