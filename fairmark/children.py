"""The processes that the embedded tree starts beside itself: the chain and the simulator."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence

import httpx

from core.errors import FairmarkError, StartError

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0


class ChildEndedError(FairmarkError):
    """A process of the tree ended by itself. The tree ends with it: it recovers or crashes, and never runs on dead."""

    code = "child_ended"


@contextlib.asynccontextmanager
async def child(
    name: str, arguments: Sequence[str], ready_url: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python ARGUMENTS` while the block runs; entered once `ready_url` answers 200.

    The child has a session of its own, so that Ctrl-C reaches this process alone, which then stops its children in
    order. Raises `StartError` when the child ends, or is not ready, within 30 s.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        env={**os.environ, **(environ or {})},
        start_new_session=True,
    )
    try:
        await _await_ready(name, process, ready_url)
        yield process
    finally:
        await _stop(process)


async def _await_ready(name: str, process: asyncio.subprocess.Process, url: str) -> None:
    async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while process.returncode is None:
                    with contextlib.suppress(httpx.HTTPError):
                        if (await client.get(url)).is_success:
                            return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise StartError(f"{name}: not ready within {START_TIMEOUT_S:g} s at {url}") from None
    raise StartError(f"{name}: its process ended with exit code {process.returncode}; its own message is above")


async def watch(name: str, process: asyncio.subprocess.Process, lost: str) -> None:
    """Return never. Raises `ChildEndedError` when `process` ends; `lost` says what is gone with it."""
    code = await process.wait()
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    raise ChildEndedError(f"{name}: its process {how}; {lost} Start again with `make run`.")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
