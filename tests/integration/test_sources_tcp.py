"""Lines over TCP: read as they come, whatever the sender does to the connection, from a real server on loopback."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from core.clock import FixedClock
from core.logs import get_logger
from core.types import FailureCode, Mode, Pair, SourceFailure
from sources import SourcePool
from sources.connection import StreamPolicy
from sources.entries import SourceEntry
from sources.lines import LineTick
from sources.stream_metrics import StreamMetrics
from sources.streams import Streams
from sources.tcp import TcpLines
from tests.support.wait import until

NOW = 1_710_328_245_391
QUICK = StreamPolicy(connect_timeout_s=2, backoff_s=0.02, max_backoff_s=0.05)

Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]


def line(price: int, symbol: str = "BTCUSDT") -> bytes:
    return f'{{"symbol":"{symbol}","price":{price}.5,"timestamp":{NOW + price}}}\n'.encode()


def tick(price: int, symbol: str = "BTCUSDT") -> LineTick:
    return LineTick(symbol, Decimal(f"{price}.5"), NOW + price)


async def stay() -> None:
    await asyncio.Event().wait()


class Sender:
    """A server on loopback; `script` says what each connection gets, one after the other; the last goes on for ever."""

    def __init__(self, *script: Talk) -> None:
        self.script = list(script)
        self.opened = 0

    async def handle(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = self.script[min(self.opened, len(self.script) - 1)]
        self.opened += 1
        try:
            await talk(writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


class Taken:
    """What one client handed over."""

    def __init__(self, registry: CollectorRegistry, client: TcpLines, ticks: list[LineTick], times: set[int]) -> None:
        self.registry, self.client, self.ticks, self.times = registry, client, ticks, times

    async def until(self, count: int) -> None:
        await until(lambda: len(self.ticks) >= count)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"fairmark_streams_{name}", {"source": "exchange1", **labels})


@asynccontextmanager
async def reading(port: int, policy: StreamPolicy = QUICK) -> AsyncIterator[Taken]:
    registry = CollectorRegistry()
    ticks: list[LineTick] = []
    times: set[int] = set()

    def on_batch(batch: list[LineTick], received_ms: int) -> None:
        ticks.extend(batch)
        times.add(received_ms)

    client = TcpLines(
        "exchange1",
        host="127.0.0.1",
        port=port,
        on_batch=on_batch,
        clock=FixedClock(NOW),
        metrics=StreamMetrics(registry),
        rng=random.Random(1),
        logger=get_logger("test", Mode.TEST),
        policy=policy,
    )
    task = asyncio.create_task(client.run())
    try:
        yield Taken(registry, client, ticks, times)
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def served(*script: Talk) -> AsyncIterator[tuple[Sender, int]]:
    sender = Sender(*script)
    server = await asyncio.start_server(sender.handle, "127.0.0.1", 0)
    try:
        yield sender, server.sockets[0].getsockname()[1]
    finally:
        server.close()


def says(*chunks: bytes, then: Callable[[], Awaitable[None]] = stay) -> Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0.01)
        await then()

    return talk


async def leave() -> None:
    return


async def test_lines_cut_anywhere_come_out_whole_in_order_and_with_our_time() -> None:
    data = b"".join(line(price) for price in range(1, 40))
    pieces = [data[start : start + 97] for start in range(0, len(data), 97)]
    async with served(says(*pieces)) as (_, port), reading(port) as taken:
        await taken.until(39)
        assert taken.ticks == [tick(price) for price in range(1, 40)]
        assert taken.times == {NOW}
        state = taken.client.state()
        assert (state.name, state.address, state.up, state.ticks, state.bad) == (
            "exchange1",
            f"127.0.0.1:{port}",
            True,
            39,
            0,
        )
        assert state.age_s >= 0
        assert taken.metric("connected") == 1
        assert taken.metric("messages_total", heard="data") == 39


async def test_bad_lines_are_counted_by_reason_and_the_connection_stays() -> None:
    bad = b'not json\n{"symbol":"BTCUSDT","price":-1,"timestamp":1710328245391}\n' + b"x" * 1_500_000 + b"\n"
    async with served(says(line(1), bad, line(2))) as (sender, port), reading(port) as taken:
        await taken.until(2)
        assert taken.ticks == [tick(1), tick(2)]
        assert taken.client.state().bad == 3
        assert taken.metric("bad_messages_total", code="malformed") == 1
        assert taken.metric("bad_messages_total", code="invalid_price") == 1
        assert taken.metric("bad_messages_total", code="too_large") == 1
        assert sender.opened == 1


async def test_a_closed_connection_is_opened_again_and_half_a_line_is_not_carried_over() -> None:
    async with (
        served(says(line(1) + line(2)[:30], then=leave), says(line(3))) as (sender, port),
        reading(port) as taken,
    ):
        await taken.until(2)
        assert taken.ticks == [tick(1), tick(3)]
        assert sender.opened == 2
        assert taken.client.last_loss.startswith("closed: ")
        assert taken.metric("reconnects_total", reason="closed") == 1
        assert taken.metric("messages_total", heard="bad") is None


async def test_it_keeps_trying_where_nobody_listens_and_reads_once_somebody_does() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
    async with reading(port) as taken:
        await until(lambda: (taken.metric("reconnects_total", reason="refused") or 0) >= 3)
        assert not taken.client.state().up
        assert taken.client.state().last_loss.startswith("refused: ")
        server = await asyncio.start_server(Sender(says(line(7))).handle, "127.0.0.1", port)
        try:
            await taken.until(1)
            assert taken.ticks == [tick(7)]
            assert taken.client.state().up
        finally:
            server.close()


async def test_a_silent_sender_is_left_only_where_a_limit_was_set() -> None:
    limited = StreamPolicy(backoff_s=0.01, max_backoff_s=0.02, silence_s=0.2)
    async with served(says(line(1)), says(line(2))) as (sender, port):
        async with reading(port, limited) as taken:
            await taken.until(2)
            assert (taken.metric("reconnects_total", reason="silent") or 0) >= 1
        opened = sender.opened
        async with reading(port) as taken:
            await taken.until(1)
            await asyncio.sleep(0.6)
            assert taken.client.state().up
        assert sender.opened == opened + 1


async def test_a_sink_that_raises_costs_the_connection_not_the_client() -> None:
    registry = CollectorRegistry()
    seen: list[LineTick] = []

    def sink(batch: list[LineTick], _: int) -> None:
        seen.extend(batch)
        if len(seen) == 1:
            raise RuntimeError("a bug")

    async with served(says(line(1)), says(line(2))) as (_, port):
        client = TcpLines(
            "exchange1",
            host="127.0.0.1",
            port=port,
            on_batch=sink,
            clock=FixedClock(NOW),
            metrics=StreamMetrics(registry),
            rng=random.Random(1),
            logger=get_logger("test", Mode.TEST),
            policy=QUICK,
        )
        task = asyncio.create_task(client.run())
        await until(lambda: len(seen) >= 2)
        assert client.last_loss == "internal: RuntimeError: a bug"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not client.line.up


async def test_a_flood_is_read_whole_and_other_work_goes_on_meanwhile() -> None:
    count = 100_000
    flood = b"".join(line(price) for price in range(1, count + 1))

    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(flood)
        await writer.drain()
        await stay()

    async with served(talk) as (_, port), reading(port) as taken:
        turns = 0
        async with asyncio.timeout(20):
            while len(taken.ticks) < count:
                await asyncio.sleep(0)
                turns += 1
        assert taken.ticks[-1] == tick(count)
        assert len({each.time_ms for each in taken.ticks}) == count
        assert turns > 50


async def test_a_source_of_lines_is_streamed_by_its_catalogue_file_and_cannot_be_asked() -> None:
    symbols: dict[str, Any] = {"BTC/USDT": True, "TON/USDT": "GRAMUSDT"}
    async with served(says(line(1) + line(2, "XYZ") + line(3, "GRAMUSDT") + line(4))) as (_, port):
        entry = SourceEntry(
            name="exchange1", title="One", kind="tcp", base_url=f"tcp://127.0.0.1:{port}", verified="documented",
            verified_on=date(2026, 11, 21), documentation="https://docs.example.com", symbols=symbols,
        )  # type: ignore[call-arg] # fmt: skip
        btc, ton = Pair("BTC/USDT"), Pair("TON/USDT")
        shown: list[tuple[str, str]] = []
        streams = Streams(
            {"exchange1": entry},
            clock=FixedClock(NOW + 10),
            registry=CollectorRegistry(),
            sink=lambda update: shown.append((update.pair, update.source)),
        )
        assert streams.want("exchange1", [btc, ton, Pair("ETH/USDT")]) == (btc, ton)
        task = asyncio.create_task(streams.run())
        await until(lambda: len(shown) == 3)
        for pair, last, time_ms in ((btc, "4.5", NOW + 4), (ton, "3.5", NOW + 3)):
            found = streams.latest("exchange1", pair, NOW + 10)
            assert found is not None
            assert (str(found.ticker.last), found.ticker.time_ms, found.received_ms) == (last, time_ms, NOW + 10)
            assert found.ticker.bid is None
        (state,) = streams.states()
        assert (state.source, state.up, state.connections, state.pairs) == ("exchange1", 1, 1, 2)
        task.cancel()
        await asyncio.wait([task])
        assert streams.latest("exchange1", btc, NOW + 10) is None
        async with SourcePool(
            {"exchange1": entry}, ["exchange1"], clock=FixedClock(NOW), registry=CollectorRegistry()
        ) as pool:
            asked = await pool.fetch("exchange1", btc, deadline=asyncio.get_running_loop().time() + 1)
            assert isinstance(asked, SourceFailure)
            assert (asked.code, asked.source) == (FailureCode.EMPTY, "exchange1")
