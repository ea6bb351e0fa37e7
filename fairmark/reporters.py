"""Commands on reporters: who signs for a group. Before its first round signers change at once, after it by rotation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import typer
from eth_utils.address import is_address, to_checksum_address

from contracts import governor as chain
from contracts.errors import CallRevertedError, ChangeRefusedError
from contracts.governance import (
    Call,
    Role,
    Rotation,
    cancel_rotation,
    conclude_rotation,
    revoke,
    steps,
    too_few,
)
from contracts.readings import GroupState
from core.errors import StartError
from core.settings import Settings
from core.types import Group
from fairmark import access
from fairmark.office import Manner, Office, govern, progress, span
from fairmark.plan import Change, Kind, changes


def reporters_of(settings: Settings, group: str) -> dict[str, str]:
    """Addresses by name. Raises `ConfigurationError` or `DevelopmentKeyError`."""
    return {name: access.reporter_address(settings, name) for name in settings.reporters(group)}


def announced(state: GroupState | None, rotation: Rotation | None) -> GroupState | None:
    """The group as it will be once its rotation, if there is one, is over."""
    return state if state is None or rotation is None else dataclasses.replace(state, signers=rotation.signers)


def listed(settings: Settings) -> None:
    """Every reporter on chain and in the configuration, by group; and rotations under way."""

    async def work(office: Office) -> None:
        for name in settings.groups:
            state = await chain.group_state(office.client, name)
            rotation = None if state is None else await chain.rotation(office.client, name)
            configured = {address.lower(): reporter for reporter, address in reporters_of(settings, name).items()}
            there = {} if state is None else {address.lower(): address for address in state.signers}
            coming = {} if rotation is None else {address.lower(): address for address in rotation.signers}
            for address in dict.fromkeys([*there, *coming, *configured]):
                who = configured.get(address, "not configured")
                note = "" if address in there else " (comes with the rotation)" if address in coming else ""
                note = note or ("" if address in there else " (not on chain)")
                if rotation is not None and address in there and address not in coming:
                    note = " (goes with the rotation)"
                shown = there.get(address) or coming.get(address) or to_checksum_address(address)
                typer.echo(f"{name} {shown} {who}{note}")
            if state is not None and rotation is not None:
                for line in progress(rotation, state.block_timestamp):
                    typer.echo(line)
            if state is not None and too_few(state):
                typer.echo(
                    f"{name}: HALTED, too few signers are left; `fairmark deploy` puts those configured in place"
                )

    govern(settings, Manner(calldata=True), work)


def add(settings: Settings, name: str, manner: Manner) -> None:
    """Register a configured fetcher's key with the groups it reports for."""
    address = _address_of(settings, name)
    _each(settings, manner, _groups_of(settings, name), lambda c: c.kind is Kind.REPORTER_ADDED and c.name == address)


def remove(settings: Settings, address: str, manner: Manner) -> None:
    """Strike a key that is configured no more from every group that has it."""
    gone = _checked(address).lower()
    groups = [settings.group(name) for name in settings.groups]
    _each(settings, manner, groups, lambda c: c.kind is Kind.REPORTER_REMOVED and c.name == gone)


def rotate(settings: Settings, name: str, old: str, manner: Manner) -> None:
    """Put a fetcher's new key, as configured now, in the place of its old one."""
    allowed = {(Kind.REPORTER_ADDED, _address_of(settings, name)), (Kind.REPORTER_REMOVED, _checked(old).lower())}
    _each(settings, manner, _groups_of(settings, name), lambda c: (c.kind, c.name) in allowed)


def _each(settings: Settings, manner: Manner, groups: Sequence[Group], meant: Callable[[Change], bool]) -> None:
    async def work(office: Office) -> None:
        for group in groups:
            await change(office, group, meant)

    govern(settings, manner, work)


async def change(office: Office, group: Group, meant: Callable[[Change], bool]) -> list[Change]:
    """Bring the group on chain to its configuration, if that changes only what is meant; what was changed now.

    Where that is announced already, says how far it is, and concludes it when it is due. Raises `StartError`,
    `ChangeRefusedError`.
    """
    state = await office.state(group.name)
    rotation = await chain.rotation(office.client, group.name)
    reporters = reporters_of(office.settings, group.name)
    found = changes(announced(state, rotation), group, reporters)
    wanted, others = [c for c in found if meant(c)], [c for c in found if not meant(c)]
    if not found and rotation is not None:
        await office.follow(rotation)
        return []
    if not wanted:
        typer.echo(f"{group.name}: nothing to do, it stands on chain as configured")
        return []
    if others:
        lines = "\n".join(f"  - {each}" for each in others)
        raise StartError(
            f"the configuration of {group.name} differs from the chain in more than that; `fairmark deploy` applies "
            f"all of it:\n{lines}"
        )
    calls = steps(office.client.abi, state, rotation, group, list(reporters.values()))
    done = await office.carry_out(calls, [*(str(each) for each in wanted), *await delays(office, state, calls)])
    if done and (started := await chain.rotation(office.client, group.name)) is not None:
        await office.follow(started)
    return wanted if done else []


