"""A round's evidence file against the chain: what holds is shown to hold, and each lie in it is found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from aggregator.attempts import AttemptRecord, Cause, FeedAnswer, ReportRecord, Verdict
from aggregator.states import State
from broker.bus import Topic
from broker.messages import Message, Report
from contracts.evidence import Statement
from contracts.report import in_signer_order, median_hints, recover_reporter, sign_report
from core import codec
from core.median import from_scaled
from core.types import Mode
from fairmark.cli import ask, verifying  # noqa: F401 - importing registers the commands
from fairmark.cli.app import app
from fairmark.evidence_file import EvidenceFile, EvidenceFileError, FeedPlace, evidence_of, read, write
from fairmark.verify import Verified, verify
from tests.integration.test_evidence_rounds import BTC, MAJORS, REPORTERS, World
from tests.integration.test_evidence_rounds import world as world  # noqa: PLC0414 - the fixture
from tests.support.fetchers import Slow
from tests.support.submission import RELAYERS, Hand, anvil, hand

pytestmark = pytest.mark.needs_anvil


def published(world: World) -> dict[str, Any]:
    """What `GET /v1/feeds` says."""
    feeds = [
        {"pair": feed.pair, "decimals": feed.decimals, "group": "majors", "index": index}
        for index, feed in enumerate(MAJORS.feeds)
    ]
    deployment = world.client.deployment
    return {"mode": "test", "chain_id": deployment.chain_id, "contract": deployment.address, "feeds": feeds}


async def saved(world: World, folder: Path) -> EvidenceFile:
    """The file of a new round, as it is read back."""
    path = folder / "evidence.json"
    write(path, evidence_of(published(world), await world.refresh()))
    return read(path)


async def checked(world: World, evidence: EvidenceFile) -> Verified:
    return await verify(evidence, BTC, world.client.rpc.url)


def failed(result: Verified) -> list[str]:
    return [check.what for check in result.checks if check.passed is False]


async def test_a_round_is_verified_with_nothing_but_a_node_and_its_file(world: World, tmp_path: Path) -> None:
    evidence = await saved(world, tmp_path)
    result = await checked(world, evidence)
    assert [(check.what, check.passed) for check in result.checks] == [
        ("the node is of the file's chain", True),
        ("the contract stands there, of that mode", True),
        ("round 1 is on chain", True),
        ("the group has the file's feeds", True),
        ("every submitted report is signed by a different reporter of the group", True),
        ("the signatures cover the quotes", True),
        ("the transaction carries exactly these reports", True),
        ("the contract keeps the hash of their evidence roots", True),
        ("the file says rightly whose the median is, of how many, how far apart", True),
        ("the lower median of the submitted reports is the recorded answer", True),
        ("the contract's answer after the round is that median", True),
    ]
    standing = (await world.client.read_group("majors")).answers[BTC].value
    assert (result.ok, result.answer, result.medians.submitted) == (True, standing, standing)
    assert (result.medians.reports, result.medians.left_out) == (4, 0)


async def test_an_attested_round_and_an_older_one_are_verified_too(world: World, tmp_path: Path) -> None:
    first = await saved(world, tmp_path)
    second = await saved(world, tmp_path)
    assert second.record.answers[BTC].attested
    third = await saved(world, tmp_path)
    for evidence in (first, second, third):
        result = await checked(world, evidence)
        assert (failed(result), result.ok) == ([], True)


def _price(evidence: EvidenceFile) -> EvidenceFile:
    first, *rest = evidence.record.reports
    prices = (first.signed.prices[0] + 1, *first.signed.prices[1:])
    lie = msgspec.structs.replace(first, signed=msgspec.structs.replace(first.signed, prices=prices))
    return _with(evidence, reports=(lie, *rest))


def _quote(evidence: EvidenceFile) -> EvidenceFile:
    first, *rest = evidence.record.reports
    quote = msgspec.structs.replace(first.quotes[0], price=first.quotes[0].price + 1)
    return _with(evidence, reports=(msgspec.structs.replace(first, quotes=(quote, *first.quotes[1:])), *rest))


def _fewer(evidence: EvidenceFile) -> EvidenceFile:
    return _with(evidence, reports=evidence.record.reports[:3])


def _answer(evidence: EvidenceFile) -> EvidenceFile:
    answers = evidence.record.answers
    lie = msgspec.structs.replace(answers[BTC], price=answers[BTC].price + Decimal("0.01"))
    return _with(evidence, answers={**answers, BTC: lie})


def _no_answer(evidence: EvidenceFile) -> EvidenceFile:
    rest = {pair: one for pair, one in evidence.record.answers.items() if pair != BTC}
    return _with(evidence, answers=rest, feeds_without_answer={BTC: "1 contributors, 2 are needed"})


def _held(evidence: EvidenceFile) -> EvidenceFile:
    answers = evidence.record.answers
    return _with(evidence, answers={**answers, BTC: msgspec.structs.replace(answers[BTC], held="deviation")})


def _told(**changes: object) -> Callable[[EvidenceFile], EvidenceFile]:
    def lie(evidence: EvidenceFile) -> EvidenceFile:
        answers = evidence.record.answers
        return _with(evidence, answers={**answers, BTC: msgspec.structs.replace(answers[BTC], **changes)})

    return lie


def _mode(evidence: EvidenceFile) -> EvidenceFile:
    return msgspec.structs.replace(evidence, mode=Mode.LIVE)


def _contract(evidence: EvidenceFile) -> EvidenceFile:
    return msgspec.structs.replace(evidence, contract="0x" + "12" * 20)


def _chain(evidence: EvidenceFile) -> EvidenceFile:
    return msgspec.structs.replace(evidence, chain_id=1)


def _round(evidence: EvidenceFile) -> EvidenceFile:
    return _with(evidence, round=2)


def _transaction(evidence: EvidenceFile) -> EvidenceFile:
    return _with(evidence, transaction="0x" + "34" * 32)


def _with(evidence: EvidenceFile, **changes: object) -> EvidenceFile:
    return msgspec.structs.replace(evidence, record=msgspec.structs.replace(evidence.record, **changes))


TOLD = "the file says rightly whose the median is, of how many, how far apart"
LIES: list[tuple[Callable[[EvidenceFile], EvidenceFile], str]] = [
    (_price, "every submitted report is signed by a different reporter of the group"),
    (_quote, "the signatures cover the quotes"),
    (_fewer, "the transaction carries exactly these reports"),
    (_answer, "the lower median of the submitted reports is the recorded answer"),
    (_no_answer, "the round left this feed alone"),
    (_held, "the file says rightly whether it is beyond the feed's limits"),
    (_told(contributors=3), TOLD),
    (_told(spread_bps=9_999), TOLD),
    (_told(reporter="0x" + "12" * 20), TOLD),
    (_told(attested=True), TOLD),
    (_mode, "the contract stands there, of that mode"),
    (_contract, "the contract stands there"),
    (_chain, "the node is of the file's chain"),
    (_round, "round 2 is on chain"),
    (_transaction, "round 1 is on chain"),
]


async def test_each_lie_in_a_file_is_found(world: World, tmp_path: Path) -> None:
    evidence = await saved(world, tmp_path)
    for lie, found in LIES:
        result = await checked(world, lie(evidence))
        assert not result.ok
        assert found in failed(result), lie.__name__


async def test_an_answer_that_waits_to_be_confirmed_is_verified_and_not_called_taken(
    world: World, tmp_path: Path
) -> None:
    await world.refresh()
    for pool in world.pools:
        for market in pool.answers:
            pool.answers[market] = "140000" if market[1] != "USDT/USD" else "1"
    evidence = await saved(world, tmp_path)
    assert evidence.record.answers[BTC].held == "deviation"
    result = await checked(world, evidence)
    assert (failed(result), result.checks[-1].what.partition(" (")[0]) == ([], "the contract holds it back")
    plain = msgspec.structs.replace(evidence.record.answers[BTC], held="")
    lie = await checked(world, _with(evidence, answers={BTC: plain}))
    assert "the file says rightly whether it is beyond the feed's limits" in failed(lie)


async def test_an_answer_that_confirms_the_one_that_waited_is_told_from_a_held_one(
    world: World, tmp_path: Path
) -> None:
    await world.refresh()
    for pool in world.pools:
        for market in pool.answers:
            pool.answers[market] = "140000" if market[1] != "USDT/USD" else "1"
    held = await saved(world, tmp_path)
    await world.later(31)
    confirmed = await saved(world, tmp_path)
    told = [
        (one.held, one.confirmed, one.why_held) for one in (held.record.answers[BTC], confirmed.record.answers[BTC])
    ]
    assert told == [("deviation", False, told[0][2]), ("", True, told[1][2])]
    assert "bps from the standing 70000." in told[1][2]
    for evidence in (held, confirmed):
        result = await checked(world, evidence)
        assert (failed(result), result.medians.submitted) == ([], 14 * 10**12)
    assert result.answer == 14 * 10**12
    assert result.checks[-1].what.startswith("the contract's answer after the round is that median, which confirms")
    for lie in ({"confirmed": False}, {"confirmed": False, "held": "deviation"}):
        other = msgspec.structs.replace(confirmed.record.answers[BTC], **lie)
        result = await checked(world, _with(confirmed, answers={BTC: other}))
        assert ("the file says rightly whether it is beyond the feed's limits" in failed(result)) is (len(lie) == 1)
    other = msgspec.structs.replace(held.record.answers[BTC], held="", confirmed=True)
    assert failed(await checked(world, _with(held, answers={BTC: other}))) == [
        "the contract's answer after the round is that median, which confirms the one that waited "
        f"({held.record.answers[BTC].why_held})"
    ]


async def test_rounds_that_share_a_block_are_each_verified_by_what_stood_between_them(tmp_path: Path) -> None:
    """The second calls the first's answer unchanged, the third is far from the block before and near the second."""
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(anvil())
        one = await hand(stack, node, tmp_path)
        sender = one.client.sender(RELAYERS[0])
        base = 10**12
        first = await one.flight(base, late_ms=5_000)
        await one.client.wait_receipt(await one.client.submit(first.calldata, sender), 10)
        standing = await one.client.group_state("majors")
        await node.stop_mining()
        found = []
        previous, limit = first.moment, standing.feeds[0].limit_bps
        assert limit == 1_000
        told: list[list[int]] = [[base * 108 // 100] * 3, [0, 0, base * 109 // 100], [base * 116 // 100] * 3]
        for number, prices in enumerate(told):
            moment = previous + 1_000
            reports = in_signer_order(
                {
                    by.address: sign_report(
                        by,
                        one.client.domain,
                        group="majors",
                        group_hash=standing.group_hash,
                        previous_moment=previous,
                        moment=moment,
                        prices=(price,),
                        unchanged=0 if price else 1,
                    )
                    for by, price in zip(REPORTERS[:3], prices, strict=True)
                }
            )
            before = (told[number - 1][0],) if number else (base,)
            hints = median_hints(reports, standing.feeds, before)
            calldata = one.client.build_submission("majors", reports, hints)
            found.append((moment, previous, reports, hints, await one.client.submit(calldata, sender, gas=1_000_000)))
            previous = moment
        await node.mine()
        blocks = {(await one.client.wait_receipt(each[-1], 10)).block_number for each in found}
        assert len(blocks) == 1
        answers = [base * 108 // 100, base * 108 // 100, base * 116 // 100]
        for number, (each, answer) in enumerate(zip(found, answers, strict=True)):
            evidence = _by_hand(one, number + 2, answer, (0, 92, 0)[number], *each)
            result = await verify(evidence, BTC, node.url)
            assert (failed(result), result.answer, result.medians.submitted) == ([], answer, answer), number
            assert [check.passed for check in result.checks].count(None) == 1  # of quotes, which nobody gave
            lie = evidence.record.answers[BTC]
            other = msgspec.structs.replace(lie, price=lie.price + 1)
            assert failed(await verify(_with(evidence, answers={BTC: other}), BTC, node.url))


def _by_hand(
    one: Hand,
    round_: int,
    answer: int,
    spread_bps: int,
    moment: int,
    previous: int,
    reports: Any,
    hints: bytes,
    transaction: str,
) -> EvidenceFile:
    """A round's file as an aggregator would have it."""
    by_address = {recover_reporter(one.client.domain, signed): signed for signed in reports}
    middle = reports[hints[0]]
    told = FeedAnswer(
        price=from_scaled(answer, 8),
        contributors=3,
        spread_bps=spread_bps,
        reporter=recover_reporter(one.client.domain, middle),
        attested=bool(middle.unchanged),
    )
    record = AttemptRecord(
        id=f"a{round_}",
        deployment=one.client.deployment.id,
        mode=Mode.TEST,
        group="majors",
        cause=Cause.REQUEST,
        state=State.ACCEPTED,
        started_ms=moment,
        moment=moment,
        previous_moment=previous,
        round=round_,
        transaction=transaction,
        hints="0x" + hints.hex(),
        answers={BTC: told},
        reports=tuple(
            ReportRecord(
                verdict=Verdict.INCLUDED,
                code=None,
                detail="",
                signer=address.lower(),
                fetcher="fetcher",
                instance="one",
                arrived_ms=1,
                elapsed_ms=1,
                signed=signed,
                answers={},
                quotes=(),
                failures=(),
            )
            for address, signed in by_address.items()
        ),
    )
    return EvidenceFile(
        fairmark_evidence=1,
        mode=Mode.TEST,
        chain_id=one.client.deployment.chain_id,
        contract=one.client.deployment.address,
        feeds=(FeedPlace(pair=BTC, decimals=8),),
        record=record,
    )


async def test_the_median_is_shown_with_and_without_the_reports_that_were_left_out(
    world: World, tmp_path: Path
) -> None:
    """One reporter signs a second report, far away: both of his are left out, kept, and shown."""

    async def twice(message: Message) -> None:
        if isinstance(message, Report) and message.fetcher == "fetcher-a" and message.signed.prices[0] < 10**14:
            said = {name: getattr(message, name) for name in Statement.__struct_fields__}
            other = Statement(**{**said, "answers": {**message.answers, BTC: Decimal(2_000_000)}})
            signed = sign_report(
                REPORTERS[0],
                world.client.domain,
                group="majors",
                group_hash=message.signed.group_hash,
                previous_moment=message.signed.previous_moment,
                moment=message.signed.moment,
                prices=(200_000_000_000_000, *message.signed.prices[1:]),
                evidence_root=other.tree().root,
            )
            lie = msgspec.structs.replace(message, signed=signed, id="lie", answers=other.answers)
            await world.bus.publish(Topic.REPORTS, lie)

    await world.bus.subscribe(Topic.REPORTS, "liar", twice)
    world.pools[3].answers[("kraken", "BTC/USD")] = Slow("70003.125", 0.2)  # the collection waits for one more
    for _ in range(5):  # on a busy machine the second report may come after the end
        evidence = await saved(world, tmp_path)
        left_out = [one for one in evidence.record.reports if one.verdict is not Verdict.INCLUDED]
        if len(left_out) == 2:
            break
    assert [one.code for one in left_out] == ["equivocation", "equivocation"]
    result = await checked(world, evidence)
    assert (failed(result), result.medians.reports, result.medians.left_out) == ([], 3, 2)
    without = sorted(one.signed.prices[0] for one in evidence.record.reports if one.verdict is Verdict.INCLUDED)
    own = sorted(one.signed.prices[0] for one in left_out)
    assert result.medians.submitted == without[1]
    assert result.medians.with_all == (sorted([*without, own[0]])[1], sorted([*without, own[1]])[1])
    proofs = (await world.http.get("/v1/equivocations")).json()
    assert proofs[0]["attempt"] == evidence.record.id
    assert {proof["signer"] for proof in proofs} == {REPORTERS[0].address.lower()}


async def test_the_command_says_what_holds_and_ends_with_1_where_something_does_not(
    world: World, tmp_path: Path
) -> None:
    evidence = await saved(world, tmp_path)
    lie = tmp_path / "lie.json"
    write(lie, _price(evidence))

    def run(file: Path, *more: str) -> Any:
        import asyncio

        arguments = ["verify", "BTC/USD", "--evidence", str(file), "--rpc", world.client.rpc.url, *more]
        return asyncio.get_running_loop().run_in_executor(None, lambda: CliRunner().invoke(app, arguments))

    good = await run(tmp_path / "evidence.json", "--round", "1")
    assert good.exit_code == 0, good.output
    assert "BTC/USD at round 1: verified" in good.stdout
    assert "no report was left out" in good.stdout
    bad = await run(lie)
    assert bad.exit_code == 1
    assert "BTC/USD at round 1: NOT verified" in bad.stdout
    told = await run(lie, "--json")
    assert codec.decode(told.stdout.encode(), dict[str, Any])["ok"] is False
    other = await run(lie, "--round", "7")
    assert isinstance(other.exception, EvidenceFileError)
    assert "is of round 1, not of 7" in str(other.exception)
    address = evidence.contract
    assert (await run(tmp_path / "evidence.json", "--contract", address.lower())).exit_code == 0
    assert f"Fairmark test at {address}" in good.stdout
    forged = await run(tmp_path / "evidence.json", "--contract", "0x" + "12" * 20)
    assert isinstance(forged.exception, EvidenceFileError)
    assert str(forged.exception) == f"the evidence is of contract {address}, not of 0x{'12' * 20}"


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    with pytest.raises(EvidenceFileError, match="cannot be read"):
        read(path)
    path.write_text("{}")
    with pytest.raises(EvidenceFileError, match="is no evidence file"):
        read(path)
