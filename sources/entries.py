"""The catalogue: one TOML file an exchange, in `sources/catalogue/`. A new source is a few lines there and no code.

    name = "example"                  # the file's name
    title = "Example Exchange"
    base_url = "https://api.example.com"
    verified = "documented"           # or "recorded": what its test body comes from
    verified_on = 2026-11-20
    documentation = "https://docs.example.com/ticker"
    relays = ["other"]                # optional: sources whose prices it passes on, so that both count once
    [ticker]
    path = "/v1/ticker?pair={symbol}"
    last = "data[0].last"             # JMESPath into the body
    bid = "data[0].bid"               # bid and ask: both or neither
    ask = "data[0].ask"
    time = "data[0].ts"               # optional: without it only the receipt tells a quote's age
    time_unit = "ms"                  # s, ms, us, ns or iso8601
    symbol = "{base}-{quote}"         # how it writes a pair
    symbol_echo = "data[0].pair"      # optional: must equal the symbol asked for
    volume = "data[0].vol"            # optional: traded in 24 hours (or in the last trade), in the base currency
    error = "code != '0' && msg"      # optional: a truthy result is an error message
    [symbols]
    "BTC/USDT" = true                 # by the template
    "DOGE/USD" = "XDGUSD"             # or spelled out
    [inverse]                         # optional: listed the other way round, so that its price is one over ours
    "USDC/USDT" = true                # by the template, base and quote exchanged: USDT-USDC
    [aliases]                         # optional: another name of a market that is served, sharing its book
    "BTC/USDC" = "BTC/USD"            # says nothing of USDC, and is never asked beside the other

A source that sends lines of JSON over TCP is `kind = "tcp"`, with `base_url = "tcp://host:port"` (see `sources.lines`).
One that ccxt reads is `kind = "ccxt"`, with `exchange = "kraken"`, ccxt's name for it (see `sources.through_ccxt`).
Both need no `[ticker]` table; it may say how they write a `symbol`, where not `{base}{quote}` and `{base}/{quote}`.

A `[stream]` table declares its WebSocket stream: see `sources.stream_entries`.
A source that answers for many markets at once says so in a table `[batch]`: see `sources.batch_entries`.
A table `[limit]` declares how much may be asked of it: see `sources.limit_entries`.

Templates and paths know `{symbol}`, `{base}`, `{quote}`, `{base_lower}` and `{quote_lower}`; the same words may stand
in a JMESPath, where a body nests under them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from copy import copy
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from jmespath.exceptions import JMESPathError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.types import Pair
from sources.batch_entries import BatchFormat
from sources.errors import CatalogueError, UnsupportedPairError
from sources.limit_entries import UNDECLARED, LimitFormat
from sources.paths import BodyPath, compile_path
from sources.stream_entries import StreamFormat

CATALOGUE = Path(__file__).parent / "catalogue"

TimeUnit = Literal["s", "ms", "us", "ns", "iso8601"]

_PLACEHOLDER = re.compile(r"\{(symbol|base|quote|base_lower|quote_lower)\}")
_ANY_WORD_IN_BRACES = re.compile(r"\{\w*\}")
_SYMBOL = re.compile(r"[A-Za-z0-9:_-]{2,40}")
_CCXT_SYMBOL = re.compile(r"[A-Z0-9]{1,20}/[A-Z0-9]{1,20}(:[A-Z0-9-]{1,20})?")
_HTTPS = re.compile(r"https://[a-z0-9.-]+(:\d+)?(/[\w./-]*\w)?")
_TCP = re.compile(r"tcp://[a-z0-9.-]+:\d{1,5}")
_FIXED: dict[str, dict[str, str]] = {
    "tcp": {"path": "/", "last": "price", "time": "timestamp", "symbol": "{base}{quote}", "symbol_echo": "symbol"},
    "ccxt": {
        "path": "/{symbol}",
        "last": "last",
        "bid": "bid",
        "ask": "ask",
        "volume": "baseVolume",
        "time": "timestamp",
        "symbol": "{base}/{quote}",
        "symbol_echo": "symbol",
    },
}
"""By kind, the ticker that needs no declaration: a line is one, and so is what ccxt hands on."""


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
    volume: str | None = Field(default=None, min_length=1)
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

    __slots__ = ("ask", "bid", "error", "last", "symbol_echo", "time", "volume")

    def without_time(self) -> Expressions:
        """The same, for a ticker that tells no time."""
        other = copy(self)
        other.time = None
        return other

    def __init__(self, ticker: TickerFormat | BatchFormat, words: dict[str, str]) -> None:
        self.last = _compiled("last", ticker.last, words)
        self.bid = _optional("bid", ticker.bid, words)
        self.ask = _optional("ask", ticker.ask, words)
        self.time = _optional("time", ticker.time, words)
        self.volume = _optional("volume", ticker.volume, words)
        self.error = _optional("error", ticker.error, words)
        # an item of a batch was found by its symbol
        self.symbol_echo = (
            _optional("symbol_echo", ticker.symbol_echo, words) if isinstance(ticker, TickerFormat) else None
        )


class SourceEntry(_Table):
    """One source, as its TOML file declares it.

    kind: an `exchange` trades what it quotes; an `index` averages exchanges, and its numbers lag by seconds to minutes;
    `tcp` is read as lines from its base_url, and `ccxt` by ccxt, which calls it `exchange`.
    verified: whether the format is tested against a `recorded` body or one from the exchange's own documentation.
    inverse: pairs that the source lists the other way round; `parse_ticker` turns such a ticker over.
    aliases: pairs that are only another name of one that is served: one book, so one price, and in that one's currency.
    relays: sources whose prices this one passes on, so that both count once (see `fetchers.families`).
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    title: str = Field(min_length=1)
    kind: Literal["exchange", "index", "tcp", "ccxt"] = "exchange"
    base_url: str
    exchange: str | None = Field(default=None, pattern=r"^[a-z0-9]{2,40}$")
    verified: Literal["recorded", "documented"]
    verified_on: date
    documentation: str = Field(pattern=r"^https://\S+$")
    ticker: TickerFormat
    symbols: dict[str, str | Literal[True]] = Field(min_length=1)
    inverse: dict[str, str | Literal[True]] = {}
    aliases: dict[str, str] = {}
    relays: list[str] = []
    stream: StreamFormat | None = None
    batch: BatchFormat | None = None
    limit: LimitFormat = UNDECLARED

    @model_validator(mode="before")
    @classmethod
    def _fix_ticker(cls, tables: Any) -> Any:
        fixed = _FIXED.get(tables.get("kind", "")) if isinstance(tables, dict) else None
        if fixed is None:
            return tables
        own = tables.get("ticker", {})
        if not isinstance(own, dict) or set(own) - {"symbol"}:
            raise ValueError(f"ticker: kind '{tables['kind']}' lets it hold nothing but how a symbol is written")
        return {**tables, "ticker": {**fixed, **own}}

    def _kind_problems(self) -> list[str]:
        problems = []
        if not (_TCP if self.kind == "tcp" else _HTTPS).fullmatch(self.base_url):
            wanted = "tcp://host:port" if self.kind == "tcp" else "https://host, without a slash at its end"
            problems.append(f"base_url: {self.base_url!r} is not {wanted}")
        if (self.kind == "ccxt") != (self.exchange is not None):
            problems.append("exchange: ccxt's name for it goes with kind 'ccxt', and with no other")
        if self.kind in _FIXED and (self.stream or self.batch or self.inverse):
            problems.append(f"kind '{self.kind}' has no stream, batch or inverse")
        return problems

    @model_validator(mode="after")
    def _check(self) -> SourceEntry:
        problems = self._kind_problems()
        pattern = _CCXT_SYMBOL if self.kind == "ccxt" else _SYMBOL
        seen: dict[str, str] = {}
        for table, text in [
            *(("symbols", text) for text in self.symbols),
            *(("inverse", text) for text in self.inverse),
        ]:
            try:
                pair = Pair(text)
                symbol = self._symbol(pair)
                Expressions(self.ticker, self._words(pair))
                if self.batch is not None:
                    Expressions(self.batch, self._words(pair))
                    self.batch_symbol(pair)
            except ValueError as error:
                problems.append(f"{table}.{text}: {error}")
                continue
            if not pattern.fullmatch(symbol):
                problems.append(f"{table}.{text}: {symbol!r} is no symbol: letters, digits, ':', '_' and '-'")
            asked = symbol if self.kind == "tcp" else self.request_path(pair)
            if asked in seen:
                problems.append(f"{table}.{text}: asks the same as {seen[asked]}")
            seen[asked] = text
        problems += [f"inverse.{text}: is in symbols too" for text in self.inverse if text in self.symbols]
        problems += [
            f"aliases.{text}: {what}" for text, of in self.aliases.items() if (what := self._misnomer(text, of))
        ]
        if not problems:
            shown = self.streamed if self.stream is not None else ()
            problems += [problem for pair in shown if (problem := self._stream_problem(pair))]
        if problems:
            raise ValueError("; ".join(dict.fromkeys(problems)))
        return self

    def _misnomer(self, text: str, of: str) -> str | None:
        """Why `text` cannot be another name of `of`, or None."""
        try:
            alias, pair = Pair(text), Pair(of)
        except ValueError as error:
            return str(error)
        if alias in self.symbols or alias in self.inverse:
            return "is asked as a market of its own too"
        if pair not in self.symbols:
            return f"{pair} is not in symbols"
        return None if alias.base == pair.base else f"{pair} has another base"

    def _stream_problem(self, pair: Pair) -> str | None:
        try:
            self.stream_words(pair)
        except ValueError as error:
            return f"symbols.{pair}: {error}"
        return None

    @property
    def streamed(self) -> tuple[Pair, ...]:
        """The pairs that this source's stream shows as we write them, if it has one."""
        return () if self.stream is None and self.kind != "tcp" else tuple(Pair(text) for text in self.symbols)

    def stream_words(self, pair: Pair) -> dict[str, str]:
        """What the templates of this source's stream are filled with for `pair`. Raises `ValueError`."""
        if self.stream is None:
            raise ValueError(f"{self.name} declares no stream")
        return self.stream.words(pair.base, pair.quote, self.symbol(pair))

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs this source serves, in the file's order."""
        return tuple(Pair(text) for text in (*self.symbols, *self.inverse))

    def serves(self, pair: str) -> bool:
        return pair in self.symbols or pair in self.inverse

    def is_inverse(self, pair: str) -> bool:
        """Whether this source lists `pair` the other way round."""
        return pair in self.inverse

    def alias_of(self, pair: str) -> Pair | None:
        """The market that `pair` is only another name of here, or None."""
        of = self.aliases.get(pair)
        return None if of is None else Pair(of)

    def symbol(self, pair: str) -> str:
        """How this source writes `pair`. Raises `UnsupportedPairError`."""
        written = self._written.get(pair)
        if written is None:
            if not self.serves(pair):
                raise UnsupportedPairError(f"{self.name} does not serve {pair}")
            written = self._written[pair] = self._symbol(Pair(pair))
        return written

    def request_path(self, pair: str) -> str:
        """Path and query that ask for `pair`, to stand behind the base URL. Raises `UnsupportedPairError`."""
        self.symbol(pair)
        return _fill(self.ticker.path, self._words(Pair(pair)))

    def expressions(self, pair: str) -> Expressions:
        """The compiled paths into the body of `pair`. Raises `UnsupportedPairError`."""
        if not self.serves(pair):
            raise UnsupportedPairError(f"{self.name} does not serve {pair}")
        return self._compiled[pair]

    def batch_path(self, pairs: Iterable[str]) -> str:
        """Path and query that ask for `pairs` at once. Raises `UnsupportedPairError`."""
        return self._batch.request_path([self.symbol(pair) for pair in pairs])

    def batch_symbol(self, pair: str) -> str:
        """How the items of a batch write `pair`. Raises `UnsupportedPairError`."""
        symbol, template = self.symbol(pair), self._batch.symbol
        return symbol if template is None else _fill(template, self._words(Pair(pair)))

    def batch_expressions(self, pair: str) -> Expressions:
        """The compiled paths into the item of `pair`. Raises `UnsupportedPairError`."""
        self.symbol(pair)
        return self._compiled_batch[pair]

    @cached_property
    def batch_error(self) -> BodyPath | None:
        """The compiled path to an error message in a batch's body."""
        return _optional("error", self._batch.error or self.ticker.error, {})

    @property
    def batch_time_unit(self) -> TimeUnit:
        return self._batch.time_unit or self.ticker.time_unit

    @property
    def _batch(self) -> BatchFormat:
        if self.batch is None:
            raise UnsupportedPairError(f"{self.name} answers for no more than one pair at once")
        return self.batch

    @cached_property
    def _written(self) -> dict[str, str]:
        """How this source writes the pairs that it was asked for so far: every body is checked against it."""
        return {}

    @cached_property
    def _compiled_batch(self) -> dict[str, Expressions]:
        return {pair: Expressions(self._batch, self._words(pair)) for pair in self.pairs}

    @cached_property
    def _compiled(self) -> dict[str, Expressions]:
        return {pair: Expressions(self.ticker, self._words(pair)) for pair in self.pairs}

    def _symbol(self, pair: Pair) -> str:
        declared = self.symbols[pair] if pair in self.symbols else self.inverse[pair]
        return _fill(self.ticker.symbol, _words(self._listed(pair), "")) if declared is True else declared

    def _words(self, pair: Pair) -> dict[str, str]:
        """What stands for the placeholders, with the market as this source lists it."""
        return _words(self._listed(pair), self._symbol(pair))

    def _listed(self, pair: Pair) -> Pair:
        return Pair.of(pair.quote, pair.base) if pair in self.inverse and pair not in self.symbols else pair


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
    for name, entry in entries.items():
        unknown = [other for other in entry.relays if other not in entries or other == name]
        problems += [f"{name}.toml: relays: {other!r} is no other source of the catalogue" for other in unknown]
        if entry.exchange in entries and entry.exchange not in entry.relays:
            problems.append(f"{name}.toml: relays: name {entry.exchange!r}, which is the same exchange")
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
