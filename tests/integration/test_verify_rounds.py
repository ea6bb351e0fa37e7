"""A round's evidence file against the chain: what holds is shown to hold, and each lie in it is found."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from aggregator.attempts import Verdict
from broker.bus import Topic
from broker.messages import Message, Report
from contracts.evidence import Statement
from contracts.report import sign_report
from core import codec
from core.types import Mode
from fairmark.cli import ask, verifying  # noqa: F401 - importing registers the commands
from fairmark.cli.app import app
from fairmark.evidence_file import EvidenceFile, EvidenceFileError, evidence_of, read, write
from fairmark.verify import Verified, verify
from tests.integration.test_evidence_rounds import BTC, MAJORS, REPORTERS, World
from tests.integration.test_evidence_rounds import world as world  # noqa: PLC0414 - the fixture
from tests.support.fetchers import Slow

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


LIES: list[tuple[Callable[[EvidenceFile], EvidenceFile], str]] = [
    (_price, "every submitted report is signed by a different reporter of the group"),
    (_quote, "the signatures cover the quotes"),
    (_fewer, "the transaction carries exactly these reports"),
    (_answer, "the lower median of the submitted reports is the recorded answer"),
    (_no_answer, "the round left this feed alone"),
    (_held, "the file says rightly whether it is beyond the feed's limits"),
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


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    with pytest.raises(EvidenceFileError, match="cannot be read"):
        read(path)
    path.write_text("{}")
    with pytest.raises(EvidenceFileError, match="is no evidence file"):
        read(path)
