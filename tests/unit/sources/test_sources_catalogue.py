"""The catalogue: what is in it, how it is written, and how a mistake in it is reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core.settings import load
from sources import CatalogueError, UnsupportedPairError, load_catalogue
from sources.entries import CATALOGUE

PROJECT = Path(__file__).resolve().parents[3]
FIXTURES = PROJECT / "tests" / "fixtures" / "tickers"

GOOD = """
name = "example"
title = "Example"
base_url = "https://api.example.com"
verified = "documented"
verified_on = 2026-11-20
documentation = "https://docs.example.com"
[ticker]
path = "/ticker/{symbol}"
last = "last"
symbol = "{base_lower}-{quote_lower}"
[symbols]
"BTC/USD" = true
"DOGE/USD" = "xdg_usd"
"""


def written(folder: Path, text: str, name: str = "example") -> Path:
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


def problems_of(folder: Path) -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(folder)
    return caught.value.problems


def test_it_holds_at_least_ten_exchanges_and_two_indexes() -> None:
    entries = load_catalogue()
    kinds = {name: entry.kind for name, entry in entries.items()}
    wanted = {"binance", "coinbase", "kraken", "bitstamp", "okx", "bybit", "kucoin", "gate", "bitfinex", "gemini"}
    assert wanted <= {name for name, kind in kinds.items() if kind == "exchange"}
    assert {name for name, kind in kinds.items() if kind == "index"} == {"coingecko", "coinpaprika"}


@pytest.mark.parametrize(
    ("source", "pair", "path"),
    [
        ("binance", "BTC/USDT", "/api/v3/ticker/24hr?symbol=BTCUSDT"),
        ("bitstamp", "BTC/USDT", "/api/v2/ticker/btcusdt/"),
        ("bitfinex", "DOGE/USD", "/v1/pubticker/doge:usd"),
        ("bitfinex", "USDC/USD", "/v1/pubticker/udcusd"),
        ("kraken", "BTC/USD", "/0/public/Ticker?pair=XXBTZUSD"),
        ("kraken", "BTC/USDT", "/0/public/Ticker?pair=XBTUSDT"),
        ("okx", "TON/USDT", "/api/v5/market/ticker?instId=GRAM-USDT"),
        ("bitso", "BTC/USDT", "/api/v3/ticker?book=btc_usdt"),
        ("coinpaprika", "SOL/USD", "/v1/tickers/sol-solana?quotes=USD"),
    ],
)
def test_it_writes_a_pair_as_the_exchange_does(source: str, pair: str, path: str) -> None:
    assert load_catalogue()[source].request_path(pair) == path


@pytest.mark.needs_recordings
def test_it_asks_what_was_asked_when_the_bodies_were_recorded(recordings: Path) -> None:
    entries = load_catalogue()
    asked = {}
    for file in sorted((recordings / "ticker_responses").glob("*.json")):
        recording = json.loads(file.read_text())
        if str(recording["request_url"]).startswith("https://"):
            entry = entries[recording["exchange"]]
            asked[entry.base_url + entry.request_path(recording["symbol"])] = recording["request_url"]
    assert len(asked) >= 8
    assert list(asked) == list(asked.values())


@pytest.mark.needs_recordings
def test_every_entry_has_a_body_that_verifies_it(recordings: Path) -> None:
    recorded = {file.stem for file in (recordings / "ticker_responses").glob("*.json")}
    documented = {file.stem for file in FIXTURES.glob("*.json")}
    for name, entry in load_catalogue().items():
        assert name in (recorded if entry.verified == "recorded" else documented), name


def test_every_fetcher_of_the_shipped_configuration_has_sources_enough() -> None:
    """Four candidates for each coin, directly or through a dollar coin, and three for each dollar coin itself."""
    entries = load_catalogue()
    settings = load(PROJECT / "fairmark.toml", {})
    for name, fetcher in settings.fetchers.items():
        assert set(fetcher.sources) <= set(entries), name
        serves = {source: set(entries[source].pairs) for source in fetcher.sources}
        for base in ("BTC", "ETH", "SOL", "DOGE", "TON"):
            markets = {f"{base}/USD", f"{base}/USDT", f"{base}/USDC"}
            assert sum(bool(pairs & markets) for pairs in serves.values()) >= 4, (name, base)
        for dollar in ("USDT/USD", "USDC/USD"):
            assert sum(dollar in pairs for pairs in serves.values()) >= 3, (name, dollar)
    assert len({fetcher.sources for fetcher in settings.fetchers.values()}) == len(settings.fetchers)


def test_a_new_source_is_a_few_lines_and_no_code(tmp_path: Path) -> None:
    entry = load_catalogue(written(tmp_path, GOOD))["example"]
    assert entry.pairs == ("BTC/USD", "DOGE/USD")
    assert entry.request_path("BTC/USD") == "/ticker/btc-usd"
    assert entry.symbol("DOGE/USD") == "xdg_usd"


def test_a_pair_that_is_not_served_is_refused_by_name(tmp_path: Path) -> None:
    entry = load_catalogue(written(tmp_path, GOOD))["example"]
    for ask in (entry.symbol, entry.request_path, entry.expressions):
        with pytest.raises(UnsupportedPairError, match="example does not serve ETH/USD"):
            ask("ETH/USD")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('last = "last"', 'last = "data[0"', "ticker.last: 'data[0' is no JMESPath"),
        ('last = "last"', "", "example.toml: ticker.last: missing"),
        ('last = "last"', 'last = "last"\nlast_price = "x"', "ticker.last_price: no such setting; check its spelling"),
        ('last = "last"', 'last = "last"\nbid = "bid"', "bid and ask come together"),
        ("{symbol}", "{sybmol}", "path: no such placeholder as {sybmol}"),
        ("{symbol}", "fixed", "symbols.DOGE/USD: asks the same as BTC/USD"),
        ('"BTC/USD"', '"BTCUSD"', "'BTCUSD' is not a pair"),
        ('"xdg_usd"', '"xdg/usd?x=1"', "'xdg/usd?x=1' is no symbol"),
        ('"https://api', '"http://api', "base_url"),
        ('name = "example"', 'name = "other"', "name: 'other' is not the file's name"),
        ("[symbols]", "[symbols", "not TOML"),
        ('"documented"', '"believed"', "verified"),
    ],
)
def test_a_mistake_is_reported_with_its_file_and_place(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in GOOD
    (only,) = problems_of(written(tmp_path, GOOD.replace(old, new)))
    assert only.startswith("example.toml: ")
    assert problem in only


def test_every_mistake_of_every_file_is_listed_at_once(tmp_path: Path) -> None:
    written(tmp_path, GOOD.replace('title = "Example"', "").replace('"xdg_usd"', "7"))
    written(tmp_path, "nonsense", "broken")
    shutil.copy(CATALOGUE / "binance.toml", tmp_path)
    listed = problems_of(tmp_path)
    assert any(problem.startswith("broken.toml: not TOML") for problem in listed)
    assert "example.toml: title: missing" in listed
    assert any(problem.startswith("example.toml: symbols.DOGE/USD") for problem in listed)


def test_an_empty_folder_is_no_catalogue(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == ["no *.toml file in it"]
