"""When a collection ends: everybody answered, a grace after the quorum, or the deadline; and what it keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from aggregator.attempts import Verdict
from aggregator.collection import DOUBT_S, MAX_STRANGERS, Collection, Ended
from aggregator.running import report_record
from aggregator.validation import identify, validate
from broker.errors import BrokerUnavailableError, UnroutableError
from contracts.report import LocalSigner
from core.types import FailureCode, Mode, Quote, SourceFailure
from tests.support.aggregator import (
    BTC,
    DOMAIN,
    NOW,
    SIGNERS,
    expected,
    group,
    known_of,
    received,
    refusal,
    report,
    state,
)

GROUP = group()
FOUR = SIGNERS[:4]
PRICES = (6_000_000_000_000, 300_000_000_000)


def published(error: Exception | None = None) -> asyncio.Future[None]:
    """A job's publication, confirmed or failed."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if error:
        future.set_exception(error)
    else:
        future.set_result(None)
    return future


async def timed(collection: Collection, *, deadline_ms: int, grace_ms: int) -> tuple[Ended, float]:
    loop = asyncio.get_running_loop()
    started = loop.time()
    ended = await collection.wait(started + deadline_ms / 1000, grace_ms / 1000, published())
    return ended, (loop.time() - started) * 1000


def fresh(*reports: int) -> Collection:
    collection = Collection(expected(GROUP, FOUR))
    for index in reports:
        collection.add(received(FOUR[index], PRICES, GROUP))
    return collection


