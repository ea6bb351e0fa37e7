"""A round's evidence against the chain, with nothing but a node and the evidence file.

Nothing that the file says of itself is believed. Signatures are recovered, evidence roots are hashed anew, medians are
taken anew, and what the contract holds, the event, and the transaction's own bytes are read from the node. A check that
the node cannot answer any more (it keeps no old states) is told as not checked, never as passed.

The node itself is believed: ask one of your own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice, product

from msgspec import Struct

from aggregator.attempts import AttemptRecord, ReportRecord, Verdict
from aggregator.proofs import statement_of
from contracts.client import OracleClient, signer_set
from contracts.deployments import DeploymentRecord
from contracts.errors import (
    CallRevertedError,
    ContractError,
    InvalidSignatureError,
    MalformedEvidenceError,
    MalformedReportError,
    RpcRejectedError,
)
from contracts.evidence import NO_EVIDENCE
from contracts.readings import Answer, GroupState
from contracts.report import DOMAIN_NAMES, NO_MEDIAN, bytes32, recover_reporter
from contracts.rpc import Rpc
from core.breaker import beyond
from core.median import BPS, from_scaled, lower_median, to_scaled
from core.types import Pair, SignedReport
from fairmark.evidence_file import EvidenceFile, EvidenceFileError

MOST_CHOICES = 256
"""Ways to count one report of each who signed several. More of them are not gone through: the first so many are."""


class Check(Struct, frozen=True, kw_only=True):
    """One thing that was looked at. passed: None where the node could not tell."""

    what: str
    passed: bool | None
    detail: str = ""


class Medians(Struct, frozen=True, kw_only=True):
    """A feed's lower median over the reports that were submitted, and over all that were received from members.

    with_all: its least and greatest value where somebody signed several reports, of which one counts at a time.
    left_out: the reports received beside the submitted ones. Scaled; None where nobody has a price.
    """

    submitted: int | None
    reports: int
    with_all: tuple[int, int] | None
    left_out: int


class Verified(Struct, frozen=True, kw_only=True):
    """What came of it. answer: as the contract gives it after the round, scaled; None where it could not be read."""

    pair: Pair
    round: int
    decimals: int
    checks: tuple[Check, ...]
    medians: Medians
    answer: int | None

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(check.passed is not False for check in self.checks)


class _Look:
    """One verification under way: what was checked so far."""

    def __init__(self, evidence: EvidenceFile, client: OracleClient) -> None:
        self.evidence = evidence
        self.record: AttemptRecord = evidence.record
        self.client = client
        self.checks: list[Check] = []

    def note(self, what: str, passed: bool | None, detail: str = "") -> bool:
        self.checks.append(Check(what=what, passed=passed, detail=detail))
        return passed is True


async def verify(evidence: EvidenceFile, pair: Pair, rpc_url: str, *, timeout_s: float = 10.0) -> Verified:
    """Check one feed of the file's round. Raises `EvidenceFileError` where the file does not have it, and
    `RpcUnavailableError` where the node does not answer."""
    places = [feed.pair for feed in evidence.feeds]
    if pair not in places:
        raise EvidenceFileError(f"the file has no {pair}; it has {', '.join(places)}")
    index, record = places.index(pair), evidence.record
    if record.round is None:
        raise EvidenceFileError(f"attempt {record.id} brought no round ({record.code}): there is nothing to verify")
    where = DeploymentRecord(
        chain_id=evidence.chain_id,
        address=evidence.contract,
        block_hash="0x",
        block_number=0,
        transaction="",
        mode=evidence.mode,
        source_hash="",
        deployed_at="",
    )
    client = OracleClient(Rpc(rpc_url, timeout_s=timeout_s), where, evidence.mode)
    try:
        return await _verify(_Look(evidence, client), pair, index)
    finally:
        await client.close()


async def _verify(look: _Look, pair: Pair, index: int) -> Verified:
    record, feed = look.record, look.evidence.feeds[index]
    await _contract(look)
    block, taken = await _event(look)
    state = await _state(look, block)
    included = _included(record)
    signed = _signatures(look, included, state)
    _roots(look, included)
    await _payload(look, included, state)
    await _kept(look, included)
    before = await _answer(look, pair, None if block is None else block - 1)
    after = await _answer(look, pair, block)
    standing = before.value if before is not None else _told_standing(included, pair, index, feed.decimals)
    medians = _medians(look, signed, index, standing, state)
    far = _far(look, [value for one in signed if (value := _observed(one, index, standing))], index, before, state)
    _agreement(look, pair, index, medians, after, None if taken is None else bool(taken >> index & 1), far)
    return Verified(
        pair=pair,
        round=record.round or 0,
        decimals=feed.decimals,
        checks=tuple(look.checks),
        medians=medians,
        answer=None if after is None else after.value,
    )


async def _contract(look: _Look) -> None:
    evidence, client = look.evidence, look.client
    chain_id = await client.rpc.quantity("eth_chainId")
    look.note("the node is of the file's chain", chain_id == evidence.chain_id, f"chain {chain_id}")
    try:
        _, name, _, domain_chain, contract, _, _ = await client.read("eip712Domain")
    except (CallRevertedError, ContractError) as error:
        look.note("the contract stands there", False, f"{evidence.contract}: {error}")
        return
    wanted = (DOMAIN_NAMES[evidence.mode], evidence.chain_id, evidence.contract.lower())
    look.note("the contract stands there, of that mode", (name, domain_chain, contract.lower()) == wanted, name)


async def _event(look: _Look) -> tuple[int | None, int | None]:
    """The block that has the round, by the contract's own event, and the bits of the feeds it wrote or attested."""
    record, what = look.record, f"round {look.record.round} is on chain"
    receipt = (
        await look.client.rpc.call("eth_getTransactionReceipt", record.transaction) if record.transaction else None
    )
    if receipt is None:
        look.note(what, False, f"the node has no transaction {record.transaction}")
        return None, None
    topics = [look.client.abi.topic("RoundAccepted"), "0x" + bytes32(record.group).hex(), f"0x{record.round:064x}"]
    block = int(receipt["blockNumber"], 16)
    for log in receipt["logs"]:
        if log["address"].lower() == look.evidence.contract.lower() and [t.lower() for t in log["topics"]] == topics:
            moment, written, attested = (int(log["data"][at : at + 64], 16) for at in (2, 66, 130))
            look.note(what, moment == record.moment, f"block {block}, moment {moment}, by {record.transaction}")
            return block, written | attested
    look.note(what, False, f"transaction {record.transaction} has no such event of {look.evidence.contract}")
    return None, None


