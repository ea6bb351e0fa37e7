"""JMESPath into a body. A plain path, `data[0].last`, is looked up step by step; the rest is left to the library.

A ticker has five paths and nearly all are plain: walking them costs a tenth of what interpreting them costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import jmespath


class BodyPath(Protocol):
    def search(self, value: Any) -> Any:
        """What is there, or None."""
        ...


class _Plain:
    """Names and indexes one after another, by JMESPath's rules: what is not there is None."""

    __slots__ = ("_steps",)

    def __init__(self, steps: tuple[str | int, ...]) -> None:
        self._steps = steps

    def search(self, value: Any) -> Any:
        for step in self._steps:
            if isinstance(step, str):
                if not isinstance(value, dict):
                    return None
                value = value.get(step)
            elif isinstance(value, list) and -len(value) <= step < len(value):
                value = value[step]
            else:
                return None
        return value


def compile_path(text: str) -> BodyPath:
    """Raises `JMESPathError`."""
    parsed = jmespath.compile(text)
    steps = _steps(parsed.parsed)
    return parsed if steps is None else _Plain(steps)


def plain_steps(text: str) -> tuple[str | int, ...] | None:
    """The steps of a plain path, or None where it is anything else. Raises `JMESPathError`."""
    return _steps(jmespath.compile(text).parsed)


def _steps(node: Mapping[str, Any]) -> tuple[str | int, ...] | None:
    """The steps of a plain path, or None where it is anything else."""
    if node["type"] in {"field", "index"}:
        return (node["value"],)
    if node["type"] == "identity":  # what stands before the bracket of `[0]`
        return ()
    if node["type"] not in {"subexpression", "index_expression"}:
        return None
    steps: tuple[str | int, ...] = ()
    for child in node["children"]:
        more = _steps(child)
        if more is None:
            return None
        steps += more
    return steps
