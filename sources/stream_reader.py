"""What the messages of one connection mean: pure, synchronous, and bounded. The connection is `sources.stream`'s.

A message is data by one of the declared shapes, or it is an acknowledgement, a refusal, something to answer, a request
to leave, or of no interest; what is nothing of all this, or lies about its shape, is counted as bad and skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from core.types import FailureCode, Pair
from sources.entries import SourceEntry
from sources.http import Reading
from sources.latest import Track
from sources.parse import MAX_VOLUME
from sources.stream_control import Control, Heard
from sources.stream_entries import StreamFormat, fill
from sources.stream_shape import Shape, check_depth_fast
from sources.stream_take import Take, compile_take

SHALLOW_BYTES = 4_096
"""A message that is no longer cannot nest so deeply that skipping through it would end the process."""
MAX_REPEATS = 20
"""After so many messages in a row of one kind and pair whose numbers are not above the last one's, the numbers have
begun anew, or the last one was absurd: no repetition goes on for so long."""


class Trade(Struct, frozen=True, kw_only=True, gc=False):
    """One trade that an exchange told of. price and size positive, in the quote and in the base currency.

    time_ms: the exchange's time, or None. received_ms: our clock. id: the exchange's own, or "". missed: how many
    trades of this pair were lost on the way before it, where the exchange numbers them.
    """

    source: str
    pair: Pair
    price: Decimal
    size: Decimal
    received_ms: int
    time_ms: int | None = None
    id: str = ""
    missed: int = 0


Update = Reading | Trade
Sink = Callable[[Update], None]
"""Called with everything that is read, on the event loop: it must be quick, and must not raise."""


class _Market:
    """One pair's state: what its last messages said, put together. book_ms: when bid and ask came, by our clock."""

    __slots__ = ("append", "ask", "bid", "book_ms", "last", "pair", "track", "volume")

    def __init__(self, pair: Pair, track: Track) -> None:
        self.pair = pair
        self.track = track
        self.append = track.readings.append
        self.forget()

    def forget(self) -> None:
        self.last: Decimal | None = None
        self.bid: Decimal | None = None
        self.ask: Decimal | None = None
        self.book_ms = 0
        self.volume: Decimal | None = None
        self.track.readings.clear()


class _Place:
    """One pair within one kind of message. number: the last message's, or -1. read: how many were read so far.
    repeats: how many came in a row that were not above `number`, when read was `repeats_at`."""

    __slots__ = ("market", "number", "read", "repeats", "repeats_at")

    def __init__(self, market: _Market) -> None:
        self.market = market
        self.number = -1
        self.read = 0
        self.repeats = 0
        self.repeats_at = 0


_Kind = tuple[bytes, tuple[bytes, ...], Callable[[bytes], Any], Callable[[Any], Any] | None, Take]
"""One kind of message on one connection: bytes that it cannot be without (the first tells the most), how it is decoded,
its items or None where it is the one item, and what takes an item."""


