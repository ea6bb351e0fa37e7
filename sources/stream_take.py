"""From a declared message to a function that takes it: what `sources.stream_reader` does with one item, written out.

Half a million messages a second leave two microseconds for each. A function that looks up at run time what every
declaration leaves open spends half of that on looking up; so each kind of message gets a function of its own, made of
the lines below that its declaration asks for. No text of the catalogue gets into it but as attributes' names, in
hexadecimal (see `stream_shape`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from core.types import MAX_PRICE, MIN_PRICE
from sources.http import Reading
from sources.parse import MAX_VOLUME, Ticker
from sources.stream_control import Heard
from sources.stream_shape import EARLIEST_MS, LATEST_MS, Shape

MAX_SIZE = Decimal(10) ** 18
"""Above this the size of a trade is absurd."""
MAX_BOOK_AGE_MS = 5_000
"""A book received so long before a price is not shown beside it: a channel that died, or whose messages are refused,
leaves a book whose mid would pass for the price under the trades' fresh times. A liquid book moves within a second."""

Take = Callable[[Any, Any, int], Heard]
"""Of a decoded message, one of its items (or itself), and our clock: what that was. Raises `ArithmeticError` for a NaN
and `ValueError` for a number that is none."""


def compile_take(shape: Shape, *, has_book: bool, has_volume: bool, has_sink: bool, names: Mapping[str, Any]) -> Take:
    """has_book: some message of the stream has bid and ask, so that a price without them is half a ticker. has_volume:
    some message tells a volume, which is then shown beside the others' prices too.

    names: places (by symbol), source, sink, Trade, bad_time, bad_price, bad_volume, gap, repeated: `StreamReader` has
    them.
    """
    at = shape.access
    lines = _lines(shape, has_book=has_book, has_volume=has_volume, has_sink=has_sink)
    text = "\n    ".join(["def take(tree, item, received_ms):", *lines])
    scope: dict[str, Any] = {
        **names,
        "Reading": Reading,
        "Ticker": Ticker,
        "to_ms": shape.to_ms,
        "MIN_PRICE": MIN_PRICE,
        "MAX_PRICE": MAX_PRICE,
        "MAX_VOLUME": MAX_VOLUME,
        "MAX_BOOK_AGE_MS": MAX_BOOK_AGE_MS,
        "MAX_SECOND": MAX_SIZE if shape.carries == "trade" else MAX_PRICE,
        "EARLIEST_MS": EARLIEST_MS,
        "LATEST_MS": LATEST_MS,
        "DATA": Heard.DATA,
        "OTHER": Heard.OTHER,
    }
    exec(compile(text.format(**at), f"<{names['source']} {shape.carries}>", "exec"), scope)  # noqa: S102 - see above
    return scope["take"]  # type: ignore[no-any-return]


def _lines(shape: Shape, *, has_book: bool, has_volume: bool, has_sink: bool) -> list[str]:
    carries, at = shape.carries, shape.access
    is_trade, timed, numbered = carries == "trade", "time" in at, "number" in at
    prices = ["first"] + ["second"] * ("second" in at) + ["third"] * (carries == "ticker" and "third" in at)
    lines = [
        "place = places.get({symbol})",
        "if place is None:",
        "    return OTHER",
        *(f"{name} = {{{name}}}" for name in prices),
    ]
    if timed:
        lines += [
            "time_ms = {time}",
            *([] if shape.int_is_ms else ["time_ms = to_ms(time_ms)"]),
            *(["if type(time_ms) is not int:", "    time_ms = to_ms(time_ms)"] if shape.int_is_ms else []),
            "if not EARLIEST_MS <= time_ms < LATEST_MS:",
            "    return bad_time({time})",
        ]
    most = {"first": "MAX_PRICE", "second": "MAX_SECOND", "third": "MAX_PRICE"}
    lines += [  # a comparison with NaN raises
        f"if not ({' and '.join(f'MIN_PRICE <= {name} <= {most[name]}' for name in prices)}):",
        f"    return bad_price({{symbol}}, {', '.join(prices)})",
    ]
    checked, taken = _volume_lines(shape) if has_volume else ([], [])
    lines += checked
    if is_trade:
        lines += ["missed = 0"]
    if numbered:
        lines += [
            "number = {number}",
            "if type(number) is not int:",
            "    number = int(number)",
            "before = place.number",
            "if number <= before:",
            "    return repeated(place)",
            "place.number = number",
        ]
        if shape.consecutive:
            lines += ["if number != before + 1 and before >= 0:", "    missed = gap(number - before - 1)"]
    lines += ["place.read += 1", "market = place.market"]
    aged = False  # the book may be older than the price
    if carries == "book":
        lines += ["market.bid = bid = first", "market.ask = ask = second", "last = market.last"]
        lines += ["market.book_ms = received_ms"]
    else:
        lines += ["market.last = last = first"]
        if carries == "ticker" and "second" in at:
            lines += ["market.bid = bid = second", "market.ask = ask = third", "market.book_ms = received_ms"]
        else:
            lines += ["bid, ask = market.bid, market.ask"]
            aged = has_book
    lines += taken
    time_ms = "time_ms" if timed else "None"
    if is_trade and has_sink:
        identity = "str({third})" if "third" in at else "''"
        lines += [
            "sink(Trade(source=source, pair=market.pair, price=first, size=second, received_ms=received_ms,",
            f"    time_ms={time_ms}, id={identity}, missed=missed))",
        ]
    lines += [
        f"if last is None{' or bid is None' * has_book}:",  # half of its ticker has not come so far
        "    return DATA",
        *(["if received_ms - market.book_ms > MAX_BOOK_AGE_MS:", "    bid = ask = None"] if aged else []),
        "reading = Reading(source=source, pair=market.pair, received_ms=received_ms, elapsed_ms=0,",
        f"    ticker=Ticker(last=last, bid=bid, ask=ask, time_ms={time_ms}{', volume=volume' * has_volume}))",
        "market.append(reading)",
        *(["sink(reading)"] if has_sink else []),
        "return DATA",
    ]
    return lines


def _volume_lines(shape: Shape) -> tuple[list[str], list[str]]:
    """What checks a message's volume, and what takes it, or the last that was told where this one tells none."""
    if "volume" in shape.access:
        checked = [
            "volume = {volume}",
            "try:",
            "    possible = volume is None or 0 <= volume <= MAX_VOLUME",
            "except ArithmeticError:",  # a comparison with NaN
            "    possible = False",
            "if not possible:",
            "    return bad_volume({symbol}, volume)",
        ]
        return checked, ["if volume is None:", "    volume = market.volume", "else:", "    market.volume = volume"]
    taken = ["volume = market.volume"]
    if shape.carries == "trade":  # a zero that was told before it is none any more
        taken += ["if not volume:", "    market.volume = volume = None"]
    return [], taken
