"""Configurations for end-to-end tests: four fetchers with different sources, and the feeds a test needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SOURCES = {
    "fetcher-a": ("coinbase", "binance", "kraken", "okx", "bybit", "bitstamp", "cryptocom"),
    "fetcher-b": ("kraken", "okx", "bitstamp", "kucoin", "gate", "gemini", "binance"),
    "fetcher-c": ("bitfinex", "bybit", "gemini", "gate", "kraken", "cryptocom", "binance"),
    "fetcher-d": ("bitstamp", "kucoin", "coinbase", "cryptocom", "binance", "bitget", "gemini"),
}
PAIRS = ("BTC/USD", "ETH/USD", "SOL/USD", "DOGE/USD", "TON/USD", "USDT/USD", "USDC/USD")


def configuration(
    *,
    pairs: Sequence[str] = PAIRS,
    sources: Mapping[str, Sequence[str]] = SOURCES,
    heartbeat_s: int = 60,
    max_age_s: int = 60,
    feed_rules: str = "",
    extra: str = "",
) -> str:
    """A whole `fairmark.toml`. feed_rules: further lines of each [[feeds]]; extra: further tables."""

    def quoted(names: Sequence[str]) -> str:
        return "[" + ", ".join(f'"{name}"' for name in names) + "]"

    fetchers = "".join(f"[fetchers.{name}]\nsources = {quoted(listed)}\n" for name, listed in sources.items())
    feeds = "".join(f'[[feeds]]\npair = "{pair}"\nheartbeat_s = {heartbeat_s}\n{feed_rules}\n' for pair in pairs)
    group = f"[groups.majors]\nfeeds = {quoted(pairs)}\nmax_age_s = {max_age_s}\n"
    return f'mode = "test"\n{extra}\n{group}{fetchers}{feeds}'
