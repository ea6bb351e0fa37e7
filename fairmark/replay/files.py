"""A replay's findings as they are written: answers and refused quotes as CSV, the summary as text."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TextIO

from core.clock import rfc3339
from core.quality import Quality
from core.types import Pair
from fairmark.replay.run import Answer, Refused
from fairmark.replay.summary import Summary

ANSWERS = ("time", "feed", "price", "state", "sources")
REJECTED = ("time", "feed", "source", "pair", "price", "code", "detail")
PERCENTILES = (50, 99)


class CsvSink:
    """Writes each finding as it comes."""

    def __init__(self, answers: TextIO, rejected: TextIO) -> None:
        self._answers = csv.writer(answers, lineterminator="\n")
        self._rejected = csv.writer(rejected, lineterminator="\n")
        self._answers.writerow(ANSWERS)
        self._rejected.writerow(REJECTED)

    def answer(self, answer: Answer) -> None:
        price = "" if answer.price is None else f"{answer.price:f}"
        self._answers.writerow((rfc3339(answer.moment), answer.pair, price, answer.state.value, answer.sources))

    def refused(self, refused: Refused) -> None:
        when, price, source, pair = rfc3339(refused.time_ms), f"{refused.price:f}", *refused.market
        self._rejected.writerow((when, refused.feed, source, pair, price, refused.code.value, refused.detail))


def summary_lines(summaries: Mapping[Pair, Summary], *, compared: bool) -> Sequence[str]:
    """What to tell of each feed. compared: references were asked for."""
    lines = []
    for pair, summary in summaries.items():
        ticks = summary.states.total()
        told = ", ".join(f"{summary.states[state]} {state}" for state in Quality)
        lines.append(f"{pair}: {ticks} answers: {told}")
        if compared:
            lines.append(f"  error in bps against the reference: {_errors(summary)}")
        for (source, market, code), count in sorted(summary.rejected.items(), key=lambda each: (-each[1], each[0])):
            lines.append(f"  rejected {count} of {source} {market}: {code}")
    return lines


def _errors(summary: Summary) -> str:
    errors = summary.errors
    beside = f" ({summary.without_reference} without a reference)" if summary.without_reference else ""
    if not errors.count:
        return f"nothing to compare{beside}"
    shown = [f"p{percent} {_bps(errors.percentile(percent))}" for percent in PERCENTILES]
    return f"{', '.join(shown)}, max {_bps(errors.max)}, over {errors.count} answers{beside}"


def _bps(value: Decimal | None) -> str:
    return "-" if value is None else f"{value:.2f}"
