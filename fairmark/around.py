"""What stood before a round and what stands after it, on chain: also where one block has several rounds of its group.

A node tells how a feed stands after a block. What happened within one is followed through the block's own events, in
their order, and the contract's history of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from contracts.client import OracleClient
from contracts.errors import ContractError
from contracts.report import bytes32
from core.types import Pair


class Accepted(NamedTuple):
    """A round by the contract's own event. written, attested: bits of the group's feeds."""

    round: int
    block: int
    moment: int
    written: int
    attested: int


class Stood(NamedTuple):
    """A feed's standing answer. value: scaled; 0 where it never had one. observed_ms: when it was last seen to hold."""

    value: int
    observed_ms: int


class Around(NamedTuple):
    """None: the node cannot tell."""

    before: Stood | None
    after: Stood | None


def accepted(client: OracleClient, group: str, logs: Sequence[dict[str, Any]]) -> list[Accepted]:
    """The group's rounds in logs of any kind, in their order."""
    named = [client.abi.topic("RoundAccepted"), "0x" + bytes32(group).hex()]
    found = []
    for log in logs:
        topics = [topic.lower() for topic in log["topics"]]
        if log["address"].lower() == client.record.address.lower() and topics[:2] == named:
            moment, written, attested = (int(log["data"][at : at + 64], 16) for at in (2, 66, 130))
            found.append(Accepted(int(topics[2], 16), int(log["blockNumber"], 16), moment, written, attested))
    return found


async def around(client: OracleClient, group: str, pair: Pair, index: int, this: Accepted) -> Around:
    """How feed `index` of the group stood around a round that is on chain."""
    stands = await _stands(client, group, pair, this.block - 1)
    of_block = await _rounds_of(client, group, this.block)
    if of_block == [this]:
        after = await _stands(client, group, pair, this.block)
        return Around(stands, after or await _moved(client, pair, index, this, None))
    if this not in of_block:  # it cannot tell of its events
        return Around(None, None)
    before = stands
    for one in of_block[: of_block.index(this) + 1]:
        before, stands = stands, await _moved(client, pair, index, one, stands)
    return Around(before, stands)


async def _rounds_of(client: OracleClient, group: str, block: int) -> list[Accepted]:
    wanted = {"address": client.record.address, "fromBlock": hex(block), "toBlock": hex(block)}
    try:
        logs = await client.rpc.call("eth_getLogs", wanted)
    except ContractError:
        return []
    return accepted(client, group, sorted(logs, key=lambda log: int(log["logIndex"], 16)))


async def _stands(client: OracleClient, group: str, pair: Pair, block: int) -> Stood | None:
    try:
        answer = (await client.read_group(group, hex(block))).answers.get(pair)
    except ContractError:
        return None
    return Stood(0, 0) if answer is None else Stood(answer.value, answer.observed_ms)


async def _moved(client: OracleClient, pair: Pair, index: int, by: Accepted, stood: Stood | None) -> Stood | None:
    """How the feed stands after a round, from how it stood. What a round wrote is in the contract's history, of the
    last 64 answers."""
    if by.written >> index & 1:
        try:
            value, *_ = await client.read("getRoundData", bytes32(pair), by.round)
        except ContractError:
            return None
        return Stood(value, by.moment)
    if by.attested >> index & 1 and stood is not None:
        return Stood(stood.value, by.moment)
    return stood
