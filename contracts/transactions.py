"""Sending transactions: one owner of a nonce, fees under a cap, each refusal handled by name, receipts awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_utils.crypto import keccak

from contracts.errors import (
    NodeBehindError,
    NonceUsedError,
    OutOfFundsError,
    ReceiptTimeoutError,
    RpcRejectedError,
    RpcUnavailableError,
    TransactionFailedError,
    TransactionRevertedError,
    UnderpricedError,
)
from contracts.fees import FeePolicy, Fees, FeeSource, bumped
from contracts.keys import refuse_development_key
from contracts.readings import Receipt
from contracts.refusals import Refusal, refusal_of
from contracts.report import Signer
from contracts.rpc import Rpc

TRIES = 4
"""Times a transaction is offered to the node, each time mended by what the node said."""
TRANSFER_GAS = 21_000
FIRST_WAIT_S, LONGEST_WAIT_S = 0.002, 0.25


@dataclass(frozen=True)
class Sent:
    """A signed transaction: on its way, or already there. raw: the very bytes, good for sending them once more."""

    transaction: str
    nonce: int
    fees: Fees
    raw: str = field(default="", repr=False)


Before = Callable[[Sent], Awaitable[None]]
"""Called with each transaction after it is signed and before any node has it: who must not forget it notes it here."""

Announce = Callable[[str, str], None]
"""Called with what a transaction does, in words, and its hash."""


class TransactionSender:
    """One key's transactions. It keeps the nonce itself, so one key must have one sender.

    Raises `DevelopmentKeyError` where a development key is to be used on a chain that is none.
    """

    def __init__(self, rpc: Rpc, signer: Signer, chain_id: int, policy: FeePolicy | None = None) -> None:
        refuse_development_key(signer.address, chain_id)
        self._rpc = rpc
        self._signer = signer
        self._chain_id = chain_id
        self._lock = asyncio.Lock()
        self._nonce: int | None = None
        self._fees = FeeSource(rpc, policy or FeePolicy())

    @property
    def address(self) -> str:
        return self._signer.address

    async def send(self, to: str | None, data: bytes, *, gas: int, value: int = 0) -> str:
        """Sign and send; the transaction's hash. `to` None deploys. value in wei. Raises as `place` does."""
        return (await self.place(to, data, gas=gas, value=value)).transaction

    async def place(
        self,
        to: str | None,
        data: bytes,
        *,
        gas: int,
        value: int = 0,
        over: Sent | None = None,
        before: Before | None = None,
    ) -> Sent:
        """Sign and send. `over`: an unmined transaction of this key whose place it takes, at the same nonce, for more.

        Raises, when no node took it: `OutOfFundsError`, `FeeCapError`, `UnderpricedError`, `NonceUsedError` (the one to
        be replaced, or an earlier replacement of it, was mined), `NodeBehindError`, `TransactionRevertedError`, or
        plain `TransactionFailedError`. `RpcUnavailableError` leaves open whether a node has it.
        """
        async with self._lock:
            floor = over.fees if over is not None else None
            last: Exception | None = None
            for _ in range(TRIES):
                sent = await self._signed(to, data, gas, value, over, floor)
                if before is not None:
                    await before(sent)
                try:
                    await self._hand_over(sent)
                except RpcRejectedError as error:
                    last, mended = await self._refused(sent, over, error)
                    if last is None:
                        break
                    floor = mended or floor
                else:
                    break
            else:
                assert last is not None  # noqa: S101 - the loop ran
                raise last
            if over is None:
                self._nonce = sent.nonce + 1
            return sent

    async def again(self, sent: Sent) -> None:
        """Send the same bytes once more: a reorg dropped them, or a node forgot them.

        Raises `NonceUsedError` when another transaction has their nonce now, and else as `place` does.
        """
        try:
            await self._hand_over(sent)
        except RpcRejectedError as error:
            failure, _ = await self._refused(sent, sent, error)
            if failure is not None:
                raise failure from error

    def forget_nonce(self) -> None:
        """Ask the node for the nonce next time: a reorg may have given some back."""
        self._nonce = None

    async def used(self) -> int:
        """How many of this key's transactions blocks have; the lowest nonce that is free. Raises `ContractError`s."""
        return await self._rpc.quantity("eth_getTransactionCount", self.address, "latest")

    async def expected(self) -> int:
        """The nonce that the node's pool waits for: the lowest that neither a block nor the pool has, so that higher
        ones wait behind it. Raises `ContractError`s."""
        return await self._rpc.quantity("eth_getTransactionCount", self.address, "pending")

    async def waiting(self) -> range:
        """The nonces of this key's transactions that a node's pool has and no block. Raises `ContractError`s."""
        used, expected = await asyncio.gather(self.used(), self.expected())
        return range(used, expected)

    async def cancel(self, nonce: int) -> Sent:
        """Put a transfer of nothing to the key itself in the place of whatever waits at this nonce.

        Raises as `place` does: `NonceUsedError` where that was mined meanwhile.
        """
        legacy = (await self._fees.current()).tip is None
        unknown = Sent("", nonce, Fees(0, None if legacy else 0))
        return await self.place(self.address, b"", gas=TRANSFER_GAS, over=unknown)

    async def balance(self) -> int:
        """In wei. Raises `RpcUnavailableError`."""
        return await self._rpc.quantity("eth_getBalance", self.address, "latest")

    async def _hand_over(self, sent: Sent) -> None:
        try:
            await self._rpc.call("eth_sendRawTransaction", sent.raw)
        except RpcRejectedError:
            raise
        except BaseException:
            self._nonce = None  # nobody knows whether the node has it: ask for the nonce next time
            raise

    async def _refused(
        self, sent: Sent, over: Sent | None, error: RpcRejectedError
    ) -> tuple[TransactionFailedError | NodeBehindError | None, Fees | None]:
        """What a refusal means: None when the transaction is there all the same, or what to raise unless the next try
        does better, with the fees it must better. Raises at once what no further try would mend."""
        refusal, said = refusal_of(error.rpc_message), f"{self.address}: {error.rpc_message}"
        if over is None:
            self._nonce = None
        if refusal is Refusal.ALREADY_KNOWN or await self._known(sent.transaction):
            return None, None  # an answer got lost on its way to us
        match refusal:
            case Refusal.NONCE_TOO_LOW:
                if over is not None:
                    raise NonceUsedError(f"{said}: nonce {over.nonce} is in a block already") from error
                return NonceUsedError(said), None
            case Refusal.UNDERPRICED | Refusal.FEE_TOO_LOW:
                self._fees.forget()
                return UnderpricedError(said), sent.fees
            case Refusal.NONCE_TOO_HIGH:
                return NodeBehindError(f"{said}: the node does not know of this key's earlier transactions"), None
            case Refusal.OUT_OF_FUNDS:
                raise OutOfFundsError(f"{said}; send it more") from error
            case Refusal.REVERTED:
                raise TransactionRevertedError(said) from error
        raise TransactionFailedError(said) from error

    async def _known(self, transaction: str) -> bool:
        return await self._rpc.call("eth_getTransactionByHash", transaction) is not None

    async def _signed(
        self, to: str | None, data: bytes, gas: int, value: int, over: Sent | None, floor: Fees | None
    ) -> Sent:
        if over is not None:
            nonce = over.nonce
        elif self._nonce is not None:
            nonce = self._nonce
        else:
            nonce = self._nonce = await self.expected()
        fees = await self._fees.current()
        if floor is not None:
            fees = bumped(self._fees.policy, floor, fees)
        return self._sign(to, data, gas, value, nonce, fees)

    def _sign(self, to: str | None, data: bytes, gas: int, value: int, nonce: int, fees: Fees) -> Sent:
        target = bytes.fromhex(to[2:]) if to else b""
        if fees.tip is None:
            fields = [nonce, fees.cap, gas, target, value, data]
            v, r, s = self._signature(keccak(rlp.encode([*fields, self._chain_id, 0, 0])))
            raw = bytes(rlp.encode([*fields, 35 + 2 * self._chain_id + v, r, s]))  # EIP-155
        else:
            fields = [self._chain_id, nonce, fees.tip, fees.cap, gas, target, value, data, []]
            v, r, s = self._signature(keccak(b"\x02" + rlp.encode(fields)))
            raw = b"\x02" + rlp.encode([*fields, v, r, s])  # EIP-1559
        return Sent("0x" + keccak(raw).hex(), nonce, fees, "0x" + raw.hex())

    def _signature(self, digest: bytes) -> tuple[int, int, int]:
        """Parity, r and s."""
        signature = self._signer.sign(digest)
        r, vs = int(signature[2:66], 16), int(signature[66:], 16)
        return vs >> 255, r, vs & (2**255 - 1)


