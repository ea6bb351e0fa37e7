"""Who is asked with whom: requests of one turn of the loop become one, and nobody pays for a neighbour's fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from core.types import FailureCode, Pair
from sources import Priority, SourceEntry, load_catalogue
from sources.batch import MAX_BYTES, REST_S, THREAD_BYTES, Batcher
from sources.batch_body import Found
from sources.errors import EmptyBodyError, RequestError

BINANCE = load_catalogue()["binance"]
BTC, ETH, SOL, DOGE = (Pair(f"{base}/USDT") for base in ("BTC", "ETH", "SOL", "DOGE"))
RECEIVED = 1_790_000_000_456


def body_of(symbols: list[str], last: str = "2") -> bytes:
    book = {"lastPrice": last, "bidPrice": "1", "askPrice": "3", "closeTime": 1_790_000_000_123}
    return json.dumps([{"symbol": symbol, **book} for symbol in symbols]).encode()


class Wire:
    """Answers batch requests, and keeps what was asked. answer: from the symbols asked for to a body, or a fault."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.deadlines: list[float] = []
        self.priorities: list[Priority] = []
        self.limits: list[int] = []
        self.answer: Callable[[list[str]], bytes] = body_of
        self.hold: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self.cancelled = 0
        self.noted: list[Found] = []

    async def send(self, request: httpx.Request, deadline: float, priority: Priority) -> tuple[bytes, int]:
        symbols = json.loads(request.url.params["symbols"])
        self.asked.append(tuple(symbols))
        self.deadlines.append(deadline)
        self.priorities.append(priority)
        self.limits.append(request.extensions[MAX_BYTES])
        self.begun.set()
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.answer(symbols), RECEIVED


@pytest.fixture
def wire() -> Wire:
    return Wire()


def batcher_of(wire: Wire, **changes: Any) -> Batcher:
    assert BINANCE.batch is not None
    entry = SourceEntry.model_validate(BINANCE.model_dump() | {"batch": BINANCE.batch.model_dump() | changes})
    return Batcher(entry, base_url="http://example.test/", headers={}, send=wire.send, note=wire.noted.append)


@pytest.fixture
async def batcher(wire: Wire) -> AsyncIterator[Batcher]:
    made = batcher_of(wire)
    yield made
    await made.close()


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def last_of(batcher: Batcher, *pairs: Pair) -> list[Decimal | None]:
    answers = await asyncio.gather(*(batcher.join(pair, soon()) for pair in pairs))
    return [None if answer is None else answer[0].last for answer in answers]


async def test_pairs_asked_together_are_one_request_and_each_gets_its_own_ticker(wire: Wire, batcher: Batcher) -> None:
    wire.answer = lambda symbols: (
        b"[" + b",".join(body_of([symbol], str(place + 5))[1:-1] for place, symbol in enumerate(symbols)) + b"]"
    )
    assert await last_of(batcher, ETH, DOGE, BTC) == [6, 7, 5]  # asked for in the catalogue's order
    assert wire.asked == [("BTCUSDT", "ETHUSDT", "DOGEUSDT")]
    assert wire.limits == [256 * 1024]


async def test_the_receipt_is_the_batchs(batcher: Batcher) -> None:
    answers = await asyncio.gather(batcher.join(BTC, soon()), batcher.join(ETH, soon()))
    assert [answer and answer[1] for answer in answers] == [RECEIVED, RECEIVED]


async def test_who_asks_alone_is_told_at_once_to_ask_alone(wire: Wire, batcher: Batcher) -> None:
    assert await batcher.join(BTC, soon()) is None
    assert await last_of(batcher, ETH, ETH) == [None, None]  # two who ask for the same are one pair
    assert wire.asked == []


async def test_fewer_than_a_batch_is_worth_ask_one_by_one(wire: Wire) -> None:
    batcher = batcher_of(wire, at_least=3)
    assert await last_of(batcher, BTC, ETH) == [None, None]
    assert await last_of(batcher, BTC, ETH, SOL) == [2, 2, 2]
    assert wire.asked == [("BTCUSDT", "ETHUSDT", "SOLUSDT")]


