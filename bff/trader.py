"""The trader's API as the BFF uses it: reads only, passed on as they are, every answer bounded."""

from __future__ import annotations

import asyncio

import httpx

from bff.errors import TraderUnavailableError
from bff.upstream import aggregator_transport
from core.problems import read_problem

MAX_ANSWER_BYTES = 1024 * 1024
_TIMEOUT_S = 2.0
_PASSED_ON = {"unknown_feed", "feed_in_error", "signal_unset"}
"""Problems that are about the signal, not about the trader."""


class HttpTrader:
    """The trader at `url`."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers={"accept": "application/json"},
            transport=transport or aggregator_transport(),
            timeout=None,  # noqa: S113 - each call is bounded as a whole, below
            follow_redirects=False,
            trust_env=False,
        )

    async def get(self, path: str) -> tuple[int, bytes]:
        """200 and a document, or a status and the problem document that tells what is wrong with the signal.

        Raises `TraderUnavailableError`.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                response = await self._client.get(path)
        except TimeoutError:
            raise TraderUnavailableError(f"no answer from the trader at {self.url} within {_TIMEOUT_S:g} s") from None
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: the client is closed, we are stopping
            said = str(error) or type(error).__name__
            raise TraderUnavailableError(f"the trader at {self.url} cannot be reached: {said}") from error
        if len(response.content) > MAX_ANSWER_BYTES:
            raise TraderUnavailableError(f"the trader's answer is larger than {MAX_ANSWER_BYTES} bytes")
        if response.status_code == httpx.codes.OK:
            return 200, response.content
        problem = read_problem(response.content)
        if problem is None or problem.code not in _PASSED_ON:
            said = f"{problem.code}: {problem.detail}" if problem else "no problem document"
            raise TraderUnavailableError(f"the trader at {self.url} answered {response.status_code} ({said})")
        return response.status_code, response.content

    async def close(self) -> None:
        await self._client.aclose()
