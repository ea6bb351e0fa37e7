"""A signed round as anybody may carry it: what a consumer fetches, checks, and submits in its own transaction.

It needs no trust in whoever served it: the reporters' signatures are in it, and `verify` checks all that the contract
will, before any gas is spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
from msgspec import Struct

from contracts.abi import Abi
from contracts.client import OracleClient
from contracts.errors import InvalidUpdateError, RoundRefusedError
from contracts.readings import GroupReading, GroupState
from contracts.report import Domain, in_signer_order, recover_reporter
from core import codec
from core.median import from_scaled
from core.types import Mode, Pair, SignedReport

ANYBODY = "0x" + "00" * 19 + "01"
"""Who simulates where no sender is named: a round may come from anyone."""
LATE = frozenset({"UnexpectedPreviousMoment", "MomentNotLater"})
"""Refusals of a round that is no news, not a wrong one."""


class SignedUpdate(Struct, frozen=True, kw_only=True):
    """The newest round that a quorum signed, whether a block has it or not.

    moment: ms. answers: the median of each feed that has one. feeds: in the order of the reports' prices. hints:
    0x-hex, a feed's median among `reports`. to, function, calldata: the transaction that carries it; `submitIfNewer`
    returns false, and does nothing, where the contract has moved on.
    """

    group: str
    mode: Mode
    chain_id: int
    to: str
    function: str
    calldata: str
    previous_moment: int
    moment: int
    feeds: tuple[Pair, ...]
    answers: dict[Pair, Decimal]
    reports: tuple[SignedReport, ...]
    hints: str


def for_pulling(abi: Abi, submission: bytes) -> tuple[str, bytes]:
    """Function and calldata of a submission by a consumer: the same arguments, without a revert for being late."""
    try:
        return "submitIfNewer", abi.call("submitIfNewer", b"")[:4] + submission[4:]
    except KeyError:
        return "submit", submission


def read_update(body: bytes) -> SignedUpdate:
    """An update as the API serves it. Raises `InvalidUpdateError`."""
    try:
        return codec.decode(body, SignedUpdate)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidUpdateError(f"not a signed update: {error}") from error


def signers_of(domain: Domain, reports: Sequence[SignedReport]) -> dict[str, SignedReport]:
    """Reports by who signed them, recovered. Raises `InvalidSignatureError`, or `InvalidUpdateError`: signed twice."""
    found = {recover_reporter(domain, report): report for report in reports}
    if len(found) < len(reports):
        raise InvalidUpdateError("two reports have one signer")
    return found


async def verify(client: OracleClient, update: SignedUpdate, sender: str = ANYBODY) -> bool:
    """Whether the contract would take the update now; False where it stands there already, or a newer one does.

    Checked here: it is for this contract, by enough distinct members of the group's signer set, about the group's
    feeds, the calldata is that of these very reports, and its moments and answers are theirs, too. Then the call is
    simulated, as from `sender`.

    Raises `InvalidUpdateError` when one of these does not hold, `InvalidSignatureError`, `RoundRefusedError` naming the
    contract's error, or `RpcUnavailableError`.
    """
    record = client.record
    wanted = (record.chain_id, record.address.lower(), client.mode)
    if (update.chain_id, update.to.lower(), update.mode) != wanted:
        raise InvalidUpdateError(
            f"it is for the {update.mode} contract {update.to} on chain {update.chain_id}, "
            f"not for the {client.mode} one at {record.address} on chain {record.chain_id}"
        )
    state = await client.group_state(update.group)
    if update.feeds != tuple(feed.pair for feed in state.feeds):
        raise InvalidUpdateError(f"its feeds are not those of group {update.group} on chain")
    signed = signers_of(client.domain, update.reports)
    if strangers := {signer.lower() for signer in signed} - {signer.lower() for signer in state.signers}:
        raise InvalidUpdateError(f"signed by {', '.join(sorted(strangers))}, no reporter of group {update.group}")
    if len(signed) < state.threshold:
        raise InvalidUpdateError(f"{len(signed)} reports, and the group's threshold is {state.threshold}")
    try:
        hints = bytes.fromhex(update.hints.removeprefix("0x"))
    except ValueError:
        raise InvalidUpdateError("its hints are not hexadecimal") from None
    submission = client.build_submission(update.group, in_signer_order(signed), hints)
    function, calldata = for_pulling(client.abi, submission)
    if (update.function, update.calldata) != (function, "0x" + calldata.hex()):
        raise InvalidUpdateError("its calldata is not that of its reports")
    await _check_told(client, update, state, in_signer_order(signed), hints)
    try:
        await client.simulate(submission, sender)
    except RoundRefusedError as error:
        if error.name in LATE:
            return False
        raise
    return True


async def _check_told(
    client: OracleClient, update: SignedUpdate, state: GroupState, reports: Sequence[SignedReport], hints: bytes
) -> None:
    """See that what an update says beside its calldata is what the calldata brings.

    Raises `InvalidUpdateError` or `RpcUnavailableError`.
    """
    moments = (update.previous_moment, update.moment)
    if any((report.previous_moment, report.moment) != moments for report in reports):
        raise InvalidUpdateError("its moments are not those of its reports")
    if len(hints) != len(state.feeds):
        raise InvalidUpdateError(f"{len(hints)} hints for {len(state.feeds)} feeds")
    if strangers := update.answers.keys() - set(update.feeds):
        raise InvalidUpdateError(f"it answers for {', '.join(sorted(strangers))}, no feed of group {update.group}")
    standing: GroupReading | None = None
    for index, (feed, hint) in enumerate(zip(state.feeds, hints, strict=True)):
        told = update.answers.get(feed.pair)
        if told is None:
            continue
        if hint >= len(reports):
            raise InvalidUpdateError(f"it answers for {feed.pair}, of which its reports have no median")
        if reports[hint].unchanged >> index & 1:
            standing = standing or await client.read_group(update.group)
            if standing.moment != update.previous_moment:
                continue  # the answer it calls unchanged stands no more, and neither would the update be taken
            price = standing.answers[feed.pair].price if feed.pair in standing.answers else None
        else:
            price = from_scaled(reports[hint].prices[index], feed.decimals)
        if told != price:
            raise InvalidUpdateError(f"it says {told} for {feed.pair}, and its reports say {price}")
