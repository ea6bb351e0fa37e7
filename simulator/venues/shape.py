"""What a venue's format is made of: where its ticker is asked for, what the body looks like, how it says no. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from core.clock import rfc3339
from core.types import Pair

Json = Any
Answer = tuple[int, Json]
"""HTTP status and body."""

NOT_HERE: Answer = (404, {"error": "Not Found"})
"""To a path that this exchange does not have, or that the simulator does not serve."""

_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Market:
    """One pair's market as a venue would show it. Prices in the quote currency, volumes of the last 24 hours."""

    pair: Pair
    symbol: str
    last: Decimal
    bid: Decimal
    ask: Decimal
    time_ms: int
    traded: bool = True

    @property
    def base(self) -> str:
        return self.pair.base

    @property
    def quote(self) -> str:
        return self.pair.quote

    def percent(self, percent: int) -> Decimal:
        """So many percent of the last price, in its own price steps."""
        return (self.last * percent / 100).quantize(self.last) if self.last else self.last

    @property
    def open(self) -> Decimal:
        return self.percent(99)

    @property
    def high(self) -> Decimal:
        return self.percent(101)

    @property
    def low(self) -> Decimal:
        return self.percent(97)

    @property
    def change(self) -> Decimal:
        return self.last - self.open

    @property
    def volume(self) -> Decimal:
        """Of the base currency: some 50 million units of the quote currency's worth."""
        if not (self.last and self.traded):
            return Decimal(0)
        return (Decimal(50_000_000) / self.last).quantize(Decimal("0.0001"))

    @property
    def turnover(self) -> Decimal:
        """Of the quote currency."""
        return (self.volume * self.last).quantize(Decimal("0.0001"))

    @property
    def second(self) -> int:
        return self.time_ms // 1000

    @property
    def iso(self) -> str:
        return rfc3339(self.time_ms)

    @property
    def trade_id(self) -> int:
        """A number that grows by one a second."""
        return self.second - 1_600_000_000


def comma_list(value: str) -> list[str]:
    return value.split(",")


def json_list(value: str) -> list[str]:
    """`["BTCUSDT","ETHUSDT"]`; what is none of that names no symbol."""
    try:
        return msgspec.json.decode(value, type=list[str])
    except msgspec.MsgspecError:
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueBatch:
    """Where an exchange answers for several symbols at once.

    symbols_in: the query parameter that lists them, read by `split`; None: every market it has stands in the answer.
    body: of the markets and the time in ms. lenient: symbols that it does not know are left out of the answer, where
    others refuse the request for them.
    """

    path: str
    body: Callable[[Sequence[Market], int], Json]
    symbols_in: str | None = None
    split: Callable[[str], list[str]] = comma_list
    needs: Mapping[str, str] = field(default_factory=dict)
    lenient: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """One exchange's public ticker, in its own format.

    path: with `{symbol}` where the path names it. symbol_in: the query parameter that names it otherwise.
    needs: query parameters without which this exchange would not answer so.
    body: the ticker. refuse: its answer to a symbol it does not know, given that symbol and the time in ms.
    book: whether the format shows bid and ask. time: whether it shows a time. batch: how it answers for several.
    """

    name: str
    path: str
    body: Callable[[Market], Json]
    refuse: Callable[[str, int], Answer]
    symbol_in: str | None = None
    needs: Mapping[str, str] = field(default_factory=dict)
    book: bool = True
    time: bool = True
    batch: VenueBatch | None = None

    def symbols_asked(self, target: str, known: Sequence[str]) -> list[str] | None:
        """The symbols that a request target asks for at once, of those `known`; None where it is no such request."""
        if self.batch is None:
            return None
        path, _, query_text = target.partition("?")
        query = dict(parse_qsl(query_text, keep_blank_values=True))
        if path != self.batch.path or any(query.get(name) != value for name, value in self.batch.needs.items()):
            return None
        if self.batch.symbols_in is None:
            return None if self.symbol_in in query else list(known)
        symbols = self.batch.split(query.get(self.batch.symbols_in, ""))
        if len(symbols) < 2:  # one is a ticker request where both share a path
            return None
        return [each for each in symbols if each in known] if self.batch.lenient else symbols

    def symbol_asked(self, target: str) -> str | None:
        """The symbol that a request target (path and query) asks for, or None where it is no ticker request."""
        path, _, query_text = target.partition("?")
        query = dict(parse_qsl(query_text, keep_blank_values=True))
        if any(query.get(name) != value for name, value in self.needs.items()):
            return None
        if self.symbol_in is not None:
            return query.get(self.symbol_in) if path == self.path else None
        before, _, after = self.path.partition("{symbol}")
        if not (path.startswith(before) and path.endswith(after) and len(path) > len(before) + len(after)):
            return None
        symbol = path[len(before) : len(path) - len(after)]
        return None if "/" in symbol else unquote(symbol)

    def render(self, market: Market) -> bytes:
        """The ticker's body."""
        return _encoder.encode(self.body(market))

    def render_batch(self, markets: Sequence[Market], now_ms: int) -> bytes:
        """The body that answers for `markets` at once."""
        assert self.batch is not None  # noqa: S101 - asked only where `symbols_asked` said so
        return _encoder.encode(self.batch.body(markets, now_ms))

    def render_refusal(self, symbol: str | None, now_ms: int) -> tuple[int, bytes]:
        """Status and body for an unknown symbol; None: for a path that is no ticker's."""
        status, body = NOT_HERE if symbol is None else self.refuse(symbol, now_ms)
        return status, _encoder.encode(body)


def text(number: Decimal, places: int = 0) -> str:
    """Digits as exchanges write them: never an exponent, at least `places` decimals, none cut off."""
    have = -int(number.as_tuple().exponent)
    return f"{number:.{max(places, have, 0)}f}"
