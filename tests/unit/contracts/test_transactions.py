"""Transactions: the bytes a wallet would sign, one nonce after the other, and no nonce lost to an error."""

from __future__ import annotations

from typing import Any

import pytest
import rlp
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import (
    DevelopmentKeyError,
    FeeCapError,
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
from contracts.fees import GWEI, FeePolicy, Fees, bumped, fees_of, offered
from contracts.refusals import Refusal, refusal_of
from contracts.report import LocalSigner
from contracts.transactions import TRIES, Sent, TransactionSender, wait_receipt

KEY = "0x" + "11" * 32
TO = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


class Node:
    """Takes transactions and remembers them; `refusals` are raised one after the other first."""

    def __init__(self, *refusals: Exception, legacy: bool = False, base: int = 100) -> None:
        self.refusals = list(refusals)
        self.raw: list[str] = []
        self.offered: list[str] = []
        self.nonce = 7
        self.known: set[str] = set()
        self.legacy = legacy
        self.base = base
        self.rewards: list[int] = []
        self.url = "node"

    async def call(self, method: str, *params: Any) -> Any:
        match method:
            case "eth_sendRawTransaction":
                self.offered.append(params[0])
                if self.refusals:
                    raise self.refusals.pop(0)
                self.raw.append(params[0])
                return "0x"
            case "eth_getTransactionByHash":
                return {} if self.known else None
            case "eth_getTransactionReceipt":
                return None
            case "eth_feeHistory":
                if self.legacy:
                    raise RpcRejectedError(method, "no such method", -32601)
                return {"reward": [[hex(one)] for one in self.rewards]}
        assert method == "eth_getBlockByNumber"
        return {} if self.legacy else {"baseFeePerGas": hex(self.base)}

    async def quantity(self, method: str, *params: Any) -> int:
        return {"eth_getTransactionCount": self.nonce, "eth_maxPriorityFeePerGas": 3, "eth_gasPrice": 55}[method]


def refused(message: str) -> RpcRejectedError:
    return RpcRejectedError("eth_sendRawTransaction", message, -32000)


def sender(node: Node, **policy: int) -> TransactionSender:
    return TransactionSender(node, LocalSigner(KEY), 31337, FeePolicy(**policy))  # type: ignore[arg-type]


def fields(raw: str) -> dict[str, int]:
    """Nonce, tip and cap of an EIP-1559 transaction's bytes."""
    decoded = rlp.decode(bytes.fromhex(raw[4:]))
    return {name: int.from_bytes(decoded[at], "big") for name, at in (("nonce", 1), ("tip", 2), ("cap", 3))}


async def place(one: TransactionSender, **rest: Any) -> Sent:
    return await one.place(TO, b"\x01\x02", gas=50_000, value=5, **rest)


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


async def test_a_legacy_chain_gets_a_legacy_transaction():
    node = Node(legacy=True)
    sent = await place(sender(node))
    wallet = Account.sign_transaction(
        {"chainId": 31337, "nonce": 7, "gasPrice": 55, "gas": 50_000, "value": 5, "data": b"\x01\x02", "to": TO}, KEY
    )
    assert node.raw == ["0x" + wallet.raw_transaction.hex().removeprefix("0x")]
    assert sent.transaction == "0x" + wallet.hash.hex().removeprefix("0x")


async def test_the_tip_is_what_recent_blocks_gave():
    node = Node()
    node.rewards = [0, 9, 5, 7, 0]
    assert (await place(sender(node))).fees == Fees(cap=207, tip=7)


async def test_no_transaction_offers_more_than_the_cap():
    assert (await place(sender(Node(), max_fee=150))).fees == Fees(cap=150, tip=3)
    node = Node(base=151)
    with pytest.raises(FeeCapError, match="max_fee_gwei"):
        await place(sender(node, max_fee=150))
    assert node.offered == []


# ------------------------------------------------------------------------------------------------ refusals, by name


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        ("already known", Refusal.ALREADY_KNOWN),
        ("nonce too low: next nonce 9, tx nonce 7", Refusal.NONCE_TOO_LOW),
        ("nonce too high", Refusal.NONCE_TOO_HIGH),
        ("replacement transaction underpriced", Refusal.UNDERPRICED),
        ("transaction underpriced: tip needed 1000000", Refusal.FEE_TOO_LOW),
        ("max fee per gas less than block base fee: maxFeePerGas: 1", Refusal.FEE_TOO_LOW),
        ("Insufficient funds for gas * price + value", Refusal.OUT_OF_FUNDS),
        ("execution reverted: 0xabcd", Refusal.REVERTED),
        ("exceeds block gas limit", Refusal.OTHER),
    ],
)
def test_what_a_node_says_has_a_name(message: str, refusal: Refusal):
    assert refusal_of(message) is refusal


async def test_underpriced_is_offered_again_for_more():
    node = Node(refused("replacement transaction underpriced"))
    sent = await place(sender(node))
    assert [fields(raw) for raw in node.offered] == [
        {"nonce": 7, "tip": 3, "cap": 203},
        {"nonce": 7, "tip": 4, "cap": 254},
    ]
    assert sent.fees == Fees(254, 4)


