"""A round's evidence against the chain, with nothing but a node and the evidence file.

Nothing that the file says of itself is believed. Signatures are recovered, evidence roots are hashed anew, medians are
taken anew, and what the contract holds, the event, and the transaction's own bytes are read from the node. A check that
the node cannot answer any more (it keeps no old states) is told as not checked, never as passed.

The node itself is believed: ask one of your own. So is the contract's address, unless the caller gives it: anybody may
deploy an oracle of his own reporters, and have a file of its rounds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
)
from contracts.evidence import NO_EVIDENCE
from contracts.readings import GroupState
from contracts.report import DOMAIN_NAMES, NO_MEDIAN, bytes32, recover_reporter
from contracts.rpc import Rpc
from core.breaker import beyond
from core.median import BPS, from_scaled, lower_median, to_scaled
from core.types import Pair, SignedReport
from fairmark.around import Accepted, Around, Stood, accepted, around
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
    event = await _event(look)
    included = _included(record)
    state = await _state(look, event, {one.signed.group_hash.lower() for one in included})
    signed = _signatures(look, included, state)
    _roots(look, included)
    await _payload(look, included, state)
    await _kept(look, included)
    before, after = Around(None, None) if event is None else await around(look.client, record.group, pair, index, event)
    standing = before.value if before is not None else _told_standing(included, pair, index, feed.decimals)
    medians = _medians(look, signed, index, standing, state)
    far = _far(look, [value for one in signed if (value := _observed(one, index, standing))], index, before, state)
    taken = None if event is None else bool((event.written | event.attested) >> index & 1)
    _told_of(look, pair, index, signed, standing)
    _agreement(look, pair, index, medians, after, taken, far)
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
    told = f"{name} at {evidence.contract}"
    look.note("the contract stands there, of that mode", (name, domain_chain, contract.lower()) == wanted, told)


async def _event(look: _Look) -> Accepted | None:
    """The round by the contract's own event."""
    record, what = look.record, f"round {look.record.round} is on chain"
    receipt = (
        await look.client.rpc.call("eth_getTransactionReceipt", record.transaction) if record.transaction else None
    )
    if receipt is None:
        look.note(what, False, f"the node has no transaction {record.transaction}")
        return None
    for event in accepted(look.client, record.group, receipt["logs"]):
        if event.round == record.round:
            told = f"block {event.block}, moment {event.moment}, by {record.transaction}"
            look.note(what, event.moment == record.moment, told)
            return event
    look.note(what, False, f"transaction {record.transaction} has no such event of {look.evidence.contract}")
    return None


async def _state(look: _Look, event: Accepted | None, hashes: Collection[str]) -> GroupState | None:
    """The group that the reports, which carry `hashes`, were signed for: as it stood after the round, or before its
    block where it was changed in that; or, where the node keeps no old states, as it stands."""
    blocks = [] if event is None else [hex(event.block), hex(event.block - 1)]
    for tried in (blocks, ["latest"]):
        states = [(at, state) for at in tried if (state := await _group(look, at)) is not None]
        right = [one for one in states if one[1].group_hash.lower() in hashes]
        if right or (states and (tried is blocks or not blocks)):
            at, state = (right or states)[0]
            pairs = tuple(feed.pair for feed in look.evidence.feeds)
            look.note("the group has the file's feeds", tuple(feed.pair for feed in state.feeds) == pairs, f"at {at}")
            return state
    look.note("the group can be read", None, "the node keeps no state of that block, and the group has changed since")
    return None


async def _group(look: _Look, at: str) -> GroupState | None:
    try:
        return await look.client.group_state(look.record.group, at)
    except ContractError:
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


def _far(look: _Look, values: Sequence[int], index: int, before: Stood | None, state: GroupState | None) -> bool | None:
    """Whether such an answer is beyond the feed's limits, so that it only stands if it confirms one before it; None
    where that is not known."""
    if state is None or not values or before is None:
        return None
    feed, median = state.feeds[index], lower_median(values)
    if feed.max_spread_bps and (max(values) - min(values)) * BPS // median > feed.max_spread_bps:
        return True
    return beyond(
        median,
        before.value,
        elapsed_ms=look.record.moment - before.observed_ms,
        heartbeat_ms=feed.heartbeat_s * 1000,
        limit_bps=feed.limit_bps,
    )


def _agreement(
    look: _Look, pair: Pair, index: int, medians: Medians, after: Stood | None, taken: bool | None, far: bool | None
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
    if far is not None and far is not bool(said.held or said.confirmed):
        told = "it is" if far else "it is not"
        look.note("the file says rightly whether it is beyond the feed's limits", False, told)
    what = "the contract's answer after the round is that median"
    if said.confirmed:
        what += f", which confirms the one that waited ({said.why_held})"
    if after is None:
        look.note(what, None, "the node keeps no state of that block; ask one that does")
        return
    stands = f"{from_scaled(after.value, decimals):f}"
    if after.value == medians.submitted:
        look.note(what, True, stands)
    elif said.held:
        what = f"the contract holds it back ({said.held}): {said.why_held}"
        look.note(what, taken is False, f"{stands} stands" if after.value else "none stands")
    else:
        look.note(what, False, f"it is {stands}")


def _told_of(look: _Look, pair: Pair, index: int, signed: Sequence[SignedReport], standing: int) -> None:
    """What the file tells of the answer beside its price: it follows from the submitted reports and the hints."""
    said, hints = look.record.answers.get(pair), bytes.fromhex((look.record.hints or "0x")[2:])
    values = [value for one in signed if (value := _observed(one, index, standing))]
    if said is None or not values or index >= len(hints) or hints[index] >= len(signed):
        return
    whose = signed[hints[index]]
    reporter, spread = (
        recover_reporter(look.client.domain, whose),
        (max(values) - min(values)) * BPS // lower_median(values),
    )
    ours = (len(values), spread, reporter.lower(), bool(whose.unchanged >> index & 1))
    told = (said.contributors, said.spread_bps, said.reporter.lower(), said.attested)
    unchanged = ", unchanged" if ours[3] else ""
    detail = f"{ours[0]} reporters, spread {spread} bps, the middle one {reporter}{unchanged}"
    look.note("the file says rightly whose the median is, of how many, how far apart", ours == told, detail)
