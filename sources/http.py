"""One source over HTTP: bounded in bytes and in time, retried on a closed set of faults, and never raising.

A fetch ends by its deadline as a `Reading` or as a `SourceFailure`, whatever the other side does.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
import httpx
import tenacity
from msgspec import Struct
from tenacity.wait import wait_base

from core.clock import Clock
from core.logs import Logger
from core.types import FailureCode, Pair, SourceFailure
from sources.entries import SourceEntry
from sources.errors import ParseError, RequestError, UnsupportedPairError
from sources.metrics import SourceMetrics
from sources.parse import MAX_BODY_BYTES, Ticker, parse_ticker

TRANSIENT = frozenset({FailureCode.TIMEOUT, FailureCode.CONNECTION, FailureCode.RATE_LIMITED, FailureCode.SERVER_ERROR})
"""The faults that a second try may mend. Nothing else is tried again."""
MAX_RETRY_AFTER_S = 900.0
"""A source that asks for a longer rest is asked again after this."""
USER_AGENT = "fairmark/0.1"

_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "application/json",
    # the bound on a body is a bound on what was sent: nothing to unpack means nothing that blows up
    "Accept-Encoding": "identity",
}


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How one fetch spends its budget. Times in seconds.

    try_timeout_s: one request, from connecting to the body's last byte. max_tries: requests of one fetch, at most.
    backoff_s, max_backoff_s: before try n + 1, a wait drawn evenly from 0 to backoff_s * 2**(n - 1) (full jitter, after
    AWS' "Exponential Backoff And Jitter"), and never less than a Retry-After asks.
    """

    try_timeout_s: float = 1.5
    max_tries: int = 3
    backoff_s: float = 0.05
    max_backoff_s: float = 1.0


class Reading(Struct, frozen=True, kw_only=True):
    """A ticker and its receipt, before it is judged: `sources.quoting.judge` makes a quote of it.

    received_ms: our clock when the body was complete. elapsed_ms: from the fetch's start, retries included.
    """

    source: str
    pair: Pair
    ticker: Ticker
    received_ms: int
    elapsed_ms: int


