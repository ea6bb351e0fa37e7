"""The application that the commands join, and the options they share.

Commands import what they run when they run, so that a small question (`fairmark version`) is answered at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from core.settings import Settings

app = typer.Typer(
    name="fairmark",
    help="Fairmark, a multi-source price oracle: signed reports, a median checked on chain, served back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

DEFAULT_CONFIG = Path("fairmark.toml")

Config = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="FAIRMARK_CONFIG", help="The configuration file.", show_default=True),
]
BffUrl = Annotated[
    str | None, typer.Option("--url", help="The BFF's address; default: as configured.", show_default=False)
]
DieWithParent = Annotated[bool, typer.Option("--die-with-parent", hidden=True)]


UNLIMITED = 10_000
"""Columns of an output that is no terminal."""


def output() -> Console:
    """Standard output; whole lines where it is no terminal, for whoever reads the pipe."""
    console = Console()
    if not console.is_terminal:
        console.width = UNLIMITED
    return console


def settings_from(config: Path) -> Settings:
    """Read the configuration and set the logs up by it. Raises `ConfigurationError`."""
    from core.logs import configure_logging  # noqa: PLC0415 - see above
    from core.settings import load  # noqa: PLC0415

    settings = load(config)
    configure_logging(settings.log.level, settings.log.format, settings.mode)
    return settings
