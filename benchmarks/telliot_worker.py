"""telliot-feeds' side of a benchmark. It runs in an environment of its own (see `benchmarks.telliot`), so it imports
nothing of ours.

Arguments: sources as `name=url`. Each line on standard input is a number of medians to take; the answer to it is a line
of JSON with the last median and what each took, in seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from telliot_feeds.dtypes.datapoint import datetime_now_utc  # type: ignore[import-not-found]
from telliot_feeds.pricing.price_service import WebPriceService  # type: ignore[import-not-found]
from telliot_feeds.pricing.price_source import PriceSource  # type: ignore[import-not-found]
from telliot_feeds.sources.price.spot.binance import BinanceSpotPriceSource  # type: ignore[import-not-found]
from telliot_feeds.sources.price.spot.coinbase import CoinbaseSpotPriceSource  # type: ignore[import-not-found]
from telliot_feeds.sources.price.spot.kraken import KrakenSpotPriceSource  # type: ignore[import-not-found]
from telliot_feeds.sources.price.spot.okx import OKXSpotPriceSource  # type: ignore[import-not-found]
from telliot_feeds.sources.price_aggregator import PriceAggregator  # type: ignore[import-not-found]


class BitstampSpotPriceService(WebPriceService):  # type: ignore[misc]
    """telliot-feeds has none; written as its others are."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name="Bitstamp Price Service", url="https://www.bitstamp.net", **kwargs)

    async def get_price(self, asset: str, currency: str) -> Any:
        told = self.get_url(f"/api/v2/ticker/{asset}{currency}/")
        if "error" in told:
            return None, None
        return float(told["response"]["last"]), datetime_now_utc()


@dataclass
class BitstampSpotPriceSource(PriceSource):  # type: ignore[misc]
    service: BitstampSpotPriceService = field(default_factory=BitstampSpotPriceService, init=False)


SOURCES: dict[str, tuple[Callable[..., Any], str, str, str]] = {  # with its path's beginning, if its URL has one
    "binance": (BinanceSpotPriceSource, "btc", "usdt", ""),
    "coinbase": (CoinbaseSpotPriceSource, "btc", "usdt", ""),
    "kraken": (KrakenSpotPriceSource, "xbt", "usd", ""),  # of XBT it reads the market in dollars only
    "bitstamp": (BitstampSpotPriceSource, "btc", "usdt", ""),
    "okx": (OKXSpotPriceSource, "btc", "usdt", "/api"),
}


async def serve(asked: list[str]) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where it logs to
    logging.disable(logging.CRITICAL)
    sources = []
    for each in asked:
        name, _, url = each.partition("=")
        make, asset, currency, path = SOURCES[name]
        source = make(asset=asset, currency=currency)
        source.service.url = url + path
        sources.append(source)
    aggregator = PriceAggregator(asset="btc", currency="usdt", algorithm="median", sources=sources)
    for line in sys.stdin:
        price, seconds = None, []
        for _ in range(int(line)):
            started = time.perf_counter()
            price, _ = await aggregator.fetch_new_datapoint()
            seconds.append(time.perf_counter() - started)
        out.write(json.dumps({"answer": str(price), "seconds": seconds}) + "\n")
        out.flush()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
