"""One simulated exchange's answers: a request target in, status and bytes out. Synchronous, and knows no socket."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from core.types import Pair
from simulator.board import Board
from simulator.faults import Hostile, RequestFault, Untraded, Wrong
from simulator.hostile import hostile
from simulator.recorded import RecordedBody
from simulator.reply import Reply
from simulator.venues import Market, Venue
from simulator.wrong import wrong_quote, wrong_times

SLOT_MS = 100
"""A body is rendered at most once in this time: an exchange's own tickers are no fresher."""
MAX_TARGETS = 256

_LISTED_DIGITS = 8

UNKNOWN = "unknown"
OK = "ok"
REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for: no symbol (not a ticker's path), an unknown symbol, a pair, or many pairs at once."""

    symbol: str | None
    pair: Pair | None
    many: tuple[Asked, ...] = ()


class Exchange:
    """One venue.

    symbols: the pairs it serves, by the symbol it writes them with. recorded: bodies to answer with as they are.
    replay_only: it answers recorded bodies and pinned prices, and knows no other symbol.
    inverse: pairs that the venue lists the other way round.
    """

    def __init__(
        self,
        venue: Venue,
        symbols: Mapping[str, Pair],
        board: Board,
        recorded: Mapping[Pair, RecordedBody] | None = None,
        *,
        replay_only: bool = False,
        inverse: Collection[Pair] = (),
        slot_ms: int = SLOT_MS,
    ) -> None:
        self.venue = venue
        self.name = venue.name
        self._symbols = symbols
        self._board = board
        self._recorded = recorded or {}
        self._replay_only = replay_only
        self._inverse = frozenset(inverse)
        self._slot_ms = slot_ms
        self._targets: dict[str, Asked] = {}
        self._markets: dict[Pair, tuple[tuple[int, int], tuple[Market, Reply]]] = {}
        self._rendered: dict[Pair, tuple[tuple[int, int], Reply]] = {}

    def asked(self, target: str) -> Asked:
        """Read a request target (path and query)."""
        if (known := self._targets.get(target)) is not None:
            return known
        asked = self._many_asked(target) or self._one_asked(self.venue.symbol_asked(target))
        if (asked.pair is not None or asked.many) and len(self._targets) < MAX_TARGETS:
            self._targets[target] = asked
        return asked

    def _one_asked(self, symbol: str | None) -> Asked:
        return Asked(symbol, None if symbol is None else self._symbols.get(symbol))

    def _many_asked(self, target: str) -> Asked | None:
        symbols = self.venue.symbols_asked(target, list(self._symbols))
        if symbols is None or self._replay_only or self._recorded:  # what is recorded are single bodies
            return None
        many = tuple(self._one_asked(symbol) for symbol in symbols)
        return next((each for each in many if each.pair is None), None) or Asked(None, None, many)

    def reply_many(
        self, asked: Asked, now_ms: int, faults: Mapping[Pair, RequestFault]
    ) -> tuple[Reply, dict[Pair, Reply]]:
        """The answer to a request for many pairs, and what stands in it for each.

        faults: by pair, those that make its numbers wrong; one that spoils an answer as a whole goes to `reply`.
        """
        shown: dict[Pair, Reply] = {}
        markets: list[Market] = []
        at_ms = now_ms // self._slot_ms * self._slot_ms
        for each in asked.many:
            assert each.pair is not None  # noqa: S101 - an unknown symbol was refused
            fault = faults.get(each.pair)
            market, reply = self._shown(each, now_ms) if fault is None else self._market(each, at_ms, fault)
            shown[each.pair] = reply
            markets.append(market)
        return Reply(200, self.venue.render_batch(markets, at_ms), OK), shown

    def reply(self, asked: Asked, now_ms: int, fault: RequestFault | None = None) -> Reply:
        """The answer at this time."""
        if fault is None:
            return self._sound(asked, now_ms)
        if isinstance(fault, Wrong):
            return self._wrong(asked, now_ms, fault)
        return spoiled(self._sound(asked, now_ms), fault)

    def _wrong(self, asked: Asked, now_ms: int, fault: Wrong) -> Reply:
        """A well-formed answer with wrong numbers in it. A recorded body is never touched."""
        if asked.pair is None or not self.generates(asked.pair):
            return self._sound(asked, now_ms)
        return self._render(*self._market(asked, now_ms, fault))

    def shown(self, asked: Asked, now_ms: int, fault: RequestFault | None = None) -> tuple[Market, Reply]:
        """What the venue shows for one pair that it has, and the same as a reply without a body."""
        if not isinstance(fault, Wrong):
            return self._shown(asked, now_ms)
        return self._market(asked, now_ms // self._slot_ms * self._slot_ms, fault)

    def _sound(self, asked: Asked, now_ms: int) -> Reply:
        pair = asked.pair
        if pair is not None and self.generates(pair):
            slot = (now_ms // self._slot_ms, self._board.version)
            cached = self._rendered.get(pair)
            if cached is None or cached[0] != slot:
                cached = self._rendered[pair] = (slot, self._render(*self._shown(asked, now_ms)))
            return cached[1]
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

    def generates(self, pair: Pair) -> bool:
        """Whether `pair` is answered from the price model, not from a recording or with a refusal."""
        if self._replay_only or pair in self._recorded:
            return self._board.is_pinned(self.name, pair)
        return True

    def _shown(self, asked: Asked, now_ms: int) -> tuple[Market, Reply]:
        """What the venue shows for one pair, made once in a slot."""
        assert asked.pair is not None  # noqa: S101 - of what is unknown nothing is shown
        slot = (now_ms // self._slot_ms, self._board.version)
        cached = self._markets.get(asked.pair)
        if cached is None or cached[0] != slot:
            cached = self._markets[asked.pair] = (slot, self._market(asked, slot[0] * self._slot_ms, None))
        return cached[1]

    def _market(self, asked: Asked, at_ms: int, fault: RequestFault | None) -> tuple[Market, Reply]:
        """What the venue shows for one pair, and the reply to say so, which has no body so far."""
        pair = asked.pair
        assert pair is not None  # noqa: S101 - of what is unknown nothing is shown
        true_ms, at_ms = wrong_times(at_ms, fault)
        quote = wrong_quote(self._board.quote(self.name, pair, true_ms), fault)
        listed = pair
        if pair in self._inverse:
            listed, quote = Pair.of(pair.quote, pair.base), quote.turned_over(_LISTED_DIGITS)
        market = Market(
            listed, asked.symbol or "", quote.last, quote.bid, quote.ask, at_ms, not isinstance(fault, Untraded)
        )
        if pair in self._inverse:  # and back, as a reader of the body would
            quote = quote.turned_over()
        return market, Reply(
            200,
            b"",
            OK if fault is None else fault.kind,
            last=quote.last,
            bid=quote.bid if self.venue.book else None,
            ask=quote.ask if self.venue.book else None,
            time_ms=at_ms if self.venue.time else None,
        )

    def _render(self, market: Market, reply: Reply) -> Reply:
        return replace(reply, body=self.venue.render(market))


def spoiled(sound: Reply, fault: RequestFault) -> Reply:
    """What becomes of a sound answer under a fault that is not about its numbers.

    (`Delay`, `Hang`, `Drip` and `Reset` change how it is given, not what it is.)
    """
    return hostile(fault, sound) if isinstance(fault, Hostile) else sound
