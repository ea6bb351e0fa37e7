"""A round's evidence as a file: all that was received for it, and which contract it was for.

It is the attempt's record as the API serves it, with what the record leaves to its surroundings: the contract's address
and the feeds in the order of the reports' prices. Nothing in it is believed: see `fairmark.verify`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from aggregator.attempts import AttemptRecord
from contracts.deployments import replace_file
from core import codec
from core.errors import FairmarkError
from core.types import Mode, Pair

VERSION = 1


class EvidenceFileError(FairmarkError):
    """The file is no evidence, or of another round."""

    code = "bad_evidence"


class FeedPlace(Struct, frozen=True, kw_only=True):
    """A feed, at its place in the reports' prices."""

    pair: Pair
    decimals: int


class EvidenceFile(Struct, frozen=True, kw_only=True):
    """fairmark_evidence: the version of this form."""

    fairmark_evidence: int
    mode: Mode
    chain_id: int
    contract: str
    feeds: tuple[FeedPlace, ...]
    record: AttemptRecord


def evidence_of(published: dict[str, Any], record: dict[str, Any]) -> EvidenceFile:
    """From the API's own documents: the published feeds, and the attempt's record. Raises `EvidenceFileError`."""
    own = sorted((feed for feed in published["feeds"] if feed["group"] == record["group"]), key=lambda f: f["index"])
    try:
        return EvidenceFile(
            fairmark_evidence=VERSION,
            mode=Mode(published["mode"]),
            chain_id=published["chain_id"],
            contract=published["contract"],
            feeds=tuple(FeedPlace(pair=Pair(feed["pair"]), decimals=feed["decimals"]) for feed in own),
            record=codec.convert(record, AttemptRecord),
        )
    except (msgspec.ValidationError, KeyError, ValueError) as error:
        raise EvidenceFileError(f"the service's record cannot be read: {error}") from error


def write(path: Path, evidence: EvidenceFile) -> None:
    """Raises `EvidenceFileError` where it cannot be written."""
    try:
        replace_file(path, msgspec.json.format(codec.encode(evidence), indent=1) + b"\n")
    except OSError as error:
        raise EvidenceFileError(f"{path} cannot be written: {error.strerror}") from error


def read(path: Path) -> EvidenceFile:
    """Raises `EvidenceFileError` where it cannot be read, or is none."""
    try:
        found = codec.decode(path.read_bytes(), EvidenceFile)
    except OSError as error:
        raise EvidenceFileError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EvidenceFileError(f"{path} is no evidence file: {error}") from error
    if found.fairmark_evidence != VERSION:
        raise EvidenceFileError(f"{path} is of form {found.fairmark_evidence}; this Fairmark reads {VERSION}")
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", found.contract) or found.chain_id < 1:
        raise EvidenceFileError(f"{path} names no contract on a chain")
    return found
