"""One simulated exchange on a TCP port of its own, so that a refused connection is a real one.

Its stream, where it has one, listens on the same port.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import replace
from email.utils import formatdate

from aiohttp import web

from core.clock import Clock
from core.errors import StartError
from core.ops import listen
from core.types import Pair
from simulator.exchange import Asked, Exchange, spoiled
from simulator.faults import (
    Drip,
    FaultTable,
    Hang,
    RateLimited,
    Redirect,
    RequestFault,
    Reset,
    ServerError,
    WebPage,
    Wrong,
)
from simulator.hostile import hostile
from simulator.metrics import SimulatorMetrics
from simulator.reply import Reply
from simulator.served import Served, ServedLog
from simulator.stream_session import MAX_MESSAGE, StreamSession
from simulator.streams import Dialect

HANG_LIMIT_S = 120.0
"""After this even a hung request ends, with its connection: nothing waits for ever."""
_BACKLOG = 1024
_REBIND_TRIES = 50
RESET_AFTER_S = 0.01
"""What was written is on its way by then."""


class VenueServer:
    """Serves `exchange` with its faults. While it is refused, the port stays bound to us but nobody listens.

    dialect: of its stream; None: it has none. streamed: what the stream shows, by the symbol that it writes.
    slot_s: how often streams look for changes.
    """

    def __init__(
        self,
        exchange: Exchange,
        host: str,
        port: int,
        *,
        faults: FaultTable,
        clock: Clock,
        served: ServedLog,
        metrics: SimulatorMetrics,
        dialect: Dialect | None = None,
        streamed: Mapping[str, Asked] | None = None,
        slot_s: float = 0.1,
    ) -> None:
        self.exchange = exchange
        self.dialect = dialect
        self._streamed = streamed or {}
        self._slot_s = slot_s
        self._told: dict[Pair, Reply] = {}
        self.host = host
        self.port = port
        self._faults = faults
        self._clock = clock
        self._served = served
        self._metrics = metrics
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._held: socket.socket | None = None

    @property
    def listening(self) -> bool:
        return self._listener is not None

    async def start(self) -> None:
        """Bind and listen. Raises `StartError` where the port is in use."""
        sock = listen(self.host, self.port, f"simulator: venue {self.exchange.name}")
        self.port = sock.getsockname()[1]
        self._web = web.Server(self._handle, handler_cancellation=True, access_log=None)
        await self._listen(sock)

    async def refuse(self) -> None:
        """Stop listening and abort every open connection. Without effect where it does so already."""
        if self._listener is None or self._web is None:
            return
        listener, self._listener = self._listener, None
        listener.close()
        for connection in self._web.connections:
            if connection.transport is not None:
                connection.transport.abort()
        for _ in range(_REBIND_TRIES):
            await asyncio.sleep(0)  # the loop closes the listening socket in its own time
            try:
                self._held = listen(self.host, self.port, f"simulator: venue {self.exchange.name}")
            except StartError:
                await asyncio.sleep(0.01)
            else:
                return

    async def resume(self) -> None:
        """Listen again on the same port. Without effect where it does. Raises `StartError` where the port is lost."""
        if self._listener is not None or self._web is None:
            return
        sock, self._held = self._held, None
        await self._listen(sock or listen(self.host, self.port, f"simulator: venue {self.exchange.name}"))

    async def stop(self) -> None:
        """End every connection and free the port."""
        listener, self._listener = self._listener, None
        held, self._held = self._held, None
        handler, self._web = self._web, None
        if held is not None:
            held.close()
        if listener is not None:
            listener.close()
        if handler is not None:
            handler.pre_shutdown()
            await handler.shutdown(0.2)
        if listener is not None:
            await listener.wait_closed()

    async def _listen(self, sock: socket.socket) -> None:
        assert self._web is not None  # noqa: S101 - called by start and resume only
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._web, sock=sock, backlog=_BACKLOG)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange, name = self.exchange, self.exchange.name
        if self.dialect is not None and _upgrades(request) and request.path == self.dialect.path:
            return await self._handle_stream(request, self.dialect)
        asked = exchange.asked(request.raw_path)
        if asked.many:
            return await self._handle_many(request, asked)
        strike = self._faults.strike(name, asked.pair)
        if strike.delay_ms:
            await asyncio.sleep(strike.delay_ms / 1000)
        if isinstance(strike.fault, Hang):
            self._record(asked.pair, Reply(0, b"", strike.fault.kind))
            await _hang(request)
        reply = exchange.reply(asked, self._clock.now_ms(), strike.fault)
        if not isinstance(strike.fault, Hang):
            self._record(asked.pair, reply)
        return await _respond(request, self._dated(reply), strike.fault)

    async def _handle_many(self, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
        """Each pair meets its own faults: one that makes numbers wrong strikes that pair's, any other the answer."""
        strikes = {each.pair: self._faults.strike(self.exchange.name, each.pair) for each in asked.many if each.pair}
        if delay_ms := max(strike.delay_ms for strike in strikes.values()):
            await asyncio.sleep(delay_ms / 1000)
        faults = {pair: strike.fault for pair, strike in strikes.items() if strike.fault is not None}
        whole = next((fault for fault in faults.values() if not isinstance(fault, Wrong)), None)
        if isinstance(whole, Hang):
            for pair in strikes:
                self._record(pair, Reply(0, b"", whole.kind))
            await _hang(request)
        reply, shown = self.exchange.reply_many(asked, self._clock.now_ms(), faults)
        if whole is not None:
            reply = spoiled(reply, whole)
            shown = dict.fromkeys(strikes, reply)
        if not isinstance(whole, Hang):
            for pair, each in shown.items():
                self._record(pair, each)
        return await _respond(request, self._dated(reply), whole)

    async def _handle_stream(self, request: web.BaseRequest, dialect: Dialect) -> web.StreamResponse:
        strike = self._faults.strike(self.exchange.name, None, "stream")
        if strike.delay_ms:
            await asyncio.sleep(strike.delay_ms / 1000)
        if isinstance(strike.fault, Hang):
            await _hang(request)
        if isinstance(strike.fault, RateLimited | ServerError | Redirect | WebPage):
            refusal = hostile(strike.fault, Reply(200, b"", ""))
            self._metrics.shown(self.exchange.name, refusal.outcome)
            return await _respond(request, self._dated(refusal), None)
        ws = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=MAX_MESSAGE, timeout=1)
        try:
            await ws.prepare(request)
        except ConnectionError:  # its client is gone already
            return ws
        session = StreamSession(
            ws,
            request.transport,
            dialect,
            self.exchange,
            self._streamed,
            faults=self._faults,
            clock=self._clock,
            slot_s=self._slot_s,
            tell=self._record_shown,
        )
        await session.serve()
        return ws

    def _record_shown(self, pair: Pair, reply: Reply) -> None:
        """Note what a stream showed; once, however many connections and channels show it."""
        self._metrics.shown(self.exchange.name, reply.outcome)
        if self._told.get(pair) != reply:
            self._told[pair] = reply
            self._note(pair, reply)

    def _dated(self, reply: Reply) -> Reply:
        """With the venue's own time, as its bodies tell it: in a replay that is not this machine's."""
        now = formatdate(self._clock.now_ms() / 1000, usegmt=True)
        return replace(reply, headers={"Date": now, **reply.headers})

    def _record(self, pair: Pair | None, reply: Reply) -> None:
        self._metrics.answered(self.exchange.name, reply.outcome)
        self._note(pair, reply)

    def _note(self, pair: Pair | None, reply: Reply) -> None:
        name = self.exchange.name
        self._served.add(
            Served(self._clock.now_ms(), name, pair, reply.outcome, reply.last, reply.bid, reply.ask, reply.time_ms)
        )


def _upgrades(request: web.BaseRequest) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


async def _hang(request: web.BaseRequest) -> None:
    await asyncio.sleep(HANG_LIMIT_S)
    if request.transport is not None:
        request.transport.abort()


async def _respond(request: web.BaseRequest, reply: Reply, fault: RequestFault | None) -> web.StreamResponse:
    if not isinstance(fault, Drip | Reset):
        return web.Response(
            body=reply.body, status=reply.status, headers=reply.headers, content_type=reply.content_type
        )
    # of what was announced less comes, or so slowly that nobody can wait for it
    headers = {**reply.headers, "Content-Length": str(len(reply.body))}
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.content_type = reply.content_type
    await response.prepare(request)
    if isinstance(fault, Reset):
        await response.write(reply.body[: len(reply.body) // 2])
        await asyncio.sleep(RESET_AFTER_S)
        if request.transport is not None:
            request.transport.abort()
        return response
    for byte in reply.body:
        await response.write(bytes([byte]))
        await asyncio.sleep(fault.ms / 1000)
    return response
