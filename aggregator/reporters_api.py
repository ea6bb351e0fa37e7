"""The register of strict groups' reporters, over HTTP: shown to the BFF, changed by operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Response

from aggregator.enrolment import Enrolled, Enrolment
from aggregator.errors import UnknownReporterError
from core import codec
from core.clock import rfc3339
from core.problems import Problem, problem_responses
from core.reporting import Standing, Trouble, TroubleCode
from core.types import Pair

ReporterName = Annotated[str, Path(max_length=128, description="a fetcher's name, or its address")]
FeedSlug = Annotated[
    str | None, Query(pattern=r"^[A-Za-z0-9]{2,10}-[A-Za-z0-9]{2,10}$", description="this feed only; default: all")
]


def add_reporter_routes(app: FastAPI, enrolment: Enrolment | None, guarded: dict[str, Any]) -> None:
    """enrolment: None where no group is strict, and nobody is registered. guarded: what every route of the API has, its
    authorisation and its tag."""

    @app.get("/v1/reporters", summary="Who is registered for which strict feed, and how each does", **guarded)
    async def reporters() -> Response:
        if enrolment is None:
            return _json([])
        await enrolment.refresh()
        return _json([each for one in enrolment.reporters() for each in _documents(enrolment, one)])

    @app.get("/v1/feeds/standings", summary="Every strict feed: whether it is in error, and why", **guarded)
    async def standings() -> Response:
        if enrolment is None:
            return _json([])
        await enrolment.refresh()
        pairs = [feed.pair for group in enrolment.groups.values() for feed in group.feeds]
        return _json([_standing(pair, enrolment.standing(pair)) for pair in pairs])

    def strict() -> Enrolment:
        if enrolment is None:
            detail = "no feed has the policy strict, so nobody is registered, and nobody's silence stops a round"
            raise Problem(404, UnknownReporterError.code, "No such reporter", detail)
        return enrolment

    async def change(work: Callable[[Enrolment], Awaitable[list[Enrolled]]]) -> Response:
        register = strict()
        try:
            changed = await work(register)
        except UnknownReporterError as error:
            raise Problem(404, error.code, "No such reporter", str(error)) from None
        return _json([each for one in changed for each in _documents(register, one)])

    @app.post(
        "/v1/reporters/{name}/deregister",
        summary="Take a reporter off: rounds go on without its price",
        responses=problem_responses(401, 404, 422, 503),
        **guarded,
    )
    async def deregister(name: ReporterName, feed: FeedSlug = None) -> Response:
        return await change(lambda register: register.deregister(name, _pair(feed)))

    @app.post(
        "/v1/reporters/{name}/register",
        summary="Let one that was taken off count again",
        responses=problem_responses(401, 404, 422, 503),
        **guarded,
    )
    async def register(name: ReporterName, feed: FeedSlug = None) -> Response:
        return await change(lambda register: register.register(name, _pair(feed)))


def _pair(slug: str | None) -> Pair | None:
    return None if slug is None else Pair.from_slug(slug)


def _documents(enrolment: Enrolment, one: Enrolled) -> list[dict[str, Any]]:
    """A reporter, once for each feed that it registered for."""
    found = []
    for pair, last_ms in sorted(one.last.items()):
        standing = enrolment.standing(pair)
        troubles = () if standing is None or not one.required(pair) else standing.troubles
        trouble = next((each for each in troubles if each.who == one.fetcher and not each.via), None)
        failing = trouble is not None and trouble.code is not TroubleCode.STOPPED
        state = "running" if trouble is None else "failing" if failing else "stopped"
        state = state if one.required(pair) else "deregistered"
        since = one.left_ms if state == "deregistered" and one.left_ms is not None else last_ms
        found.append(
            {
                "feed": pair,
                "name": one.fetcher,
                "address": one.signer,
                "state": state,
                "since": rfc3339(since),
                "trouble": None if trouble is None else _trouble(trouble),
            }
        )
    return found


def _standing(pair: Pair, standing: Standing | None) -> dict[str, Any]:
    return {
        "feed": pair,
        "error": standing is not None and not standing.ok,
        "troubles": [] if standing is None else [_trouble(one) for one in standing.troubles],
    }


def _trouble(one: Trouble) -> dict[str, Any]:
    return {
        "reporter": one.who,
        "code": one.code,
        "since": rfc3339(one.since_ms),
        "via": list(one.via),
        "detail": one.detail,
    }


def _json(body: object) -> Response:
    return Response(codec.encode(body), media_type="application/json")
