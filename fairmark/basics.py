"""What every process of ours is built with: its clock, its instance's name, its place for files."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from contracts.keys import new_key
from core.clock import SystemClock
from core.errors import StartError
from core.settings import Settings


def instance_name() -> str:
    """A name for this process among the instances of its service."""
    return secrets.token_hex(4)


def make_clock(settings: Settings) -> SystemClock:
    return SystemClock(settings.clock_offset_ms)


def store_url(settings: Settings, service: str) -> str:
    """The store of one service, in the data directory where it is a file. Raises `StartError`."""
    make_data_dir(settings)
    return settings.store_url(service)


def make_data_dir(settings: Settings) -> None:
    """The data directory, for its owner only. Raises `StartError` where it cannot be made."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"data_dir: {settings.data_dir} cannot be made: {error.strerror}") from error


def kept_secret(settings: Settings, path: Path) -> str:
    """A secret of 32 bytes in a file for its owner only, made where it is missing. Raises `StartError`."""
    make_data_dir(settings)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # written beside and linked into place, so that of two that start at once neither reads half of it
        draft = path.with_name(f"{path.name}.{instance_name()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(new_key())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StartError(f"{path} cannot be kept: {error.strerror}") from error
