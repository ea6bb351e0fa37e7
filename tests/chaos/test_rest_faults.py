"""Every fault of a venue over REST against the whole: the quote, its code, the metrics, and the round goes on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import get_args

import httpx
import pytest
import pytest_asyncio
from aiohttp import web

from aggregator.states import State
from core.median import lower_median, to_scaled
from core.types import FailureCode, Feed, Group, Pair, Quote, SourceFailure
from simulator.faults import Hostile, Streamed, Withheld, Wrong
from tests.chaos.rest_table import ROWS, Row, document
from tests.chaos.rounds import CATALOGUE, FETCHERS, Rounds, rounds
from tests.chaos.stream_table import STREAM_ROWS

real_rounds = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.needs_anvil

BTC = Pair("BTC/USD")
VICTIM = "bitstamp"
SOUND = ("coinbase", "gemini", "bitfinex", "cryptocom")
SOURCES = (VICTIM, *SOUND)
GROUP = Group(
    name="majors",
    feeds=(
        Feed(
            pair=BTC,
            min_price=Decimal(1000),
            max_price=Decimal(10_000_000),
            max_unchanged_ms=1_500,
            wanted_sources=len(SOURCES),
        ),
    ),
)
CERTIFICATE = Path(__file__).resolve().parents[1] / "fixtures" / "tls" / "self_signed.pem"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rounds]:
    async with rounds(Path(tmp_path_factory.mktemp("chaos")), GROUP) as running:
        yield running


@contextlib.asynccontextmanager
async def urls(row: Row, real: Rounds) -> AsyncIterator[dict[str, str]]:
    """Where the victim is found in this row, where it is not at its own venue."""
    if row.name == "certificate":
        unvouched = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        unvouched.load_cert_chain(CERTIFICATE)
        sound = CATALOGUE[VICTIM].request_path(BTC)

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(real.simulator.venue_urls[VICTIM] + sound)
            return web.Response(body=answer.content, content_type="application/json")

        server = await asyncio.get_running_loop().create_server(web.Server(serve), "127.0.0.1", 0, ssl=unvouched)
        async with server:
            yield {VICTIM: f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"}
        return
    port = real.simulator.venue_urls[VICTIM].rpartition(":")[2]
    if row.name == "dns":
        yield {VICTIM: f"http://nowhere.invalid:{port}"}
    else:
        yield {VICTIM: f"https://127.0.0.1:{port}"} if row.name == "tls" else {}


@real_rounds
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_a_faulty_venue_ends_as_the_table_says_and_the_round_completes(row: Row, real: Rounds) -> None:
    faulty = [VICTIM] if row.fault else []
    async with (
        urls(row, real) as elsewhere,
        real.fetchers(SOURCES, elsewhere) as every,
        real.fault(*faulty, **row.fault),
    ):
        seen = await real.round(every)
    assert seen.record.state is State.ACCEPTED, (seen.record.code, seen.record.detail)
    outcomes = seen.outcomes(VICTIM)
    assert set(outcomes) == set(FETCHERS)
    for fetcher, outcome in outcomes.items():
        if row.outcome:
            assert isinstance(outcome, SourceFailure), outcome
            assert outcome.code in row.outcome, outcome
        else:
            assert isinstance(outcome, Quote), outcome
        shown = "ok" if isinstance(outcome, Quote) else str(outcome.code)
        assert seen.counted(fetcher, "fairmark_fetchers_quotes", VICTIM) == {shown}
        requests = seen.counted(fetcher, "fairmark_sources_requests", VICTIM)
        assert requests
        assert requests <= {str(each) for each in row.request}
    for report in seen.record.reports:
        prices = [quote.price for quote in report.quotes]
        assert len(prices) >= GROUP.feeds[0].min_sources
        assert to_scaled(report.answers[BTC], 8) == to_scaled(lower_median(prices), 8)
        assert all(quote.source in SOUND for quote in report.quotes if row.outcome)
    now_ms = seen.record.moment
    true = real.simulator.board.true_usd("BTC", now_ms)
    assert abs(seen.record.answers[BTC].price - true) / true < Decimal("0.002")


@real_rounds
async def test_a_price_that_stands_still_under_a_fresh_time_is_frozen(real: Rounds) -> None:
    """The recorded case in small: the venue goes on answering, with the time of now, and its price never changes."""
    true = real.simulator.board.true_usd("BTC", 0)
    async with real.fetchers(SOURCES) as every:
        real.simulator.board.pin({f"{VICTIM}:BTC/USD": str(true.quantize(Decimal("0.01")))})
        try:
            codes: list[set[str]] = []
            for _ in range(400):
                outcomes = (await real.round(every)).outcomes(VICTIM).values()
                codes.append({str(each.code) if isinstance(each, SourceFailure) else "quote" for each in outcomes})
                if codes[-1] == {"frozen"}:
                    break
        finally:
            real.simulator.board.unpin()
    assert "frozen" not in codes[0]
    assert codes[-1] == {"frozen"}


@real_rounds
async def test_when_every_venue_fails_there_is_no_round_and_the_answer_stands(real: Rounds) -> None:
    async with real.fetchers(SOURCES) as every:
        before = await real.round(every)
        async with real.fault(*SOURCES, kind="untraded"):
            seen = await real.round(every)
        after = await real.round(every)
    assert (before.record.state, seen.record.state, after.record.state) == (
        State.ACCEPTED,
        State.FAILED,
        State.ACCEPTED,
    )
    assert {refusal.code for refusal in seen.record.refusals} == {"no_prices"}
    codes = {each.code for refusal in seen.record.refusals for each in refusal.failures}
    assert codes == {FailureCode.NOT_TRADED}
    assert after.record.round == before.record.round + 1  # type: ignore[operator]


def test_every_fault_of_the_simulator_has_its_row_in_each_table_where_there_can_be_such_a_fault() -> None:
    def kinds(*faults: object) -> set[str]:
        return {each.model_fields["kind"].annotation.__args__[0] for fault in faults for each in get_args(fault)}  # type: ignore[union-attr]

    both = kinds(Withheld, Wrong, Hostile) | {"refused"}
    assert {str(row.fault["kind"]) for row in ROWS if row.fault} == both
    assert {str(row.fault["kind"]) for row in STREAM_ROWS} == both | kinds(Streamed)


def test_the_page_shows_the_table() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
    assert page.read_text(encoding="utf-8") == document(), "python -m tests.chaos.rest_table > docs/faults.md"
