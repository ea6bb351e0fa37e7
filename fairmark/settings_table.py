"""`docs/settings.md`, made from the settings' own definitions, so that it is never behind them."""

from __future__ import annotations

import re
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from core.settings import PREFIX, Settings

HEAD = """# Settings

Made from `core/settings/` by `fairmark config docs`; do not edit. Defaults stand beside each setting. An environment
variable overrides the file: `FAIRMARK_` and the path in capitals with `__` between its parts (a dash is written `_`).
Secrets (`key`, `token`, `deployer_key`, and the passwords of keystores) come from the environment or from the file that
`…_file` names, never from TOML.
"""


def settings_table() -> str:
    """The whole document, in Markdown."""
    return HEAD + "".join(_section(path, model) for path, model in _sections("", Settings))


def _sections(path: str, model: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    found = [(path, model)]
    for name, field in model.model_fields.items():
        inner, many = _model_of(field.annotation)
        if inner is not None:
            place = f"{path}.{name}" if path else name
            found += _sections({"dict": f"{place}.NAME", "tuple": f"{place}[]", "": place}[many], inner)
    return found


def _section(path: str, model: type[BaseModel]) -> str:
    rows = []
    for name, field in model.model_fields.items():
        if _model_of(field.annotation)[0] is not None:
            continue
        place = f"{path}.{name}" if path else name
        variable = "" if "[]" in place else f"`{PREFIX}{place.upper().replace('.', '__')}`"
        default = "required" if field.default is PydanticUndefined else _default(field.default)
        rows.append(f"| `{name}` | {_kind(field.annotation)} | {default} | {field.description or ''} | {variable} |")
    title = f"`[[{path[:-2]}]]`" if path.endswith("[]") else f"`[{path}]`" if path else "Top level"
    about = re.sub(r"\s+", " ", model.__doc__ or "").strip()
    columns = "| setting | type | default | meaning | variable |\n| --- | --- | --- | --- | --- |\n"
    head = f"\n## {title}\n\n{about}\n\n{columns}"
    return head + "\n".join(rows) + "\n" if rows else ""


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The section that a field holds, and whether in a `dict` by name, in a `tuple`, or by itself."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    origin = get_origin(annotation)
    if origin in (dict, tuple):
        for argument in get_args(annotation):
            if isinstance(argument, type) and issubclass(argument, BaseModel):
                return argument, origin.__name__
    return None, ""


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(_kind(each) for each in arguments if each is not type(None))
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"table of {_kind(arguments[1])}"
    if hasattr(annotation, "__metadata__"):
        return _kind(annotation.__origin__)
    return {"str": "text", "int": "integer", "float": "number", "SecretStr": "secret", "bool": "true or false"}.get(
        annotation.__name__, str(annotation.__name__).lower()
    )


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value) or "none"
    if value == {}:
        return "none"
    return f"`{value.as_posix() if isinstance(value, Path) else value}`"
