"""Every error over HTTP is an RFC 9457 problem document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import httpx
import pytest
from fastapi import FastAPI

from core.errors import ConversionError, FairmarkError
from core.problems import MEDIA_TYPE, Problem, install_problem_handlers, problem_responses, read_problem
from core.types import Pair


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install_problem_handlers(app, {"no_conversion": 424})

    @app.get("/raise/{what}", responses=problem_responses(404, 503))
    async def fail(what: str, number: int = 1) -> None:
        raise {
            "problem": Problem(
                404, "unknown_pair", "No such pair", "ABC/USD", headers={"Retry-After": "3"}, known=[Pair("BTC/USD")]
            ),
            "money": Problem(503, "x", "X", price=Decimal("1.10")),
            "conversion": ConversionError("no rate"),
            "internal": FairmarkError("a bug"),
            "other": ZeroDivisionError("secret"),
        }[what]

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


async def test_a_problem_raised_in_a_route_is_a_document_with_its_extra_members(client: httpx.AsyncClient) -> None:
    answer = await client.get("/raise/problem")
    assert (answer.status_code, answer.headers["content-type"], answer.headers["retry-after"]) == (404, MEDIA_TYPE, "3")
    assert answer.json() == {
        "type": "urn:fairmark:problem:unknown_pair",
        "title": "No such pair",
        "status": 404,
        "detail": "ABC/USD",
        "code": "unknown_pair",
        "instance": "/raise/problem",
        "known": ["BTC/USD"],
    }


async def test_a_price_in_a_problem_is_a_string(client: httpx.AsyncClient) -> None:
    assert (await client.get("/raise/money")).json()["price"] == "1.10"


@pytest.mark.parametrize(
    ("what", "status", "code", "detail"),
    [
        ("conversion", 424, "no_conversion", "no rate"),
        ("internal", 500, "internal", "a bug"),
        ("other", 500, "internal", "an unforeseen error; the log has it"),
    ],
)
async def test_errors_that_no_route_handles(
    client: httpx.AsyncClient, what: str, status: int, code: str, detail: str
) -> None:
    answer = await client.get(f"/raise/{what}")
    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (status, code, detail)
    assert answer.headers["content-type"] == MEDIA_TYPE


async def test_an_unknown_path_and_a_wrong_method_are_problems(client: httpx.AsyncClient) -> None:
    missing = await client.get("/nowhere")
    assert (missing.status_code, missing.json()["code"], missing.json()["instance"]) == (404, "not_found", "/nowhere")
    wrong = await client.post("/raise/problem")
    assert (wrong.status_code, wrong.json()["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "GET")


async def test_bad_input_names_each_fault_and_its_place(client: httpx.AsyncClient) -> None:
    answer = await client.get("/raise/problem", params={"number": "x"})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, "invalid_request")
    assert [fault["where"] for fault in body["errors"]] == ["query.number"]


async def test_openapi_documents_problems_with_their_media_type(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    responses = document["paths"]["/raise/{what}"]["get"]["responses"]
    assert MEDIA_TYPE in responses["404"]["content"]
    assert "ProblemDocument" in document["components"]["schemas"]


async def test_a_problem_can_be_read_back(client: httpx.AsyncClient) -> None:
    problem = read_problem((await client.get("/raise/problem")).content)
    assert problem is not None
    assert (problem.code, problem.status) == ("unknown_pair", 404)
    assert read_problem(b"<html>") is None
    assert read_problem(b"[" * 100_000) is None
    assert read_problem(b"[1]") is None
