"""What slither finds is answered on a page, finding by finding."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.errors import ArtifactError
from contracts.review import PAGE, answered, differences, findings

CONTRACT = {"type": "contract", "name": "Oracle"}
FUNCTION = {"type": "function", "name": "set", "type_specific_fields": {"parent": CONTRACT}}
ARGUMENT = {"type": "variable", "name": "who", "type_specific_fields": {"parent": FUNCTION}}
PRAGMA = {"type": "pragma", "name": ">=0.8.0", "source_mapping": {"filename_relative": "src/Types.sol"}}


def said(*found: tuple[str, Any]) -> dict[str, Any]:
    return {
        "success": True,
        "results": {"detectors": [{"check": check, "elements": [element]} for check, element in found]},
    }


def test_a_finding_is_named_by_its_detector_and_its_place():
    assert findings(said(("timestamp", FUNCTION), ("missing-zero-check", ARGUMENT), ("solc-version", PRAGMA))) == {
        ("timestamp", "Oracle.set"),
        ("missing-zero-check", "Oracle.set.who"),
        ("solc-version", "Types.sol"),
    }


def test_a_run_that_failed_is_no_clean_one():
    with pytest.raises(ArtifactError, match="no compiler"):
        findings({"success": False, "error": "no compiler", "results": {}})


def test_a_row_of_the_page_answers_each_place_it_names_and_an_empty_answer_is_none():
    page = "| `timestamp` | `A.f`, `A.g` | seconds do not matter |\n| `assembly` | `A.h` |  |\n"
    assert answered(page) == {("timestamp", "A.f"), ("timestamp", "A.g")}


def test_what_is_unanswered_and_what_is_gone_are_both_named():
    assert differences({("a", "X.f"), ("b", "X.g")}, {("b", "X.g"), ("c", "X.h")}) == [
        "no answer: a in X.f",
        "not found any more: c in X.h",
    ]


def test_every_place_on_the_page_is_in_the_sources():
    sources = "\n".join(path.read_text() for path in (PAGE.parent.parent / "contracts" / "src").glob("*.sol"))
    places = {place for _, place in answered(PAGE.read_text())}
    assert len(places) > 50
    for place in places:
        parts = place.split(".")
        if parts[-1] == "sol":
            assert (PAGE.parent.parent / "contracts" / "src" / place).exists(), place
            continue
        assert all(part in sources for part in parts), place
