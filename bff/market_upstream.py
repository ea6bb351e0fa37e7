"""The market data's API as the BFF uses it: questions and its change of mode passed on as they are, answers bounded.

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
_SWITCH_TIMEOUT_S = 20.0
"""A change of mode waits for what is in flight, and for the database."""
_CONNECT_S = 1.0
_HEADERS = ("retry-after", "www-authenticate")


class Passed(NamedTuple):
    """An answer to pass on."""

    status: int
    body: bytes
    media_type: str
    headers: dict[str, str]


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
        url = f"{path}?{query}" if query else path
        return await self._call("GET", url, {}, request_id, _TIMEOUT_S)

    async def switch(self, path: str, authorization: str | None, request_id: str) -> Passed:
        """POST `path` with the caller's own `Authorization`: nothing is known of it here. Raises as `ask` does."""
        headers = {} if authorization is None else {"authorization": authorization}
        return await self._call("POST", path, headers, request_id, _SWITCH_TIMEOUT_S)

    async def close(self) -> None:
        await self._client.aclose()

    async def _call(self, method: str, url: str, headers: dict[str, str], request_id: str, timeout_s: float) -> Passed:
        if self._client.is_closed:
            raise MarketUnavailableError("this service is stopping")
        if request_id:
            headers["x-request-id"] = request_id
        try:
            async with asyncio.timeout(timeout_s):
                async with self._client.stream(method, url, headers=headers) as response:
                    body = bytearray()
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > MAX_ANSWER_BYTES:
                            raise MarketUnavailableError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
                    media_type = response.headers.get("content-type", "application/json")
                    kept = {name: response.headers[name] for name in _HEADERS if name in response.headers}
                    return Passed(response.status_code, bytes(body), media_type, kept)
        except TimeoutError:
            raise MarketUnavailableError(
                f"no answer from the market data at {self.url} within {timeout_s:g} s"
            ) from None
        except httpx.HTTPError as error:
            raise MarketUnavailableError(
                f"the market data at {self.url} cannot be reached: {error or type(error).__name__}"
            ) from error
