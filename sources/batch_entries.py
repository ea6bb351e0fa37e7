"""How a source answers for many markets at once: the `[batch]` table of its catalogue file.

[batch]
path = "/v1/tickers?pairs={symbols}"  # without {symbols}: every market it has stands in the answer
max_symbols = 20                      # with {symbols}: how many one request may name
each = "%22{symbol}%22"               # optional: how each of {symbols} is written ("{symbol}")
separator = ","                       # optional: what stands between them
items = "data.list"                   # names that lead to the items; without it they are the body itself
symbol_echo = "pair"                  # the name in an item of its symbol; without it the items are an object by symbol
symbol = "{base}/{quote}"             # optional: the symbol in there, where it is not the one of [ticker]
last = "last"                         # last, bid, ask, volume, time: as in [ticker], from an item on
common_time = "data.ts"               # in place of time: names that lead to one for all
time_unit = "ms"                      # optional, as is error: those of [ticker] hold here too
at_least = 5                          # optional: fewer pairs than this are cheaper to ask one by one (2)
max_bytes = 1_048_576                 # optional: the longest body that is read (256 KiB)
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_BATCH_BYTES = 2 * 1024 * 1024
"""No source may declare a longer body."""

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_NAMES = rf"^{_NAME}(\.{_NAME}){{0,3}}$"
_SYMBOLS = "{symbols}"


class BatchFormat(BaseModel):
    """Where a source's tickers for many markets are, and how one of them is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str = Field(pattern=r"^/[!-~]*$")
    max_symbols: int | None = Field(default=None, ge=2, le=200)
    each: str = Field(default="{symbol}", pattern=r"^[!-~]*\{symbol\}[!-~]*$")
    separator: str = Field(default=",", pattern=r"^[!-~]+$")
    items: str | None = Field(default=None, pattern=_NAMES)
    symbol_echo: str | None = Field(default=None, pattern=rf"^{_NAME}$")
    symbol: str | None = Field(default=None, min_length=1)
    last: str = Field(min_length=1)
    bid: str | None = Field(default=None, min_length=1)
    ask: str | None = Field(default=None, min_length=1)
    volume: str | None = Field(default=None, min_length=1)
    time: str | None = Field(default=None, min_length=1)
    common_time: str | None = Field(default=None, pattern=_NAMES)
    time_unit: Literal["s", "ms", "us", "ns", "iso8601"] | None = None
    error: str | None = Field(default=None, min_length=1)
    at_least: int = Field(default=2, ge=2)
    max_bytes: int = Field(default=256 * 1024, ge=1024, le=MAX_BATCH_BYTES)

    @model_validator(mode="after")
    def _check(self) -> BatchFormat:
        if (self.bid is None) != (self.ask is None):
            raise ValueError("bid and ask come together or not at all")
        if self.time is not None and self.common_time is not None:
            raise ValueError("either time or common_time")
        if (_SYMBOLS in self.path) != (self.max_symbols is not None):
            raise ValueError(f"max_symbols goes with a path that names {_SYMBOLS}")
        if "{" in self.path.replace(_SYMBOLS, "", 1):
            raise ValueError(f"path: {_SYMBOLS} is the only placeholder, and stands there once")
        if self.symbol_echo is None and self.max_symbols is None:
            raise ValueError("symbol_echo: a list of all markets says which is which")
        return self

    def request_path(self, symbols: list[str]) -> str:
        """Path and query that ask for `symbols`, or for all there are."""
        named = self.separator.join(self.each.replace("{symbol}", symbol) for symbol in symbols)
        return self.path.replace(_SYMBOLS, named)
