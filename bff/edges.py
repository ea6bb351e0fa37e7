"""What the BFF needs of the chain, and no more. `contracts.client.OracleClient` is the real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from core.types import Deployment, Pair

if TYPE_CHECKING:
    from contracts.client import OracleClient


class Answer(Protocol):
    """A feed's standing answer. value: scaled by `decimals`. updated_at: in seconds, as readers on chain see it.
    stale_after_s: seconds from which the contract calls it stale."""

    @property
    def value(self) -> int: ...
    @property
    def decimals(self) -> int: ...
    @property
    def round(self) -> int: ...
    @property
    def observed_ms(self) -> int: ...
    @property
    def updated_at(self) -> int: ...
    @property
    def spread_bps(self) -> int: ...
    @property
    def contributors(self) -> int: ...
    @property
    def stale_after_s(self) -> int: ...


class GroupReading(Protocol):
    """Every feed's standing answer, of one call. round: 0 before the first; moment: of that round, in milliseconds.
    answers: a feed that never had one is not in it."""

    @property
    def round(self) -> int: ...
    @property
    def moment(self) -> int: ...
    @property
    def accepted_block(self) -> int: ...
    @property
    def paused(self) -> bool: ...
    @property
    def answers(self) -> Mapping[Pair, Answer]: ...


class ChainEdge(Protocol):
    """Reads of one deployed oracle. Every call is bounded in time and raises a `FairmarkError` when it fails."""

    @property
    def deployment(self) -> Deployment: ...

    async def read_group(self, group: str) -> GroupReading: ...

    async def round_transaction(self, group: str, round_: int, block: int) -> str | None:
        """Hash of the transaction that brought `round_`, accepted in `block`; None where the node does not know it."""
        ...


if TYPE_CHECKING:

    def _fits(client: OracleClient) -> ChainEdge:
        return client
