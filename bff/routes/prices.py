"""Reads: answered from memory, from what was last read off the chain."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from bff import refusals
from bff.catalogue import Catalogue, Listed
from bff.chain_reader import ChainReader
from bff.documents import Missing, Price, Prices, RefreshedPrice, RefreshProblem, UnknownPairProblem
from bff.errors import InvalidPairError, UnknownPairError
from bff.refresh import Refresher
from bff.routes.answers import NO_STORE, PairSlug, document, problem_of
from core.clock import Clock
from core.problems import Problem, problem_responses
from core.types import Mode


def prices_router(
    catalogue: Catalogue, reader: ChainReader, refresher: Refresher, *, clock: Clock, mode: Mode
) -> APIRouter:
    router = APIRouter(tags=["prices"])
    unknown_pair = problem_of(UnknownPairProblem, 404)

    @router.head("/v1/prices/{pair}", include_in_schema=False)
    @router.get(
        "/v1/prices/{pair}",
        response_model=Price,
        responses={**unknown_pair, **problem_responses(422, 503)},
        summary="A pair's standing price",
    )
    async def price(pair: PairSlug) -> Response:
        """From what was last read off the chain, with its age by our wall clock. Do not act on it where `stale` is
        true. 503 `no_reading` while the chain was never read, `price_unset` before the pair's first round."""
        listed = _find(catalogue, pair)
        view = reader.view(listed.group.name)
        if view is None:
            raise refusals.no_reading()
        standing = view.standing.get(listed.pair)
        if standing is None:
            raise refusals.price_unset(listed.pair)
        return document(standing.at(clock.now_ms()))

    @router.head("/v1/prices", include_in_schema=False)
    @router.get(
        "/v1/prices",
        response_model=Prices,
        responses=problem_responses(503),
        summary="Every standing price",
    )
    async def prices() -> Response:
        """Those of a group at one round. Pairs without a price are listed under `missing`, with the reason."""
        now_ms = clock.now_ms()
        answer = Prices(mode=mode, groups=[], prices=[], missing=[])
        for name, group in catalogue.groups.items():
            view = reader.view(name)
            if view is not None:
                answer.groups.append(view.document())
            for feed in group.feeds:
                if view is None:
                    answer.missing.append(Missing(pair=feed.pair, code="no_reading"))
                elif (standing := view.standing.get(feed.pair)) is None:
                    answer.missing.append(Missing(pair=feed.pair, code="price_unset"))
                else:
                    answer.prices.append(standing.at(now_ms))
        if not answer.groups:
            raise refusals.no_reading()
        return document(answer)

    @router.post(
        "/v1/prices/{pair}/refresh",
        response_model=RefreshedPrice,
        responses={**unknown_pair, **problem_responses(413, 422), **problem_of(RefreshProblem, 503, 504)},
        summary="A new price, now",
    )
    async def refresh(pair: PairSlug) -> Response:
        """Joins an open attempt of the pair's group, or starts one, and answers with the price of its round. No body.

        503 says why there is no new price (`no_quorum`, `feed_not_updated`, `answer_held` by the contract's breaker,
        `aggregator_unavailable`, …), 504 `refresh_timeout` that the attempt goes on; both give the attempt's id and the
        last good answer."""
        return document(await refresher.refresh(_find(catalogue, pair)), NO_STORE)

    @router.head("/v1/prices/{base}/{quote}", include_in_schema=False)
    @router.get("/v1/prices/{base}/{quote}", include_in_schema=False)
    async def price_by_name(base: str, quote: str) -> Response:
        if quote == "refresh":  # that is a POST
            raise HTTPException(405, headers={"Allow": "POST"})
        raise _with_a_dash(catalogue, base, quote)

    @router.post("/v1/prices/{base}/{quote}/refresh", include_in_schema=False)
    async def refresh_by_name(base: str, quote: str) -> Response:
        raise _with_a_dash(catalogue, base, quote)

    return router


def _with_a_dash(catalogue: Catalogue, base: str, quote: str) -> Problem:
    """The answer to a pair written with a slash (`BTC/USD`, or `BTC%2FUSD`, which the server makes the same)."""
    slug = f"{base}-{quote}".upper()[:24]
    detail = f"in a URL a pair is written with a dash, like {slug}; known: {', '.join(catalogue.pairs)}"
    return Problem(404, "unknown_pair", "No such pair", detail, known=list(catalogue.pairs))


def _find(catalogue: Catalogue, slug: str) -> Listed:
    try:
        return catalogue.find(slug)
    except UnknownPairError as error:
        raise refusals.unknown_pair(error) from None
    except InvalidPairError as error:
        raise refusals.invalid_pair(error) from None
