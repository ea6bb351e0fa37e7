"""What is published here."""

from __future__ import annotations

from fastapi import APIRouter, Response

from bff.catalogue import Catalogue
from bff.documents import FeedDocument, Feeds
from bff.routes.answers import JSON, NO_CACHE
from core.types import Deployment, Mode


def feeds_router(catalogue: Catalogue, deployment: Deployment, mode: Mode) -> APIRouter:
    router = APIRouter(tags=["feeds"])
    body = _feeds(catalogue, deployment, mode).model_dump_json().encode()

    @router.get("/v1/feeds", response_model=Feeds, summary="The published pairs and their rules")
    async def feeds() -> Response:
        return Response(body, media_type=JSON, headers=NO_CACHE)

    return router


def _feeds(catalogue: Catalogue, deployment: Deployment, mode: Mode) -> Feeds:
    return Feeds(
        mode=mode,
        chain_id=deployment.chain_id,
        contract=deployment.address,
        feeds=[
            FeedDocument(
                pair=listed.pair,
                slug=listed.pair.slug,
                group=listed.group.name,
                index=listed.index,
                decimals=listed.feed.decimals,
                heartbeat_seconds=listed.feed.heartbeat_ms / 1000,
                stale_after_seconds=listed.stale_after_ms / 1000,
                deviation_bps=listed.feed.deviation_bps,
                min_contributors=listed.feed.min_contributors,
                aggregate=listed.feed.aggregate,
                trust={source: f"{weight:f}" for source, weight in listed.feed.trust.items()},
                description=listed.feed.description,
            )
            for listed in catalogue.listed
        ],
    )
