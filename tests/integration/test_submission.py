"""Rounds over a node whose pool, blocks and history misbehave: each case by name, on a real EVM node."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from aggregator.attempts import FailureReason
from aggregator.errors import AttemptFailedError, KeyInUseError, LowBalanceError
from aggregator.purse import Purse
from aggregator.states import State
from aggregator.submitter import presumed_ours
from contracts import LocalSigner
from contracts.errors import (
    NonceUsedError,
    OutOfFundsError,
    ReceiptTimeoutError,
    RoundRefusedError,
    TransactionRevertedError,
)
from contracts.fees import GWEI, FeePolicy
from contracts.transactions import TransactionSender, wait_receipt
from tests.support.submission import GROUP, LOG, RELAYERS, Anvil, Hand, anvil, hand
from tests.support.wait import until

pytestmark = pytest.mark.needs_anvil


@pytest.fixture
async def node() -> AsyncIterator[Anvil]:
    async with anvil() as running:
        yield running


@pytest.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as entered:
        yield entered


@pytest.fixture
async def one(stack: contextlib.AsyncExitStack, node: Anvil, tmp_path: Path) -> Hand:
    return await hand(stack, node, tmp_path, replace_after_s=0.2)


# ------------------------------------------------------------------------------------------------ stuck


async def test_a_stuck_transaction_is_pushed_at_its_nonce_and_one_of_the_two_is_mined(one: Hand):
    await one.node.stop_mining()
    flight = await one.flight(1000)
    await one.send(flight)
    waiting = asyncio.create_task(one.submitter.receipt(flight, one.note, 5))
    await until(lambda: len(flight.sent) >= 3)
    assert await one.node.pool() == 1
    await one.node.mine()
    receipt = await waiting
    assert receipt.ok
    assert receipt.transaction in flight.hashes
    assert len({sent.nonce for sent in flight.sent}) == 1
    caps = [sent.fees.cap for sent in reversed(flight.sent)]
    assert all(later >= earlier * 1.25 for earlier, later in itertools.pairwise(caps))
    assert await one.answer() == 1000


async def test_when_the_round_moved_on_the_next_one_takes_the_stuck_ones_place_with_fresh_calldata(one: Hand):
    await one.node.stop_mining()
    first = await one.flight(1000)
    await one.send(first)
    with pytest.raises(ReceiptTimeoutError):
        await one.submitter.receipt(first, one.note, 0.1)
    second = await one.flight(1010)
    await one.send(second)
    assert second.nonce == first.nonce
    assert await one.node.pool() == 1
    await one.node.mine()
    assert (await one.submitter.receipt(second, one.note, 5)).ok
    assert (await one.answer(), (await one.client.group_state("majors")).round) == (1010, 1)


async def test_when_another_relayers_round_came_first_the_stuck_one_is_given_up_and_its_nonce_used_again(
    one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    other = await hand(stack, one.node, tmp_path, RELAYERS[1])
    await one.node.call("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    await one.node.mine()
    stuck = await one.flight(1000)
    await one.node.stop_mining()
    await one.send(stuck)
    await one.node.call("anvil_dropTransaction", stuck.hashes[0])  # no block maker wants it
    await one.node.call("evm_setAutomine", True)
    await other.round(1005)
    with pytest.raises((AttemptFailedError, RoundRefusedError)) as caught:
        await one.submitter.receipt(stuck, one.note, 2)
    assert isinstance(caught.value, AttemptFailedError)
    assert caught.value.reason == FailureReason.OVERTAKEN
    following, receipt = await one.round(1020)
    assert (following.nonce, receipt.ok, await one.answer()) == (stuck.nonce, True, 1020)


async def test_when_another_relayers_round_of_an_earlier_moment_came_first_the_stuck_one_is_not_paid_for(
    one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    other = await hand(stack, one.node, tmp_path, RELAYERS[1])
    earlier = await other.flight(1005, late_ms=2 * GROUP.grid_ms)
    stuck = await one.flight(1000)
    assert earlier.moment < stuck.moment
    await one.node.stop_mining()
    await one.send(stuck)
    await one.node.call("anvil_dropTransaction", stuck.hashes[0])
    await one.node.call("evm_setAutomine", True)
    await other.send(earlier)
    with pytest.raises(AttemptFailedError) as caught:
        await one.submitter.receipt(stuck, one.note, 2)
    assert caught.value.reason == FailureReason.OVERTAKEN
    assert await one.submitter.sender.used() == stuck.nonce


async def test_a_bump_never_goes_beyond_the_cap(stack: contextlib.AsyncExitStack, node: Anvil, tmp_path: Path):
    one = await hand(stack, node, tmp_path, replace_after_s=0.1, policy=FeePolicy(max_fee=4 * GWEI))
    await node.stop_mining()
    flight = await one.flight(1000)
    await one.send(flight)
    with pytest.raises(ReceiptTimeoutError):
        await one.submitter.receipt(flight, one.note, 1.2)
    assert max(sent.fees.cap for sent in flight.sent) <= 4 * GWEI
    await node.mine()
    assert (await one.submitter.receipt(flight, one.note, 2)).ok


async def test_a_base_fee_that_rises_above_what_was_offered_is_followed(one: Hand):
    await one.node.stop_mining()
    flight = await one.flight(1000)
    await one.send(flight)
    first = flight.sent[0].fees.cap
    await one.node.call("anvil_setNextBlockBaseFeePerGas", hex(first + GWEI))
    await one.node.mine()  # an empty block: nobody can pay that
    one.submitter.sender._fees.forget()
    waiting = asyncio.create_task(one.submitter.receipt(flight, one.note, 5))
    while not waiting.done():
        await asyncio.sleep(0.05)
        await one.node.mine()
    assert (await waiting).ok
    assert flight.sent[0].fees.cap > first + GWEI


# ------------------------------------------------------------------------------------------------ by name


async def test_out_of_funds(one: Hand):
    await one.node.call("anvil_setBalance", one.submitter.address, "0x1")
    flight = await one.flight(1000)
    with pytest.raises(OutOfFundsError, match="send it more"):
        await one.submitter.send(flight, one.note)
    await one.node.call("anvil_setBalance", one.submitter.address, hex(10**20))
    assert (await one.round(1001))[1].ok


async def test_nonce_too_low_when_the_key_was_used_elsewhere(one: Hand):
    await one.round(1000)
    elsewhere = one.client.sender(RELAYERS[0])
    await one.client.wait_receipt(await elsewhere.send(one.submitter.address, b"", gas=21_000), 5)
    flight, receipt = await one.round(1001)
    assert (flight.nonce, receipt.ok) == (2, True)


async def test_underpriced_when_a_forgotten_transaction_has_the_nonce(one: Hand):
    await one.node.stop_mining()
    forgotten = one.client.sender(RELAYERS[0])
    await forgotten.send(one.submitter.address, b"", gas=21_000)
    one.submitter.sender._nonce = 0  # two processes with one key: the pool has the other's at this nonce
    flight = await one.flight(1000)
    await one.send(flight)
    assert flight.nonce == 1
    await one.node.mine()
    assert (await one.submitter.receipt(flight, one.note, 5)).ok


async def test_already_known(one: Hand):
    await one.node.stop_mining()
    flight = await one.flight(1000)
    await one.send(flight)
    await one.submitter.sender.again(flight.sent[0])
    assert await one.node.pool() == 1
    await one.node.mine()
    assert (await one.submitter.receipt(flight, one.note, 5)).ok
    with pytest.raises(NonceUsedError):
        other = await one.client.place(flight.calldata, one.submitter.sender, over=flight.sent[0])
        await one.submitter.sender.again(other)


async def test_reverted_in_its_block(one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path):
    other = await hand(stack, one.node, tmp_path, RELAYERS[1])
    mine, theirs = await one.flight(1000), await other.flight(1001)
    await one.node.stop_mining()
    await other.send(theirs)
    await one.submitter.send(mine, one.note)
    await one.node.mine()
    results = await asyncio.gather(
        one.submitter.receipt(mine, one.note, 5), other.submitter.receipt(theirs, other.note, 5), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Receipt", "TransactionRevertedError"]
    assert next(r for r in results if isinstance(r, BaseException)).code == TransactionRevertedError.code


# ------------------------------------------------------------------------------------------------ two aggregators


async def test_two_aggregators_a_hundred_rounds_a_hundred_accepted_transactions(
    one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    two = await hand(stack, one.node, tmp_path, RELAYERS[1])
    won = {one.submitter.address: 0, two.submitter.address: 0}

    async def submit(by: Hand, price: int) -> str:
        flight = await by.flight(price, previous_moment=previous, moment=moment)
        try:
            await by.submitter.simulate(flight)
        except RoundRefusedError:
            return "refused"  # in simulation: it costs nothing
        try:
            await by.submitter.send(flight, by.note)
            await by.submitter.receipt(flight, by.note, 5)
        except TransactionRevertedError:
            return "reverted"
        won[by.submitter.address] += 1
        return "accepted"

    outcomes = []
    for number in range(100):
        state = await one.client.group_state("majors")
        previous, moment = state.last_moment, state.last_moment + 10 or 0
        moment = max(moment, int(time.time() * 100) * 10 - 1_000)
        both = (one, two) if number % 2 else (two, one)
        outcomes += await asyncio.gather(*(submit(by, 1000 + number) for by in both))
    assert outcomes.count("accepted") == 100
    assert (await one.client.group_state("majors")).round == 100
    assert sum(won.values()) == 100
    nonces = [await hand_.submitter.sender.used() for hand_ in (one, two)]
    assert sum(nonces) == 100 + outcomes.count("reverted")


async def test_the_second_of_two_in_one_block_pays_for_an_early_revert_only(
    one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    two = await hand(stack, one.node, tmp_path, RELAYERS[1])
    await one.round(999)
    first, second = await one.flight(1000), await two.flight(1000)
    await one.node.stop_mining()
    await one.submitter.simulate(first)
    await one.send(first)
    await two.submitter.send(second, two.note)  # simulated before the first was sent, as far as it knows
    await one.node.mine()
    receipts = [await one.client.wait_receipt(flight.hashes[0], 5) for flight in (first, second)]
    (loser,) = (receipt for receipt in receipts if not receipt.ok)
    data = next(f for f, r in zip((first, second), receipts, strict=True) if r is loser).calldata
    floor = 21_000 + 10 * sum(4 if byte else 1 for byte in data)  # EIP-7623: none with this calldata can cost less
    print(f"early revert {loser.gas_used} gas, the floor of its {len(data)} bytes {floor}")  # noqa: T201
    assert loser.gas_used <= max(35_000, floor)


# ------------------------------------------------------------------------------------------------ settled, reorged


async def test_a_round_is_settled_when_it_has_its_confirmations(one: Hand):
    flight, _ = await one.round(1000)
    await one.tracker.look()
    assert not (await one.attempt(flight)).settled
    await one.node.mine(2)
    await one.tracker.look()
    record = await one.attempt(flight)
    assert (record.settled, record.state, len(one.tracker)) == (True, State.ACCEPTED, 0)


@pytest.mark.parametrize("word", ["safe", "finalized"])
async def test_a_round_is_settled_by_the_chains_own_word(
    word: str, stack: contextlib.AsyncExitStack, node: Anvil, tmp_path: Path
):
    one = await hand(stack, node, tmp_path, confirmations=word)
    flight, receipt = await one.round(1000)
    while await one.client.settled_block(word) < receipt.block_number:
        await one.tracker.look()
        assert not (await one.attempt(flight)).settled
        await node.mine(8)
    await one.tracker.look()
    assert (await one.attempt(flight)).settled


async def test_a_reorg_that_drops_the_transaction_puts_it_back(one: Hand):
    await one.node.mine(3)
    flight, receipt = await one.round(1000)
    await one.node.stop_mining()
    await one.node.call("anvil_rollback", 1)
    await one.node.call("anvil_dropAllTransactions")
    assert (await one.client.group_state("majors")).round == 0
    await one.tracker.look()
    assert await one.node.pool() == 1
    await one.node.mine()
    await one.tracker.look()
    record = await one.attempt(flight)
    assert (record.state, record.transaction, await one.answer()) == (State.ACCEPTED, receipt.transaction, 1000)
    assert record.block_hash != receipt.block_hash or record.block == receipt.block_number
    await one.node.mine(3)
    await one.tracker.look()
    assert (await one.attempt(flight)).settled


async def test_two_rounds_that_a_reorg_drops_are_both_put_back_in_their_order(one: Hand):
    await one.node.mine(3)
    first, _ = await one.round(1000)
    second, _ = await one.round(1010)
    await one.node.stop_mining()
    await one.node.call("anvil_rollback", 2)
    await one.node.call("anvil_dropAllTransactions")
    await one.tracker.look()
    assert await one.node.pool() == 2
    await one.node.mine()
    await one.tracker.look()
    assert [(await one.attempt(each)).state for each in (first, second)] == [State.ACCEPTED] * 2
    assert (await one.answer(), (await one.client.group_state("majors")).round) == (1010, 2)


async def test_a_reorg_that_moves_the_transaction_to_another_block_is_followed(one: Hand):
    flight, receipt = await one.round(1000)
    await one.node.mine(2)
    raw = {sent.transaction: sent.raw for sent in flight.sent}[receipt.transaction]
    await one.node.call("anvil_reorg", 3, [[raw, 1]])
    await one.tracker.look()
    record = await one.attempt(flight)
    found = await one.client.find_receipt(receipt.transaction)
    assert found is not None
    assert (record.block, record.block_hash) == (found.block_number, found.block_hash)
    assert record.block_hash != receipt.block_hash
    assert record.state is State.ACCEPTED


async def test_a_reorg_that_leaves_a_newer_round_standing_retires_the_dropped_one(
    one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    two = await hand(stack, one.node, tmp_path, RELAYERS[1])
    await one.node.mine(3)
    flight, _ = await one.round(1000)
    await one.node.call("anvil_rollback", 1)
    await one.node.call("anvil_dropAllTransactions")
    await asyncio.sleep(0.02)
    await two.round(1010)
    await one.tracker.look()
    record = await one.attempt(flight)
    assert (record.state, record.code, record.round) == (State.FAILED, FailureReason.REORGED, None)
    assert (await one.answer(), await one.node.pool(), len(one.tracker)) == (1010, 0, 0)
    following, receipt = await one.round(1020)  # the nonce that the reorg gave back is used
    assert (following.nonce, receipt.ok) == (flight.nonce, True)


async def test_a_block_that_comes_after_the_wait_makes_the_attempt_accepted(one: Hand):
    await one.node.stop_mining()
    flight = await one.flight(1000)
    await one.send(flight)
    with pytest.raises(ReceiptTimeoutError):
        await one.submitter.receipt(flight, one.note, 0.1)
    failed = one.record(flight, State.CONFIRMING, 1).failed(FailureReason.NOT_CONFIRMED, "late", 1)
    one.recorder.keep(failed)
    one.tracker.watch(failed, flight)
    await one.tracker.look()
    assert (await one.attempt(flight)).state is State.FAILED
    await one.node.mine()
    await one.tracker.look()
    record = await one.attempt(flight)
    assert (record.state, record.round, record.code) == (State.ACCEPTED, 1, None)


async def test_a_round_that_was_given_up_does_not_block_the_key_for_ever(
    stack: contextlib.AsyncExitStack, node: Anvil, tmp_path: Path
):
    one = await hand(stack, node, tmp_path, cancel_after_ms=-60_000)
    await node.stop_mining()
    flight = await one.flight(1000)
    await one.send(flight)
    failed = one.record(flight, State.CONFIRMING, 1).failed(FailureReason.NOT_CONFIRMED, "late", 1)
    one.recorder.keep(failed)
    one.tracker.watch(failed, flight)
    await one.tracker.look()
    await one.tracker.look()
    assert await node.pool() == 1
    await node.mine()
    await one.tracker.look()
    assert ((await one.attempt(flight)).state, len(one.tracker)) == (State.FAILED, 0)
    assert (await one.client.group_state("majors")).round == 0
    await node.call("evm_setAutomine", True)
    following, receipt = await one.round(1010)
    assert (following.nonce, receipt.ok) == (flight.nonce + 1, True)


async def test_a_round_that_was_given_up_and_dropped_from_the_pool_does_not_hold_up_what_comes_after_it(
    stack: contextlib.AsyncExitStack, node: Anvil, tmp_path: Path
):
    one = await hand(stack, node, tmp_path, cancel_after_ms=-60_000)
    await node.stop_mining()
    flight = await one.flight(1000)
    await one.send(flight)
    behind = await one.submitter.sender.place(one.submitter.address, b"", gas=21_000)  # of another group, say
    failed = one.record(flight, State.CONFIRMING, 1).failed(FailureReason.NOT_CONFIRMED, "late", 1)
    one.recorder.keep(failed)
    one.tracker.watch(failed, flight)
    await node.call("anvil_dropTransaction", flight.hashes[0])  # the node that had it is gone, say
    await one.submitter.again(behind)
    await node.mine()
    assert await one.client.find_receipt(behind.transaction) is None
    await one.tracker.look()
    await node.mine()
    receipt = await one.client.find_receipt(behind.transaction)
    assert receipt is not None
    assert receipt.ok
    await one.tracker.look()
    assert ((await one.attempt(flight)).state, len(one.tracker)) == (State.FAILED, 0)
    assert (await one.client.group_state("majors")).round == 0


async def test_who_may_have_lost_his_key_to_another_sends_nothing(one: Hand):
    def lost() -> None:
        raise KeyInUseError("another aggregator sends with the key")

    flight, _ = await one.round(1000)
    one.submitter._owned = lost
    with pytest.raises(KeyInUseError):
        await one.send(await one.flight(1010))
    with pytest.raises(KeyInUseError):
        await one.submitter.again(flight.sent[0])
    assert (await one.submitter.sender.used(), await one.node.pool()) == (flight.nonce + 1, 0)
    one.submitter._owned = presumed_ours
    _, receipt = await one.round(1020)
    assert (receipt.ok, await one.answer()) == (True, 1020)


# ------------------------------------------------------------------------------------------------ crash


@pytest.mark.parametrize("fate", ["mined", "in the pool", "dropped"])
async def test_after_a_crash_between_send_and_receipt_a_restart_finds_out_and_sends_nothing_twice(
    fate: str, one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    await one.node.stop_mining()
    flight = await one.flight(1000)
    await one.send(flight)  # … and the process ends here
    if fate == "mined":
        await one.node.mine()
    elif fate == "dropped":
        await one.node.call("anvil_dropTransaction", flight.hashes[0])
        assert await one.node.pool() == 0
    again = await hand(stack, one.node, tmp_path, store=one.store)
    await again.tracker.recover()
    record = await again.attempt(flight)
    if fate == "mined":
        assert (record.state, record.round, record.transaction) == (State.ACCEPTED, 1, flight.hashes[0])
    else:
        assert (record.state, record.code) == (State.FAILED, FailureReason.NOT_CONFIRMED)
        assert await one.node.call("eth_getTransactionByHash", flight.hashes[0]) is not None  # the very same
        assert await one.node.pool() == 1
    following = await again.flight(1010)
    await again.send(following)
    assert following.nonce == (flight.nonce + 1 if fate == "mined" else flight.nonce)
    assert await one.node.pool() == 1
    await one.node.mine()
    assert (await again.submitter.receipt(following, again.note, 5)).ok
    assert (await again.client.group_state("majors")).round == (2 if fate == "mined" else 1)
    assert await again.submitter.sender.used() == (2 if fate == "mined" else 1)


async def test_a_restart_finds_its_own_attempts_behind_however_many_of_others(
    one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    await one.node.stop_mining()
    flight = await one.flight(1000)
    await one.send(flight)
    left = msgspec.structs.replace(await one.attempt(flight), id="left", moment=flight.moment + 1, transactions=())
    one.store.rows["left"] = left
    for n in range(200):
        another = msgspec.structs.replace(left, id=f"theirs{n}", relayer="0xb0b", started_ms=left.started_ms + n)
        one.store.rows[another.id] = another.failed(FailureReason.NO_QUORUM, "", another.started_ms)
    await one.node.mine()
    again = await hand(stack, one.node, tmp_path, store=one.store)
    await again.tracker.recover()
    record = await again.attempt(flight)
    assert (record.state, record.round, record.transaction) == (State.ACCEPTED, 1, flight.hashes[0])
    found = await again.recorder.get("left")
    assert found is not None
    assert (found.state, found.code) == (State.FAILED, FailureReason.STOPPED)


async def test_the_bytes_of_what_can_never_be_mined_are_given_up(
    one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    await one.node.stop_mining()
    flight = await one.flight(1000)
    await one.send(flight)
    await one.store.save((await one.attempt(flight)).failed(FailureReason.SUBMISSION_FAILED, "refused", 1))
    await one.node.call("anvil_dropAllTransactions")
    again = await hand(stack, one.node, tmp_path, store=one.store)
    await again.tracker.recover()
    assert (await again.attempt(flight)).settled is False  # its nonce is free: whoever has the bytes could send them
    await one.node.call("evm_setAutomine", True)
    following = await again.flight(1010, attempt="following")
    await again.send(following)
    assert (await again.submitter.receipt(following, again.note, 5)).ok
    assert following.nonce == flight.nonce
    await again.tracker.recover()
    record = await again.attempt(flight)
    assert (record.state, record.code, record.settled) == (State.FAILED, FailureReason.SUBMISSION_FAILED, True)


async def test_a_dropped_transaction_is_sent_again_after_a_crash_and_its_attempt_accepted(
    one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    await one.node.stop_mining()
    flight = await one.flight(1000)
    await one.send(flight)
    await one.node.call("anvil_dropAllTransactions")
    again = await hand(stack, one.node, tmp_path, store=one.store)
    await again.tracker.recover()
    await one.node.mine()
    await again.tracker.look()
    record = await again.attempt(flight)
    assert (record.state, record.round, record.transaction) == (State.ACCEPTED, 1, flight.hashes[0])
    assert (await again.answer(), await again.submitter.sender.used()) == (1000, 1)


@pytest.mark.parametrize("why", ["a newer round stands", "its bytes were not kept", "it was refused", "it is too old"])
async def test_what_is_no_good_any_more_is_not_sent_again(
    why: str, one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    flight = await one.flight(1000)
    await one.node.stop_mining()
    await one.send(flight)
    await one.node.call("anvil_dropAllTransactions")
    await one.node.call("evm_setAutomine", True)
    if why == "a newer round stands":
        two = await hand(stack, one.node, tmp_path, RELAYERS[1])
        await two.round(1010)
    elif why == "its bytes were not kept":
        one.store.raws.clear()
    elif why == "it was refused":
        record = await one.attempt(flight)
        await one.store.save(record.failed(FailureReason.SUBMISSION_FAILED, "out of funds", 1))
    else:
        await one.node.call("evm_increaseTime", GROUP.max_age_ms // 1000 + 5)
        await one.node.mine()
    again = await hand(stack, one.node, tmp_path, store=one.store)
    await again.tracker.recover()
    assert (await again.submitter.sender.used(), len(again.tracker)) == (0, 0)
    assert await one.node.call("eth_getTransactionByHash", flight.hashes[0]) is None
    assert (await again.attempt(flight)).state is State.FAILED


async def test_after_a_crash_before_the_send_a_restart_sends_what_was_signed_and_nothing_else(
    one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    flight = await one.flight(1000)

    async def crash(_: object) -> None:
        await one.note(flight)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await one.submitter.send(flight, crash)
    assert await one.submitter.sender.used() == 0
    again = await hand(stack, one.node, tmp_path, store=one.store)
    await again.tracker.recover()
    record = await again.attempt(flight)
    assert (record.state, record.round, record.transaction) == (State.ACCEPTED, 1, flight.hashes[0])
    following, receipt = await again.round(1010)
    assert (following.nonce, receipt.ok, await again.answer()) == (flight.nonce + 1, True, 1010)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_round_that_a_reorg_took_while_the_service_was_down_is_put_back_or_found_missing(
    kept: bool, one: Hand, stack: contextlib.AsyncExitStack, tmp_path: Path
):
    await one.node.mine(3)
    flight, receipt = await one.round(1000)
    await one.store.save(await one.attempt(flight))
    if not kept:
        one.store.raws[flight.attempt] = "0x00"  # no transaction of a kind that this Fairmark signs
    await one.node.call("anvil_rollback", 1)
    await one.node.call("anvil_dropAllTransactions")
    again = await hand(stack, one.node, tmp_path, store=one.store)
    await again.tracker.recover()
    await again.tracker.look()
    record = await again.attempt(flight)
    if kept:
        assert (record.state, record.transaction, await again.answer()) == (State.ACCEPTED, receipt.transaction, 1000)
    else:
        assert (record.state, record.code, len(again.tracker)) == (State.FAILED, FailureReason.REORGED, 0)


# ------------------------------------------------------------------------------------------------ the purse


async def test_a_low_balance_is_warned_of_before_it_is_none(one: Hand):
    purse = Purse(one.submitter.sender, low=Decimal("0.05"), poll_s=0.01, metrics=one.metrics, logger=LOG)
    assert await purse.check() == "not read yet"
    assert await purse.look() == 1_000_000
    assert await purse.check() == "1000000"
    await one.node.call("anvil_setBalance", one.submitter.address, hex(4 * 10**16))
    assert await purse.look() == Decimal("0.04")
    assert one.metrics.balance._value.get() == 0.04
    with pytest.raises(LowBalanceError, match="send it more"):
        await purse.check()


# ------------------------------------------------------------------------------------------------ legacy, speed


async def test_a_chain_without_eip_1559():
    async with anvil("--hardfork", "berlin") as old:
        key = LocalSigner(RELAYERS[0])
        sender = TransactionSender(old.rpc, key, 31337)
        await old.stop_mining()
        first = await sender.place(key.address, b"", gas=21_000)
        second = await sender.place(key.address, b"\x01", gas=22_000, over=first)
        await old.mine()
        assert (await wait_receipt(old.rpc, second.transaction, 5)).ok
        assert first.fees.tip is None
        assert second.fees.cap >= first.fees.cap * 1.25
        assert second.nonce == first.nonce
