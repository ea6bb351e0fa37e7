"""The newest round that a quorum signed, as calldata for whoever carries it himself, whatever becomes of our own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aggregator.attempts import AttemptRecord, FailureReason, Verdict
from aggregator.edges import Chain
from aggregator.recorder import Recorder
from aggregator.running import Running
from contracts import artifacts
from contracts.pull import SignedUpdate, for_pulling
from contracts.report import in_signer_order
from core.clock import Clock
from core.types import Group

LOOKED_AT = 20
"""Attempts of a group, newest first, among which the newest signed one is looked for."""


def newest_signed(records: Iterable[AttemptRecord]) -> AttemptRecord | None:
    """The record with the latest moment whose reports are a quorum that the contract did not refuse."""
    signed = (r for r in records if r.hints is not None and r.code != FailureReason.ROUND_REFUSED)
    return max(signed, key=lambda record: record.moment, default=None)


class Updates:
    """open_attempts: those that run now; their transactions may be stuck, their reports are good all the same."""

    def __init__(self, chain: Chain, recorder: Recorder, open_attempts: Mapping[str, Running], clock: Clock) -> None:
        self._chain = chain
        self._recorder = recorder
        self._open = open_attempts
        self._clock = clock
        self._abi = artifacts.load("FairmarkOracle").abi

    async def newest(self, group: Group) -> SignedUpdate | None:
        """None where there is none that is young enough for the contract.

        Raises `StoreUnavailableError`, or `ContractError` when the reports are of a version that is gone.
        """
        records = [running.record for running in self._open.values() if running.record.group == group.name]
        record = newest_signed([*records, *await self._recorder.latest(group.name, LOOKED_AT)])
        if record is None or self._clock.now_ms() - record.moment > group.max_age_ms:
            return None
        return self._update(group, record)

    def _update(self, group: Group, record: AttemptRecord) -> SignedUpdate:
        included = (one for one in record.reports if one.verdict is Verdict.INCLUDED)
        reports = in_signer_order({one.signer: one.signed for one in included if one.signer is not None})
        hints = record.hints or "0x"
        submission = self._chain.build_submission(group.name, reports, bytes.fromhex(hints[2:]))
        function, calldata = for_pulling(self._abi, submission)
        return SignedUpdate(
            group=group.name,
            mode=record.mode,
            chain_id=self._chain.deployment.chain_id,
            to=self._chain.deployment.address,
            function=function,
            calldata="0x" + calldata.hex(),
            previous_moment=record.previous_moment or 0,
            moment=record.moment,
            feeds=tuple(feed.pair for feed in group.feeds),
            answers={pair: answer.price for pair, answer in record.answers.items()},
            reports=reports,
            hints=hints,
        )
