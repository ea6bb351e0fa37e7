"""One exchange through ccxt's own code, against a server on loopback that answers as Kraken does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from core.clock import FixedClock
from core.logs import get_logger
from core.types import FailureCode, Mode, Pair, SourceFailure
from sources import CatalogueError, QuarantinePolicy, Reading, SourcePool, State
from sources.entries import SourceEntry
from sources.metrics import SourceMetrics
from sources.through_ccxt import CcxtClient, make_exchange
from tests.support.wait import until

NOW = 1_710_328_245_391
BTC = Pair("BTC/USD")
PAIRS = (
    b'{"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","aclass_base":"currency","base":"XXBT",'
    b'"aclass_quote":"currency","quote":"ZUSD","lot":"unit","pair_decimals":1,"lot_decimals":8,"lot_multiplier":1,'
    b'"leverage_buy":[],"leverage_sell":[],"fees":[],"fee_volume_currency":"ZUSD","ordermin":"0.0001","status":"online",'
    b'"tick_size":"0.1"}}}'
)
TICKER = (
    b'{"error":[],"result":{"XXBTZUSD":{"a":["30300.10000000000000000001","1","1.000"],"b":[30300.0,"1","1.000"],'
    b'"c":["30303.20000","0.00067643"],"v":["4083.67","4412.73"],"p":["30706.7","30689.1"],"t":[34619,38907],'
    b'"l":["29868.3","29868.3"],"h":["31631.0","31631.0"],"o":"30502.80000"}}}'
)


def entry(exchange: str = "kraken") -> SourceEntry:
    return SourceEntry(
        name="example", title="Example", kind="ccxt", exchange=exchange, base_url="https://api.kraken.com",
        verified="documented", verified_on=date(2026, 11, 21), documentation="https://docs.ccxt.com",
        symbols={"BTC/USD": True, "ETH/USD": True},
    )  # type: ignore[call-arg] # fmt: skip


class Kraken:
    """Answers `ticker` with what the test wants."""

    def __init__(self) -> None:
        self.status, self.body, self.delay_s = 200, TICKER, 0.0
        self.asked: list[str] = []
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path.endswith("/AssetPairs"):
            return web.Response(body=PAIRS, content_type="application/json")
        if not request.path.endswith("/Ticker"):
            return web.Response(body=b'{"error":[],"result":{}}', content_type="application/json")
        await asyncio.sleep(self.delay_s)
        return web.Response(status=self.status, body=self.body, content_type="application/json")


@asynccontextmanager
async def server() -> AsyncIterator[Kraken]:
    kraken = Kraken()
    runner = web.ServerRunner(web.Server(kraken.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    kraken.url = site.name
    try:
        yield kraken
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(
    kraken: Kraken, timeout_s: float = 5.0, quarantine: QuarantinePolicy | None = None, share: int = 1
) -> AsyncIterator[CcxtClient]:
    pytest.importorskip("ccxt")

    def make(name: str, seconds: float) -> Any:
        exchange = make_exchange(name, seconds)
        exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], kraken.url)
        exchange.enableRateLimit = False
        return exchange

    client = CcxtClient(
        entry(),
        clock=FixedClock(NOW),
        metrics=SourceMetrics(CollectorRegistry()),
        timeout_s=timeout_s,
        logger=get_logger("test", Mode.TEST),
        quarantine=quarantine,
        make=make,
        share=share,
    )
    try:
        yield client
    finally:
        await client.close()


async def ask(client: CcxtClient, pair: Pair = BTC, within_s: float = 5.0) -> Reading | SourceFailure:
    return await client.fetch(pair, deadline=asyncio.get_running_loop().time() + within_s)


async def test_a_ticker_is_read_to_its_last_digit_and_the_markets_are_loaded_once() -> None:
    async with server() as kraken, asking(kraken) as client:
        for _ in range(2):
            found = await ask(client)
            assert isinstance(found, Reading), found
            ticker = found.ticker
            assert [str(each) for each in (ticker.last, ticker.bid, ticker.ask)] == [
                "30303.20000",
                "30300.0",
                "30300.10000000000000000001",
            ]
            assert (found.source, found.pair, found.received_ms, ticker.time_ms) == ("example", BTC, NOW, None)
            assert ticker.volume == Decimal("4412.73")
        assert sum(path.endswith("/AssetPairs") for path in kraken.asked) == 1
        assert sum(path.endswith("/Ticker") for path in kraken.asked) == 2


async def test_one_of_four_at_an_address_is_let_through_a_quarter_as_often() -> None:
    rates = []
    for share in (1, 4):
        async with server() as kraken, asking(kraken, share=share) as client:
            assert isinstance(await ask(client), Reading)
            rates.append(client._exchange.throttler.config["refillRate"])
    assert rates[0] == pytest.approx(4 * rates[1])


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (429, b"{}", FailureCode.RATE_LIMITED),
        (200, b'{"error":["EAPI:Rate limit exceeded"]}', FailureCode.RATE_LIMITED),
        (503, b"{}", FailureCode.SERVER_ERROR),
        (200, b'{"error":["EService:Unavailable"]}', FailureCode.SERVER_ERROR),
        (200, b'{"error":["EQuery:Something else"]}', FailureCode.MALFORMED),
        (200, TICKER.replace(b'"30303.20000"', b'"0"'), FailureCode.MALFORMED),  # ccxt takes zero for none
        (200, TICKER.replace(b'"30303.20000"', b'"NaN"'), FailureCode.MALFORMED),
        (200, TICKER.replace(b'"30303.20000"', b'"1e17"'), FailureCode.INVALID_PRICE),
    ],
)
async def test_a_fault_is_one_of_our_codes(status: int, body: bytes, code: FailureCode) -> None:
    async with server() as kraken, asking(kraken) as client:
        kraken.status, kraken.body = status, body
        found = await ask(client)
        assert isinstance(found, SourceFailure)
        assert found.code is code, found.detail


async def test_a_hung_exchange_costs_the_time_it_may_and_the_next_question_is_answered() -> None:
    async with server() as kraken, asking(kraken, timeout_s=30) as client:
        assert isinstance(await ask(client), Reading)
        kraken.delay_s = 20
        found = await ask(client, within_s=0.3)
        assert isinstance(found, SourceFailure)
        assert found.code is FailureCode.TIMEOUT
        assert found.elapsed_ms < 15_000
        kraken.delay_s = 0
        assert isinstance(await ask(client), Reading)


async def test_a_market_that_the_exchange_has_not_and_a_pair_that_the_file_has_not_are_unsupported() -> None:
    async with server() as kraken, asking(kraken) as client:
        for pair in (Pair("ETH/USD"), Pair("DOGE/USD")):
            found = await ask(client, pair)
            assert isinstance(found, SourceFailure)
            assert found.code is FailureCode.UNSUPPORTED


async def test_where_nobody_answers_it_is_the_connection() -> None:
    async with server() as kraken:
        pass
    async with asking(kraken) as client:
        found = await ask(client)
        assert isinstance(found, SourceFailure)
        assert found.code in {FailureCode.SERVER_ERROR, FailureCode.CONNECTION}


async def test_an_exchange_that_ccxt_does_not_know_is_refused_at_start() -> None:
    pytest.importorskip("ccxt")
    catalogue = {"example": entry("nosuchexchange")}
    with pytest.raises(CatalogueError, match="knows no 'nosuchexchange'"):
        SourcePool(catalogue, ["example"], clock=FixedClock(NOW), registry=CollectorRegistry())


async def test_without_the_extra_the_start_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ccxt.async_support", None)
    with pytest.raises(CatalogueError, match=r"pip install 'fairmark\[ccxt\]'"):
        make_exchange("kraken", 1.0)


async def test_in_test_mode_the_real_exchange_is_never_asked() -> None:
    with pytest.raises(CatalogueError, match="the simulator has no such venue"):
        SourcePool({"example": entry()}, ["example"], clock=FixedClock(NOW), registry=CollectorRegistry(), base_urls={})


async def test_an_exchange_of_ccxts_is_quarantined_and_probed_like_any_other() -> None:
    short = QuarantinePolicy(pause_s=0.1, longest_pause_s=0.2)
    async with server() as kraken, asking(kraken, quarantine=short) as client:
        assert isinstance(await ask(client), Reading)
        kraken.status, kraken.body = 502, b"busy"
        for _ in range(5):
            assert isinstance(await ask(client), SourceFailure)
        asked = len(kraken.asked)
        refused = await ask(client)
        assert isinstance(refused, SourceFailure)
        assert refused.code is FailureCode.QUARANTINED
        kraken.status, kraken.body = 200, TICKER
        await until(lambda: client.vitals.quarantine.state is State.OK)
        assert len(kraken.asked) > asked
        assert isinstance(await ask(client), Reading)
