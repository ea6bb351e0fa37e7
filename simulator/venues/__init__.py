"""The exchanges that can be simulated: one module each, holding one `Venue`. Adding one is such a module and a line."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from simulator.venues import (
    backpack,
    bigone,
    binance,
    binanceus,
    bitfinex,
    bitget,
    bitrue,
    bitso,
    bitstamp,
    btcturk,
    bullish,
    bybit,
    coinbase,
    coingecko,
    coinpaprika,
    cryptocom,
    deribit,
    dia,
    gate,
    gemini,
    hitbtc,
    htx,
    independentreserve,
    kraken,
    kucoin,
    luno,
    mexc,
    okx,
    paxos,
    poloniex,
    upbit,
    whitebit,
)
from simulator.venues.shape import Market, Venue

_MODULES = (
    backpack,
    bigone,
    binance,
    binanceus,
    bitfinex,
    bitget,
    bitrue,
    bitso,
    bitstamp,
    btcturk,
    bullish,
    bybit,
    coinbase,
    coingecko,
    coinpaprika,
    cryptocom,
    deribit,
    dia,
    gate,
    gemini,
    hitbtc,
    htx,
    independentreserve,
    kraken,
    kucoin,
    luno,
    mexc,
    okx,
    paxos,
    poloniex,
    upbit,
    whitebit,
)

VENUES: Mapping[str, Venue] = MappingProxyType({module.VENUE.name: module.VENUE for module in _MODULES})
"""By the name that the source catalogue gives them."""

__all__ = ["VENUES", "Market", "Venue"]
