"""Who governs one deployment with one key: checks a change, sends it, sees it mined; and what there is to look at."""

from __future__ import annotations

import asyncio
import dataclasses
import time

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from contracts.client import LATEST, OracleClient
from contracts.errors import (
    CallRevertedError,
    ChangeRefusedError,
    EarlierWaitsError,
    NoCandidateError,
    NoRotationDueError,
    RoleMissingError,
    RotationUnderWayError,
)
from contracts.governance import Call, Candidate, Role, Rotation
from contracts.pushing import REPLACE_AFTER_S, see_mined
from contracts.readings import GroupState, Receipt
from contracts.report import bytes32
from contracts.rounds import MOST_GAS
from contracts.transactions import TRANSFER_GAS, Announce, TransactionSender
from core.types import Pair

_POSITIONS = int.from_bytes(keccak(b"fairmark.positions"), "big") & ~(2**48 - 1)
_FEED_HALTED = 0x40
_ROLE_ERRORS = {"NotAllowed", "NotGuardian", "OwnableUnauthorizedAccount"}
_KINDS: dict[str, type[ChangeRefusedError]] = dict.fromkeys(_ROLE_ERRORS, RoleMissingError) | {
    "RotationUnderWay": RotationUnderWayError,
    "NoRotationDue": NoRotationDueError,
    "NoCandidate": NoCandidateError,
}
_HINTS = {
    "RotationUnderWay": "a rotation is under way: it must be concluded, or cancelled, first",
    "NoRotationDue": "there is no rotation, or its overlap is not over",
    "NoCandidate": "no candidate waits, or another one by now: look again with `fairmark feeds list`",
    "UnknownFeed": "the contract does not know the feed: `fairmark feeds add` puts a configured one there",
    "UnknownGroup": "the contract does not know the group: run `fairmark deploy`",
}
_REASONS = {
    "rotate": "after a group's first round its signers, f and threshold change by rotation only",
    "signers": "a group needs at least 3f + 1 signers, and one that was left with too few is configured anew first",
    "threshold": "a group's threshold is at least 2f + 1 and at most the number of its signers",
    "signer order": "two reporters have one address, or one has the zero address",
    "no such signer": "it is no signer of the group's standing set",
    "place": "a group's feeds keep their places for ever: add new ones at the end of the group's list",
    "feeds": "a group's feeds keep their places for ever: none can be taken away, and there are 256 at most",
    "decimals": "a feed's decimals never change: give the new scale a name of its own",
    "taken": "the feed stands in another group",
    "minContributors": "a feed's min_contributors is at least 2f + 1 and at most the number of the group's signers",
    "heartbeat": "a heartbeat is one second to 365 days",
}


