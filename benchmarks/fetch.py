"""Five local sources to one median in one fetcher, beside ccxt's async client and telliot-feeds on the same mock in the
same run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from benchmarks import contenders, mock, telliot
from benchmarks.contenders import TASKS, Ask, Task
from benchmarks.figures import CannotMeasureError, Figures, figures, machine, ms, table
from benchmarks.telliot import Take

ROUNDS = 7
ITERATIONS = 300
WARM_UP = 50
PACKAGES = ("uvloop", "httpx", "httpx-aiohttp", "aiohttp", "ccxt")

OURS, TELLIOT = "fairmark", "telliot-feeds"
CONTENDERS = {
    OURS: contenders.fairmark,
    "ccxt": contenders.ccxt,
    "httpx": contenders.plain_httpx,
    "aiohttp": contenders.plain_aiohttp,
}


@dataclass
class Series:
    """What one contender took for one task, in seconds, by round; and the median it found, the same each time."""

    answer: Decimal
    rounds: list[list[float]] = field(default_factory=list)

    @property
    def samples(self) -> list[float]:
        return [each for samples in self.rounds for each in samples]


def measure(
    *, rounds: int = ROUNDS, iterations: int = ITERATIONS, without: Collection[str] = ()
) -> dict[str, dict[str, Series]]:
    """By task and contender. Each round gives every contender its turn, the order turning by one from round to round.

    without: contenders that are not to be measured. telliot-feeds takes part in the first task only: it cannot convert.
    Raises `CannotMeasureError` where one is missing that is, `AssertionError` where two medians differ.
    """
    names = [name for name in (*CONTENDERS, TELLIOT) if name not in without]
    with mock.running() as url, asyncio.Runner(loop_factory=mock.new_event_loop) as runner:
        return {task.name: runner.run(_measure(task, url, names, rounds, iterations)) for task in TASKS}


async def _measure(task: Task, url: str, names: Sequence[str], rounds: int, iterations: int) -> dict[str, Series]:
    async with AsyncExitStack() as stack:
        takes: dict[str, Take] = {}
        for name in names:
            if name in CONTENDERS:
                takes[name] = _timing(await stack.enter_async_context(CONTENDERS[name](task, url)))
            elif task is TASKS[0]:
                takes[name] = await stack.enter_async_context(telliot.telliot([(each, url) for each in mock.SOURCES]))
        series = {name: Series((await take(1))[0]) for name, take in takes.items()}
        found = {each.answer for each in series.values()}
        assert len(found) == 1, f"{task.name}: { ({name: each.answer for name, each in series.items()}) }"
        for take in takes.values():
            await take(min(WARM_UP, iterations))
        order = list(takes)
        for turn in range(rounds):
            first = turn % len(order)
            for name in (*order[first:], *order[:first]):
                _, seconds = await takes[name](iterations)
                series[name].rounds.append(seconds)
        return series


def _timing(ask: Ask) -> Take:
    async def take(medians: int) -> tuple[Decimal, list[float]]:
        answer, seconds = Decimal(0), []
        for _ in range(medians):
            started = time.perf_counter()
            answer = await ask()
            seconds.append(time.perf_counter() - started)
        return answer, seconds

    return take


def run(*, rounds: int | None = None) -> tuple[str, dict[str, Any]]:
    """Measure; the report as Markdown, and the figures. Without who is not installed, and says so."""
    line = machine(*PACKAGES)
    rounds = rounds or ROUNDS
    text = [line, f"{rounds} rounds of {ITERATIONS} medians each, contenders in turn."]
    missing = []
    for name, find in (("ccxt", contenders.ccxt_module), (TELLIOT, telliot.find)):
        try:
            find()
        except CannotMeasureError as error:
            missing.append(name)
            text.append(str(error))
    results = measure(rounds=rounds, without=missing)
    shown: dict[str, Any] = {"machine": line, "rounds": rounds, "iterations": ITERATIONS, "tasks": {}}
    for task, series in results.items():
        whole = {name: figures(each.samples) for name, each in series.items()}
        by_round = {name: [figures(samples).p50 for samples in each.rounds] for name, each in series.items()}
        text += ["", f"**{task}**", "", _table(whole, by_round)]
        shown["tasks"][task] = {
            name: {"answer": str(series[name].answer), "all": whole[name], "p50_by_round": by_round[name]}
            for name in series
        }
    return "\n".join(text), shown


def _table(whole: dict[str, Figures], by_round: dict[str, list[float]]) -> str:
    ours = whole[OURS]
    return table(
        ("", "p50 ÷ ours", "p99 ÷ ours", "p50 ms", "p99 ms", "p50 ms, best to worst round"),
        [
            (
                name,
                f"{each.p50 / ours.p50:.2f}",
                f"{each.p99 / ours.p99:.2f}",
                ms(each.p50),
                ms(each.p99),
                f"{ms(min(by_round[name]))} to {ms(max(by_round[name]))}",
            )
            for name, each in whole.items()
        ],
    )
