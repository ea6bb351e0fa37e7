"""One exchange as ccxt reads it: `kind = "ccxt"` in its catalogue file, and the optional extra `fairmark[ccxt]`.

ccxt knows a hundred exchanges that the catalogue does not. What it costs: a first request for all markets, its own
parsing, and a body that is read whole before anybody looks at its length. Where the catalogue has the exchange itself,
ask that one.

Prices stay the digits that were sent: ccxt is told to leave JSON's fractions as text and to hand numbers on as text.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable
from typing import Any

from core.clock import Clock
from core.logs import Logger
from core.types import FailureCode, Pair, SourceFailure
from sources.entries import Expressions, SourceEntry
from sources.errors import CatalogueError, ParseError, RequestError, UnsupportedPairError
from sources.http import Reading
from sources.limit_entries import UNLIMITED
from sources.limits import Priority, RateLimit
from sources.metrics import SourceMetrics, watch_vitals
from sources.parse import Ticker, ticker_from
from sources.prober import Prober
from sources.quarantine import QuarantinePolicy, State
from sources.vitals import Vitals
from sources.window import Window

_CODES = (  # the first that an error is one of: ccxt's tree, from the leaves
    ("RateLimitExceeded", FailureCode.RATE_LIMITED),
    ("DDoSProtection", FailureCode.RATE_LIMITED),
    ("RequestTimeout", FailureCode.TIMEOUT),
    ("ExchangeNotAvailable", FailureCode.SERVER_ERROR),
    ("NetworkError", FailureCode.CONNECTION),
    ("BadSymbol", FailureCode.UNSUPPORTED),
)
_TICKER = ("symbol", "last", "bid", "ask", "timestamp", "baseVolume")

MakeExchange = Callable[[str, float], Any]
"""Of ccxt's name for an exchange, and seconds for one request: ccxt's client for it. Raises `CatalogueError`."""


def make_exchange(name: str, timeout_s: float) -> Any:
    """ccxt's asynchronous client for the exchange that it calls `name`; no request is made.

    Raises `CatalogueError` where ccxt is not installed, or knows no such exchange.
    """
    try:
        import ccxt.async_support as ccxt  # noqa: PLC0415 - an extra, of 60 MB
    except ImportError as error:
        problem = f"kind 'ccxt' needs the extra: pip install 'fairmark[ccxt]' ({error})"
        raise CatalogueError([problem], "sources") from error
    if name not in ccxt.exchanges:
        raise CatalogueError([f"exchange: ccxt {ccxt.__version__} knows no {name!r}"], "sources")
    exchange = getattr(ccxt, name)({"timeout": round(timeout_s * 1000), "enableRateLimit": True})
    exchange.number = str
    exchange.on_json_response = lambda body: json.loads(body, parse_float=str)
    return exchange


class CcxtClient:
    """As `sources.http.SourceClient`, for one exchange of ccxt's. Use it on one event loop; `close` it there."""

    def __init__(
        self,
        entry: SourceEntry,
        *,
        clock: Clock,
        metrics: SourceMetrics,
        timeout_s: float,
        logger: Logger,
        quarantine: QuarantinePolicy | None = None,
        rng: random.Random | None = None,
        make: MakeExchange = make_exchange,
        share: int = 1,
    ) -> None:
        """share: how many processes ask from this address, so much longer ccxt waits between two requests.

        Raises `CatalogueError`."""
        if entry.exchange is None:
            raise ValueError(f"{entry.name} is none of ccxt's")
        self.entry = entry
        self._exchange = make(entry.exchange, timeout_s)
        if share > 1:
            self._exchange.rateLimit *= share
            self._exchange.tokenBucket = None
            self._exchange.init_rest_rate_limiter()
        self._clock = clock
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._logger = logger
        self.vitals = Vitals(quarantine or QuarantinePolicy(), entry.pairs)
        self.limit = RateLimit(Window(UNLIMITED.weight, UNLIMITED.window_s))  # ccxt keeps to one of its own
        watch_vitals(metrics, entry.name, self.vitals)
        self._prober = Prober(
            entry.name,
            self.vitals,
            self.limit,
            self._ask_once,
            rng=rng or random.SystemRandom(),
            metrics=metrics,
            logger=logger,
        )
        self._markets: asyncio.Task[Any] | None = None
        bookless = entry.ticker.model_copy(update={"bid": None, "ask": None})
        self._bookless = {pair: Expressions(bookless, {}) for pair in entry.pairs}

    async def fetch(
        self, pair: Pair, *, deadline: float, priority: Priority = Priority.JOB, anyway: bool = False
    ) -> Reading | SourceFailure:
        """Ask for `pair` and be done by `deadline` (the event loop's time). anyway: in quarantine too.

        Raises nothing but `CancelledError`.
        """
        del priority  # its limit is ccxt's own, and has none
        if not anyway and self.vitals.quarantine.state is not State.OK:
            detail = f"not asked after {self.vitals.last_failure}"[:300]
            return SourceFailure(pair=pair, source=self.entry.name, code=FailureCode.QUARANTINED, detail=detail)
        loop = asyncio.get_running_loop()
        started, outcome = loop.time(), "ok"
        try:
            ticker, received_ms = await self._watched(pair, min(deadline, started + self._timeout_s))
        except (RequestError, ParseError, UnsupportedPairError) as error:
            code, detail = error.failure, str(error)
        except Exception as error:  # the promise is that a source's failure never raises out
            code, detail = FailureCode.INTERNAL, f"{type(error).__name__}: {error}"
            self._logger.exception("source_failed_inside", source=self.entry.name, pair=str(pair))
        else:
            self._count(outcome, loop.time() - started)
            return Reading(
                source=self.entry.name,
                pair=pair,
                ticker=ticker,
                received_ms=received_ms,
                elapsed_ms=round((loop.time() - started) * 1000),
            )
        self._count(code.value, loop.time() - started)
        elapsed_ms = round((loop.time() - started) * 1000)
        return SourceFailure(pair=pair, source=self.entry.name, code=code, detail=detail[:300], elapsed_ms=elapsed_ms)

    async def close(self) -> None:
        await self._prober.close()
        if self._markets is not None:
            self._markets.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._markets
        await self._exchange.close()

    async def _watched(self, pair: Pair, deadline: float) -> tuple[Ticker, int]:
        """`_ask`, taken note of."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        number, answered = self.vitals.began(started), None
        try:
            found = await self._ask(pair, deadline)
        except (RequestError, ParseError) as error:
            fair = deadline - started >= min(self._timeout_s, self.vitals.fair_s())
            if error.failure is FailureCode.TIMEOUT:
                answered = False if fair else None
            counts = error.failure is not FailureCode.UNSUPPORTED and (fair or error.failure is not FailureCode.TIMEOUT)
            if counts and self.vitals.ill(error.failure, str(error), loop.time(), [pair]):
                self._metrics.quarantines.labels(self.entry.name).inc()
                self._logger.warning("source_quarantined", source=self.entry.name, because=self.vitals.last_failure)
                self._prober.start()
            raise
        else:
            answered = True
            if self.vitals.well(loop.time(), [pair]):
                self._logger.info("source_back", source=self.entry.name)
            return found
        finally:
            self.vitals.ended(number, loop.time() - started, answered=answered)

    async def _ask_once(self) -> None:
        """A probe: the market that went well last, once. Raises what is wrong with it."""
        pair = self.vitals.markets.best or self.entry.pairs[0]
        await self._watched(pair, asyncio.get_running_loop().time() + self._timeout_s)

    async def _ask(self, pair: Pair, deadline: float) -> tuple[Ticker, int]:
        symbol = self.entry.symbol(pair)
        try:
            async with asyncio.timeout_at(deadline):
                await self._load_markets()
                told = await self._exchange.fetch_ticker(symbol)
        except TimeoutError:
            raise RequestError(FailureCode.TIMEOUT, "ccxt had no complete answer in time") from None
        except Exception as error:
            raise RequestError(_code(error), f"{type(error).__name__}: {error}") from error
        received_ms = self._clock.now_ms()
        tree = {name: told.get(name) for name in _TICKER}
        whole = tree["bid"] is not None and tree["ask"] is not None
        paths = self.entry.expressions(pair) if whole else self._bookless[pair]
        if tree["timestamp"] is None:  # ccxt says so where the exchange told no time
            ticker = ticker_from(self.entry, pair, tree, paths.without_time(), unit="ms")
        else:
            ticker = ticker_from(self.entry, pair, tree, paths, unit="ms")
        return ticker, received_ms

    async def _load_markets(self) -> None:
        """Once, and not within any one caller's time: the list of all markets may take longer than a job has."""
        if self._exchange.markets:
            return
        if self._markets is None or (self._markets.done() and (self._markets.cancelled() or self._markets.exception())):
            self._markets = asyncio.create_task(self._exchange.load_markets(), name=f"markets:{self.entry.name}")
        await asyncio.shield(self._markets)

    def _count(self, outcome: str, took_s: float) -> None:
        self._metrics.requests.labels(self.entry.name, outcome).inc()
        self._metrics.latency.labels(self.entry.name).observe(took_s)


def _code(error: Exception) -> FailureCode:
    """What else ccxt raises, its own or not, it raises over a body that it could not make a ticker of."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return next((code for name, code in _CODES if name in names), FailureCode.MALFORMED)