class Governor:
    """Sends changes, one after the other.

    timeout_s: for each to be mined. turn_s: for the key's earlier transactions to be mined, before one is sent.
    replace_after_s: one that no block took for so long is sent again at its nonce, for more, up to the cap. announce:
    called with each transaction.
    """

    def __init__(
        self,
        client: OracleClient,
        sender: TransactionSender,
        *,
        timeout_s: float = 120.0,
        turn_s: float = 15.0,
        replace_after_s: float = REPLACE_AFTER_S,
        announce: Announce = lambda _what, _transaction: None,
    ) -> None:
        self._turn_s = turn_s
        self._client = client
        self._sender = sender
        self._timeout_s = timeout_s
        self._replace_after_s = replace_after_s
        self._announce = announce

    @property
    def address(self) -> str:
        return self._sender.address

    async def check(self, call: Call) -> None:
        """Whether the contract would take it from this key. Raises a `ChangeRefusedError` that says why not."""
        try:
            await self._client.run(call.data, self.address, call.to)
        except CallRevertedError as error:
            raise await self._explained(call, error) from None

    async def do(self, call: Call) -> Receipt:
        """Check, send, and see it mined.

        Raises as `check` and `TransactionSender.place` do, `EarlierWaitsError`, `TransactionRevertedError`, or
        `ReceiptTimeoutError`, which leaves open whether it will be mined yet.
        """
        await self.check(call)
        await self._turn()
        client, to = self._client, call.to or self._client.record.address
        asked = {"from": self.address, "to": to, "data": "0x" + call.data.hex()}
        # half as much again: storage that somebody else's transaction changes before this one costs more
        gas = min(MOST_GAS, await client.rpc.quantity("eth_estimateGas", asked) * 3 // 2)
        sent = [await self._sender.place(to, call.data, gas=gas)]
        self._announce(call.what, sent[0].transaction)

        async def push() -> None:
            pushed = await self._sender.place(to, call.data, gas=gas, over=sent[0])
            sent.insert(0, pushed)
            self._announce(f"{call.what}, again for more", pushed.transaction)

        return await see_mined(
            client.rpc, self._sender, sent, push, timeout_s=self._timeout_s, replace_after_s=self._replace_after_s
        )

    async def cancel(self, nonce: int) -> Receipt:
        """See nothing mined in the place of the transaction that waits at this nonce.

        Raises as `do` does; `NonceUsedError` where that one was mined in the end.
        """
        sent = [await self._sender.cancel(nonce)]
        what = f"nothing in the place of nonce {nonce}"
        self._announce(what, sent[0].transaction)

        async def push() -> None:
            pushed = await self._sender.place(self.address, b"", gas=TRANSFER_GAS, over=sent[0])
            sent.insert(0, pushed)
            self._announce(f"{what}, again for more", pushed.transaction)

        return await see_mined(
            self._client.rpc,
            self._sender,
            sent,
            push,
            timeout_s=self._timeout_s,
            replace_after_s=self._replace_after_s,
        )

    async def waiting(self) -> range:
        """The nonces of the key's transactions that no block has. Raises `RpcUnavailableError`."""
        return await self._sender.waiting()

    async def _turn(self) -> None:
        """Wait for the key's earlier transactions: behind one that the cap holds up this one would wait for ever."""
        deadline = time.monotonic() + self._turn_s
        while waiting := await self._sender.waiting():
            if time.monotonic() >= deadline:
                raise EarlierWaitsError(self.address, waiting.start)
            await asyncio.sleep(0.25)

    async def _explained(self, call: Call, error: CallRevertedError) -> ChangeRefusedError:
        kind = _KINDS.get(error.name, ChangeRefusedError)
        hint = _HINTS.get(error.name, "")
        if error.name in {"BadGroup", "BadFeed"} and len(error.arguments) == 2:
            hint = _REASONS.get(str(error.arguments[1]), "")
        if kind is RoleMissingError and call.to is not None:
            hint = f"{call.what} is for {call.needs}, and {self.address} is not"
        elif kind is RoleMissingError:
            held = await roles(self._client)
            holders = " or ".join(f"the {role} ({held[role]})" for role in call.roles)
            hint = f"{call.what} is for {holders}, not for {self.address}"
        return kind(error.name, error.arguments, hint)


async def roles(client: OracleClient) -> dict[Role, str]:
    """Who has which role; the zero address: nobody. Raises `RpcUnavailableError`."""
    functions = {
        Role.OWNER: "owner",
        Role.GUARDIAN: "guardian",
        Role.FEEDS_MANAGER: "feedsManager",
        Role.SIGNERS_MANAGER: "signersManager",
    }
    return {role: to_checksum_address((await client.read(function))[0]) for role, function in functions.items()}


async def group_state(client: OracleClient, group: str) -> GroupState | None:
    """The group on chain; None where the contract does not know it. Raises `RpcUnavailableError`."""
    try:
        return await client.group_state(group)
    except CallRevertedError as error:
        if error.name != "UnknownGroup":
            raise
        return None


async def standing(client: OracleClient, state: GroupState) -> GroupState:
    """`state` with the signers, f and threshold that stand, where it shows a due rotation's.

    Raises `RpcUnavailableError`.
    """
    signers, f, threshold = await client.read("standingSigners", bytes32(state.group))
    addresses = tuple(to_checksum_address(each) for each in signers)
    return dataclasses.replace(state, signers=addresses, f=f, threshold=threshold, set_place=0)


async def rotation(client: OracleClient, group: str) -> Rotation | None:
    """The group's rotation, where one is under way. Raises `RpcUnavailableError`."""
    _, version, signers, counts_from, until = await client.read("rotationInfo", bytes32(group))
    if not until:
        return None
    return Rotation(group, version, tuple(to_checksum_address(each) for each in signers), counts_from, until)


async def candidate(client: OracleClient, pair: Pair) -> Candidate | None:
    """The candidate that waits for a feed. Raises `CallRevertedError` (`UnknownFeed`) or `RpcUnavailableError`."""
    value, moment, spread_bps, contributors, round_ = await client.read("candidate", bytes32(pair))
    return Candidate(pair, value, moment, spread_bps, contributors, round_) if value else None


async def halted_feeds(client: OracleClient, state: GroupState) -> frozenset[Pair]:
    """The feeds that are halted by themselves, whatever else halts their group.

    No reader tells it of a feed without an answer: it is read where `FairmarkLayout` keeps it, a byte of POSITIONS for
    each feed. Raises `RpcUnavailableError`.
    """
    words = await asyncio.gather(
        *(
            client.rpc.quantity(
                "eth_getStorageAt", client.record.address, hex(_POSITIONS + 8 * state.number + row), LATEST
            )
            for row in range(-(-len(state.feeds) // 32))
        )
    )
    return frozenset(
        feed.pair for index, feed in enumerate(state.feeds) if words[index // 32] >> 8 * (index % 32) & _FEED_HALTED
    )


async def paused(client: OracleClient) -> bool:
    """Whether the whole contract is paused. Raises `RpcUnavailableError`."""
    (answer,) = await client.read("paused")
    return bool(answer)
