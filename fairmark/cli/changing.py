"""What every command that changes the chain takes."""

from __future__ import annotations

from typing import Annotated

import typer

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Calldata = Annotated[
    bool, typer.Option("--calldata", help="Print what is to be sent, for a wallet or a multisig, and send nothing.")
]
