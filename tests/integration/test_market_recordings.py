"""Real exchanges' recorded sessions through the market data, at their own times: answers as plain lists give them."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.recorded import RECORDED, Recording, pairs
from core.clock import FixedClock
from core.settings import MarketSettings
from core.types import Mode
from market.service import MarketService
from sources.latest import Line, Track
from sources.stream_reader import StreamReader, Trade, Update
from tests.support.market import Running, running

CHECKS = 6
PERIODS = {"1s": 1_000, "10s": 10_000, "1m": 60_000, "5m": 300_000}


async def arrive(service: MarketService, source: str) -> None:
    await service._intake.queues[source].drained()
    await service._intake.collector.drained()


async def compare(market: Running, ticks: dict[str, list[tuple[int, Decimal]]], now_ms: int) -> None:
    for symbol, own in ticks.items():
        inside = [(t, p) for t, p in own if t > now_ms - 300_000]
        newest = max(t for t, _ in inside)
        latest = await market.get(f"/prices/latest/{symbol}")
        assert (latest["timestamp"], Decimal(latest["price"])) == (newest, [p for t, p in inside if t == newest][-1])
        for period, length_ms in PERIODS.items():
            prices = [p for t, p in inside if t > now_ms - length_ms]
            answer = await market.get(f"/prices/average/{symbol}", period=period)
            if not prices:
                assert answer["code"] == "no_ticks"
                continue
            assert answer["count"] == len(prices)
            exact = sum(map(Fraction, prices), Fraction(0)) / len(prices)
            assert abs(Fraction(answer["price"]) - exact) <= Fraction(1, 2 * 10**18)
            highest = await market.get(f"/prices/highest/{symbol}", period=period)
            lowest = await market.get(f"/prices/lowest/{symbol}", period=period)
            assert (Decimal(highest["price"]), Decimal(lowest["price"])) == (max(prices), min(prices))


@pytest.mark.needs_recordings
@pytest.mark.parametrize("recording", RECORDED, ids=lambda each: each.name)
async def test_a_recorded_session_is_answered_as_plain_lists_of_its_trades_would_be(
    recording: Recording, tmp_path: Path
) -> None:
    entry, messages = recording.entry(), recording.messages()
    clock = FixedClock(messages[0][0])
    settings = MarketSettings(exchanges=(entry.name,), tcp={}, pairs=tuple(str(pair) for pair in pairs(recording)))
    symbols = {pair: symbol for symbol, pair in settings.symbols.items()}
    ticks: dict[str, list[tuple[int, Decimal]]] = {}
    total = 0

    service: MarketService | None = None

    def take(update: Update) -> None:
        nonlocal total
        assert service is not None
        service._intake._streams._take(update)
        if isinstance(update, Trade):
            when = update.received_ms if update.time_ms is None else min(update.time_ms, update.received_ms)
            if when > update.received_ms - 300_000:  # what an exchange sends of the past, at the beginning
                ticks.setdefault(symbols[update.pair], []).append((when, update.price))
            total += 1

    reader = StreamReader(entry, {pair: Track(Line()) for pair in pairs(recording)}, take)
    async with running(settings, tmp_path, clock=clock, mode=Mode.TEST, catalogue={entry.name: entry}) as market:
        service = market.service
        step = -(-len(messages) // CHECKS)
        for number, (at, raw) in enumerate(messages, 1):
            clock.advance(max(0, at - clock.now_ms()))
            reader.feed(raw, clock.now_ms())
            if number % 2_000 == 0:
                await arrive(service, entry.name)
            if number % step == 0 or number == len(messages):
                await arrive(service, entry.name)
                await compare(market, ticks, clock.now_ms())
        assert market.counted() == total
        assert sum(service.metrics.taken.values()) == sum(map(len, ticks.values()))
    if recording.name == "binance 2024":
        ahead = [json.loads(raw)["data"]["T"] - at for at, raw in messages[:2_000] if b"@trade" in raw]
        assert min(ahead) > 1_000, "the exchange's clock runs ahead in this one, and no tick speaks for the future"
