"""The development chain's server: JSON-RPC on `POST /`, and what every process shows its operators.

The chain runs on one worker thread, so that `/live` answers while a block is mined.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response

from contracts.devchain.chain import DevChain
from contracts.devchain.methods import INVALID_REQUEST, Methods, error_response
from core.codec import check_depth
from core.ops import Ops, ops_app

MAX_BODY_BYTES = 4 << 20
MAX_BATCH = 100
MAX_WAITING = 256
PARSE_ERROR, OVERLOADED = -32700, -32005


class ChainService:
    """Serves one `DevChain`. `close` ends its thread."""

    def __init__(self, chain: DevChain, ops: Ops) -> None:
        self._methods = Methods(chain)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="devchain")
        self._waiting = 0
        self.app: FastAPI = ops_app(ops)
        self.app.add_route("/", self._endpoint, methods=["POST"])
        ops.depend("chain", self._check)

    async def _check(self) -> str:
        response = await self._run({"method": "eth_blockNumber"})
        return f"block {int(response['result'], 16)}"

    async def _run(self, request: Any) -> dict[str, Any]:
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._methods.handle, request)

    async def _endpoint(self, request: Request) -> Response:
        if self._waiting >= MAX_WAITING:
            return _json(error_response(None, OVERLOADED, f"more than {MAX_WAITING} requests wait already"))
        self._waiting += 1
        try:
            return await self._answer(request)
        finally:
            self._waiting -= 1

    async def _answer(self, request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("application/json"):
            # a web page may send anything but this to another origin without asking first
            return _json(error_response(None, INVALID_REQUEST, "send it as application/json"))
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                return _json(error_response(None, INVALID_REQUEST, f"more than {MAX_BODY_BYTES} bytes"))
        try:
            check_depth(bytes(body))
            decoded = json.loads(bytes(body))
        except (ValueError, msgspec.DecodeError):
            return _json(error_response(None, PARSE_ERROR, "not JSON"))
        if not isinstance(decoded, list):
            return _json(await self._run(decoded))
        if not 0 < len(decoded) <= MAX_BATCH:
            return _json(error_response(None, INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} requests"))
        return _json([await self._run(one) for one in decoded])

    def close(self) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)


def _json(value: Any) -> Response:
    return Response(json.dumps(value, separators=(",", ":")), media_type="application/json")
