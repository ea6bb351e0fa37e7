"""Publishing with confirms: each message ends as taken by the broker, unroutable, or unavailable within the timeout."""

from __future__ import annotations

import asyncio
import random
from itertools import takewhile
from typing import Any

import pika
from pika.exceptions import AMQPError

from broker.errors import BrokerUnavailableError, UnroutableError
from broker.keeper import Keeper
from broker.link import Channel, Link, fail, settle
from broker.topology import declare_exchanges
from core.logs import Logger

MAX_IN_FLIGHT = 10_000
TRANSIENT, PERSISTENT = 1, 2
PERSIST_FROM_TTL_MS = 10_000
"""A message with a shorter life than a broker's restart need not wait for the disk, where its queue lets it choose."""


class Publisher:
    """The publishing side of one link."""

    def __init__(self, link: Link, namespace: str, log: Logger, rng: random.Random) -> None:
        self._link = link
        self._namespace = namespace
        self._keeper = Keeper(link, self._set_up, log, rng)
        self._pending: dict[int, asyncio.Future[None]] = {}  # by delivery tag of the channel that stands, rising
        self._last_tag = 0

    @property
    def ready(self) -> bool:
        return self._keeper.ready.is_set()

    async def start(self) -> None:
        await self._keeper.start()

    async def close(self) -> None:
        """Publish no more. The channel goes with its link."""
        await self._keeper.release()

    async def publish(self, exchange: str, routing_key: str, message_id: str, data: bytes, ttl_ms: int | None) -> None:
        """Wait for a channel, publish, wait for the confirm: the caller bounds all of it.

        Raises `UnroutableError` or `BrokerUnavailableError`. Cancelled after the send, the message may be there.
        """
        while (channel := self._keeper.channel) is None or not channel.is_open or not self._link.flowing.is_set():
            await asyncio.sleep(0)  # a channel that was lost just now is let go in the next turn
            await self._keeper.ready.wait()
            await self._link.flowing.wait()
        if len(self._pending) >= MAX_IN_FLIGHT:
            raise BrokerUnavailableError(f"{MAX_IN_FLIGHT} messages await the broker's confirm already")
        tag = self._last_tag + 1
        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=TRANSIENT if ttl_ms is not None and ttl_ms < PERSIST_FROM_TTL_MS else PERSISTENT,
            message_id=message_id,
            correlation_id=str(tag),  # a returned message carries no tag: by this we know it
            expiration=None if ttl_ms is None else str(max(ttl_ms, 1)),
            app_id="fairmark",
        )
        try:
            channel.raw.basic_publish(exchange, routing_key, data, properties, mandatory=True)
        except AMQPError as error:
            raise BrokerUnavailableError(f"the connection was lost before publishing: {error!r}") from error
        self._last_tag = tag
        confirmed = self._pending[tag] = asyncio.get_running_loop().create_future()
        await confirmed

    async def _set_up(self, channel: Channel) -> None:
        await declare_exchanges(channel, self._namespace)
        pending: dict[int, asyncio.Future[None]] = {}
        self._pending, self._last_tag = pending, 0
        channel.raw.add_on_return_callback(lambda _c, _m, properties, _b: self._on_return(pending, properties))
        channel.closed.add_done_callback(lambda closed: _fail_all(pending, str(closed.result())))
        await channel.call(
            channel.raw.confirm_delivery,
            ack_nack_callback=lambda frame: self._on_confirm(channel, pending, frame.method),
        )

    @staticmethod
    def _on_return(pending: dict[int, asyncio.Future[None]], properties: Any) -> None:
        if confirmed := pending.get(int(properties.correlation_id)):  # its confirm follows and takes it from `pending`
            fail(confirmed, UnroutableError("no queue is bound to the topic: is any consumer running?"))

    @staticmethod
    def _on_confirm(channel: Channel, pending: dict[int, asyncio.Future[None]], method: Any) -> None:
        last = method.delivery_tag
        tags = list(takewhile(lambda tag: tag <= last, pending)) if method.multiple else [last]
        for tag in tags:
            if confirmed := pending.pop(tag, None):
                if isinstance(method, pika.spec.Basic.Ack):
                    settle(confirmed, None)
                else:
                    fail(confirmed, BrokerUnavailableError("the broker could not take the message"))
        if not isinstance(method, pika.spec.Basic.Ack):
            # a channel whose first message to a quorum queue comes between its leader's death and the election goes on
            # asking the dead node, and refuses every message (seen on RabbitMQ 3.10); a new one asks the new leader
            channel.abandon()


def _fail_all(pending: dict[int, asyncio.Future[None]], because: str) -> None:
    for confirmed in pending.values():
        fail(confirmed, BrokerUnavailableError(f"connection lost before the broker confirmed: {because}"))
    pending.clear()