class _FullJitter(wait_base):
    def __init__(self, policy: RetryPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        policy = self._policy
        ceiling = min(policy.max_backoff_s, policy.backoff_s * 2 ** (retry_state.attempt_number - 1))
        fault = retry_state.outcome.exception() if retry_state.outcome else None
        floor = fault.retry_after_s if isinstance(fault, RequestError) else 0.0
        return floor + self._rng.uniform(0, ceiling)


class SourceClient:
    """One source's shared HTTP client. Use it on one event loop; `close` it there."""

    def __init__(
        self,
        entry: SourceEntry,
        *,
        base_url: str,
        transport: httpx.AsyncBaseTransport,
        clock: Clock,
        metrics: SourceMetrics,
        rng: random.Random,
        policy: RetryPolicy,
        logger: Logger,
    ) -> None:
        self.entry = entry
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._policy = policy
        self._logger = logger
        self._metrics = metrics
        self._latency = metrics.latency.labels(entry.name)
        self._ok = metrics.requests.labels(entry.name, "ok")
        # built once and sent again and again: a GET has no body that could be used up
        self._requests = {
            pair: httpx.Request("GET", base_url.rstrip("/") + entry.request_path(pair), headers=_HEADERS)
            for pair in entry.pairs
        }
        # the longest rest that any answer asked for (on the event loop's clock), and what that answer was
        self._rest_until = 0.0
        self._rest_after = FailureCode.RATE_LIMITED

    async def fetch(self, pair: Pair, *, deadline: float) -> Reading | SourceFailure:
        """Ask for `pair` and be done by `deadline` (the event loop's time). Raises nothing but `CancelledError`."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            body, received_ms = await self._with_retries(self._request(pair), deadline)
            ticker = parse_ticker(self.entry, pair, body)
        except (RequestError, ParseError, UnsupportedPairError) as error:
            code, detail = error.failure, str(error)
        except Exception as error:  # the promise is that a source's failure never raises out
            code, detail = FailureCode.INTERNAL, f"{type(error).__name__}: {error}"
            self._logger.exception("source_failed_inside", source=self.entry.name, pair=str(pair))
        else:
            return Reading(
                source=self.entry.name,
                pair=pair,
                ticker=ticker,
                received_ms=received_ms,
                elapsed_ms=_ms(loop.time() - started),
            )
        elapsed_ms = _ms(loop.time() - started)
        return SourceFailure(pair=pair, source=self.entry.name, code=code, detail=detail[:300], elapsed_ms=elapsed_ms)

    async def close(self) -> None:
        await self._transport.aclose()

    def _request(self, pair: Pair) -> httpx.Request:
        request = self._requests.get(pair)
        if request is None:
            raise UnsupportedPairError(f"{self.entry.name} does not serve {pair}")
        return request

    async def _with_retries(self, request: httpx.Request, deadline: float) -> tuple[bytes, int]:
        loop = asyncio.get_running_loop()
        if deadline <= loop.time():
            raise RequestError(FailureCode.TIMEOUT, "no time left to ask")
        try:
            return await self._try(request, deadline)
        except RequestError as error:
            if not _is_transient(error):
                raise
            failed: RequestError | None = error

        async def attempt() -> tuple[bytes, int]:
            # the first try is over: a fetch that goes well does not pay for the machinery of those that do not
            nonlocal failed
            if failed is not None:
                first, failed = failed, None
                raise first
            return await self._try(request, deadline)

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_transient),
            wait=_FullJitter(self._policy, self._rng),
            stop=tenacity.stop_after_attempt(self._policy.max_tries)
            | tenacity.stop_before_delay(max(0.0, deadline - loop.time())),
            reraise=True,
        )
        return await retrying(attempt)

    async def _try(self, request: httpx.Request, deadline: float) -> tuple[bytes, int]:
        loop = asyncio.get_running_loop()
        rest = self._rest_until - loop.time()
        if rest > 0:
            raise RequestError(self._rest_after, f"it asked for a rest of {rest:.1f} s more", retry_after_s=rest)
        started = time.perf_counter()
        outcome: FailureCode | None = None
        timeout_s = min(self._policy.try_timeout_s, deadline - loop.time())
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(request)
        except TimeoutError:
            outcome = FailureCode.TIMEOUT
            raise RequestError(FailureCode.TIMEOUT, f"no complete answer within {timeout_s * 1000:.0f} ms") from None
        except RequestError as error:
            outcome = error.failure
            raise
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            # every timeout is ours, so what the transport reports is the connection (it may well call it a timeout)
            outcome = FailureCode.CONNECTION
            cause = error.__cause__ or error
            raise RequestError(FailureCode.CONNECTION, f"{type(cause).__name__}: {cause}") from error
        except asyncio.CancelledError:
            outcome = FailureCode.CANCELLED
            raise
        finally:
            self._latency.observe(time.perf_counter() - started)
            (self._ok if outcome is None else self._metrics.requests.labels(self.entry.name, str(outcome))).inc()

    async def _exchange(self, request: httpx.Request) -> tuple[bytes, int]:
        # straight to the transport: httpx's client would add cookies and redirects, at half the cost of the request
        response = await self._transport.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - an asynchronous transport's
        try:
            if response.status_code != HTTPStatus.OK:
                raise self._refusal(response)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise RequestError(FailureCode.MALFORMED, "a packed body where a plain one was asked for")
            declared = response.headers.get("content-length", "")
            if declared.isdecimal() and int(declared[:20]) > MAX_BODY_BYTES:
                raise RequestError(FailureCode.TOO_LARGE, f"{declared[:20]} bytes announced")
            body = bytearray()
            async for chunk in stream:
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise RequestError(FailureCode.TOO_LARGE, f"more than {MAX_BODY_BYTES} bytes")
            return bytes(body), self._clock.now_ms()
        finally:
            await stream.aclose()

    def _refusal(self, response: httpx.Response) -> RequestError:
        status = response.status_code
        if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT}:  # Binance answers 418 to whom it bans
            return self._told_to_rest(response, FailureCode.RATE_LIMITED)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._told_to_rest(response, FailureCode.SERVER_ERROR)
        if response.is_redirect or HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            elsewhere = response.headers.get("location", "")[:100]
            return RequestError(FailureCode.REDIRECTED, f"HTTP {status} to {elsewhere!r}, which is not followed")
        return RequestError(FailureCode.HTTP_STATUS, f"HTTP {status}")

    def _told_to_rest(self, response: httpx.Response, code: FailureCode) -> RequestError:
        rest = retry_after_s(response.headers.get("retry-after"), self._clock.now_ms())
        until = asyncio.get_running_loop().time() + rest
        if rest and until > self._rest_until:  # of requests under way together, another may have been told a longer one
            self._rest_until, self._rest_after = until, code
        detail = f"HTTP {response.status_code}" + (f", asks for a rest of {rest:g} s" if rest else "")
        return RequestError(code, detail, retry_after_s=rest)


def retry_after_s(header: str | None, now_ms: int) -> float:
    """Seconds that a Retry-After header (RFC 9110, 10.2.3: seconds or an HTTP date) asks to wait; 0: it says nothing.

    Never negative, and never longer than `MAX_RETRY_AFTER_S`.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    ahead = (moment - datetime.fromtimestamp(now_ms / 1000, tz=UTC)).total_seconds()
    return min(max(ahead, 0.0), MAX_RETRY_AFTER_S)


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, RequestError) and error.failure in TRANSIENT


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
