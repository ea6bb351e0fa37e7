"""Kinds of values that stand in several sections, and what is wrong with a value in words."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

NAME = r"^[a-z][a-z0-9-]{0,30}$"
_ADDRESS = r"^0x[0-9a-fA-F]{40}$"
_URL = r"^[a-z][a-z0-9+]*://\S+$"
PATTERNS = {
    NAME: "not a name: lower-case letters, digits and dashes, 31 at most, a letter first",
    _ADDRESS: "not an address: 0x and 40 hex digits",
    _URL: "not a URL, such as http://host:port",
}
"""What a mismatch means, in words."""
_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""secp256k1's (SEC 2, 2.4.1): a private key lies below it."""


def is_key(text: str) -> bool:
    return bool(_KEY.fullmatch(text.strip())) and 0 < int(text.strip(), 16) < _CURVE_ORDER


def _checked_key(value: SecretStr) -> SecretStr:
    if not is_key(value.get_secret_value()):
        raise ValueError("not a private key: write its 32 bytes as hex")
    return value


def checked_node(value: str) -> str:
    if value != "embedded" and not re.match(_URL, value):
        raise ValueError("neither `embedded` nor a URL, such as http://host:8545")
    return value


def checked_store(value: str) -> str:
    scheme, separator, _ = value.partition("://")
    if value != "sqlite" and not (separator and scheme in {"sqlite", "postgres", "postgresql"}):
        raise ValueError("neither `sqlite` nor a URL, such as postgresql://user@host/database")
    try:
        _ = urlsplit(value).port
    except ValueError:
        raise ValueError("its port is none; special characters of a password are percent-encoded") from None
    return value


def checked_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError("not an address, such as 127.0.0.1:40101")
    return value


def checked_share(value: object) -> object:
    text = str(value)
    if text != "fetchers" and not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        raise ValueError('neither a number from 1 to 100 nor "fetchers"')
    return value


def checked_regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


Port = Annotated[int, Field(ge=0, le=65_535)]
Name = Annotated[str, Field(pattern=NAME)]
Address = Annotated[str, Field(pattern=_ADDRESS)]
Url = Annotated[str, Field(pattern=_URL)]
Key = Annotated[SecretStr, AfterValidator(_checked_key)]


class Section(BaseModel):
    """A table of the file: nothing but what it names, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
