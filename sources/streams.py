"""The streams that one service keeps, each on as many connections as its exchange wants, and what they show.

Whoever wants a price asks here first: `latest` gives what a stream showed at the moment, while that is fresh and the
connection is up; else None, and the price is asked for over HTTP.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence

import aiohttp
import httpx
import msgspec
from prometheus_client import CollectorRegistry

from core.clock import Clock
from core.logs import Logger, get_logger
from core.types import MAX_PRICE, MIN_PRICE, Mode, Pair, SourceFailure
from sources.connection import StreamPolicy
from sources.entries import SourceEntry
from sources.freshness import ChangeTracker
from sources.http import Reading
from sources.latest import Latest
from sources.quoting import judge
from sources.stream import StreamClient, stream_session
from sources.stream_metrics import StreamMetrics
from sources.stream_reader import Sink, Update
from sources.tcp_source import TcpSource

FRESH_MS = 5_000
"""A streamed price that speaks for an earlier time than this before the moment is asked for over HTTP instead."""
PRUNE_S = 1.0
"""Between two looks for readings that are too old to be asked for."""
_ANY_SPREAD_BPS = 20_000
"""No spread is wider. How wide it may be is for each feed to say; here only a crossed book is refused."""


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """How one source's stream stands, for those who operate it. age_s: since the last message; -1: none came so far."""

    source: str
    up: int
    connections: int
    pairs: int
    age_s: float
    last_loss: str


class Streams:
    """The streams of one service. `want` pairs, then `run` until cancelled; `latest` may be asked at any time.

    urls: in test mode, where each source's simulated stream listens; a source that is not in it is not streamed.
    fresh_ms: see `FRESH_MS`. trades, sink: whether each trade is wanted, and who else wants all that is read.
    changes: where every reading is noted, so that a stream that shows the same for ever is known for frozen.
    proxy: an HTTP proxy for all streams; the environment's proxy settings are not looked at.
    """

    def __init__(
        self,
        catalogue: Mapping[str, SourceEntry],
        *,
        clock: Clock,
        registry: CollectorRegistry,
        urls: Mapping[str, str] | None = None,
        fresh_ms: int = FRESH_MS,
        policy: StreamPolicy | None = None,
        rng: random.Random | None = None,
        proxy: str | None = None,
        trades: bool = False,
        sink: Sink | None = None,
        changes: ChangeTracker | None = None,
        logger: Logger | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._urls = urls
        self._fresh_ms = fresh_ms
        self._policy = policy
        self._rng = rng or random.SystemRandom()
        self._proxy = proxy
        self._trades = trades
        self._sink = sink if changes is None else _noting(changes, sink)
        self._log = logger or get_logger("streams", Mode.LIVE if urls is None else Mode.TEST)
        self._latest = Latest()
        self._metrics = StreamMetrics(registry)
        self._wanted: dict[str, dict[Pair, None]] = {}
        self._clients: dict[str, Sequence[StreamClient | TcpSource]] = {}

    def want(self, source: str, pairs: Collection[Pair]) -> tuple[Pair, ...]:
        """Stream these pairs of `source` too, from the next `run` on; which of them its stream can show."""
        entry = self._catalogue.get(source)
        if entry is None or not entry.streamed or (self._urls is not None and source not in self._urls):
            return ()
        shown = tuple(pair for pair in entry.streamed if pair in pairs)
        if shown:
            self._wanted.setdefault(source, {}).update(dict.fromkeys(shown))
        return shown

    @property
    def sources(self) -> tuple[str, ...]:
        """Those that something is wanted of."""
        return tuple(self._wanted)

    def latest(self, source: str, pair: Pair, moment_ms: int) -> Reading | None:
        """What the stream of `source` showed for `pair` at the moment; None where nothing there is to be believed:
        no stream, a connection that is down, no reading so early, one that is not fresh, a crossed book, or a market
        where the stream says that nothing was traded."""
        if pair not in self._wanted.get(source, ()):
            return None
        reading = self._latest.as_of(source, pair, moment_ms)
        outcome = "absent" if reading is None else self._problem(reading, moment_ms) or "used"
        self._metrics.reads.labels(source, outcome).inc()
        return reading if outcome == "used" else None

    async def run(self) -> None:
        """Keep all that is wanted streaming, until cancelled."""
        async with stream_session(httpx.create_ssl_context(trust_env=False)) as session:
            self._clients = {source: self._make(source, session) for source in self._wanted}
            for source, clients in self._clients.items():
                self._metrics.connected.labels(source).set(0)
                self._metrics.watch_age(source, _oldest_age(clients))
            async with asyncio.TaskGroup() as group:
                for clients in self._clients.values():
                    for client in clients:
                        group.create_task(client.run(), name=f"stream:{client.entry.name}")
                group.create_task(self._prune())

    async def _prune(self) -> None:
        """By the clock and not with each reading: a pair that went quiet is pruned, too, and reading stays cheap."""
        while True:
            await asyncio.sleep(PRUNE_S)
            self._latest.prune(self._clock.now_ms())

    def states(self) -> tuple[StreamState, ...]:
        """How each stream stands."""
        return tuple(
            StreamState(
                source=source,
                up=sum(client.line.up for client in clients),
                connections=len(clients),
                pairs=sum(len(client.pairs) for client in clients),
                age_s=round(max(client.age_s() for client in clients), 3),
                last_loss=next((client.last_loss for client in clients if client.last_loss), ""),
            )
            for source, clients in self._clients.items()
        )

    def _make(self, source: str, session: aiohttp.ClientSession) -> Sequence[StreamClient | TcpSource]:
        entry = self._catalogue[source]
        if entry.kind == "tcp":
            return [
                TcpSource(
                    entry,
                    tuple(self._wanted[source]),
                    url=entry.base_url if self._urls is None else self._urls[source],
                    latest=self._latest,
                    clock=self._clock,
                    metrics=self._metrics,
                    rng=self._rng,
                    logger=self._log,
                    policy=self._policy,
                    sink=self._sink,
                )
            ]
        assert entry.stream is not None  # noqa: S101 - it is not wanted without
        pairs, most = tuple(self._wanted[source]), entry.stream.pairs
        return [
            StreamClient(
                entry,
                pairs[start : start + most],
                url=entry.stream.url if self._urls is None else self._urls[source],
                session=session,
                latest=self._latest,
                clock=self._clock,
                metrics=self._metrics,
                rng=self._rng,
                logger=self._log,
                policy=self._policy,
                proxy=self._proxy,
                trades=self._trades,
                sink=self._sink,
            )
            for start in range(0, len(pairs), most)
        ]

    def _problem(self, reading: Reading, moment_ms: int) -> str | None:
        """Why this is no price for anybody, whatever the feed. Freshness is judged as for what came over HTTP."""
        judged = judge(
            reading.ticker,
            reading.source,
            reading.pair,
            received_ms=reading.received_ms,
            moment_ms=moment_ms,
            max_age_ms=self._fresh_ms,
            max_spread_bps=_ANY_SPREAD_BPS,
            min_price=MIN_PRICE,
            max_price=MAX_PRICE,
        )
        return judged.code.value if isinstance(judged, SourceFailure) else None


def _noting(changes: ChangeTracker, sink: Sink | None) -> Sink:
    def note(update: Update) -> None:
        if isinstance(update, Reading):
            changes.saw(update.source, update.pair, update.ticker, update.received_ms, streamed=True)
        if sink is not None:
            sink(update)

    return note


def _oldest_age(clients: Sequence[StreamClient | TcpSource]) -> Callable[[], float]:
    return lambda: max(client.age_s() for client in clients)
