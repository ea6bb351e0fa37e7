"""How long a quote made of a reading stays what it is."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import assume, given
from hypothesis import strategies as st

from core.types import Feed, Pair, Quote, SourceFailure
from fetchers.reader import judged, sound_until
from sources import Reading, Ticker

BTC = Pair("BTC/USD")
NOW = 1_700_000_000_000
FEED = Feed(
    pair=BTC,
    min_price=Decimal(1000),
    max_price=Decimal(10_000_000),
    max_quote_age_ms=60_000,
    max_receipt_age_ms=45_000,
    max_unchanged_ms=90_000,
)
AGES = st.integers(min_value=0, max_value=100_000)


@given(
    received=AGES,
    said=st.none() | st.integers(min_value=-4_000, max_value=100_000),
    changed=st.none() | AGES,
    later=st.integers(min_value=0, max_value=100_000),
)
def test_a_quote_is_the_same_up_to_that_moment_and_refused_from_the_next_on(
    received: int, said: int | None, changed: int | None, later: int
) -> None:
    reading = Reading(
        source="kraken",
        pair=BTC,
        ticker=Ticker(last=Decimal(65_000), time_ms=None if said is None else NOW - received - said),
        received_ms=NOW - received,
        elapsed_ms=5,
        changed_ms=None if changed is None else NOW - received - changed,
    )
    quote = judged(reading, FEED, NOW)
    assume(isinstance(quote, Quote))
    assert isinstance(quote, Quote)
    until = sound_until(quote, FEED)
    assert until >= NOW
    assert judged(reading, FEED, min(NOW + later, until)) == quote
    assert judged(reading, FEED, until) == quote
    assert isinstance(judged(reading, FEED, until + 1), SourceFailure)
