"""What `fairmark sources` prints: each running fetcher's sources, or the catalogue where none runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich import box
from rich.markup import escape
from rich.table import Table

from fairmark.source_states import Told
from sources import SourceEntry, SourceStatus, State
from sources.limit_entries import UNLIMITED

_COLOURS = {State.OK: "green", State.PROBING: "yellow", State.QUARANTINED: "red"}
LONGEST_FAILURE = 60


def state_table(told: Told) -> Table:
    """A fetcher's sources, in order of its priority."""
    table = _table(f"{told.fetcher}, mode {told.mode}", ("source", "state"))
    for column in ("health", "p50", "p95", "errors", "left"):
        table.add_column(column, no_wrap=True, justify="right")
    streams = any(each.stream for each in told.sources)
    if streams:
        table.add_column("stream", no_wrap=True)
    table.add_column("last failure", overflow="fold")
    for each in told.sources:
        table.add_row(
            each.source,
            f"[{_COLOURS[each.state]}]{_state(each)}[/]",
            f"{each.health:.2f}",
            _ms(each.p50_ms),
            _ms(each.p95_ms),
            "-" if each.error_rate is None else f"{each.error_rate:.0%}",
            _left(each),
            *([each.stream or "-"] if streams else []),
            escape(_failure(each)),
        )
    return table


def catalogue_table(catalogue: Mapping[str, SourceEntry], configured: Mapping[str, Sequence[str]]) -> Table:
    """What the catalogue says of each source. configured: the sources of each fetcher."""
    table = _table("sources in the catalogue", ("source", "name", "kind"))
    table.add_column("pairs", justify="right")
    for column in ("batch", "stream"):
        table.add_column(column)
    table.add_column("limit", no_wrap=True)
    table.add_column("asked by", overflow="fold")
    for name, entry in catalogue.items():
        table.add_row(
            name,
            entry.title,
            entry.kind,
            str(len(entry.pairs)),
            "yes" if entry.batch else "-",
            "yes" if entry.stream else "-",
            f"{entry.limit.weight} in {entry.limit.window_s} s",
            ", ".join(fetcher for fetcher, sources in configured.items() if name in sources) or "-",
        )
    return table


def catalogue_entry(entry: SourceEntry) -> dict[str, object]:
    """The same for a program."""
    return {
        "source": entry.name,
        "title": entry.title,
        "kind": entry.kind,
        "pairs": [str(pair) for pair in entry.pairs],
        "batch": entry.batch is not None,
        "stream": entry.stream is not None,
        "limit": {"weight": entry.limit.weight, "window_s": entry.limit.window_s},
    }


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _state(each: SourceStatus) -> str:
    if each.next_probe_s is not None:
        return f"{each.state} (probe in {each.next_probe_s:.0f} s)"
    return f"{each.state} (rests {each.rest_s:.0f} s)" if each.rest_s else str(each.state)


def _left(each: SourceStatus) -> str:
    if each.of in {0, UNLIMITED.weight}:  # never asked; or a simulated venue, or one that ccxt asks by its own limit
        return "-"
    return f"{each.left}/{each.of} in {each.window_s:g} s"


def _failure(each: SourceStatus) -> str:
    if not each.last_failure or each.last_failure_ms is None:
        return ""
    line = " ".join(each.last_failure.split())
    short = line if len(line) <= LONGEST_FAILURE else f"{line[: LONGEST_FAILURE - 1]}…"
    return f"{datetime.fromtimestamp(each.last_failure_ms / 1000, tz=UTC):%H:%M:%S} {short}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"
