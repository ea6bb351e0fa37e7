"""Asking the running fetchers how their sources are."""

from __future__ import annotations

import asyncio

import httpx
import msgspec
from msgspec import Struct

from core.errors import StartError
from core.settings import Settings
from fairmark.embedded import read_running
from fairmark.source_states import Told

TIMEOUT_S = 2.0


class Asked(Struct, frozen=True, kw_only=True):
    """One configured fetcher. told: None where it did not answer, and problem says why."""

    fetcher: str
    told: Told | None = None
    problem: str = ""


async def ask_fetchers(settings: Settings) -> list[Asked]:
    """Every configured fetcher, in the configuration's order, within two seconds. Raises nothing: who does not answer
    has a problem."""
    try:
        ports = read_running(settings).ports
    except StartError:
        ports = {}
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:

        async def one(name: str) -> Asked:
            own = settings.fetchers[name]
            port = ports.get(name) or own.port
            if not port:
                return Asked(fetcher=name, problem="it has no port of its own: set it, or start it with `fairmark up`")
            url = f"http://{own.host}:{port}/sources"
            try:
                response = await client.get(url)
                response.raise_for_status()
                return Asked(fetcher=name, told=msgspec.json.decode(response.content, type=Told))
            except httpx.HTTPStatusError as error:
                return Asked(fetcher=name, problem=f"HTTP {error.response.status_code} at {url}; is it starting?")
            except (httpx.HTTPError, msgspec.MsgspecError) as error:
                return Asked(fetcher=name, problem=f"no answer at {url} ({type(error).__name__})")

        return list(await asyncio.gather(*(one(name) for name in settings.fetchers)))
