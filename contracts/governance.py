"""What governors may ask of the contract: each call with the roles that it needs, and the steps to a configuration.

Pure. `contracts.governor` sends the calls; who governs with a wallet or a multisig takes `Call.data` from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from contracts.abi import Abi
from contracts.errors import RotationUnderWayError
from contracts.readings import FeedOnChain, GroupState
from contracts.report import bytes32
from core.types import Feed, Group, Pair

LIMIT_BPS, MAX_SPREAD_BPS = 1_000, 1_000
"""The breaker's limits where a feed declares none: a tenth, growing to four tenths over sixteen heartbeats."""


class Role(StrEnum):
    """Who may change what: see `FairmarkGovernance`. The owner may do what the managers may."""

    OWNER = "owner"
    GUARDIAN = "guardian"
    FEEDS_MANAGER = "feeds' manager"
    SIGNERS_MANAGER = "signers' manager"


@dataclass(frozen=True)
class Call:
    """A change, ready to be sent by whoever has one of `roles`. what: in words. to: another contract than the oracle,
    whose owner must send it."""

    what: str
    data: bytes
    roles: tuple[Role, ...]
    to: str | None = None

    @property
    def needs(self) -> str:
        """The roles, in words."""
        if self.to is not None:
            return f"the owner of {self.to}"
        return " or ".join(f"the {role}" for role in self.roles)


@dataclass(frozen=True)
class Rotation:
    """A rotation under way: the new set, ascending. It counts from `counts_from` on (s); the old set counts beside it
    until the new one's first round after `overlap_until` (s), or until somebody concludes."""

    group: str
    version: int
    signers: tuple[str, ...]
    counts_from: int
    overlap_until: int


@dataclass(frozen=True)
class Candidate:
    """A median too far from its feed's standing answer, which waits. value: scaled by the feed's decimals."""

    pair: Pair
    value: int
    moment: int
    spread_bps: int
    contributors: int
    round: int