class StreamReader:
    """Reads the messages of one connection to `entry`'s exchange.

    tracks: where the readings of each subscribed pair go. sink: who else wants them, and the trades.
    """

    def __init__(self, entry: SourceEntry, tracks: dict[Pair, Track], sink: Sink | None = None) -> None:
        format_ = entry.stream
        if format_ is None:
            raise ValueError(f"{entry.name} declares no stream")
        self.name = entry.name
        words = {pair: entry.stream_words(pair) for pair in tracks}
        self._markets = {pair: _Market(pair, track) for pair, track in tracks.items()}
        self._has_book = any(each.bid is not None for each in format_.messages)
        self._has_volume = any(each.volume is not None for each in format_.messages)
        self._places: list[tuple[str, dict[str, _Place]]] = []
        self._kinds = tuple(self._kind(Shape(each, words), sink) for each in format_.messages)
        self._control = Control(format_)
        self.answer = ""
        """What to send after `Heard.ANSWERED`."""
        self.detail = ""
        """What was wrong, after `Heard.BAD`, `Heard.REJECTED` and `Heard.RENUMBERED`."""
        self.code = FailureCode.MALFORMED
        """The fault, after `Heard.BAD`."""
        self.missed = 0
        """How many numbered messages were lost on the way, so far."""
        self.gaps = 0
        """How often some were lost, so far."""

    @property
    def carried(self) -> Counter[str]:
        """How many tickers, books and trades were read, so far."""
        counts: Counter[str] = Counter()
        for carries, places in self._places:
            counts[carries] += sum(place.read for place in places.values())
        return +counts

    def forget(self) -> None:
        """The connection is a new one: what was known of the markets' state, and their numbers, are of the old one."""
        for market in self._markets.values():
            market.forget()
        for _, places in self._places:
            for place in places.values():
                place.number = -1
                place.repeats = 0

    def feed(self, raw: bytes, received_ms: int) -> Heard:
        """Read one message. Raises nothing."""
        try:
            if len(raw) > SHALLOW_BYTES:
                check_depth_fast(raw)
            failed: Exception | None = None
            for marker, others, decode, items, take in self._kinds:
                if marker not in raw or (others and not all(other in raw for other in others)):
                    continue
                try:
                    tree = decode(raw)
                except msgspec.ValidationError as error:
                    if not _is_another_kind(str(error)):
                        failed = error  # a lie about its shape, unless the control words know it
                    continue
                if items is None:
                    return take(tree, tree, received_ms)
                found = items(tree)
                if len(found) == 1:
                    return take(tree, found[0], received_ms)
                return _tell(take(tree, item, received_ms) for item in found)
            return self._no_data(raw, failed)
        except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
            return self._bad(FailureCode.MALFORMED, str(error))

    def _kind(self, shape: Shape, sink: Sink | None) -> _Kind:
        places = {symbol: _Place(self._markets[pair]) for symbol, pair in shape.symbols.items()}
        names = {
            "places": places,
            "source": self.name,
            "sink": sink,
            "Trade": Trade,
            "gap": self._gap,
            "repeated": self._repeated,
            "bad_time": self._bad_time,
            "bad_price": self._bad_price,
            "bad_volume": self._bad_volume,
        }
        self._places.append((shape.carries, places))
        marker, *others = sorted(shape.markers, key=len, reverse=True) or [b""]
        take = compile_take(
            shape, has_book=self._has_book, has_volume=self._has_volume, has_sink=sink is not None, names=names
        )
        return marker, tuple(others), shape.decode, shape.items, take

    def _gap(self, missed: int) -> int:
        self.missed += missed
        self.gaps += 1
        return missed

    def _repeated(self, place: _Place) -> Heard:
        if place.repeats_at != place.read:  # one was read since
            place.repeats_at = place.read
            place.repeats = 0
        place.repeats += 1
        if place.repeats < MAX_REPEATS:
            return Heard.REPEATED
        self.detail = f"{place.repeats} messages of {place.market.pair} in a row are not above number {place.number}"
        return Heard.RENUMBERED

    def _bad_time(self, time: object) -> Heard:
        return self._bad(FailureCode.MALFORMED, f"time {time!s:.60} is none in the declared unit")

    def _bad_price(self, symbol: str, *prices: Decimal) -> Heard:
        shown = ", ".join(f"{price!s:.40}" for price in prices)
        return self._bad(FailureCode.INVALID_PRICE, f"{symbol}: of {shown} one can be no price, or no size")

    def _bad_volume(self, symbol: str, volume: Decimal) -> Heard:
        return self._bad(FailureCode.INVALID_PRICE, f"{symbol}: volume {volume!s:.40} is not from 0 to {MAX_VOLUME}")

    def _no_data(self, raw: bytes, failed: Exception | None) -> Heard:
        """What a message is that is no data. failed: why it is none, though it looked like it."""
        if raw in (b"pong", b"ping"):
            return Heard.OTHER
        if not raw:
            return self._bad(FailureCode.EMPTY, "an empty message")
        heard, text = self._control.read(raw)
        if heard is Heard.ANSWERED:
            self.answer = text
        elif heard is Heard.REJECTED:
            self.detail = text[:200]
        elif heard is Heard.OTHER and failed is not None:
            return self._bad(FailureCode.MALFORMED, str(failed))
        return heard

    def _bad(self, code: FailureCode, detail: str) -> Heard:
        self.code = code
        self.detail = detail[:200]
        return Heard.BAD


def _tell(each: Iterable[Heard]) -> Heard:
    """Of several items one tells: numbers out of reach before a bad one, that before data, data before the rest."""
    heard = Heard.OTHER
    for one in each:
        if heard is Heard.RENUMBERED:
            continue
        if (
            one is Heard.RENUMBERED
            or one is Heard.BAD
            or heard is Heard.OTHER
            or (one is Heard.DATA and heard is not Heard.BAD)
        ):
            heard = one
    return heard


def _is_another_kind(error: str) -> bool:
    """Whether a message holds another kind's bytes only by chance: it is no object or list as that kind is, or one of
    the values by which that kind is known is another (nothing else of a shape is an enumeration)."""
    return " - at `" not in error or error.startswith("Invalid enum value")


def subscriptions(
    entry: SourceEntry, pairs: Iterable[Pair], *, trades: bool, now_ms: int, first: int = 1
) -> tuple[str, ...]:
    """The messages that subscribe `pairs`, in the exchange's own batches. trades: each trade is wanted too.

    first: the number of the first one; they are numbered so that an exchange's answers can be told apart.
    """
    format_: StreamFormat | None = entry.stream
    assert format_ is not None  # noqa: S101 - its client has asked
    words = [entry.stream_words(pair) for pair in pairs]
    sends: list[str] = []
    for each in format_.subscribe:
        if each.trades and not trades:
            continue
        for start in range(0, len(words), each.batch):
            items = ",".join(fill(each.item, one) for one in words[start : start + each.batch])
            number = str(first + len(sends))
            sends.append(fill(each.send, {"items": items, "n": number, "now_s": str(now_ms // 1000)}))
    return tuple(sends)
