"""telliot-feeds beside ours: a process with an environment of its own, since it pins a web3 that we cannot live with.

Its aggregator asks its sources by `requests` within its event loop, one after the other, with five seconds for each. It
checks nothing but that a price is there and not zero, and converts nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

from benchmarks.figures import CannotMeasureError

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parent / ".cache" / "telliot" / "bin" / "python"

Take = Callable[[int], Awaitable[tuple[Decimal, list[float]]]]
"""So many medians: the last one, and the seconds that each took."""


def find() -> Path:
    """The interpreter that has telliot-feeds. Raises `CannotMeasureError` saying how to install it."""
    if not PYTHON.exists():
        raise CannotMeasureError(
            "telliot-feeds is not here. Give it an environment of its own, with Python 3.11 at most: "
            "python3.11 -m venv .cache/telliot && .cache/telliot/bin/pip install telliot-feeds"
        )
    return PYTHON


@asynccontextmanager
async def telliot(sources: Sequence[tuple[str, str]]) -> AsyncIterator[Take]:
    """sources: which of the worker's, and the base URL of each. Raises `CannotMeasureError`."""
    with tempfile.TemporaryDirectory() as home:  # it keeps logs and settings there
        process = await asyncio.create_subprocess_exec(
            find(),
            HERE / "telliot_worker.py",
            *(f"{name}={url}" for name, url in sources),
            env={**os.environ, "HOME": home, "PYTHONPATH": ""},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        async def take(medians: int) -> tuple[Decimal, list[float]]:
            stdin.write(b"%d\n" % medians)
            line = await stdout.readline()
            if not line:
                raise CannotMeasureError("telliot-feeds ended; its message is above")
            told = json.loads(line)
            return Decimal(told["answer"]), told["seconds"]

        try:
            yield take
        finally:
            stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
