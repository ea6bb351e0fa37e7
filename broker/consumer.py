"""Consuming one queue of RabbitMQ, through every loss of connection, channel or queue."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable
from typing import Any

from broker.bus import DRAIN_S, Handler, Topic
from broker.delivery import MAX_DELIVERIES, Outcome, deliver, drain
from broker.errors import BrokerError, TopologyError
from broker.keeper import Keeper
from broker.link import Channel, Link
from broker.metrics import BrokerMetrics
from broker.topology import declare_exchanges, declare_queue, queue_name
from core.logs import Logger


class RabbitSubscription:
    """One consumer on a channel of its own, so that what it leaves unacknowledged returns when that channel closes."""

    def __init__(
        self,
        link: Link,
        namespace: str,
        topic: Topic,
        queue: str,
        handler: Handler,
        *,
        prefetch: int,
        exclusive: bool,
        metrics: BrokerMetrics,
        log: Logger,
        rng: random.Random,
    ) -> None:
        self._namespace = namespace
        self._topic = topic
        self._name = self._plain_name = queue_name(namespace, topic, queue)
        self._handler = handler
        self._prefetch = prefetch
        self._exclusive = exclusive
        self._metrics = metrics
        self._log = log.bind(topic=str(topic), queue=queue)
        self._keeper = Keeper(link, self._set_up, self._log, rng)
        self._consumer_tag = f"fairmark-{secrets.token_hex(6)}"
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelled = False

    async def start(self) -> None:
        """Return once the broker delivers. Raises `TopologyError` or `BrokerUnavailableError`."""
        await self._keeper.start()

    async def cancel(self, within_s: float = DRAIN_S) -> None:
        if self._cancelled:
            return
        self._cancelled = True
        channel = await self._keeper.release()
        if channel is None:
            await drain(self._tasks, within_s)
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        answers = await self._ask(channel.call(channel.raw.basic_cancel, consumer_tag=self._consumer_tag))
        await drain(self._tasks, max(deadline - loop.time(), 0))
        if answers and self._exclusive and channel.is_open:
            await self._ask(channel.call(channel.raw.queue_delete, queue=self._name))  # else it expires by itself
        if answers:
            await channel.close()
        else:
            channel.abandon()

    async def _ask(self, call: Awaitable[object]) -> bool:
        """Whether the broker answered within a second. A frozen one must not hold up the end."""
        try:
            async with asyncio.timeout(1):
                await call
        except (BrokerError, TimeoutError) as error:
            self._log.warning("broker_cancel_unanswered", detail=repr(error))
            return False
        return True

    async def _set_up(self, channel: Channel) -> None:
        await declare_exchanges(channel, self._namespace)
        try:
            await declare_queue(channel, self._namespace, self._topic, self._name, exclusive=self._exclusive)
        except TopologyError:
            if self._exclusive:  # in a cluster, the node that held it may be down: the next attempt takes another
                self._name = f"{self._plain_name}.{secrets.token_hex(4)}"
            raise
        await channel.call(channel.raw.basic_qos, prefetch_count=self._prefetch)
        channel.raw.add_on_cancel_callback(lambda _frame: channel.abandon())  # the queue was deleted: begin anew
        await channel.call(
            channel.raw.basic_consume,
            queue=self._name,
            on_message_callback=lambda _raw, method, properties, body: self._on_message(
                channel, method, properties, body
            ),
            consumer_tag=self._consumer_tag,
        )

    def _on_message(self, channel: Channel, method: Any, properties: Any, body: bytes) -> None:
        if self._cancelled:
            return  # closing the channel returns it
        task = asyncio.get_running_loop().create_task(self._handle(channel, method, properties, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, channel: Channel, method: Any, properties: Any, body: bytes) -> None:
        if self._exclusive:  # a classic queue counts no deliveries, and nobody else could have the next one
            delivery, outcome = 1, await self._deliver(body, 1)
            while outcome is Outcome.RETRY and channel.is_open:
                delivery += 1
                outcome = await self._deliver(body, delivery)
        else:
            earlier = (properties.headers or {}).get("x-delivery-count", 0)
            if not isinstance(earlier, int):  # a header that a foreign publisher wrote
                earlier = 0
            outcome = await self._deliver(body, min(earlier + 1, MAX_DELIVERIES))
        if not channel.is_open:
            return  # the delivery died with its channel; its tag would mean another message on the next
        if outcome is Outcome.DONE:
            channel.raw.basic_ack(method.delivery_tag)
        elif outcome is Outcome.RETRY:
            channel.raw.basic_nack(method.delivery_tag, requeue=True)
        else:
            self._metrics.dead_lettered.labels(outcome).inc()
            channel.raw.basic_nack(method.delivery_tag, requeue=False)

    async def _deliver(self, body: bytes, delivery: int) -> Outcome:
        self._metrics.delivered.labels(self._topic).inc()
        return await deliver(body, self._handler, delivery=delivery, log=self._log)