async def test_underpriced_for_ever_ends_by_name():
    node = Node(*[refused("transaction underpriced")] * 9)
    with pytest.raises(UnderpricedError, match=LocalSigner(KEY).address):
        await place(sender(node))
    assert len(node.offered) == TRIES


async def test_a_bump_stops_at_the_cap():
    node = Node(*[refused("transaction underpriced")] * 9)
    with pytest.raises(FeeCapError):
        await place(sender(node, max_fee=240))
    assert [fields(raw)["cap"] for raw in node.offered] == [203, 240]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("insufficient funds for gas", OutOfFundsError),
        ("execution reverted", TransactionRevertedError),
        ("exceeds block gas limit", TransactionFailedError),
    ],
)
async def test_what_no_second_try_mends_is_not_tried_again(message: str, error: type[Exception]):
    node = Node(refused(message))
    with pytest.raises(error) as caught:
        await place(sender(node))
    assert type(caught.value) is error
    assert len(node.offered) == 1


async def test_a_node_that_is_behind_is_named_so():
    with pytest.raises(NodeBehindError):
        await place(sender(Node(*[refused("nonce too high")] * 9)))


async def test_a_nonce_that_stays_used_is_named_so():
    with pytest.raises(NonceUsedError):
        await place(sender(Node(*[refused("nonce too low")] * 9)))


# ------------------------------------------------------------------------------------------------ replacement


async def test_a_replacement_has_the_nonce_of_the_replaced_and_offers_more():
    node = Node()
    one = sender(node)
    first = await place(one)
    second = await one.place(TO, b"\x03", gas=60_000, over=first)
    third = await place(one)
    assert [fields(raw) for raw in node.raw] == [
        {"nonce": 7, "tip": 3, "cap": 203},
        {"nonce": 7, "tip": 4, "cap": 254},
        {"nonce": 8, "tip": 3, "cap": 203},
    ]
    assert (second.nonce, third.nonce) == (7, 8)


async def test_a_replacement_that_comes_too_late_says_so_and_keeps_the_nonce():
    node = Node()
    one = sender(node)
    first = await place(one)
    node.refusals.append(refused("nonce too low"))
    with pytest.raises(NonceUsedError, match="nonce 7 is in a block"):
        await place(one, over=first)
    assert (await place(one)).nonce == 8


async def test_it_is_noted_before_any_node_has_it():
    node = Node()
    seen: list[tuple[str, int]] = []

    async def note(sent: Sent) -> None:
        seen.append((sent.transaction, len(node.offered)))

    sent = await place(sender(node), before=note)
    assert seen == [(sent.transaction, 0)]


async def test_the_same_bytes_go_out_again():
    node = Node()
    one = sender(node)
    sent = await place(one)
    await one.again(sent)
    node.refusals.append(refused("already known"))
    await one.again(sent)
    assert node.offered == [sent.raw] * 3
    node.refusals.append(refused("nonce too low"))
    with pytest.raises(NonceUsedError):
        await one.again(sent)


@given(
    old=st.builds(Fees, cap=st.integers(1, 10**13), tip=st.integers(0, 10**12)),
    base=st.integers(0, 10**12),
    tip=st.integers(0, 10**12),
    cap=st.integers(1, 10**14),
    percent=st.integers(0, 100),
)
def test_a_bump_is_taken_by_every_node_and_stays_under_the_cap(old: Fees, base: int, tip: int, cap: int, percent: int):
    policy = FeePolicy(max_fee=cap, bump_percent=percent)
    old = Fees(old.cap, min(old.tip or 0, old.cap))
    try:
        new = bumped(policy, old, offered(policy, base, tip))
    except FeeCapError:
        assert base > cap or old.cap * 110 > cap * 100 - 100
        return
    assert new.tip is not None
    assert new.cap <= cap
    assert new.tip <= new.cap
    assert new.cap * 100 >= old.cap * 110
    assert new.cap > old.cap
    if old.tip and old.tip * 111 + 100 < new.cap * 100:
        assert new.tip * 100 >= old.tip * 110


def test_fees_are_read_back_from_a_node():
    assert fees_of({"maxFeePerGas": "0xcb", "maxPriorityFeePerGas": "0x3"}) == Fees(203, 3)
    assert fees_of({"gasPrice": "0x37"}) == Fees(55)
    with pytest.raises(RpcUnavailableError):
        fees_of({})


@pytest.mark.parametrize("chain_id", [1, 10, 8453])
def test_a_development_key_is_refused_where_money_is(chain_id: int):
    known = LocalSigner("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
    with pytest.raises(DevelopmentKeyError, match="keys new"):
        TransactionSender(Node(), known, chain_id)  # type: ignore[arg-type]
    TransactionSender(Node(), known, 31337)  # type: ignore[arg-type]
    assert FeePolicy().max_fee == 500 * GWEI


async def test_waiting_for_a_receipt_ends():
    with pytest.raises(ReceiptTimeoutError, match="0xab"):
        await wait_receipt(Node(), "0xab", 0.02)  # type: ignore[arg-type]