async def delays(office: Office, state: GroupState | None, calls: Sequence[Call]) -> list[str]:
    """What there is to say of when the calls take effect."""
    if state is None or not any(call.what.startswith("rotating") for call in calls):
        return []
    (delay,), (overlap,) = await office.client.read("ROTATION_DELAY"), await office.client.read("ROTATION_OVERLAP")
    return [
        f"{state.group} has made rounds, so its signers are rotated: the new set counts {span(delay)} after this is "
        f"mined, the old one beside it for {span(overlap)} at least. Run this again to see how far it is"
    ]


def cancel(settings: Settings, group: str, manner: Manner) -> None:
    """Drop a group's rotation: its old signers stay."""

    async def work(office: Office) -> None:
        rotation = await _rotation_of(office, group)
        if rotation is not None:
            await office.carry_out([cancel_rotation(office.client.abi, group)], [f"{group}: its old signers stay"])

    govern(settings, manner, work)


def conclude(settings: Settings, group: str, manner: Manner) -> None:
    """End the old signers' time, once a rotation's overlap is over. The new set's next round does so by itself."""

    async def work(office: Office) -> None:
        rotation = await _rotation_of(office, group)
        if rotation is not None:
            call = conclude_rotation(office.client.abi, group)
            try:
                await office.check(call)
            except CallRevertedError as error:
                if error.name != "NoRotationDue":
                    raise
                await office.follow(rotation)
                raise StartError("its overlap is not over yet") from None
            await office.carry_out([call])

    govern(settings, manner, work)


async def _rotation_of(office: Office, group: str) -> Rotation | None:
    if group not in office.settings.groups:
        raise StartError(f"{group} is no configured group; known: {', '.join(office.settings.groups)}")
    await office.state(group)
    rotation = await chain.rotation(office.client, group)
    if rotation is None:
        typer.echo(f"{group}: nothing to do, no rotation is under way")
    return rotation


def revoked(settings: Settings, address: str, manner: Manner) -> None:
    """Revoke a key at once in every group that has it."""
    signer = _checked(address)

    async def work(office: Office) -> None:
        calls: list[Call] = []
        lines: list[str] = []
        for name in settings.groups:
            call = revoke(office.client.abi, name, signer)
            rotation = await chain.rotation(office.client, name)
            try:
                await office.check(call)
            except CallRevertedError as error:
                if error.name not in {"BadGroup", "UnknownGroup"}:
                    raise
                if rotation is not None and signer in rotation.signers:
                    raise _only_new(name, signer, error) from None
                continue
            calls.append(call)
            lines += _warnings(await chain.standing(office.client, await office.state(name)), rotation, signer)
        if not calls:
            typer.echo(f"nothing to do: {signer} signs for no group")
        elif await office.carry_out(calls, lines):
            typer.echo(f"{signer} counts no more; take it out of the configuration before the next `fairmark deploy`")

    govern(settings, manner, work)


def _only_new(group: str, signer: str, error: CallRevertedError) -> ChangeRefusedError:
    hint = f"{signer} is of the new set of {group}'s rotation only: `fairmark reporters cancel {group}` drops that"
    return ChangeRefusedError(error.name, error.arguments, hint)


def _warnings(state: GroupState, rotation: Rotation | None, signer: str) -> list[str]:
    name = state.group
    lines = []
    if rotation is not None:
        gone = "" if signer in rotation.signers else ", which would end this key's time by itself"
        lines.append(f"WARNING: the rotation of {name}{gone}, is dropped; the old signers stay without this one")
    left = len(state.signers) - 1 if signer in state.signers else len(state.signers)
    if too_few(state, left):
        lines.append(
            f"WARNING: {left} signers are left to {name}, too few for f = {state.f} and threshold {state.threshold}: "
            f"it HALTS, no rounds are taken and readers revert, until the {Role.OWNER} names others: configure a new "
            "key and run `fairmark deploy`"
        )
    return lines


def _groups_of(settings: Settings, reporter: str) -> list[Group]:
    groups = [group for group in settings.all_groups() if reporter in settings.reporters(group.name)]
    if not groups:
        raise StartError(f"{reporter} reports for no group; known: {', '.join(settings.all_reporters())}")
    return groups


def _address_of(settings: Settings, reporter: str) -> str:
    known = {*settings.fetchers, *settings.all_reporters()}
    if reporter not in known:
        raise StartError(f"{reporter} is no configured reporter; known: {', '.join(sorted(known))}")
    return access.reporter_address(settings, reporter).lower()


def _checked(address: str) -> str:
    if not is_address(address):
        raise StartError(f"{address} is not an address")
    return to_checksum_address(address)
