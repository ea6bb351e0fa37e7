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


def test_it_holds_at_least_twenty_five_sources_of_which_few_are_indexes() -> None:
    entries = load_catalogue()
    assert len(entries) >= 25
    indexes = {name for name, entry in entries.items() if entry.kind == "index"}
    assert indexes == {"coingecko", "coinpaprika", "deribit", "dia"}
    for base in ("BTC", "ETH", "SOL"):
        markets = {f"{base}/USD", f"{base}/USDT", f"{base}/USDC"}
        assert sum(bool(markets & set(entry.pairs)) for entry in entries.values()) >= 25, base
    dollars = {"BTC/USD", "ETH/USD"}
    assert sum(dollars <= set(entry.pairs) for entry in entries.values()) >= 12


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
        ("htx", "USDC/USDT", "/market/detail/merged?symbol=usdcusdt"),
        ("upbit", "ETH/USDT", "/v1/ticker?markets=USDT-ETH"),
        ("backpack", "USDC/USDT", "/api/v1/ticker?symbol=USDT_USDC"),
        ("deribit", "TON/USDC", "/api/v2/public/get_index_price?index_name=ton_usdc"),
        (
            "independentreserve",
            "DOGE/USD",
            "/Public/GetMarketSummary?primaryCurrencyCode=Doge&secondaryCurrencyCode=Usd",
        ),
        ("dia", "BTC/USD", "/v1/assetQuotation/Bitcoin/0x0000000000000000000000000000000000000000"),
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


def test_a_market_listed_the_other_way_round_is_asked_by_its_own_name(tmp_path: Path) -> None:
    entry = load_catalogue(written(tmp_path, GOOD + '[inverse]\n"USDC/USDT" = true\n"USD/EUR" = "eur_usd"\n'))[
        "example"
    ]
    assert entry.pairs == ("BTC/USD", "DOGE/USD", "USDC/USDT", "USD/EUR")
    assert entry.request_path("USDC/USDT") == "/ticker/usdt-usdc"
    assert entry.request_path("USD/EUR") == "/ticker/eur_usd"
    assert [pair for pair in entry.pairs if entry.is_inverse(pair)] == ["USDC/USDT", "USD/EUR"]


def test_an_alias_names_its_market_and_is_not_asked(tmp_path: Path) -> None:
    entry = load_catalogue(written(tmp_path, GOOD + '[aliases]\n"BTC/USDC" = "BTC/USD"\n'))["example"]
    assert (entry.alias_of("BTC/USDC"), entry.alias_of("BTC/USD")) == ("BTC/USD", None)
    assert not entry.serves("BTC/USDC")


def test_coinbases_usdc_markets_are_its_usd_markets() -> None:
    coinbase = load_catalogue()["coinbase"]
    assert coinbase.aliases == {f"{base}/USDC": f"{base}/USD" for base in ("BTC", "ETH", "SOL", "DOGE", "USDT")}


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ('[inverse]\n"BTC/USD" = "USD-BTC"', "inverse.BTC/USD: is in symbols too"),
        ('[inverse]\n"USD/BTC" = true', "inverse.USD/BTC: asks the same as BTC/USD"),
        ('[inverse]\n"USD" = true', "inverse.USD: 'USD' is not a pair"),
        ('[inverse]\n"USD/EUR" = "e/u"', "inverse.USD/EUR: 'e/u' is no symbol"),
        ('[aliases]\n"DOGE/USD" = "BTC/USD"', "aliases.DOGE/USD: is asked as a market of its own too"),
        ('[aliases]\n"BTC/USDC" = "BTC/USDT"', "aliases.BTC/USDC: BTC/USDT is not in symbols"),
        ('[aliases]\n"ETH/USDC" = "BTC/USD"', "aliases.ETH/USDC: BTC/USD has another base"),
        ('[aliases]\n"BTCUSDC" = "BTC/USD"', "aliases.BTCUSDC: 'BTCUSDC' is not a pair"),
    ],
)
def test_a_wrong_inverse_or_alias_is_reported(tmp_path: Path, added: str, problem: str) -> None:
    (only,) = problems_of(written(tmp_path, GOOD + added))
    assert only.startswith("example.toml: ")
    assert problem in only


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
