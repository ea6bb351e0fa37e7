"""What a configuration costs a day: the gas of its rounds, by the measured table, at a price of gas. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from core.errors import StartError
from core.types import Group

TABLE = Path(__file__).resolve().parents[1] / "contracts" / "gas.json"
DAY_S = 86_400
GWEI_A_COIN = Decimal(10**9)
_K = re.compile(r"k(\d+)")
_N = re.compile(r"n(\d+)")

Table = dict[int, dict[int, int]]
"""Gas by signatures, then by feeds."""


@dataclass(frozen=True)
class Cost:
    """Of one group. gas: for a round in which every feed is written. coin: the chain's, a day."""

    group: str
    signatures: int
    feeds: int
    rounds: int
    gas: int
    coin: Decimal


def read_table(path: Path = TABLE) -> Table:
    """The measured gas. Raises `StartError` where there is no table."""
    try:
        raw: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise StartError(f"no gas table: {path} cannot be read ({error}); make it with `make gas`") from error
    table = {
        int(k[1]): {int(n[1]): int(gas) for name, gas in row.items() if (n := _N.fullmatch(name))}
        for key, row in raw.items()
        if (k := _K.fullmatch(key)) and isinstance(row, dict)
    }
    if not any(table.values()):
        raise StartError(f"{path} has no rows like k3: {{n1: …}}; make it anew with `make gas`")
    return {k: row for k, row in table.items() if row}


def round_gas(table: Table, signatures: int, feeds: int) -> int:
    """The gas of a round, between the table's points and beyond them along a straight line."""
    by_k = {k: _line(row, feeds) for k, row in table.items()}
    return round(_line(by_k, signatures))


def _line(points: Mapping[int, int | Decimal], at: int) -> Decimal:
    known = sorted(points)
    if len(known) == 1:
        return Decimal(points[known[0]])
    upper = next((index for index, x in enumerate(known) if index and x >= at), len(known) - 1)
    x0, x1 = known[upper - 1], known[upper]
    y0, y1 = Decimal(points[x0]), Decimal(points[x1])
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def cost(group: Group, table: Table, *, gwei: Decimal, rounds: int | None = None) -> Cost:
    """rounds: a day; default: those that the shortest heartbeat asks for, deviations not counted."""
    made = rounds if rounds is not None else -(-DAY_S * 1000 // min(feed.heartbeat_ms for feed in group.feeds))
    gas = round_gas(table, group.threshold, len(group.feeds))
    return Cost(group.name, group.threshold, len(group.feeds), made, gas, gas * made * gwei / GWEI_A_COIN)
