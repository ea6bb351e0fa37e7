"""The aggregator's API as the BFF uses it: one shared HTTP client, a bearer token, every answer bounded."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any, Protocol

import aiohttp
import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport
from msgspec import Struct

from bff.errors import AggregatorUnavailableError, RecordNotFoundError
from core import codec
from core.problems import read_problem

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""An attempt's record holds every quote of every reporter: well below a megabyte for a full group."""

_MAX_CONNECTIONS = 1_000
_KEEPALIVE_S = 3.0  # shorter than the server's five seconds, so that it rarely closes a connection as we reuse it
_CONNECT_S = 1.0
_RECORD_TIMEOUT_S = 5.0
_PING_TIMEOUT_S = 1.5


class RefreshOutcome(Struct, frozen=True, kw_only=True):
    """What became of a refresh so far. round, transaction: where it was accepted. code, detail: why it failed.
    confidence: by pair, how much of what was wanted stands behind its answers. feeds_without_answer, held: by pair,
    why an accepted round left the feed alone, or why the contract's breaker keeps its standing answer."""

    id: str
    state: str
    moment: int = 0
    code: str | None = None
    detail: str = ""
    round: int | None = None
    transaction: str | None = None
    confidence: dict[str, Decimal] = {}
    feeds_without_answer: dict[str, str] = {}
    held: dict[str, str] = {}

    @property
    def accepted(self) -> bool:
        return self.state == "accepted"

    @property
    def failed(self) -> bool:
        return self.state == "failed"


class RoundConfidence(Struct, frozen=True, kw_only=True):
    """How much of what was wanted stands behind a round's answers, sources included: 0 to 1, by pair."""

    moment: int
    feeds: dict[str, Decimal] = {}


class Aggregator(Protocol):
    """Every method raises `AggregatorUnavailableError` when there is no usable answer within its time."""

    async def refresh(self, group: str, *, arrived_ms: int, wait_ms: int, timeout_s: float) -> RefreshOutcome:
        """Join or start an attempt and wait up to `wait_ms` for its end; `timeout_s` bounds the call itself.

        arrived_ms: when the client asked; the attempt's moment is not older than this by more than a second.
        """
        ...

    async def attempt(self, attempt_id: str) -> bytes:
        """An attempt's record as JSON. Raises `RecordNotFoundError`."""
        ...

    async def attempts(self, group: str, limit: int) -> bytes:
        """A group's newest attempts in short, the newest first, as JSON. Raises `RecordNotFoundError`."""
        ...

    async def round(self, group: str, number: int) -> bytes:
        """The record of the attempt that brought a round, as JSON. Raises `RecordNotFoundError`."""
        ...

    async def evidence(self, group: str, number: int, feed: str) -> bytes:
        """Proofs of the quotes behind a feed's answer in a round, as JSON. feed: as in URLs. Raises
        `RecordNotFoundError`."""
        ...

    async def update(self, group: str) -> bytes:
        """The group's newest signed round as JSON. Raises `RecordNotFoundError` where none is young enough."""
        ...

    async def confidence(self, group: str, number: int) -> RoundConfidence:
        """Of a round's answers. Raises `RecordNotFoundError`."""
        ...

    async def equivocations(self, limit: int) -> bytes:
        """Proofs of two different reports by one signer for one moment, the latest first, as JSON."""
        ...

    async def standings(self) -> bytes:
        """Every strict feed, and whether it is in error, as JSON."""
        ...

    async def ping(self) -> str: ...

    async def close(self) -> None: ...


def aggregator_transport() -> httpx.AsyncBaseTransport:
    """httpx over aiohttp: the same API at a third of the CPU."""
    return AiohttpTransport(
        verify=True,
        client=lambda: aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, keepalive_timeout=_KEEPALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        ),
    )


