"""The trader's interface as reporters use it: signed messages out, every answer bounded."""

from __future__ import annotations

import asyncio

import httpx

from contracts.report import Signer
from core.errors import CyclicFeedsError, FairmarkError
from core.problems import read_problem
from signals.api import SIGNATURE
from signals.errors import (
    AlreadyProducedError,
    DeregisteredError,
    MessageRefusedError,
    TraderUnavailableError,
    UnknownReporterError,
)
from signals.messages import Message, signed

MAX_ANSWER = 65_536
_TELLING: dict[str, type[FairmarkError]] = {
    one.code: one for one in (AlreadyProducedError, CyclicFeedsError, DeregisteredError, UnknownReporterError)
}
"""Refusals that a reporter acts on."""


class TraderClient:
    """The trader at `url`. token: admits a registration. timeout_s: bound of a call as a whole."""

    def __init__(self, url: str, signer: Signer, token: str, http: httpx.AsyncClient, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._signer = signer
        self._token = token
        self._http = http
        self._timeout_s = timeout_s

    @property
    def address(self) -> str:
        return self._signer.address

    async def send(self, message: Message) -> None:
        """Raises `MessageRefusedError`, `CyclicFeedsError`, or `TraderUnavailableError`: then, try again."""
        body, signature = signed(message, self._signer)
        headers = {SIGNATURE: signature, "authorization": f"Bearer {self._token}", "content-type": "application/json"}
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.post(f"{self.url}/v1/reporters", content=body, headers=headers)
        except TimeoutError:
            raise TraderUnavailableError(f"no answer from {self.url} within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TraderUnavailableError(
                f"{self.url} cannot be reached: {str(error) or type(error).__name__}"
            ) from error
        if response.is_success:
            return
        problem = read_problem(response.content[:MAX_ANSWER])
        said = f"{self.url} answers {response.status_code}: {problem.detail if problem else 'no problem document'}"
        if problem is None or response.is_server_error:
            raise TraderUnavailableError(said)
        raise _TELLING.get(problem.code, MessageRefusedError)(said)
