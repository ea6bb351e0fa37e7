"""A stablecoin that loses its peg, as a seeded story: what things are truly worth, and what each venue shows of it.

One coin falls from a dollar to 0.86 and comes back (USDC did on 11 March 2023), with panic on the way: its price moves
by up to some 25 bps within ten seconds. Venues show the market as it was a while ago, each with a lag, a bias and a
spread of its own. All is a function of the seed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from core.types import FailureCode, Pair, SourceFailure
from sources import Priority, Reading, SourceEntry, Ticker

STEP_MS = 10_000
DOWN, BOTTOM, UP = 360, 90, 360
STEPS = DOWN + BOTTOM + UP
FLOOR = Decimal("0.86")
SILENT_LAG_MS = 4_000
"""Of a venue whose body carries no time nobody can tell how old its price is: it lags by no more than this."""
SLOW = frozenset({"gate", "kucoin", "okx"})
"""Venues that are late by more than what is fresh, within what is not expired."""


def _walk(rng: random.Random, bps: int) -> list[Decimal]:
    """Multipliers near one: a walk of steps of up to `bps`, drawn back to where it began."""
    value, walk = Decimal(0), []
    for _ in range(STEPS + 60):
        value = value * Decimal("0.97") + Decimal(rng.randint(-bps * 100, bps * 100)) / 100
        walk.append(1 + value / 10_000)
    return walk


class Story:
    """What a unit of each currency is worth in dollars, step by step. victim: the coin that loses its peg."""

    def __init__(self, victim: str, seed: int) -> None:
        rng = random.Random(seed)
        panic, other, btc = _walk(rng, 10), _walk(rng, 1), _walk(rng, 3)
        steady = "USDT" if victim == "USDC" else "USDC"
        self._worth = {
            "USD": [Decimal(1)] * len(btc),
            "BTC": [Decimal(22_000) * each for each in btc],
            steady: [Decimal("1.002") * each for each in other],
            victim: [self._peg(step) * (1 + (each - 1) * self._panic(step)) for step, each in enumerate(panic)],
        }

    @staticmethod
    def _peg(step: int) -> Decimal:
        depth = min(step, DOWN, max(0, STEPS - step))
        return 1 - (1 - FLOOR) * depth / DOWN

    @staticmethod
    def _panic(step: int) -> Decimal:
        return Decimal(max(0, min(step, 60, STEPS - step))) / 60

    def worth(self, currency: str, at_ms: int) -> Decimal:
        """USD for one unit, straight from one step to the next. at_ms: since the story's beginning."""
        step, along = divmod(max(0, at_ms), STEP_MS)
        left, right = self._worth[currency][step], self._worth[currency][step + 1]
        return left + (right - left) * along / STEP_MS

    def price(self, pair: Pair, at_ms: int) -> Decimal:
        return self.worth(pair.base, at_ms) / self.worth(pair.quote, at_ms)


@dataclass
class Venues:
    """A pool of venues that show the story. now_ms: since its beginning; epoch_ms: where that lies on the clock.

    bare: venues whose USDC markets are nothing but their USD books under another name, as a naive catalogue has them.
    """

    story: Story
    catalogue: Mapping[str, SourceEntry]
    seed: int
    epoch_ms: int
    now_ms: int = 0
    bare: frozenset[str] = frozenset()

    async def fetch(
        self, source: str, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure:
        entry = self.catalogue[source]
        if pair not in entry.pairs:
            return SourceFailure(pair=pair, source=source, code=FailureCode.UNSUPPORTED)
        shown = Pair.of(pair.base, "USD") if source in self.bare and pair.quote == "USDC" else pair
        standing = random.Random(f"{self.seed} {source} {pair}")
        bias = Decimal(standing.randint(-300, 300)) / 100  # bps
        rng = random.Random(f"{self.seed} {source} {pair} {self.now_ms}")
        timed = entry.ticker.time is not None
        most = 12_000 if timed else SILENT_LAG_MS
        if timed and (entry.kind == "index" or source in SLOW):
            lag_ms = rng.randint(20_000, 55_000)
        else:
            lag_ms = rng.randint(200, most)
        price = self.story.price(shown, self.now_ms - lag_ms) * (1 + bias / 10_000)
        half = price * Decimal("0.0001")
        now = self.epoch_ms + self.now_ms
        ticker = Ticker(last=price, bid=price - half, ask=price + half, time_ms=now - lag_ms if timed else None)
        return Reading(source=source, pair=pair, ticker=ticker, received_ms=now + 20, elapsed_ms=20)
