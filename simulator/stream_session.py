"""One client on a simulated exchange's stream: subscriptions in, markets out whenever they have changed, with faults.

A market that does not move is quiet, as at the exchanges: nothing comes but what keeps the connection alive.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import msgspec
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from core.clock import Clock
from core.types import Pair
from simulator.exchange import Asked, Exchange
from simulator.faults import (
    Bomb,
    Close,
    Deaf,
    Deep,
    Denied,
    Drip,
    Duplicate,
    Empty,
    FaultTable,
    Gap,
    Hang,
    Leave,
    Malformed,
    Million,
    NotUtf8,
    Renumber,
    Repeat,
    RequestFault,
    Reset,
    WebPage,
)
from simulator.hostile import hostile
from simulator.reply import Reply
from simulator.streams.shape import Dialect, Frame, Wanted, encoded
from simulator.venues.shape import Json

ANSWER_S = 5.0
"""A heartbeat that wants an answer waits so long for it."""
FAREWELL_S = 1.0
"""After it asked its client to leave, the venue closes the connection itself."""
MAX_MESSAGE = 64 * 1024
_TEXT_FRAME, _LENGTH_FOLLOWS = 0x81, 126  # RFC 6455, 5.2: whole and unmasked; 16 bits of length
Hostilities = Malformed | Empty | WebPage | Duplicate | NotUtf8 | Million | Bomb | Deep
"""Those hostile faults that a single message can have; the others are a handshake's, or a body's."""

Tell = Callable[[Pair, Reply], None]
"""Told of each market that was shown, as a reply without a body."""


class StreamSession:
    """Serves one connection. symbols: what the venue has, by the symbol that its stream writes."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        dialect: Dialect,
        exchange: Exchange,
        symbols: Mapping[str, Asked],
        *,
        faults: FaultTable,
        clock: Clock,
        slot_s: float,
        tell: Tell,
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._dialect = dialect
        self._exchange = exchange
        self._symbols = symbols
        self._faults = faults
        self._clock = clock
        self._slot_s = slot_s
        self._tell = tell
        self._wanted: dict[tuple[str, str], Wanted] = {}
        self._seen: dict[tuple[str, str], tuple[Decimal, Decimal, Decimal]] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._renumbered: set[tuple[str, str]] = set()
        self._dripping = False
        self._changed = asyncio.Event()
        self._answered = asyncio.Event()

    async def serve(self) -> None:
        """Until either side ends it."""
        for message in self._dialect.greet(self._clock.now_ms()):
            await self._say(message)
        works = (self._listen(), self._show_changes(), self._beat(), self._ping(), self._end())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            # a connection that breaks while something is sent just ends
            if isinstance(end, Exception) and not isinstance(end, OSError):
                raise end

    @property
    def _silent(self) -> bool:
        return self._dripping or self._faults.standing(self._exchange.name, Hang) is not None

    async def _listen(self) -> None:
        message: WSMessage
        async for message in self._ws:
            if self._silent:
                continue
            if message.type is WSMsgType.PING:
                await self._ws.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                await self._hear(message.data)

    async def _hear(self, text: str) -> None:
        now_ms = self._clock.now_ms()
        try:
            message: Json = msgspec.json.decode(text)
        except msgspec.DecodeError:
            message = text
        if (pong := self._dialect.pong(message, now_ms)) is not None:
            await self._say(pong)
        elif isinstance(message, dict):
            if self._dialect.must_answer is not None and self._dialect.must_answer(message):
                self._answered.set()
                return
            try:
                wanted = self._dialect.wants(message)
            except (KeyError, TypeError, AttributeError, ValueError):
                wanted = None  # not what this exchange takes for a subscription
            if wanted:
                await self._subscribe(message, wanted, now_ms)

    async def _subscribe(self, message: Json, wanted: Sequence[Wanted], now_ms: int) -> None:
        fault = self._faults.standing(self._exchange.name, Deaf, Denied)
        if isinstance(fault, Deaf):
            return
        known = [] if fault else [each for each in wanted if self._knows(each.symbol)]
        for each in wanted:
            if each not in known:
                await self._say(self._dialect.reject(message, each, now_ms))
        if known:
            for answer in self._dialect.accept(message, known, now_ms):
                await self._say(answer)
        self._wanted |= {(each.kind, each.symbol): each for each in known}
        self._changed.set()

    def _knows(self, symbol: str) -> bool:
        asked = self._symbols.get(symbol)
        return asked is not None and asked.pair is not None and self._exchange.generates(asked.pair)

    async def _show_changes(self) -> None:
        while True:
            for key, wanted in list(self._wanted.items()):
                asked = self._symbols[wanted.symbol]
                market, _ = self._exchange.shown(asked, self._clock.now_ms())
                look = (market.last, market.bid, market.ask)
                if self._seen.get(key) != look:
                    self._seen[key] = look
                    await self._show(key, wanted, asked)
            try:
                async with asyncio.timeout(self._slot_s):
                    await self._changed.wait()
            except TimeoutError:
                continue
            self._changed.clear()

    async def _show(self, key: tuple[str, str], wanted: Wanted, asked: Asked) -> None:
        assert asked.pair is not None  # noqa: S101 - an unknown symbol was refused
        strike = self._faults.strike(self._exchange.name, asked.pair, "stream")
        fault = strike.fault
        if strike.delay_ms:
            await asyncio.sleep(strike.delay_ms / 1000)
        if isinstance(fault, Reset) and self._transport is not None:
            self._transport.abort()
        if isinstance(fault, Hang | Reset):
            return
        now_ms = self._clock.now_ms()
        market, reply = self._exchange.shown(asked, now_ms, fault)
        if isinstance(fault, Renumber) and key not in self._renumbered:
            self._renumbered.add(key)
            self._numbers[key] = 0
        lost = fault.missing if isinstance(fault, Gap) else 0
        number = self._numbers[key] = self._numbers.get(key, now_ms) + 1 + lost
        body = encoded(self._dialect.show[wanted.kind](market, Frame(wanted.symbol, number, now_ms)))
        if isinstance(fault, Hostilities):
            reply = hostile(fault, replace(reply, body=body))
            body = reply.body
        if isinstance(fault, Drip):
            await self._drip(body, fault.ms)
            return
        for _ in range(2 if isinstance(fault, Repeat) else 1):
            await self._ws.send_frame(body, WSMsgType.BINARY if isinstance(fault, Bomb) else WSMsgType.TEXT)
        self._tell(asked.pair, self._as_told(reply, fault))

    async def _drip(self, body: bytes, ms: int) -> None:
        """One message, byte by byte. Nothing else may be said before its last one."""
        assert len(body) < 1 << 16  # noqa: S101 - a market is shown in some hundred bytes
        frame = struct.pack("!BBH", _TEXT_FRAME, _LENGTH_FOLLOWS, len(body)) + body
        self._dripping = True
        try:
            for byte in frame:
                if self._transport is None or self._transport.is_closing():
                    return
                self._transport.write(bytes([byte]))
                await asyncio.sleep(ms / 1000)
        finally:
            self._dripping = False

    def _as_told(self, reply: Reply, fault: RequestFault | None) -> Reply:
        return replace(
            reply,
            body=b"",
            outcome=reply.outcome if fault is None else fault.kind,
            time_ms=reply.time_ms if self._dialect.time else None,
        )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._dialect.beat_s)
            if self._silent:
                continue
            self._answered.clear()
            for beat in self._dialect.beat(list(self._wanted.values()), self._clock.now_ms()):
                await self._say(beat)
            if self._dialect.must_answer is not None:
                try:
                    async with asyncio.timeout(ANSWER_S):
                        await self._answered.wait()
                except TimeoutError:
                    await self._ws.close(code=WSCloseCode.OK, message=b"no answer to a heartbeat")
                    return

    async def _ping(self) -> None:
        every_s = self._dialect.ping_s
        while every_s:
            await asyncio.sleep(every_s)
            if not self._silent:
                await self._ws.ping()
        await asyncio.Event().wait()

    async def _end(self) -> None:
        """End the connection where a fault says so."""
        while (fault := self._faults.standing(self._exchange.name, Close, Leave)) is None:  # noqa: ASYNC110 - a table
            await asyncio.sleep(self._slot_s)
        assert isinstance(fault, Close | Leave)  # noqa: S101 - asked for just these
        await asyncio.sleep(fault.after_s)
        if isinstance(fault, Leave) and self._dialect.leave is not None:
            await self._say(self._dialect.leave)
            await asyncio.sleep(FAREWELL_S)
        await self._ws.close(code=WSCloseCode.GOING_AWAY)

    async def _say(self, message: Json) -> None:
        await self._ws.send_frame(encoded(message), WSMsgType.TEXT)
