"""cryptofeed on recorded bytes: its own feeds and message handlers, with a connection that answers from the recording.

Where a recording is older or younger than the messages that cryptofeed 2.4 speaks, it is given a hand, so that it reads
what the recording holds: Binance's single trades (it subscribes aggregated ones), Coinbase's matches of 2021.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from types import ModuleType
from typing import Any

from benchmarks.figures import CannotMeasureError
from benchmarks.recorded import SPOT, Recording, lines

KEPT = 512
"""What was read last is kept, by both: as much as `sources.latest` keeps."""

Value = tuple[Any, ...]
"""("trade", symbol, price, size, time in ms) or ("ticker", symbol, bid, ask, time in ms or None)."""


def cryptofeed() -> ModuleType:
    """Raises `CannotMeasureError` saying how to install it."""
    try:
        import cryptofeed as module  # noqa: PLC0415 - optional
        import cryptofeed.exchanges  # noqa: PLC0415
    except ImportError as error:
        raise CannotMeasureError(
            f"cryptofeed is not here ({error}). Give it an environment: "
            "python3 -m venv .cache/bench && .cache/bench/bin/pip install -e '.[dev,bench]' "
            "&& .cache/bench/bin/python -m benchmarks streams"
        ) from error
    logging.getLogger("feedhandler").setLevel(logging.CRITICAL)
    return module


class Replayed:
    """One feed of cryptofeed's over one recording. out: what its callbacks were given."""

    def __init__(self, recording: Recording) -> None:
        cryptofeed()
        self.out: deque[Any] = deque(maxlen=KEPT)
        self._recording = recording
        self._conn = _Connection(recording)
        self.feed = _feed(recording, self._conn, self._callback)
        self._conn.subscription = self.feed.subscription
        self._prepared = False

    async def _callback(self, update: Any, _: float) -> None:
        self.out.append(update)

    async def prepare(self) -> None:
        """As at a new connection: books are empty, snapshots can be asked for again."""
        self.out.clear()
        self._conn.rewind()
        # Bitstamp's sleeps for five seconds before it asks for snapshots; Coinbase's wants a key before it subscribes
        if self._recording.source == "coinbase" or (self._recording.source == "bitstamp" and self._prepared):
            return
        self._prepared = True
        await self.feed.subscribe(self._conn)
        self.out.clear()

    async def replay(self, messages: list[tuple[float, str]]) -> None:
        handler, conn = self.feed.message_handler, self._conn
        for at, text in messages:
            await handler(text, conn, at)

    def values(self) -> list[Value]:
        """What was read, without the books."""
        from cryptofeed.types import Ticker, Trade  # noqa: PLC0415

        found: list[Value] = []
        for each in self.out:
            if isinstance(each, Trade):
                found.append(("trade", self._symbol(each.symbol), each.price, each.amount, _ms(each.timestamp)))
            elif isinstance(each, Ticker):
                found.append(("ticker", self._symbol(each.symbol), each.bid, each.ask, _ms(each.timestamp)))
        return found

    def _symbol(self, symbol: str) -> str:
        return self.feed.std_symbol_to_exchange_symbol(symbol)  # type: ignore[no-any-return]


class _Connection:
    """What a feed may ask of its connection and of HTTP, answered from the recording."""

    conn_type = "wss"
    uuid = "replay"

    def __init__(self, recording: Recording) -> None:
        self.subscription: Any = {}
        self._bodies: dict[str, list[str]] = defaultdict(list)
        name = recording.source.upper()
        if recording.files[0] in SPOT:
            for line in lines(recording.files[0]):
                message = line.partition(b" ")[2]
                if message.startswith(b'{"lastUpdateId"'):
                    symbol = next(iter(recording.symbols)).replace("/", "")
                    url = f"https://api.binance.com/api/v3/depth?symbol={symbol}&limit=1000"
                    self._bodies[url].append(message.decode())
        elif recording.source in {"binance", "bitstamp"}:
            for line in lines(f"websocket_captures/{name}.http.0.0.gz"):
                if line.startswith(b"https:"):
                    url, _, rest = line.partition(b" -> ")
                    self._bodies[url.decode()].append(rest.partition(b": ")[2].decode())
        self.rewind()

    def rewind(self) -> None:
        self._left = {url: list(bodies) for url, bodies in self._bodies.items()}

    async def write(self, *_: Any, **__: Any) -> None:
        pass

    async def close(self) -> None:
        pass

    async def read(self, url: str, **_: Any) -> str:
        return self._left[url].pop(0)


