"""How documents leave: written once by their own model, and not validated again by the framework on the way out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Path, Response
from pydantic import BaseModel

from core.problems import MEDIA_TYPE, ProblemDocument

JSON = "application/json"
NO_CACHE = {"cache-control": "no-cache"}
NO_STORE = {"cache-control": "no-store"}

PairSlug = Annotated[
    str,
    Path(
        description="a published pair as `base-quote`, in any case",
        examples=["BTC-USD"],
        openapi_examples={"bitcoin": {"value": "BTC-USD"}, "tether": {"value": "USDT-USD"}},
    ),
]


def document(body: BaseModel, headers: dict[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), media_type=JSON, headers=headers or NO_CACHE)


def problem_of(model: type[ProblemDocument], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route whose problems of these statuses have members of their own."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        status: {
            "model": model,
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }
