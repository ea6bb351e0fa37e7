"""What `fairmark explain` says of the attempts that failed since the last round."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from core.types import Pair
from fairmark.cli.attempts import Failed, attempt_line, failed_lines, failed_since

BTC = Pair("BTC/USD")
START = 1_710_328_245_000


def attempt(seconds: int, state: str = "failed", code: str | None = "no_quorum", **changes: Any) -> dict[str, Any]:
    """One that began so long after the round's."""
    return {
        "id": f"a{seconds}",
        "cause": "heartbeat",
        "state": state,
        "code": code if state == "failed" else None,
        "detail": "1 valid reports, 3 are needed" if state == "failed" else "",
        "started_ms": START + seconds * 1000,
        "round": None,
        **changes,
    }


THE_ROUND = attempt(0, "accepted", id="r7", round=7)


def told(*newest: dict[str, Any], looked_at: int = 50) -> list[str]:
    lines = failed_lines(failed_since(newest, 7, looked_at), BTC)
    return [Text.from_markup(line).plain for line in lines]


def test_all_that_failed_since_the_round_are_counted_and_the_newest_is_explained() -> None:
    newest = attempt(90, code="broker_unavailable", detail="no answer [errno 111] from the broker")
    assert told(newest, attempt(60), attempt(30), THE_ROUND, attempt(-30)) == [
        "since round 7: 3 attempts failed from 2024-03-13T11:11:15.000Z on, "
        "the newest at 2024-03-13T11:12:15.000Z: broker_unavailable, no answer [errno 111] from the broker",
        "  fairmark explain BTC/USD --attempt a90",
    ]


def test_a_single_one_is_told_once() -> None:
    assert told(attempt(30), THE_ROUND) == [
        "since round 7: 1 attempt failed, at 2024-03-13T11:11:15.000Z: no_quorum, 1 valid reports, 3 are needed",
        "  fairmark explain BTC/USD --attempt a30",
    ]


def test_where_the_list_does_not_reach_the_round_there_may_be_more() -> None:
    shown = told(attempt(90), attempt(60), looked_at=2)
    assert shown[0].startswith(
        "since round 7: at least 2 attempts failed from 2024-03-13T11:11:45.000Z on, the newest at "
    )
    assert told(attempt(90), attempt(60), looked_at=3)[0].startswith("since round 7: 2 attempts failed from ")


@pytest.mark.parametrize(
    "newest",
    [
        [],
        [THE_ROUND],
        [THE_ROUND, attempt(-30)],
        [attempt(30, code="joined"), THE_ROUND],
        [attempt(30, "collecting"), THE_ROUND],
    ],
)
def test_where_none_failed_since_nothing_is_told(newest: list[dict[str, Any]]) -> None:
    assert told(*newest) == []


def test_a_later_round_that_left_the_answer_as_it_was_ends_the_count() -> None:
    attested = attempt(60, "accepted", round=9)
    assert failed_since([attempt(90), attested, attempt(30), THE_ROUND], 7, 50) == Failed(
        round=9, attempts=[attempt(90)], whole=True
    )
    assert told(attested, attempt(30), THE_ROUND) == []


STATES = st.sampled_from([("failed", "no_quorum"), ("failed", "joined"), ("collecting", None), ("accepted", None)])


@given(st.lists(STATES, max_size=12))
def test_whatever_failed_after_the_last_round_is_told_and_nothing_else(states: list[tuple[str, str | None]]) -> None:
    """Counted the other way about: from the oldest to the newest."""
    history = [
        attempt(at, state, code, round=7 + at if state == "accepted" else None)
        for at, (state, code) in enumerate(states, 1)
    ]
    expected, round_ = [], 7
    for one in history:
        if one["state"] == "accepted":
            expected, round_ = [], one["round"]
        elif one["code"] == "no_quorum":
            expected.insert(0, one)
    found = failed_since([*reversed(history), THE_ROUND], 7, 50)
    assert found == Failed(round=round_, attempts=expected, whole=True)


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (attempt(30), "a30  2024-03-13T11:11:15.000Z  heartbeat  failed no_quorum"),
        (THE_ROUND | {"cause": "request"}, "r7  2024-03-13T11:10:45.000Z  request    accepted round 7"),
        (attempt(60, "collecting"), "a60  2024-03-13T11:11:45.000Z  heartbeat  collecting"),
    ],
)
def test_an_attempt_is_listed_with_what_became_of_it(one: dict[str, Any], line: str) -> None:
    assert attempt_line(one) == line
