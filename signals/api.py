"""The trader's HTTP interface: reporters' signed messages in, signals out, and operators' hands on both."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline

from core import codec
from core.clock import Clock, rfc3339
from core.errors import CyclicFeedsError, StoreUnavailableError
from core.ops import VERSION, Ops, add_ops_routes
from core.problems import Problem, install_problem_handlers, problem_responses
from core.reporting import Trouble
from core.signals import SignalReading
from signals.errors import (
    AlreadyProducedError,
    DeregisteredError,
    MessageRefusedError,
    MismatchedError,
    ReplayedError,
    SignalInTroubleError,
    UnknownFeedError,
    UnknownReporterError,
    WrongKeyError,
)
from signals.messages import MAX_BYTES, Registration, opened
from signals.metrics import TraderMetrics
from signals.registry import Registered, Registry
from signals.rpc import add_signal_rpc, bounded_body
from signals.trader import FeedLook, FeedState, Trader

BEARER = HTTPBearer(auto_error=False)
SIGNATURE = "X-Fairmark-Signature"
STATUSES = {
    MessageRefusedError.code: 422,
    UnknownFeedError.code: 404,
    UnknownReporterError.code: 404,
    DeregisteredError.code: 409,
    WrongKeyError.code: 403,
    ReplayedError.code: 409,
    AlreadyProducedError.code: 409,
    MismatchedError.code: 422,
    CyclicFeedsError.code: 409,
    StoreUnavailableError.code: 503,
}
FeedName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,30}$", examples=["decision"])]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


def trouble_document(one: Trouble) -> dict[str, Any]:
    """A trouble as clients read it."""
    return {
        "reporter": one.who,
        "code": one.code,
        "since": rfc3339(one.since_ms),
        "via": list(one.via),
        "detail": one.detail,
    }


def feed_document(look: FeedLook, now_ms: int) -> dict[str, Any]:
    """A signal as clients read it: no value in error."""
    answer = look.answer
    said = look.state is FeedState.OK and answer is not None
    return {
        "signal": look.feed.name,
        "state": look.state,
        "since": rfc3339(look.since_ms),
        "value": f"{answer.value:f}" if answer is not None and said else None,
        "decimals": look.feed.range.decimals,
        "minimum": f"{look.feed.range.minimum:f}",
        "maximum": f"{look.feed.range.maximum:f}",
        "policy": look.feed.rule.policy,
        "period_ms": look.feed.schedule.period_ms,
        "of": rfc3339(answer.slot_ms) if answer is not None else None,
        "age_seconds": (now_ms - answer.slot_ms) / 1000 if answer is not None else None,
        "contributors": list(answer.contributors) if answer is not None else [],
        "troubles": [trouble_document(one) for one in look.standing.troubles],
    }


def reporter_document(registry: Registry, one: Registered, now_ms: int) -> dict[str, Any]:
    """A reporter as operators read it."""
    found, seen = registry.condition(one, now_ms), one.seen
    return {
        "feed": one.feed,
        "name": one.name,
        "address": one.address,
        "state": found.state,
        "since": rfc3339(found.since_ms),
        "period_ms": registry.feeds[one.feed].schedule.period_ms,
        "depends": list(one.depends),
        "registered": rfc3339(seen.registered_ms),
        "produced": None if seen.slot_ms is None else rfc3339(seen.slot_ms),
        "data_of": None if seen.data_ms is None else rfc3339(seen.data_ms),
        "value": None if one.value is None else f"{one.value:f}",
        "trouble": None if found.trouble is None else trouble_document(found.trouble),
    }


def build_app(*, trader: Trader, ops: Ops, metrics: TraderMetrics, clock: Clock, token: str) -> FastAPI:
    """The application. token: admits new reporters and operators' changes; must not be empty."""
    if not token:
        raise ValueError("the trader needs a token")
    registry = trader.registry
    app = FastAPIOffline(title="Fairmark trader", version=VERSION, description=__doc__, redoc_url=None)
    install_problem_handlers(app, STATUSES)
    add_ops_routes(app, ops)

    def authorised(credentials: Credentials) -> None:
        given = credentials.credentials.encode() if credentials is not None else b""
        if not hmac.compare_digest(given, token.encode()):
            raise Problem(
                401,
                "unauthorized",
                "A token is needed",
                "send `Authorization: Bearer <token>` with the trader's token",
                headers={"WWW-Authenticate": "Bearer"},
            )

    @app.post(
        "/v1/reporters",
        summary="A reporter's signed message: registration/1, production/1 or leave/1",
        responses=problem_responses(401, 403, 404, 409, 413, 422, 503),
        tags=["reporters"],
    )
    async def message(
        request: Request, credentials: Credentials, signature: Annotated[str, Header(alias=SIGNATURE)]
    ) -> Response:
        """A registration needs the token too; all else is authenticated by the key that registered."""
        body = await bounded_body(request, MAX_BYTES)
        said, signer = opened(body, signature)
        if isinstance(said, Registration):
            authorised(credentials)
        kind = type(said).__name__.lower()
        try:
            one = await registry.take(said, signer)
        except (MessageRefusedError, CyclicFeedsError, StoreUnavailableError) as error:
            metrics.messages.labels(kind, error.code).inc()
            raise
        metrics.messages.labels(kind, "taken").inc()
        trader.settle()
        return _json(reporter_document(registry, one, clock.now_ms()))

    @app.get("/v1/reporters", summary="Every reporter, and how it does", tags=["reporters"])
    async def reporters() -> Response:
        now = clock.now_ms()
        return _json([reporter_document(registry, one, now) for feed in registry.feeds for one in registry.of(feed)])

    _by_hand(app, trader, clock, authorised)
    _add_signals(app, trader, clock)
    return app


