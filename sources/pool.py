"""The sources that one fetcher asks, each behind a client of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx
from msgspec import structs
from prometheus_client import CollectorRegistry

from core.clock import Clock
from core.logs import Logger, get_logger
from core.types import FailureCode, Mode, Pair, SourceFailure
from sources.clocks import SourceClocks
from sources.entries import SourceEntry
from sources.errors import CatalogueError
from sources.http import Reading, SourceClient
from sources.limit_entries import UNLIMITED, LimitFormat
from sources.limits import Priority, RateLimit
from sources.metrics import SourceMetrics
from sources.quarantine import QuarantinePolicy
from sources.retries import RetryPolicy
from sources.status import SourceStatus, status_of
from sources.tcp_source import OnlyStreamed
from sources.through_ccxt import CcxtClient
from sources.transport import DirectTransport
from sources.window import Window

CONNECTIONS = httpx.Limits(max_connections=32, max_keepalive_connections=32, keepalive_expiry=60)


class SourcePool:
    """One shared HTTP client a source. Build it inside the event loop that uses it; `close` it, or use it as a context.

    base_urls: in test mode, where each source's simulated venue listens. With it, the real exchanges are never asked: a
    source that is not in it is a `CatalogueError`, as is a name that the catalogue does not hold.
    timeouts: by source, seconds for one request, where they are not the policy's. limits: by source, what may be asked
    of it; default: what the catalogue declares at the real exchanges, and `UNLIMITED` at simulated venues, which
    declare nothing. Sources at one address share a limit. shares: by source, how many processes ask it from this
    address: each takes so small a part of its limit; default: this one alone.
    proxy: an HTTP proxy for all sources; the environment's proxy settings are not looked at.
    """

    def __init__(
        self,
        catalogue: Mapping[str, SourceEntry],
        names: Iterable[str],
        *,
        clock: Clock,
        registry: CollectorRegistry,
        base_urls: Mapping[str, str] | None = None,
        policy: RetryPolicy | None = None,
        quarantine: QuarantinePolicy | None = None,
        timeouts: Mapping[str, float] | None = None,
        limits: Mapping[str, LimitFormat] | None = None,
        shares: Mapping[str, int] | None = None,
        rng: random.Random | None = None,
        proxy: str | None = None,
        logger: Logger | None = None,
    ) -> None:
        wanted = tuple(dict.fromkeys(names))
        problems = [f"{name}: no such source in the catalogue" for name in wanted if name not in catalogue]
        if base_urls is not None:
            problems += [f"{name}: the simulator has no such venue" for name in wanted if name not in base_urls]
        if problems:
            raise CatalogueError(problems, "sources")
        tls = httpx.create_ssl_context(trust_env=False)
        metrics = SourceMetrics(registry)
        self._clocks = SourceClocks(clock)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        policy = policy or RetryPolicy()
        declared = {name: catalogue[name].limit if base_urls is None else UNLIMITED for name in wanted}
        declared |= limits or {}
        shares = {name: (shares or {}).get(name, 1) for name in wanted}
        declared = {
            name: limit if limit is UNLIMITED else limit.shared_by(shares[name]) for name, limit in declared.items()
        }
        shared: dict[str, RateLimit] = {}
        for name in wanted:
            window = Window(declared[name].weight, declared[name].window_s)
            shared.setdefault(urlsplit(catalogue[name].base_url).netloc, RateLimit(window))
        logger = logger or get_logger("sources", Mode.LIVE if base_urls is None else Mode.TEST)

        def client(entry: SourceEntry) -> SourceClient | CcxtClient | OnlyStreamed:
            timeout_s = (timeouts or {}).get(entry.name, policy.try_timeout_s)
            if entry.kind == "tcp":
                return OnlyStreamed(entry)
            if entry.kind == "ccxt":
                return CcxtClient(
                    entry,
                    clock=clock,
                    metrics=metrics,
                    timeout_s=timeout_s,
                    logger=logger,
                    quarantine=quarantine or QuarantinePolicy(),
                    rng=rng or random.SystemRandom(),
                    share=shares[entry.name],
                )
            return SourceClient(
                entry,
                base_url=entry.base_url if base_urls is None else base_urls[entry.name],
                transport=DirectTransport(tls, CONNECTIONS, proxy),
                clock=clock,
                metrics=metrics,
                rng=rng or random.SystemRandom(),
                policy=structs.replace(policy, try_timeout_s=timeout_s),
                limit=shared[urlsplit(entry.base_url).netloc],
                weights=declared[entry.name],
                quarantine=quarantine or QuarantinePolicy(),
                logger=logger,
                clocks=self._clocks,
            )

        self._clients = {name: client(catalogue[name]) for name in wanted}

    @property
    def names(self) -> tuple[str, ...]:
        """The sources of this pool, in the order they were given in."""
        return tuple(self._clients)

    def entry(self, source: str) -> SourceEntry:
        """Raises `KeyError`."""
        return self._clients[source].entry

    def serves(self, source: str, pair: str) -> bool:
        client = self._clients.get(source)
        return client is not None and client.entry.serves(pair)

    async def fetch(
        self, source: str, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure:
        """Ask `source` for `pair` and be done by `deadline` (the event loop's time). priority: who goes first where
        the source's limit has no room for all. anyway: ask it in quarantine too, as a last resort.

        Raises nothing but `CancelledError`: a failure is returned, with its code.
        """
        client = self._clients.get(source)
        if client is None:
            detail = f"{source} is not among this fetcher's sources"
            return SourceFailure(pair=pair, source=source, code=FailureCode.UNSUPPORTED, detail=detail)
        return await client.fetch(pair, deadline=deadline, priority=priority, anyway=anyway)

    def hedge_s(self, source: str) -> float | None:
        """Seconds of silence after which another source should be asked beside `source`; None: not known yet."""
        client = self._clients.get(source)
        return None if client is None or client.vitals is None else client.vitals.hedge_s(self._loop.time())

    def status(self) -> tuple[SourceStatus, ...]:
        """How each source is, in this pool's order."""
        now, now_ms = self._loop.time(), self._clock.now_ms()
        return tuple(status_of(name, each.vitals, each.limit, now, now_ms) for name, each in self._clients.items())

    def clock_offsets(self) -> dict[str, float]:
        """By source that lately told the time, milliseconds by which its clock is ahead of ours."""
        return self._clocks.offsets()

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
