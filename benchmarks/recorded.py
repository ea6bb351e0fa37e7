"""Recorded WebSocket sessions, as bytes and the time they came at, and how the exchange of that day is declared.

The bytes lie beside the project, in `../shared/data`, and are never copied. Where an exchange has changed its messages
since, what they were is declared here, in the catalogue's own words; everything else is the catalogue's.
"""

from __future__ import annotations

import gzip
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.figures import CannotMeasureError
from core.types import Pair
from sources import SourceEntry, load_catalogue
from sources.stream_entries import MessageFormat

RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "data"

_OF_THAT_DAY = {
    "binance": """
        [[messages]]
        carries = "trade"
        symbol = "stream"
        symbol_as = "{symbol}@aggTrade"
        price = "data.p"
        size = "data.q"
        id = "data.a"
        time = "data.T"
        sequence = "data.a"
        consecutive = true
        [[messages]]
        carries = "book"
        symbol = "stream"
        symbol_as = "{symbol}@bookTicker"
        bid = "data.b"
        ask = "data.a"
        sequence = "data.u"
    """,
    "gemini": """
        [[messages]]
        carries = "trade"
        when = { type = "trade" }
        symbol = "symbol"
        price = "price"
        size = "quantity"
        id = "event_id"
        time = "timestamp"
        sequence = "event_id"
    """,
    "kraken": """
        [[messages]]
        carries = "ticker"
        when = { "[2]" = "ticker" }
        symbol = "[3]"
        last = "[1].c[0]"
        bid = "[1].b[0]"
        ask = "[1].a[0]"
        [[messages]]
        carries = "trade"
        when = { "[2]" = "trade" }
        each = "[1]"
        symbol = "$.[3]"
        price = "[0]"
        size = "[1]"
        time = "[2]"
        time_unit = "s"
    """,
}
"""By source: its messages in 2021, where they are others today."""


@dataclass(frozen=True)
class Recording:
    """One recorded session. symbols: as in a catalogue file. old: its messages are those of `_OF_THAT_DAY`."""

    name: str
    source: str
    files: tuple[str, ...]
    symbols: Mapping[str, str | bool]
    old: bool = False

    def entry(self) -> SourceEntry:
        """The catalogue's entry with the pairs, and where need be the messages, of that day."""
        entry = _catalogue()[self.source]
        assert entry.stream is not None
        stream = entry.stream
        if self.old:
            tables = tomllib.loads(_OF_THAT_DAY[self.source])["messages"]
            stream = stream.model_copy(
                update={"messages": tuple(MessageFormat.model_validate(each) for each in tables)}
            )
        if self.source == "gemini":
            stream = stream.model_copy(update={"symbol": "{base}{quote}"})
        return entry.model_copy(update={"symbols": dict(self.symbols), "stream": stream})

    def messages(self) -> list[tuple[int, bytes]]:
        """What the exchange sent: milliseconds at receipt, and the message. Raises `CannotMeasureError`."""
        return [each for name in self.files for each in _read(name)]


@cache
def _catalogue() -> dict[str, SourceEntry]:
    return load_catalogue()


def lines(name: str) -> list[bytes]:
    """The lines of one recorded file. Raises `CannotMeasureError` where it is not here."""
    try:
        return gzip.decompress((RECORDINGS / name).read_bytes()).splitlines()
    except OSError as error:
        raise CannotMeasureError(f"no recording {RECORDINGS / name} ({error.strerror})") from error


def _read(name: str) -> Iterator[tuple[int, bytes]]:
    for line in lines(name):
        if not line or line.startswith((b"wss:", b"https:")):  # what the client sent, and where it connected
            continue
        at, _, message = line.partition(b" ")
        if message.startswith(b'{"lastUpdateId"'):  # a snapshot over REST
            continue
        if at.endswith(b":"):
            yield int(float(at[:-1]) * 1000), message
        else:  # nanoseconds
            yield int(at) // 1_000_000, message


def _all(*pairs: str) -> dict[str, str | bool]:
    return dict.fromkeys(pairs, True)


SPOT = ("binance_spot_trades/btcusdt_20240808.gz", "binance_spot_trades/ethusdt_20240808.gz")
RECORDED = (
    Recording("binance 2024 BTCUSDT", "binance", SPOT[:1], _all("BTC/USDT")),
    Recording("binance 2024 ETHUSDT", "binance", SPOT[1:], _all("ETH/USDT")),
    Recording(
        "binance 2021",
        "binance",
        ("websocket_captures/BINANCE.ws.1.0.gz",),
        _all("NKN/USDT", "BLZ/ETH", "LRC/BTC", "RUNE/EUR"),
        old=True,
    ),
    Recording(
        "bitstamp",
        "bitstamp",
        ("websocket_captures/BITSTAMP.ws.1.0.gz",),
        _all(
            "SGB/EUR",
            "ETH/USD",
            "XRP/EUR",
            "BAT/EUR",
            "USDT/EUR",
            "USDT/USD",
            "XLM/GBP",
            "ADA/EUR",
            "BAT/BTC",
            "GALA/EUR",
        ),
    ),
    Recording(
        "coinbase",
        "coinbase",
        ("websocket_captures/COINBASE.ws.28.0.gz",),
        _all(
            "SKL/USD",
            "SKL/BTC",
            "BAND/GBP",
            "NMR/EUR",
            "BAND/BTC",
            "YFI/BTC",
            "DASH/BTC",
            "NU/GBP",
            "CRV/EUR",
            "SKL/GBP",
        ),
    ),
    Recording(
        "gemini",
        "gemini",
        ("websocket_captures/GEMINI.ws.1.0.gz",),
        _all(
            "BTC/GBP",
            "LINK/ETH",
            "FIL/USD",
            "ZEC/LTC",
            "BAT/BTC",
            "ETH/EUR",
            "LTC/ETH",
            "GRT/USD",
            "ANKR/USD",
            "ALCX/USD",
        ),
        old=True,
    ),
    Recording(
        "kraken",
        "kraken",
        tuple(f"websocket_captures/KRAKEN.ws.{number}.0.gz" for number in (48, 49, 50)),
        _all(
            "WAVES/EUR",
            "XMR/USD",
            "KSM/XBT",
            "GRT/ETH",
            "SC/EUR",
            "ETH/CHF",
            "OCEAN/XBT",
            "OMG/USD",
            "XBT/CHF",
            "ADA/XBT",
        ),
        old=True,
    ),
    Recording(
        "okx",
        "okx",
        ("websocket_captures/OKX.ws.1.0.gz",),
        {"BTC/USD": "BTC-USD-220527", "UNI/USD": "UNI-USD-SWAP", "BTC/USDT": True},
    ),
)


def pairs(recording: Recording) -> tuple[Pair, ...]:
    return tuple(Pair(text) for text in recording.symbols)
