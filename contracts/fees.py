"""What a transaction offers for its gas: from recent blocks, under a cap, and enough more to take another's place.

Amounts are in wei per gas. A chain without EIP-1559 has one price; elsewhere it is a tip and a cap.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.errors import FeeCapError, RpcRejectedError, RpcUnavailableError
from contracts.rpc import Rpc

GWEI = 10**9
FEES_GOOD_FOR_S = 5.0
"""A base fee may rise by an eighth a block; twice the last one covers the six blocks after it."""
LEAST_BUMP_PERCENT = 10
"""What nodes ask of a transaction that is to replace another: a tenth more of everything."""
HISTORY_BLOCKS = 10


@dataclass(frozen=True)
class FeePolicy:
    """What the operator allows.

    max_fee: wei per gas that no transaction offers more than. bump_percent: what a replacement adds, at least a tenth.
    """

    max_fee: int = 500 * GWEI
    bump_percent: int = 25


@dataclass(frozen=True)
class Fees:
    """cap: wei per gas at most. tip: of these to the block's maker; None on a chain without EIP-1559."""

    cap: int
    tip: int | None = None


def offered(policy: FeePolicy, base: int, tip: int) -> Fees:
    """The fees for a chain with this base fee. Raises `FeeCapError` where the base fee is above the operator's cap."""
    if base > policy.max_fee:
        raise FeeCapError(base, policy.max_fee)
    return Fees(cap=min(tip + 2 * base, policy.max_fee), tip=min(tip, policy.max_fee - base))


def offered_legacy(policy: FeePolicy, price: int) -> Fees:
    """The price on a chain without EIP-1559. Raises `FeeCapError` where it is above the operator's cap."""
    if price > policy.max_fee:
        raise FeeCapError(price, policy.max_fee)
    return Fees(cap=price)


def bumped(policy: FeePolicy, old: Fees, now: Fees) -> Fees:
    """Enough to replace a transaction that offered `old`, and not below what is asked `now`.

    Where the operator's cap leaves less than the usual bump, the cap is offered, if a node would still take that.
    Raises `FeeCapError` when it would not.
    """
    cap = max(_more(old.cap, policy.bump_percent), now.cap)
    if cap > policy.max_fee:
        if policy.max_fee < (least := _more(old.cap, LEAST_BUMP_PERCENT)):
            raise FeeCapError(least, policy.max_fee)
        cap = policy.max_fee
    if old.tip is None:
        return Fees(cap=cap)
    tip = max(_more(old.tip, policy.bump_percent), now.tip or 0)
    return Fees(cap=cap, tip=max(min(tip, cap), min(cap, _more(old.tip, LEAST_BUMP_PERCENT))))


def _more(amount: int, percent: int) -> int:
    return max(amount + 1, -(-amount * (100 + max(percent, LEAST_BUMP_PERCENT)) // 100))


def fees_of(transaction: Mapping[str, Any]) -> Fees:
    """What a transaction, as a node gives it, offers. Raises `RpcUnavailableError` when it cannot be read."""
    try:
        if "maxFeePerGas" in transaction and transaction["maxFeePerGas"] is not None:
            return Fees(int(transaction["maxFeePerGas"], 16), int(transaction["maxPriorityFeePerGas"], 16))
        return Fees(int(transaction["gasPrice"], 16))
    except (KeyError, TypeError, ValueError) as error:
        raise RpcUnavailableError(f"the node's transaction cannot be read: {error!r}") from error


class FeeSource:
    """Reads recent blocks, at most once in `FEES_GOOD_FOR_S`."""

    def __init__(self, rpc: Rpc, policy: FeePolicy) -> None:
        self.policy = policy
        self._rpc = rpc
        self._fees: Fees | None = None
        self._at = float("-inf")

    def forget(self) -> None:
        """Read anew next time: a node found the last ones too low."""
        self._fees = None

    async def current(self) -> Fees:
        """Raises `FeeCapError` or `RpcUnavailableError`."""
        if self._fees is None or time.monotonic() - self._at > FEES_GOOD_FOR_S:
            self._fees = await self._read()
            self._at = time.monotonic()
        return self._fees

    async def _read(self) -> Fees:
        block, tip = await asyncio.gather(self._rpc.call("eth_getBlockByNumber", "latest", False), self._history_tip())
        if not isinstance(block, dict):
            raise RpcUnavailableError(f"{self._rpc.url} has no latest block: does it still start?")
        if block.get("baseFeePerGas") is None:
            return offered_legacy(self.policy, await self._rpc.quantity("eth_gasPrice"))
        if tip is None:
            tip = await self._rpc.quantity("eth_maxPriorityFeePerGas")
        return offered(self.policy, int(block["baseFeePerGas"], 16), tip)

    async def _history_tip(self) -> int | None:
        """The middle of what recent blocks' transactions gave; None where none gave anything, or nobody remembers."""
        try:
            history = await self._rpc.call("eth_feeHistory", hex(HISTORY_BLOCKS), "latest", [50])
            rewards = [int(block[0], 16) for block in (history.get("reward") or []) if block]
        except (RpcRejectedError, AttributeError, TypeError, ValueError):
            return None
        given = [reward for reward in rewards if reward]
        return int(statistics.median_low(given)) if given else None
