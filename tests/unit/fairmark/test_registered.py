"""Who is asked about a reporter, and what is said of one that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.settings import load
from fairmark import registered
from tests.conftest import PROJECT


@pytest.mark.parametrize("feed", [None, "BTC/USD"])
def test_a_name_that_is_no_fetchers_is_not_blamed_on_the_trader_alone(tmp_path: Path, feed: str | None) -> None:
    nobody = {"FAIRMARK_TRADER__URL": "http://127.0.0.1:1", "FAIRMARK_TRADER__TOKEN": "t" * 32}
    settings = load(PROJECT / "fairmark.toml", {**nobody, "FAIRMARK_DATA_DIR": str(tmp_path)})
    with pytest.raises(registered.NotAnsweredError) as raised:
        registered.change(settings, "deregister", "FETCHER-D", feed)
    assert str(raised.value).startswith(
        "FETCHER-D is no reporter of prices here (fetcher-a, fetcher-b, fetcher-c, fetcher-d); "
        "of signals: no answer from the trader at http://127.0.0.1:1: "
    )
