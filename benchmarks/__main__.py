"""python -m benchmarks [NAME] [--rounds N] [--json FILE]: all that `RUNS` names, or one of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import chain, fetch, hedging, many, market, paced, refresh, slow, streams, validation
from benchmarks.figures import CannotMeasureError, write_json

RUNS: dict[str, Callable[[int | None], tuple[str, dict[str, Any]]]] = {
    "fetch": lambda rounds: fetch.run(rounds=rounds),
    "slow": lambda rounds: slow.run(rounds=rounds),
    "hedging": lambda rounds: hedging.run(rounds=rounds),
    "many": lambda rounds: many.run(rounds=rounds),
    "streams": lambda rounds: streams.run(rounds=rounds),
    "validation": lambda rounds: validation.run(rounds=rounds),
    "refresh": lambda rounds: refresh.run(refreshes=rounds),
    "paced": lambda rounds: paced.run(seconds=rounds),
    "chain": lambda rounds: chain.run(rounds=rounds),
    "market": lambda rounds: market.run(rounds=rounds),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What is fast, measured.")
    parser.add_argument("which", nargs="?", choices=tuple(RUNS), help="default: all")
    parser.add_argument(
        "--rounds",
        type=int,
        help="fetch: rounds of 300 medians (7); slow: medians (60); hedging: rounds (5); "
        "many: periods of ten seconds (3); streams: rounds (7); validation: times (60); refresh: refreshes (300); "
        "paced: seconds (30); chain: rounds (200); market: thousands of ticks (1000)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds: at least 1")
    results: dict[str, Any] = {}
    failed = False
    for name in [options.which] if options.which else RUNS:
        try:
            text, results[name] = RUNS[name](options.rounds)
        except CannotMeasureError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
            continue
        print(f"## {name}\n\n{text}\n")
    if options.json is not None:
        write_json(options.json, results)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
