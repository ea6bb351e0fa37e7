"""What a deployment refuses before it sends anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.deploy import deploy
from core.errors import ConfigurationError
from core.types import Mode

NOBODY = "http://127.0.0.1:9"  # a node that is not there: nothing can have been sent to it
ADDRESS = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"


async def test_reporters_of_a_group_have_different_addresses(tmp_path: Path) -> None:
    reporters = {"majors": [ADDRESS, "0x" + "ab" * 20, ADDRESS.lower()], "minors": [ADDRESS]}
    with pytest.raises(ConfigurationError) as caught:
        await deploy(
            NOBODY, "11" * 32, mode=Mode.TEST, groups=[], reporters=reporters, deployments_dir=tmp_path / "none"
        )
    assert caught.value.problems == [
        f"groups.majors: {ADDRESS} is the address of 2 of its reporters; give each a key of its own"
    ]
    assert not (tmp_path / "none").exists()