def _symbols(recording: Recording) -> tuple[list[Any], dict[str, list[str]]]:
    """What the exchange said of its symbols, and what the recorded client had subscribed."""
    if recording.files[0] in SPOT:
        base, quote = next(iter(recording.symbols)).split("/")
        one = {"symbol": base + quote, "status": "TRADING", "baseAsset": base, "quoteAsset": quote}
        one |= {"filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}]}
        pair = f"{base}-{quote}"
        return [{"symbols": [one]}], {"trades": [pair], "l2_book": [pair], "ticker": [pair]}
    told: list[Any] = []
    wanted: dict[str, list[str]] = {}
    for line in lines(f"websocket_captures/{recording.source.upper()}.0.gz"):
        head, _, text = line.partition(b": ")
        if head == b"configuration":
            wanted = json.loads(text)
        elif text:
            told.append(json.loads(text, parse_float=Decimal))
    return told, wanted


def _feed(recording: Recording, conn: _Connection, callback: Callable[..., Any]) -> Any:
    from cryptofeed import exchanges  # noqa: PLC0415
    from cryptofeed.symbols import Symbols  # noqa: PLC0415

    kinds = {
        "binance": _binance(exchanges.Binance),
        "bitstamp": exchanges.Bitstamp,
        "coinbase": _coinbase(exchanges.Coinbase),
        "gemini": exchanges.Gemini,
        "kraken": exchanges.Kraken,
        "okx": exchanges.OKX,
    }
    kind = kinds[recording.source]
    told, wanted = _symbols(recording)
    if recording.source == "coinbase":  # the product list of 2021 has other names than today's parser looks for
        mapping = {each["id"]: each["id"] for each in told[0]}
        info: dict[str, Any] = {"instrument_type": dict.fromkeys(mapping, "spot")}
    elif recording.source == "gemini":  # one answer for the list, and one for each
        mapping, info = kind._parse_symbol_data(told[1:])
    else:
        mapping, info = kind._parse_symbol_data(told if len(told) > 1 else told[0])
    Symbols.set(kind.id, mapping, info)
    wanted = {
        channel: pairs
        for channel, pairs in wanted.items()
        if channel in kind.websocket_channels and channel in ("trades", "ticker", "l2_book")
    }
    feed = kind(subscription=wanted, callbacks=dict.fromkeys(wanted, callback))
    feed.http_conn = conn
    return feed


def _binance(kind: Any) -> Any:
    from yapic import json as yapic  # noqa: PLC0415

    class Binance(kind):  # type: ignore[misc]
        async def message_handler(self, msg: str, conn: Any, timestamp: float) -> None:
            # its own, with one more kind of message: a single trade, numbered by "t" in place of "a"
            tree = yapic.loads(msg, parse_float=Decimal)
            pair, _ = tree["stream"].split("@", 1)
            tree = tree["data"]
            kind_of = tree.get("e")
            if kind_of == "trade":
                tree["a"] = tree["t"]
                await self._trade(tree, timestamp)
            elif kind_of == "aggTrade":
                await self._trade(tree, timestamp)
            elif kind_of == "depthUpdate":
                await self._book(tree, pair.upper(), timestamp)
            elif kind_of is None and "A" in tree:
                await self._ticker(tree, timestamp)

    return Binance


def _coinbase(kind: Any) -> Any:
    from yapic import json as yapic  # noqa: PLC0415

    class Coinbase(kind):  # type: ignore[misc]
        async def message_handler(self, msg: str, conn: Any, timestamp: float) -> None:
            tree = yapic.loads(msg, parse_float=Decimal)
            if tree["type"] == "match":
                await self._trade_update(tree, timestamp)

    return Coinbase


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
