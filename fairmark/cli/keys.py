"""Commands on keys: make one, encrypted; show whose it is."""
# ruff: noqa: PLC0415 - commands import what they run when they run: see `fairmark.cli.app`

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from core.errors import StartError
from fairmark.cli.app import app

keys_app = typer.Typer(help="Keys of reporters and submitters.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

KeyFiles = Annotated[list[Path], typer.Argument(help="The keys' files, one for each new key.")]
KeyFile = Annotated[Path, typer.Argument(help="The key's file.")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="A file that holds the password; default: asked for.")
]


@keys_app.command("new")
def keys_new(files: KeyFiles, password_file: PasswordFile = None) -> None:
    """Make a key for each of FILES, written as an encrypted keystore that wallets read too, and print the addresses."""
    from contracts.keys import encrypt, new_key
    from contracts.report import LocalSigner

    for file in files:
        if file.exists():
            raise StartError(f"{file} exists: a key is never overwritten; name another file")
    password = _password(password_file, confirm=True)
    for file in files:
        key = new_key()
        _write_new(file, encrypt(key, password))
        typer.echo(LocalSigner(key).address)


def _write_new(file: Path, keystore: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(keystore)
    Console(stderr=True).print(
        f"written to {file}, encrypted; without its password the key is lost for good", highlight=False, soft_wrap=True
    )


@keys_app.command("show")
def keys_show(
    file: KeyFile,
    password_file: PasswordFile = None,
    verify: Annotated[bool, typer.Option("--verify", help="Open the keystore, to see that the password fits.")] = False,
) -> None:
    """Print the address of the key in FILE. The key itself is never printed."""
    from contracts.errors import KeyRefusedError
    from contracts.keys import is_keystore, keystore_address, read_key
    from contracts.report import LocalSigner

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"{file} cannot be read: {error}") from error
    if not is_keystore(text):
        typer.echo(LocalSigner(text).address)
        return
    address = keystore_address(text)
    if verify:
        opened = LocalSigner(read_key(text, _password(password_file, confirm=False))).address
        if opened.lower() != address.lower():
            raise KeyRefusedError(f"{file} says {address}, and holds the key of {opened}")
        address = opened
    typer.echo(address)


def _password(file: Path | None, *, confirm: bool) -> str:
    if file is None:
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True))
    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"{file} cannot be read: {error}") from error
    if not password:
        raise StartError(f"{file} is empty: a keystore needs a password")
    return password
