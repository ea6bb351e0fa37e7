"""One transaction seen through: given to the nodes again, offered for more, until a block has it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable

from contracts.errors import (
    FeeCapError,
    NonceUsedError,
    ReceiptTimeoutError,
    TransactionRevertedError,
    UnderpricedError,
)
from contracts.readings import Receipt
from contracts.rpc import Rpc
from contracts.transactions import Sent, TransactionSender, wait_any

REPLACE_AFTER_S = 30.0
RESEND_S = 2.0
"""After which a transaction that no block has is given to the nodes again."""


async def see_mined(
    rpc: Rpc,
    sender: TransactionSender,
    sent: list[Sent],
    push: Callable[[], Awaitable[None]],
    *,
    timeout_s: float,
    replace_after_s: float = REPLACE_AFTER_S,
) -> Receipt:
    """The receipt of the one of `sent` that a block has: newest first, all with one nonce.

    push: places another over the newest and puts it first in `sent`; called after each `replace_after_s`. Where the
    operator's cap forbids it, the newest is sent once more instead: the node that took it may have died with it.

    Raises `TransactionRevertedError`, `ReceiptTimeoutError`, which leaves open whether one will be mined yet,
    `NonceUsedError` when a block has another transaction of the key, and else as `TransactionSender.place` does.
    """
    placed = time.monotonic()
    deadline = placed + timeout_s
    used: NonceUsedError | None = None
    while True:
        until = deadline if used is not None else min(deadline, placed + replace_after_s)
        wait = min(RESEND_S, max(0.0, until - time.monotonic()))
        try:
            receipt = await wait_any(rpc, [each.transaction for each in sent], wait)
        except ReceiptTimeoutError:
            if used is not None:
                raise used from None
            now = time.monotonic()
            if now >= deadline:
                raise ReceiptTimeoutError(sent[0].transaction, timeout_s) from None
            try:
                if now >= placed + replace_after_s:
                    placed = now
                    await _pushed(sender, sent, push)
                else:
                    await _again(sender, sent[0])
            except NonceUsedError as error:
                used = error  # by one of them, whose receipt comes, or by another
            continue
        if not receipt.ok:
            raise TransactionRevertedError(f"{receipt.transaction} reverted in block {receipt.block_number}")
        return receipt


async def _pushed(sender: TransactionSender, sent: list[Sent], push: Callable[[], Awaitable[None]]) -> None:
    try:
        await push()
    except (FeeCapError, UnderpricedError):
        await _again(sender, sent[0])


async def _again(sender: TransactionSender, sent: Sent) -> None:
    with contextlib.suppress(UnderpricedError):  # a pool has it for as little, or it waits for cheaper blocks
        await sender.again(sent)
