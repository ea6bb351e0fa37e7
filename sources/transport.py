"""httpx over aiohttp's connections, with nothing between: half of a request's time goes into layers not needed here.

httpx's client adds cookies, authentication, redirects and history to each response; a source is asked without any of
them, so its requests go straight to this transport. What is the same for every sending of a request (aiohttp's URL and
headers) is made once.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from weakref import WeakKeyDictionary

import aiohttp
import httpx
from multidict import CIMultiDict
from yarl import URL

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=None)
"""`SourceClient` bounds each try as a whole, which a silent drip cannot stretch."""


class DirectTransport(httpx.AsyncBaseTransport):
    """GETs over kept connections: no redirects, no cookies, nothing from the environment, bodies as they were sent.

    Build it inside the event loop that uses it, and send it the same request objects again. Raises
    `aiohttp.ClientError`s and `OSError`s as they are.
    """

    def __init__(self, tls: ssl.SSLContext, limits: httpx.Limits, proxy: str | None) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=tls, limit=limits.max_connections or 0, keepalive_timeout=limits.keepalive_expiry
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            auto_decompress=False,
            proxy=proxy,
        )
        self._prepared: WeakKeyDictionary[httpx.Request, tuple[URL, CIMultiDict[str]]] = WeakKeyDictionary()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        prepared = self._prepared.get(request)
        if prepared is None:
            headers = CIMultiDict(request.headers.multi_items())
            prepared = self._prepared[request] = (URL(str(request.url), encoded=True), headers)
        url, headers = prepared
        response = await self._session.request(request.method, url, headers=headers, allow_redirects=False)
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response), request=request)

    async def aclose(self) -> None:
        await self._session.close()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.content.iter_any():
            yield chunk

    async def aclose(self) -> None:
        self._response.release()
