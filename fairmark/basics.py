"""What every process of ours is built with: its clock, its instance's name, its place for files."""

from __future__ import annotations

import secrets

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
