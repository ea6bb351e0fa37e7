"""One WebSocket connection to an exchange: opened, subscribed, watched, and opened again when it is lost.

    wait ──► connect ──► subscribe ──► read … ──► lost: why? ──► wait (exponential backoff, full jitter)

A connection counts as up from its first data or acknowledgement until it is lost. It is lost when it ends, when nothing
at all has come for the declared silence (a ping's answer is something: a quiet pair is no silent connection), when
nothing was acknowledged, when the exchange asks us to leave, when its numbers do not rise any more, and when most of
what it says is bad.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal, NoReturn

import aiohttp

from core.clock import Clock
from core.logs import Logger
from core.types import Pair
from sources.connection import Connection, LostBecause, StreamPolicy
from sources.entries import SourceEntry
from sources.errors import StreamLostError
from sources.http import USER_AGENT
from sources.latest import Latest
from sources.retry_after import retry_after_s
from sources.stream_control import Heard
from sources.stream_metrics import StreamMetrics
from sources.stream_reader import Sink, StreamReader, subscriptions

MAX_MESSAGE_BYTES = 512 * 1024
"""An order book of a thousand levels is a tenth of this."""


Socket = aiohttp.ClientWebSocketResponse[Literal[False]]
"""One whose texts are left as bytes: what is decoded of them is for the reader to say."""


def stream_session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    """The session that streams connect by: no cookies, no proxy of the environment's, and no redirect followed."""

    async def refuse(
        _session: aiohttp.ClientSession, _context: object, asked: aiohttp.TraceRequestRedirectParams
    ) -> None:
        # the handshake's own interface has no word for it, and would ask wherever an answer sends it
        elsewhere = asked.response.headers.get("Location", "")[:100]
        asked.response.close()
        raise StreamLostError(
            LostBecause.REFUSED, f"HTTP {asked.response.status} to {elsewhere!r}, which is not followed"
        )

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        trace_configs=[trace],
    )


