"""The application that the commands join, and the options they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.logs import configure_logging
from core.settings import Settings, load

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


def settings_from(config: Path) -> Settings:
    """Read the configuration and set the logs up by it. Raises `ConfigurationError`."""
    settings = load(config)
    configure_logging(settings.log.level, settings.log.format, settings.mode)
    return settings