async def test_more_than_one_request_may_name_are_several_and_a_rest_of_one_goes_alone(wire: Wire) -> None:
    batcher = batcher_of(wire, max_symbols=2)
    pairs = BINANCE.pairs[:5]
    assert await last_of(batcher, *pairs) == [2, 2, 2, 2, None]
    symbols = [BINANCE.symbol(pair) for pair in pairs]
    assert wire.asked == [(symbols[0], symbols[1]), (symbols[2], symbols[3])]


async def test_what_is_asked_later_is_another_request(wire: Wire, batcher: Batcher) -> None:
    wire.hold = asyncio.Event()
    first = asyncio.gather(batcher.join(BTC, soon()), batcher.join(ETH, soon()))
    await wire.begun.wait()
    second = asyncio.gather(batcher.join(BTC, soon()), batcher.join(SOL, soon()))
    wire.hold.set()
    assert all(await first)
    assert all(await second)
    assert wire.asked == [("BTCUSDT", "ETHUSDT"), ("BTCUSDT", "SOLUSDT")]


async def test_a_pair_that_is_not_served_goes_the_single_way_where_it_is_refused(wire: Wire, batcher: Batcher) -> None:
    assert await last_of(batcher, BTC, ETH, Pair("BTC/EUR")) == [2, 2, None]


async def test_where_no_pair_is_served_nobody_is_asked(wire: Wire) -> None:
    batcher = batcher_of(wire, path="/all", max_symbols=None)
    assert await last_of(batcher, Pair("BTC/EUR"), Pair("ETH/EUR")) == [None, None]
    assert wire.asked == []


async def test_who_leaves_first_takes_nobody_along(wire: Wire, batcher: Batcher) -> None:
    async def leave(*tasks: asyncio.Task[Any]) -> None:
        for task in tasks:
            task.cancel()

    tasks = [asyncio.create_task(batcher.join(pair, soon())) for pair in (BTC, ETH, SOL)]
    leaving = asyncio.create_task(leave(tasks[0]))  # runs in the turn in which the three ask, right behind them
    found = await asyncio.gather(*tasks, return_exceptions=True)
    await leaving
    assert isinstance(found[0], asyncio.CancelledError)
    assert wire.asked == [("ETHUSDT", "SOLUSDT")]
    assert all(found[1:])


async def test_a_pair_that_is_not_in_the_body_fails_alone(wire: Wire, batcher: Batcher) -> None:
    wire.answer = lambda symbols: body_of([symbol for symbol in symbols if symbol != "ETHUSDT"])
    found = await asyncio.gather(*(batcher.join(pair, soon()) for pair in (BTC, ETH, SOL)), return_exceptions=True)
    assert isinstance(found[1], EmptyBodyError)
    assert [isinstance(each, tuple) for each in found] == [True, False, True]


@pytest.mark.parametrize(
    "fault",
    [
        RequestError(FailureCode.HTTP_STATUS, "HTTP 400"),
        RequestError(FailureCode.TOO_LARGE, "too much"),
        RequestError(FailureCode.REDIRECTED, "elsewhere"),
        b'{"code":-1121,"msg":"Invalid symbol."}',
        b"<html>",
        b"",
    ],
    ids=str,
)
async def test_a_refused_batch_is_asked_one_by_one_and_batches_rest(
    wire: Wire, batcher: Batcher, fault: RequestError | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: list[str]) -> bytes:
        if isinstance(fault, RequestError):
            raise fault
        return fault

    wire.answer = refuse
    assert await last_of(batcher, BTC, ETH) == [None, None]
    wire.answer = body_of
    assert await last_of(batcher, BTC, ETH) == [None, None]
    assert len(wire.asked) == 1
    loop = asyncio.get_running_loop()
    later = loop.time() + REST_S + 1
    monkeypatch.setattr(loop, "time", lambda: later)
    assert await last_of(batcher, BTC, ETH) == [2, 2]


async def test_a_passing_fault_is_everybodys_and_batches_go_on(wire: Wire, batcher: Batcher) -> None:
    def limited(_: list[str]) -> bytes:
        raise RequestError(FailureCode.RATE_LIMITED, "HTTP 429", retry_after_s=2.5)

    wire.answer = limited
    found = await asyncio.gather(batcher.join(BTC, soon()), batcher.join(ETH, soon()), return_exceptions=True)
    assert [(each.failure, each.retry_after_s) for each in found if isinstance(each, RequestError)] == [
        (FailureCode.RATE_LIMITED, 2.5)
    ] * 2
    assert found[0] is not found[1]
    wire.answer = body_of
    assert await last_of(batcher, BTC, ETH) == [2, 2]


