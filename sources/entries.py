"""The catalogue: one TOML file an exchange, in `sources/catalogue/`. A new source is a few lines there and no code.

    name = "example"                  # the file's name
    title = "Example Exchange"
    base_url = "https://api.example.com"
    verified = "documented"           # or "recorded": what its test body comes from
    verified_on = 2026-11-20
    documentation = "https://docs.example.com/ticker"
    [ticker]
    path = "/v1/ticker?pair={symbol}"
    last = "data[0].last"             # JMESPath into the body
    bid = "data[0].bid"               # bid and ask: both or neither
    ask = "data[0].ask"
    time = "data[0].ts"               # optional: without it only the receipt tells a quote's age
    time_unit = "ms"                  # s, ms, us, ns or iso8601
    symbol = "{base}-{quote}"         # how it writes a pair
    symbol_echo = "data[0].pair"      # optional: must equal the symbol asked for
    error = "code != '0' && msg"      # optional: a truthy result is an error message
    [symbols]
    "BTC/USDT" = true                 # by the template
    "DOGE/USD" = "XDGUSD"             # or spelled out

Templates and paths know `{symbol}`, `{base}`, `{quote}`, `{base_lower}` and `{quote_lower}`; the same words may stand
in a JMESPath, where a body nests under them.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from jmespath.exceptions import JMESPathError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.types import Pair
from sources.errors import CatalogueError, UnsupportedPairError
from sources.paths import BodyPath, compile_path

CATALOGUE = Path(__file__).parent / "catalogue"

TimeUnit = Literal["s", "ms", "us", "ns", "iso8601"]

_PLACEHOLDER = re.compile(r"\{(symbol|base|quote|base_lower|quote_lower)\}")
_ANY_WORD_IN_BRACES = re.compile(r"\{\w*\}")
_SYMBOL = re.compile(r"[A-Za-z0-9:_-]{2,40}")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TickerFormat(_Table):
    """Where a source's ticker is and how its body is read."""

    path: str = Field(pattern=r"^/[!-~]*$")
    last: str = Field(min_length=1)
    bid: str | None = Field(default=None, min_length=1)
    ask: str | None = Field(default=None, min_length=1)
    time: str | None = Field(default=None, min_length=1)
    time_unit: TimeUnit = "ms"
    symbol: str = Field(default="{base}{quote}", min_length=1)
    symbol_echo: str | None = Field(default=None, min_length=1)
    error: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _check(self) -> TickerFormat:
        if (self.bid is None) != (self.ask is None):
            raise ValueError("bid and ask come together or not at all")
        if "{symbol}" in self.symbol:
            raise ValueError("symbol: the template cannot hold {symbol} itself")
        for where, text in (("path", self.path), ("symbol", self.symbol)):
            for word in _ANY_WORD_IN_BRACES.findall(text):
                if not _PLACEHOLDER.fullmatch(word):
                    raise ValueError(f"{where}: no such placeholder as {word}")
        return self


class Expressions:
    """A format's JMESPath expressions, compiled for one pair. Raises `ValueError` naming one that does not compile."""

    __slots__ = ("ask", "bid", "error", "last", "symbol_echo", "time")

    def __init__(self, ticker: TickerFormat, words: dict[str, str]) -> None:
        self.last = _compiled("last", ticker.last, words)
        self.bid = _optional("bid", ticker.bid, words)
        self.ask = _optional("ask", ticker.ask, words)
        self.time = _optional("time", ticker.time, words)
        self.error = _optional("error", ticker.error, words)
        self.symbol_echo = _optional("symbol_echo", ticker.symbol_echo, words)


