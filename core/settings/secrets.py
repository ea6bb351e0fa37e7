"""Secrets: from the environment or from files, never from the configuration file itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from core.errors import ConfigurationError
from core.settings.kinds import is_key
from core.settings.whole import Settings

PREFIX = "FAIRMARK_"
SECRETS = frozenset({"key", "key_password", "token", "deployer_key", "deployer_key_password"})
"""Settings whose values never stand in the file."""


def secret(value: SecretStr | None, file: Path | None, what: str) -> str:
    """A secret from the environment or from its file. Raises `ConfigurationError` saying how to give it.

    what: its place, such as `aggregator.key`; a file's `key` is checked to be a private key, or a keystore.
    """
    if value is not None and value.get_secret_value():
        return value.get_secret_value()
    if file is None:
        raise ConfigurationError([f"{what}: missing; set {_variable(what)}, or {what}_file to a file that holds it"])
    try:
        text = file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    except OSError as error:
        raise ConfigurationError([f"{what}_file: {file} cannot be read: {error.strerror}"]) from error
    if not text:
        raise ConfigurationError([f"{what}_file: {file} holds no text"])
    if what.endswith("key") and not (is_key(text) or text.startswith("{")):
        raise ConfigurationError([f"{what}_file: {file} holds no private key: its 32 bytes as hex, or a keystore"])
    return text


def secrets_of(settings: Settings, places: Iterable[str]) -> tuple[str, ...]:
    """The secrets at `places` (as `fetchers.fetcher-a.key`), in their order.

    Raises `ConfigurationError` that lists all that are missing, not just the first.
    """
    found, problems = [], []
    for place in places:
        *parents, leaf = place.split(".")
        section: Any = settings
        for part in parents:
            section = section[part] if isinstance(section, Mapping) else getattr(section, part)
        try:
            found.append(secret(getattr(section, leaf), getattr(section, f"{leaf}_file"), place))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return tuple(found)


def _variable(place: str) -> str:
    return PREFIX + place.upper().replace(".", "__").replace("-", "_")


def take_secrets(tree: dict[str, Any], path: str = "") -> list[str]:
    """Take the secrets out of a file's tree: a problem for each, and none of them validated or shown."""
    problems = []
    for name, value in list(tree.items()):
        if isinstance(value, dict):
            problems += take_secrets(value, f"{path}{name}.")
        elif name in SECRETS:
            del tree[name]
            problems.append(f"{path}{name}: a secret does not belong in the file; use the environment or {name}_file")
    return problems
