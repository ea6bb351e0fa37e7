"""Well-formed answers with wrong numbers in them: what a faulty venue shows in place of its market. Pure."""

from __future__ import annotations

from decimal import Decimal

from simulator.faults import Ahead, Crossed, Huge, Inverse, Outlier, RequestFault, Stale, Wide, Zero
from simulator.prices import VenueQuote

HUGE = Decimal(10) ** 20


def wrong_times(at_ms: int, fault: RequestFault | None) -> tuple[int, int]:
    """The time whose prices are shown, and the time that is shown with them."""
    if isinstance(fault, Stale):
        return at_ms - fault.seconds * 1000, at_ms - fault.seconds * 1000
    return at_ms, at_ms + fault.seconds * 1000 if isinstance(fault, Ahead) else at_ms


def wrong_quote(quote: VenueQuote, fault: RequestFault | None) -> VenueQuote:  # noqa: PLR0911 - a line for each fault
    """What is shown of `quote` under `fault`; under one that is not about the numbers: the same."""
    match fault:
        case Outlier():
            return quote.times(fault.factor)
        case Zero():
            return quote.times(Decimal(0))
        case Huge():
            return quote.times(HUGE)
        case Inverse():
            return quote.turned_over()
        case Crossed():
            return VenueQuote(quote.last, quote.last * Decimal("1.001"), quote.last * Decimal("0.999"))
        case Wide():
            half = quote.last * fault.bps / 20_000
            return VenueQuote(quote.last, quote.last - half, quote.last + half)
        case _:
            return quote
