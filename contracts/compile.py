"""`python -m contracts.compile` compiles `src/*.sol` into `artifacts/*.json`; with `--check` it only compares.

A development tool: run time never compiles. It needs node, `npm install` in this folder, and py-solc-x.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import posixpath
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from contracts.artifacts import ARTIFACTS, CONTRACTS, INTERFACES
from contracts.errors import ArtifactError

ROOM = Path(__file__).parent
SOURCES = ROOM / "src"
NODE_MODULES = ROOM / "node_modules"
COMPILER = ROOM / "solc.js"

SETTINGS: dict[str, Any] = {
    # cancun: the newest that both anvil and py-evm run, and what most chains have by now
    "evmVersion": "cancun",
    "optimizer": {"enabled": True, "runs": 10_000},
    "viaIR": True,
    # no hash of the metadata in the code, so that comments do not change bytecode
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
}
RUNS_AS_ITS_OWN = {"FairmarkOracle": ("FairmarkGovernance",)}
"""By delegatecall: callers see one contract."""
_IMPORT = re.compile(r'^import\s[^;]*?"([^"]+)";', re.MULTILINE)


def source_hash(folder: Path = SOURCES) -> str:
    """One hash over our own sources, names and contents: what an artifact was built from. SHA-256 as 0x-hex."""
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*.sol")):
        whole.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return "0x" + whole.hexdigest()


def all_sources() -> dict[str, str]:
    """Our sources and those of the libraries that they import, by the names that the compiler knows them by.

    Raises `ArtifactError` when a library is not installed.
    """
    found: dict[str, str] = {}
    waiting = [f"src/{path.name}" for path in sorted(SOURCES.glob("*.sol"))]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = (ROOM if name.startswith("src/") else NODE_MODULES) / name
        try:
            found[name] = path.read_text(encoding="utf-8")
        except OSError:
            raise ArtifactError(f"{name} is not there: run `npm install` in contracts/") from None
        for target in _IMPORT.findall(found[name]):
            near = target.startswith(".")
            waiting.append(posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) if near else target)
    return dict(sorted(found.items()))


def library_hashes(sources: dict[str, str]) -> dict[str, str]:
    """SHA-256 of each library source that was compiled in."""
    return {
        name: "0x" + hashlib.sha256(text.encode()).hexdigest()
        for name, text in sources.items()
        if not name.startswith("src/")
    }


def compile_all() -> dict[str, dict[str, Any]]:
    """Each contract's artifact. Raises `ArtifactError` when there is no compiler, or when it refuses the sources."""
    if shutil.which("node") is None or not (NODE_MODULES / "solc").is_dir():
        raise ArtifactError("no Solidity compiler: install node and run `npm install` in contracts/")
    import solcx  # noqa: PLC0415 - a development dependency: importing this module must not need it
    from solcx.exceptions import SolcError  # noqa: PLC0415
    from solcx.wrapper import get_version_str_from_solc_binary  # noqa: PLC0415

    sources = all_sources()
    standard_input = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": SETTINGS,
    }
    try:
        output = solcx.compile_standard(standard_input, solc_binary=COMPILER)
    except SolcError as error:
        raise ArtifactError(f"the sources do not compile:\n{error.message}") from error
    warnings = [found["formattedMessage"] for found in output.get("errors", ()) if found["severity"] == "warning"]
    if warnings:
        raise ArtifactError("the compiler warns:\n" + "\n".join(warnings))
    version = get_version_str_from_solc_binary(COMPILER)
    built = {}
    for contract in (*CONTRACTS, *INTERFACES):
        compiled = output["contracts"][f"src/{contract}.sol"][contract]
        built[contract] = {
            "contractName": contract,
            "compiler": version,
            "settings": {name: value for name, value in SETTINGS.items() if name != "outputSelection"},
            "sourceHash": source_hash(),
            "libraries": library_hashes(sources),
            "abi": _with_others(contract, output),
            "bytecode": "0x" + compiled["evm"]["bytecode"]["object"],
            "deployedBytecode": "0x" + compiled["evm"]["deployedBytecode"]["object"],
        }
    return built


def _with_others(contract: str, output: dict[str, Any]) -> list[dict[str, Any]]:
    """A contract's ABI, and that of the code that it runs as its own."""
    whole: dict[str, dict[str, Any]] = {}
    for name in (contract, *RUNS_AS_ITS_OWN.get(contract, ())):
        for entry in output["contracts"][f"src/{name}.sol"][name]["abi"]:
            kinds = ",".join(part["type"] for part in entry.get("inputs", ()))
            if name == contract or entry["type"] not in {"constructor", "fallback"}:
                whole.setdefault(f"{entry['type']} {entry.get('name', '')}({kinds})", entry)
    return list(whole.values())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m contracts.compile", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when an artifact is out of date")
    check = parser.parse_args(arguments).check
    try:
        built = compile_all()
    except ArtifactError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    status = 0
    for contract, artifact in built.items():
        path = ARTIFACTS / f"{contract}.json"
        text = json.dumps(artifact, indent=1, sort_keys=True) + "\n"
        size = len(artifact["deployedBytecode"]) // 2 - 1
        if path.exists() and path.read_text(encoding="utf-8") == text:
            sys.stderr.write(f"{contract}: {size} bytes, up to date\n")
        elif check:
            sys.stderr.write(f"{contract}: {path} is out of date; run `python -m contracts.compile`\n")
            status = 1
        else:
            path.write_text(text, encoding="utf-8")
            sys.stderr.write(f"{contract}: {size} bytes, written\n")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
