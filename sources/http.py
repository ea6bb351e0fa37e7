"""One source over HTTP: bounded in bytes and in time, retried on a closed set of faults, and never raising.

A fetch ends by its deadline as a `Reading` or as a `SourceFailure`, whatever the other side does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection
from http import HTTPStatus

import aiohttp
import httpx
import tenacity
from msgspec import Struct

from core.clock import Clock
from core.logs import Logger
from core.types import FailureCode, Pair, SourceFailure
from sources.batch import MAX_BYTES, Batcher
from sources.batch_body import Found
from sources.clocks import SourceClocks
from sources.entries import SourceEntry
from sources.errors import NoRoomError, NotItsFaultError, ParseError, RequestError, UnsupportedPairError
from sources.limit_entries import LimitFormat
from sources.limits import Priority, RateLimit
from sources.metrics import SourceMetrics, watch_vitals
from sources.parse import MAX_BODY_BYTES, Ticker, parse_ticker
from sources.prober import Prober
from sources.quarantine import QuarantinePolicy, State
from sources.retries import FullJitter, RetryBudget, RetryPolicy, is_transient
from sources.retry_after import retry_after_s
from sources.vitals import Vitals

USER_AGENT = "fairmark/0.1"

_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "application/json",
    # the bound on a body is a bound on what was sent: nothing to unpack means nothing that blows up
    "Accept-Encoding": "identity",
}


class Reading(Struct, frozen=True, kw_only=True, gc=False):
    """A ticker and its receipt, before it is judged: `sources.quoting.judge` makes a quote of it.

    received_ms: our clock when the body was complete. elapsed_ms: from the fetch's start, retries included.
    changed_ms: our clock when this price was first seen, unchanged ever since (`sources.freshness`); None: not watched.
    """

    source: str
    pair: Pair
    ticker: Ticker
    received_ms: int
    elapsed_ms: int
    changed_ms: int | None = None


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
        limit: RateLimit,
        weights: LimitFormat,
        quarantine: QuarantinePolicy,
        clocks: SourceClocks | None = None,
    ) -> None:
        self.entry = entry
        self.limit = limit
        self.vitals = Vitals(quarantine, entry.pairs)
        self._clocks = clocks
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._policy = policy
        self._logger = logger
        self._metrics = metrics
        self._latency = metrics.latency.labels(entry.name)
        loop = asyncio.get_running_loop()
        metrics.limit_left.labels(entry.name).set_function(lambda: limit.left(loop.time()))
        metrics.limit_waiting.labels(entry.name).set_function(lambda: limit.waiting)
        watch_vitals(metrics, entry.name, self.vitals)
        self._prober = Prober(entry.name, self.vitals, limit, self._ask_once, rng=rng, metrics=metrics, logger=logger)
        self._ok = metrics.requests.labels(entry.name, "ok")
        self._weight, self._batch_weight = weights.ticker, weights.batch_weight
        self._budget = RetryBudget(policy.retry_share)
        # built once and sent again and again: a GET has no body that could be used up
        self._requests = {
            pair: httpx.Request("GET", base_url.rstrip("/") + entry.request_path(pair), headers=_HEADERS)
            for pair in entry.pairs
        }
        self._batcher = (
            None
            if entry.batch is None
            else Batcher(entry, base_url=base_url, headers=_HEADERS, send=self._send_batch, note=self._note_batch)
        )

    async def fetch(
        self, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure:
        """Ask for `pair` and be done by `deadline` (the event loop's time). anyway: in quarantine too.

        Raises nothing but `CancelledError`.
        """
        if not anyway and self.vitals.quarantine.state is not State.OK:
            detail = f"not asked after {self.vitals.last_failure}"[:300]
            return SourceFailure(pair=pair, source=self.entry.name, code=FailureCode.QUARANTINED, detail=detail)
        loop = asyncio.get_running_loop()
        started = loop.time()
        alone = False
        try:
            batched = None if self._batcher is None else await self._batcher.join(pair, deadline, priority)
            if batched is None:
                alone = True
                body, received_ms = await self._with_retries(self._request(pair), self._weight, deadline, priority)
                ticker = parse_ticker(self.entry, pair, body)
                self._went_well([pair])
            else:
                ticker, received_ms = batched
        except (RequestError, ParseError, UnsupportedPairError) as error:
            code, detail = error.failure, str(error)
            if alone:  # the one request of a batch has been taken note of already
                self._went_wrong(error, [pair])
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
        await self._prober.close()
        if self._batcher is not None:
            await self._batcher.close()
        await self._transport.aclose()

    def _request(self, pair: Pair) -> httpx.Request:
        request = self._requests.get(pair)
        if request is None:
            raise UnsupportedPairError(f"{self.entry.name} does not serve {pair}")
        return request

    async def _send_batch(self, request: httpx.Request, deadline: float, priority: Priority) -> tuple[bytes, int]:
        try:
            return await self._with_retries(request, self._batch_weight, deadline, priority)
        except RequestError as error:
            self._went_wrong(error, [])
            raise

    def _note_batch(self, found: Found) -> None:
        """A batch is one request: it went well where any of its pairs got a ticker."""
        errors = {pair: each for pair, each in found.items() if isinstance(each, ParseError)}
        if len(errors) < len(found):
            self.vitals.markets.failed(errors)
            self._went_well([pair for pair in found if pair not in errors])
        elif errors:
            self._went_wrong(next(iter(errors.values())), list(errors))

    async def _ask_once(self) -> None:
        """A probe: the market that went well last, once. Raises what is wrong with it."""
        pair = self.vitals.markets.best or self.entry.pairs[0]
        deadline = asyncio.get_running_loop().time() + self._policy.try_timeout_s
        try:
            body, _ = await self._try(self._request(pair), self._weight, deadline, Priority.PROBE)
            parse_ticker(self.entry, pair, body)
        except (RequestError, ParseError) as error:
            self._went_wrong(error, [pair])
            raise
        self._went_well([pair])

    def _went_well(self, pairs: Collection[Pair]) -> None:
        if self.vitals.well(asyncio.get_running_loop().time(), pairs):
            self._logger.info("source_back", source=self.entry.name)

    def _went_wrong(self, error: RequestError | ParseError | UnsupportedPairError, pairs: Collection[Pair]) -> None:
        if isinstance(error, NotItsFaultError | UnsupportedPairError):
            return
        if self.vitals.ill(error.failure, str(error), asyncio.get_running_loop().time(), pairs):
            self._metrics.quarantines.labels(self.entry.name).inc()
            self._logger.warning("source_quarantined", source=self.entry.name, because=self.vitals.last_failure)
            self._prober.start()

    async def _with_retries(
        self, request: httpx.Request, weight: int, deadline: float, priority: Priority
    ) -> tuple[bytes, int]:
        loop = asyncio.get_running_loop()
        if deadline <= loop.time():
            raise NotItsFaultError(FailureCode.TIMEOUT, "no time left to ask")
        self._budget.asked(loop.time())
        try:
            return await self._try(request, weight, deadline, priority)
        except RequestError as error:
            if not is_transient(error):
                raise
            failed: RequestError | None = error

        async def attempt() -> tuple[bytes, int]:
            # the first try is over: a fetch that goes well does not pay for the machinery of those that do not
            nonlocal failed
            if failed is not None:
                first, failed = failed, None
                raise first
            return await self._try(request, weight, deadline, priority)

        no_more = tenacity.stop_after_attempt(self._policy.max_tries) | tenacity.stop_before_delay(
            max(0.0, deadline - loop.time())
        )
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(is_transient),
            wait=FullJitter(self._policy, self._rng),
            stop=lambda state: no_more(state) or not self._may_retry(),  # asked last: it pays for the retry
            reraise=True,
        )
        return await retrying(attempt)

    def _may_retry(self) -> bool:
        may = self._budget.spend(asyncio.get_running_loop().time())
        self._metrics.retries.labels(self.entry.name, "sent" if may else "over_budget").inc()
        return may

    async def _try(self, request: httpx.Request, weight: int, deadline: float, priority: Priority) -> tuple[bytes, int]:
        loop = asyncio.get_running_loop()
        try:
            await self.limit.take(weight, priority, deadline)
        except NoRoomError:
            self._metrics.held.labels(self.entry.name).inc()
            raise
        started, sent_at = time.perf_counter(), loop.time()
        number = self.vitals.began(sent_at)
        outcome: FailureCode | None = None
        answered: bool | None = None
        timeout_s = min(self._policy.try_timeout_s, deadline - sent_at)
        try:
            async with asyncio.timeout(timeout_s):
                body = await self._exchange(request, sent_at)
        except TimeoutError:
            outcome = FailureCode.TIMEOUT
            detail = f"no complete answer within {timeout_s * 1000:.0f} ms"
            if timeout_s < min(self._policy.try_timeout_s, self.vitals.fair_s()):
                raise NotItsFaultError(FailureCode.TIMEOUT, detail) from None
            answered = False
            raise RequestError(FailureCode.TIMEOUT, detail) from None
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
        else:
            answered = True
            return body
        finally:
            took = time.perf_counter() - started
            self._latency.observe(took)
            self.vitals.ended(number, took, answered=answered)
            (self._ok if outcome is None else self._metrics.requests.labels(self.entry.name, str(outcome))).inc()

    async def _exchange(self, request: httpx.Request, sent_at: float) -> tuple[bytes, int]:
        # straight to the transport: httpx's client would add cookies and redirects, at half the cost of the request
        sent_ms = self._clock.now_ms()
        response = await self._transport.handle_async_request(request)
        if self._clocks is not None:
            self._clocks.note(self.entry.name, response.headers, sent_ms)
        stream = response.stream
        max_bytes = request.extensions.get(MAX_BYTES, MAX_BODY_BYTES)
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - an asynchronous transport's
        try:
            if response.status_code != HTTPStatus.OK:
                raise self._refusal(response, sent_at)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise RequestError(FailureCode.MALFORMED, "a packed body where a plain one was asked for")
            declared = response.headers.get("content-length", "")
            if declared.isdecimal() and int(declared[:20]) > max_bytes:
                raise RequestError(FailureCode.TOO_LARGE, f"{declared[:20]} bytes announced")
            body = bytearray()
            async for chunk in stream:
                body += chunk
                if len(body) > max_bytes:
                    raise RequestError(FailureCode.TOO_LARGE, f"more than {max_bytes} bytes")
            return bytes(body), self._clock.now_ms()
        finally:
            await stream.aclose()

    def _refusal(self, response: httpx.Response, sent_at: float) -> RequestError:
        status = response.status_code
        if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT}:  # Binance answers 418 to whom it bans
            self.limit.window.refused(sent_at, asyncio.get_running_loop().time())
            return self._told_to_rest(response, FailureCode.RATE_LIMITED)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._told_to_rest(response, FailureCode.SERVER_ERROR)
        if response.is_redirect or HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            elsewhere = response.headers.get("location", "")[:100]
            return RequestError(FailureCode.REDIRECTED, f"HTTP {status} to {elsewhere!r}, which is not followed")
        return RequestError(FailureCode.HTTP_STATUS, f"HTTP {status}")

    def _told_to_rest(self, response: httpx.Response, code: FailureCode) -> RequestError:
        rest = retry_after_s(response.headers.get("retry-after"), self._clock.now_ms())
        if rest:
            self.limit.rest(asyncio.get_running_loop().time() + rest, code)
        detail = f"HTTP {response.status_code}" + (f", asks for a rest of {rest:g} s" if rest else "")
        return RequestError(code, detail, retry_after_s=rest)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
