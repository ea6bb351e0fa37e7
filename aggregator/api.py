"""The aggregator's API, for the BFF and for operators. Every call but `core.ops`'s endpoints carries a bearer token.

In an attempt's record a report's signature covers `signed`, and by its evidence root all that its reporter said with
it: `answers`, `quotes`, `failures`, `observed`. Refusals are not signed: they are the sender's word.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel

from aggregator.attempts import AttemptRecord, Cause
from aggregator.enrolment import Enrolment
from aggregator.errors import NotReadyError
from aggregator.joining import Desk
from aggregator.proofs import Proofs
from aggregator.recorder import Recorder
from aggregator.reporters_api import add_reporter_routes
from aggregator.running import Running
from aggregator.states import State
from aggregator.updates import Updates
from contracts.errors import ContractError
from core import codec
from core.clock import Clock
from core.ops import VERSION, Ops, add_ops_routes
from core.problems import Problem, install_problem_handlers, problem_responses

OLDEST_ARRIVAL_MS = 10_000
"""A request says when it arrived at the front; it cannot have waited longer than this."""

BEARER = HTTPBearer(auto_error=False)
FEED = r"^[A-Za-z0-9]{2,10}-[A-Za-z0-9]{2,10}$"
GroupName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,30}$", examples=["majors"])]


class AttemptSummary(BaseModel):
    """An attempt in short. Prices are strings. `code` is null unless it failed; `round` unless it was accepted.

    held: why the contract's breaker keeps a feed's standing answer, by pair."""

    id: str
    group: str
    mode: str
    cause: str
    state: State
    code: str | None
    detail: str
    moment: int
    started_ms: int
    ended_ms: int | None
    round: int | None
    transaction: str | None
    block: int | None
    answers: dict[str, str]
    confidence: dict[str, str]
    feeds_without_answer: dict[str, str]
    held: dict[str, str]
    total_ms: float | None


class GroupSummary(BaseModel):
    """A group, with the last round that this aggregator knows of, and the attempt that is open."""

    group: str
    feeds: list[str]
    f: int
    threshold: int
    reporters: int | None
    round: int | None
    last_moment: int | None
    open_attempt: str | None


def summary(record: AttemptRecord) -> dict[str, Any]:
    """`AttemptSummary` of a record."""
    return {
        "id": record.id,
        "group": record.group,
        "mode": record.mode,
        "cause": record.cause,
        "state": record.state,
        "code": record.code,
        "detail": record.detail,
        "moment": record.moment,
        "started_ms": record.started_ms,
        "ended_ms": record.ended_ms,
        "round": record.round,
        "transaction": record.transaction,
        "block": record.block,
        "answers": {pair: answer.price for pair, answer in record.answers.items()},
        "confidence": {pair: answer.confidence for pair, answer in record.answers.items()},
        "feeds_without_answer": record.feeds_without_answer,
        "held": {pair: answer.why_held for pair, answer in record.answers.items() if answer.held},
        "total_ms": record.timings_ms.get("total"),
    }


def _json(body: object, status: int = 200, **headers: str) -> Response:
    return Response(codec.encode(body), status, headers, "application/json")


def _check_ready(ops: Ops) -> None:
    """Raises `NotReadyError`: what a former life of this process has sent may hold the nonce."""
    if not ops.ready:
        raise NotReadyError(ops.not_ready_because)


def _arrival(said_ms: int | None, now_ms: int) -> int:
    return now_ms if said_ms is None else min(max(said_ms, now_ms - OLDEST_ARRIVAL_MS), now_ms)


def build_app(
    *,
    desks: Mapping[str, Desk],
    open_attempts: Mapping[str, Running],
    recorder: Recorder,
    ops: Ops,
    updates: Updates,
    proofs: Proofs,
    clock: Clock,
    token: str,
    enrolment: Enrolment | None = None,
) -> FastAPI:
    """The application. `token` must not be empty. enrolment: None where no group is strict."""
    if not token:
        raise ValueError("the API needs a token")
    app = FastAPIOffline(  # the page at /docs comes from here, not from somebody's CDN
        title="Fairmark aggregator", version=VERSION, description=__doc__, redoc_url=None
    )
    install_problem_handlers(app)
    add_ops_routes(app, ops)
    expected = token.encode()

    async def authorised(
        credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
    ) -> None:
        given = credentials.credentials.encode() if credentials is not None else b""
        if not hmac.compare_digest(given, expected):
            raise Problem(
                401,
                "unauthorized",
                "A token is needed",
                "send `Authorization: Bearer <token>` with the aggregator's token",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def desk_of(group: str) -> Desk:
        if (desk := desks.get(group)) is None:
            raise Problem(404, "unknown_group", "No such group", f"{group!r} is not configured", known=sorted(desks))
        return desk

    guarded: dict[str, Any] = {"dependencies": [Depends(authorised)], "tags": ["rounds"]}

    @app.post(
        "/v1/groups/{group}/refresh",
        summary="Join or start an attempt, and wait for its end",
        response_model=AttemptSummary,
        responses={202: {"model": AttemptSummary}, **problem_responses(401, 404, 422, 503)},
        **guarded,
    )
    async def refresh(
        group: GroupName,
        wait_ms: Annotated[int, Query(ge=0, le=60_000, description="longest wait")] = 9_000,
        arrived_ms: Annotated[
            int | None, Query(description="when the client's request arrived at the front; default: now")
        ] = None,
    ) -> Response:
        """200 when the attempt has ended, accepted or failed (`state`, `code`); 202 while it still runs; 503
        `not_ready` as long as `/ready` is not 200."""
        desk = desk_of(group)
        _check_ready(ops)
        running = desk.request(_arrival(arrived_ms, clock.now_ms()), Cause.REQUEST)
        record = await desk.wait(running, wait_ms / 1000)
        if record.state is State.QUEUED:  # whoever is told its id must find it, whatever happens to this process
            running.announced = True
            await recorder.announce(record)
        where = f"/v1/attempts/{record.id}"
        return _json(summary(record), 200 if running.done.done() else 202, location=where)

    @app.get(
        "/v1/attempts/{attempt}",
        summary="The whole record of an attempt, also while it runs",
        responses=problem_responses(401, 404, 422, 503),
        **guarded,
    )
    async def attempt_by_id(
        attempt: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", examples=["0123456789abcdef0123456789abcdef"])],
    ) -> Response:
        running = open_attempts.get(attempt)
        record = running.record if running is not None else await recorder.get(attempt)
        if record is None:
            raise Problem(404, "unknown_attempt", "No such attempt", f"no record of attempt {attempt} is kept here")
        return _json(record)

    @app.get(
        "/v1/groups/{group}/rounds/{number}",
        summary="The whole record of the attempt that made a round",
        responses=problem_responses(401, 404, 422, 503),
        **guarded,
    )
    async def attempt_by_round(group: GroupName, number: Annotated[int, Path(ge=1, lt=2**63)]) -> Response:
        desk_of(group)
        record = await recorder.by_round(group, number)
        if record is None:
            detail = f"no record of round {number} of group {group} is kept here: not made yet, pruned, or another's"
            raise Problem(404, "unknown_round", "No such round", detail)
        return _json(record)

    @app.get(
        "/v1/groups/{group}/attempts",
        summary="The newest attempts of a group, in short",
        response_model=list[AttemptSummary],
        responses=problem_responses(401, 404, 422, 503),
        **guarded,
    )
    async def attempts(group: GroupName, limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Response:
        desk_of(group)
        return _json([summary(record) for record in await recorder.latest(group, limit)])

    @app.get(
        "/v1/groups/{group}/update",
        summary="The newest signed round, as calldata for whoever carries it himself",
        responses=problem_responses(401, 404, 422, 503),
        **guarded,
    )
    async def update(group: GroupName) -> Response:
        """404 `no_update` where no quorum signed within the time for which the contract takes a round."""
        try:
            found = await updates.newest(desk_of(group).engine.group)
        except ContractError as error:
            raise Problem(503, "no_update", "No update now", str(error)) from error
        if found is None:
            detail = f"no round of group {group} was signed within the time for which the contract would take it"
            raise Problem(404, "no_update", "No update", detail)
        return _json(found)

    _add_evidence(app, desk_of, recorder, proofs, guarded)

    _add_groups(app, desks, enrolment, guarded)
    return app


def _add_groups(app: FastAPI, desks: Mapping[str, Desk], enrolment: Enrolment | None, guarded: dict[str, Any]) -> None:
    add_reporter_routes(app, enrolment, {**guarded, "tags": ["reporters"]})

    @app.get("/v1/groups", summary="The groups", response_model=list[GroupSummary], **guarded)
    async def groups() -> Response:
        return _json([_group(desk) for desk in desks.values()])


def _add_evidence(
    app: FastAPI, desk_of: Callable[[str], Desk], recorder: Recorder, proofs: Proofs, guarded: dict[str, Any]
) -> None:
    @app.get(
        "/v1/groups/{group}/rounds/{number}/evidence",
        summary="Proofs of the quotes behind a feed's answer in a round, as `verifyObservation` takes them",
        responses=problem_responses(401, 404, 422, 503),
        **guarded,
    )
    async def evidence(
        group: GroupName,
        number: Annotated[int, Path(ge=1, lt=2**63)],
        feed: Annotated[str, Query(pattern=FEED, description="a feed, or a conversion rate", examples=["BTC-USD"])],
    ) -> Response:
        desk_of(group)
        record = await recorder.by_round(group, number)
        if record is None:
            detail = f"no record of round {number} of group {group} is kept here: not made yet, pruned, or another's"
            raise Problem(404, "unknown_round", "No such round", detail)
        return _json(await proofs.of(record, feed.upper().replace("-", "/")))

    @app.get(
        "/v1/groups/{group}/rounds/{number}/confidence",
        summary="How much of what was wanted stands behind a round's answers, from 0 to 1, by feed",
        responses=problem_responses(401, 404, 422, 503),
        **guarded,
    )
    async def confidence(group: GroupName, number: Annotated[int, Path(ge=1, lt=2**63)]) -> Response:
        desk_of(group)
        record = await recorder.by_round(group, number)
        if record is None:
            detail = f"no record of round {number} of group {group} is kept here: not made yet, pruned, or another's"
            raise Problem(404, "unknown_round", "No such round", detail)
        told = {pair: answer.confidence for pair, answer in record.answers.items()}
        return _json({"round": number, "moment": record.moment, "feeds": told})

    @app.get(
        "/v1/equivocations",
        summary="Proofs that a reporter signed two different reports for one moment, the latest first",
        response_model=list[dict[str, Any]],
        responses=problem_responses(401, 422, 503),
        **guarded,
    )
    async def equivocations(limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> Response:
        return _json(await recorder.equivocations(limit))


def _group(desk: Desk) -> dict[str, Any]:
    group, known = desk.engine.group, desk.engine.known
    return {
        "group": group.name,
        "feeds": [feed.pair for feed in group.feeds],
        "f": known.f if known else group.f,
        "threshold": known.threshold if known else group.threshold,
        "reporters": len(known.signers) if known else None,
        "round": known.round if known else None,
        "last_moment": known.last_moment if known else None,
        "open_attempt": desk.open.id if desk.open else None,
    }