class HttpAggregator:
    """The aggregator at `url`."""

    def __init__(self, url: str, token: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers={"authorization": f"Bearer {token}", "accept": "application/json"},
            transport=transport or aggregator_transport(),
            timeout=httpx.Timeout(None, connect=_CONNECT_S),  # each call is bounded as a whole, below
            follow_redirects=False,
            trust_env=False,
        )

    async def refresh(self, group: str, *, arrived_ms: int, wait_ms: int, timeout_s: float) -> RefreshOutcome:
        asked = {"wait_ms": wait_ms, "arrived_ms": arrived_ms}
        status, body = await self._call("POST", f"/v1/groups/{group}/refresh", timeout_s=timeout_s, params=asked)
        if status not in (httpx.codes.OK, httpx.codes.ACCEPTED):
            raise self._unusable(status, body)
        try:
            return codec.decode(body, RefreshOutcome)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise AggregatorUnavailableError(f"the aggregator's answer cannot be read: {error}") from error

    async def attempt(self, attempt_id: str) -> bytes:
        return await self._record(f"/v1/attempts/{attempt_id}")

    async def attempts(self, group: str, limit: int) -> bytes:
        return await self._record(f"/v1/groups/{group}/attempts?limit={limit}")

    async def round(self, group: str, number: int) -> bytes:
        return await self._record(f"/v1/groups/{group}/rounds/{number}")

    async def evidence(self, group: str, number: int, feed: str) -> bytes:
        return await self._record(f"/v1/groups/{group}/rounds/{number}/evidence?feed={feed}")

    async def update(self, group: str) -> bytes:
        return await self._record(f"/v1/groups/{group}/update")

    async def confidence(self, group: str, number: int) -> RoundConfidence:
        body = await self._record(f"/v1/groups/{group}/rounds/{number}/confidence")
        try:
            return codec.decode(body, RoundConfidence)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise AggregatorUnavailableError(f"the aggregator's answer cannot be read: {error}") from error

    async def equivocations(self, limit: int) -> bytes:
        return await self._record(f"/v1/equivocations?limit={limit}")

    async def standings(self) -> bytes:
        return await self._record("/v1/feeds/standings")

    async def ping(self) -> str:
        started = time.perf_counter()
        status, body = await self._call("GET", "/live", timeout_s=_PING_TIMEOUT_S)
        if status != httpx.codes.OK:
            raise self._unusable(status, body)
        return f"{self.url} answers in {(time.perf_counter() - started) * 1000:.1f} ms"

    async def close(self) -> None:
        await self._client.aclose()

    async def _record(self, path: str) -> bytes:
        status, body = await self._call("GET", path, timeout_s=_RECORD_TIMEOUT_S)
        if status == httpx.codes.NOT_FOUND:
            problem = read_problem(body)
            raise RecordNotFoundError(problem.detail if problem else "the aggregator has no such record")
        if status != httpx.codes.OK:
            raise self._unusable(status, body)
        return body

    async def _call(self, method: str, path: str, *, timeout_s: float, **options: Any) -> tuple[int, bytes]:
        if self._client.is_closed:
            raise AggregatorUnavailableError("this service is stopping")
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._send(method, path, **options)
                except httpx.HTTPError as error:
                    if not _closed_under_us(error):
                        raise
                    # a kept connection that the server closed just then; asking twice joins the same attempt
                    return await self._send(method, path, **options)
        except TimeoutError:
            raise AggregatorUnavailableError(
                f"no answer from the aggregator at {self.url} within {timeout_s:.3g} s"
            ) from None
        except httpx.HTTPError as error:
            raise AggregatorUnavailableError(
                f"the aggregator at {self.url} cannot be reached: {error or type(error).__name__}"
            ) from error

    async def _send(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        async with self._client.stream(method, path, **options) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise AggregatorUnavailableError(f"the aggregator's answer is larger than {MAX_ANSWER_BYTES} bytes")
            return response.status_code, bytes(body)

    def _unusable(self, status: int, body: bytes) -> AggregatorUnavailableError:
        if status == httpx.codes.UNAUTHORIZED:
            return AggregatorUnavailableError(
                f"the aggregator at {self.url} refuses our token: give both services the same one"
            )
        problem = read_problem(body)
        said = f"{problem.code}: {problem.detail}" if problem else "no problem document"
        return AggregatorUnavailableError(f"the aggregator at {self.url} answered {status} ({said})")


def _closed_under_us(error: httpx.HTTPError) -> bool:
    cause = error.__cause__
    return isinstance(cause, aiohttp.ServerDisconnectedError) or (
        isinstance(cause, aiohttp.ClientOSError) and not isinstance(cause, aiohttp.ClientConnectorError)
    )
