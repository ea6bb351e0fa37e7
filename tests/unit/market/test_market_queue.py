"""A source's queue: bounded, in order for each symbol, and what it gives up when it is full."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from market.ingest.metrics import SourceMetrics
from market.ingest.queues import Chunk, SourceQueue

SYMBOLS = ["A", "B", "C"]


def queue(most: int, workers: int = 2) -> tuple[SourceQueue, SourceMetrics]:
    metrics = SourceMetrics(CollectorRegistry())
    return SourceQueue("one", symbols=SYMBOLS, most=most, workers=workers, metrics=metrics), metrics


def chunk(*prices: int) -> Chunk:
    return Chunk(0, list(prices), [Decimal(price) for price in prices])


async def everything(kept: SourceQueue, workers: int = 2) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for worker in range(workers):
        while True:
            try:
                async with asyncio.timeout(0):
                    symbol, chunks = await kept.take(worker)
            except TimeoutError:
                break
            found.setdefault(symbol, []).extend(when for each in chunks for when in each.times)
            kept.done()
    return found


async def test_a_symbol_comes_out_in_the_order_in_which_it_went_in_of_one_worker_only() -> None:
    kept, _ = queue(100)
    for start in range(0, 30, 3):
        kept.put("A", chunk(start, start + 1, start + 2))
        kept.put("B", chunk(start))
    assert await everything(kept) == {"A": list(range(30)), "B": list(range(0, 30, 3))}
    assert kept.size == 0


async def test_when_full_the_oldest_of_the_same_symbol_goes() -> None:
    kept, metrics = queue(6)
    kept.put("A", chunk(1, 2))
    kept.put("B", chunk(1, 2, 3))
    kept.put("A", chunk(3, 4, 5))
    assert kept.size == 6
    assert await everything(kept) == {"A": [3, 4, 5], "B": [1, 2, 3]}
    assert metrics.refused == {("one", "overflow"): 2}


async def test_where_none_of_the_same_symbol_waits_the_busiest_gives_way() -> None:
    kept, _ = queue(5)
    kept.put("A", chunk(1, 2, 3, 4))
    kept.put("B", chunk(1))
    kept.put("C", chunk(1))
    assert await everything(kept) == {"A": [2, 3, 4], "B": [1], "C": [1]}


async def test_of_a_chunk_larger_than_the_queue_the_newest_ticks_stay() -> None:
    kept, metrics = queue(3)
    kept.put("A", chunk(1, 2, 3, 4, 5))
    assert await everything(kept) == {"A": [3, 4, 5]}
    assert metrics.refusals("one") == {"overflow": 2}


async def test_a_symbol_that_is_not_known_is_refused() -> None:
    kept, _ = queue(3)
    assert not kept.knows("X")
    with pytest.raises(KeyError):
        kept.put("X", chunk(1))


@given(st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(1, 5)), max_size=40), st.integers(1, 12))
async def test_it_is_never_above_its_bound_and_loses_nothing_uncounted(puts: list[tuple[str, int]], most: int) -> None:
    kept, metrics = queue(most)
    sent: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}
    for number, (symbol, count) in enumerate(puts):
        ticks = [number * 10 + index for index in range(count)]
        sent[symbol] += ticks
        kept.put(symbol, chunk(*ticks))
        assert kept.size <= most
    found = await everything(kept)
    for symbol, came in found.items():
        assert came == sent[symbol][-len(came) :]  # in order, and the newest
    dropped = sum(metrics.refused.values())
    assert sum(map(len, found.values())) + dropped == sum(map(len, sent.values()))


async def test_it_is_drained_when_what_was_taken_is_handed_on() -> None:
    kept, _ = queue(10)
    kept.put("A", chunk(1))
    draining = asyncio.create_task(kept.drained())
    await kept.take(0)
    await asyncio.sleep(0)
    assert not draining.done()
    kept.done()
    await asyncio.wait_for(draining, 1)
