"""Why a node does not take a transaction. JSON-RPC has no codes for this: each client has words of its own.

The words are those of geth, anvil (reth), Erigon, Nethermind, Besu and eth-tester, in lower case.
"""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """What a node says of a transaction that it was given."""

    ALREADY_KNOWN = "already_known"  # it has this very transaction
    NONCE_TOO_LOW = "nonce_too_low"  # the nonce is used: a block has a transaction of ours with it
    NONCE_TOO_HIGH = "nonce_too_high"  # the node does not know of one before it: it is behind
    UNDERPRICED = "underpriced"  # another transaction has the nonce, and this one does not offer enough more
    FEE_TOO_LOW = "fee_too_low"  # below what the chain asks now
    OUT_OF_FUNDS = "out_of_funds"
    REVERTED = "reverted"  # it ran the transaction before taking it
    OTHER = "other"


_WORDS: tuple[tuple[Refusal, tuple[str, ...]], ...] = (
    (
        Refusal.ALREADY_KNOWN,
        ("already known", "already imported", "alreadyknown", "known transaction", "already exists"),
    ),
    (Refusal.NONCE_TOO_LOW, ("nonce too low", "invalid nonce", "oldnonce", "nonce is too low", "nonce_too_low")),
    (Refusal.NONCE_TOO_HIGH, ("nonce too high", "nonce gap", "nonce is too distant", "noncegap", "nonce_too_high")),
    (Refusal.UNDERPRICED, ("replacement transaction underpriced", "could not replace", "replacement_underpriced")),
    (
        Refusal.FEE_TOO_LOW,
        (
            "underpriced",
            "less than block base fee",
            "below base fee",
            "feetoolow",
            "fee too low",
            "gas price too low",
            "gas price below",
            "max fee per gas",
        ),
    ),
    (Refusal.OUT_OF_FUNDS, ("insufficient funds", "insufficientfunds", "insufficient balance", "not enough funds")),
    (Refusal.REVERTED, ("revert",)),
)


def refusal_of(message: str) -> Refusal:
    """What the node's words mean."""
    said = message.lower()
    return next((kind for kind, words in _WORDS if any(word in said for word in words)), Refusal.OTHER)


_BEHIND = ("header not found", "unknown block", "missing trie node", "block not found", "is syncing", "not synced")


def says_it_is_behind(message: str) -> bool:
    """Whether a node's refusal of a read means that it does not have the state that others have."""
    said = message.lower()
    return any(word in said for word in _BEHIND)
