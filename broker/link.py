"""One connection to RabbitMQ, made again for ever: pika's callbacks become futures that end with their channel.

pika's traps, and where they are met: an exception in a callback kills the connection, so callbacks here only settle
futures; a reply that never comes would leave its waiter hanging, so every waiter is tied to the channel's close.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker, ConnectionClosedByClient

from broker.errors import BrokerError, BrokerUnavailableError, TopologyError
from core.logs import Logger

HEARTBEAT_S = 10
CONNECT_TIMEOUT_S = 5.0  # for each URL
CALL_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
BACKOFF_BASE_S, BACKOFF_CAP_S = 0.1, 2.0  # so that a broker that is back is used within a few seconds
STEADY_S = 5.0  # a connection that lived this long was a good one: the next backoff starts anew


def backoff_s(rng: random.Random, failures: int) -> float:
    """Full jitter: anywhere between nothing and the doubled base, capped."""
    return rng.uniform(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(failures, 10)))


def shown(url: str) -> str:
    """The URL as it may be logged: without its password."""
    try:
        parts = urlsplit(url)
        port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
    except ValueError:
        return "(not a URL)"
    if not parts.hostname or "@" in parts.path + parts.query + parts.fragment:  # a password may have spilt over
        return "(not a URL)"
    user = f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{user}{parts.hostname}:{port}{parts.path}"


def settle(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


class Channel:
    """A pika channel whose calls can be awaited. `closed` ends with the error that says why."""

    def __init__(self, connection: AsyncioConnection) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[BrokerError] = loop.create_future()
        self._opened: asyncio.Future[object] = loop.create_future()
        self._waiting: set[asyncio.Future[Any]] = {self._opened}
        self.raw = connection.channel(on_open_callback=lambda _channel: settle(self._opened, None))
        self.raw.add_on_close_callback(self._on_close)

    async def open(self) -> None:
        async with _Bounded("opening a channel"):
            await self._opened

    @property
    def is_open(self) -> bool:
        return bool(self.raw.is_open)

    async def call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        """Call an asynchronous method of `raw` and wait for the broker's answer (a method frame).

        Raises `TopologyError` when the broker refuses it, `BrokerUnavailableError` when the channel ends first.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.add(answer)
        try:
            method(callback=lambda frame: settle(answer, frame), **arguments)
            async with _Bounded(method.__name__):
                return await answer
        except AMQPError as error:  # the channel is closed already
            raise self.closed.result() if self.closed.done() else BrokerUnavailableError(repr(error)) from error
        finally:
            self._waiting.discard(answer)

    async def close(self) -> None:
        """Close; what was delivered on this channel and not acknowledged goes back to its queue."""
        self.abandon()
        await asyncio.wait([self.closed], timeout=CLOSE_TIMEOUT_S)

    def abandon(self) -> None:
        """Begin to close, and wait for nothing. Also safe on a channel that is closed, or not open yet."""
        if not self.raw.is_closed and not self.raw.is_closing:
            self.raw.close()

    def _on_close(self, _channel: object, reason: BaseException) -> None:
        error: BrokerError
        if isinstance(reason, ChannelClosedByBroker) and reason.reply_code in {403, 404, 405, 406}:
            error = TopologyError(
                f"{reason.reply_code} {reason.reply_text}: delete it, or use another broker.namespace"
            )
        else:
            error = BrokerUnavailableError(f"the channel was closed: {reason}")
        settle(self.closed, error)
        for waiter in self._waiting:
            fail(waiter, error)
        if self._opened.done() and not self._opened.cancelled():
            self._opened.exception()  # seen: nobody may be waiting for it any more


