"""What can be wrong with a simulated venue, switched on and off while it runs.

A venue may have several faults at once. For each request they are taken in order: delays add up, the first of the
others that applies decides the answer. `refused` is not about one request: the venue's listener closes and its open
connections are aborted, until the fault is lifted.

Of a stream, the request is the handshake, and then each message; `over` narrows a fault to the one or the other. Those
in `Streamed` are of streams only.
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

Over = Literal["http", "stream"]

MAX_FAULTS = 8
"""Faults one venue may have at once."""


class _Fault(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _RequestFault(_Fault):
    """A fault that strikes single requests. pair: only this one; probability: of striking a request, seeded.

    over: only requests over HTTP, or only streams; None: both.
    """

    pair: str | None = None
    over: Over | None = None
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
    """The request is accepted and never answered. An open stream falls silent: not even pings are answered."""

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


class Huge(_RequestFault):
    """Every price is wrong by twenty orders of magnitude."""

    kind: Literal["huge"]


class Inverse(_RequestFault):
    """Every price is one over the price: the pair turned over."""

    kind: Literal["inverse"]


class Ahead(_RequestFault):
    """The time of `seconds` from now, over the prices of now. (No difference in a format without a time.)"""

    kind: Literal["ahead"]
    seconds: int = Field(default=60, ge=1, le=86_400)


class Crossed(_RequestFault):
    """A bid above the ask, by 20 bps. (No difference in a format without a book.)"""

    kind: Literal["crossed"]


class Wide(_RequestFault):
    """Bid and ask `bps` apart, the last price between them. (No difference in a format without a book.)"""

    kind: Literal["wide"]
    bps: int = Field(default=400, ge=1, le=10_000)


class Untraded(_RequestFault):
    """Nothing was traded: a volume of zero, in the formats that show one."""

    kind: Literal["untraded"]


class Redirect(_RequestFault):
    """HTTP 302 to `location`: by default where clouds keep their machines' credentials."""

    kind: Literal["redirect"]
    location: str = Field(default="http://169.254.169.254/latest/meta-data/", pattern=r"^[!-~]{1,200}$")


class WebPage(_RequestFault):
    """HTTP 200 and a web page, as from a firewall that wants to see a browser."""

    kind: Literal["html"]


class PlainText(_RequestFault):
    """The sound body, called plain text. (No difference on a stream: its messages are called nothing.)"""

    kind: Literal["plain_text"]


class Duplicate(_RequestFault):
    """A body in which an object names a key twice."""

    kind: Literal["duplicate_keys"]


class NotUtf8(_RequestFault):
    """A body with bytes in it that are no UTF-8."""

    kind: Literal["not_utf8"]


class Million(_RequestFault):
    """A body with a list of a million elements in it."""

    kind: Literal["million"]


class Bomb(_RequestFault):
    """A small body that says it is packed, and unpacks to 64 MiB. On a stream: such a message, in binary."""

    kind: Literal["gzip_bomb"]


class Deep(_RequestFault):
    """A body of 50,000 lists, one in the other."""

    kind: Literal["deep"]


class Drip(_RequestFault):
    """The body comes byte by byte, one each `ms`. On a stream: so does each message, and nothing between its bytes."""

    kind: Literal["drip"]
    ms: int = Field(default=1_000, ge=1, le=60_000)


class Reset(_RequestFault):
    """The connection is reset after half of the body."""

    kind: Literal["reset"]


class Deaf(_RequestFault):
    """A stream's subscriptions are swallowed: neither acknowledged nor refused, and nothing is shown."""

    kind: Literal["no_ack"]


class Denied(_RequestFault):
    """A stream's subscriptions are refused, in the exchange's own words."""

    kind: Literal["rejected"]


class Gap(_RequestFault):
    """Before each of a stream's messages `missing` others are lost. (No difference where they are not numbered.)"""

    kind: Literal["gap"]
    missing: int = Field(default=1, ge=1, le=1_000)


class Repeat(_RequestFault):
    """Each of a stream's messages comes twice."""

    kind: Literal["repeat"]


class Renumber(_RequestFault):
    """A stream's numbers begin anew at 1, once on each connection. (No difference where they are not numbered.)"""

    kind: Literal["renumber"]


class Close(_RequestFault):
    """A stream is closed `after_s` seconds after its opening, or after the fault began."""

    kind: Literal["close"]
    after_s: float = Field(default=0.0, ge=0, le=3_600)


class Leave(_RequestFault):
    """A stream asks its client to connect anew; where the exchange has no word for that, it closes as going away."""

    kind: Literal["leave"]
    after_s: float = Field(default=0.0, ge=0, le=3_600)


class Refused(_Fault):
    """Nobody listens: connections are refused, open ones aborted."""

    kind: Literal["refused"]


Withheld = Delay | Hang | Drip | Reset
"""Faults of the way an answer is given, not of what it is."""
Wrong = Stale | Ahead | Zero | Huge | Outlier | Inverse | Crossed | Wide | Untraded
"""Well-formed answers with wrong numbers in them."""
Hostile = (
    RateLimited
    | ServerError
    | Malformed
    | Empty
    | Redirect
    | WebPage
    | PlainText
    | Duplicate
    | NotUtf8
    | Million
    | Bomb
    | Deep
)
"""Answers that are none, or not in the exchange's own form."""
Streamed = Deaf | Denied | Gap | Repeat | Renumber | Close | Leave
"""Faults that only a stream can have."""
RequestFault = Withheld | Wrong | Hostile | Streamed
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
        self._draws: Counter[tuple[str, Over]] = Counter()

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

    def standing(self, venue: str, *kinds: type[_RequestFault]) -> RequestFault | None:
        """The first fault of these kinds that `venue`'s streams have as a whole, for as long as it is set."""
        for fault in self._faults[venue]:
            if isinstance(fault, kinds) and fault.over != "http" and fault.pair is None:
                return fault
        return None

    def strike(self, venue: str, pair: Pair | None, over: Over = "http") -> Strike:
        """What happens at `venue` to a request for `pair` (None: an unknown symbol, or a stream's handshake)."""
        faults = self._faults[venue]
        if not faults:
            return CALM
        delay_ms = 0
        for position, fault in enumerate(faults):
            if isinstance(fault, Refused) or (fault.pair is not None and fault.pair != pair):
                continue
            if fault.over not in {None, over} or (over == "http" and isinstance(fault, Streamed)):
                continue
            if fault.probability < 1:
                self._draws[venue, over] += 1
                if not happens(fault.probability, self._seed, "fault", venue, position, self._draws[venue, over]):
                    continue
            if isinstance(fault, Delay):
                delay_ms += fault.ms
            else:
                return Strike(delay_ms, fault)
        return Strike(delay_ms)
