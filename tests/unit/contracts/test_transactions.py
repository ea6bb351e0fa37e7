"""Transactions: the bytes a wallet would sign, one nonce after the other, and no nonce lost to an error."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account

from contracts.errors import ReceiptTimeoutError, RpcRejectedError, RpcUnavailableError, TransactionFailedError
from contracts.report import LocalSigner
from contracts.transactions import TransactionSender, wait_receipt

KEY = "0x" + "11" * 32
TO = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


class Node:
    """Takes transactions and remembers them; `refusals` are raised one after the other first."""

    def __init__(self, *refusals: Exception) -> None:
        self.refusals = list(refusals)
        self.raw: list[str] = []
        self.nonce = 7
        self.known: set[str] = set()

    async def call(self, method: str, *params: Any) -> Any:
        if method == "eth_sendRawTransaction":
            if self.refusals:
                raise self.refusals.pop(0)
            self.raw.append(params[0])
            return "0x"
        if method == "eth_getTransactionByHash":
            return {} if self.known else None
        if method == "eth_getTransactionReceipt":
            return None
        assert method == "eth_getBlockByNumber"
        return {"baseFeePerGas": "0x64"}

    async def quantity(self, method: str, *params: Any) -> int:
        return {"eth_getTransactionCount": self.nonce, "eth_maxPriorityFeePerGas": 3}[method]


def sender(node: Node) -> TransactionSender:
    return TransactionSender(node, LocalSigner(KEY), 31337)  # type: ignore[arg-type]


def wallet_bytes(nonce: int, to: str | None = TO) -> tuple[str, str]:
    fields = {
        "chainId": 31337,
        "nonce": nonce,
        "maxPriorityFeePerGas": 3,
        "maxFeePerGas": 203,
        "gas": 50_000,
        "value": 5,
        "data": b"\x01\x02",
        "type": 2,
    } | ({"to": to} if to else {})
    signed = Account.sign_transaction(fields, KEY)
    return "0x" + signed.raw_transaction.hex().removeprefix("0x"), "0x" + signed.hash.hex().removeprefix("0x")


@pytest.mark.parametrize("to", [TO, None])
async def test_a_transaction_is_what_a_wallet_would_send(to):
    node = Node()
    transaction = await sender(node).send(to, b"\x01\x02", gas=50_000, value=5)
    raw, hash_ = wallet_bytes(7, to)
    assert (node.raw, transaction) == ([raw], hash_)


async def test_nonces_follow_one_another_without_asking_again():
    node = Node()
    one = sender(node)
    await one.send(TO, b"\x01\x02", gas=50_000, value=5)
    node.nonce = 99
    await one.send(TO, b"\x01\x02", gas=50_000, value=5)
    assert node.raw == [wallet_bytes(7)[0], wallet_bytes(8)[0]]


async def test_a_stale_nonce_is_asked_for_again_once():
    node = Node(RpcRejectedError("eth_sendRawTransaction", "nonce too low", -32000))
    await sender(node).send(TO, b"\x01\x02", gas=50_000, value=5)
    assert node.raw == [wallet_bytes(7)[0]]


async def test_a_refusal_names_the_sender_and_the_reason():
    node = Node(RpcRejectedError("eth_sendRawTransaction", "insufficient funds", -32000))
    with pytest.raises(TransactionFailedError, match=f"{LocalSigner(KEY).address}: insufficient funds"):
        await sender(node).send(TO, b"", gas=50_000)


async def test_a_transaction_that_the_node_has_already_is_sent():
    node = Node(RpcRejectedError("eth_sendRawTransaction", "already known", -32000))
    node.known.add("it")
    assert await sender(node).send(TO, b"\x01\x02", gas=50_000, value=5) == wallet_bytes(7)[1]


async def test_after_a_lost_answer_the_nonce_is_asked_for_again():
    node = Node(RpcUnavailableError("gone"))
    one = sender(node)
    with pytest.raises(RpcUnavailableError):
        await one.send(TO, b"\x01\x02", gas=50_000, value=5)
    node.nonce = 8
    await one.send(TO, b"\x01\x02", gas=50_000, value=5)
    assert node.raw == [wallet_bytes(8)[0]]


async def test_waiting_for_a_receipt_ends():
    with pytest.raises(ReceiptTimeoutError, match="0xab"):
        await wait_receipt(Node(), "0xab", 0.02)  # type: ignore[arg-type]
