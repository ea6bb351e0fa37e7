"""One simulated exchange's answers: a request target in, status and bytes out. Synchronous, and knows no socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from core.types import Pair
from simulator.board import Board
from simulator.faults import Empty, Malformed, Outlier, RateLimited, RequestFault, ServerError, Stale, Zero
from simulator.prices import VenueQuote
from simulator.recorded import RecordedBody
from simulator.venues import Market, Venue

SLOT_MS = 100
"""A body is rendered at most once in this time: an exchange's own tickers are no fresher."""
MAX_TARGETS = 256

UNKNOWN = "unknown"
OK = "ok"
REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for: no symbol (not a ticker's path), an unknown symbol, or a pair."""

    symbol: str | None
    pair: Pair | None


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes out. outcome: ok, replayed, unknown, or the kind of fault. The numbers are those in the body."""

    status: int
    body: bytes
    outcome: str
    headers: Mapping[str, str] = field(default_factory=dict)
    last: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    time_ms: int | None = None


class Exchange:
    """One venue.

    symbols: the pairs it serves, by the symbol it writes them with. recorded: bodies to answer with as they are.
    replay_only: it answers recorded bodies and pinned prices, and knows no other symbol.
    """

    def __init__(
        self,
        venue: Venue,
        symbols: Mapping[str, Pair],
        board: Board,
        recorded: Mapping[Pair, RecordedBody] | None = None,
        *,
        replay_only: bool = False,
        slot_ms: int = SLOT_MS,
    ) -> None:
        self.venue = venue
        self.name = venue.name
        self._symbols = symbols
        self._board = board
        self._recorded = recorded or {}
        self._replay_only = replay_only
        self._slot_ms = slot_ms
        self._targets: dict[str, Asked] = {}
        self._rendered: dict[Pair, tuple[int, int, Reply]] = {}

    def asked(self, target: str) -> Asked:
        """Read a request target (path and query)."""
        if (known := self._targets.get(target)) is not None:
            return known
        symbol = self.venue.symbol_asked(target)
        asked = Asked(symbol, None if symbol is None else self._symbols.get(symbol))
        if asked.pair is not None and len(self._targets) < MAX_TARGETS:
            self._targets[target] = asked
        return asked

    def reply(self, asked: Asked, now_ms: int, fault: RequestFault | None = None) -> Reply:
        """The answer at this time. (`Delay` and `Hang` change when it is given, not what it is.)"""
        if fault is None:
            return self._sound(asked, now_ms)
        match fault:
            case RateLimited():
                headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
                return Reply(429, b'{"error":"Too Many Requests"}', fault.kind, headers)
            case ServerError():
                return Reply(500, b'{"error":"Internal Server Error"}', fault.kind)
            case Empty():
                return Reply(200, b"", fault.kind)
            case Malformed():
                sound = self._sound(asked, now_ms)
                return Reply(200, sound.body[: len(sound.body) // 2], fault.kind)
            case _:
                return self._wrong(asked, now_ms, fault)

    def _wrong(self, asked: Asked, now_ms: int, fault: RequestFault) -> Reply:
        """A well-formed answer with wrong numbers in it. A recorded body is never touched."""
        if asked.pair is None or not self._generates(asked.pair):
            return self._sound(asked, now_ms)
        at_ms = now_ms - fault.seconds * 1000 if isinstance(fault, Stale) else now_ms
        quote = self._board.quote(self.name, asked.pair, at_ms)
        if isinstance(fault, Outlier):
            quote = quote.times(fault.factor)
        elif isinstance(fault, Zero):
            quote = quote.times(Decimal(0))
        return self._render(asked.pair, asked.symbol or "", quote, at_ms, fault.kind)

    def _sound(self, asked: Asked, now_ms: int) -> Reply:
        pair = asked.pair
        if pair is not None and self._generates(pair):
            slot = now_ms // self._slot_ms
            cached = self._rendered.get(pair)
            if cached is not None and cached[0] == slot and cached[1] == self._board.version:
                return cached[2]
            at_ms = slot * self._slot_ms
            quote = self._board.quote(self.name, pair, at_ms)
            reply = self._render(pair, asked.symbol or "", quote, at_ms, OK)
            self._rendered[pair] = (slot, self._board.version, reply)
            return reply
        if pair is not None and (recorded := self._recorded.get(pair)) is not None:
            return Reply(
                200,
                recorded.body,
                REPLAYED,
                last=recorded.last,
                bid=recorded.bid,
                ask=recorded.ask,
                time_ms=recorded.time_ms,
            )
        status, body = self.venue.render_refusal(asked.symbol, now_ms)
        return Reply(status, body, UNKNOWN)

    def _generates(self, pair: Pair) -> bool:
        """Whether `pair` is answered from the price model, not from a recording or with a refusal."""
        if self._replay_only or pair in self._recorded:
            return self._board.is_pinned(self.name, pair)
        return True

    def _render(self, pair: Pair, symbol: str, quote: VenueQuote, at_ms: int, outcome: str) -> Reply:
        market = Market(pair, symbol, quote.last, quote.bid, quote.ask, at_ms)
        return Reply(
            200,
            self.venue.render(market),
            outcome,
            last=quote.last,
            bid=quote.bid if self.venue.book else None,
            ask=quote.ask if self.venue.book else None,
            time_ms=at_ms if self.venue.time else None,
        )
