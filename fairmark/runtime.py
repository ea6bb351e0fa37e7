"""How a Fairmark process starts and ends: one event loop, signals that cancel it, errors that say what to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from typing import Any

from core.errors import FairmarkError

PARENT_POLL_S = 0.5


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run_until_stopped(main: Coroutine[Any, Any, None], *, die_with_parent: bool = False) -> None:
    """Run `main` until it ends, or until SIGINT or SIGTERM cancels it, which is a clean end.

    die_with_parent: end also when the process that started this one is gone, however it went.
    Raises the `FairmarkError` that ended `main`, freed from the exception groups that task groups wrap around it.
    """
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(_supervised(main, die_with_parent))


async def _supervised(main: Coroutine[Any, Any, None], die_with_parent: bool) -> None:
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(main, name="main")
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    watch = asyncio.create_task(_watch_parent(stop), name="parent") if die_with_parent else None
    try:
        await work
    except asyncio.CancelledError:
        if not stopped:
            raise
    except BaseExceptionGroup as group:
        raise first_error(group) from group
    finally:
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch


async def _watch_parent(stop: Any) -> None:
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - the system tells nobody
        await asyncio.sleep(PARENT_POLL_S)
    stop()


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show of several that ended together: one of ours before one unforeseen."""
    leaves: list[BaseException] = []

    def collect(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                collect(inner)
        else:
            leaves.append(error)

    collect(group)
    return next((leaf for leaf in leaves if isinstance(leaf, FairmarkError)), leaves[0])
