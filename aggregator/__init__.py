"""Rounds: job, collection, validation, median, submission, record, heartbeat.

The engine (`engine`) runs a group's attempts, one at a time; the desk (`joining`) decides who shares one; the schedule
starts those that nobody asked for; the recorder keeps every one. `service` puts them together.
"""

from aggregator.attempts import AttemptRecord, Cause, FailureReason, Verdict
from aggregator.service import AggregatorService
from aggregator.states import State
from aggregator.store import AttemptStore, SqlAttemptStore

__all__ = [
    "AggregatorService",
    "AttemptRecord",
    "AttemptStore",
    "Cause",
    "FailureReason",
    "SqlAttemptStore",
    "State",
    "Verdict",
]
