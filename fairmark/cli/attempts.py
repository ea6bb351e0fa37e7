"""What `fairmark explain` says of a group's newest attempts, as `GET /v1/groups/{group}/attempts` lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from rich.markup import escape

from aggregator.attempts import FailureReason
from aggregator.states import State
from core.clock import rfc3339
from core.types import Pair

Summary = Mapping[str, Any]


class Failed(Struct, frozen=True, kw_only=True):
    """A group's attempts that failed after its last round, the newest first. round: that round.

    whole: whether these are all of them; else there may be more, older ones.
    """

    round: int
    attempts: Sequence[Summary]
    whole: bool


def failed_since(newest: Sequence[Summary], round_: int, looked_at: int) -> Failed:
    """Those of a group's `newest` attempts, at most `looked_at`, that failed after its last round.

    round_: one that is known; a later one may have left a feed's answer as it was. An attempt that another aggregator's
    served (`joined`) did not fail for whoever asked.
    """
    failed: list[Summary] = []
    for one in newest:
        if one["state"] == State.ACCEPTED:
            return Failed(round=one["round"], attempts=failed, whole=True)
        if one["state"] == State.FAILED and one["code"] != FailureReason.JOINED:
            failed.append(one)
    return Failed(round=round_, attempts=failed, whole=len(newest) < looked_at)


def failed_lines(failed: Failed, pair: Pair) -> list[str]:
    """How many, since when, why the newest, and the command that explains it. Nothing where none failed."""
    if not failed.attempts:
        return []
    newest, oldest, count = failed.attempts[0], failed.attempts[-1], len(failed.attempts)
    why = f"{newest['code']}, {escape(newest['detail'])}"
    least = "" if failed.whole else "at least "
    if count == 1:
        said = f"{least}1 attempt failed[/], at {_started(newest)}: {why}"
    else:
        said = f"{least}{count} attempts failed[/] from {_started(oldest)} on, the newest at {_started(newest)}: {why}"
    return [f"[red]since round {failed.round}: {said}", f"  fairmark explain {pair} --attempt {newest['id']}"]


def attempt_line(one: Summary) -> str:
    """An attempt's id, when it started, why, and what became of it."""
    end = {State.ACCEPTED: f" round {one['round']}", State.FAILED: f" {one['code']}"}.get(one["state"], "")
    return f"{one['id']}  {_started(one)}  {one['cause']:<9}  {one['state']}{end}"


def _started(one: Summary) -> str:
    return rfc3339(one["started_ms"])
