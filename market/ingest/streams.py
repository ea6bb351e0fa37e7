"""The exchanges' streams: each trade is a tick. In test mode they are the simulator's, of the same formats."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from core.clock import Clock
from core.logs import Logger
from core.types import Pair
from market.ingest.queues import Chunk, SourceQueue
from sources import SourceEntry
from sources.errors import SimulatorUnreachableError
from sources.simulated import simulator_stream_urls
from sources.stream_reader import Trade, Update
from sources.streams import Streams

RETRY_S = 2.0


class StreamSources:
    """All exchanges that are streamed. `run` it until cancelled.

    queues: by exchange. simulator: its control URL, in test mode; it is asked until it answers.
    """

    def __init__(
        self,
        catalogue: Mapping[str, SourceEntry],
        queues: Mapping[str, SourceQueue],
        *,
        pairs: Mapping[str, Pair],
        clock: Clock,
        rng: random.Random,
        logger: Logger,
        simulator: str | None,
    ) -> None:
        self._catalogue = catalogue
        self._queues = queues
        self._symbols: Mapping[Pair, str] = {pair: symbol for symbol, pair in pairs.items()}
        self._clock = clock
        self._rng = rng
        self._log = logger
        self._simulator = simulator
        self._streams: Streams | None = None
        self._because = "not connected yet"

    @property
    def names(self) -> tuple[str, ...]:
        """The exchanges."""
        return tuple(self._queues)

    async def run(self) -> None:
        urls = None if self._simulator is None else await self._simulated(self._simulator)
        streams = Streams(
            self._catalogue,
            clock=self._clock,
            registry=CollectorRegistry(),  # one a run: a registry takes each name once
            urls=urls,
            rng=self._rng,
            trades=True,
            sink=self._take,
            logger=self._log,
        )
        for name in self._queues:
            if not streams.want(name, tuple(self._symbols)):
                self._log.warning("exchange_not_streamed", source=name, because="no stream of these pairs")
        self._because = "no stream of these pairs"
        self._streams = streams
        await streams.run()

    async def _simulated(self, control_url: str) -> dict[str, str]:
        while True:
            try:
                return await simulator_stream_urls(control_url)
            except SimulatorUnreachableError as error:
                if self._because != str(error):
                    self._log.warning("simulator_unreachable", error=str(error))
                self._because = str(error)
                await asyncio.sleep(RETRY_S)

    def _take(self, update: Update) -> None:
        if isinstance(update, Trade):
            when = update.received_ms if update.time_ms is None else update.time_ms
            chunk = Chunk(update.received_ms, [when], [update.price], update.size)
            self._queues[update.source].put(self._symbols[update.pair], chunk)

    def states(self) -> dict[str, dict[str, object]]:
        """By exchange, as `/health` shows them."""
        known = {} if self._streams is None else {state.source: state for state in self._streams.states()}
        shown: dict[str, dict[str, object]] = {}
        for name in self._queues:
            state = known.get(name)
            shown[name] = {
                "kind": "stream",
                "up": state is not None and state.up > 0,
                "age_s": -1.0 if state is None else state.age_s,
                "last_loss": self._because if state is None else state.last_loss,
            }
        return shown
