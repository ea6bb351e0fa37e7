"""Which transaction brought which round: a small memory, so that each round is looked up once."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

RoundKey = tuple[int, int]
"""(round, moment): after a reorganisation a round's number may return with another moment, by another transaction."""

_TRIES = 5


class Transactions:
    """One group's transactions by round, kept only for the rounds that an answer still stands at."""

    def __init__(self) -> None:
        self._known: dict[RoundKey, str] = {}
        self._tries: dict[RoundKey, int] = {}
        self.known = MappingProxyType(self._known)

    def note(self, key: RoundKey, transaction: str) -> bool:
        """Remember; True where it is news."""
        if self._known.get(key) == transaction:
            return False
        self._known[key] = transaction
        self._tries.pop(key, None)
        return True

    def wants(self, key: RoundKey) -> bool:
        """Whether to look `key` up now. Counts the try: a node that does not know is not asked for ever."""
        if key[0] == 0 or key in self._known or self._tries.get(key, 0) >= _TRIES:
            return False
        self._tries[key] = self._tries.get(key, 0) + 1
        return True

    def keep(self, keys: Iterable[RoundKey]) -> None:
        """Forget every round but these."""
        kept = set(keys)
        for memory in (self._known, self._tries):
            for key in [key for key in memory if key not in kept]:
                del memory[key]
