"""The reports of one open attempt, and when there are enough of them.

Collecting ends when every member has answered, or a grace after a quorum, or at the deadline. A refusal carries no
signature, so anybody on the bus could send one in another's name: it may spare the wait for the rest once there is a
quorum, never the wait for the quorum itself.

Anybody can put a signed report into a message of his own. In one for another deployment, mode or group it is dropped;
in one that its evidence root does not commit to it counts for nothing, not even as the reporter's answer, and the
reporter's own takes its place when it comes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from enum import StrEnum

from aggregator.attempts import MAX_OWN, RefusalRecord
from aggregator.edges import Known
from aggregator.validation import Expected, Received, equivocators, judge
from broker.errors import UnroutableError
from broker.messages import Refusal

MAX_STRANGERS = 16
"""Reports kept beside the members' own: garbage, replays, other versions. More of them are counted and dropped."""
MAX_REFUSALS = 32
DOUBT_S = 0.5
"""How long reports are waited for once the job's publication has failed."""


class Ended(StrEnum):
    """Why the collection ended."""

    ALL = "all"  # every member answered
    GRACE = "grace"  # a quorum, and the grace is over
    DEADLINE = "deadline"
    UNPUBLISHED = "unpublished"  # no quorum, and the job was not published


class Collection:
    """Reports as they arrive. One event loop's own: not for threads."""

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.received: list[Received] = []
        self.refusals: list[RefusalRecord] = []
        self.dropped = 0
        self.open = True
        self._sound: list[bool] = []  # for each received, whether it passes every rule alone
        self._valid: dict[str, Received] = {}
        self._quorate = False
        self._news = asyncio.Event()

    def add(self, received: Received) -> bool:
        """Take a report; False when its envelope is false, it is the very same as one before, or one too many."""
        if self.expected.foreign(received):
            self.dropped += 1
            return False
        for at, one in enumerate(self.received):
            if one.signer == received.signer and one.digest == received.digest and one.signer is not None:
                return self._instead(at, received)
        own = self.expected.own(received)
        kept = Counter((one.signer if self.expected.own(one) else None) for one in self.received)
        if (own and kept[received.signer] >= MAX_OWN) or (not own and kept[None] >= MAX_STRANGERS):
            self.dropped += 1
            return False
        self.received.append(received)
        self._sound.append(self._passes(received))
        self._changed()
        return True

    def _instead(self, at: int, received: Received) -> bool:
        """The same report once more: a message that it proves takes the place of one that it does not."""
        if received.unproven or not self.received[at].unproven:
            return False
        self.dropped += 1
        self.received[at] = received
        self._sound[at] = self._passes(received)
        self._changed()
        return True

    def refuse(self, refusal: Refusal, arrived_ms: int) -> bool:
        """Take a refusal; False when this fetcher's instance refused before, or there are too many.

        What it saw is kept of one refusal a member: of all others the code and the detail are enough.
        """
        known = any((r.fetcher, r.instance) == (refusal.fetcher, refusal.instance) for r in self.refusals)
        if known or len(self.refusals) >= MAX_REFUSALS:
            return False
        reporter = refusal.reporter.lower()
        first = reporter in self.expected.known.signers and all(r.reporter.lower() != reporter for r in self.refusals)
        self.refusals.append(
            RefusalRecord(
                fetcher=refusal.fetcher,
                instance=refusal.instance,
                reporter=refusal.reporter,
                code=refusal.code,
                detail=refusal.detail,
                arrived_ms=arrived_ms,
                elapsed_ms=refusal.elapsed_ms,
                quotes=refusal.quotes if first else (),
                failures=refusal.failures if first else (),
            )
        )
        self._changed()
        return True

    def expect(self, known: Known) -> None:
        """Judge by a newer state of the group."""
        before = self.expected
        if known != before.known:
            self.expected = replace(before, known=known)
            self._sound = [self._passes(one) for one in self.received]
            self._changed()

    @property
    def quorate(self) -> bool:
        """As many valid reports as the threshold, and every feed has its contributors, or cannot have them any more."""
        return self._quorate

    @property
    def complete(self) -> bool:
        """Every member answered: signed, or, once there is a quorum, refused."""
        members = self.expected.known.signers
        signed = {one.signer for one in self.received if self.expected.proven(one)}
        if len(signed) >= len(members):
            return True
        refused = {refusal.reporter.lower() for refusal in self.refusals} & members
        enough = len(self._valid) >= self.expected.known.threshold
        return enough and signed | refused >= members

    async def wait(self, deadline_s: float, grace_s: float, published: asyncio.Future[None]) -> Ended:
        """Return when the collection may end. deadline_s: on the event loop's clock; grace_s: a duration.

        published: of the job. When that fails, reports have a little longer: the confirm waits for the queue of every
        fetcher, so that the job may have reached enough of them where the broker could not confirm it.
        """
        loop = asyncio.get_running_loop()
        grace_ends: float | None = None
        doubt_ends: float | None = None
        published.add_done_callback(lambda _: self._news.set())
        while True:
            if self.complete:
                return Ended.ALL
            now = loop.time()
            grace_ends = (grace_ends or now + grace_s) if self.quorate else None
            if published.done() and (failed := published.exception()):
                doubt_ends = doubt_ends or now + (0 if isinstance(failed, UnroutableError) else DOUBT_S)
            ends = min(deadline_s, grace_ends or doubt_ends or deadline_s)
            if now >= ends:
                if now >= deadline_s:
                    return Ended.DEADLINE
                return Ended.GRACE if grace_ends is not None else Ended.UNPUBLISHED
            self._news.clear()
            try:
                async with asyncio.timeout_at(ends):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _passes(self, received: Received) -> bool:
        # freshness is the validation's to judge: within a collection's milliseconds it does not change
        return judge(received, self.expected, self.expected.moment) is None

    def _changed(self) -> None:
        guilty = equivocators(self.received, self.expected)
        self._valid = {
            one.signer: one
            for one, sound in zip(self.received, self._sound, strict=True)
            if sound and one.signer is not None and one.signer not in guilty
        }
        self._quorate = self._is_quorate()
        self._news.set()

    def _is_quorate(self) -> bool:
        known, valid = self.expected.known, self._valid
        if len(valid) < known.threshold:
            return False
        signed = {one.signer for one in self.received if self.expected.proven(one)}
        outstanding = len(known.signers - signed)
        for index, feed in enumerate(known.feeds):
            contributors = sum(1 for one in valid.values() if self.expected.observed(one, index))
            if contributors < feed.min_contributors <= contributors + outstanding:
                return False
        return True
