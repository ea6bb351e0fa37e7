"""Where a price came from: the aggregator's records, passed on as they are."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from bff import refusals
from bff.catalogue import Catalogue
from bff.documents import Attempt, AttemptSummary, Equivocation, Evidence, Update
from bff.errors import AggregatorUnavailableError, RecordNotFoundError
from bff.routes.answers import JSON, NO_CACHE, NO_STORE
from bff.upstream import Aggregator
from core.problems import Problem, problem_responses

AttemptId = Annotated[str, Path(pattern=r"^[0-9a-fA-F]{32}$", description="as a refresh or its problem gave it")]
GroupName = Annotated[str, Path(description="a group's name, in any case", examples=["majors"])]
FeedSlug = Annotated[
    str,
    Query(pattern=r"^[A-Za-z0-9]{2,10}-[A-Za-z0-9]{2,10}$", description="a feed, or a rate", examples=["BTC-USD"]),
]
MAX_LISTED = 50
"""Attempts in one list: the aggregator reads each one's whole record for it, and anybody may ask here."""
RoundNumber = Annotated[int, Path(ge=1, le=2**63 - 1, description="a round's number in the contract")]


def attempts_router(catalogue: Catalogue, aggregator: Aggregator) -> APIRouter:
    router = APIRouter(tags=["evidence"])

    @router.get(
        "/v1/attempts/{id}",
        response_model=Attempt,
        responses=problem_responses(404, 422, 503),
        summary="An attempt with its whole evidence",
    )
    async def attempt(id: AttemptId) -> Response:
        """Raw signed reports, quotes, failures, timings; kept also of attempts that failed."""
        try:
            body = await aggregator.attempt(id.lower())
        except RecordNotFoundError as error:
            raise Problem(404, "unknown_attempt", "No such attempt", str(error)) from None
        except AggregatorUnavailableError as error:
            raise _unavailable(error) from error
        return Response(body, media_type=JSON, headers=NO_CACHE)

    @router.get(
        "/v1/groups/{group}/rounds/{number}",
        response_model=Attempt,
        responses=problem_responses(404, 422, 503),
        summary="The attempt that brought a round",
    )
    async def round_(group: GroupName, number: RoundNumber) -> Response:
        """The same record, by group and round."""
        name = group.lower()
        if name not in catalogue.groups:
            raise refusals.unknown_group(group, list(catalogue.groups))
        try:
            body = await aggregator.round(name, number)
        except RecordNotFoundError as error:
            raise Problem(404, "unknown_round", "No such round", str(error)) from None
        except AggregatorUnavailableError as error:
            raise _unavailable(error) from error
        return Response(body, media_type=JSON, headers=NO_CACHE)

    @router.get(
        "/v1/groups/{group}/rounds/{number}/evidence",
        response_model=Evidence,
        responses=problem_responses(404, 422, 503),
        summary="Proofs of the quotes behind an answer, to be checked on chain",
    )
    async def evidence(group: GroupName, number: RoundNumber, feed: FeedSlug) -> Response:
        """Each quote that a reporter counted for the feed (or, by its pair, for a conversion rate), with its leaf and
        proof: the arguments of the contract's `verifyObservation`. A round is proven on chain for as long as the
        contract keeps its evidence: 64 rounds."""
        name = group.lower()
        if name not in catalogue.groups:
            raise refusals.unknown_group(group, list(catalogue.groups))
        try:
            body = await aggregator.evidence(name, number, feed)
        except RecordNotFoundError as error:
            raise Problem(404, "unknown_round", "No such round", str(error)) from None
        except AggregatorUnavailableError as error:
            raise _unavailable(error) from error
        return Response(body, media_type=JSON, headers=NO_CACHE)

    @router.get(
        "/v1/groups/{group}/update",
        response_model=Update,
        responses=problem_responses(404, 422, 503),
        summary="The newest signed round, to bring on chain yourself",
    )
    async def update(group: GroupName) -> Response:
        """Calldata for the contract at `to`, with the reports that it is made of. Check it before you send it:
        signatures, membership, a simulated call (`contracts.pull.verify` does). 404 `no_update` where no quorum signed
        within the time for which the contract takes a round."""
        name = group.lower()
        if name not in catalogue.groups:
            raise refusals.unknown_group(group, list(catalogue.groups))
        try:
            body = await aggregator.update(name)
        except RecordNotFoundError as error:
            raise Problem(404, "no_update", "No update", str(error)) from None
        except AggregatorUnavailableError as error:
            raise _unavailable(error) from error
        return Response(body, media_type=JSON, headers=NO_STORE)

    _add_latest(router, catalogue, aggregator)
    _add_equivocations(router, aggregator)
    return router


def _add_latest(router: APIRouter, catalogue: Catalogue, aggregator: Aggregator) -> None:
    @router.get(
        "/v1/groups/{group}/attempts",
        response_model=list[AttemptSummary],
        responses=problem_responses(404, 422, 503),
        summary="The newest attempts of a group, failed ones too, in short",
    )
    async def attempts(
        group: GroupName,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="how many; the newest first")] = 20,
    ) -> Response:
        """Ids, states and why they failed, also of those that still run: an id is all that
        `GET /v1/attempts/{id}` needs."""
        name = group.lower()
        if name not in catalogue.groups:
            raise refusals.unknown_group(group, list(catalogue.groups))
        try:
            body = await aggregator.attempts(name, limit)
        except RecordNotFoundError as error:
            raise Problem(404, "unknown_group", "No such group", str(error)) from None
        except AggregatorUnavailableError as error:
            raise _unavailable(error) from error
        return Response(body, media_type=JSON, headers=NO_CACHE)


def _add_equivocations(router: APIRouter, aggregator: Aggregator) -> None:
    @router.get(
        "/v1/equivocations",
        response_model=list[Equivocation],
        responses=problem_responses(422, 503),
        summary="Proofs that a reporter signed two different reports for one moment",
    )
    async def equivocations(
        limit: Annotated[int, Query(ge=1, le=1_000, description="the latest moments first")] = 100,
    ) -> Response:
        """Each holds both reports as signed: whoever recovers the signatures finds one signer, and needs nobody's word.
        Neither counts; where the second came after the round, the first had counted."""
        try:
            body = await aggregator.equivocations(limit)
        except (AggregatorUnavailableError, RecordNotFoundError) as error:
            raise _unavailable(AggregatorUnavailableError(str(error))) from error
        return Response(body, media_type=JSON, headers=NO_CACHE)


def _unavailable(error: AggregatorUnavailableError) -> Problem:
    return Problem(503, error.code, "No records now; prices go on", str(error), headers=refusals.RETRY_SOON)
