"""What consumers are shown is what is compiled and run; what they install is what stands."""

from __future__ import annotations

import re
import textwrap

import pytest

from contracts.compile import ROOM, SOURCES

PAGE = (ROOM.parent / "docs" / "consumers.md").read_text()
EXAMPLES = (SOURCES / "ExampleConsumers.sol").read_text()


@pytest.mark.parametrize("name", ["checked", "chainlink", "pull", "evidence"])
def test_the_page_shows_the_code_that_is_tested(name: str):
    found = re.search(rf"    // \[{name}\]\n(.*?)    // \[/{name}\]", EXAMPLES, re.DOTALL)
    assert found is not None
    assert f"```solidity\n{textwrap.dedent(found[1])}```" in PAGE


@pytest.mark.parametrize("name", ["IFairmarkOracle", "FairmarkTypes", "FairmarkErrors", "AggregatorV3Interface"])
def test_the_package_holds_the_interfaces(name: str):
    text = (SOURCES / f"{name}.sol").read_text()
    assert (ROOM / "npm" / f"{name}.sol").read_text() == text
    assert re.search(r"pragma solidity >=0\.8\.[04];", text)