class SourceEntry(_Table):
    """One source, as its TOML file declares it.

    kind: an `exchange` trades what it quotes; an `index` averages exchanges, and its numbers lag by seconds to minutes.
    verified: whether the format is tested against a `recorded` body or one from the exchange's own documentation.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    title: str = Field(min_length=1)
    kind: Literal["exchange", "index"] = "exchange"
    base_url: str = Field(pattern=r"^https://[a-z0-9.-]+(:\d+)?(/[\w./-]*\w)?$")
    verified: Literal["recorded", "documented"]
    verified_on: date
    documentation: str = Field(pattern=r"^https://\S+$")
    ticker: TickerFormat
    symbols: dict[str, str | Literal[True]] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> SourceEntry:
        problems = []
        seen: dict[str, str] = {}
        for text in self.symbols:
            try:
                pair = Pair(text)
                symbol = self._symbol(pair)
                Expressions(self.ticker, _words(pair, symbol))
            except ValueError as error:
                problems.append(f"symbols.{text}: {error}")
                continue
            if not _SYMBOL.fullmatch(symbol):
                problems.append(f"symbols.{text}: {symbol!r} is no symbol: letters, digits, ':', '_' and '-'")
            if self.request_path(pair) in seen:
                problems.append(f"symbols.{text}: asks the same as {seen[self.request_path(pair)]}")
            seen[self.request_path(pair)] = text
        if problems:
            raise ValueError("; ".join(dict.fromkeys(problems)))
        return self

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs this source serves, in the file's order."""
        return tuple(Pair(text) for text in self.symbols)

    def symbol(self, pair: str) -> str:
        """How this source writes `pair`. Raises `UnsupportedPairError`."""
        if pair not in self.symbols:
            raise UnsupportedPairError(f"{self.name} does not serve {pair}")
        return self._symbol(Pair(pair))

    def request_path(self, pair: str) -> str:
        """Path and query that ask for `pair`, to stand behind the base URL. Raises `UnsupportedPairError`."""
        return _fill(self.ticker.path, _words(Pair(pair), self.symbol(pair)))

    def expressions(self, pair: str) -> Expressions:
        """The compiled paths into the body of `pair`. Raises `UnsupportedPairError`."""
        if pair not in self.symbols:
            raise UnsupportedPairError(f"{self.name} does not serve {pair}")
        return self._compiled[pair]

    @cached_property
    def _compiled(self) -> dict[str, Expressions]:
        return {pair: Expressions(self.ticker, _words(pair, self._symbol(pair))) for pair in self.pairs}

    def _symbol(self, pair: Pair) -> str:
        declared = self.symbols[pair]
        return _fill(self.ticker.symbol, _words(pair, "")) if declared is True else declared


def load_catalogue(folder: Path | None = None) -> dict[str, SourceEntry]:
    """Every source of `folder` (default: the catalogue that comes with Fairmark) by name, in alphabetical order.

    Raises `CatalogueError` with every problem of every file.
    """
    where = folder or CATALOGUE
    entries: dict[str, SourceEntry] = {}
    problems: list[str] = []
    for path in sorted(where.glob("*.toml")):
        try:
            entry = SourceEntry.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            problems.append(f"{path.name}: not TOML: {error}")
        except OSError as error:
            problems.append(f"{path.name}: cannot be read: {error.strerror}")
        except ValidationError as error:
            problems += [f"{path.name}: {_problem(detail)}" for detail in error.errors()]
        else:
            if entry.name != path.stem:
                problems.append(f"{path.name}: name: {entry.name!r} is not the file's name")
            entries[path.stem] = entry
    if not entries and not problems:
        problems.append("no *.toml file in it")
    if problems:
        raise CatalogueError(problems, str(where))
    return entries


def _words(pair: Pair, symbol: str) -> dict[str, str]:
    base, quote = pair.base, pair.quote
    lower = {"base_lower": base.lower(), "quote_lower": quote.lower()}
    return {"symbol": symbol, "base": base, "quote": quote, **lower}


def _fill(template: str, words: dict[str, str]) -> str:
    # not str.format: braces mean something in JMESPath too
    return _PLACEHOLDER.sub(lambda match: words[match[1]], template)


def _compiled(field: str, text: str, words: dict[str, str]) -> BodyPath:
    try:
        return compile_path(_fill(text, words))
    except JMESPathError as error:
        raise ValueError(f"ticker.{field}: {text!r} is no JMESPath: {str(error).splitlines()[0]}") from error


def _optional(field: str, text: str | None, words: dict[str, str]) -> BodyPath | None:
    return None if text is None else _compiled(field, text, words)


def _problem(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "no such setting; check its spelling"
    elif detail["type"] == "missing":
        message = "missing"
    return f"{place}: {message}" if place else message
