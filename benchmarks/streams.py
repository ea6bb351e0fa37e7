"""Recorded WebSocket messages through the declared extraction, beside cryptofeed on the same bytes in the same run."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.figures import CannotMeasureError, machine, table
from benchmarks.recorded import RECORDED, Recording, pairs
from benchmarks.streams_cryptofeed import KEPT, Replayed, Value, cryptofeed
from sources.latest import Line, Track
from sources.stream_control import Heard
from sources.stream_reader import StreamReader, Trade, Update

ROUNDS = 7
MESSAGES = 10_000
"""Each contender's turn is at least so long: short recordings are replayed several times."""
PACKAGES = ("msgspec", "cryptofeed", "yapic.json")

Message = tuple[int, bytes]


@dataclass
class Series:
    """One recording, or the part of it that both read. seconds: for one replay, by round; ours and theirs."""

    messages: int
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def ratio(self) -> float:
        """How many times as many messages a second are ours, by the median round."""
        return median(self.theirs) / median(self.ours)


class Ours:
    """A reader with its tracks, as a connection has it. out: what its sink was given."""

    def __init__(self, recording: Recording) -> None:
        self.out: deque[Update] = deque(maxlen=KEPT)
        self._entry = recording.entry()
        self.reader = StreamReader(self._entry, {pair: Track(Line()) for pair in pairs(recording)}, self.out.append)
        self._recording = recording

    def prepare(self) -> None:
        """As at a new connection, with one trade of each market told: its book shows from the first message on."""
        self.reader.forget()
        if self._recording.source == "binance":
            for pair in pairs(self._recording):
                stream = self._entry.symbol(pair).lower() + ("@aggTrade" if self._recording.old else "@trade")
                trade = {"p": "1", "q": "1", "T": 1_600_000_000_000, "t": 0, "a": 0}
                assert self.reader.feed(json.dumps({"stream": stream, "data": trade}).encode(), 0) is Heard.DATA
        self.out.clear()

    def replay(self, messages: Sequence[Message]) -> None:
        feed = self.reader.feed
        for at, raw in messages:
            feed(raw, at)

    def values(self) -> list[Value]:
        """What was read: a trade's new look of the market is the trade, told again."""
        found: list[Value] = []
        told = False
        for each in self.out:
            if isinstance(each, Trade):
                found.append(("trade", self._symbol(each), each.price, each.size, each.time_ms))
            elif not told:
                ticker = each.ticker
                found.append(("ticker", self._symbol(each), ticker.bid, ticker.ask, ticker.time_ms))
            told = isinstance(each, Trade)
        return found

    def _symbol(self, update: Update) -> str:
        words = self._entry.stream_words(update.pair)
        return words["symbol"].upper() if self._recording.source == "binance" else words["symbol"]


async def read_by_both(recording: Recording) -> list[Message]:
    """The messages of which both make values, which are then the same ones. Raises `AssertionError`."""
    ours, theirs = Ours(recording), Replayed(recording)
    ours.prepare()
    await theirs.prepare()
    kept: list[Message] = []
    for at, raw in recording.messages():
        ours.out.clear()
        theirs.out.clear()
        ours.replay([(at, raw)])
        await theirs.replay([(at / 1000, raw.decode())])
        mine, others = ours.values(), theirs.values()
        if mine and others:
            assert len(mine) == len(others), f"{recording.name}: {mine} and {others} of {raw!r}"
            for one, other in zip(mine, others, strict=True):
                assert one[:4] == other[:4], f"{recording.name}: {one} and {other} of {raw!r}"
                # theirs is a float, and the receipt where the message has no time
                assert one[4] is None or other[4] is None or abs(one[4] - other[4]) <= 1, f"{one} and {other}"
            kept.append((at, raw))
    return kept


async def measure(
    recordings: Sequence[Recording] = RECORDED, *, rounds: int = ROUNDS, messages: int = MESSAGES
) -> dict[str, dict[str, Series]]:
    """By recording: "read by both", and "all" where cryptofeed reads the rest too. The contenders in turn.

    Raises `CannotMeasureError` where cryptofeed or the recordings are missing, `AssertionError` where values differ.
    """
    cryptofeed()
    found: dict[str, dict[str, Series]] = {}
    for recording in recordings:
        ours, theirs = Ours(recording), Replayed(recording)
        parts = {"read by both": await read_by_both(recording)}
        if recording.source != "coinbase":  # cryptofeed speaks another protocol there now, and passes the rest over
            parts["all"] = recording.messages()
        found[recording.name] = {name: Series(len(part)) for name, part in parts.items()}
        for turn in range(rounds):
            for name, part in parts.items():
                series = found[recording.name][name]
                times = -(-messages // len(part))
                texts = [(at / 1000, raw.decode()) for at, raw in part]
                for contender in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
                    if contender == "ours":
                        series.ours.append(_replay_ours(ours, part, times))
                    else:
                        series.theirs.append(await _replay_theirs(theirs, texts, times))
    return found


def _replay_ours(ours: Ours, part: Sequence[Message], times: int) -> float:
    took = 0.0
    for _ in range(times):
        ours.prepare()
        started = time.process_time()
        ours.replay(part)
        took += time.process_time() - started
    return took / times


async def _replay_theirs(theirs: Replayed, texts: list[tuple[float, str]], times: int) -> float:
    took = 0.0
    for _ in range(times):
        await theirs.prepare()
        started = time.process_time()
        await theirs.replay(texts)
        took += time.process_time() - started
    return took / times


def overall(found: dict[str, dict[str, Series]], part: str) -> Series:
    """All recordings one after the other."""
    those = [series[part] for series in found.values() if part in series]
    return Series(
        sum(each.messages for each in those),
        [sum(times) for times in zip(*(each.ours for each in those), strict=True)],
        [sum(times) for times in zip(*(each.theirs for each in those), strict=True)],
    )


def run(*, rounds: int | None = None) -> tuple[str, dict[str, Any]]:
    """Measure; the report as Markdown, and the figures."""
    line = machine(*PACKAGES)
    rounds = rounds or ROUNDS
    found = asyncio.run(measure(rounds=rounds))
    text = [line, f"{rounds} rounds, contenders in turn; prices, sizes and times compared, message by message."]
    shown: dict[str, Any] = {"machine": line, "rounds": rounds}
    for part in ("read by both", "all"):
        rows = {name: series[part] for name, series in found.items() if part in series}
        rows["together"] = overall(found, part)
        text += ["", f"**{part}**", "", _table(rows)]
        shown[part] = rows
    return "\n".join(text), shown


def _table(rows: dict[str, Series]) -> str:
    def rate(messages: int, seconds: float) -> str:
        return f"{messages / seconds:,.0f}"

    return table(
        ("", "messages", "ours ÷ cryptofeed", "worst to best round", "ours, messages/s", "cryptofeed, messages/s"),
        [
            (
                name,
                f"{each.messages:,}",
                f"{each.ratio():.2f}",
                "{:.2f} to {:.2f}".format(*_spread(each)),
                rate(each.messages, median(each.ours)),
                rate(each.messages, median(each.theirs)),
            )
            for name, each in rows.items()
        ],
    )


def _spread(series: Series) -> tuple[float, float]:
    by_round = [theirs / ours for ours, theirs in zip(series.ours, series.theirs, strict=True)]
    return min(by_round), max(by_round)


__all__ = ["CannotMeasureError", "measure", "overall", "read_by_both", "run"]
