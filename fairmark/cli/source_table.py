"""What `fairmark sources check` prints: a line for each source and pair."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from core.types import Mode, Quote
from fairmark.probe import Answered

BOOK_WIDTH = 110
"""Terminals narrower than this do without bid and ask."""
LONGEST_ERROR = 90


def source_table(answered: Sequence[Answered], mode: Mode, width: int) -> Table:
    """Fits into 80 columns: prices, ages and latencies are never broken, and errors are folded."""
    book = width >= BOOK_WIDTH
    table = Table(title=f"sources, mode {mode.value}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("source", "pair", "price", *(("bid", "ask") if book else ()), "age", "latency"):
        table.add_column(column, no_wrap=True, justify="left" if column in {"source", "pair"} else "right")
    table.add_column("error", overflow="fold")
    for each in answered:
        table.add_row(*_row(each, book))
    return table


def _row(answered: Answered, book: bool) -> tuple[str, ...]:
    outcome, latency = answered.outcome, f"{answered.latency_ms:.0f} ms"
    if not isinstance(outcome, Quote):
        nothing = ("",) * (4 if book else 2)
        return (
            outcome.source,
            outcome.pair,
            *nothing,
            latency,
            f"[red]{outcome.code}[/] {escape(_short(outcome.detail))}",
        )
    age = "-"  # the source gives no time of its own
    if outcome.source_time_ms is not None:
        age = f"{(outcome.received_ms - outcome.source_time_ms) / 1000:.1f} s"
    sides = ("" if side is None else f"{side:f}" for side in (outcome.bid, outcome.ask))
    return outcome.source, outcome.pair, f"{outcome.price:f}", *(sides if book else ()), age, latency, ""


def _short(detail: str) -> str:
    """One line of it, cut where it is long."""
    line = " ".join(detail.split())
    return line if len(line) <= LONGEST_ERROR else f"{line[: LONGEST_ERROR - 1]}…"
