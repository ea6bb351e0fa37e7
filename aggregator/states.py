"""The life of an attempt, as a state machine: pure, and all of it.

queued → claimed → collecting → validating → submitting → confirming → accepted
   └─────────┴──────────┴────────────┴────────────┴────────────┴────→ failed

A block may come late, and a reorg may take one back: what was sent is watched until it is settled, and only by that may
a failed attempt become accepted, or an accepted one fail.

What is in the store before each thing that the world outside can see:

| before | the store has |
| --- | --- |
| a client is told the id of an attempt that waits | the attempt, `queued` |
| the job goes out to the fetchers | the attempt, `claimed`: the group's only open one, with a moment of its own |
| a node is given its transaction, or one in that one's place | the attempt, `submitting`, and the bytes |
| a client is told that it failed | the attempt: as claimed, or as failed where it never had a moment |
| a client is told that it is accepted | the attempt and the bytes; the round is on the chain |

So whoever finds the record after a crash knows what may have happened, and either finishes the attempt (its transaction
is looked up, or the very same bytes are sent again) or retires it. Nothing is signed for it a second time.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise


class State(StrEnum):
    """Where an attempt is. `ACCEPTED` and `FAILED` are final."""

    QUEUED = "queued"  # waits for the group's open attempt to end; it has no moment yet
    CLAIMED = "claimed"  # (deployment, group, moment) is ours: no other aggregator runs it
    COLLECTING = "collecting"  # the job is out, reports come in
    VALIDATING = "validating"
    SUBMITTING = "submitting"  # simulated and sent
    CONFIRMING = "confirming"  # sent: a receipt is awaited
    ACCEPTED = "accepted"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        return self in FINAL


WAY = (
    State.QUEUED,
    State.CLAIMED,
    State.COLLECTING,
    State.VALIDATING,
    State.SUBMITTING,
    State.CONFIRMING,
    State.ACCEPTED,
)
"""The way of an attempt that succeeds."""
FINAL = frozenset({State.ACCEPTED, State.FAILED})
OPEN = frozenset(WAY[1:-1])
"""Of these, a group has at most one attempt at a time."""

STEPS = {
    **{here: frozenset({following, State.FAILED}) for here, following in pairwise(WAY)},
    State.ACCEPTED: frozenset[State](),
    State.FAILED: frozenset[State](),
}
"""The steps that whoever runs an attempt may take."""
CORRECTIONS = {State.FAILED: State.ACCEPTED, State.ACCEPTED: State.FAILED}
"""What only the chain can bring about, for an attempt that something was sent for: a late block, a reorg."""
