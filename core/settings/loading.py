"""Reads the file, lays the environment over it, and names every problem with its place."""

from __future__ import annotations

import copy
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.errors import ConfigurationError
from core.settings.kinds import NAME, PATTERNS
from core.settings.secrets import PREFIX, take_secrets
from core.settings.whole import Settings
from core.types import Pair

NOT_SETTINGS = {"FAIRMARK_CONFIG", "FAIRMARK_REQUIRE_SERVICES"}
"""Variables that name the file itself, or steer the tests."""
_LISTS = frozenset(
    {"urls", "aggregator_urls", "sources", "groups", "feeds", "reporters", "quotes", "reports", "pairs", "exchanges"}
)
"""Settings of several values: in the environment, separated by commas."""


def load(path: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read `path` (or nothing but defaults), lay the environment over it, and validate the whole.

    Raises `ConfigurationError` with every problem found.
    """
    where = str(path) if path else "environment"
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigurationError(["no such file; name another with --config"], where) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError([f"not TOML: {error}"], where) from error
        except OSError as error:
            raise ConfigurationError([f"cannot be read: {error.strerror}"], where) from error
    problems = take_secrets(tree)
    variables, misplaced = _overlay(tree, os.environ if environ is None else environ)
    settings = None
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        details: list[Any] = list(error.errors(include_url=False))
        found = [*dict.fromkeys(_problem(tree, detail) for detail in details), *_contradictions_beside(tree, details)]
        problems += [_named(problem, variables) for problem in found]
    except ConfigurationError as error:
        problems += [_named(problem, variables) for problem in error.problems]
    problems += misplaced
    if settings is None or problems:
        given = all(problem.startswith(PREFIX) for problem in problems)
        raise ConfigurationError(problems, "environment" if given else where)
    return settings


def _overlay(tree: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Lay the environment over `tree`. Returns the variable that gave each place, and what fits nowhere."""
    variables: dict[str, str] = {}
    problems = []
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        *parents, leaf = variable[len(PREFIX) :].lower().split("__")
        node: Any = tree
        path = []
        for part in parents:
            # names of groups and fetchers may hold dashes, which an environment variable cannot
            key = next((name for name in node if name.replace("-", "_") == part), part)
            path.append(key)
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                problems.append(f"{variable}: {'.'.join(path)} is no table")
                break
        else:
            node[leaf] = [item.strip() for item in value.split(",")] if parents and leaf in _LISTS else value
            variables[".".join([*path, leaf])] = variable
    return variables, problems


def _named(problem: str, variables: Mapping[str, str]) -> str:
    """The problem under the name by which its setting was given: the variable's, where that was one."""
    place, _, message = problem.partition(": ")
    variable = variables.get(place) or variables.get(re.sub(r"\.\d+$", "", place))
    return f"{variable}: {message}" if variable else problem


def _parts(tree: Any, detail: Any) -> list[Any]:
    """Where in `tree` a problem is, without what pydantic adds of its own: a union's branch, a key's mark."""
    parts: list[Any] = []
    for part in detail["loc"]:
        here = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
        if part not in here:
            return [*parts, part] if detail["type"] == "missing" else parts
        tree = tree[part]
        parts.append(part)
    return parts


def _problem(tree: Any, detail: Any) -> str:
    parts = _parts(tree, detail)
    place = ".".join(str(part) for part in parts) or "the whole"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"{place}: no such setting; check its spelling"
    if detail["type"] == "missing":
        return f"{place}: missing"
    if detail["type"] == "model_type":
        return f"{place}: is a table of settings, not one value"
    if detail["type"] == "string_pattern_mismatch":
        message = PATTERNS.get(detail["ctx"]["pattern"], message)
    name = next((part for part in reversed(parts) if isinstance(part, str)), "")
    tells = any(word in name for word in ("key", "token", "url", "secret", "password"))  # perhaps a secret
    if not tells and isinstance(detail.get("input"), str | int | float | bool):
        message += f" (got {detail['input']!r})"
    return f"{place}: {message}"


def _contradictions_beside(tree: dict[str, Any], details: Sequence[Any]) -> list[str]:
    """What does not fit together in the parts of `tree` that are sound.

    A faulty fetcher still counts as one, and a faulty feed still has its pair; anything else that is faulty is taken
    out, and nothing is concluded from its absence.
    """
    tree = copy.deepcopy(tree)
    unknown: set[str] = set()
    for place in dict.fromkeys(tuple(_parts(tree, detail)) for detail in details):
        _take_out(tree, place, unknown)
    tree["feeds"] = [feed for feed in tree.get("feeds", ()) if feed is not None]
    try:
        Settings.model_validate(tree, context=unknown)
    except ConfigurationError as error:
        return error.problems
    except ValidationError:
        pass  # beyond repair: what is wrong with it is said already
    return []


def _take_out(tree: dict[str, Any], place: tuple[Any, ...], unknown: set[str]) -> None:
    """Take a faulty place out of `tree`, or put something neutral there."""
    top = place[0] if place else ""
    entries = tree.get(top)
    if top == "feeds" and isinstance(entries, list) and len(place) > 1:
        entries[place[1]] = feed = _only_pair(entries[place[1]])
        unknown |= {"feeds"} if feed is None else set()
    elif len(place) == 1 or not isinstance(entries, dict):
        tree.pop(top, None)
        unknown.add(top)
    elif top == "fetchers" and re.match(NAME, place[1]):
        entries[place[1]] = {"sources": ["none"]}
    elif top == "strategies" and re.match(NAME, place[1]):
        entries[place[1]] = {}
    elif top in {"fetchers", "groups"}:
        entries.pop(place[1], None)
        unknown.add(top)
    else:
        entries.pop(place[1], None)
        unknown.add(f"{top}.{place[1]}")


def _only_pair(feed: Any) -> dict[str, Any] | None:
    try:
        signal = feed.get("signal")
        return {"pair": Pair(feed["pair"]), "signal": signal if isinstance(signal, str) else None}
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
