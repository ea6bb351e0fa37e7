"""How an exchange's WebSocket stream is declared: the `[stream]` table of its file in `sources/catalogue/`.

    [stream]
    url = "wss://stream.example.com/ws"
    verified = "documented"           # or "recorded": what its test messages come from
    verified_on = 2026-11-21
    documentation = "https://docs.example.com/ws"
    symbol = "{symbol}"               # how it writes a pair here; default: as for the ticker
    acknowledged = "event == 'subscribe'"   # JMESPath into a message that is no data; truthy: a subscription stands
    rejected = "event == 'error' && msg"    # truthy: the text of a refusal
    leave = "event == 'reconnect'"    # truthy: the exchange asks us to connect anew
    ping = '{"op":"ping"}'            # what to send every ping_s seconds; default: a WebSocket ping frame
    ping_s = 20
    silence_s = 45                    # nothing at all for so long, not even a pong: the connection is dead
    pause_s = 0.25                    # between two messages of ours, for the exchange's limit on them
    pairs = 50                        # on one connection, at most
    [[stream.subscribe]]
    send = '{"op":"subscribe","id":{n},"args":[{items}]}'
    item = '"ticker.{symbol}"'        # one for each pair, joined by commas
    batch = 10                        # items in one message
    trades = false                    # true: only where somebody wants each trade
    [[stream.messages]]
    carries = "ticker"                # ticker: last, and bid and ask where it has them; book: bid and ask; trade
    when = { channel = "ticker" }     # these must stand in it: texts and integers
    each = "data"                     # its list of items; default: the message itself is the one item
    symbol = "s"                      # in an item; "$.arg.s" is in the message itself
    symbol_as = "ticker.{symbol}"     # how the symbol stands there
    last = "c"                        # ticker: last, bid, ask; book: bid, ask; trade: price, size, and id
    volume = "v"                      # ticker, optional: traded in 24 hours, in the base currency; may be missing
    time = "ts"
    time_unit = "ms"
    sequence = "seq"                  # numbers by which losses and repetitions are seen
    consecutive = true                # each by one more than the last of its pair; else: they only rise
    marker = '"c":'                   # bytes that only these messages hold, where `when` does not tell them apart
    [stream.answer]                   # what the exchange wants answered
    when = "method == 'heartbeat'"
    send = '{"id":{id},"method":"pong"}'    # {name}: that field of its message

Paths are plain: names and indexes, `b[0][0]`. They become the very shape that a message is decoded into, so that
nothing else of it is ever built.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Literal

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sources.paths import plain_steps

TimeUnit = Literal["s", "ms", "us", "ns", "iso8601"]

_WORDS = {"symbol", "symbol_lower", "base", "quote", "base_lower", "quote_lower"}
_SEND_WORDS = {"items", "n", "now_s"}
_BRACES = re.compile(r"\{(\w+)\}")
_SYMBOL = re.compile(r"[A-Za-z0-9:_/.-]{2,40}")
_FIELDS = {
    "ticker": ({"last"}, {"bid", "ask", "volume"}),
    "book": ({"bid", "ask"}, set()),
    "trade": ({"price", "size"}, {"id"}),
}


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def fill(template: str, words: dict[str, str]) -> str:
    """`template` with its `{words}` filled in; braces around anything else stay as they are."""
    return _BRACES.sub(lambda match: words.get(match[1], match[0]), template)


class Subscribe(_Table):
    """One kind of message that subscribes pairs. trades: sent only where each trade is wanted."""

    send: str = Field(min_length=1)
    item: str = Field(min_length=1)
    batch: int = Field(default=1, ge=1, le=1_000)
    trades: bool = False

    @model_validator(mode="after")
    def _check(self) -> Subscribe:
        _only_words("send", self.send, _SEND_WORDS)
        _only_words("item", self.item, _WORDS)
        if "{items}" not in self.send:
            raise ValueError("send: without {items} it subscribes nothing")
        return self


class Answer(_Table):
    """A message of the exchange that wants an answer."""

    when: str = Field(min_length=1)
    send: str = Field(min_length=1)


class MessageFormat(_Table):
    """One kind of data message, and where its fields stand."""

    carries: Literal["ticker", "book", "trade"]
    when: dict[str, str | int] = {}
    marker: str | None = Field(default=None, min_length=2)
    each: str | None = Field(default=None, min_length=1)
    symbol: str = Field(min_length=1)
    symbol_as: str = Field(default="{symbol}", min_length=1)
    last: str | None = None
    bid: str | None = None
    ask: str | None = None
    volume: str | None = None
    price: str | None = None
    size: str | None = None
    id: str | None = None
    time: str | None = None
    time_unit: TimeUnit = "ms"
    sequence: str | None = None
    consecutive: bool = False

    @model_validator(mode="after")
    def _check(self) -> MessageFormat:
        needed, allowed = _FIELDS[self.carries]
        names = ("last", "bid", "ask", "volume", "price", "size", "id")
        given = {name for name in names if getattr(self, name) is not None}
        if missing := needed - given:
            raise ValueError(f"a {self.carries} needs {', '.join(sorted(missing))}")
        if extra := given - needed - allowed:
            raise ValueError(f"a {self.carries} has no {', '.join(sorted(extra))}")
        if (self.bid is None) != (self.ask is None):
            raise ValueError("bid and ask come together or not at all")
        _only_words("symbol_as", self.symbol_as, _WORDS)
        for path in (*self.when, self.each, self.symbol, self.time, self.sequence, *(getattr(self, n) for n in given)):
            if path is not None:
                _check_path(path)
        return self


class StreamFormat(_Table):
    """An exchange's stream. See the module for what each setting means."""

    url: str = Field(pattern=r"^wss://[a-z0-9.-]+(:\d+)?(/[\w./-]*)?$")
    verified: Literal["recorded", "documented"]
    verified_on: date
    documentation: str = Field(pattern=r"^https://\S+$")
    symbol: str = Field(default="{symbol}", min_length=1)
    acknowledged: str | None = None
    rejected: str | None = None
    leave: str | None = None
    ping: str | None = Field(default=None, min_length=1)
    ping_s: float = Field(default=20.0, ge=1, le=600)
    silence_s: float = Field(default=60.0, ge=1, le=600)
    pause_s: float = Field(default=0.0, ge=0, le=5)
    pairs: int = Field(default=50, ge=1, le=1_000)
    subscribe: tuple[Subscribe, ...] = Field(min_length=1)
    messages: tuple[MessageFormat, ...] = Field(min_length=1)
    answer: Answer | None = None

    @field_validator("subscribe", "messages", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _check(self) -> StreamFormat:
        _only_words("symbol", self.symbol, _WORDS)
        if self.silence_s <= self.ping_s:
            raise ValueError("silence_s: a ping must have the time to be answered; make it longer than ping_s")
        if all(each.trades for each in self.subscribe):
            raise ValueError("subscribe: nothing is left where nobody wants the trades")
        for name in ("acknowledged", "rejected", "leave"):
            if (text := getattr(self, name)) is not None:
                _check_jmespath(name, text)
        if self.answer is not None:
            _check_jmespath("answer.when", self.answer.when)
        return self

    def words(self, base: str, quote: str, ticker_symbol: str) -> dict[str, str]:
        """What the templates of one pair are filled with. Raises `ValueError` where that gives no symbol."""
        words = {"base": base, "quote": quote, "base_lower": base.lower(), "quote_lower": quote.lower()}
        words |= {"symbol": ticker_symbol, "symbol_lower": ticker_symbol.lower()}
        symbol = fill(self.symbol, words)
        if not _SYMBOL.fullmatch(symbol):
            raise ValueError(f"stream.symbol: {symbol!r} is no symbol: letters, digits and any of : _ / . -")
        return words | {"symbol": symbol, "symbol_lower": symbol.lower()}


def _only_words(where: str, template: str, words: set[str]) -> None:
    for word in _BRACES.findall(template):
        if word not in words:
            raise ValueError(f"{where}: no such placeholder as {{{word}}}")


def _check_path(path: str) -> None:
    try:
        plain = plain_steps(path.removeprefix("$."))
    except JMESPathError:
        plain = None
    if plain is None or any(isinstance(step, int) and not 0 <= step < 64 for step in plain):
        raise ValueError(f"{path!r} is no plain path: names, and indexes from 0 to 63")


def _check_jmespath(where: str, text: str) -> None:
    try:
        jmespath.compile(text)
    except JMESPathError as error:
        raise ValueError(f"{where}: {text!r} is no JMESPath: {str(error).splitlines()[0]}") from error
