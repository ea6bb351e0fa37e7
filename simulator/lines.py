"""`fairmark simulator --tcp`: three ports that send newline-delimited JSON, as plain TCP sources do.

Each line is `{"symbol": "BTCUSDT", "price": 65000.1, "timestamp": 1710328245391}`, milliseconds. Prices are the price
model's, for a venue of the port's name, with a seeded shift of a few steps a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal

from core.clock import Clock
from core.errors import StartError
from core.logs import Logger
from core.types import Pair
from simulator.board import Board
from simulator.prices import quantum

NAMES = ("exchange1", "exchange2", "exchange3")
SLOT_S = 0.05
"""Lines are sent in bundles, so often."""
MAX_BUFFERED = 1_000_000
"""A client that does not read so many bytes misses lines, and is not waited for."""


class LineServer:
    """The three ports. rate: lines a second on each. first_port: of the first one; 0 takes any free ones."""

    def __init__(
        self,
        board: Board,
        symbols: Mapping[str, Pair],
        *,
        host: str,
        first_port: int,
        rate: int,
        seed: int,
        clock: Clock,
        logger: Logger,
        names: Sequence[str] = NAMES,
    ) -> None:
        self._board = board
        self._symbols = dict(symbols)
        self._host = host
        self._first_port = first_port
        self._rate = rate
        self._clock = clock
        self._log = logger
        self._rng = random.Random(seed)  # noqa: S311 - a simulated market
        self._clients: dict[str, set[asyncio.StreamWriter]] = {name: set() for name in names}
        self.addresses: dict[str, tuple[str, int]] = {}
        """Where each name listens, while it runs."""
        self.missed = 0
        """Lines that clients missed because they did not read."""

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve while the block runs. Raises `StartError` where a port is in use."""
        async with contextlib.AsyncExitStack() as stack:
            for index, name in enumerate(self._clients):
                server = await self._listen(name, self._first_port and self._first_port + index)
                stack.push_async_callback(self._close, name, server)
                self.addresses[name] = server.sockets[0].getsockname()[:2]
            sending = [asyncio.create_task(self._send(name), name=f"lines:{name}") for name in self._clients]
            self._log.info("simulator_lines", addresses={n: f"{h}:{p}" for n, (h, p) in self.addresses.items()})
            try:
                yield
            finally:
                for task in sending:
                    task.cancel()
                await asyncio.gather(*sending, return_exceptions=True)

    async def _listen(self, name: str, port: int) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            clients = self._clients[name]
            clients.add(writer)
            try:
                with contextlib.suppress(OSError):
                    while await reader.read(4_096):  # what a client says is of no interest, but that it is there
                        pass
            finally:
                clients.discard(writer)
                writer.transport.abort()

        try:
            return await asyncio.start_server(connected, self._host, port)
        except OSError as error:
            raise StartError(
                f"simulator: {name} cannot listen on {self._host}:{port}: {error.strerror}; stop what listens there, "
                "or set simulator.tcp_port"
            ) from error

    async def _close(self, name: str, server: asyncio.Server) -> None:
        server.close()
        for writer in list(self._clients[name]):
            writer.transport.abort()

    async def _send(self, name: str) -> None:
        symbols = list(self._symbols.items())
        owed = 0.0
        turn = 0
        while True:
            await asyncio.sleep(SLOT_S)
            owed += self._rate * SLOT_S
            count = int(owed)
            owed -= count
            if not self._clients[name] or not count:
                continue
            now_ms = self._clock.now_ms()
            bases = [self._base(name, symbol, pair, now_ms) for symbol, pair in symbols]
            lines = [self._line(*bases[(turn + index) % len(bases)], now_ms) for index in range(count)]
            turn += count
            bundle = b"".join(lines)
            for writer in self._clients[name]:
                if writer.transport.get_write_buffer_size() > MAX_BUFFERED:
                    self.missed += count
                else:
                    writer.write(bundle)

    def _base(self, name: str, symbol: str, pair: Pair, now_ms: int) -> tuple[str, int, int]:
        """A symbol, its price now in whole steps, and how many digits a step has."""
        price = self._board.quote(name, pair, now_ms).last
        step = min(quantum(price), Decimal(1))
        return symbol, int(price / step), max(0, -int(step.adjusted()))

    def _line(self, symbol: str, steps: int, digits: int, now_ms: int) -> bytes:
        steps = max(1, steps + self._rng.randrange(-3, 4))
        whole, rest = divmod(steps, 10**digits)
        price = f"{whole}.{rest:0{digits}d}" if digits else str(whole)
        return b'{"symbol":"%s","price":%s,"timestamp":%d}\n' % (symbol.encode(), price.encode(), now_ms)
