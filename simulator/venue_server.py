"""One simulated exchange on a TCP port of its own, so that a refused connection is a real one."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from core.clock import Clock
from core.errors import StartError
from core.ops import listen
from core.types import Pair
from simulator.exchange import Exchange, Reply
from simulator.faults import FaultTable, Hang
from simulator.metrics import SimulatorMetrics
from simulator.served import Served, ServedLog

HANG_LIMIT_S = 120.0
"""After this even a hung request ends, with its connection: nothing waits for ever."""
_BACKLOG = 1024
_REBIND_TRIES = 50
_JSON = "application/json"


class VenueServer:
    """Serves `exchange` with its faults. While it is refused, the port stays bound to us but nobody listens."""

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
    ) -> None:
        self.exchange = exchange
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

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        exchange, name = self.exchange, self.exchange.name
        asked = exchange.asked(request.raw_path)
        strike = self._faults.strike(name, asked.pair)
        if strike.delay_ms:
            await asyncio.sleep(strike.delay_ms / 1000)
        if isinstance(strike.fault, Hang):
            self._record(asked.pair, Reply(0, b"", strike.fault.kind))
            await asyncio.sleep(HANG_LIMIT_S)
            if request.transport is not None:
                request.transport.abort()
        reply = exchange.reply(asked, self._clock.now_ms(), strike.fault)
        if not isinstance(strike.fault, Hang):
            self._record(asked.pair, reply)
        return web.Response(body=reply.body, status=reply.status, headers=reply.headers, content_type=_JSON)

    def _record(self, pair: Pair | None, reply: Reply) -> None:
        name = self.exchange.name
        self._metrics.answered(name, reply.outcome)
        self._served.add(
            Served(self._clock.now_ms(), name, pair, reply.outcome, reply.last, reply.bid, reply.ask, reply.time_ms)
        )
