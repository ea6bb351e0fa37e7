"""What the BFF says that documents hold, against what the aggregator writes."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from aggregator.api import summary
from aggregator.attempts import AttemptRecord, Cause, FailureReason, new_attempt_id
from aggregator.states import State
from bff.documents import AttemptSummary
from core import codec
from core.types import Mode


def test_an_attempt_in_short_is_what_the_aggregator_writes_at_its_beginning_and_at_its_end() -> None:
    queued = AttemptRecord(
        id=new_attempt_id(),
        deployment="1:0x:0x",
        mode=Mode.TEST,
        group="majors",
        cause=Cause.REQUEST,
        state=State.QUEUED,
        started_ms=1,
    )
    failed = msgspec.structs.replace(
        queued.failed(FailureReason.NO_QUORUM, "2 of 3", 5), timings_ms={"total": Decimal("1.5")}
    )
    begun = AttemptSummary.model_validate_json(codec.encode(summary(queued)), strict=True)
    ended = AttemptSummary.model_validate_json(codec.encode(summary(failed)), strict=True)
    assert (begun.id, begun.state, begun.code, begun.ended_ms, begun.round) == (queued.id, "queued", None, None, None)
    assert (ended.id, ended.state, ended.code, ended.detail) == (queued.id, "failed", "no_quorum", "2 of 3")
    assert (ended.ended_ms, ended.answers, ended.cause) == (5, {}, "request")
