"""The command line. Errors of ours end in one message and exit code 1, or 2 for a wrong call or configuration."""

from __future__ import annotations

import sys

from rich.console import Console

from core.errors import ConfigurationError, FairmarkError
from fairmark.cli.app import app


def main() -> None:
    """Entry point of `fairmark`."""
    from fairmark.cli import (  # noqa: PLC0415 - importing registers their commands
        ask,  # noqa: F401
        beside,  # noqa: F401
        chain,  # noqa: F401
        check,  # noqa: F401
        feeds,  # noqa: F401
        governing,  # noqa: F401
        keys,  # noqa: F401
        replaying,  # noqa: F401
        reporters,  # noqa: F401
        services,  # noqa: F401
        signals,  # noqa: F401
        verifying,  # noqa: F401
    )

    try:
        code = app(standalone_mode=True)
    except FairmarkError as error:
        Console(stderr=True).print(f"[bold red]fairmark:[/] {_escaped(error)}", highlight=False, soft_wrap=True)
        code = 2 if isinstance(error, ConfigurationError) else 1
    sys.exit(code or 0)


def _escaped(error: Exception) -> str:
    return str(error).replace("[", r"\[")
