"""What `fairmark strategy` refuses at its start, because no trader would take it or no decision could come of it."""

from __future__ import annotations

import pytest

from core.errors import StartError
from core.reporting import FeedRule
from fairmark.signals import check_strategy

ONE, TWO = "127.0.0.1:9101", "127.0.0.1:9102"


@pytest.mark.parametrize(
    ("name", "signals", "needed", "why"),
    [
        ("Alpha_1", (ONE,), 1, "--name: 'Alpha_1' is no reporter's name"),
        ("../alpha", (ONE,), 1, "--name"),
        ("alpha\n", (ONE,), 1, "--name"),
        ("alpha", (), 1, "--signals: name one at the least"),
        ("alpha", ("localhost",), 1, "--signals: 'localhost' is no signal's address"),
        ("alpha", (ONE, TWO, f"http://{ONE}"), 1, "named twice"),
        ("alpha", (ONE, TWO), 3, "--needed: 3 of 2 signals"),
    ],
)
def test_what_could_never_report_is_refused(name: str, signals: tuple[str, ...], needed: int, why: str) -> None:
    with pytest.raises(StartError, match=why):
        check_strategy(name, signals, FeedRule(needed=needed))


def test_the_order_of_signals_is_free() -> None:
    check_strategy("alpha", (TWO, ONE, f"{ONE}/momentum"), FeedRule(needed=3))
