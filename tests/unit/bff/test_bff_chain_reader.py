"""The reading that is served: which one may replace it, and who waits for the chain."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from bff.chain_reader import ChainReader, RoundGate
from bff.errors import ChainUnavailableError
from bff.metrics import BffMetrics
from bff.transactions import Transactions
from core.clock import FixedClock
from core.logs import get_logger
from core.types import Mode
from tests.support.bff import BTC, ETH, MAJORS, NOW_MS, FakeChain, answer, reading, transaction_of
from tests.support.wait import until


def make(chain: FakeChain, *, poll_ms: int = 60_000, read_timeout_s: float = 5.0) -> tuple[ChainReader, FixedClock]:
    clock = FixedClock(NOW_MS)
    reader = ChainReader(
        chain,
        [MAJORS],
        mode=Mode.TEST,
        clock=clock,
        poll_ms=poll_ms,
        metrics=BffMetrics(CollectorRegistry()),
        logger=get_logger("bff", Mode.TEST),
        read_timeout_s=read_timeout_s,
    )
    return reader, clock


@contextlib.asynccontextmanager
async def polling(reader: ChainReader):
    task = asyncio.create_task(reader.run())
    try:
        async with asyncio.timeout(2):
            yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class TestGate:
    def test_the_same_round_and_later_ones_pass_at_once(self):
        gate = RoundGate(3_000)
        assert gate.admits((70, 7), (70, 7), 0)
        assert gate.admits((70, 7), (80, 8), 0)

    def test_a_lower_round_of_a_later_moment_was_made_after_a_reorganisation_and_passes_at_once(self):
        gate = RoundGate(3_000)
        assert gate.admits((70, 7), (71, 6), 0)

    def test_a_higher_round_of_an_earlier_moment_is_of_a_history_that_was_left_and_waits(self):
        gate = RoundGate(3_000)
        assert not gate.admits((71, 6), (70, 7), 0)

    def test_a_lower_round_passes_only_when_it_stayed(self):
        gate = RoundGate(3_000)
        assert not gate.admits((70, 7), (60, 6), 1_000)
        assert not gate.admits((70, 7), (60, 6), 3_999)
        assert gate.admits((70, 7), (60, 6), 4_000)

    def test_a_node_that_catches_up_starts_the_wait_anew(self):
        gate = RoundGate(3_000)
        assert not gate.admits((70, 7), (60, 6), 1_000)
        assert gate.admits((70, 7), (70, 7), 2_000)
        assert not gate.admits((70, 7), (60, 6), 4_500)

    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2_999)), max_size=50))
    def test_within_the_hold_after_a_high_round_nothing_lower_is_ever_served(self, readings):
        gate, standing, since_high = RoundGate(3_000), 0, 0
        now = 0
        for round_, later in readings:
            now += later
            before = standing
            if gate.admits((10 * standing, standing), (10 * round_, round_), now):
                if round_ < before:
                    assert now - since_high >= 3_000
                standing = round_
                since_high = now


class TestTransactions:
    def test_a_round_is_looked_up_until_it_is_known_but_not_for_ever(self):
        book = Transactions()
        assert [book.wants((7, 70)) for _ in range(7)] == [True] * 5 + [False] * 2
        assert book.note((7, 70), "0xaa")
        assert not book.note((7, 70), "0xaa")
        assert not book.wants((7, 70))

    def test_before_the_first_round_there_is_nothing_to_look_up(self):
        assert not Transactions().wants((0, 0))

    def test_only_rounds_that_still_stand_are_kept(self):
        book = Transactions()
        for round_ in range(1, 100):
            book.note((round_, round_ * 10), transaction_of(round_))
            book.keep([(round_, round_ * 10), (3, 30)])
        assert dict(book.known) == {(3, 30): transaction_of(3), (99, 990): transaction_of(99)}


async def test_the_poll_reads_and_finds_the_rounds_transaction_once():
    chain = FakeChain()
    reader, _ = make(chain, poll_ms=1)
    async with polling(reader):
        await until(lambda: chain.reads >= 5)
    assert chain.lookups == [("majors", 7, 107)]
    standing = reader.view("majors").standing
    assert standing[BTC].document.transaction == transaction_of(7)
    assert standing[ETH].document.price == "4000.01"


async def test_an_attested_answer_keeps_the_transaction_of_the_round_that_wrote_it():
    chain = FakeChain(reading(7, answer(), answer(ETH, 400_001, decimals=2)))
    reader, _ = make(chain, poll_ms=1)
    async with polling(reader):
        await until(lambda: len(chain.lookups) == 1)
        for round_ in (8, 9):  # both found ETH as it was: its round stays, its moment moves on
            moment = NOW_MS + 10 * round_
            now = answer(round_=round_, observed_ms=moment)
            chain.reading = reading(round_, now, answer(ETH, 400_001, decimals=2, round_=7, observed_ms=moment))
            await until(
                lambda of=round_: reader.view("majors").standing[BTC].document.transaction == transaction_of(of)
            )
            assert reader.view("majors").standing[ETH].document.transaction == transaction_of(7)
            assert reader.view("majors").standing[ETH].observed_ms == moment


async def test_after_a_reorganisation_an_answer_has_no_transaction_of_the_history_that_was_left():
    chain = FakeChain(reading(7, answer(), answer(ETH, 400_001, decimals=2)))
    reader, clock = make(chain)
    await reader.read("majors")
    reader.note_transaction("majors", 7, NOW_MS - 1_001, transaction_of(7))
    known = reader.view("majors").standing[ETH].document.transaction
    chain.reading = reading(6, answer(round_=6, observed_ms=NOW_MS + 5_000), answer(ETH, 400_001, decimals=2, round_=6))
    await reader.read("majors")
    clock.advance(10_000_000)
    await reader.read("majors")
    assert reader.view("majors").round == 6
    assert known == transaction_of(7)
    assert reader.view("majors").standing[ETH].document.transaction is None


async def test_an_answer_of_an_older_round_keeps_the_transaction_it_came_with():
    chain = FakeChain(reading(7, answer(), answer(ETH, 400_001, decimals=2)))
    reader, _ = make(chain, poll_ms=1)
    async with polling(reader):
        await until(lambda: len(chain.lookups) == 1)
        # in round 8 too few had a price for ETH
        chain.reading = reading(8, answer(round_=8, observed_ms=NOW_MS), answer(ETH, 400_001, decimals=2, round_=7))
        await until(lambda: reader.view("majors").standing[BTC].document.transaction == transaction_of(8))
    standing = reader.view("majors").standing
    assert standing[BTC].document.transaction == transaction_of(8)
    assert standing[ETH].document.transaction == transaction_of(7)


async def test_a_failing_chain_leaves_the_last_reading_and_shows_in_health():
    chain = FakeChain()
    reader, _ = make(chain)
    await reader.read("majors")
    chain.down = True
    with pytest.raises(ChainUnavailableError, match="chain_unavailable: the node does not answer"):
        await reader.read("majors")
    assert reader.view("majors").round == 7
    with pytest.raises(ChainUnavailableError, match="majors: chain_unavailable"):
        await reader.health()
    chain.down = False
    await reader.read("majors")
    assert await reader.health() == "majors: round 7, read 0 ms ago"


async def test_prices_are_stale_whatever_their_age_while_the_chain_is_out_of_reach():
    chain = FakeChain(reading(7, answer(observed_ms=NOW_MS)))
    reader, clock = make(chain, poll_ms=1_000)
    await reader.read("majors")

    def shown() -> tuple[bool, str]:
        price = reader.view("majors").standing[BTC].at(clock.now_ms())
        return price.stale, price.price

    chain.down = True
    clock.advance(2 * 3 * 1_000 + 5_000)
    with pytest.raises(ChainUnavailableError):
        await reader.read("majors")
    assert shown() == (False, "71234.56000000")
    clock.advance(1)
    with pytest.raises(ChainUnavailableError):
        await reader.read("majors")
    assert shown() == (True, "71234.56000000")
    chain.down = False
    await reader.read("majors")
    assert shown() == (False, "71234.56000000")


async def test_a_reading_that_nothing_replaces_shows_in_health():
    reader, clock = make(FakeChain(), poll_ms=1_000, read_timeout_s=5)
    await reader.read("majors")
    clock.advance(11_000)
    assert await reader.health() == "majors: round 7, read 11000 ms ago"
    clock.advance(1)
    with pytest.raises(ChainUnavailableError, match="the last reading is 11001 ms old"):
        await reader.health()


async def test_a_read_that_hangs_ends():
    chain = FakeChain()
    chain.hangs = True
    reader, _ = make(chain, read_timeout_s=0.02)
    with pytest.raises(ChainUnavailableError, match=r"no answer within 0\.02 s"):
        await reader.read("majors")


async def test_polling_goes_on_after_failures():
    chain = FakeChain()
    chain.down = True
    reader, _ = make(chain, poll_ms=1)
    async with polling(reader):
        await until(lambda: chain.reads >= 3)
        assert not reader.first_readings.is_set()
        chain.down = False
        await reader.first_readings.wait()
    assert reader.view("majors").round == 7


async def test_those_who_wait_for_a_round_share_the_reads():
    chain = FakeChain()
    reader, _ = make(chain)
    await reader.read("majors")
    chain.reading = reading(8, answer(round_=8))
    views = await asyncio.gather(*(reader.read_round("majors", 8, NOW_MS - 1_001) for _ in range(500)))
    assert {view.round for view in views} == {8}
    assert chain.reads == 2


async def test_a_round_that_stands_already_is_not_read_again():
    chain = FakeChain()
    reader, _ = make(chain)
    await reader.read("majors")
    assert (await reader.read_round("majors", 7, NOW_MS - 1_001)).round == 7
    assert chain.reads == 1


async def test_a_node_that_lags_is_asked_until_it_shows_the_round():
    chain = FakeChain()
    reader, _ = make(chain)
    await reader.read("majors")
    waiting = asyncio.create_task(reader.read_round("majors", 8, NOW_MS - 1_001))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    chain.reading = reading(8, answer(round_=8))
    async with asyncio.timeout(1):
        assert (await waiting).round == 8


async def test_one_who_stops_waiting_does_not_stop_the_others():
    chain = FakeChain()
    reader, _ = make(chain)
    impatient, patient = (asyncio.create_task(reader.read("majors")) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).round == 7


async def test_a_lower_round_is_held_back_while_it_may_be_a_lagging_node():
    chain = FakeChain()
    reader, clock = make(chain, poll_ms=1_000)
    await reader.read("majors")
    chain.reading = reading(6, answer(value=1, round_=6))
    assert (await reader.read("majors")).round == 7
    clock.advance(2_999)
    assert (await reader.read("majors")).round == 7
    clock.advance(1)
    assert (await reader.read("majors")).standing[BTC].document.price == "0.00000001"


async def test_after_a_reorganisation_the_round_that_was_made_is_served_and_not_the_one_that_is_gone():
    chain = FakeChain(reading(10, answer(round_=10, observed_ms=NOW_MS - 9_000)))
    reader, _ = make(chain)
    await reader.read("majors")
    chain.reading = reading(9, answer(value=8_000_000_000_000, round_=9, observed_ms=NOW_MS))
    async with asyncio.timeout(1):
        view = await reader.read_round("majors", 9, NOW_MS)
    assert (view.round, view.moment, view.standing[BTC].document.price) == (9, NOW_MS, "80000.00000000")


async def test_a_noted_transaction_saves_the_lookup_and_shows_at_once():
    chain = FakeChain()
    reader, _ = make(chain)
    await reader.read("majors")
    assert reader.view("majors").standing[BTC].document.transaction is None
    reader.note_transaction("majors", 7, NOW_MS - 1_001, "0x" + "77" * 32)
    assert reader.view("majors").standing[BTC].document.transaction == "0x" + "77" * 32
