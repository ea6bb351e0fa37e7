"""Where the simulator's exchanges are found, in test mode."""

from __future__ import annotations

import asyncio
from typing import Literal

import httpx
import msgspec

from sources.errors import SimulatorUnreachableError

START_S = 10.0
"""Asked once, at a start: where all services of a machine start together, an answer may well take some seconds."""


async def simulator_base_urls(control_url: str, *, timeout_s: float = START_S) -> dict[str, str]:
    """Where the simulator's venues listen, by source: `GET {control_url}/venues`.

    Raises `SimulatorUnreachableError`.
    """
    return await _listed(control_url, "venues", timeout_s)


async def simulator_stream_urls(control_url: str, *, timeout_s: float = START_S) -> dict[str, str]:
    """Where the simulator's streams listen, by source: `GET {control_url}/streams`.

    Raises `SimulatorUnreachableError`.
    """
    return await _listed(control_url, "streams", timeout_s)


async def _listed(control_url: str, what: Literal["venues", "streams"], timeout_s: float) -> dict[str, str]:
    url = f"{control_url.rstrip('/')}/{what}"
    try:
        async with asyncio.timeout(timeout_s), httpx.AsyncClient(trust_env=False, timeout=timeout_s) as client:
            response = await client.get(url)
        response.raise_for_status()
        return msgspec.json.decode(response.content, type=dict[str, str])
    except (httpx.HTTPError, msgspec.MsgspecError, TimeoutError) as error:
        raise SimulatorUnreachableError(
            f"no list of {what} at {url} ({type(error).__name__}); start `fairmark simulator`, or set simulator.url"
        ) from error
