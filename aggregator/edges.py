"""What the aggregator needs of the chain, as protocols. `contracts.client.OracleClient` meets them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from contracts.fees import Fees
from contracts.readings import FeedOnChain, GroupReading, GroupState, Receipt
from contracts.report import Domain, Signer
from contracts.transactions import Before, Sent, TransactionSender
from core.types import Deployment, SignedReport


class Chain(Protocol):
    """Reading, and building calldata. Every call is bounded by the client's timeout and raises `ContractError`s."""

    @property
    def deployment(self) -> Deployment: ...
    @property
    def domain(self) -> Domain: ...

    async def group_state(self, group: str) -> GroupState: ...
    async def read_group(self, group: str) -> GroupReading: ...
    async def ping(self) -> str: ...
    def build_submission(self, group: str, reports: Sequence[SignedReport], hints: bytes) -> bytes: ...


class SubmittingChain(Chain, Protocol):
    """A chain that takes transactions, too."""

    async def simulate(self, calldata: bytes, sender: str) -> None: ...
    def sender(self, key: str | Signer) -> TransactionSender: ...
    async def place(
        self,
        calldata: bytes,
        sender: TransactionSender,
        *,
        over: Sent | None = None,
        before: Before | None = None,
    ) -> Sent: ...
    async def wait_any(self, transactions: Sequence[str], timeout_s: float) -> Receipt: ...
    async def find_receipt(self, transaction: str) -> Receipt | None: ...
    async def find_fees(self, transaction: str) -> Fees | None: ...
    async def settled_block(self, confirmations: int | str) -> int: ...


@dataclass(eq=False)
class Flight:
    """A signed round on its way into a block. sent: its transactions, newest first, all with one nonce. cancelling:
    the transfer of nothing that is to take their place.
    """

    attempt: str
    group: str
    previous_moment: int
    moment: int
    calldata: bytes
    sent: list[Sent] = field(default_factory=list)
    cancelling: Sent | None = None

    @property
    def hashes(self) -> tuple[str, ...]:
        return tuple(one.transaction for one in self.sent)

    @property
    def nonce(self) -> int:
        return self.sent[0].nonce


Note = Callable[[Flight], Awaitable[None]]
"""Called with a flight whenever a transaction was signed for it, before any node has that."""


class Relayer(Protocol):
    """Who sends rounds, with one key. `aggregator.submitter.Submitter` is one. Raises `ContractError`s."""

    @property
    def address(self) -> str: ...

    def airborne(self, flight: Flight) -> bool: ...
    async def simulate(self, flight: Flight) -> None: ...
    async def send(self, flight: Flight, note: Note) -> None: ...
    async def receipt(self, flight: Flight, note: Note, timeout_s: float) -> Receipt: ...


@dataclass(frozen=True)
class Known:
    """A group as the contract had it at one reading: what an attempt is judged by.

    group_hash and signers are lower-case; feeds stand in the group's order. standing: each feed's answer after the last
    round, scaled, which is what a report that follows that round calls unchanged; 0 where there is none. observed_ms:
    when each was observed last; empty where that is not known.
    """

    group_hash: str
    last_moment: int
    round: int
    paused: bool
    f: int
    threshold: int
    signers: frozenset[str]
    feeds: tuple[FeedOnChain, ...]
    standing: tuple[int, ...]
    observed_ms: tuple[int, ...] = ()

    @classmethod
    def of(cls, state: GroupState, reading: GroupReading) -> Known:
        """Both must show the same round."""
        return cls(
            group_hash=state.group_hash.lower(),
            last_moment=state.last_moment,
            round=state.round,
            paused=state.paused,
            f=state.f,
            threshold=state.threshold,
            signers=frozenset(signer.lower() for signer in state.signers),
            feeds=tuple(state.feeds),
            standing=standing_of(reading),
            observed_ms=observed_of(reading),
        )


def standing_of(reading: GroupReading) -> tuple[int, ...]:
    """Each feed's standing answer, scaled, in the group's order; 0 where there is none."""
    return tuple(reading.answers[pair].value if pair in reading.answers else 0 for pair in reading.pairs)


def observed_of(reading: GroupReading) -> tuple[int, ...]:
    """When each feed's standing answer was observed last, ms, in the group's order; 0 where there is none."""
    return tuple(reading.answers[pair].observed_ms if pair in reading.answers else 0 for pair in reading.pairs)
