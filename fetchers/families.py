"""Which sources are one another's echo: those of a family count once. Pure.

A price that is relayed is no second witness. Two sources are of one family where the catalogue says that one relays the
other (`relays`), directly or by way of a third, and whoever is asked first. All indexes are one family: each is an
average over the same exchanges, so that two that agree say no more than one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

INDEXES = "indexes"


class Relative(Protocol):
    """What the catalogue says of a source's dependence: see `sources.SourceEntry`."""

    @property
    def kind(self) -> str: ...

    @property
    def relays(self) -> Collection[str]: ...


def families(sources: Iterable[str], catalogue: Mapping[str, Relative]) -> dict[str, str]:
    """By source, its family's name, for those of `sources` that share one with another of them.

    A relay of a source that is not among `sources` still ties together all that relay it.
    """
    asked = [source for source in dict.fromkeys(sources) if source in catalogue]
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for name, entry in catalogue.items():
        tied = [*entry.relays, *([INDEXES] if entry.kind == "index" else [])]
        for other in tied:
            # the lesser name leads, so that the outcome does not depend on the order of the catalogue
            low, high = sorted((root(name), root(other)))
            parent[high] = low
    roots = {source: root(source) for source in asked}
    shared = [leader for leader in roots.values()]
    return {source: leader for source, leader in roots.items() if shared.count(leader) > 1}
