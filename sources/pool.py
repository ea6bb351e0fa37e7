"""The sources that one fetcher asks, each behind a client of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import httpx
import msgspec
from prometheus_client import CollectorRegistry

from core.clock import Clock
from core.logs import Logger, get_logger
from core.types import FailureCode, Mode, Pair, SourceFailure
from sources.entries import SourceEntry
from sources.errors import CatalogueError, SimulatorUnreachableError
from sources.http import Reading, RetryPolicy, SourceClient
from sources.metrics import SourceMetrics
from sources.transport import DirectTransport

LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=32, keepalive_expiry=60)


class SourcePool:
    """One shared HTTP client a source. Build it inside the event loop that uses it; `close` it, or use it as a context.

    base_urls: in test mode, where each source's simulated venue listens. With it, the real exchanges are never asked: a
    source that is not in it is a `CatalogueError`, as is a name that the catalogue does not hold.
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
        self._clients = {
            name: SourceClient(
                catalogue[name],
                base_url=catalogue[name].base_url if base_urls is None else base_urls[name],
                transport=DirectTransport(tls, LIMITS, proxy),
                clock=clock,
                metrics=metrics,
                rng=rng or random.SystemRandom(),
                policy=policy or RetryPolicy(),
                logger=logger or get_logger("sources", Mode.LIVE if base_urls is None else Mode.TEST),
            )
            for name in wanted
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The sources of this pool, in the order they were given in."""
        return tuple(self._clients)

    def entry(self, source: str) -> SourceEntry:
        """Raises `KeyError`."""
        return self._clients[source].entry

    def serves(self, source: str, pair: str) -> bool:
        client = self._clients.get(source)
        return client is not None and pair in client.entry.symbols

    async def fetch(self, source: str, pair: Pair, *, deadline: float) -> Reading | SourceFailure:
        """Ask `source` for `pair` and be done by `deadline` (the event loop's time).

        Raises nothing but `CancelledError`: a failure is returned, with its code.
        """
        client = self._clients.get(source)
        if client is None:
            detail = f"{source} is not among this fetcher's sources"
            return SourceFailure(pair=pair, source=source, code=FailureCode.UNSUPPORTED, detail=detail)
        return await client.fetch(pair, deadline=deadline)

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def simulator_base_urls(control_url: str, *, timeout_s: float = 2.0) -> dict[str, str]:
    """Where the simulator's venues listen, by source: `GET {control_url}/venues`.

    Raises `SimulatorUnreachableError`.
    """
    url = f"{control_url.rstrip('/')}/venues"
    try:
        async with asyncio.timeout(timeout_s), httpx.AsyncClient(trust_env=False, timeout=timeout_s) as client:
            response = await client.get(url)
        response.raise_for_status()
        return msgspec.json.decode(response.content, type=dict[str, str])
    except (httpx.HTTPError, msgspec.MsgspecError, TimeoutError) as error:
        raise SimulatorUnreachableError(
            f"no list of venues at {url} ({type(error).__name__}); start `fairmark simulator`, or set simulator.url"
        ) from error
