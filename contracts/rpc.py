"""One chain, through one node or several: the first that is well answers, the next takes over when it fails.

Before a write, where there are several nodes, those that answer must tell one history: a node that is behind, or on
another fork, would judge a transaction by a state that nobody else has.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from web3.providers.rpc import AsyncHTTPProvider

from contracts.endpoint import Endpoint
from contracts.errors import NodesDisagreeError, RpcRejectedError, RpcUnavailableError
from contracts.refusals import says_it_is_behind

MAX_LAG_S = 30.0
"""A node whose last block is so much older than another's is not used."""
AGREED_FOR_S = 1.0
LOOK_EVERY_S = 5.0
"""Between looks at which nodes are behind, where there are reads only."""
HEAD_TIMEOUT_S = 1.0
FIRST_REST_S, LONGEST_REST_S = 0.5, 30.0
"""How long a node that failed is left alone, while another answers."""
Told = TypeVar("Told")
WRITES = frozenset({"eth_sendRawTransaction"})


class _Head(NamedTuple):
    """A node's last block. time_s: Unix time."""

    number: int
    time_s: int


def _head(block: Any) -> _Head:
    return _Head(int(block["number"], 16), int(block["timestamp"], 16))


def _number(quantity: Any) -> int:
    return int(quantity, 16)


@dataclass(eq=False)
class _Node:
    endpoint: Endpoint
    failures: int = 0
    rests_until: float = 0.0
    behind: bool = False
    error: str = ""

    def failed(self, error: Exception) -> None:
        self.failures += 1
        self.error = str(error)
        self.rests_until = time.monotonic() + min(FIRST_REST_S * 2 ** (self.failures - 1), LONGEST_REST_S)

    def worked(self) -> None:
        self.failures, self.rests_until, self.error = 0, 0.0, ""

    @property
    def well(self) -> bool:
        return not self.behind and time.monotonic() >= self.rests_until


