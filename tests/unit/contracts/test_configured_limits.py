"""What a feed is to have on chain: the breaker's limits are for prices, and a signal may jump within its range."""

from __future__ import annotations

from contracts.governance import configured
from core.types import Feed, Pair


def test_a_price_has_the_breakers_limits_and_a_signal_has_none() -> None:
    price = configured(Feed(pair=Pair("BTC/USD"), deviation_bps=400))
    assert (price.limit_bps, price.max_spread_bps) == (1_600, 1_000)
    signal = configured(Feed(pair=Pair("RISK/INDEX"), deviation_bps=400, signal=True))
    assert (signal.limit_bps, signal.max_spread_bps, signal.deviation_bps) == (0, 0, 400)
