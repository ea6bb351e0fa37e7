"""python -m benchmarks [fetch|refresh] [--rounds N] [--json FILE]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import fetch, refresh
from benchmarks.figures import CannotMeasureError, write_json


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What is fast, measured.")
    parser.add_argument("which", nargs="?", choices=("fetch", "refresh"), help="default: both")
    parser.add_argument("--rounds", type=int, help="fetch: rounds of 300 medians (7); refresh: refreshes (300)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds: at least 1")
    results: dict[str, Any] = {}
    failed = False
    for name in [options.which] if options.which else ["fetch", "refresh"]:
        try:
            if name == "fetch":
                text, results[name] = fetch.run(rounds=options.rounds)
            else:
                text, results[name] = refresh.run(refreshes=options.rounds)
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
