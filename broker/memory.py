"""The bus inside one process: RabbitMQ's semantics without a server. One instance is shared by all services.

Messages are kept as bytes and decoded for each delivery, so that sender and receivers never share an object, and a
message that would not survive the wire does not survive here either.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

import structlog
from prometheus_client import CollectorRegistry

from broker.bus import DRAIN_S, Handler, Topic
from broker.delivery import Outcome, deliver, drain
from broker.errors import BrokerUnavailableError, UnroutableError
from broker.messages import Message, encode
from broker.metrics import BrokerMetrics
from core.logs import Logger

MAX_DEAD_LETTERS = 1000


@dataclass(frozen=True)
class DeadLetter:
    """A message nobody handled. reason: malformed, rejected, delivery_limit, expired, or maxlen."""

    topic: Topic
    queue: str
    reason: str
    data: bytes


@dataclass
class _Entry:
    data: bytes
    expires_at: float | None  # on the monotonic clock, seconds
    deliveries: int = 0

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass
class _Queue:
    topic: Topic
    name: str
    entries: deque[_Entry] = field(default_factory=deque)
    subscriptions: deque[_Subscription] = field(default_factory=deque)  # next to serve first


class _Subscription:
    """One consumer of one queue: at most `prefetch` handlers at a time."""

    def __init__(self, bus: MemoryBus, queue: _Queue, handler: Handler, prefetch: int, exclusive: bool) -> None:
        self.handler = handler
        self.prefetch = prefetch
        self.exclusive = exclusive
        self.tasks: set[asyncio.Task[None]] = set()
        self._bus = bus
        self._queue = queue

    @property
    def free(self) -> bool:
        return len(self.tasks) < self.prefetch

    async def cancel(self, within_s: float = DRAIN_S) -> None:
        self._bus.detach(self._queue, self)
        await drain(self.tasks, within_s)


class MemoryBus:
    """A `Bus` in this process.

    max_queue: messages a queue holds; beyond it the oldest goes to the dead letters. `dead_letters` keeps the newest
    `MAX_DEAD_LETTERS`.
    """

    def __init__(
        self, max_queue: int = 10_000, *, logger: Logger | None = None, registry: CollectorRegistry | None = None
    ) -> None:
        self.dead_letters: deque[DeadLetter] = deque(maxlen=MAX_DEAD_LETTERS)
        self._max_queue = max_queue
        self._log: Logger = logger or structlog.stdlib.get_logger("fairmark.broker")
        self._metrics = BrokerMetrics(registry)
        self._queues: dict[tuple[Topic, str], _Queue] = {}
        self._open = False

    async def start(self) -> None:
        self._open = True
        self._metrics.connected.set(1)

    async def close(self) -> None:
        subscriptions = [subscription for queue in self._queues.values() for subscription in queue.subscriptions]
        await asyncio.gather(*(subscription.cancel() for subscription in subscriptions))
        self._open = False
        self._metrics.connected.set(0)

    @property
    def connected(self) -> bool:
        return self._open

    async def ping(self) -> float:
        self._require_open()
        started = time.perf_counter()
        await asyncio.sleep(0)  # one turn of the event loop: all that lies between two services here
        return (time.perf_counter() - started) * 1000

    async def publish(self, topic: Topic, message: Message, *, ttl_ms: int | None = None) -> None:
        started = time.perf_counter()
        self._require_open()
        data = encode(message)
        queues = [queue for queue in self._queues.values() if queue.topic is topic]
        if not queues:
            self._metrics.publish_failed.labels(topic, UnroutableError.code).inc()
            raise UnroutableError(f"no queue is bound to {topic!r}: is any consumer running?")
        expires_at = None if ttl_ms is None else time.monotonic() + max(ttl_ms, 1) / 1000
        for queue in queues:
            queue.entries.append(_Entry(data, expires_at))
            if len(queue.entries) > self._max_queue:
                self._bury(queue, queue.entries.popleft(), "maxlen")
            self._pump(queue)
        self._metrics.published.labels(topic).inc()
        self._metrics.publish_seconds.labels(topic).observe(time.perf_counter() - started)

    async def subscribe(
        self, topic: Topic, queue: str, handler: Handler, *, prefetch: int = 16, exclusive: bool = False
    ) -> _Subscription:
        self._require_open()
        found = self._queues.setdefault((topic, queue), _Queue(topic, queue))
        subscription = _Subscription(self, found, handler, prefetch, exclusive)
        found.subscriptions.append(subscription)
        self._pump(found)
        return subscription

    def detach(self, queue: _Queue, subscription: _Subscription) -> None:
        """Give `subscription` no more messages; an exclusive queue goes away with the last of its subscribers."""
        if subscription not in queue.subscriptions:
            return
        queue.subscriptions.remove(subscription)
        if subscription.exclusive and not queue.subscriptions:
            self._queues.pop((queue.topic, queue.name), None)
            queue.entries.clear()
            self._show_depth(queue)

    def _require_open(self) -> None:
        if not self._open:
            raise BrokerUnavailableError("the in-process bus is not running: start it first")

    def _pump(self, queue: _Queue) -> None:
        """Hand out what waits, in turn, to subscribers that have room."""
        now = time.monotonic()
        while queue.entries and queue.entries[0].expired(now):
            self._bury(queue, queue.entries.popleft(), "expired")
        while free := [subscription for subscription in queue.subscriptions if subscription.free]:
            entry = self._next(queue, now)
            if entry is None:
                break
            self._start(queue, free[0], entry)
        self._show_depth(queue)

    def _start(self, queue: _Queue, subscription: _Subscription, entry: _Entry) -> None:
        queue.subscriptions.remove(subscription)
        queue.subscriptions.append(subscription)  # the others come first next time
        task = asyncio.get_running_loop().create_task(self._deliver(queue, subscription, entry))
        subscription.tasks.add(task)
        task.add_done_callback(lambda done: self._finished(queue, subscription, done))

    def _next(self, queue: _Queue, now: float) -> _Entry | None:
        while queue.entries:
            entry = queue.entries.popleft()
            if not entry.expired(now):
                return entry
            self._bury(queue, entry, "expired")
        return None

    def _finished(self, queue: _Queue, subscription: _Subscription, task: asyncio.Task[None]) -> None:
        subscription.tasks.discard(task)
        if queue.entries and queue.subscriptions:
            self._pump(queue)

    async def _deliver(self, queue: _Queue, subscription: _Subscription, entry: _Entry) -> None:
        entry.deliveries += 1
        self._metrics.delivered.labels(queue.topic).inc()
        log = self._log.bind(topic=str(queue.topic), queue=queue.name)
        try:
            outcome = await deliver(entry.data, subscription.handler, delivery=entry.deliveries, log=log)
        except asyncio.CancelledError:  # drained too long: another subscriber of the queue may have it
            queue.entries.appendleft(entry)
            raise
        if outcome is Outcome.RETRY:
            queue.entries.appendleft(entry)
        elif outcome is not Outcome.DONE:
            self._bury(queue, entry, outcome)

    def _bury(self, queue: _Queue, entry: _Entry, reason: str) -> None:
        self.dead_letters.append(DeadLetter(queue.topic, queue.name, reason, entry.data))
        self._metrics.dead_lettered.labels(reason).inc()

    def _show_depth(self, queue: _Queue) -> None:
        self._metrics.queue_depth.labels(f"{queue.topic}.{queue.name}").set(len(queue.entries))
