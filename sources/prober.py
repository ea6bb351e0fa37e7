"""Finding out whether a source in quarantine is back: one request at a time, when its pause is over.

A probe asks one market. Where the source answers and it is that market that has no ticker, the same probe asks its next
one, until one has a ticker or all have been asked: a source whose only sound market comes last is back no later.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from core.logs import Logger
from sources.errors import NotItsFaultError, ParseError, RequestError
from sources.limits import RateLimit
from sources.markets import NO_TICKER
from sources.metrics import SourceMetrics
from sources.quarantine import State
from sources.vitals import Vitals

AGAIN_S = 1.0
"""A probe that could not be sent is tried again after this."""
JITTER = 0.2
"""By this part a probe comes early, so that several fetchers do not knock in the same moment."""


class Prober:
    """One source's. ask: sends one request for the best of its markets, and raises what is wrong with it, which makes
    another one the best. Use it on one event loop; `close` it."""

    def __init__(
        self,
        source: str,
        vitals: Vitals,
        limit: RateLimit,
        ask: Callable[[], Awaitable[None]],
        *,
        rng: random.Random,
        metrics: SourceMetrics,
        logger: Logger,
    ) -> None:
        self._source = source
        self._vitals = vitals
        self._limit = limit
        self._ask = ask
        self._rng = rng
        self._metrics = metrics
        self._log = logger
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """The source has been quarantined: probe until it is back."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"probe:{self._source}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        quarantine = self._vitals.quarantine
        while (due := quarantine.probe_at) is not None:
            wait_s = max(0.0, due - loop.time())
            await asyncio.sleep(wait_s * (1 - self._rng.uniform(0, JITTER)))
            rest_s, _ = self._limit.resting(loop.time())
            if quarantine.state is State.OK:  # somebody asked it as a last resort, and it answered
                return
            if rest_s > 0:
                quarantine.put_off(loop.time() + rest_s)
                continue
            await self._probe()

    async def _probe(self) -> None:
        loop = asyncio.get_running_loop()
        quarantine = self._vitals.quarantine
        quarantine.probing()
        outcome = "ok"
        try:
            await self._ask_markets()
        except NotItsFaultError:
            outcome = "not_sent"
            quarantine.put_off(loop.time() + AGAIN_S)
        except (RequestError, ParseError) as error:
            outcome = str(error.failure)
            quarantine.probe_failed(loop.time())
        except Exception:  # noqa: BLE001 - a bug here must not leave a source in quarantine for good
            outcome = "internal"
            self._log.exception("probe_failed", source=self._source)
            quarantine.probe_failed(loop.time())
        self._metrics.probes.labels(self._source, outcome).inc()

    async def _ask_markets(self) -> None:
        """Raises what is wrong with the last one asked."""
        for left in range(len(self._vitals.markets), 0, -1):
            try:
                await self._ask()
            except (RequestError, ParseError) as error:
                others = left > 1 and self._vitals.quarantine.state is State.PROBING
                if error.failure not in NO_TICKER or not others:
                    raise
            else:
                return
