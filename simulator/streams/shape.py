"""What an exchange's stream is made of: what a client says, what it is told, and how markets are shown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from simulator.venues.shape import Json, Market

Kind = Literal["ticker", "book", "trade"]

_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One subscription. symbol: as the stream writes it. topic: what the client wrote, for the answer to it."""

    kind: Kind
    symbol: str
    topic: Json


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a market in a message.

    symbol: as the stream writes it. number: rises by one with each message of this subscription, over connections too.
    now_ms: the venue's time, as against the market's own.
    """

    symbol: str
    number: int
    now_ms: int


def nothing(_now_ms: int) -> Sequence[Json]:
    return ()


def no_pong(_message: Json, _now_ms: int) -> Json:
    return None


def no_beat(_wanted: Sequence[Wanted], _now_ms: int) -> Sequence[Json]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One exchange's public stream, in its own format. What it says is JSON, or a `str` for a bare text.

    wants: the subscriptions of a client's message; None where it is none. accept, reject: the answers to them.
    show: how each kind of channel shows a market. pong: the answer to a client's ping that is no ping frame, which
    comes parsed, or as a `str` where it is no JSON.
    greet: what is said first. beat: what is said every beat_s seconds; must_answer: a beat wants this from the client
    within `ANSWER_S`, or the connection ends. ping_s: a ping frame comes so often; 0: never.
    leave: how it asks for a new connection; None: it just closes. time: whether the prices come with a time.
    """

    name: str
    path: str
    wants: Callable[[Json], Sequence[Wanted] | None]
    accept: Callable[[Json, Sequence[Wanted], int], Sequence[Json]]
    reject: Callable[[Json, Wanted, int], Json]
    show: Mapping[Kind, Callable[[Market, Frame], Json]]
    pong: Callable[[Json, int], Json] = no_pong
    greet: Callable[[int], Sequence[Json]] = nothing
    beat: Callable[[Sequence[Wanted], int], Sequence[Json]] = no_beat
    beat_s: float = 1.0
    must_answer: Callable[[Json], bool] | None = None
    ping_s: float = 0.0
    leave: Json = None
    time: bool = True


def encoded(message: Json) -> bytes:
    return message.encode() if isinstance(message, str) else _encoder.encode(message)


def texts(value: Json) -> list[str]:
    """`value` where it is a list of texts, else nothing."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
