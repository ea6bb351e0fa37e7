"""A consumer brings the price itself: the newest signed round from the API, checked, in the consumer's transaction."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from eth_abi.abi import decode
from prometheus_client import CollectorRegistry

from aggregator.attempts import FailureReason, ReportRecord, Verdict
from aggregator.edges import standing_of
from aggregator.metrics import Metrics
from aggregator.recorder import Recorder
from aggregator.states import State
from aggregator.updates import Updates, newest_signed
from contracts import artifacts
from contracts.errors import InvalidSignatureError, InvalidUpdateError, RoundRefusedError
from contracts.pull import SignedUpdate, read_update, verify
from contracts.report import LocalSigner, in_signer_order, median_hints, sign_report
from core import codec
from core.clock import FixedClock, SystemClock
from core.median import from_scaled
from core.types import Mode, Pair, SignedReport
from tests.support.aggregator import MemoryStore
from tests.support.submission import GROUP, LOG, RELAYERS, REPORTERS, Hand, anvil, hand

pytestmark = pytest.mark.needs_anvil
CONSUMER = RELAYERS[1]
FEED = GROUP.feeds[0]


@dataclass
class World:
    hand: Hand
    updates: Updates

    async def signed(
        self, price: int, state: State = State.FAILED, code: str | None = None, unchanged: int = 0
    ) -> list[SignedReport]:
        """A round that a quorum signed and that our own submitter did not bring on chain."""
        standing = await self.hand.client.group_state("majors")
        moment = max(GROUP.moment_at(SystemClock().now_ms()), standing.last_moment + GROUP.grid_ms)
        by_signer = {
            by.address: sign_report(
                by,
                self.hand.client.domain,
                group="majors",
                group_hash=standing.group_hash,
                previous_moment=standing.last_moment,
                moment=moment,
                prices=(price,),
                unchanged=unchanged,
            )
            for by in REPORTERS[:3]
        }
        stands = standing_of(await self.hand.client.read_group("majors"))
        reports = in_signer_order(by_signer)
        flight = await self.hand.flight(price, previous_moment=standing.last_moment, moment=moment)
        record = msgspec.structs.replace(
            self.hand.record(flight, state, standing.round + 1),
            code=code or FailureReason.CHAIN_UNAVAILABLE,
            hints="0x" + median_hints(reports, standing.feeds, stands).hex(),
            reports=tuple(_received(signer, report) for signer, report in by_signer.items()),
        )
        self.hand.recorder.keep(record)
        return list(reports)

    async def update(self) -> SignedUpdate:
        found = await self.updates.newest(GROUP)
        assert found is not None
        return read_update(codec.encode(found))  # as it travels


def _received(signer: str, report: SignedReport) -> ReportRecord:
    return ReportRecord(
        verdict=Verdict.INCLUDED,
        code=None,
        detail="",
        signer=signer.lower(),
        fetcher="f",
        instance="1",
        arrived_ms=1,
        elapsed_ms=1,
        signed=report,
        answers={},
        quotes=(),
        failures=(),
    )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(anvil())
        one = await hand(stack, node, tmp_path)
        yield World(one, Updates(one.client, one.recorder, {}, SystemClock()))


async def test_a_consumer_brings_the_price_that_our_submitter_did_not(world: World):
    client = world.hand.client
    await world.signed(1000)
    update = await world.update()
    assert await verify(client, update)
    consumer = client.sender(CONSUMER)
    transaction = await consumer.send(update.to, bytes.fromhex(update.calldata[2:]), gas=2_000_000)
    assert (await client.wait_receipt(transaction, 5)).ok
    assert await world.hand.answer() == 1000
    assert not await verify(client, update)  # it stands there already


async def test_the_example_on_the_page_for_consumers_takes_what_the_api_serves(world: World):
    client, example = world.hand.client, artifacts.load("ExampleConsumers")
    consumer = client.sender(CONSUMER)
    oracle = client.record.address
    created = await consumer.send(None, example.bytecode + example.abi.construct(oracle, oracle), gas=5_000_000)
    assert (await client.wait_receipt(created, 5)).ok
    contract = (await client.rpc.call("eth_getTransactionReceipt", created))["contractAddress"]
    await world.signed(1000)
    update = await world.update()
    (round_,) = decode(["bytes"], bytes.fromhex(update.calldata[2:])[4:])
    call = {"to": contract, "data": "0x" + example.abi.call("pulled", round_).hex()}
    assert int(await client.rpc.call("eth_call", call, "latest"), 16) == 1000
    for _ in range(2):  # the second time it is no news, and no failure
        transaction = await consumer.send(contract, example.abi.call("pulled", round_), gas=2_000_000)
        assert (await client.wait_receipt(transaction, 5)).ok
        assert (await world.hand.answer(), (await client.group_state("majors")).round) == (1000, 1)


async def test_an_update_that_was_overtaken_is_no_news(world: World):
    await world.signed(1000)
    update = await world.update()
    await world.hand.round(1010)
    assert not await verify(world.hand.client, update)


async def test_an_update_that_was_tampered_with_is_found_out(world: World):
    client = world.hand.client
    reports = await world.signed(1000)
    good = await world.update()

    def but(**changes: object) -> SignedUpdate:
        return msgspec.structs.replace(good, **changes)

    stranger = LocalSigner("0x" + "77" * 32)
    state = await client.group_state("majors")
    foreign = sign_report(
        stranger,
        client.domain,
        group="majors",
        group_hash=state.group_hash,
        previous_moment=0,
        moment=good.moment,
        prices=(1000,),
    )
    broken = msgspec.structs.replace(reports[0], prices=(1001,))
    for update in (
        but(chain_id=1),
        but(to="0x" + "ab" * 20),
        but(mode=Mode.LIVE),
        but(feeds=()),
        but(hints="0xzz"),
        but(calldata=good.calldata[:-2] + "ff"),
        but(reports=good.reports[:2]),
        but(reports=(*good.reports[:2], good.reports[1])),
        but(reports=(*good.reports[:2], foreign)),
        but(reports=(broken, *good.reports[1:])),
        but(moment=good.moment + GROUP.grid_ms),
        but(previous_moment=good.previous_moment + GROUP.grid_ms),
        but(answers={FEED.pair: from_scaled(1001, FEED.decimals)}),
        but(answers={Pair("DOGE/USD"): from_scaled(1000, FEED.decimals)}),
    ):
        with pytest.raises((InvalidUpdateError, InvalidSignatureError)):
            await verify(client, update)
    with pytest.raises(InvalidUpdateError):
        read_update(b'{"group": 7}')
    assert await verify(client, good)
    assert await verify(client, but(answers={FEED.pair: from_scaled(1000, FEED.decimals)}))


async def test_what_an_update_says_of_an_unchanged_answer_is_checked_too(world: World):
    client = world.hand.client
    await world.hand.round(1000)
    await world.signed(0, unchanged=1)
    good = await world.update()
    assert good.reports[0].unchanged == 1
    told = from_scaled(1000, FEED.decimals)
    assert await verify(client, msgspec.structs.replace(good, answers={FEED.pair: told}))
    with pytest.raises(InvalidUpdateError, match=f"it says {2 * told} for {FEED.pair}"):
        await verify(client, msgspec.structs.replace(good, answers={FEED.pair: 2 * told}))


async def test_what_the_contract_refuses_is_named(world: World):
    await world.signed(1000)
    update = await world.update()
    await world.hand.node.call("evm_increaseTime", 300)
    await world.hand.node.mine()
    with pytest.raises(RoundRefusedError, match="StaleMoment"):
        await verify(world.hand.client, update)


async def test_the_newest_signed_round_is_offered_and_none_that_is_too_old_or_was_refused(world: World):
    assert await world.updates.newest(GROUP) is None
    await world.signed(1000)
    first = await world.update()
    await world.hand.round(1005)
    await world.signed(1010)
    await world.signed(1020, code=FailureReason.ROUND_REFUSED)
    second = await world.update()
    assert second.moment > first.moment
    assert second.reports[0].prices == (1010,)
    later = FixedClock(SystemClock().now_ms() + GROUP.max_age_ms + 1_000)
    assert await Updates(world.hand.client, world.hand.recorder, {}, later).newest(GROUP) is None
    empty = Recorder(MemoryStore(), "d", Metrics(CollectorRegistry()), LOG)
    assert newest_signed(await empty.latest("majors", 5)) is None