def later(ms: int, action: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_later(ms / 1000, action)


async def test_it_ends_at_once_when_every_member_has_signed() -> None:
    ended, ms = await timed(fresh(0, 1, 2, 3), deadline_ms=500, grace_ms=500)
    assert ended is Ended.ALL
    assert ms < 50


async def test_it_ends_a_grace_after_the_quorum() -> None:
    ended, ms = await timed(fresh(0, 1, 2), deadline_ms=800, grace_ms=40)
    assert ended is Ended.GRACE
    assert 35 <= ms < 200


async def test_the_fourth_report_ends_the_grace() -> None:
    collection = fresh(0, 1, 2)
    later(20, lambda: collection.add(received(FOUR[3], PRICES, GROUP)))
    ended, ms = await timed(collection, deadline_ms=800, grace_ms=400)
    assert ended is Ended.ALL
    assert ms < 200


async def test_without_a_quorum_it_ends_at_the_deadline() -> None:
    ended, ms = await timed(fresh(0, 1), deadline_ms=60, grace_ms=10)
    assert ended is Ended.DEADLINE
    assert 55 <= ms < 200


async def test_the_grace_never_goes_past_the_deadline() -> None:
    ended, ms = await timed(fresh(0, 1, 2), deadline_ms=30, grace_ms=5_000)
    assert ended is Ended.DEADLINE
    assert ms < 200


async def test_a_confirm_that_never_comes_does_not_keep_it() -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert await fresh(0, 1, 2, 3).wait(asyncio.get_running_loop().time() + 60, 0.01, never) is Ended.ALL


async def test_a_job_that_a_queue_refused_may_have_reached_enough_all_the_same() -> None:
    collection = fresh(0, 1)
    later(20, lambda: collection.add(received(FOUR[2], PRICES, GROUP)))
    refused = published(BrokerUnavailableError("the broker could not take the message"))
    assert await collection.wait(asyncio.get_running_loop().time() + 60, 0.01, refused) is Ended.GRACE


async def test_a_job_that_was_not_published_ends_it_long_before_the_deadline() -> None:
    loop = asyncio.get_running_loop()
    for error, least_s in ((BrokerUnavailableError("no answer"), DOUBT_S), (UnroutableError("no queue"), 0.0)):
        started = loop.time()
        assert await fresh(0, 1).wait(started + 60, 0.01, published(error)) is Ended.UNPUBLISHED
        assert least_s <= loop.time() - started < 30


async def test_a_feed_that_can_still_have_its_contributors_is_waited_for() -> None:
    collection = fresh(0, 1)
    collection.add(received(FOUR[2], (PRICES[0], 0), GROUP))
    assert not collection.quorate
    collection.add(received(FOUR[3], PRICES, GROUP))
    assert collection.quorate


async def test_a_feed_that_cannot_have_its_contributors_any_more_is_not_waited_for() -> None:
    collection = fresh(0)
    for index in (1, 2):
        collection.add(received(FOUR[index], (PRICES[0], 0), GROUP))
    assert collection.quorate


async def test_a_refusal_spares_the_wait_for_the_rest_once_there_is_a_quorum() -> None:
    collection = fresh(0, 1, 2)
    collection.refuse(refusal(FOUR[3].address), 7)
    ended, ms = await timed(collection, deadline_ms=500, grace_ms=500)
    assert ended is Ended.ALL
    assert ms < 50


async def test_refusals_in_others_names_cannot_end_the_wait_for_a_quorum() -> None:
    collection = fresh(0)
    for index in (1, 2, 3):
        collection.refuse(refusal(FOUR[index].address, fetcher=f"liar-{index}"), 1)
    later(20, lambda: [collection.add(received(FOUR[i], PRICES, GROUP)) for i in (1, 2, 3)])
    ended, _ = await timed(collection, deadline_ms=500, grace_ms=50)
    assert ended is Ended.ALL
    assert validate(collection.received, collection.expected, NOW).answers[BTC].contributors == 4


async def test_the_same_report_again_is_a_copy() -> None:
    collection = fresh(0)
    assert not collection.add(received(FOUR[0], PRICES, GROUP))
    assert len(collection.received) == 1


@pytest.mark.parametrize(
    "envelope",
    [{"mode": Mode.LIVE}, {"deployment": "1:0x00:0x00"}, {"group": "minors"}],
    ids=lambda envelope: next(iter(envelope)),
)
async def test_a_copy_in_a_false_envelope_does_not_displace_the_honest_report(envelope: dict[str, object]) -> None:
    honest = report(FOUR[0], PRICES, GROUP)
    signed = honest.signed
    if "group" in envelope:
        signed = msgspec.structs.replace(signed, group="minors")
        envelope = {}
    forged = msgspec.structs.replace(honest, signed=signed, **envelope)
    collection = fresh(1, 2)
    assert not collection.add(identify(forged, DOMAIN, 1))
    assert collection.dropped == 1
    assert collection.add(identify(honest, DOMAIN, 2))
    assert collection.quorate
    outcome = validate(collection.received, collection.expected, NOW)
    assert [judged.verdict for judged in outcome.judged] == [Verdict.INCLUDED] * 3


def quote(source: str) -> Quote:
    return Quote(pair=BTC, source=source, price=Decimal(60_000), received_ms=NOW)


FORGERIES: dict[str, dict[str, object]] = {
    "quotes": {"quotes": (quote("okx"),)},
    "books": {"quotes": (msgspec.structs.replace(quote("kraken"), bid=Decimal(1)),)},
    "counted": {"observed": {"ETH/USD": (0,)}},
    "answers": {"answers": {}},
    "failures": {"failures": (SourceFailure(pair=BTC, source="okx", code=FailureCode.TIMEOUT),)},
    "fetcher": {"fetcher": "somebody"},
    "hostile": {"quotes": (msgspec.structs.replace(quote("kraken"), price=Decimal("1E+999999")),)},
}


@pytest.mark.parametrize("what", FORGERIES)
async def test_forged_evidence_around_a_signed_report_displaces_nothing(what: str) -> None:
    honest = report(FOUR[0], PRICES, GROUP, quotes=[quote("kraken")])
    forged = msgspec.structs.replace(honest, **FORGERIES[what])
    collection = fresh(1, 2, 3)
    assert collection.add(identify(forged, DOMAIN, 1))
    assert not collection.complete  # it is not the reporter's answer
    outcome = validate(collection.received, collection.expected, NOW)
    assert [one.code for one in outcome.judged] == [None, None, None, "evidence_mismatch"]
    kept = report_record(outcome.judged[3])
    assert (kept.quotes, kept.failures, kept.answers, kept.observed) == ((), (), {}, {})

    assert not collection.add(identify(forged, DOMAIN, 2))
    assert collection.add(identify(honest, DOMAIN, 3))
    assert not collection.add(identify(forged, DOMAIN, 4))
    assert collection.complete
    outcome = validate(collection.received, collection.expected, NOW)
    assert [one.verdict for one in outcome.judged] == [Verdict.INCLUDED] * 4
    assert report_record(outcome.judged[3]).quotes == (quote("kraken"),)
    assert report_record(outcome.judged[3]).fetcher == "fetcher-a"


async def test_any_number_of_forgeries_leaves_room_for_the_honest_report() -> None:
    honest = report(FOUR[0], PRICES, GROUP, quotes=[quote("kraken")])
    collection = fresh(1, 2, 3)
    for number in range(50):
        collection.add(identify(msgspec.structs.replace(honest, fetcher=f"forger-{number}"), DOMAIN, number))
    assert len(collection.received) == 4
    assert collection.add(identify(honest, DOMAIN, 60))
    assert collection.complete


async def test_two_reports_of_one_signer_prove_equivocation_whatever_is_around_them() -> None:
    other = report(FOUR[0], (PRICES[0] + 1, PRICES[1]), GROUP)
    collection = fresh(0, 1, 2)
    collection.add(identify(msgspec.structs.replace(other, fetcher="somebody"), DOMAIN, 1))
    assert not collection.quorate


async def test_what_refusals_saw_is_kept_once_a_member_and_of_nobody_else() -> None:
    collection = fresh()
    failure = SourceFailure(pair=BTC, source="kraken", code=FailureCode.TIMEOUT)
    quote = Quote(pair=BTC, source="okx", price=Decimal(60_000), received_ms=NOW)

    def refuse(reporter: str, fetcher: str) -> None:
        one = refusal(reporter, fetcher=fetcher)
        collection.refuse(msgspec.structs.replace(one, detail="why", quotes=(quote,), failures=(failure,)), 1)

    refuse(FOUR[0].address, "fetcher-a")
    refuse(FOUR[0].address.lower(), "fetcher-a2")
    refuse("0x", "stranger")
    refuse(FOUR[1].address, "fetcher-b")
    assert [(one.fetcher, one.detail, len(one.quotes), len(one.failures)) for one in collection.refusals] == [
        ("fetcher-a", "why", 1, 1),
        ("fetcher-a2", "why", 0, 0),
        ("stranger", "why", 0, 0),
        ("fetcher-b", "why", 1, 1),
    ]


async def test_equivocation_takes_the_quorum_away_again() -> None:
    collection = fresh(0, 1, 2)
    assert collection.quorate
    collection.add(received(FOUR[0], (PRICES[0] + 1, PRICES[1]), GROUP))
    assert not collection.quorate


async def test_garbage_is_bounded_and_keeps_no_member_out() -> None:
    collection = Collection(expected(GROUP, FOUR))
    for number in range(MAX_STRANGERS + 10):
        collection.add(received(LocalSigner(f"{number + 100:064x}"), PRICES, GROUP))
    for number in range(5):  # a member's old reports, replayed by anybody
        collection.add(received(FOUR[0], PRICES, GROUP, moment=NOW - 10 * number - 10))
    assert len(collection.received) == MAX_STRANGERS
    assert collection.dropped == 15
    for signer in FOUR:
        assert collection.add(received(signer, PRICES, GROUP))
    assert collection.complete


async def test_a_newer_state_of_the_group_is_what_reports_are_judged_by() -> None:
    collection = Collection(expected(GROUP, FOUR))
    for signer in FOUR:
        collection.add(received(signer, PRICES, GROUP, previous_moment=NOW - 30_000))
    assert not collection.quorate
    collection.expect(known_of(state(GROUP, FOUR, NOW - 30_000, 5)))
    assert collection.quorate
    outcome = validate(collection.received, collection.expected, NOW)
    assert {judged.verdict for judged in outcome.judged} == {Verdict.INCLUDED}
