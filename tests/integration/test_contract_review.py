"""slither over the contracts: what it finds is what docs/contract-review.md answers, no more and no less.

slither wants an environment of its own, which the page says how to make; SLITHER names its command where PATH does not.
"""

from __future__ import annotations

import os
import shutil

import pytest

from contracts.review import PAGE, answered, differences, run

SLITHER = shutil.which(os.environ.get("SLITHER", "slither"))


@pytest.mark.needs_solc
@pytest.mark.skipif(SLITHER is None, reason="no slither: docs/contract-review.md says how to get it")
def test_every_finding_of_slithers_is_answered_on_the_page() -> None:
    assert SLITHER is not None
    found = run(SLITHER)
    assert ("timestamp", "FairmarkStandings._judge") in found
    assert differences(found, answered(PAGE.read_text(encoding="utf-8"))) == []