class Rpc:
    """JSON-RPC to the chain that all `urls` are nodes of, the preferred first. timeout_s: bounds one node's answer.
    max_lag_s: a node whose last block is so much older than another's is behind.

    A call goes to the first node that is well; where that fails, to the next, so that a call takes at most `timeout_s`
    for each node. A transaction is one set of bytes, so giving it to two nodes does it once.
    """

    def __init__(self, urls: str | Sequence[str], *, timeout_s: float = 5.0, max_lag_s: float = MAX_LAG_S) -> None:
        listed = (urls,) if isinstance(urls, str) else tuple(urls)
        if not listed:
            raise ValueError("a chain needs a node")
        self.timeout_s = timeout_s
        self._max_lag_s = max_lag_s
        self._nodes = [_Node(Endpoint(url, timeout_s=timeout_s)) for url in listed]
        self._agreed_at = self._looked_at = float("-inf")

    @property
    def url(self) -> str:
        """Of the node that the next call goes to."""
        return self._in_order()[0].endpoint.url

    @property
    def provider(self) -> AsyncHTTPProvider:
        """web3's view of the node that the next call goes to."""
        return self._in_order()[0].endpoint.provider

    def health(self) -> dict[str, str]:
        """By URL: `up`, `behind`, or what it failed with."""
        return {node.endpoint.url: "behind" if node.behind else node.error or "up" for node in self._nodes}

    def _in_order(self) -> list[_Node]:
        """The well ones first, each kind as configured: a failed one is tried when nobody else answers."""
        return sorted(self._nodes, key=lambda node: not node.well)

    async def call(self, method: str, *params: Any) -> Any:
        """The call's result. Raises `RpcUnavailableError` (no node, no JSON-RPC, too late) or `RpcRejectedError`."""
        if len(self._nodes) == 1:
            return await self._nodes[0].endpoint.call(method, *params)
        if method in WRITES:
            await self._agree()
        elif time.monotonic() - self._looked_at > LOOK_EVERY_S:
            with contextlib.suppress(RpcUnavailableError):  # it is a read: whoever answers, answers
                await self._agree()
        failures: list[str] = []
        for node in self._in_order():
            if node.behind and method in WRITES:
                failures.append(f"{node.endpoint.url} is behind")
                continue
            try:
                result = await node.endpoint.call(method, *params)
            except RpcUnavailableError as error:
                node.failed(error)
                failures.append(str(error))
            except RpcRejectedError as error:
                if not says_it_is_behind(error.rpc_message):
                    node.worked()
                    raise
                node.failed(error)
                failures.append(str(error))
            else:
                node.worked()
                return result
        raise RpcUnavailableError(f"no node answers {method}: " + "; ".join(failures))

    async def quantity(self, method: str, *params: Any) -> int:
        """A call whose result is a number in hex. Raises as `call` does."""
        result = await self.call(method, *params)
        try:
            return int(result, 16)
        except (TypeError, ValueError):
            raise RpcUnavailableError(f"{self.url} answered {method} with {result!r}, not a quantity") from None

    async def chain_ids(self) -> dict[str, int]:
        """The chain that each node says it is of, by URL; without those that do not answer within `HEAD_TIMEOUT_S`,
        unless none does: then it raises `RpcUnavailableError`."""
        if len(self._nodes) == 1:
            return {self.url: await self.quantity("eth_chainId")}
        told = await asyncio.gather(*(self._told(node, _number, "eth_chainId") for node in self._nodes))
        found = {node.endpoint.url: one for node, one in zip(self._nodes, told, strict=True) if one is not None}
        if not found:
            raise RpcUnavailableError("no node answers: " + "; ".join(node.error for node in self._nodes))
        return found

    async def _agree(self) -> None:
        """See that the nodes that answer tell one history, and which of them are behind.

        Raises `NodesDisagreeError` when two differ about a block that both have, `RpcUnavailableError` when none
        answers. What was seen holds for `AGREED_FOR_S`.
        """
        if time.monotonic() - self._agreed_at < AGREED_FOR_S:
            return
        self._looked_at = time.monotonic()
        asked = [node for node in self._nodes if self._looked_at >= node.rests_until] or self._nodes
        heads = await asyncio.gather(
            *(self._told(node, _head, "eth_getBlockByNumber", "latest", False) for node in asked)
        )
        answered = [(node, head) for node, head in zip(asked, heads, strict=True) if head is not None]
        if not answered:
            raise RpcUnavailableError("no node answers: " + "; ".join(node.error for node in self._nodes))
        # by the blocks' times and not by their numbers: one node may name any number, but no later time than now counts
        newest = min(max(head.time_s for _, head in answered), time.time())
        for node, head in answered:
            node.behind = newest - head.time_s > self._max_lag_s
        level = [node for node, _ in answered if not node.behind]
        common = hex(min(head.number for node, head in answered if not node.behind))
        hashes = await asyncio.gather(*(self._hash(node, common) for node in level))
        told = {hash_: node.endpoint.url for hash_, node in zip(hashes, level, strict=True) if hash_ is not None}
        if len(told) > 1:
            raise NodesDisagreeError(f"block {int(common, 16)} differs between {' and '.join(told.values())}")
        self._agreed_at = time.monotonic()

    async def _told(self, node: _Node, read: Callable[[Any], Told], method: str, *params: Any) -> Told | None:
        """What a node answers; None, and marked as failed, where it does not in time, or nothing that can be read."""
        url = node.endpoint.url
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                told = read(await node.endpoint.call(method, *params))
        except TimeoutError:
            node.failed(RpcUnavailableError(f"{url} did not answer {method} within {HEAD_TIMEOUT_S:g} s"))
            return None
        except (RpcUnavailableError, RpcRejectedError, TypeError, ValueError, KeyError) as error:
            node.failed(error)
            return None
        node.worked()
        return told

    async def _hash(self, node: _Node, block: str) -> str | None:
        try:
            found = await node.endpoint.call("eth_getBlockByNumber", block, False)
        except (RpcUnavailableError, RpcRejectedError) as error:
            node.failed(error)
            return None
        return None if not isinstance(found, dict) else str(found.get("hash"))

    async def close(self) -> None:
        await asyncio.gather(*(node.endpoint.close() for node in self._nodes))