def read_raw(raw: str) -> tuple[Sent, bytes]:
    """A signed transaction of ours again, from the bytes that were kept of it; and its calldata.

    Raises `TransactionFailedError` when they are no transaction of a kind that we sign.
    """
    try:
        signed = bytes.fromhex(raw[2:])
        if signed[:1] == b"\x02":
            _, nonce, tip, cap, _, _, _, data, *_ = rlp.decode(signed[1:])
            fees = Fees(_number(cap), _number(tip))
        else:
            nonce, price, _, _, _, data, *_ = rlp.decode(signed)
            fees = Fees(_number(price))
    except (ValueError, TypeError, rlp.DecodingError) as error:
        raise TransactionFailedError(f"not a signed transaction: {error}") from error
    return Sent("0x" + keccak(signed).hex(), _number(nonce), fees, raw), bytes(data)


def _number(field: bytes) -> int:
    return int.from_bytes(field, "big")


async def wait_receipt(rpc: Rpc, transaction: str, timeout_s: float) -> Receipt:
    """The receipt, as soon as a block has the transaction. Raises `ReceiptTimeoutError` or `RpcUnavailableError`."""
    return await wait_any(rpc, [transaction], timeout_s)


async def wait_any(rpc: Rpc, transactions: Sequence[str], timeout_s: float) -> Receipt:
    """The receipt of the one that a block has, of transactions with one nonce: newest first, one can be mined only.

    Raises `ReceiptTimeoutError`, naming the newest, or `RpcUnavailableError`.
    """
    deadline = time.monotonic() + timeout_s
    wait = FIRST_WAIT_S
    while True:
        for transaction in transactions:
            if (receipt := await find_receipt(rpc, transaction)) is not None:
                return receipt
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise ReceiptTimeoutError(transactions[0], timeout_s)
        await asyncio.sleep(min(wait, remaining))
        wait = min(wait * 2, LONGEST_WAIT_S)


async def find_receipt(rpc: Rpc, transaction: str) -> Receipt | None:
    """The receipt, or None while no block has the transaction. Raises `RpcUnavailableError`."""
    found = await rpc.call("eth_getTransactionReceipt", transaction)
    return None if found is None else _receipt(found)


def _receipt(found: Any) -> Receipt | None:
    try:
        if found["blockNumber"] is None:
            return None
        return Receipt(
            transaction=found["transactionHash"],
            block_number=int(found["blockNumber"], 16),
            block_hash=found["blockHash"],
            gas_used=int(found["gasUsed"], 16),
            ok=int(found["status"], 16) == 1,
        )
    except (KeyError, TypeError, ValueError) as error:  # it may be anything that is JSON
        raise RpcUnavailableError(f"the node's receipt cannot be read: {error!r}") from error
