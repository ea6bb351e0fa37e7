"""A generator: a server of one number that is made anew at the start of each period.

The number is drawn evenly from the declared range by a seeded hash of its slot, so that anyone can say what it will be:
two generators with one seed agree, and a test can compute the trader's median by itself.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from hashlib import sha256

from fastapi import FastAPI

from core.clock import Clock
from core.logs import Logger
from core.ops import Ops, ops_app
from core.reporting import Schedule
from core.signals import SignalRange, SignalReading
from signals.rpc import add_signal_rpc


def number(seed: int, slot_ms: int, declared: SignalRange) -> Decimal:
    """The generator's number for a slot: any value of the range, each as likely as another."""
    steps = int((declared.maximum - declared.minimum).scaleb(declared.decimals))
    drawn = int.from_bytes(sha256(f"{seed}/{slot_ms}".encode()).digest()) % (steps + 1)
    return declared.checked(declared.minimum + Decimal(drawn).scaleb(-declared.decimals))


class Generator:
    """Serve `app` (with `core.ops.serve`) while `run` runs. name: what its readings are called."""

    def __init__(
        self,
        *,
        name: str,
        seed: int,
        schedule: Schedule,
        declared: SignalRange,
        clock: Clock,
        ops: Ops,
        logger: Logger,
    ) -> None:
        self.name = name
        self._seed = seed
        self._schedule = schedule
        self._range = declared
        self._clock = clock
        self._ops = ops
        self._log = logger
        self.reading = self._made()
        self.app: FastAPI = ops_app(ops)
        add_signal_rpc(self.app, lambda _path: self.reading)

    async def run(self) -> None:
        """Make the number anew at each slot, until cancelled."""
        self._ops.set_ready()
        self._log.info("generator_ready", signal=self.name, period_ms=self._schedule.period_ms)
        while True:
            now = self._clock.now_ms()
            await asyncio.sleep((self._schedule.next(now) - now) / 1000)
            self.reading = self._made()

    def _made(self) -> SignalReading:
        slot = self._schedule.slot(self._clock.now_ms())
        return SignalReading(
            name=self.name,
            value=number(self._seed, slot, self._range),
            time_ms=slot,
            period_ms=self._schedule.period_ms,
            range=self._range,
            depends=(self.name,),
        )
