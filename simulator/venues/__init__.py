"""The exchanges that can be simulated: one module each, holding one `Venue`. Adding one is such a module and a line."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from simulator.venues import (
    binance,
    bitfinex,
    bitget,
    bitso,
    bitstamp,
    bybit,
    coinbase,
    coingecko,
    coinpaprika,
    cryptocom,
    gate,
    gemini,
    kraken,
    kucoin,
    luno,
    okx,
)
from simulator.venues.shape import Market, Venue

_MODULES = (
    binance,
    bitfinex,
    bitget,
    bitso,
    bitstamp,
    bybit,
    coinbase,
    coingecko,
    coinpaprika,
    cryptocom,
    gate,
    gemini,
    kraken,
    kucoin,
    luno,
    okx,
)

VENUES: Mapping[str, Venue] = MappingProxyType({module.VENUE.name: module.VENUE for module in _MODULES})
"""By the name that the source catalogue gives them."""

__all__ = ["VENUES", "Market", "Venue"]
