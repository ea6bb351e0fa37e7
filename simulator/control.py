"""The control port: where the venues are, what is wrong with them, what they served, what things are worth."""

from __future__ import annotations

from typing import Protocol

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from core.clock import Clock
from core.codec import decode_digits, encode
from core.errors import StartError
from core.ops import VERSION, Ops, add_ops_routes
from core.problems import install_problem_handlers
from core.types import Pair
from simulator.board import Board
from simulator.errors import InvalidControlError, SimulatorError, UnknownVenueError
from simulator.faults import Fault, FaultTable, parse_faults
from simulator.served import ServedLog

MAX_BODY = 64 * 1024


class Venues(Protocol):
    """What the control port needs of the simulator's venues."""

    def urls(self, host: str | None = None) -> dict[str, str]:
        """Base URL by venue, as seen by a client that reaches the simulator under `host`."""
        ...

    def stream_urls(self, host: str | None = None) -> dict[str, str]:
        """URL of the stream by venue that has one, likewise."""
        ...

    async def apply_faults(self) -> None:
        """Close or open listeners as the faults say."""
        ...


def control_app(
    ops: Ops, *, venues: Venues, faults: FaultTable, board: Board, served: ServedLog, clock: Clock
) -> FastAPI:
    """The control port's application."""
    app = FastAPI(title="Fairmark simulator", version=VERSION, redoc_url=None)
    add_ops_routes(app, ops)
    install_problem_handlers(app)
    _add_problems(app)
    _add_faults(app, venues, faults)
    _add_prices(app, board, clock)

    @app.get("/venues", tags=["venues"], summary="Base URL of each simulated venue")
    async def get_venues(request: Request) -> dict[str, str]:
        return venues.urls(request.url.hostname)

    @app.get("/streams", tags=["venues"], summary="URL of each simulated venue's stream, where it has one")
    async def get_streams(request: Request) -> dict[str, str]:
        return venues.stream_urls(request.url.hostname)

    @app.get("/served", tags=["venues"], summary="What was served, oldest first; prices as they stood in the bodies")
    async def get_served(since_ms: int = 0, venue: str | None = None, pair: str | None = None) -> Response:
        wanted = None if pair is None else _pair(pair)
        entries = [
            entry
            for entry in served.since(since_ms)
            if (venue is None or entry.venue == venue) and (wanted is None or entry.pair == wanted)
        ]
        body = {"mode": "test", "now_ms": clock.now_ms(), "dropped": served.dropped, "served": entries}
        return Response(encode(body), media_type="application/json")

    return app


def _add_faults(app: FastAPI, venues: Venues, faults: FaultTable) -> None:
    def shown(venue: str) -> list[dict[str, object]]:
        return [_show(fault) for fault in faults.get(venue)]

    @app.get("/faults", tags=["faults"], summary="The faults of every venue that has any")
    async def get_all() -> dict[str, list[dict[str, object]]]:
        return {venue: shown(venue) for venue in faults.active()}

    @app.put("/faults", tags=["faults"], summary="Replace all faults: a fault or a list of faults by venue")
    async def put_all(request: Request) -> dict[str, list[dict[str, object]]]:
        body = await _json_object(request)
        wanted: dict[str, tuple[Fault, ...]] = {}
        problems: list[str] = []
        for venue, value in body.items():
            try:
                faults.get(venue)
                wanted[venue] = parse_faults(value)
            except InvalidControlError as error:
                problems += [f"{venue}: {problem}" for problem in error.problems]
            except UnknownVenueError as error:
                problems.append(str(error))
        if problems:
            raise InvalidControlError(problems)
        for venue in faults.active():
            faults.set(venue, ())
        for venue, venue_faults in wanted.items():
            faults.set(venue, venue_faults)
        await venues.apply_faults()
        return await get_all()

    @app.delete("/faults", tags=["faults"], summary="Lift all faults", status_code=204)
    async def delete_all() -> None:
        for venue in faults.active():
            faults.set(venue, ())
        await venues.apply_faults()

    @app.get("/faults/{venue}", tags=["faults"], summary="One venue's faults")
    async def get_one(venue: str) -> list[dict[str, object]]:
        return shown(venue)

    @app.put("/faults/{venue}", tags=["faults"], summary="Replace one venue's faults: one, or a list")
    async def put_one(venue: str, request: Request) -> list[dict[str, object]]:
        faults.get(venue)
        faults.set(venue, parse_faults(await _json(request)))
        await venues.apply_faults()
        return shown(venue)

    @app.delete("/faults/{venue}", tags=["faults"], summary="Lift one venue's faults", status_code=204)
    async def delete_one(venue: str) -> None:
        faults.set(venue, ())
        await venues.apply_faults()


def _add_prices(app: FastAPI, board: Board, clock: Clock) -> None:
    def shown() -> Response:
        now_ms = clock.now_ms()
        true = {f"{currency}/USD": board.true_usd(currency, now_ms) for currency in board.currencies()}
        return Response(encode({"true": true, "pinned": board.pins}), media_type="application/json")

    @app.get("/prices", tags=["prices"], summary="True USD prices now, and what is pinned")
    async def get_prices() -> Response:
        return shown()

    @app.put("/prices", tags=["prices"], summary='Pin "BTC/USD" (true price) or "kraken:USDT/USD" (one venue, exactly)')
    async def put_prices(request: Request) -> Response:
        board.pin(await _json_object(request))
        return shown()

    @app.delete("/prices", tags=["prices"], summary="Let every price move again", status_code=204)
    async def delete_prices() -> None:
        board.unpin()


def _add_problems(app: FastAPI) -> None:
    """Errors as RFC 9457 problem documents."""
    statuses: dict[type[Exception], tuple[int, str]] = {
        InvalidControlError: (422, "The request cannot be followed"),
        UnknownVenueError: (404, "No such venue"),
        StartError: (503, "A venue could not listen again"),
    }

    def problem(status: int, title: str, error: SimulatorError | StartError) -> JSONResponse:
        body: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "code": error.code}
        body["detail"] = str(error)
        if isinstance(error, InvalidControlError):
            body["problems"] = error.problems
        return JSONResponse(body, status_code=status, media_type="application/problem+json")

    async def answer(_request: Request, error: Exception) -> Response:
        assert isinstance(error, SimulatorError | StartError)  # noqa: S101 - registered for these only
        status, title = statuses[type(error)]
        return problem(status, title, error)

    for kind in statuses:
        app.add_exception_handler(kind, answer)


def _show(fault: Fault) -> dict[str, object]:
    return fault.model_dump(mode="json", exclude_none=True)


def _pair(text: str) -> Pair:
    try:
        return Pair(text)
    except ValueError as error:
        raise InvalidControlError([f"pair: {error}"]) from None


async def _json(request: Request) -> object:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise InvalidControlError([f"the body is longer than {MAX_BODY} bytes"])
    try:
        value: object = decode_digits(bytes(body))
    except msgspec.DecodeError as error:
        raise InvalidControlError([f"the body is not JSON: {error}"]) from None
    return value


async def _json_object(request: Request) -> dict[str, object]:
    value = await _json(request)
    if not isinstance(value, dict):
        raise InvalidControlError(["the body is not a JSON object"])
    return value
