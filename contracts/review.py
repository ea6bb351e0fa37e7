"""`python -m contracts.review` runs slither on `src/*.sol` and holds `docs/contract-review.md` to what it finds.

slither needs an environment of its own (it wants another web3 than ours); name its command with `--slither` or put it
on the path. It is given what our own compiler made of the sources, laid out as Hardhat does: it compiles nothing.
Fails where a finding has no answer on the page, or an answer no finding.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contracts.compile import COMPILER, ROOM, SETTINGS, all_sources
from contracts.errors import ArtifactError

PAGE = ROOM.parent / "docs" / "contract-review.md"
SELECTED = {"*": {"*": ["abi", "metadata", "devdoc", "userdoc", "evm.bytecode", "evm.deployedBytecode"], "": ["ast"]}}
_ROW = re.compile(r"^\| `([a-z0-9-]+)` \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
_NAME = re.compile(r"`([^`]+)`")

Finding = tuple[str, str]
"""Detector and place."""


def findings(results: Mapping[str, Any]) -> set[Finding]:
    """What slither's JSON says, each with the place that it names first. Raises `ArtifactError` where it failed."""
    if not results["success"]:
        raise ArtifactError(f"slither failed: {results['error']}")
    found = results["results"].get("detectors", ())
    return {(one["check"], _place(one["elements"][0])) for one in found}


def _place(element: Mapping[str, Any]) -> str:
    """`Contract.function` (or its variable, or an event), or a file where it is about a pragma."""
    if element["type"] == "pragma":
        return Path(element["source_mapping"]["filename_relative"]).name
    names = [element["name"]]
    parent = element.get("type_specific_fields", {}).get("parent")
    while parent is not None:
        if parent["type"] in {"contract", "function"}:
            names.insert(0, parent["name"])
        parent = parent.get("type_specific_fields", {}).get("parent")
    return ".".join(names)


def answered(page: str) -> set[Finding]:
    """What the page's tables answer: a row names a detector, the places, and says why."""
    return {(detector, place) for detector, places, why in _ROW.findall(page) if why for place in _NAME.findall(places)}


def differences(found: Iterable[Finding], standing: Iterable[Finding]) -> list[str]:
    found, standing = set(found), set(standing)
    unanswered = [f"no answer: {detector} in {place}" for detector, place in sorted(found - standing)]
    return unanswered + [f"not found any more: {detector} in {place}" for detector, place in sorted(standing - found)]


def run(slither: str) -> set[Finding]:
    """Raises `ArtifactError` where there is no compiler or no slither, or where either fails."""
    sources = all_sources()
    asked = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": SETTINGS | {"outputSelection": SELECTED},
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "hardhat.config.js").touch()
        for name, text in sources.items():
            path = place / (name if name.startswith("src/") else f"node_modules/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        build = place / "artifacts" / "build-info" / "fairmark.json"
        build.parent.mkdir(parents=True)
        made = json.loads(_told([str(COMPILER)], json.dumps(asked)))
        version = _told([str(COMPILER), "--version"]).split("Version: ")[1].split("+")[0]
        build.write_text(json.dumps({"solcVersion": version, "input": asked, "output": made}), encoding="utf-8")
        command = [slither, ".", "--compile-force-framework", "hardhat", "--ignore-compile", "--fail-none"]
        results = _told([*command, "--filter-paths", "node_modules", "--json", "-"], folder=place)
    return findings(json.loads(results))


def _told(command: list[str], given: str = "", folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=folder, check=False)  # noqa: S603 - ours and slither
    except OSError as error:
        raise ArtifactError(
            f"{command[0]} cannot be run ({error.strerror}); docs/contract-review.md says how"
        ) from None
    if done.returncode:
        raise ArtifactError(f"{command[0]} failed:\n{done.stderr[-2_000:]}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m contracts.review", description=__doc__)
    parser.add_argument("--slither", default="slither", help="the command; of an environment of its own")
    try:
        found = run(parser.parse_args(arguments).slither)
    except ArtifactError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    wrong = differences(found, answered(PAGE.read_text(encoding="utf-8")))
    sys.stderr.write("\n".join([*wrong, f"{len(found)} findings, {len(wrong)} of them not as on the page"]) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
