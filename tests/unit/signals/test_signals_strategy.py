"""Generators, and what a strategy makes of them: decisions by hand arithmetic, and troubles that name their signal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import codec
from core.clock import FixedClock
from core.logs import get_logger
from core.ops import Ops
from core.reporting import FeedRule, Policy, Schedule, Trouble, TroubleCode
from core.signals import SignalRange, SignalReading
from core.types import Mode
from signals.errors import SignalUnavailableError
from signals.generator import Generator, number
from signals.rpc import SignalClient, signal_url
from signals.strategy import DECIDE, Rule, Strategy

START_MS = 1_795_000_000_000
PERIOD_MS = 1_000
RANGE = SignalRange(decimals=2, minimum=Decimal(-1), maximum=Decimal(1))
Answers = dict[str, Callable[[httpx.Request], httpx.Response]]


def reading(value: str, *, time_ms: int = START_MS, name: str = "gen", depends: tuple[str, ...] = ()) -> bytes:
    said = SignalReading(
        name=name, value=Decimal(value), time_ms=time_ms, period_ms=PERIOD_MS, range=RANGE, depends=depends
    )
    return codec.encode({"jsonrpc": "2.0", "id": 1, "result": codec.to_builtins(said)})


def refused(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


class Network:
    """Signals by port, behind one client."""

    def __init__(self, **answers: bytes) -> None:
        self.answers = {int(port[1:]): answer for port, answer in answers.items()}
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.port not in self.answers:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, content=self.answers[request.url.port])


@pytest.fixture
async def clock() -> AsyncIterator[FixedClock]:
    yield FixedClock(START_MS)


def strategy(network: Network, clock: FixedClock, *ports: int, **changes: object) -> Strategy:
    plain: dict[str, object] = {
        "name": "alpha",
        "signals": [f"127.0.0.1:{port}" for port in ports],
        "rule": Rule.MEAN,
        "policy": FeedRule(),
        "declared": RANGE,
        "schedule": Schedule(PERIOD_MS),
        "limit_ms": 3 * PERIOD_MS,
        "client": SignalClient(network.http),
        "clock": clock,
    }
    return Strategy(**{**plain, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "decision"),
    [(Rule.MEAN, "0.10"), (Rule.MEDIAN, "-0.20"), (Rule.SUM, "0.30"), (Rule.SIGN, "1.00")],
)
async def test_a_decision_is_made_by_its_rule(clock: FixedClock, rule: Rule, decision: str) -> None:
    network = Network(p1=reading("0.9"), p2=reading("-0.4", time_ms=START_MS - 500), p3=reading("-0.2"))
    made = await strategy(network, clock, 1, 2, 3, rule=rule).make(START_MS)
    assert (str(made.value), made.data_ms, made.trouble) == (decision, START_MS - 500, None)


@pytest.mark.parametrize(
    ("values", "sign"), [(["0"], "0"), (["-0.1", "0.1"], "0"), (["-0.1"], "-1"), (["0.3", "-0.1"], "1")]
)
def test_the_sign_of_nothing_is_zero(values: list[str], sign: str) -> None:
    assert DECIDE[Rule.SIGN]([Decimal(value) for value in values]) == Decimal(sign)


async def test_a_dead_signal_is_named_with_when_it_was_last_well(clock: FixedClock) -> None:
    network = Network(p1=reading("0.9", name="gen-1"), p2=reading("0.1"))
    alpha = strategy(network, clock, 1, 2)
    assert (await alpha.make(START_MS)).trouble is None
    clock.advance(PERIOD_MS)
    del network.answers[1]
    network.answers[2] = reading("0.1", time_ms=START_MS + PERIOD_MS)
    made = await alpha.make(START_MS + PERIOD_MS)
    assert made.value is None
    assert made.trouble is not None
    assert (made.trouble.who, made.trouble.code) == ("gen-1 (127.0.0.1:1)", TroubleCode.UNREACHABLE)
    assert made.trouble.since_ms == START_MS


async def test_under_quorum_a_dead_signal_is_left_out(clock: FixedClock) -> None:
    alpha = strategy(Network(p2=reading("0.1")), clock, 1, 2, policy=FeedRule(policy=Policy.QUORUM, needed=1))
    assert (await alpha.make(START_MS)).value == Decimal("0.10")


async def test_a_signal_that_stands_still_is_outdated(clock: FixedClock) -> None:
    alpha = strategy(Network(p1=reading("0.9", time_ms=START_MS - 3_001)), clock, 1)
    made = await alpha.make(START_MS)
    assert made.trouble is not None
    assert (made.trouble.code, made.trouble.since_ms) == (TroubleCode.OUTDATED, START_MS - 3_001)


async def test_a_signals_own_trouble_is_passed_on_and_dated_no_later_than_now(clock: FixedClock) -> None:
    told = Trouble(who="gen-9", code=TroubleCode.STOPPED, since_ms=START_MS + 9_999, via=("trader/other", "beta"))
    body = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32001, "message": "no", "data": codec.to_builtins(told)}}
    made = await strategy(Network(p1=codec.encode(body)), clock, 1).make(START_MS)
    assert made.trouble is not None
    assert (made.trouble.who, made.trouble.via, made.trouble.since_ms) == ("gen-9", ("trader/other", "beta"), START_MS)


async def test_a_decision_out_of_the_feeds_range_is_a_trouble_of_its_own(clock: FixedClock) -> None:
    network = Network(p1=reading("0.9"), p2=reading("0.9"))
    made = await strategy(network, clock, 1, 2, rule=Rule.SUM).make(START_MS)
    assert made.trouble is not None
    assert (made.trouble.who, made.trouble.code) == ("alpha", TroubleCode.INVALID)


async def test_since_when_decisions_are_out_of_the_range_is_remembered_until_one_is_within(clock: FixedClock) -> None:
    network = Network(p1=reading("0.9"), p2=reading("0.9"))
    alpha = strategy(network, clock, 1, 2, rule=Rule.SUM)
    since = []
    for value in ("0.9", "0.8", "0.1", "0.9"):
        network.answers[2] = reading(value, time_ms=clock.now_ms())
        network.answers[1] = reading("0.9", time_ms=clock.now_ms())
        made = await alpha.make(clock.now_ms())
        since.append(None if made.trouble is None else made.trouble.since_ms - START_MS)
        clock.advance(PERIOD_MS)
    assert since == [0, 0, None, 3 * PERIOD_MS]


async def test_what_is_behind_the_signals_is_known_to_the_trader(clock: FixedClock) -> None:
    network = Network(p1=reading("0", name="trader/other", depends=("beta", "gen")), p2=reading("0", name="gen"))
    assert (await strategy(network, clock, 1, 2).make(START_MS)).depends == ("beta", "gen", "trader/other")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[" * 5_000,
        b'{"result": null}',
        reading("7"),
        reading("0", name="n" * 101),
        reading("0", depends=("n",) * 33),
        b'{"error": {"code": -32001, "message": "", "data": {"who": "a"}}}',
        b'{"error": {"code": -32601, "message": "what?"}}',
    ],
)
async def test_what_is_no_signal_is_unavailable(body: bytes) -> None:
    with pytest.raises(SignalUnavailableError):
        await SignalClient(Network(p1=body).http).read("127.0.0.1:1", 1.0)


@pytest.mark.parametrize("address", ["localhost", "localhost:", "a b:1", "h:0", "h:65536", "h:1/../x", "https://h:1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        signal_url(address)


@given(st.integers(), st.integers(0, 2**42), st.integers(0, 6))
def test_a_generators_number_is_one_of_its_range_and_repeats(seed: int, slot: int, decimals: int) -> None:
    declared = SignalRange(decimals=decimals, minimum=Decimal(-3), maximum=Decimal(5))
    drawn = number(seed, slot, declared)
    assert Decimal(-3) <= drawn <= Decimal(5)
    assert drawn == number(seed, slot, declared) == declared.checked(drawn)


async def test_a_generator_serves_its_slots_number(clock: FixedClock) -> None:
    clock.advance(250)
    generator = Generator(
        name="gen-1",
        seed=7,
        schedule=Schedule(PERIOD_MS),
        declared=RANGE,
        clock=clock,
        ops=Ops("gen-1", Mode.TEST, clock),
        logger=get_logger("gen-1", Mode.TEST),
    )
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app=generator.app))
    found = await SignalClient(http).read("127.0.0.1:1", 1.0)
    assert (found.name, found.value, found.time_ms) == ("gen-1", number(7, START_MS, RANGE), START_MS)
    wrong = await http.post("http://gen/", json={"jsonrpc": "2.0", "id": 3, "method": "eth_call"})
    assert (wrong.json()["id"], wrong.json()["error"]["code"]) == (3, -32601)
