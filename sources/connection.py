"""What every lasting connection does, whatever it speaks: opened, watched, lost for a reason, and opened again.

    wait ──► connect ──► read … ──► lost: why? ──► wait (exponential backoff, full jitter)

`sources.stream` (WebSocket) and `sources.tcp` (lines) say what happens in between.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from enum import StrEnum
from typing import NoReturn

from msgspec import Struct

from core.logs import Logger
from sources.errors import StreamLostError
from sources.latest import Line
from sources.stream_metrics import StreamMetrics


class LostBecause(StrEnum):
    """Why a connection was lost, or not made. A closed set: metrics use these and no others."""

    REFUSED = "refused"  # no connection: refused, DNS, TLS, an HTTP status instead of a WebSocket
    RATE_LIMITED = "rate_limited"  # HTTP 429 or 418 instead of a WebSocket
    TIMEOUT = "timeout"  # not open in time
    CLOSED = "closed"  # by the exchange, or on the way
    SILENT = "silent"
    NOT_SUBSCRIBED = "not_subscribed"  # nothing was acknowledged and no data came
    TOLD_TO_LEAVE = "told_to_leave"
    GARBAGE = "garbage"  # mostly bad messages
    RENUMBERED = "renumbered"  # numbers that do not rise any more: all that follows would pass for repeated
    TOO_LARGE = "too_large"  # a message beyond the bound
    INTERNAL = "internal"  # our own fault: a bug, logged with its cause


class StreamPolicy(Struct, frozen=True, kw_only=True):
    """Waits and bounds of one connection. Times in seconds.

    backoff_s, max_backoff_s: before try n + 1, a wait drawn evenly from 0 to backoff_s * 2**(n - 1), as over HTTP.
    steady_s: a connection that was up for so long starts the count anew. garbage: of the last so many messages more
    than half were bad: it is lost. silence_s: in place of the declared silence, where it is shorter (tests).
    """

    connect_timeout_s: float = 10.0
    subscribe_timeout_s: float = 10.0
    close_timeout_s: float = 1.0
    backoff_s: float = 0.5
    max_backoff_s: float = 30.0
    steady_s: float = 10.0
    garbage: int = 50
    silence_s: float = float("inf")


class Connection(ABC):
    """`run` it until cancelled."""

    def __init__(
        self, name: str, *, metrics: StreamMetrics, rng: random.Random, logger: Logger, policy: StreamPolicy | None
    ) -> None:
        self.line = Line()
        self.last_loss: str = ""
        """Why the connection was lost last, with its detail; "" where it never was."""
        self._name = name
        self._metrics = metrics
        self._rng = rng
        self._log = logger
        self._policy = policy or StreamPolicy()
        self._heard_at: float | None = None  # monotonic: metrics may ask from elsewhere

    def age_s(self) -> float:
        """Seconds since anything came; -1 before the first."""
        return -1.0 if self._heard_at is None else time.monotonic() - self._heard_at

    async def run(self) -> None:
        """Keep the connection until cancelled, which closes it. Raises nothing but `CancelledError`."""
        losses = 0
        try:
            while True:
                rest_s = 0.0
                started = time.monotonic()
                try:
                    await self._connection()
                except StreamLostError as error:
                    because, detail, rest_s = LostBecause(error.because), str(error), error.retry_after_s
                except Exception as error:  # noqa: BLE001 - a bug in one stream must not end the others, nor go unseen
                    because, detail = LostBecause.INTERNAL, f"{type(error).__name__}: {error}"
                    self._log.exception("stream_failed_inside")
                was_up = self.line.up
                self._set_up(False)
                self.last_loss = f"{because}: {detail}"
                self._metrics.reconnects.labels(self._name, because.value).inc()
                losses = 1 if was_up and time.monotonic() - started >= self._policy.steady_s else losses + 1
                ceiling = min(self._policy.max_backoff_s, self._policy.backoff_s * 2 ** min(losses - 1, 30))
                wait_s = rest_s + self._rng.uniform(0, ceiling)
                self._log.warning("stream_lost", because=because.value, detail=detail, again_in_s=round(wait_s, 2))
                await asyncio.sleep(wait_s)
        finally:
            self._set_up(False)
            self._ended()

    @abstractmethod
    async def _connection(self) -> NoReturn:
        """One connection from opening to its loss, which is raised as `StreamLostError`. It calls `_set_up(True)` once
        the other side has shown that it is there, and notes in `_heard_at` when anything came."""

    def _ended(self) -> None:  # noqa: B027 - most have nothing to give back
        """`run` ends for good."""

    def _set_up(self, up: bool) -> None:
        if up and not self.line.up:
            self._log.info("stream_up")
        if up != self.line.up:
            self.line.up = up
            gauge = self._metrics.connected.labels(self._name)
            (gauge.inc if up else gauge.dec)()
