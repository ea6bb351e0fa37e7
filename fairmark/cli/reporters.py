"""Commands on reporters."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import FairmarkError
from fairmark.cli.app import DEFAULT_CONFIG, Config, app, settings_from
from fairmark.cli.changing import Calldata, Yes

if TYPE_CHECKING:
    from core.settings import Settings

reporters_app = typer.Typer(
    help="The reporters: on chain (add, remove, rotate, revoke, cancel, conclude), "
    "and registered with running feeds (deregister, register).",
    no_args_is_help=True,
)
app.add_typer(reporters_app, name="reporters")

ReporterName = Annotated[str, typer.Argument(metavar="NAME", help="A configured reporter, such as fetcher-a.")]
GoneAddress = Annotated[str, typer.Argument(metavar="ADDRESS", help="A key that is configured no more.")]
OldAddress = Annotated[str, typer.Argument(metavar="OLD", help="The address that the fetcher's new key replaces.")]
LostAddress = Annotated[str, typer.Argument(metavar="ADDRESS", help="The address of the key that others may have.")]
AnyName = Annotated[str, typer.Argument(metavar="NAME", help="A registered strategy or fetcher.")]
FeedOption = Annotated[str | None, typer.Option("--feed", help="Of this feed only; default: of all that have it.")]


class Where(StrEnum):
    """Which reporters to list."""

    ALL = "all"
    CHAIN = "chain"
    PRICES = "prices"
    SIGNALS = "signals"


HEADINGS = {
    Where.CHAIN: "On chain:",
    Where.PRICES: "Registered for strict price feeds:",
    Where.SIGNALS: "Registered for signals:",
}
WhereOption = Annotated[Where, typer.Option("--where", help="Which of them.")]
GroupName = Annotated[str, typer.Argument(metavar="GROUP", help="A configured group.")]


@reporters_app.command("list")
def reporters_list(where: WhereOption = Where.ALL, config: Config = DEFAULT_CONFIG) -> None:
    """Every reporter: who may sign on chain, against the configuration; who is registered, and how it does."""
    settings = settings_from(config)
    if where is not Where.ALL:
        _lists()[where](settings)
        return
    failed: list[FairmarkError] = []
    for each, show in _lists().items():
        typer.echo(HEADINGS[each])
        try:
            show(settings)
        except FairmarkError as error:
            typer.echo(f"not shown: {error}")
            failed.append(error)
    if len(failed) == len(HEADINGS):
        raise failed[0]


def _lists() -> dict[Where, Callable[[Settings], None]]:
    from fairmark import registered, reporters

    return {
        Where.CHAIN: reporters.listed,
        Where.PRICES: registered.prices_listed,
        Where.SIGNALS: registered.signals_listed,
    }


@reporters_app.command("deregister")
def reporters_deregister(name: AnyName, feed: FeedOption = None, config: Config = DEFAULT_CONFIG) -> None:
    """Take a registered reporter off a running feed: it counts no more, and its silence is no error. Not on chain."""
    from fairmark import registered

    registered.change(settings_from(config), "deregister", name, feed)


@reporters_app.command("register")
def reporters_register(name: AnyName, feed: FeedOption = None, config: Config = DEFAULT_CONFIG) -> None:
    """Put back a reporter that was taken off. Not on chain: there, `add` does that."""
    from fairmark import registered

    registered.change(settings_from(config), "register", name, feed)


@reporters_app.command("add")
def reporters_add(
    name: ReporterName, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False
) -> None:
    """Register a configured reporter's key with the groups it reports for. For the signers' manager or the owner.

    After a group's first round this is a rotation: run it again to see how far it is, and to conclude it.
    """
    from fairmark import reporters
    from fairmark.office import Manner

    reporters.add(settings_from(config), name, Manner(yes, calldata))


@reporters_app.command("remove")
def reporters_remove(
    address: GoneAddress, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False
) -> None:
    """Strike a key that is configured no more from every group that has it: a rotation, as with `add`."""
    from fairmark import reporters
    from fairmark.office import Manner

    reporters.remove(settings_from(config), address, Manner(yes, calldata))


@reporters_app.command("rotate")
def reporters_rotate(
    name: ReporterName, old: OldAddress, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False
) -> None:
    """Put a fetcher's new key, as configured now, in the place of its old one: a rotation, as with `add`."""
    from fairmark import reporters
    from fairmark.office import Manner

    reporters.rotate(settings_from(config), name, old, Manner(yes, calldata))


@reporters_app.command("revoke")
def reporters_revoke(
    address: LostAddress, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False
) -> None:
    """Revoke a key at once in every group that has it. A group that is left with too few halts: it says so first."""
    from fairmark import reporters
    from fairmark.office import Manner

    reporters.revoked(settings_from(config), address, Manner(yes, calldata))


@reporters_app.command("cancel")
def reporters_cancel(
    group: GroupName, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False
) -> None:
    """Drop a group's rotation: its old signers stay. For the signers' manager or the owner."""
    from fairmark import reporters
    from fairmark.office import Manner

    reporters.cancel(settings_from(config), group, Manner(yes, calldata))


@reporters_app.command("conclude")
def reporters_conclude(
    group: GroupName, config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False
) -> None:
    """End the old signers' time, once a rotation's overlap is over. For the signers' manager or the owner."""
    from fairmark import reporters
    from fairmark.office import Manner

    reporters.conclude(settings_from(config), group, Manner(yes, calldata))
