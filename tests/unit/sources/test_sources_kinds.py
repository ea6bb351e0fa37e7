"""The kinds of source that need no ticker table: what their files may say, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.types import Pair
from sources import CatalogueError, load_catalogue
from sources.entries import CATALOGUE

HEAD = """
name = "{name}"
title = "Example"
verified = "documented"
verified_on = 2026-11-21
documentation = "https://docs.example.com"
"""
LINES = (
    HEAD + 'kind = "tcp"\nbase_url = "tcp://127.0.0.1:40101"\n[symbols]\n"BTC/USDT" = true\n"TON/USDT" = "GRAM-USDT"\n'
)
CCXT = (
    HEAD + 'kind = "ccxt"\nexchange = "bitopro"\nbase_url = "https://www.bitopro.com"\n[symbols]\n"BTC/USDT" = true\n'
)


def loaded(folder: Path, text: str, name: str = "example"):
    (folder / f"{name}.toml").write_text(text.replace("{name}", name), encoding="utf-8")
    return load_catalogue(folder)[name]


def test_lines_are_streamed_by_their_symbols(tmp_path: Path) -> None:
    entry = loaded(tmp_path, LINES)
    assert entry.streamed == (Pair("BTC/USDT"), Pair("TON/USDT"))
    assert [entry.symbol(pair) for pair in entry.streamed] == ["BTCUSDT", "GRAM-USDT"]


def test_ccxts_symbols_are_ours_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    entry = loaded(tmp_path, CCXT + '"ETH/USDC" = "ETH/USDC:USDC"\n')
    assert [entry.symbol(pair) for pair in entry.pairs] == ["BTC/USDT", "ETH/USDC:USDC"]
    assert entry.streamed == ()


def test_how_lines_write_a_symbol_may_be_declared(tmp_path: Path) -> None:
    entry = loaded(tmp_path, LINES.replace("[symbols]", '[ticker]\nsymbol = "{base}-{quote}"\n[symbols]'))
    assert entry.symbol("BTC/USDT") == "BTC-USDT"


@pytest.mark.parametrize(
    ("text", "old", "new", "words"),
    [
        (LINES, "tcp://127.0.0.1:40101", "tcp://127.0.0.1", "base_url: 'tcp://127.0.0.1' is not tcp://host:port"),
        (LINES, "tcp://127.0.0.1:40101", "https://example.com", "is not tcp://host:port"),
        (LINES, "[symbols]", '[ticker]\nlast = "p"\n[symbols]', "nothing but how a symbol is written"),
        (LINES, "[symbols]", '[inverse]\n"USDC/USDT" = true\n[symbols]', "has no stream, batch or inverse"),
        (LINES, '"GRAM-USDT"', '"BTCUSDT"', "asks the same as BTC/USDT"),
        (LINES, 'kind = "tcp"', "", "ticker: missing"),
        (CCXT, 'exchange = "bitopro"', "", "goes with kind 'ccxt', and with no other"),
        (LINES, 'kind = "tcp"', 'kind = "tcp"\nexchange = "x1"', "goes with kind 'ccxt', and with no other"),
        (CCXT, "https://www.bitopro.com", "http://www.bitopro.com", "is not https://host"),
        (CCXT, '"BTC/USDT" = true', '"BTC/USDT" = "BTCUSDT"', "is no symbol"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, text: str, old: str, new: str, words: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        loaded(tmp_path, text.replace(old, new, 1))
    assert words in str(caught.value)


def test_an_exchange_that_the_catalogue_has_too_must_be_named_as_relayed(tmp_path: Path) -> None:
    (tmp_path / "kraken.toml").write_text((CATALOGUE / "kraken.toml").read_text(encoding="utf-8"), encoding="utf-8")
    text = CCXT.replace("bitopro", "kraken", 1)
    with pytest.raises(CatalogueError, match="relays: name 'kraken', which is the same exchange"):
        loaded(tmp_path, text)
    assert loaded(tmp_path, text.replace("[symbols]", 'relays = ["kraken"]\n[symbols]')).relays == ["kraken"]