async def test_two_faults_in_a_row_make_batches_rest(wire: Wire, batcher: Batcher) -> None:
    def failing(_: list[str]) -> bytes:
        raise RequestError(FailureCode.SERVER_ERROR, "HTTP 503")

    for answer in (failing, body_of, failing, failing):
        wire.answer = answer
        await asyncio.gather(batcher.join(BTC, soon()), batcher.join(ETH, soon()), return_exceptions=True)
    assert len(wire.asked) == 4
    assert await last_of(batcher, BTC, ETH) == [None, None]
    assert len(wire.asked) == 4


async def test_a_bug_is_told_to_those_who_asked(wire: Wire, batcher: Batcher) -> None:
    def broken(_: list[str]) -> bytes:
        raise ZeroDivisionError("oops")

    wire.answer = broken
    found = await asyncio.gather(batcher.join(BTC, soon()), batcher.join(ETH, soon()), return_exceptions=True)
    assert [str(each) for each in found] == ["ZeroDivisionError: oops"] * 2


async def test_each_waits_to_its_own_deadline_and_the_request_to_the_last(wire: Wire, batcher: Batcher) -> None:
    wire.hold = asyncio.Event()
    early, late = soon(0.02), soon()
    hasty, patient = asyncio.create_task(batcher.join(BTC, early)), asyncio.create_task(batcher.join(ETH, late))
    with pytest.raises(RequestError, match="no complete answer within") as caught:
        await hasty
    assert caught.value.failure is FailureCode.TIMEOUT
    wire.hold.set()
    assert (await patient) is not None
    assert wire.deadlines == [late]
    assert wire.cancelled == 0


async def test_when_the_last_has_given_up_the_request_ends(wire: Wire, batcher: Batcher) -> None:
    wire.hold = asyncio.Event()
    tasks = [asyncio.create_task(batcher.join(pair, soon())) for pair in (BTC, ETH)]
    await wire.begun.wait()
    tasks[0].cancel()
    await asyncio.sleep(0)
    assert wire.cancelled == 0
    tasks[1].cancel()
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert wire.cancelled == 1


async def test_who_gives_up_before_the_batch_goes_out_is_not_asked_for(wire: Wire, batcher: Batcher) -> None:
    tasks = [asyncio.create_task(batcher.join(pair, soon())) for pair in (BTC, ETH, SOL)]
    asyncio.get_running_loop().call_soon(tasks[0].cancel)  # in the very turn in which the three ask
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert wire.asked in ([("ETHUSDT", "SOLUSDT")], [("BTCUSDT", "ETHUSDT", "SOLUSDT")])
    assert all(found[1:])


async def test_closing_ends_what_is_under_way(wire: Wire) -> None:
    batcher = batcher_of(wire)
    wire.hold = asyncio.Event()
    tasks = [asyncio.create_task(batcher.join(pair, soon())) for pair in (BTC, ETH)]
    await wire.begun.wait()
    await batcher.close()
    assert wire.cancelled == 1
    done, _ = await asyncio.wait(tasks, timeout=1)
    assert all(task.cancelled() for task in done)
    assert len(done) == 2


async def test_a_long_body_is_read_as_a_short_one(wire: Wire) -> None:
    batcher = batcher_of(wire, max_bytes=2 * 1024 * 1024)
    strangers = [f"C{number}USDT" for number in range(2_000)]
    wire.answer = lambda symbols: body_of(strangers, "9")[:-1] + b"," + body_of(symbols)[1:]
    assert len(wire.answer(["BTCUSDT"])) > THREAD_BYTES
    assert await last_of(batcher, BTC, ETH) == [2, 2]


async def test_past_the_deadline_nobody_joins(wire: Wire, batcher: Batcher) -> None:
    assert await batcher.join(BTC, soon(-1)) is None


def test_a_source_without_a_batch_has_no_batcher(wire: Wire) -> None:
    with pytest.raises(ValueError, match="coinbase declares no batch"):
        Batcher(load_catalogue()["coinbase"], base_url="http://x", headers={}, send=wire.send, note=wire.noted.append)