class StreamClient(Connection):
    """`run` it until cancelled. url: where to connect. pairs: no more than the exchange takes on one connection."""

    def __init__(
        self,
        entry: SourceEntry,
        pairs: Sequence[Pair],
        *,
        url: str,
        session: aiohttp.ClientSession,
        latest: Latest,
        clock: Clock,
        metrics: StreamMetrics,
        rng: random.Random,
        logger: Logger,
        policy: StreamPolicy | None = None,
        proxy: str | None = None,
        trades: bool = False,
        sink: Sink | None = None,
    ) -> None:
        if entry.stream is None:
            raise ValueError(f"{entry.name} declares no stream")
        self.entry = entry
        self.pairs = tuple(pairs)
        super().__init__(
            entry.name, metrics=metrics, rng=rng, logger=logger.bind(source=entry.name, stream=url), policy=policy
        )
        self._url = url
        self._session = session
        self._latest = latest
        self._clock = clock
        self._proxy = proxy
        self._trades = trades
        self._format = entry.stream
        self._tracks = {pair: latest.track(entry.name, pair, self.line) for pair in self.pairs}
        self._reader = StreamReader(entry, self._tracks, sink)
        self._silence_s = min(self._format.silence_s, self._policy.silence_s)
        self._counters = {heard: metrics.messages.labels(entry.name, heard.value) for heard in Heard}
        self._counted = (0, 0)  # gaps and missed that the metrics know of
        self._sends = 1
        self._recent_bad = 0
        self._recent = 0

    def _ended(self) -> None:
        for pair, track in self._tracks.items():
            self._latest.drop(self.entry.name, pair, track)

    async def _connection(self) -> NoReturn:
        """One connection from opening to its loss, which is raised."""
        ws = await self._open()
        self._reader.forget()
        self._recent = self._recent_bad = 0
        self._heard_at = time.monotonic()
        lost: StreamLostError
        tasks = [
            asyncio.create_task(work, name=f"stream:{self.entry.name}")
            for work in (self._read(ws), self._subscribe(ws), self._ping(ws), self._watch())
        ]
        try:
            # none of them returns but by raising, except the subscription
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            lost = self._cause(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            try:
                async with asyncio.timeout(self._policy.close_timeout_s):
                    await ws.close()
            except (TimeoutError, aiohttp.ClientError, OSError):
                pass  # it was lost anyway, and is aborted with its session's connection
        raise lost

    def _cause(self, tasks: Sequence[asyncio.Task[None]]) -> StreamLostError:
        """What ended the connection: of several faults at once, the reader's, which heard it from the other side."""
        for task in tasks:
            error = task.exception() if task.done() and not task.cancelled() else None
            if isinstance(error, StreamLostError):
                return error
            if isinstance(error, aiohttp.ClientError | OSError):
                return StreamLostError(LostBecause.CLOSED, f"{type(error).__name__}: {error}")
            if error is not None:
                raise error
        return StreamLostError(LostBecause.CLOSED, "it ended")

    async def _open(self) -> Socket:
        limit_s = self._policy.connect_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._session.ws_connect(
                    self._url,
                    proxy=self._proxy,
                    autoping=False,  # pings and pongs are signs of life: they are to be seen here
                    compress=0,  # nothing to unpack means nothing that blows up
                    max_msg_size=MAX_MESSAGE_BYTES,
                    decode_text=False,
                    headers={"User-Agent": USER_AGENT},
                    timeout=aiohttp.ClientWSTimeout(ws_close=self._policy.close_timeout_s),
                )
        except TimeoutError:
            raise StreamLostError(LostBecause.TIMEOUT, f"not open within {limit_s:g} s") from None
        except aiohttp.WSServerHandshakeError as error:
            rest = retry_after_s(error.headers.get("Retry-After") if error.headers else None, self._clock.now_ms())
            limited = error.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT}
            because = LostBecause.RATE_LIMITED if limited else LostBecause.REFUSED
            raise StreamLostError(because, f"HTTP {error.status} to the handshake", retry_after_s=rest) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise StreamLostError(LostBecause.REFUSED, f"{type(error).__name__}: {error}") from error

    async def _subscribe(self, ws: Socket) -> None:
        """Subscribe all pairs; then see to it that something came of it."""
        sends = subscriptions(
            self.entry, self.pairs, trades=self._trades, now_ms=self._clock.now_ms(), first=self._sends
        )
        self._sends += len(sends)
        for text in sends:
            await asyncio.sleep(self._format.pause_s)
            await ws.send_str(text)
        await asyncio.sleep(self._policy.subscribe_timeout_s)
        if not self.line.up:
            limit_s = self._policy.subscribe_timeout_s
            raise StreamLostError(LostBecause.NOT_SUBSCRIBED, f"nothing acknowledged and no data within {limit_s:g} s")

    async def _read(self, ws: Socket) -> None:
        feed, now_ms, reader = self._reader.feed, self._clock.now_ms, self._reader
        counters = self._counters
        while True:
            message = await ws.receive()
            kind = message.type
            self._heard_at = time.monotonic()
            if kind is aiohttp.WSMsgType.TEXT or kind is aiohttp.WSMsgType.BINARY:
                heard = feed(message.data, now_ms())
                counters[heard].inc()
                if heard is not Heard.DATA:
                    await self._not_data(ws, heard)
                elif not self.line.up:
                    self._set_up(True)
                if reader.gaps != self._counted[0]:
                    self._count_gaps()
                if heard is Heard.BAD or self._recent_bad:
                    self._judge(heard)
            elif kind is aiohttp.WSMsgType.PING:
                await ws.pong(message.data)
            elif kind is aiohttp.WSMsgType.ERROR:
                error = message.data
                large = isinstance(error, aiohttp.WebSocketError) and error.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
                raise StreamLostError(LostBecause.TOO_LARGE if large else LostBecause.CLOSED, str(error)[:200])
            elif kind is not aiohttp.WSMsgType.PONG:
                raise StreamLostError(LostBecause.CLOSED, f"close code {ws.close_code}")

    async def _not_data(self, ws: Socket, heard: Heard) -> None:
        reader = self._reader
        if heard is Heard.ACKNOWLEDGED:
            if not self.line.up:
                self._set_up(True)
        elif heard is Heard.ANSWERED:
            await ws.send_str(reader.answer)
        elif heard is Heard.REJECTED:
            self._log.warning("stream_rejected", detail=reader.detail)
        elif heard is Heard.LEAVE:
            raise StreamLostError(LostBecause.TOLD_TO_LEAVE, "the exchange asks for a new connection")
        elif heard is Heard.RENUMBERED:
            raise StreamLostError(LostBecause.RENUMBERED, reader.detail)
        elif heard is Heard.BAD:
            self._metrics.bad.labels(self.entry.name, reader.code.value).inc()
            self._log.debug("stream_message_skipped", code=reader.code.value, detail=reader.detail)

    def _judge(self, heard: Heard) -> None:
        """Count bad messages among the recent ones: one is skipped, many of them mean that nothing can be believed."""
        self._recent += 1
        self._recent_bad += heard is Heard.BAD
        if self._recent >= self._policy.garbage:
            bad, of = self._recent_bad, self._recent
            self._recent = self._recent_bad = 0
            if bad * 2 > of:
                raise StreamLostError(
                    LostBecause.GARBAGE, f"{bad} of {of} messages were bad, the last one: {self._reader.detail}"
                )

    async def _ping(self, ws: Socket) -> None:
        every_s = min(self._format.ping_s, self._silence_s / 2)
        while True:
            await asyncio.sleep(every_s)
            if self._format.ping is None:
                await ws.ping()
            else:
                await ws.send_str(self._format.ping.replace("{now_s}", str(self._clock.now_ms() // 1000)))

    async def _watch(self) -> None:
        """Raise once nothing at all has come for too long."""
        while True:
            silent_s = self.age_s()
            if silent_s >= self._silence_s:
                raise StreamLostError(LostBecause.SILENT, f"nothing for {silent_s:.1f} s, not even a pong")
            await asyncio.sleep(max(0.05, self._silence_s - silent_s))

    def _count_gaps(self) -> None:
        reader = self._reader
        self._metrics.gaps.labels(self.entry.name).inc(reader.gaps - self._counted[0])
        self._metrics.missed.labels(self.entry.name).inc(reader.missed - self._counted[1])
        self._counted = (reader.gaps, reader.missed)