def _by_hand(app: FastAPI, trader: Trader, clock: Clock, authorised: Callable[[Credentials], None]) -> None:
    async def change(work: Awaitable[Registered]) -> Response:
        one = await work
        trader.settle()
        return _json(reporter_document(trader.registry, one, clock.now_ms()))

    guarded: dict[str, Any] = {
        "dependencies": [Depends(authorised)],
        "responses": problem_responses(401, 404, 422, 503),
        "tags": ["reporters"],
    }

    @app.post("/v1/reporters/{feed}/{name}/deregister", summary="Take a reporter off: it counts no more", **guarded)
    async def deregister(feed: FeedName, name: FeedName) -> Response:
        return await change(trader.registry.deregister(feed, name))

    @app.post("/v1/reporters/{feed}/{name}/register", summary="Let one that was taken off count again", **guarded)
    async def register(feed: FeedName, name: FeedName) -> Response:
        return await change(trader.registry.register(feed, name))


def _add_signals(app: FastAPI, trader: Trader, clock: Clock) -> None:
    @app.get("/v1/signals", summary="Every signal, those in error too", tags=["signals"])
    async def signals() -> Response:
        now = clock.now_ms()
        return _json([feed_document(look, now) for look in trader.looks()])

    @app.get(
        "/v1/signals/{feed}",
        summary="A signal's value",
        responses=problem_responses(404, 422, 503),
        tags=["signals"],
    )
    async def signal(feed: FeedName) -> Response:
        """503 `feed_in_error` says which reporter, since when; 503 `signal_unset` that there is no value yet."""
        if feed not in trader.registry.feeds:
            raise UnknownFeedError(f"there is no feed {feed}; known: {', '.join(sorted(trader.registry.feeds))}")
        look = trader.look(feed)
        document = feed_document(look, clock.now_ms())
        if look.state is FeedState.ERROR:
            first = look.standing.troubles[0]
            detail = f"{first.who}: {first.code} since {rfc3339(first.since_ms)}; nothing is published meanwhile"
            raise Problem(503, "feed_in_error", "The feed is in error", detail, **document)
        if look.state is FeedState.WAITING:
            detail = "no reporter has produced for this period yet"
            raise Problem(503, "signal_unset", "No value yet", detail, **document)
        return _json(document)

    def read(name: str) -> SignalReading:
        feeds = trader.registry.feeds
        if not name and len(feeds) == 1:
            name = next(iter(feeds))
        if name not in feeds:
            raise KeyError(f"{name!r}; known: {', '.join(sorted(feeds))}")
        look = trader.look(name)
        if look.state is FeedState.ERROR:
            raise SignalInTroubleError(look.standing.troubles[0].through(f"{trader.registry.name}/{name}"))
        if look.answer is None or look.state is FeedState.WAITING:
            raise KeyError(f"{name!r} has no value yet")
        return SignalReading(
            name=f"{trader.registry.name}/{name}",
            value=look.answer.value,
            time_ms=look.answer.data_ms,
            period_ms=look.feed.schedule.period_ms,
            range=look.feed.range,
            depends=trader.depends(name),
        )

    add_signal_rpc(app, read)


def _json(body: object) -> Response:
    return Response(codec.encode(body), media_type="application/json")
