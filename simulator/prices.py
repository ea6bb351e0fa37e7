"""What things are worth in test mode: one true USD price a currency, and what each venue makes of it. Pure.

A price is a function of (seed, tick): no walk has to be walked to know where it stands, two processes with the same
seed agree, and a test can compute any price of the past. All arithmetic is on integers and `Decimal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from types import MappingProxyType

from core.types import Pair
from simulator.noise import UNIT, noise

DOLLAR = "USD"
STABLE = frozenset({"USDT", "USDC"})

STARTS: Mapping[str, Decimal] = MappingProxyType(
    {
        "BTC": Decimal(65_000),
        "ETH": Decimal(3_500),
        "SOL": Decimal(150),
        "DOGE": Decimal("0.15"),
        "TON": Decimal("5.5"),
        # Neither stablecoin is worth a dollar exactly, so that a conversion left out shows in the result.
        "USDT": Decimal("1.0004"),
        "USDC": Decimal("0.9998"),
    }
)
UNLISTED_START = Decimal(10)
"""Where a currency starts that is not in `STARTS`, so that a new pair in the catalogue needs no code here."""

BOUND_BPS = 2_000
"""No true price leaves its start by more than this."""
STABLE_CALM = 40
"""A stablecoin moves this many times less than the others."""

_OCTAVES = 13
_STEP_SHARE = 7
_PARTS_PER_BPS = 10**8
_SIGNIFICANT = 7
_FINEST = Decimal("0.00000001")


@dataclass(frozen=True, slots=True)
class VenueQuote:
    """What one venue shows for one pair: `0 < bid <= last <= ask`, in units of the pair's quote currency."""

    last: Decimal
    bid: Decimal
    ask: Decimal

    def times(self, factor: Decimal) -> VenueQuote:
        """The same market, wrong by `factor` (0 makes every number zero)."""
        return VenueQuote(self.last * factor, self.bid * factor, self.ask * factor)

    def turned_over(self, digits: int | None = None) -> VenueQuote:
        """The market with base and quote exchanged, to so many significant digits (None: all there are)."""
        if not self.last:
            return self
        exact = [1 / each for each in (self.last, self.ask, self.bid)]
        last, bid, ask = exact if digits is None else [Context(prec=digits).plus(each) for each in exact]
        return VenueQuote(last, bid, ask)


def quantum(price: Decimal) -> Decimal:
    """The price step a venue would use: seven significant digits, and never finer than eight decimals."""
    return max(Decimal(1).scaleb(price.adjusted() - _SIGNIFICANT + 1), _FINEST)


@dataclass(frozen=True)
class PriceModel:
    """True prices and venues' quotes.

    seed: everything random depends on it. volatility_bps: the most a true price moves, of its start, from one tick to
    the next. starts: USD price of each currency around which it moves.
    """

    seed: int = 1
    volatility_bps: int = 2
    starts: Mapping[str, Decimal] = field(default_factory=lambda: STARTS)

    def true_usd(self, currency: str, tick: int, pins: Mapping[str, Decimal] | None = None) -> Decimal:
        """USD for one unit of `currency` at `tick`; a pin under `"BTC/USD"` takes the place of the walk."""
        if currency == DOLLAR:
            return Decimal(1)
        if pins and (pinned := pins.get(f"{currency}/{DOLLAR}")) is not None:
            return pinned
        start = self.starts.get(currency, UNLISTED_START)
        offset = self._offset(currency, tick)
        price = start + start * offset / (10_000 * _PARTS_PER_BPS)
        return price.quantize(quantum(price) / 100)

    def quote(self, venue: str, pair: Pair, tick: int, pins: Mapping[str, Decimal] | None = None) -> VenueQuote:
        """What `venue` shows for `pair` at `tick`: the true price in the quote's currency, a few bps off, with a book.

        A pin under `"binance:BTC/USDT"` is this venue's last price for this pair, exactly.
        """
        if pins and (last := pins.get(f"{venue}:{pair}")) is not None:
            half = _half_spread(last, 1)
            return VenueQuote(last, last - half, last + half)
        true = self.true_usd(pair.base, tick, pins) / self.true_usd(pair.quote, tick, pins)
        calm = STABLE_CALM if pair.base in STABLE else 1
        # A standing bias of up to 3 bps for this venue and pair, and half a bp that changes with every tick.
        bias = noise(self.seed, venue, pair, "bias") * 3 + noise(self.seed, venue, pair, tick) // 2
        mid = true + true * bias / (UNIT * 10_000 * calm)
        step = quantum(mid)
        mid = mid.quantize(step)
        tenths = 5 + (noise(self.seed, venue, pair, "spread") + UNIT) * 20 // (2 * UNIT)
        half = _half_spread(mid, Decimal(tenths) / 10 / calm)
        bid, ask = mid - half, mid + half
        place = Decimal(noise(self.seed, venue, pair, "last", tick) + UNIT) / (2 * UNIT)
        last = bid + ((ask - bid) * place).quantize(step)
        return VenueQuote(last, bid, ask)

    def _offset(self, currency: str, tick: int) -> int:
        """How far from its start, in 1e-8 bps: a sum of octaves of seeded noise.

        Octave k changes over 2**k ticks with an amplitude of 2**(k/2): far away as a random walk would be, but bounded,
        and one step is at most 2 * sum(2**-(k/2)) < 7 amplitudes, hence the divisor.
        """
        unit = self.volatility_bps * _PARTS_PER_BPS // (_STEP_SHARE * (STABLE_CALM if currency in STABLE else 1))
        total = 0
        for octave in range(_OCTAVES):
            period = 1 << octave
            knot, along = divmod(tick, period)
            left, right = noise(self.seed, currency, octave, knot), noise(self.seed, currency, octave, knot + 1)
            value = (left * (period - along) + right * along) // period
            total += value * _root_of_power(octave) * unit // (UNIT * 1000)
        bound = BOUND_BPS * _PARTS_PER_BPS
        return max(-bound, min(bound, total))


def _half_spread(mid: Decimal, bps: Decimal | int) -> Decimal:
    """Half of a spread of `bps`, in whole price steps and at least one (none where the price is dust itself)."""
    step = quantum(mid)
    return min(max(step, (mid * bps / 20_000).quantize(step)), mid / 2)


def _root_of_power(exponent: int) -> int:
    """1000 * 2**(exponent / 2), rounded down."""
    return (1000 << (exponent // 2)) if exponent % 2 == 0 else (1414 << (exponent // 2))