async def _state(look: _Look, block: int | None) -> GroupState | None:
    """The group as it stood after the round, or, where the node keeps no old states, as it stands."""
    for at in [hex(block), "latest"] if block is not None else ["latest"]:
        try:
            state = await look.client.group_state(look.record.group, at)
        except (RpcRejectedError, ContractError) as error:
            reason = str(error)
            continue
        pairs = tuple(feed.pair for feed in look.evidence.feeds)
        look.note("the group has the file's feeds", tuple(feed.pair for feed in state.feeds) == pairs, f"at {at}")
        return state
    look.note("the group can be read", None, reason)
    return None


def _included(record: AttemptRecord) -> list[ReportRecord]:
    return [one for one in record.reports if one.verdict is Verdict.INCLUDED]


def _signatures(look: _Look, included: Sequence[ReportRecord], state: GroupState | None) -> list[SignedReport]:
    """The submitted reports, ascending by recovered signer."""
    by_signer: dict[str, SignedReport] = {}
    problems = []
    for one in included:
        try:
            signer = recover_reporter(look.client.domain, one.signed).lower()
        except (InvalidSignatureError, MalformedReportError) as error:
            problems.append(f"{one.fetcher}: {error}")
            continue
        if signer in by_signer:
            problems.append(f"{signer} signed two of them")
        by_signer[signer] = one.signed
    if any(one.signed.moment != look.record.moment for one in included):
        problems.append("one is of another moment")
    if state is not None:
        members = {signer.lower() for signer in state.signers}
        problems += [f"{signer} is no reporter of the group" for signer in by_signer if signer not in members]
        if any(one.group_hash.lower() != state.group_hash.lower() for one in by_signer.values()):
            problems.append("one is of another version of the group")
        if len(by_signer) < state.threshold:
            problems.append(f"{len(by_signer)} of {state.threshold} signatures")
    detail = "; ".join(problems) or f"{len(by_signer)} reports"
    look.note("every submitted report is signed by a different reporter of the group", not problems, detail)
    return [by_signer[signer] for signer in sorted(by_signer, key=lambda address: int(address, 16))]


