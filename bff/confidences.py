"""What the aggregator knows of the sources behind a round's answers, which the chain does not: a small memory."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from core.types import Pair

_TRIES = 3


class Confidences:
    """One group's, by feed, each of the last round that told one. Bounded by the number of feeds."""

    def __init__(self) -> None:
        self._told: dict[Pair, tuple[int, Decimal]] = {}
        self._done = 0  # the moment that is known, or that nobody knows
        self._asked, self._tries = 0, 0

    def note(self, moment: int, told: Mapping[str, Decimal]) -> None:
        """Remember a round's, by its moment."""
        self._done = moment
        self._told |= {Pair(pair): (moment, confidence) for pair, confidence in told.items()}

    def wants(self, moment: int) -> bool:
        """Whether to ask for the round of `moment` now. Counts the try: one that nobody kept is not asked for ever."""
        if moment in (0, self._done):
            return False
        if moment != self._asked:
            self._asked, self._tries = moment, 0
        self._tries += 1
        if self._tries > _TRIES:
            self._done = moment
        return self._tries <= _TRIES

    def of(self, pair: Pair, moment: int) -> Decimal | None:
        """That of an answer observed at `moment`, where it is known."""
        known = self._told.get(pair)
        return known[1] if known is not None and known[0] == moment else None
