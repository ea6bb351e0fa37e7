"""Five exchanges that answer at once: canned ticker bodies in their own formats, behind their own paths, on one port.

A process of its own, so that it takes no time from who is measured: `python -m benchmarks.mock` prints its URL and ends
when its standard input does. Every ten seconds it
writes the bodies anew, so that their times are never too old.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.clock import SystemClock
from core.types import Pair
from simulator.venues import VENUES, Market
from sources import SourceEntry, load_catalogue

SOURCES = ("binance", "coinbase", "kraken", "bitstamp", "okx")
LAST: dict[str, tuple[Decimal, Decimal]] = {  # BTC/USD or BTC/USDT, and USDT/USD where the source has it
    "binance": (Decimal("71250.10"), Decimal(0)),
    "coinbase": (Decimal("71234.56"), Decimal("1.0002")),
    "kraken": (Decimal("71236.00"), Decimal("1.0003")),
    "bitstamp": (Decimal("71229.00"), Decimal("1.0001")),
    "okx": (Decimal("71248.70"), Decimal(0)),
}
PAIRS = (Pair("BTC/USDT"), Pair("BTC/USD"), Pair("USDT/USD"))
REWRITE_S = 10.0
TELLIOTS: Mapping[bytes, bytes | None] = {
    b"/api/v1/klines?symbol=BTCUSDT&interval=1d&limit=1": None,
    b"/products/btc-usdt/ticker": b"/products/BTC-USDT/ticker",
    b"/0/public/Ticker?pair=XBTUSD": b"/0/public/Ticker?pair=XXBTZUSD",
}
"""What telliot-feeds asks for otherwise than we do, and which of our answers it gets; None: one of its own."""

_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def last_price(source: str, pair: str) -> Decimal:
    """What `source` says `pair` was traded at last."""
    return LAST[source][pair == "USDT/USD"]


def answers(catalogue: Mapping[str, SourceEntry], now_ms: int) -> dict[bytes, bytes]:
    """The whole answer by request target, for every pair that a source lists."""
    made: dict[bytes, bytes] = {}
    for source in SOURCES:
        entry = catalogue[source]
        for pair in PAIRS:
            if pair not in entry.pairs:
                continue
            last = last_price(source, pair)
            step = last.quantize(Decimal("0.0001")) / 20_000  # half a basis point
            market = Market(pair, entry.symbol(pair), last, last - step, last + step, now_ms)
            body = VENUES[source].render(market)
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            made[entry.request_path(pair).encode()] = head.encode() + body
    klines = klines_answer(last_price("binance", "BTC/USDT"))
    return made | {telliots: klines if ours is None else made[ours] for telliots, ours in TELLIOTS.items()}


def klines_answer(last: Decimal) -> bytes:
    """Binance's candles, as telliot-feeds reads them: the close of the last one."""
    body = f'[[0,"1","1","1","{last}","0",0,"0",0,"0","0","0"]]'
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


class _Connection(asyncio.Protocol):
    def __init__(self, canned: dict[bytes, bytes]) -> None:
        self._canned = canned
        self._rest = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for request in requests:
            self._transport.write(self._canned.get(request.split(b" ", 2)[1], _NOT_FOUND))


async def serve() -> None:
    catalogue = load_catalogue()
    await serve_answers(lambda now_ms: answers(catalogue, now_ms))


async def serve_answers(make: Callable[[int], dict[bytes, bytes]]) -> None:
    """Answer what `make` gives for the time that it is, by request target, until standard input ends."""
    loop = asyncio.get_running_loop()
    clock = SystemClock()
    canned = make(clock.now_ms())
    stopped = asyncio.Event()

    def rewrite() -> None:
        canned.update(make(clock.now_ms()))
        loop.call_later(REWRITE_S, rewrite)

    loop.call_later(REWRITE_S, rewrite)
    loop.add_reader(sys.stdin.fileno(), stopped.set)
    server = await loop.create_server(lambda: _Connection(canned), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await stopped.wait()
    server.close()


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of a mock in a process of its own, which ends with the context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.mock"],
        cwd=Path(__file__).resolve().parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the mock did not start; its message is above")
            yield url
        finally:
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """As the services run: uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve())
