"""What the aggregator needs of the chain, as protocols. `contracts.client.OracleClient` meets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from contracts.readings import FeedOnChain, GroupReading, GroupState, Receipt
from contracts.report import Domain, Signer
from contracts.transactions import TransactionSender
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
    async def submit(self, calldata: bytes, sender: TransactionSender) -> str: ...
    async def wait_receipt(self, transaction: str, timeout_s: float) -> Receipt: ...


class Relayer(Protocol):
    """Who sends rounds, with one key. `aggregator.submitter.Submitter` is one. Raises `ContractError`s."""

    @property
    def address(self) -> str: ...

    async def simulate(self, calldata: bytes) -> None: ...
    async def send(self, calldata: bytes) -> str: ...
    async def receipt(self, transaction: str, timeout_s: float) -> Receipt: ...


@dataclass(frozen=True)
class Known:
    """A group as the contract had it at one reading: what an attempt is judged by.

    group_hash and signers are lower-case; feeds stand in the group's order.
    """

    group_hash: str
    last_moment: int
    round: int
    paused: bool
    f: int
    threshold: int
    signers: frozenset[str]
    feeds: tuple[FeedOnChain, ...]

    @classmethod
    def of(cls, state: GroupState) -> Known:
        return cls(
            group_hash=state.group_hash.lower(),
            last_moment=state.last_moment,
            round=state.round,
            paused=state.paused,
            f=state.f,
            threshold=state.threshold,
            signers=frozenset(signer.lower() for signer in state.signers),
            feeds=tuple(state.feeds),
        )
