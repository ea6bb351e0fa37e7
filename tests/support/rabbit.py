"""For tests that talk to a real RabbitMQ: a namespace of their own, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import pika
import structlog

from broker.rabbitmq import RabbitBus
from broker.topology import dead_name, exchange_name, queue_name


class TidyRabbitBus(RabbitBus):
    """A bus that remembers the queues it made."""

    def __init__(self, urls: list[str], namespace: str, publish_timeout_s: float = 2.0, **more: Any) -> None:
        super().__init__(urls, namespace, publish_timeout_s, structlog.stdlib.get_logger("test"), **more)
        self.namespace = namespace
        self.made = {dead_name(namespace)}

    async def subscribe(self, topic, queue, handler, **more):
        self.made.add(queue_name(self.namespace, topic, queue))
        return await super().subscribe(topic, queue, handler, **more)


class Raw:
    """Plain pika beside the bus: what an operator, or a broken program, would do to the same broker."""

    def __init__(self, url: str, namespace: str) -> None:
        self.namespace = namespace
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()

    def publish(self, topic, body: bytes) -> None:
        self._channel.basic_publish(exchange_name(self.namespace, topic), "", body)

    def delete_queue(self, topic, queue: str) -> None:
        self._channel.queue_delete(queue_name(self.namespace, topic, queue))

    def delete_exchange(self, topic) -> None:
        self._channel.exchange_delete(exchange_name(self.namespace, topic))

    def depth(self, topic, queue: str) -> int:
        return self._channel.queue_declare(queue_name(self.namespace, topic, queue), passive=True).method.message_count

    def bodies(self, topic, queue: str) -> list[bytes]:
        """Everything in a queue, oldest first, taken off it."""
        found = []
        while (one := self._channel.basic_get(queue_name(self.namespace, topic, queue), auto_ack=True))[0] is not None:
            found.append(one[2])
        return found

    def exists(self, topic, queue: str) -> bool:
        try:
            self.depth(topic, queue)
        except pika.exceptions.ChannelClosedByBroker:
            self._channel = self._connection.channel()
            return False
        return True

    def declare_queue(self, topic, queue: str, **more: Any) -> None:
        self._channel.queue_declare(queue_name(self.namespace, topic, queue), **more)

    def declare_full_queue(self, topic, queue: str) -> None:
        """One that hears a topic and refuses every message."""
        name = queue_name(self.namespace, topic, queue)
        self._channel.queue_declare(name, arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
        self._channel.queue_bind(name, exchange_name(self.namespace, topic), "#")

    async def dead_letters(self, count: int, within_s: float = 30.0) -> list[tuple[str, bytes]]:
        """(reason, body) of the first `count` dead letters, taken off their queue."""
        found: list[tuple[str, bytes]] = []
        async with asyncio.timeout(within_s):
            while len(found) < count:
                frame, properties, body = self._channel.basic_get(dead_name(self.namespace), auto_ack=True)
                if frame is None:
                    await asyncio.sleep(0.02)
                else:
                    found.append((properties.headers["x-death"][0]["reason"], body))
        return found

    def tidy(self, queues: set[str]) -> None:
        for queue in queues:
            self._channel.queue_delete(queue)
        for topic in ("jobs", "reports", "hints", "dead"):
            self._channel.exchange_delete(f"{self.namespace}.{topic}")
        self._connection.close()


class Proxy:
    """A TCP proxy before the broker that can cut its connections, freeze them, and refuse new ones."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._pipes: set[asyncio.Task[None]] = set()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self.port = 0
        self.accepted = 0

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def alarm(self, reason: str | None) -> None:
        """Tell the clients what the broker says while a resource alarm stands, or (None) when it ended."""
        method = b"\x00\x0a\x00\x3d" if reason is None else b"\x00\x0a\x00\x3c" + bytes([len(reason)]) + reason.encode()
        for writer in self._clients:  # connection.unblocked, connection.blocked: a method frame on channel 0
            writer.write(b"\x01\x00\x00" + len(method).to_bytes(4, "big") + method + b"\xce")

    def freeze(self) -> None:
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    async def refuse(self) -> None:
        """Stop listening; what is connected stays."""
        if self._server:
            self._server.close()
            self._server = None

    async def stop(self) -> None:
        await self.refuse()
        self.thaw()
        self.cut()
        if self._pipes:
            await asyncio.wait(self._pipes, timeout=2)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        inward, outward = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers |= {writer, outward}
        self._clients.add(writer)
        for source, sink in ((reader, outward), (inward, writer)):
            task = asyncio.create_task(self._pipe(source, sink))
            self._pipes.add(task)
            task.add_done_callback(self._pipes.discard)

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._thawed.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(sink)
            self._clients.discard(sink)
            sink.close()


def ids(dead: list[tuple[str, bytes]]) -> list[tuple[str, str]]:
    """(reason, message id) of dead letters."""
    return [(reason, json.loads(body)["id"]) for reason, body in dead]
