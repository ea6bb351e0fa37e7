"""The market data's API as the BFF uses it: questions passed on as they are, answers bounded.

It is no part of the BFF's health: the oracle's prices do not need it, and it has a `/health` of its own.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import httpx

from bff.errors import MarketUnavailableError
from bff.upstream import aggregator_transport

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""1,500 candles are a tenth of this."""
_TIMEOUT_S = 5.0
_CONNECT_S = 1.0


class Passed(NamedTuple):
    """An answer to pass on."""

    status: int
    body: bytes
    media_type: str


class HttpMarket:
    """The market service at `url`."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=self.url,
            transport=transport or aggregator_transport(),
            timeout=httpx.Timeout(None, connect=_CONNECT_S),  # each call is bounded as a whole, below
            follow_redirects=False,
            trust_env=False,
        )

    async def ask(self, path: str, query: str, request_id: str) -> Passed:
        """GET `path`. Problems with the question are answers too. Raises `MarketUnavailableError`."""
        return await self._call(path, query, request_id, _TIMEOUT_S)

    async def close(self) -> None:
        await self._client.aclose()

    async def _call(self, path: str, query: str, request_id: str, timeout_s: float) -> Passed:
        if self._client.is_closed:
            raise MarketUnavailableError("this service is stopping")
        headers = {"x-request-id": request_id} if request_id else {}
        try:
            async with asyncio.timeout(timeout_s):
                url = f"{path}?{query}" if query else path
                async with self._client.stream("GET", url, headers=headers) as response:
                    body = bytearray()
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > MAX_ANSWER_BYTES:
                            raise MarketUnavailableError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
                    media_type = response.headers.get("content-type", "application/json")
                    return Passed(response.status_code, bytes(body), media_type)
        except TimeoutError:
            raise MarketUnavailableError(
                f"no answer from the market data at {self.url} within {timeout_s:g} s"
            ) from None
        except httpx.HTTPError as error:
            raise MarketUnavailableError(
                f"the market data at {self.url} cannot be reached: {error or type(error).__name__}"
            ) from error
