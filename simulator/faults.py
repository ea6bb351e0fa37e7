"""What can be wrong with a simulated venue, switched on and off while it runs.

A venue may have several faults at once. For each request they are taken in order: delays add up, the first of the
others that applies decides the answer. `refused` is not about one request: the venue's listener closes and its open
connections are aborted, until the fault is lifted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from core.types import Pair
from simulator.errors import InvalidControlError, UnknownVenueError
from simulator.noise import happens

MAX_FAULTS = 8
"""Faults one venue may have at once."""


class _Fault(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _RequestFault(_Fault):
    """A fault that strikes single requests. pair: only this one; probability: of striking a request, seeded."""

    pair: str | None = None
    probability: float = Field(default=1.0, ge=0, le=1)

    @field_validator("pair")
    @classmethod
    def _is_a_pair(cls, pair: str | None) -> str | None:
        return None if pair is None else str(Pair(pair))


class Delay(_RequestFault):
    """The answer comes `ms` late."""

    kind: Literal["delay"]
    ms: int = Field(ge=0, le=60_000)


class Hang(_RequestFault):
    """The request is accepted and never answered."""

    kind: Literal["hang"]


class RateLimited(_RequestFault):
    """HTTP 429, with `Retry-After` in seconds where given."""

    kind: Literal["429"]
    retry_after_s: int | None = Field(default=None, ge=0, le=86_400)


class ServerError(_RequestFault):
    """HTTP 500."""

    kind: Literal["500"]


class Malformed(_RequestFault):
    """HTTP 200 and the first half of a body."""

    kind: Literal["malformed"]


class Empty(_RequestFault):
    """HTTP 200 and no body."""

    kind: Literal["empty"]


class Stale(_RequestFault):
    """Time and prices of `seconds` ago. (A format without a time shows only the old price.)"""

    kind: Literal["stale"]
    seconds: int = Field(default=300, ge=1, le=86_400)


class Zero(_RequestFault):
    """Every price is zero."""

    kind: Literal["zero"]


class Outlier(_RequestFault):
    """Every price is wrong by `factor`."""

    kind: Literal["outlier"]
    factor: Decimal = Field(default=Decimal(10), gt=0, le=1_000_000, allow_inf_nan=False)


class Refused(_Fault):
    """Nobody listens: connections are refused, open ones aborted."""

    kind: Literal["refused"]


RequestFault = Delay | Hang | RateLimited | ServerError | Malformed | Empty | Stale | Zero | Outlier
Fault = Annotated[RequestFault | Refused, Field(discriminator="kind")]

_fault: TypeAdapter[Fault] = TypeAdapter(Fault)


def parse_faults(value: object) -> tuple[Fault, ...]:
    """One fault (an object) or several (a list), as sent by a client. Raises `InvalidControlError`."""
    many = value if isinstance(value, list) else [value]
    if not 1 <= len(many) <= MAX_FAULTS:
        raise InvalidControlError([f"give 1 to {MAX_FAULTS} faults, not {len(many)}; DELETE lifts them"])
    faults: list[Fault] = []
    problems: list[str] = []
    for position, item in enumerate(many):
        try:
            faults.append(_fault.validate_python(item))
        except ValidationError as error:
            place = f"{position}." if isinstance(value, list) else ""
            problems += [f"{place}{_problem(detail)}" for detail in error.errors()]
    if problems:
        raise InvalidControlError(problems)
    return tuple(faults)


def _problem(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"]) or "fault"
    return f"{place}: {detail['msg'].removeprefix('Value error, ')}"


@dataclass(frozen=True, slots=True)
class Strike:
    """What the faults make of one request: wait first, then answer by `fault` (None: as if nothing were wrong)."""

    delay_ms: int = 0
    fault: RequestFault | None = None


CALM = Strike()


class FaultTable:
    """The faults of every venue. Whether a fault with a probability strikes depends on the seed and on how many
    requests that venue has decided so: the same requests in the same order meet the same faults."""

    def __init__(self, venues: Iterable[str], seed: int) -> None:
        self._faults: dict[str, tuple[Fault, ...]] = dict.fromkeys(venues, ())
        self._seed = seed
        self._draws: Counter[str] = Counter()

    def get(self, venue: str) -> tuple[Fault, ...]:
        """The faults of `venue`, in the order they are tried. Raises `UnknownVenueError`."""
        try:
            return self._faults[venue]
        except KeyError:
            known = ", ".join(self._faults) or "none"
            raise UnknownVenueError(f"{venue!r} is no simulated venue; there are: {known}") from None

    def set(self, venue: str, faults: tuple[Fault, ...]) -> None:
        """Replace the faults of `venue` (an empty tuple: none). Raises `UnknownVenueError`."""
        self.get(venue)
        self._faults[venue] = faults

    def active(self) -> dict[str, tuple[Fault, ...]]:
        """The venues that have faults."""
        return {venue: faults for venue, faults in self._faults.items() if faults}

    def refused(self, venue: str) -> bool:
        """Whether `venue` is not to listen."""
        return any(isinstance(fault, Refused) for fault in self.get(venue))

    def strike(self, venue: str, pair: Pair | None) -> Strike:
        """What happens to a request for `pair` (None: an unknown symbol) at `venue`."""
        faults = self._faults[venue]
        if not faults:
            return CALM
        delay_ms = 0
        for position, fault in enumerate(faults):
            if isinstance(fault, Refused) or (fault.pair is not None and fault.pair != pair):
                continue
            if fault.probability < 1:
                self._draws[venue] += 1
                if not happens(fault.probability, self._seed, "fault", venue, position, self._draws[venue]):
                    continue
            if isinstance(fault, Delay):
                delay_ms += fault.ms
            else:
                return Strike(delay_ms, fault)
        return Strike(delay_ms)
