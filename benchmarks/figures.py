"""Samples to figures, figures to tables."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


class CannotMeasureError(Exception):
    """Something that the benchmark needs is missing; the message says how to get it."""


@dataclass(frozen=True)
class Figures:
    """Percentiles of one series, in milliseconds. count: samples they come from."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: always one of the samples. Raises `ValueError` where there are none."""
    if not samples:
        raise ValueError("the percentile of nothing is undefined")
    ranked = sorted(samples)
    rank = -(-len(ranked) * percent // 100)  # rounded up
    return ranked[max(0, int(rank) - 1)]


def figures(seconds: Sequence[float]) -> Figures:
    """Of durations in seconds. Raises `ValueError` where there are none."""
    ms = [each * 1000 for each in seconds]
    return Figures(len(ms), *(round(percentile(ms, percent), 3) for percent in (50, 90, 99, 100)))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows under a head, aligned: Markdown that also reads well on a terminal. The first column is to the left."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        first, *others = zip(row, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"

    rule = "| " + " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]) + " |"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def ms(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def machine(*packages: str) -> str:
    """One line: the date, the processor, Python, and the versions of `packages` that are installed."""
    found = []
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(
        [
            f"{datetime.now(UTC):%Y-%m-%d}",
            f"{os.cpu_count()} cores ({_processor()})",
            f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else "load unknown",
            f"Python {platform.python_version()}",
            *found,
        ]
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def write_json(path: Path, results: Any) -> None:
    path.write_text(json.dumps(results, indent=2, default=asdict) + "\n", encoding="utf-8")
