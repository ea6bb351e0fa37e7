"""How a signal is asked for: JSON-RPC 2.0 over HTTP, one method, `signal_value`.

The path names which of a server's signals is meant, where it has several: `host:port` a generator's one, and
`host:port/decision` a trader's feed `decision`. A signal without a value answers with error -32001, whose `data` is the
trouble that keeps it from one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import msgspec
from fastapi import FastAPI, Request, Response
from msgspec import Struct
from msgspec.structs import replace

from core import codec
from core.errors import InvalidSignalError
from core.problems import Problem
from core.reporting import Trouble
from core.signals import SignalReading
from signals.errors import SignalInTroubleError, SignalUnavailableError
from signals.messages import MAX_DETAIL

METHOD = "signal_value"
IN_TROUBLE = -32001
MAX_BYTES = 65_536
BODY_S = 5.0
MAX_NAMES = 32
MAX_NAME = 100
ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})(?P<path>/[a-z][a-z0-9-]{0,30})?")

Read = Callable[[str], SignalReading]
"""The reading of the signal that a path names (empty: the only one). Raises `SignalInTroubleError`, or `KeyError`."""


class _Asked(Struct):
    method: str
    id: int | str | None = None
    jsonrpc: str = "2.0"


class _Fault(Struct):
    code: int
    message: str
    data: Any = None


class _Answered(Struct):
    result: Any = None
    error: _Fault | None = None


def add_signal_rpc(app: FastAPI, read: Read) -> None:
    """Answer `signal_value` at `/` and at `/{signal}`."""

    async def call(request: Request) -> Response:
        body = await bounded_body(request, MAX_BYTES)
        try:
            asked = codec.decode(body, _Asked)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _fault(None, -32700, "not a JSON-RPC request")
        if asked.method != METHOD:
            return _fault(asked.id, -32601, f"no such method; there is {METHOD}")
        try:
            reading = read(request.path_params.get("signal", ""))
        except KeyError as error:
            return _fault(asked.id, -32602, f"no such signal: {error.args[0]}")
        except SignalInTroubleError as error:
            return _fault(asked.id, IN_TROUBLE, str(error), codec.to_builtins(error.trouble))
        plain = {**codec.to_builtins(reading), "value": f"{reading.value:f}"}
        return _json({"jsonrpc": "2.0", "id": asked.id, "result": plain})

    app.add_api_route("/", call, methods=["POST"], summary="JSON-RPC 2.0: signal_value", tags=["signals"])
    app.add_api_route("/{signal}", call, methods=["POST"], include_in_schema=False)


async def bounded_body(request: Request, most: int) -> bytes:
    """A request's body. Raises `Problem`: 413 where it has more than `most` bytes, 408 where it takes too long."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise Problem(413, "too_large", "The message is too large", f"at most {most} bytes")
    except TimeoutError:
        raise Problem(408, "request_timeout", "The message took too long", f"at most {BODY_S:g} s") from None
    return bytes(body)


def _json(body: object) -> Response:
    return Response(codec.encode(body), media_type="application/json")


def _fault(id_: object, code: int, message: str, data: object = None) -> Response:
    return _json({"jsonrpc": "2.0", "id": id_, "error": {"code": code, "message": message, "data": data}})


def signal_url(address: str) -> str:
    """`host:port`, or `host:port/feed`, as a URL. Raises `ValueError`."""
    found = ADDRESS.fullmatch(address.removeprefix("http://"))
    if found is None or not 0 < int(found["port"]) < 65_536:
        raise ValueError(f"{address!r} is no signal's address: write it as host:port, or host:port/feed of a trader")
    return f"http://{found['host']}:{found['port']}{found['path'] or '/'}"


def _check_names(names: Sequence[str]) -> None:
    if len(names) > MAX_NAMES or max(map(len, names)) > MAX_NAME:
        raise ValueError(f"more than {MAX_NAMES} names, or one of more than {MAX_NAME} characters")


def _bounded_trouble(one: Trouble) -> Trouble:
    """Raises `ValueError` for names of a size that none of ours has."""
    _check_names((one.who, *one.via))
    return replace(one, detail=one.detail[:MAX_DETAIL])


class SignalClient:
    """Asks signals at their addresses. timeout_s: bound of one call as a whole."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def read(self, address: str, timeout_s: float) -> SignalReading:
        """Raises `SignalUnavailableError` or `SignalInTroubleError`."""
        asked = {"jsonrpc": "2.0", "id": 1, "method": METHOD, "params": []}
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.post(signal_url(address), json=asked)
        except TimeoutError:
            raise SignalUnavailableError(f"no answer from {address} within {timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SignalUnavailableError(
                f"{address} cannot be reached: {str(error) or type(error).__name__}"
            ) from error
        try:
            answered = codec.decode(response.content[:MAX_BYTES], _Answered)
            if answered.error is not None:
                if answered.error.code == IN_TROUBLE:
                    raise SignalInTroubleError(_bounded_trouble(codec.convert(answered.error.data, Trouble)))
                raise SignalUnavailableError(f"{address} answers {answered.error.code}: {answered.error.message[:200]}")
            reading = codec.convert(answered.result, SignalReading)
            reading.range.checked(reading.value)
            _check_names((reading.name, *reading.depends))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, InvalidSignalError) as error:
            raise SignalUnavailableError(f"{address} answers what is no signal: {error}") from error
        return reading
