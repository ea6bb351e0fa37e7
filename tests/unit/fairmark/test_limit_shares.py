"""How many fetchers share what an exchange allows one address."""

from __future__ import annotations

from pathlib import Path

from core.settings import load
from fairmark.assemble import limit_shares

PROJECT = Path(__file__).resolve().parents[3]


def shares(share: str | None, fetcher: str = "fetcher-a") -> dict[str, int]:
    settings = load(PROJECT / "fairmark.toml", {} if share is None else {"FAIRMARK_SOURCES__SHARE": share})
    return limit_shares(settings, settings.fetchers[fetcher].sources)


def test_a_fetcher_alone_takes_the_whole_limit() -> None:
    assert set(shares(None).values()) == {1}


def test_a_number_holds_for_every_source() -> None:
    assert shares("3") == dict.fromkeys(shares(None), 3)


def test_fetchers_counts_those_that_name_a_source() -> None:
    counted = shares("fetchers")
    assert {name: counted[name] for name in ("binance", "kraken", "okx", "htx", "coingecko")} == {
        "binance": 4, "kraken": 3, "okx": 3, "htx": 1, "coingecko": 1
    }  # fmt: skip
    assert shares("fetchers", "fetcher-d")["binance"] == 4