def _roots(look: _Look, included: Sequence[ReportRecord]) -> None:
    quotes, missing, wrong = 0, [], []
    for one in included:
        try:
            root = statement_of(look.record, one).tree().root
        except MalformedEvidenceError:
            root = ""
        if root == one.signed.evidence_root.lower():
            quotes += len(one.quotes)
        elif one.signed.evidence_root == NO_EVIDENCE or not (one.quotes or one.answers):
            missing.append(one.fetcher)
        else:
            wrong.append(one.fetcher)
    what = "the signatures cover the quotes"
    if wrong:
        look.note(what, False, f"what the file shows of {', '.join(wrong)} is not what they signed")
    else:
        beside = f"; of {', '.join(missing)} none are kept" if missing else ""
        look.note(what, None if missing and not quotes else True, f"{quotes} quotes{beside}")


async def _payload(look: _Look, included: Sequence[ReportRecord], state: GroupState | None) -> None:
    """That exactly these reports went into the contract: the transaction's own bytes."""
    what = "the transaction carries exactly these reports"
    if state is None or look.record.transaction is None:
        look.note(what, None, "the group's signers could not be read")
        return
    found = await look.client.rpc.call("eth_getTransactionByHash", look.record.transaction)
    data = bytes.fromhex(str((found or {}).get("input", "0x")).removeprefix("0x"))
    try:
        signed = sorted(
            (one.signed for one in included), key=lambda one: int(recover_reporter(look.client.domain, one), 16)
        )
        payload = look.client.payload(signer_set(state), signed, bytes.fromhex((look.record.hints or "0x")[2:]))
    except (MalformedReportError, InvalidSignatureError, ValueError) as error:
        look.note(what, False, str(error))
        return
    look.note(what, payload in data, f"{len(payload)} bytes")


async def _kept(look: _Look, included: Sequence[ReportRecord]) -> None:
    """That the contract keeps the hash of these evidence roots: it does so for 64 rounds."""
    record = look.record
    by_address = sorted(
        ((int(one.signer or "0x0", 16), one.signer or "", one.signed.evidence_root) for one in included),
    )
    roots = [(signer, bytes.fromhex(root[2:])) for _, signer, root in by_address]
    what = "the contract keeps the hash of their evidence roots"
    if not roots:
        look.note(what, False, "the file has no submitted report")
        return
    proof: list[bytes] = []
    try:
        await look.client.read(
            "verifyObservation", bytes32(record.group), record.round, roots[0][0], roots, bytes(32), proof
        )
    except CallRevertedError as error:
        known = "UnknownRound" not in str(error)
        look.note(what, False if known else None, str(error) if known else "it keeps those of the last 64 rounds")
    except ContractError as error:
        look.note(what, None, str(error))
    else:
        look.note(what, True)


async def _answer(look: _Look, pair: Pair, block: int | None) -> Answer | None:
    if block is None:
        return None
    try:
        return (await look.client.read_group(look.record.group, hex(block))).answers.get(pair)
    except (RpcRejectedError, ContractError):
        return None


def _told_standing(included: Sequence[ReportRecord], pair: Pair, index: int, decimals: int) -> int:
    """What stood before the round, by the signed word of one who called it unchanged; 0 where nobody did."""
    told = [one.answers[pair] for one in included if one.signed.unchanged >> index & 1 and pair in one.answers]
    return to_scaled(told[0], decimals) if told else 0


