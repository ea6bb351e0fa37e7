"""The market data as its clients meet it: real TCP senders, its own API, SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from core.clock import FixedClock
from core.ops import Ops
from core.types import Mode
from market.minutes import MINUTE_MS
from market.service import MarketService
from market.store import SqlMinuteStore
from tests.support.market import TOKEN, Running, Sender, line, running, settings_for, until

NOW = 1_700_000_070_000  # thirty seconds into a minute


@pytest.fixture
async def senders() -> AsyncIterator[dict[str, Sender]]:
    started = {name: await Sender().start() for name in ("exchange1", "exchange2")}
    yield started
    for sender in started.values():
        if sender._server is not None:
            await sender.stop()


async def test_prices_and_statistics_of_what_came_in(senders: dict[str, Sender], tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    async with running(settings_for(senders), tmp_path, clock=clock) as market:
        await senders["exchange1"].send(
            line("BTCUSDT", "65000.10", NOW - 2_500) + line("BTCUSDT", "65001", NOW - 500) + line("ETHUSDT", 3500, NOW)
        )
        await senders["exchange2"].send(line("BTCUSDT", "64999.5", NOW - 400))
        await market.arrived(4)
        assert await market.get("/prices/latest/BTCUSDT") == {
            "symbol": "BTCUSDT",
            "exchange": "exchange2",
            "price": "64999.5",
            "timestamp": NOW - 400,
            "time": "2023-11-14T22:14:29.600Z",
            "age_ms": 400,
            "mode": "test",
        }
        assert (await market.get("/prices/latest/exchange1/btc-usdt"))["price"] == "65001"
        assert await market.get("/prices/average/BTCUSDT", period="1s") == {
            "symbol": "BTCUSDT",
            "exchange": None,
            "statistic": "average",
            "period": "1s",
            "price": "65000.25",
            "count": 2,
            "from": NOW - 1_000,
            "to": NOW,
            "mode": "test",
        }
        assert (await market.get("/prices/highest/BTCUSDT"))["price"] == "65001"
        assert (await market.get("/prices/highest/BTCUSDT"))["period"] == "1m"
        assert (await market.get("/prices/lowest/exchange1/BTCUSDT", period="3s"))["price"] == "65000.1"


async def test_what_cannot_be_answered_says_why_and_names_what_can(senders: dict[str, Sender], tmp_path: Path) -> None:
    async with running(settings_for(senders), tmp_path, clock=FixedClock(NOW)) as market:
        for path, status, code, known in (
            ("/prices/latest/BTCUSDT", 404, "no_ticks", None),
            ("/prices/average/exchange1/BTCUSDT?period=5m", 404, "no_ticks", None),
            ("/prices/average/BTCUSDT?period=2h", 404, "no_ticks", None),
            ("/prices/latest/BTCEUR", 400, "unknown_symbol", "ETHUSDT"),
            ("/prices/lowest/nowhere/BTCUSDT", 400, "unknown_exchange", "exchange2"),
            ("/prices/highest/BTCUSDT?period=1w", 422, "invalid_period", "30s"),
            ("/prices/highest/BTCUSDT?period=0s", 422, "invalid_period", "30s"),
            ("/prices/highest/BTCUSDT?period=25h", 422, "invalid_period", "30s"),
            ("/prices/history/BTCUSDT?interval=90s", 422, "invalid_interval", "15m"),
            ("/prices/history/BTCUSDT?from=yesterday", 422, "invalid_moment", None),
            (f"/prices/history/BTCUSDT?from={NOW}&to={NOW}", 422, "invalid_range", None),
            ("/prices/history/BTCUSDT?from=0", 422, "invalid_range", None),
        ):
            response = await market.client.get(path)
            body = response.json()
            assert (response.status_code, body["code"]) == (status, code), path
            assert response.headers["content-type"] == "application/problem+json"
            assert body["detail"], path
            if known:
                assert known in body["known"]
                assert known in body["detail"]


async def test_bad_lines_are_counted_and_skipped(senders: dict[str, Sender], tmp_path: Path) -> None:
    good = line("BTCUSDT", 2, NOW)
    bad = [
        b"not json\n",
        b'{"symbol":"BTCUSDT","price":1}\n',
        b'{"price":1,"timestamp":1700000000000}\n',
        line("BTCUSDT", "null", NOW),
        line("BTCUSDT", 0, NOW),
        line("BTCUSDT", -1, NOW),
        line("BTCUSDT", '"NaN"', NOW),
        line("BTCUSDT", "1e300", NOW),
        b"[1,2,3]\n",
        b"x" * 1_100_000 + b"\n",
    ]
    refused = [
        line("XRPUSDT", 1, NOW),  # a symbol that is not configured
        line("BTCUSDT", 1, NOW + 61_000),  # a clock a minute ahead
        line("BTCUSDT", 1, NOW - 300_000),  # older than the window
        line("BTCUSDT", "1.0000000000000000001", NOW),  # nineteen fractional digits
    ]
    async with running(settings_for(senders), tmp_path, clock=FixedClock(NOW)) as market:
        for each in (*bad, *refused):
            await senders["exchange1"].send(each + good)
        await market.arrived(2 * len(bad) + 2 * len(refused))
        assert (await market.get("/prices/average/BTCUSDT"))["count"] == len(bad) + len(refused)
        assert (await market.get("/prices/highest/BTCUSDT"))["price"] == "2"
        shown = (await market.get("/health"))["sources"]["exchange1"]
        assert shown["bad_lines"] == len(bad)
        assert shown["dropped"] == {"unknown_symbol": 1, "ahead": 1, "late": 1, "invalid": 1}


async def test_a_sender_that_goes_away_is_connected_again_and_health_says_so(
    senders: dict[str, Sender], tmp_path: Path
) -> None:
    sender = senders["exchange1"]
    async with running(settings_for(senders), tmp_path) as market:
        now = market.service.clock.now_ms
        await sender.send(line("BTCUSDT", 1, now()))
        await market.arrived(1)
        await sender.stop()

        async def state() -> dict[str, object]:
            found: dict[str, object] = (await market.get("/health"))["sources"]["exchange1"]
            return found

        await until(lambda: not market.service._intake.states()["exchange1"]["up"], "a loss")
        lost = await state()
        assert lost["up"] is False
        assert str(lost["last_loss"])
        body = await market.get("/health")
        assert "exchange1" in body["dependencies"]["sources"]["detail"]
        assert (await market.get("/prices/latest/BTCUSDT"))["price"] == "1"
        await sender.start()
        await sender.send(line("BTCUSDT", 2, now()))
        await market.arrived(2)
        assert (await state())["up"] is True
        assert sender.connections >= 2


async def test_without_any_connection_health_is_degraded(tmp_path: Path) -> None:
    sender = await Sender().start()
    await sender.stop()
    async with running(settings_for({"exchange1": sender}), tmp_path) as market:
        body = await market.get("/health")
        assert body["status"] == "degraded"
        assert body["dependencies"]["sources"]["status"] == "down"
        assert body["dependencies"]["sources"]["detail"].startswith("no_source: none is connected: exchange1")


async def test_minutes_reach_the_database_and_history(senders: dict[str, Sender], tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    async with running(settings_for(senders), tmp_path, clock=clock) as market:
        await senders["exchange1"].send(line("BTCUSDT", 10, NOW - 20) + line("BTCUSDT", "13.5", NOW - 10))
        await market.arrived(2)
        clock.advance(32_000)  # two seconds into the next minute
        await until(lambda: bool(_stored(tmp_path)), "a row")
        assert _stored(tmp_path) == [
            ("test", "BTCUSDT", "exchange1", "2023-11-14 22:14:00.000000", "11.75", "10", "13.5", 2)
        ]
        await senders["exchange1"].send(line("BTCUSDT", 14, clock.now_ms()))
        await market.arrived(3)
        minute = NOW // MINUTE_MS * MINUTE_MS
        history = await market.get("/prices/history/BTCUSDT", **{"from": str(minute), "interval": "1m"})
        assert [(c["timestamp"] - minute, c["open"], c["close"], c["count"]) for c in history["candles"]] == [
            (0, "10", "13.5", 2),
            (MINUTE_MS, "14", "14", 1),
        ]
        longer = await market.get("/prices/history/BTCUSDT", interval="2m", exchange="exchange1")
        assert [(c["average"], c["count"]) for c in longer["candles"]] == [("12.5", 3)]
        beyond = await market.get("/prices/average/BTCUSDT", period="10m")
        assert (beyond["price"], beyond["count"]) == ("12.5", 3)
        assert beyond["from"] == (clock.now_ms() - 600_000) // MINUTE_MS * MINUTE_MS + MINUTE_MS - 1
    # the end writes the minute under way
    assert _stored(tmp_path)[1][4:] == ("14", "14", "14", 1)


async def test_a_restart_within_a_minute_goes_on_with_it(senders: dict[str, Sender], tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    for count, price in enumerate((1, 2, 6), 1):
        async with running(settings_for(senders), tmp_path, clock=clock) as market:
            await senders["exchange1"].send(line("BTCUSDT", price, NOW - 10 + count))
            await market.arrived(1)
    ((_, _, _, _, average, low, high, count),) = _stored(tmp_path)
    assert (average, low, high, count) == ("3", "1", "6", 3)


def _stored(folder: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "market.sqlite") as connection:
        query = (
            "SELECT mode, pair_name, exchange, timestamp, average_price, min_price, max_price, count "
            "FROM market_minutes ORDER BY timestamp"
        )
        found = connection.execute(query).fetchall()
    connection.close()
    return found


async def test_a_change_of_mode_drains_what_is_in_flight_and_mixes_nothing(
    senders: dict[str, Sender], tmp_path: Path
) -> None:
    clock = FixedClock(NOW)
    sender = senders["exchange1"]
    async with running(settings_for(senders), tmp_path, clock=clock) as market:
        await sender.send(b"".join(line("BTCUSDT", 1, NOW) for _ in range(2_000)))
        await until(lambda: market.service._intake.queues["exchange1"].size > 0 or market.counted() > 0, "ticks")
        counted_by = market.service.metrics.taken
        assert await market.switch("live") == {"mode": "live", "changed": True}
        in_flight = counted_by["exchange1"]
        test_side = market.service._sides[Mode.TEST]
        assert test_side.collector.waiting == 0
        assert test_side.memory.of("BTCUSDT", None, NOW - 1_000, NOW).totals.count == in_flight  # type: ignore[union-attr]
        assert (await market.get("/prices/latest/BTCUSDT"))["code"] == "no_ticks"
        assert (await market.get("/health"))["mode"] == "live"
        await until(lambda: market.service._intake.states()["exchange1"]["up"] is True, "a connection")
        await sender.send(line("BTCUSDT", 5, NOW))
        await market.arrived(in_flight + 1)
        answer = await market.get("/prices/average/BTCUSDT")
        assert (answer["price"], answer["mode"]) == ("5", "live")
        assert await market.switch("live") == {"mode": "live", "changed": False}
        assert await market.switch("test") == {"mode": "test", "changed": True}
        assert (await market.get("/prices/average/BTCUSDT"))["price"] == "1"
        assert (await market.get("/prices/average/BTCUSDT"))["count"] == in_flight
    rows = {(row[0], row[7]) for row in _stored(tmp_path)}
    assert rows == {("test", in_flight), ("live", 1)}


async def test_the_window_of_the_mode_that_is_off_forgets_too(senders: dict[str, Sender], tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    async with running(settings_for(senders), tmp_path, clock=clock) as market:
        await senders["exchange1"].send(line("BTCUSDT", 1, NOW) * 9)
        await market.arrived(9)
        await market.switch("live")
        window = market.service._sides[Mode.TEST].memory
        assert window.held == 9
        clock.advance(302_000)
        await until(lambda: window.held == 0, "the old ticks to go")


async def test_the_mode_is_for_who_has_the_token(senders: dict[str, Sender], tmp_path: Path) -> None:
    async with running(settings_for(senders), tmp_path) as market:
        assert (await market.client.post("/mode/live")).status_code == 401
        wrong = await market.client.post("/mode/live", headers={"Authorization": "Bearer wrong"})
        assert wrong.status_code == 401
        assert (await market.switch("dreams"))["code"] == "invalid_mode"
        assert market.service.mode is Mode.TEST


async def test_the_mode_is_switched_neither_before_the_start_is_over_nor_once_the_end_has_begun(
    senders: dict[str, Sender], tmp_path: Path
) -> None:
    clock = FixedClock(NOW)
    ops = Ops("market", Mode.TEST, clock)
    service = MarketService(
        settings=settings_for(senders),
        mode=Mode.TEST,
        store=SqlMinuteStore(f"sqlite+aiosqlite:///{tmp_path / 'market.sqlite'}"),
        spool=tmp_path / "spool.jsonl",
        catalogue={},
        simulator="http://127.0.0.1:1",
        clock=clock,
        ops=ops,
        token=TOKEN,
    )
    market = Running(service, httpx.AsyncClient(transport=httpx.ASGITransport(service.app), base_url="http://m"), ops)
    answer = await market.switch("live")
    assert (answer["status"], answer["code"], service.mode) == (503, "not_ready", Mode.TEST)
    task = asyncio.create_task(service.run())
    await asyncio.sleep(0)  # it has begun to open the store
    assert (await market.switch("live"))["code"] == "not_ready"
    await until(lambda: ops.ready, "readiness")
    assert (await market.switch("live"))["changed"] is True
    await until(lambda: service._intake.states()["exchange1"]["up"] is True, "a connection")
    task.cancel()
    await asyncio.wait([task])
    before = senders["exchange1"].connections
    assert (await market.switch("test"))["code"] == "not_ready"
    await asyncio.sleep(0.1)  # a second intake would connect at once
    assert (service.mode, senders["exchange1"].connections) == (Mode.LIVE, before)
    await market.client.aclose()


async def test_sources_of_one_mode_are_not_read_in_the_other(senders: dict[str, Sender], tmp_path: Path) -> None:
    async with running(settings_for(senders, mode="test"), tmp_path) as market:
        await until(lambda: senders["exchange1"].connections == 1, "a connection")
        await market.switch("live")
        assert (await market.get("/health"))["sources"] == {}


async def test_answers_carry_the_callers_request_id(senders: dict[str, Sender], tmp_path: Path) -> None:
    async with running(settings_for(senders), tmp_path) as market:
        given = await market.client.get("/prices/latest/BTCUSDT", headers={"X-Request-Id": "mine-1"})
        assert given.headers["x-request-id"] == "mine-1"
        made = await market.client.get("/prices/latest/BTCUSDT", headers={"X-Request-Id": "bad id"})
        assert len(made.headers["x-request-id"]) == 32


async def test_minutes_stay_exact_where_the_store_reads_them_back(tmp_path: Path, senders: dict[str, Sender]) -> None:
    store = SqlMinuteStore(f"sqlite+aiosqlite:///{tmp_path / 'market.sqlite'}")
    clock = FixedClock(NOW)
    async with running(settings_for(senders), tmp_path, store=store, clock=clock) as market:
        await senders["exchange1"].send(line("BTCUSDT", "0.1", NOW) + line("BTCUSDT", "0.2", NOW) * 2)
        await market.arrived(3)
        clock.advance(60_000)
        await until(lambda: bool(_stored(tmp_path)), "a row")
        (row,) = await store.read(Mode.TEST, "BTCUSDT", None, 0, clock.now_ms())
        assert (row.total, row.average) == (Decimal("0.5"), Decimal("0.166666666666666667"))
