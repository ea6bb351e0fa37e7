"""A source that sends lines over TCP: `kind = "tcp"` in its catalogue file. It is streamed and never asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NoReturn
from urllib.parse import urlsplit

from core.clock import Clock
from core.logs import Logger
from core.types import FailureCode, Pair, SourceFailure
from sources.connection import StreamPolicy
from sources.entries import SourceEntry
from sources.http import Reading
from sources.latest import Latest
from sources.limits import Priority
from sources.lines import LineTick
from sources.parse import Ticker
from sources.stream_metrics import StreamMetrics
from sources.stream_reader import Sink
from sources.tcp import TcpLines


class TcpSource(TcpLines):
    """The stream of one such source: each line's price is the last one of its market. `run` it until cancelled.

    url: `tcp://host:port`. Lines of symbols that are not among `pairs` are passed over.
    """

    def __init__(
        self,
        entry: SourceEntry,
        pairs: Sequence[Pair],
        *,
        url: str,
        latest: Latest,
        clock: Clock,
        metrics: StreamMetrics,
        rng: random.Random,
        logger: Logger,
        policy: StreamPolicy | None = None,
        sink: Sink | None = None,
    ) -> None:
        where = urlsplit(url)
        super().__init__(
            entry.name,
            host=where.hostname or "",
            port=where.port or 0,
            on_batch=self._show,
            clock=clock,
            metrics=metrics,
            rng=rng,
            logger=logger,
            policy=policy,
        )
        self.entry = entry
        self.pairs = tuple(pairs)
        self._latest = latest
        self._sink = sink
        self._tracks = {entry.symbol(pair): (pair, latest.track(entry.name, pair, self.line)) for pair in pairs}

    async def _connection(self) -> NoReturn:
        for _, track in self._tracks.values():
            track.readings.clear()
        await super()._connection()

    def _ended(self) -> None:
        for pair, track in self._tracks.values():
            self._latest.drop(self.entry.name, pair, track)

    def _show(self, ticks: list[LineTick], received_ms: int) -> None:
        for tick in ticks:
            found = self._tracks.get(tick.symbol)
            if found is None:
                continue
            pair, track = found
            reading = Reading(
                source=self.entry.name,
                pair=pair,
                ticker=Ticker(last=tick.price, time_ms=tick.time_ms),
                received_ms=received_ms,
                elapsed_ms=0,
            )
            track.readings.append(reading)
            if self._sink is not None:
                self._sink(reading)


class OnlyStreamed:
    """As `sources.http.SourceClient`, for a source that cannot be asked: whoever does learns just that."""

    vitals = None
    limit = None

    def __init__(self, entry: SourceEntry) -> None:
        self.entry = entry

    async def fetch(
        self, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure:
        del deadline, priority, anyway
        detail = "it is streamed only, and its stream shows nothing for the moment"
        return SourceFailure(pair=pair, source=self.entry.name, code=FailureCode.EMPTY, detail=detail)

    async def close(self) -> None:
        pass
