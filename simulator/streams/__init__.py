"""The exchanges whose streams can be simulated: one module each, holding one `Dialect`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from simulator.streams import binance, bitget, bitstamp, bybit, coinbase, cryptocom, gate, gemini, kraken, okx
from simulator.streams.shape import Dialect

_MODULES = (binance, bitget, bitstamp, bybit, coinbase, cryptocom, gate, gemini, kraken, okx)

DIALECTS: Mapping[str, Dialect] = MappingProxyType({module.DIALECT.name: module.DIALECT for module in _MODULES})
"""By the name that the source catalogue gives them."""

__all__ = ["DIALECTS", "Dialect"]
