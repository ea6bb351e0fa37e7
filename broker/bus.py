"""The bus's interface. `broker.memory` and `broker.rabbitmq` implement it and pass the same contract tests.

Delivery is at least once: every handler is idempotent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol

from broker.messages import Message

DRAIN_S = 5.0
"""How long a cancelled subscription waits for the handlers that run, where nobody says otherwise."""


class Topic(StrEnum):
    JOBS = "jobs"  # aggregator to fetchers: Job
    REPORTS = "reports"  # fetchers to aggregators: Report or Refusal
    HINTS = "hints"  # fetchers to aggregators: Hint


class Rejected(Exception):
    """Raised by a handler: this message can never be handled; put it with the dead letters."""


Handler = Callable[[Message], Awaitable[None]]
"""Returning acknowledges. Raising `Rejected` dead-letters. Any other exception redelivers, at most three times in all,
and then dead-letters."""


class Subscription(Protocol):
    async def cancel(self, within_s: float = DRAIN_S) -> None:
        """Take no more messages; return once those in hand are handled (drain).

        Handlers that run on after `within_s` are cancelled, and their messages return to the queue.
        """
        ...


class Bus(Protocol):
    async def start(self) -> None:
        """Connect. Raises `BrokerUnavailableError` when no URL answers within the connect timeout."""
        ...

    async def close(self) -> None:
        """Stop consuming, drain, disconnect. Safe to call twice."""
        ...

    async def publish(self, topic: Topic, message: Message, *, ttl_ms: int | None = None) -> None:
        """Return once the broker has taken responsibility for the message (publisher confirm).

        ttl_ms: a message not consumed within it is dropped to the dead letters instead of delivered late.
        Raises `BrokerUnavailableError` (also after the publish timeout), `UnroutableError`, or
        `MalformedMessageError` (larger than a message may be).
        """
        ...

    async def subscribe(
        self, topic: Topic, queue: str, handler: Handler, *, prefetch: int = 16, exclusive: bool = False
    ) -> Subscription:
        """Bind `queue` to `topic` and consume it. Survives reconnection: consuming goes on by itself.

        Every distinct queue gets its own copy of each message; subscribers of the same queue share them.
        prefetch: most deliveries in hand at once. exclusive: the queue goes away with this subscriber (an instance's
        own queue), instead of keeping messages for its return.
        """
        ...

    @property
    def connected(self) -> bool: ...

    async def ping(self) -> float:
        """Round trip to the broker in milliseconds. Raises `BrokerUnavailableError`."""
        ...
