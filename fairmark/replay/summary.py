"""How far the answers lay from a reference, and what became of the quotes: counted, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from core.median import BPS, lower_median
from core.quality import Quality

_STEPS = 100
"""Errors are kept to a hundredth of a basis point."""


class Errors:
    """Distances in bps, as a histogram: exact to 0.01 bps however many there are."""

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()
        self.count = 0
        self.max: Decimal | None = None

    def add(self, answer: Decimal, reference: Decimal) -> None:
        off = abs(answer - reference) * BPS / reference
        self._seen[round(off * _STEPS)] += 1
        self.count += 1
        self.max = off if self.max is None else max(self.max, off)

    def percentile(self, percent: int) -> Decimal | None:
        """By nearest rank, in bps, rounded to two places; None where nothing was compared."""
        rank = -(-self.count * percent // 100)
        passed = 0
        for step in sorted(self._seen):
            passed += self._seen[step]
            if passed >= rank:
                return Decimal(step) / _STEPS
        return None


class Summary:
    """Of one feed. states: ticks by state; rejected: quotes by (source, pair, code)."""

    def __init__(self) -> None:
        self.states: Counter[Quality] = Counter()
        self.rejected: Counter[tuple[str, str, str]] = Counter()
        self.errors = Errors()
        self.without_reference = 0

    def note(self, answer: Decimal | None, state: Quality, references: Sequence[Decimal] | None) -> None:
        """One tick. references: what each of them showed; None where none was asked for."""
        self.states[state] += 1
        if references is None or answer is None:
            return
        if not references:
            self.without_reference += 1
            return
        self.errors.add(answer, lower_median(references))