def configured(feed: Feed) -> FeedOnChain:
    """A feed as the contract is to have it."""
    return FeedOnChain(
        pair=feed.pair,
        decimals=feed.decimals,
        min_contributors=feed.min_contributors,
        deviation_bps=feed.deviation_bps,
        heartbeat_s=-(-feed.heartbeat_ms // 1000),
        limit_bps=0 if feed.signal else max(LIMIT_BPS, 4 * feed.deviation_bps),
        max_spread_bps=0 if feed.signal else MAX_SPREAD_BPS,
    )


def ascending(addresses: Sequence[str]) -> list[str]:
    """As the contract wants them."""
    return sorted(addresses, key=lambda address: int(address, 16))


def too_few(state: GroupState, signers: int | None = None) -> bool:
    """Whether the contract halts the group with this many signers; default: as many as it has."""
    n = len(state.signers) if signers is None else signers
    return n < max(3 * state.f + 1, state.threshold, *(feed.min_contributors for feed in state.feeds))


def steps(
    abi: Abi, state: GroupState | None, rotation: Rotation | None, group: Group, signers: Sequence[str]
) -> list[Call]:
    """The calls, in their order, that bring a group to what is asked; none where all stands, or is announced.

    state: None where the contract does not know the group. signers: asked for, in any order. Feeds change at once;
    signers, f and threshold do so only while the group has made no round, or has too few signers to make one: after
    that they are rotated. Raises `RotationUnderWayError` where a rotation to other signers, or any at all and feeds are
    to change, stands in the way.
    """
    wanted = ascending(signers)
    if state is None:
        return [configure_group(abi, group, wanted, f"configuring group {group.name}")]
    feeds_differ = list(state.feeds) != [configured(feed) for feed in group.feeds]
    age_differs = state.max_age_ms != group.max_age_ms
    numbers_differ = (state.f, state.threshold) != (group.f, group.threshold)
    coming = rotation.signers if rotation is not None else state.signers
    # what f and threshold a rotation brings cannot be read before it is due
    signers_differ = _lower(coming) != _lower(wanted) or (numbers_differ and (rotation is None or state.set_place == 1))
    if not (feeds_differ or age_differs or signers_differ):
        return []
    if rotation is not None:
        raise RotationUnderWayError(
            "RotationUnderWay",
            (group.name,),
            f"a rotation of {group.name}'s signers is under way: wait until it is concluded, or drop it with "
            f"`fairmark reporters cancel {group.name}`",
        )
    if signers_differ and (state.round == 0 or too_few(state)):
        return [configure_group(abi, group, wanted, f"configuring group {group.name}")]
    found = []
    if age_differs:
        standing = dataclasses.replace(state, max_age_ms=group.max_age_ms)
        found.append(_reconfigure(abi, standing, group))
    elif feeds_differ:
        found.append(set_feeds(abi, group))
    if signers_differ:
        found.append(rotate(abi, group.name, wanted, group.f, group.threshold))
    return found


def _lower(addresses: Sequence[str]) -> list[str]:
    return [address.lower() for address in addresses]


# ------------------------------------------------------------------------------------------------ groups and feeds


def configure_group(abi: Abi, group: Group, signers: Sequence[str], what: str) -> Call:
    """Signers ascending."""
    feeds = [_packed(feed) for feed in group.feeds]
    data = abi.call(
        "configureGroup", bytes32(group.name), feeds, list(signers), group.f, group.threshold, group.max_age_ms
    )
    return Call(what, data, (Role.OWNER,))


def _reconfigure(abi: Abi, state: GroupState, group: Group) -> Call:
    """With the signers that stand."""
    feeds = [_packed(feed) for feed in group.feeds]
    name, signers = bytes32(group.name), list(state.signers)
    data = abi.call("configureGroup", name, feeds, signers, state.f, state.threshold, state.max_age_ms)
    return Call(f"configuring group {group.name}", data, (Role.OWNER,))


def set_feeds(abi: Abi, group: Group) -> Call:
    data = abi.call("setFeeds", bytes32(group.name), [_packed(feed) for feed in group.feeds])
    return Call(f"setting the feeds of group {group.name}", data, (Role.FEEDS_MANAGER, Role.OWNER))


def describe_feed(abi: Abi, pair: Pair, description: str) -> Call:
    data = abi.call("describeFeed", bytes32(pair), description)
    return Call(f"describing {pair}", data, (Role.FEEDS_MANAGER, Role.OWNER))


def _packed(feed: Feed) -> tuple[bytes, int, int, int, int, int, int]:
    found = configured(feed)
    limits = found.limit_bps, found.max_spread_bps
    return bytes32(feed.pair), found.decimals, found.min_contributors, found.deviation_bps, found.heartbeat_s, *limits


# ------------------------------------------------------------------------------------------------ signers


def rotate(abi: Abi, group: str, signers: Sequence[str], f: int, threshold: int) -> Call:
    """Signers ascending."""
    data = abi.call("rotate", bytes32(group), list(signers), f, threshold)
    return Call(f"rotating the signers of group {group}", data, (Role.SIGNERS_MANAGER, Role.OWNER))


def cancel_rotation(abi: Abi, group: str) -> Call:
    data = abi.call("cancelRotation", bytes32(group))
    return Call(f"cancelling the rotation of group {group}", data, (Role.SIGNERS_MANAGER, Role.OWNER))


def conclude_rotation(abi: Abi, group: str) -> Call:
    data = abi.call("concludeRotation", bytes32(group))
    return Call(f"concluding the rotation of group {group}", data, (Role.SIGNERS_MANAGER, Role.OWNER))


def revoke(abi: Abi, group: str, signer: str) -> Call:
    data = abi.call("revoke", bytes32(group), signer)
    return Call(f"revoking {signer} in group {group}", data, (Role.SIGNERS_MANAGER, Role.OWNER))


# ------------------------------------------------------------------------------------------------ halting, roles


def pause(abi: Abi) -> Call:
    return Call("pausing", abi.call("pause"), (Role.GUARDIAN, Role.OWNER))


def unpause(abi: Abi) -> Call:
    return Call("unpausing", abi.call("unpause"), (Role.OWNER,))


def halt_feed(abi: Abi, pair: Pair) -> Call:
    return Call(f"halting {pair}", abi.call("haltFeed", bytes32(pair), True), (Role.GUARDIAN, Role.OWNER))


def resume_feed(abi: Abi, pair: Pair) -> Call:
    return Call(f"resuming {pair}", abi.call("haltFeed", bytes32(pair), False), (Role.OWNER,))


def resolve_candidate(abi: Abi, candidate: Candidate, *, confirm: bool) -> Call:
    """Refused by the contract where another value waits by then."""
    data = abi.call("resolveCandidate", bytes32(candidate.pair), candidate.value, confirm)
    return Call(f"{'confirming' if confirm else 'discarding'} the candidate of {candidate.pair}", data, (Role.OWNER,))


def set_guardian(abi: Abi, guardian: str) -> Call:
    return Call(f"naming {guardian} guardian", abi.call("setGuardian", guardian), (Role.OWNER,))


def set_managers(abi: Abi, feeds_manager: str, signers_manager: str) -> Call:
    what = f"naming {feeds_manager} feeds' manager and {signers_manager} signers' manager"
    return Call(what, abi.call("setManagers", feeds_manager, signers_manager), (Role.OWNER,))


def accept_ownership(abi: Abi) -> Call:
    return Call("accepting ownership", abi.call("acceptOwnership"), (Role.OWNER,))


def offer_ownership(abi: Abi, to: str) -> Call:
    return Call(f"offering ownership to {to}", abi.call("transferOwnership", to), (Role.OWNER,))
