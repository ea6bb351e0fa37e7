"""The recorded sources as the planner knows sources: what the catalogue says of them, and the markets of the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from core.types import Pair
from fetchers.candidates import Listing


class Recorded:
    """A source as far as the file has it; its echoes and aliases are the catalogue's word, where that knows it."""

    def __init__(self, name: str, entry: Listing | None) -> None:
        self.base_url = f"replay://{name}"
        self.pairs: set[Pair] = set()
        self.kind = "exchange" if entry is None else entry.kind
        self.relays: Collection[str] = () if entry is None else entry.relays
        self._entry = entry

    def request_path(self, pair: Pair) -> str:
        return f"/{pair}"

    def alias_of(self, pair: str) -> Pair | None:
        return None if self._entry is None else self._entry.alias_of(pair)


class Sources:
    """The recorded sources as they are met, beside the catalogue's others, which only tie families together.

    known: by name. met: in the order of their first quotes, in which they rank.
    """

    def __init__(self, catalogue: Mapping[str, Listing]) -> None:
        self._catalogue = catalogue
        self._recorded: dict[str, Recorded] = {}
        self.known: dict[str, Listing] = {name: Recorded(name, entry) for name, entry in catalogue.items()}

    @property
    def met(self) -> list[str]:
        return list(self._recorded)

    def meet(self, source: str, pair: Pair) -> None:
        """Take note of a market."""
        recorded = self._recorded.get(source)
        if recorded is None:
            recorded = self._recorded[source] = Recorded(source, self._catalogue.get(source))
            self.known[source] = recorded
        recorded.pairs.add(pair)