def _observed(signed: SignedReport, index: int, standing: int) -> int:
    return standing if signed.unchanged >> index & 1 else signed.prices[index]


def _medians(
    look: _Look, signed: Sequence[SignedReport], index: int, standing: int, state: GroupState | None
) -> Medians:
    values = [value for one in signed if (value := _observed(one, index, standing))]
    others = _left_out(look, state)
    mine = {recover_reporter(look.client.domain, one).lower(): [one] for one in signed}
    everybody: dict[str, list[SignedReport]] = {**mine}
    for signer, one in others:
        everybody[signer] = [*everybody.get(signer, ()), one]
    found = []
    for choice in islice(product(*everybody.values()), MOST_CHOICES):
        prices = [value for one in choice if (value := _observed(one, index, standing))]
        if prices:
            found.append(lower_median(prices))
    return Medians(
        submitted=lower_median(values) if values else None,
        reports=len(values),
        with_all=(min(found), max(found)) if found else None,
        left_out=len(others),
    )


def _left_out(look: _Look, state: GroupState | None) -> list[tuple[str, SignedReport]]:
    """What members signed for this very group and moment, and what was not submitted, by who signed it."""
    record = look.record
    hashes = {one.signed.group_hash.lower() for one in _included(record)}
    members: Mapping[str, str] = {signer.lower(): signer for signer in state.signers} if state is not None else {}
    found = []
    for one in record.reports:
        if one.verdict is Verdict.INCLUDED or one.signed.moment != record.moment:
            continue
        if one.signed.group_hash.lower() not in hashes or len(one.signed.prices) != len(look.evidence.feeds):
            continue
        try:
            signer = recover_reporter(look.client.domain, one.signed).lower()
        except (InvalidSignatureError, MalformedReportError):
            continue
        if not members or signer in members:
            found.append((signer, one.signed))
    return found


def _far(
    look: _Look, values: Sequence[int], index: int, before: Answer | None, state: GroupState | None
) -> bool | None:
    """Whether the feed's limits hold such an answer back until another confirms it; None where that is not known."""
    if state is None or not values or (before is None and look.record.round != 1):
        return None
    feed, median = state.feeds[index], lower_median(values)
    if feed.max_spread_bps and (max(values) - min(values)) * BPS // median > feed.max_spread_bps:
        return True
    return before is not None and beyond(
        median,
        before.value,
        elapsed_ms=look.record.moment - before.observed_ms,
        heartbeat_ms=feed.heartbeat_s * 1000,
        limit_bps=feed.limit_bps,
    )


def _agreement(
    look: _Look, pair: Pair, index: int, medians: Medians, after: Answer | None, taken: bool | None, far: bool | None
) -> None:
    """taken: whether the contract wrote or attested the feed's answer, by its event; None where that is not there. far:
    see `_far`."""
    record = look.record
    said = record.answers.get(pair)
    # the hints are the transaction's own: that it carries these was checked
    alone = (record.hints or "0x")[2 + 2 * index : 4 + 2 * index].lower() == f"{NO_MEDIAN:02x}"
    if said is None or alone or medians.submitted is None:
        why = record.feeds_without_answer.get(pair, "")
        look.note("the round left this feed alone", said is None and alone and not taken, why)
        return
    decimals = next(feed.decimals for feed in look.evidence.feeds if feed.pair == pair)
    ours = from_scaled(medians.submitted, decimals)
    look.note("the lower median of the submitted reports is the recorded answer", ours == said.price, f"{ours:f}")
    what = "the contract's answer after the round is that median"
    if far is not None and far is not bool(said.held):
        told = "it is" if far else "it is not"
        look.note("the file says rightly whether it is beyond the feed's limits", False, told)
    if after is None:
        look.note(what, None, "the node keeps no state of that block; ask one that does")
    elif after.value == medians.submitted:
        look.note(what, True, f"{after.price:f}")
    elif said.held:
        what = f"the contract holds it back ({said.held}): {said.why_held}"
        look.note(what, taken is False, f"{after.price:f} stands")
    else:
        look.note(what, False, f"it is {after.price:f}")
