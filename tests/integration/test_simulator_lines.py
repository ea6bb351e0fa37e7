"""`fairmark simulator --tcp`: what its three ports send, read as any client would."""

from __future__ import annotations

import asyncio
import socket
from decimal import Decimal

import msgspec
import pytest

from core.clock import FixedClock, SystemClock
from core.errors import StartError
from core.logs import get_logger
from core.types import Pair
from simulator.board import Board
from simulator.lines import LineServer
from simulator.prices import PriceModel

SYMBOLS = {"BTCUSDT": Pair("BTC/USDT"), "DOGEUSDT": Pair("DOGE/USDT"), "TONUSDT": Pair("TON/USDT")}
BOARD = Board(PriceModel(seed=3), 500, {})


def server(first_port: int = 0, rate: int = 200) -> LineServer:
    logger = get_logger("simulator", "test")
    return LineServer(
        BOARD, SYMBOLS, host="127.0.0.1", first_port=first_port, rate=rate, seed=3, clock=SystemClock(), logger=logger
    )


async def test_each_port_sends_its_own_prices_as_lines_of_json_in_digits_that_fit_the_pair() -> None:
    lines = server()
    async with lines.run():
        assert list(lines.addresses) == ["exchange1", "exchange2", "exchange3"]
        for name, (host, port) in lines.addresses.items():
            reader, writer = await asyncio.open_connection(host, port)
            read = [msgspec.json.decode(await reader.readline(), strict=True) for _ in range(12)]
            writer.close()
            await writer.wait_closed()
            assert {tick["symbol"] for tick in read} == set(SYMBOLS)
            for tick in read:
                assert set(tick) == {"symbol", "price", "timestamp"}
                near = BOARD.quote(name, SYMBOLS[tick["symbol"]], tick["timestamp"]).last
                assert abs(Decimal(str(tick["price"])) / near - 1) < Decimal("0.001")


async def test_a_client_that_does_not_read_misses_lines_and_holds_nobody_up() -> None:
    lines = server(rate=100_000)
    async with lines.run():
        host, port = lines.addresses["exchange1"]
        _, deaf = await asyncio.open_connection(host, port, limit=1_000)
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
        read = 0
        async with asyncio.timeout(30):
            while lines.missed == 0 or read < 20_000:
                read += (await reader.read(1 << 20)).count(b"\n")
        for each in (deaf, writer):
            each.transport.abort()
        await asyncio.sleep(0.05)


async def test_a_port_in_use_ends_the_start_with_what_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartError, match=r"simulator\.tcp_port"):
        async with server(first_port=taken.getsockname()[1]).run():
            pass


def test_a_line_has_the_step_of_its_price() -> None:
    lines = LineServer(
        BOARD,
        SYMBOLS,
        host="127.0.0.1",
        first_port=0,
        rate=1,
        seed=3,
        clock=FixedClock(1_700_000_000_000),
        logger=get_logger("simulator", "test"),
    )
    now_ms = 1_700_000_000_000
    line = lines._line(*lines._base("exchange1", "DOGEUSDT", SYMBOLS["DOGEUSDT"], now_ms), now_ms)
    assert line.startswith(b'{"symbol":"DOGEUSDT","price":0.1')
    assert line.endswith(b',"timestamp":1700000000000}\n')
