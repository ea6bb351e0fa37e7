"""The bus over RabbitMQ, with pika.

Two connections: while a memory or disk alarm stands, RabbitMQ reads nothing from a connection that publishes, and
acknowledgements on it would wait too, so that the alarm could not end.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from broker.bus import Handler, Topic
from broker.consumer import RabbitSubscription
from broker.errors import BrokerError, BrokerUnavailableError
from broker.link import Link
from broker.messages import Message, encode
from broker.metrics import BrokerMetrics
from broker.publisher import Publisher
from broker.topology import exchange_name
from core.logs import Logger


class RabbitBus:
    """A `Bus` on the first of `urls` that answers; when it is lost, on the next one, for ever.

    publish_timeout_s: bounds each `publish`, waiting for a reconnection included, and each `ping`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        namespace: str,
        publish_timeout_s: float,
        logger: Logger,
        registry: CollectorRegistry | None = None,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._namespace = namespace
        self._timeout_s = publish_timeout_s
        self._log = logger
        self._rng = rng or random.SystemRandom()
        self._metrics = BrokerMetrics(registry)
        self._metrics.connected.set_function(lambda: float(self.connected))
        reconnected = self._metrics.reconnects.inc
        self._outward = Link(urls, "publisher", logger, self._rng, reconnected)
        self._inward = Link(urls, "consumer", logger, self._rng, reconnected)
        self._publisher = Publisher(self._outward, namespace, logger, self._rng)
        self._subscriptions: set[RabbitSubscription] = set()
        self._doubt: asyncio.Task[None] | None = None
        self._open = False

    async def start(self) -> None:
        """Connect and declare the exchanges. Raises `BrokerUnavailableError` (which URLs, why each) or
        `TopologyError`."""
        if self._open:
            return
        try:
            await self._outward.start()
            await self._inward.start()
            await self._publisher.start()
        except BaseException:
            await self.close()
            raise
        self._open = True

    async def close(self) -> None:
        if self._doubt:
            self._doubt.cancel()
            await asyncio.wait([self._doubt])
        await asyncio.gather(*(subscription.cancel() for subscription in self._subscriptions))
        self._subscriptions.clear()
        self._open = False
        await self._publisher.close()  # after the handlers, which may have answers to publish
        await asyncio.gather(self._outward.close(), self._inward.close())

    @property
    def connected(self) -> bool:
        return self._outward.up.is_set() and self._inward.up.is_set() and self._publisher.ready

    async def ping(self) -> float:
        started = time.perf_counter()
        if self._outward.up.is_set() and not self._outward.flowing.is_set():
            raise BrokerUnavailableError(self._outage())
        await self._probe(self._outward)
        return (time.perf_counter() - started) * 1000

    async def publish(self, topic: Topic, message: Message, *, ttl_ms: int | None = None) -> None:
        started = time.perf_counter()
        self._require_open()
        data = encode(message)
        routing_key = type(message).__struct_config__.tag
        exchange = exchange_name(self._namespace, topic)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._publisher.publish(exchange, str(routing_key), message.id, data, ttl_ms)
        except TimeoutError as error:
            self._metrics.publish_failed.labels(topic, BrokerUnavailableError.code).inc()
            because = self._outage()
            self._suspect()
            raise BrokerUnavailableError(f"not confirmed within {self._timeout_s:g} s: {because}") from error
        except BrokerError as error:
            self._metrics.publish_failed.labels(topic, error.code).inc()
            raise
        self._metrics.published.labels(topic).inc()
        self._metrics.publish_seconds.labels(topic).observe(time.perf_counter() - started)

    async def subscribe(
        self, topic: Topic, queue: str, handler: Handler, *, prefetch: int = 16, exclusive: bool = False
    ) -> RabbitSubscription:
        """Raises `BrokerUnavailableError` (also when not connected within the publish timeout) or `TopologyError`."""
        self._require_open()
        subscription = RabbitSubscription(
            self._inward,
            self._namespace,
            topic,
            queue,
            handler,
            prefetch=prefetch,
            exclusive=exclusive,
            metrics=self._metrics,
            log=self._log,
            rng=self._rng,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                await subscription.start()
        except TimeoutError as error:
            raise BrokerUnavailableError(f"{queue} not consumed within {self._timeout_s:g} s") from error
        self._subscriptions.add(subscription)
        return subscription

    def _require_open(self) -> None:
        if not self._open:
            raise BrokerUnavailableError("the bus is not started, or closed already")

    def _outage(self) -> str:
        if not self._outward.up.is_set():
            return "the broker is not connected"
        if not self._outward.flowing.is_set():
            return f"the broker takes no publications ({self._outward.blocked_because}): free its memory or disk"
        return "the broker does not answer"

    def _suspect(self) -> None:
        """A publication timed out. pika's heartbeat would notice a frozen broker after 15 s: ask it now."""
        if self._outward.flowing.is_set() and (self._doubt is None or self._doubt.done()):
            self._doubt = asyncio.create_task(self._drop_the_silent(), name="broker-doubt")

    async def _drop_the_silent(self) -> None:
        links = (self._outward, self._inward)
        for link, silent in zip(links, await asyncio.gather(*map(self._is_silent, links)), strict=True):
            if silent:
                link.drop(f"no answer within {self._timeout_s:g} s")

    async def _is_silent(self, link: Link) -> bool:
        try:
            await self._probe(link)
        except BrokerUnavailableError:
            return True
        return False

    async def _probe(self, link: Link) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                (await link.open_channel()).abandon()
        except TimeoutError as error:
            raise BrokerUnavailableError(f"no answer within {self._timeout_s:g} s") from error
