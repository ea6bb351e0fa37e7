"""The simulator as a service: every venue on its own port, and the control port that tells which."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from core.clock import Clock
from core.logs import Logger
from core.ops import Ops, serve
from core.settings import SimulatorSettings
from simulator.board import Board
from simulator.control import control_app
from simulator.errors import SimulatorError, UnknownVenueError
from simulator.exchange import SLOT_MS, Asked, Exchange
from simulator.faults import FaultTable
from simulator.metrics import SimulatorMetrics
from simulator.prices import PriceModel
from simulator.recorded import RecordedBody, Recordings, by_pair, load_recordings
from simulator.served import ServedLog
from simulator.streams import DIALECTS
from simulator.venue_server import VenueServer
from simulator.venues import VENUES
from sources import SourceEntry, load_catalogue


class Simulator:
    """Test mode's exchanges.

    recordings: a folder of recorded bodies. With it, venues answer those bodies and pinned prices and nothing else.
    recorded: single bodies to answer with as they are; all other pairs stay as they would be without.
    venues: which ones, by name (default: all that are in the catalogue and can be simulated).
    catalogue: pairs and symbols of each venue (default: the one that comes with Fairmark).
    Raises `UnknownVenueError`, `RecordingError`.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        *,
        clock: Clock,
        logger: Logger,
        ops: Ops,
        recordings: Path | None = None,
        recorded: Iterable[RecordedBody] = (),
        venues: Collection[str] | None = None,
        catalogue: Mapping[str, SourceEntry] | None = None,
    ) -> None:
        self._settings = settings
        self._logger = logger
        self._ops = ops
        self._port = settings.port
        entries = _chosen(load_catalogue() if catalogue is None else catalogue, venues, logger)
        bodies: Recordings = {**(load_recordings(recordings) if recordings else {}), **by_pair(recorded)}
        model = PriceModel(settings.seed, settings.volatility_bps)
        self.board = Board(model, settings.tick_ms, {name: entry.pairs for name, entry in entries.items()})
        self.faults = FaultTable(entries, settings.seed)
        self.served = ServedLog()
        self._applying = asyncio.Lock()
        metrics = SimulatorMetrics(ops.registry)
        ports = {name: settings.base_port + index if settings.base_port else 0 for index, name in enumerate(VENUES)}
        self._servers = {
            name: VenueServer(
                Exchange(
                    VENUES[name],
                    {entry.symbol(pair): pair for pair in entry.pairs},
                    self.board,
                    {pair: body for (venue, pair), body in bodies.items() if venue == name},
                    replay_only=recordings is not None,
                    inverse=[pair for pair in entry.pairs if entry.is_inverse(pair)],
                    slot_ms=min(settings.tick_ms, SLOT_MS),
                ),
                settings.host,
                ports[name],
                faults=self.faults,
                clock=clock,
                served=self.served,
                metrics=metrics,
                # what is recorded are bodies over HTTP: whoever replays them wants no price beside
                dialect=None if bodies or recordings else DIALECTS.get(name),
                streamed=_streamed(entry),
                slot_s=min(settings.tick_ms, SLOT_MS) / 1000,
            )
            for name, entry in entries.items()
        }
        self._app = control_app(ops, venues=self, faults=self.faults, board=self.board, served=self.served, clock=clock)
        ops.depend("venues", self._check)

    @property
    def control_url(self) -> str:
        """Where the control port is; with port 0, known while it runs."""
        return self._settings.url or f"http://{_reachable(self._settings.host)}:{self._port}"

    @property
    def venue_urls(self) -> dict[str, str]:
        """Base URL by venue, while it runs."""
        return self.urls()

    def urls(self, host: str | None = None) -> dict[str, str]:
        """Base URL by venue, as seen by a client that reaches the simulator under `host`."""
        name = self._seen_as(host)
        return {venue: f"http://{name}:{server.port}" for venue, server in self._servers.items()}

    def stream_urls(self, host: str | None = None) -> dict[str, str]:
        """URL of the stream by venue that has one, as seen by a client that reaches the simulator under `host`."""
        name = self._seen_as(host)
        return {
            venue: f"ws://{name}:{server.port}{server.dialect.path}"
            for venue, server in self._servers.items()
            if server.dialect is not None
        }

    def _seen_as(self, host: str | None) -> str:
        own = urlsplit(self._settings.url).hostname if self._settings.url else None
        return _reachable(host or own or self._settings.host)

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[Simulator]:
        """Serve while the block runs. Raises `StartError` where a port is in use."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._stop)
            for server in self._servers.values():
                await server.start()
            await self.apply_faults()
            self._port = await stack.enter_async_context(
                serve(self._app, self._settings.host, self._settings.port, "simulator")
            )
            self._ops.set_ready()
            self._logger.info("simulator is up", control=self.control_url, venues=len(self._servers))
            try:
                yield self
            finally:
                self._ops.set_not_ready("stopping")

    async def apply_faults(self) -> None:
        """Close or open listeners as `faults` says. To be called after `faults` was changed from inside the process."""
        async with self._applying:
            for name, server in self._servers.items():
                refused = self.faults.refused(name)
                if refused == server.listening:
                    await (server.refuse() if refused else server.resume())
                    self._logger.info("venue refuses connections" if refused else "venue listens again", venue=name)

    async def _stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self._servers.values()))

    async def _check(self) -> str:
        silent = [name for name, server in self._servers.items() if not server.listening]
        if lost := [name for name in silent if not self.faults.refused(name)]:
            raise SimulatorError(f"not listening: {', '.join(lost)}")
        return f"{len(self._servers) - len(silent)} listening, {len(silent)} refused by a fault"


def _chosen(
    catalogue: Mapping[str, SourceEntry], venues: Collection[str] | None, logger: Logger
) -> dict[str, SourceEntry]:
    """The catalogue's entries to simulate."""
    if venues is None:
        for name in catalogue:
            if name not in VENUES:
                logger.warning("source cannot be simulated: simulator/venues has no such format", source=name)
        venues = [name for name in catalogue if name in VENUES]
    for name in venues:
        if name not in VENUES or name not in catalogue:
            raise UnknownVenueError(f"{name!r} cannot be simulated; venues: {', '.join(VENUES)}")
    return {name: catalogue[name] for name in venues}


def _streamed(entry: SourceEntry) -> dict[str, Asked]:
    """What a venue's stream shows, by the symbol that it writes."""
    return {entry.stream_words(pair)["symbol"]: Asked(entry.symbol(pair), pair) for pair in entry.streamed}


def _reachable(host: str) -> str:
    """A host to write into a URL: an address that means "every interface" is reached through the loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host
