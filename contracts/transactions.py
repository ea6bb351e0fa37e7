"""Sending transactions: one owner of a nonce, EIP-1559 fees, and receipts awaited with short steps at first."""

from __future__ import annotations

import asyncio
import time

import rlp  # type: ignore[import-untyped]
from eth_utils.crypto import keccak

from contracts.errors import ReceiptTimeoutError, RpcRejectedError, RpcUnavailableError, TransactionFailedError
from contracts.readings import Receipt
from contracts.report import Signer
from contracts.rpc import Rpc

FEES_GOOD_FOR_S = 5.0
"""A base fee may rise by an eighth a block; twice the last one covers the six blocks after it."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.002, 0.25


class TransactionSender:
    """One key's transactions. It keeps the nonce itself, so one key must have one sender."""

    def __init__(self, rpc: Rpc, signer: Signer, chain_id: int) -> None:
        self._rpc = rpc
        self._signer = signer
        self._chain_id = chain_id
        self._lock = asyncio.Lock()
        self._nonce: int | None = None
        self._fees: tuple[int, int] = (0, 0)
        self._fees_at = float("-inf")

    @property
    def address(self) -> str:
        return self._signer.address

    async def send(self, to: str | None, data: bytes, *, gas: int, value: int = 0) -> str:
        """Sign and send; the transaction's hash. `to` None deploys. value in wei.

        Raises `TransactionFailedError` when the node refuses it, `RpcUnavailableError` when there is no node.
        """
        async with self._lock:
            for last_try in (False, True):
                raw, transaction = await self._signed(to, data, gas, value)
                try:
                    await self._rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
                except RpcRejectedError as error:
                    self._nonce = None
                    self._fees_at = float("-inf")
                    if await self._known(transaction):  # it was there already: an answer got lost on its way to us
                        return transaction
                    if last_try or not _worth_a_second_try(error):
                        raise TransactionFailedError(f"{self.address}: {error.rpc_message}") from error
                except BaseException:
                    self._nonce = None  # nobody knows whether the node has it: ask for the nonce next time
                    raise
                else:
                    self._nonce = (self._nonce or 0) + 1
                    return transaction
        raise AssertionError("unreachable")

    async def _known(self, transaction: str) -> bool:
        return await self._rpc.call("eth_getTransactionByHash", transaction) is not None

    async def _signed(self, to: str | None, data: bytes, gas: int, value: int) -> tuple[bytes, str]:
        if self._nonce is None:
            self._nonce = await self._rpc.quantity("eth_getTransactionCount", self.address, "pending")
        tip, cap = await self._current_fees()
        target = bytes.fromhex(to[2:]) if to else b""
        fields = [self._chain_id, self._nonce, tip, cap, gas, target, value, data, []]
        signature = self._signer.sign(keccak(b"\x02" + rlp.encode(fields)))
        r, vs = int(signature[2:66], 16), int(signature[66:], 16)
        raw = b"\x02" + rlp.encode([*fields, vs >> 255, r, vs & (2**255 - 1)])
        return raw, "0x" + keccak(raw).hex()

    async def _current_fees(self) -> tuple[int, int]:
        """Tip and cap per gas, in wei: the node's tip, and twice the last base fee above it."""
        if time.monotonic() - self._fees_at > FEES_GOOD_FOR_S:
            block, tip = await asyncio.gather(
                self._rpc.call("eth_getBlockByNumber", "latest", False),
                self._rpc.quantity("eth_maxPriorityFeePerGas"),
            )
            if "baseFeePerGas" not in block:
                raise TransactionFailedError(f"{self._rpc.url} is a chain without EIP-1559 fees: not supported")
            self._fees = (tip, tip + 2 * int(block["baseFeePerGas"], 16))
            self._fees_at = time.monotonic()
        return self._fees


async def wait_receipt(rpc: Rpc, transaction: str, timeout_s: float) -> Receipt:
    """The receipt, as soon as a block has the transaction. Raises `ReceiptTimeoutError` or `RpcUnavailableError`."""
    deadline = time.monotonic() + timeout_s
    wait = FIRST_WAIT_S
    while True:
        found = await rpc.call("eth_getTransactionReceipt", transaction)
        if found is not None and found.get("blockNumber") is not None:
            return _receipt(found)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise ReceiptTimeoutError(transaction, timeout_s)
        await asyncio.sleep(min(wait, remaining))
        wait = min(wait * 2, LONGEST_WAIT_S)


def _receipt(found: dict[str, str]) -> Receipt:
    try:
        return Receipt(
            transaction=found["transactionHash"],
            block_number=int(found["blockNumber"], 16),
            block_hash=found["blockHash"],
            gas_used=int(found["gasUsed"], 16),
            ok=int(found["status"], 16) == 1,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RpcUnavailableError(f"the node's receipt cannot be read: {error!r}") from error


def _worth_a_second_try(error: RpcRejectedError) -> bool:
    message = error.rpc_message.lower()
    return any(word in message for word in ("nonce", "underpriced", "base fee", "max fee"))
