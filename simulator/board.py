"""The market as it stands now: the price model, and what a test has pinned over it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal

from core.errors import InvalidPriceError
from core.types import Pair, checked_price
from simulator.errors import InvalidControlError
from simulator.prices import DOLLAR, PriceModel, VenueQuote

MAX_PINS = 1_000


class Board:
    """Quotes by venue, pair and time.

    served: the pairs of each venue, against which pins are checked. tick_ms: true prices move once in so many.
    """

    def __init__(self, model: PriceModel, tick_ms: int, served: Mapping[str, Collection[Pair]]) -> None:
        self._model = model
        self._tick_ms = tick_ms
        self._served = served
        self._pins: dict[str, Decimal] = {}
        self.version = 0
        """Grows whenever a pin changes."""

    @property
    def pins(self) -> dict[str, Decimal]:
        return dict(self._pins)

    def currencies(self) -> list[str]:
        """Every currency that some venue prices, but the dollar."""
        pairs = {pair for pairs in self._served.values() for pair in pairs}
        return sorted({currency for pair in pairs for currency in (pair.base, pair.quote)} - {DOLLAR})

    def quote(self, venue: str, pair: Pair, at_ms: int) -> VenueQuote:
        """What `venue` showed for `pair` at that time, by the pins of now."""
        return self._model.quote(venue, pair, at_ms // self._tick_ms, self._pins)

    def true_usd(self, currency: str, at_ms: int) -> Decimal:
        return self._model.true_usd(currency, at_ms // self._tick_ms, self._pins)

    def is_pinned(self, venue: str, pair: Pair) -> bool:
        """Whether this very venue's price for this very pair is pinned."""
        return f"{venue}:{pair}" in self._pins

    def pin(self, prices: Mapping[str, object]) -> None:
        """Pin prices until `unpin`, over those pinned already.

        `"BTC/USD"`: the true price, from which venues keep their few bps of distance. `"kraken:USDT/USD"`: what this
        venue shows as last, exactly. Values are decimal strings, integers or `Decimal`.
        Raises `InvalidControlError` with every problem, and then pins none.
        """
        problems: list[str] = []
        checked: dict[str, Decimal] = {}
        for name, value in prices.items():
            if problem := self._name_problem(name):
                problems.append(f"{name}: {problem}")
            try:
                checked[name] = _price(value)
            except InvalidPriceError as error:
                problems.append(f"{name}: {error}")
        if len(self._pins | checked) > MAX_PINS:
            problems.append(f"more than {MAX_PINS} pinned prices")
        if problems:
            raise InvalidControlError(problems)
        self._pins |= checked
        self.version += 1

    def unpin(self) -> None:
        """Let every price move again."""
        self._pins.clear()
        self.version += 1

    def _name_problem(self, name: str) -> str | None:
        venue, colon, text = name.rpartition(":")
        try:
            pair = Pair(text)
        except ValueError as error:
            return str(error)
        if colon:
            served = self._served.get(venue)
            if served is None:
                return f"{venue!r} is no simulated venue"
            return None if pair in served else f"{venue} does not serve {pair}"
        if pair.quote != DOLLAR:
            return f"a true price is in {DOLLAR}; to pin one venue's price write 'venue:{pair}'"
        return None


def _price(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise InvalidPriceError(f"{value!r} is not a decimal string")
    try:
        number = Decimal(value)
    except ArithmeticError:
        raise InvalidPriceError(f"{value!r} is not a number") from None
    return checked_price(number)
