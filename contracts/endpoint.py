"""One EVM node, spoken to over JSON-RPC: HTTP, WebSocket or IPC. Every call has a bound in time and in size.

web3's own HTTP provider opens a connection for each request and takes a lock on a thread pool to find its session; this
one keeps connections alive. `AsyncWeb3(rpc.provider)` works for whoever wants more of web3.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from eth_typing import URI
from web3.providers.rpc import AsyncHTTPProvider
from web3.types import RPCEndpoint

from contracts.errors import RpcRejectedError, RpcUnavailableError
from contracts.stream import Stream
from core.codec import check_depth

MAX_BODY_BYTES = 32 << 20
KEEP_ALIVE_S = 4
"""Below the five seconds after which uvicorn closes an idle connection, so that we rarely write into a closed one."""
CONNECTIONS = 20


class _StreamProvider(AsyncHTTPProvider):
    """Requests over one WebSocket or one IPC socket, answered in any order."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(URI(url), exception_retry_configuration=None)
        self._stream = Stream(url, timeout_s=timeout_s, max_bytes=MAX_BODY_BYTES)

    async def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:
        return _checked(await self._stream.ask(request_data), str(self.endpoint_uri))

    async def disconnect(self) -> None:
        await self._stream.close()


class _KeepAliveProvider(AsyncHTTPProvider):
    """web3's provider over one session of our own."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(URI(url), exception_retry_configuration=None)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:
        for last_try in (False, True):
            try:
                return await self._post(request_data)
            except aiohttp.ClientConnectionError as error:
                # an idle connection that the node closed as we wrote; sending the same bytes again is harmless
                if last_try or isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerTimeoutError):
                    raise
        raise AssertionError("unreachable")

    async def _post(self, body: bytes) -> bytes:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, headers={"Content-Type": "application/json"}
            )
        async with self._session.post(str(self.endpoint_uri), data=body, allow_redirects=False) as response:
            parts, size = [], 0
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise RpcUnavailableError(f"{self.endpoint_uri} answered more than {MAX_BODY_BYTES} bytes")
                parts.append(chunk)
            data = b"".join(parts)
            if response.status != 200 and not data.lstrip().startswith(b"{"):
                raise RpcUnavailableError(f"{self.endpoint_uri} answered HTTP {response.status}; is it an EVM node?")
            return _checked(data, str(self.endpoint_uri))

    async def disconnect(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _checked(data: bytes, url: str) -> bytes:
    try:
        check_depth(data)
    except msgspec.DecodeError as error:
        raise RpcUnavailableError(f"{url} answered with what no node says: {error}") from error
    return data


class Endpoint:
    """JSON-RPC to the node at `url`: `http(s)://…`, `ws(s)://…`, or `ipc:///path`.

    timeout_s: the bound of each call, connecting and waiting for a turn included.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        self.url = url
        self.timeout_s = timeout_s
        streamed = urlsplit(url).scheme in {"ws", "wss", "ipc"}
        self.provider: AsyncHTTPProvider = (_StreamProvider if streamed else _KeepAliveProvider)(url, timeout_s)

    async def call(self, method: str, *params: Any) -> Any:
        """The call's result. Raises `RpcUnavailableError` (no node, no JSON-RPC, too late) or `RpcRejectedError`."""
        try:
            response: Any = await self.provider.make_request(RPCEndpoint(method), list(params))
        except TimeoutError:
            raise RpcUnavailableError(f"{self.url} did not answer {method} within {self.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise RpcUnavailableError(f"{self.url} cannot be reached: {error}; is the node running?") from error
        except ValueError as error:  # not JSON, or a number with more digits than Python reads
            raise RpcUnavailableError(f"{self.url} did not answer {method} in JSON") from error
        refusal = response.get("error") if isinstance(response, dict) else None
        if not isinstance(response, dict) or ("result" not in response and refusal is None):
            raise RpcUnavailableError(f"{self.url} did not answer {method} in JSON-RPC; is it an EVM node?")
        if refusal is not None:
            code = refusal.get("code", 0) if isinstance(refusal, dict) else None
            if not isinstance(code, int):
                raise RpcUnavailableError(f"{self.url} answered {method} with the error {refusal!r}")
            raise RpcRejectedError(method, str(refusal.get("message")), code, refusal.get("data"))
        return response["result"]

    async def close(self) -> None:
        await self.provider.disconnect()
        # aiohttp's transports close on the loop's next turn
        await asyncio.sleep(0)
