"""What the client reads off the chain. Every value here came out of one `eth_call`, so that it is all of one block."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum

from core.types import Mode, Pair


class AnswerStatus(IntEnum):
    """The contract's `Status`, judged by the block's time. Off chain, judge staleness by the wall clock instead."""

    UNSET = 0
    FRESH = 1
    STALE = 2
    HALTED = 3
    UNKNOWN = 4
    PENDING = 5
    """The standing answer is fresh, but a median far from it waits to be confirmed."""


@dataclass(frozen=True)
class FeedOnChain:
    """A feed's parameters as the contract has them.

    limit_bps, max_spread_bps: the breaker's; 0 is no limit.
    """

    pair: Pair
    decimals: int
    min_contributors: int
    deviation_bps: int
    heartbeat_s: int
    limit_bps: int = 0
    max_spread_bps: int = 0


@dataclass(frozen=True)
class GroupState:
    """What a reporter and an aggregator need to know of a group before a round.

    group_hash: 0x-hex, what reports sign. last_moment: ms, the next report's `previous_moment`; 0 before any round.
    signers: checksummed, ascending. feeds: in the order of a report's prices. block_timestamp: s, of the block read.
    number: the group's, in payloads. set_place: 1 where version, hash and signers are of a rotation's new set, else 0.
    """

    group: str
    group_hash: str
    version: int
    last_moment: int
    round: int
    accepted_block: int
    paused: bool
    threshold: int
    f: int
    max_age_ms: int
    signers: tuple[str, ...]
    feeds: tuple[FeedOnChain, ...]
    block_timestamp: int
    number: int = 0
    set_place: int = 0


@dataclass(frozen=True)
class Answer:
    """A feed's standing answer.

    value: scaled by `decimals`; price: the same as `Decimal`. round: the group's round in which it was accepted.
    observed_ms: the exact moment of that round, or of the last that attested the answer; it may lie up to 30 s ahead of
    its block. updated_at: s, as readers on chain see it, never after the block's time. stale_after_s: the age in
    seconds beyond which it is stale.
    """

    pair: Pair
    value: int
    decimals: int
    price: Decimal
    round: int
    observed_ms: int
    updated_at: int
    spread_bps: int
    contributors: int
    status: AnswerStatus
    heartbeat_s: int
    stale_after_s: int


@dataclass(frozen=True)
class GroupReading:
    """All of a group's standing answers, and the round that is the newest.

    answers: by pair, in the group's order. A feed that never had an answer is in `pairs` and not in `answers`: there is
    no zero to mistake for a price. round and moment are 0, and accepted_block too, before the first round.
    """

    group: str
    mode: Mode
    group_hash: str
    version: int
    round: int
    moment: int
    accepted_block: int
    block_timestamp: int
    paused: bool
    pairs: tuple[Pair, ...]
    answers: dict[Pair, Answer]


@dataclass(frozen=True)
class Receipt:
    """A mined transaction. ok: it did not revert."""

    transaction: str
    block_number: int
    block_hash: str
    gas_used: int
    ok: bool
