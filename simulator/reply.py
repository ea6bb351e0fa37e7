"""What goes out to a client, and what of it is told to whoever checks the outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes out. outcome: ok, replayed, unknown, or the kind of fault. The numbers are those in the body."""

    status: int
    body: bytes
    outcome: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON
    last: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    time_ms: int | None = None