class _Bounded:
    """At most `CALL_TIMEOUT_S`, then `BrokerUnavailableError`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._timeout = asyncio.timeout(CALL_TIMEOUT_S)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        try:
            await self._timeout.__aexit__(*raised)
        except TimeoutError as error:
            raise BrokerUnavailableError(f"{self._what}: no answer within {CALL_TIMEOUT_S:g} s") from error


class Link:
    """A connection to the first of `urls` that answers, and again to the next one whenever it is lost.

    up: set while connected. flowing: cleared while the broker refuses publications (memory or disk alarm).
    """

    def __init__(
        self, urls: Sequence[str], purpose: str, log: Logger, rng: random.Random, on_reconnect: Callable[[], None]
    ) -> None:
        self.up = asyncio.Event()
        self.flowing = asyncio.Event()
        self.blocked_because = ""
        self._urls = list(urls)
        self._log = log.bind(link=purpose)
        self._purpose = purpose
        self._rng = rng
        self._on_reconnect = on_reconnect
        self._connection: AsyncioConnection | None = None
        self._closed: asyncio.Future[BaseException] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect. Raises `BrokerUnavailableError` naming every URL tried."""
        problems = await self._connect()
        if self._closed is None:
            listed = "\n".join(f"  - {problem}" for problem in problems)
            raise BrokerUnavailableError(
                f"no broker answers:\n{listed}\nStart RabbitMQ, or correct broker.urls "
                "(broker.kind = 'memory' needs none, and joins nothing but the services of one `fairmark up`)."
            )
        self._supervisor = asyncio.create_task(self._supervise(self._closed), name=f"broker-link-{self._purpose}")

    async def close(self) -> None:
        if self._supervisor:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        connection, closed = self._connection, self._closed
        self._lose()
        if connection is None or closed is None or closed.done():
            return
        if connection.is_open:
            connection.close()
        await asyncio.wait([closed], timeout=CLOSE_TIMEOUT_S)
        if not closed.done():  # a frozen broker never answers the close
            _cut(connection, "closing took too long")
            await asyncio.wait([closed], timeout=CLOSE_TIMEOUT_S)

    async def open_channel(self) -> Channel:
        """Raises `BrokerUnavailableError`."""
        if self._connection is None or not self._connection.is_open:
            raise BrokerUnavailableError("the broker is not connected")
        try:
            channel = Channel(self._connection)
        except AMQPError as error:
            raise BrokerUnavailableError(f"the broker gives no channel: {error!r}") from error
        try:
            await channel.open()
        except BaseException:
            channel.abandon()
            raise
        return channel

    def drop(self, because: str) -> None:
        """Give this connection up without the broker's consent; the next URL is tried at once."""
        if self._connection is not None and self._connection.is_open:
            _cut(self._connection, because)

    async def _supervise(self, closed: asyncio.Future[BaseException]) -> None:
        failures = 0
        while True:
            since = time.monotonic()
            reason = await asyncio.shield(closed)
            self._lose()
            failures = 0 if time.monotonic() - since > STEADY_S else failures + 1
            self._log.warning("broker_lost", detail=str(reason) or repr(reason))
            while True:
                await asyncio.sleep(backoff_s(self._rng, failures))
                problems = await self._connect()
                if self._closed is not None:
                    closed = self._closed
                    break
                failures += 1
                self._log.warning("broker_unreachable", tried=problems, failures=failures)
            self._on_reconnect()

    def _lose(self) -> None:
        self.up.clear()
        self.flowing.clear()
        self._connection = self._closed = None
        self._urls.append(self._urls.pop(0))  # the next one first, this one last

    async def _connect(self) -> list[str]:
        """Try every URL once. Returns what went wrong with each, or nothing when one answered."""
        problems = []
        for _ in range(len(self._urls)):
            url = self._urls[0]
            try:
                await self._dial(url)
            except TimeoutError:
                problems.append(f"{shown(url)}: no answer within {CONNECT_TIMEOUT_S:g} s")
            except (AMQPError, OSError, ValueError) as error:
                problems.append(f"{shown(url)}: {_why(error)}")
            else:
                self._log.info("broker_connected", url=shown(url))
                return []
            self._urls.append(self._urls.pop(0))
        return problems

    async def _dial(self, url: str) -> None:
        parameters = _parameters(url)
        parameters.heartbeat = HEARTBEAT_S
        parameters.connection_attempts = 1
        parameters.socket_timeout = parameters.stack_timeout = CONNECT_TIMEOUT_S
        parameters.client_properties = {"connection_name": f"fairmark {self._purpose}"}
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        closed: asyncio.Future[BaseException] = loop.create_future()
        ended: asyncio.Future[None] = loop.create_future()

        def on_open_error(_connection: object, error: BaseException) -> None:
            fail(opened, error)
            settle(ended, None)

        def on_close(_connection: object, error: BaseException) -> None:
            settle(closed, error)
            settle(ended, None)

        connection = AsyncioConnection(
            parameters,
            on_open_callback=lambda _connection: settle(opened, None),
            on_open_error_callback=on_open_error,
            on_close_callback=on_close,
            custom_ioloop=loop,
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await opened
        except BaseException:
            if not ended.done():
                connection.close()
                await asyncio.wait([ended], timeout=CLOSE_TIMEOUT_S)
            raise
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(lambda *_: self.flowing.set())
        self._connection, self._closed = connection, closed
        self.flowing.set()
        self.up.set()

    def _on_blocked(self, _connection: object, frame: Any) -> None:
        self.blocked_because = str(frame.method.reason)
        self.flowing.clear()
        self._log.warning("broker_blocked", detail=self.blocked_because)


def _parameters(url: str) -> pika.URLParameters:
    """Raises `ValueError`, whose text holds nothing of the URL: it may hold the password."""
    try:
        parts = urlsplit(url)
        if parts.scheme in {"amqp", "amqps"} and parts.hostname:
            return pika.URLParameters(url)
    except (ValueError, TypeError, IndexError):
        pass
    raise ValueError("write amqp://user:password@host:5672/vhost, with special characters percent-encoded")


def _cut(connection: AsyncioConnection, because: str) -> None:
    """End the TCP stream now. pika's own watchdogs use this call; `close()` would wait for a broker that is gone."""
    connection._terminate_stream(ConnectionClosedByClient(0, because))


def _why(error: BaseException) -> str:
    """pika wraps the cause in layers of workflow exceptions: dig out the one that says something."""
    while True:
        layers = getattr(error, "exceptions", None) or [getattr(error, "exception", None) or (error.args or [None])[0]]
        inner = layers[-1]
        if not isinstance(inner, BaseException):
            return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        error = inner
