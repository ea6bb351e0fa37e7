"""The window in memory against a list of ticks, and what it does when there are too many."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from market.memory import MemoryWindow
from market.series import Series
from market.ticks import Batch, scaled, unscaled

NOW = 1_700_000_000_000
RETENTION_MS = 20_000
TICKS = st.tuples(
    st.integers(0, RETENTION_MS - 1),
    st.decimals(min_value=Decimal("0.001"), max_value=Decimal(100_000), places=3),
    st.sampled_from(["one", "two"]),
)


def batch(ticks: list[tuple[int, Decimal, str]], exchange: str, number: int) -> Batch:
    found = scaled([price for _, price, _ in ticks])
    assert found is not None
    return Batch(
        exchange=exchange,
        symbol="X",
        times=[NOW - before for before, _, _ in ticks],
        prices=found[0],
        digits=found[1],
        number=number,
    )


@given(st.lists(st.lists(TICKS, min_size=1, max_size=12), max_size=6), st.integers(1, RETENTION_MS))
async def test_it_answers_as_a_list_of_ticks_would(groups: list[list[tuple[int, Decimal, str]]], period: int) -> None:
    window = MemoryWindow(retention_ms=RETENTION_MS, max_ticks=10_000)
    arrived: list[tuple[int, Decimal, str]] = []
    for group in groups:
        for exchange in ("one", "two"):
            if own := [tick for tick in group if tick[2] == exchange]:
                await window.add([batch(own, exchange, len(arrived))], NOW)
                arrived += own
        for exchange in (None, "one", "two"):  # asked between additions, so that what is kept goes stale
            inside = [p for before, p, own in arrived if before < period and exchange in (None, own)]
            span = window.of("X", exchange, NOW - period, NOW)
            if not inside:
                assert span is None
                continue
            assert span is not None
            totals = span.totals
            assert (totals.count, totals.lowest, totals.highest) == (len(inside), min(inside), max(inside))
            assert totals.total == unscaled(sum(int(price * 1000) for price in inside), 3)
    if arrived:
        newest = min(before for before, _, _ in arrived)
        last = [(price, own) for before, price, own in arrived if before == newest][-1]
        latest = window.newest("X", None, NOW)
        assert latest is not None
        assert (latest.price, latest.exchange, latest.time_ms) == (*last, NOW - newest)


def plain(before_ms: int, count: int, number: int, exchange: str = "one") -> Batch:
    return Batch(
        exchange=exchange, symbol="X", times=[NOW - before_ms] * count, prices=[number] * count, digits=0, number=number
    )


async def test_beyond_its_bound_the_oldest_seconds_keep_their_totals_only() -> None:
    window = MemoryWindow(retention_ms=RETENTION_MS, max_ticks=100)
    for number, before in enumerate((9_500, 8_500, 7_500, 6_500)):
        await window.add([plain(before, 40, number)], NOW - before)
    assert (window.held, window.thinned) == (80, 80)
    whole = window.of("X", None, NOW - 10_001, NOW)
    assert whole is not None
    assert (whole.totals.count, whole.totals.sum) == (160, 40 * (0 + 1 + 2 + 3))
    cut = window.of("X", None, NOW - 8_700, NOW)  # begins within a second whose ticks went
    assert cut is not None
    assert (cut.since_ms, cut.totals.count) == (NOW - 8_001, 80)


async def test_all_exchanges_begin_where_the_one_that_knows_least_begins() -> None:
    window = MemoryWindow(retention_ms=RETENTION_MS, max_ticks=100)
    await window.add([plain(8_500, 60, 1)], NOW - 8_400)
    await window.add([plain(6_500, 60, 2)], NOW - 6_400)
    await window.add([plain(8_100, 5, 3, "two"), plain(5_000, 5, 4, "two")], NOW - 5_000)
    found = window.of("X", None, NOW - 8_700, NOW)
    assert found is not None
    assert (found.since_ms, found.totals.count) == (NOW - 8_001, 65)


async def test_prices_beyond_64_bits_are_kept_whole() -> None:
    window = MemoryWindow(retention_ms=RETENTION_MS, max_ticks=100)
    wide = Decimal("999999999999999.123456789012345678")
    for prices in ([Decimal(2)], [wide], [Decimal("0.5")]):
        found = scaled(prices)
        assert found is not None
        await window.add(
            [Batch(exchange="one", symbol="X", times=[NOW - 700], prices=found[0], digits=found[1], number=0)], NOW
        )
    assert [tick.price for tick in await window.ticks("X", "one", NOW - 900, NOW)] == [2, wide, Decimal("0.5")]
    assert window.of("X", None, NOW - 800, NOW).totals.highest == wide  # type: ignore[union-attr]


def test_only_the_seconds_that_were_cut_last_keep_what_a_cut_costs() -> None:
    series = Series()
    for second in range(40):
        times = [second * 1_000 + 100, second * 1_000 + 900]
        series.add(Batch(exchange="one", symbol="X", times=times, prices=[1, 2], digits=0, number=2 * second))
    for second in range(40):
        totals, begins_ms = series.totals(second * 1_000 + 500, 40_000)
        assert (totals.count, begins_ms) == (2 * (40 - second) - 1, second * 1_000 + 500)
    kept = [number for number, second in series.seconds.items() if second._cut is not None]
    assert kept == list(range(24, 40))
    assert series.totals(500, 40_000)[0].count == 79
    series.trim(30_000)
    assert sorted(series._cuts) == list(range(30, 40))
