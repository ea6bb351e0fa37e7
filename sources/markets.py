"""Whether a failure speaks of one market or of its source, and which market tells best whether a source is back. Pure.

A delisted market answers 404, an error message, nothing or zeros, and so does an exchange that is ill. What tells them
apart are the source's other markets: where one of them went well since this one last did, this one is at fault.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable

from core.types import FailureCode, Pair

NO_TICKER = frozenset({FailureCode.HTTP_STATUS, FailureCode.MALFORMED, FailureCode.EMPTY, FailureCode.INVALID_PRICE})
"""The source answered, and made no ticker of it: of this market, or of any."""


class Markets:
    """One source's. Times are seconds of one monotonic clock. recent_s: so long a market that went well vouches."""

    def __init__(self, pairs: Iterable[Pair], recent_s: float) -> None:
        self._recent_s = recent_s
        self._well_at: dict[Pair, float] = {}
        self._failing: set[Pair] = set()
        self._order = OrderedDict.fromkeys(pairs)  # the first is probed next

    def __len__(self) -> int:
        return len(self._order)

    @property
    def best(self) -> Pair | None:
        """The market to probe: the one that went well last, or failed last where none ever did. One that was probed
        and was itself at fault comes last: the source may be back without it. None: no market is known."""
        return next(iter(self._order), None)

    def well(self, pair: Pair, now: float) -> None:
        self._well_at[pair] = now
        self._failing.discard(pair)
        self._put(pair, last=False)

    def failed(self, pairs: Collection[Pair]) -> None:
        self._failing.update(pairs)
        if not self._well_at:
            for pair in pairs:
                self._put(pair, last=False)

    def put_last(self, pairs: Collection[Pair]) -> None:
        """They were asked in quarantine, and were themselves at fault."""
        for pair in pairs:
            self._put(pair, last=True)

    def vouched(self, pairs: Collection[Pair], now: float) -> bool:
        """Whether another market, by its last answer, went well since all of `pairs` last did, and not long ago."""
        since = max((self._well_at[pair] for pair in pairs if pair in self._well_at), default=-float("inf"))
        return any(
            at > since and now - at <= self._recent_s and pair not in self._failing and pair not in pairs
            for pair, at in self._well_at.items()
        )

    def _put(self, pair: Pair, *, last: bool) -> None:
        self._order[pair] = None
        self._order.move_to_end(pair, last=last)
