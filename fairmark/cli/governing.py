"""Commands on the contract: each says what it will do, asks or takes --yes, and prints its transactions."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

from typing import Annotated

import typer

from fairmark.cli.app import DEFAULT_CONFIG, Config, app, settings_from
from fairmark.cli.changing import Calldata, Yes

roles_app = typer.Typer(help="Who may change what on chain.", no_args_is_help=True)
app.add_typer(roles_app, name="roles")

Owner = Annotated[str | None, typer.Option("--owner", help="Offer ownership to this address, which must accept it.")]
Guardian = Annotated[str | None, typer.Option("--guardian", help="May pause and halt, and nothing else.")]
FeedsManager = Annotated[str | None, typer.Option("--feeds-manager", help="May set feeds' rules and append feeds.")]
SignersManager = Annotated[str | None, typer.Option("--signers-manager", help="May rotate and revoke signers.")]


@app.command()
def deploy(config: Config = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Deploy the contract for the configured groups and reporters, or verify what stands; prints the record.

    Run again after a failure, it goes on where it stopped; where all stands as configured, it sends nothing.
    """
    from fairmark import governing

    governing.deploy(settings_from(config), yes)


@app.command()
def pause(config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False) -> None:
    """Halt the contract: no rounds, and readers revert. For the guardian or the owner, whose key the deployer's is."""
    from fairmark import governing
    from fairmark.office import Manner

    governing.paused(settings_from(config), Manner(yes, calldata), wanted=True)


@app.command()
def unpause(config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False) -> None:
    """Let rounds go on. For the owner."""
    from fairmark import governing
    from fairmark.office import Manner

    governing.paused(settings_from(config), Manner(yes, calldata), wanted=False)


@roles_app.command("list")
def roles_list(config: Config = DEFAULT_CONFIG) -> None:
    """Who has which role."""
    from fairmark import governing

    governing.roles_listed(settings_from(config))


@roles_app.command("set")
def roles_set(
    owner: Owner = None,
    guardian: Guardian = None,
    feeds_manager: FeedsManager = None,
    signers_manager: SignersManager = None,
    config: Config = DEFAULT_CONFIG,
    yes: Yes = False,
    calldata: Calldata = False,
) -> None:
    """Name others; a role that is not named stays where it is. For the owner."""
    from fairmark import governing
    from fairmark.office import Manner

    governing.roles_set(
        settings_from(config),
        Manner(yes, calldata),
        owner=owner,
        guardian=guardian,
        feeds_manager=feeds_manager,
        signers_manager=signers_manager,
    )


@roles_app.command("accept")
def roles_accept(config: Config = DEFAULT_CONFIG, yes: Yes = False, calldata: Calldata = False) -> None:
    """Accept the ownership that is offered. For who it is offered to, whose key the deployer's is."""
    from fairmark import governing
    from fairmark.office import Manner

    governing.roles_accept(settings_from(config), Manner(yes, calldata))
