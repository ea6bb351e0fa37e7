"""What every implementation does with one delivery: decode it, hand it to the handler, judge the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import StrEnum

from broker.bus import Handler, Rejected
from broker.errors import MalformedMessageError
from broker.messages import decode
from core.errors import FairmarkError
from core.logs import Logger

MAX_DELIVERIES = 3
"""A message whose handler failed this often goes to the dead letters."""
CANCEL_S = 1.0
"""How long a cancelled handler may take to end."""


class Outcome(StrEnum):
    DONE = "done"
    RETRY = "retry"
    MALFORMED = "malformed"  # to the dead letters, as are the next two
    REJECTED = "rejected"
    DELIVERY_LIMIT = "delivery_limit"


async def deliver(data: bytes, handler: Handler, *, delivery: int, log: Logger) -> Outcome:
    """Run `handler` on the message in `data`; say what becomes of it. Raises nothing but `CancelledError`.

    delivery: which one this is, counted from 1; a failure of the last allowed one is not retried.
    """
    try:
        message = decode(data)
    except MalformedMessageError as error:
        log.warning("message_malformed", detail=str(error), size=len(data), start=data[:120].decode("utf-8", "replace"))
        return Outcome.MALFORMED
    try:
        await handler(message)
    except Rejected as error:
        log.warning("message_rejected", message=message.id, detail=str(error))
        return Outcome.REJECTED
    except Exception as error:  # a handler may fail in any way, and consuming must go on
        trace = not isinstance(error, FairmarkError)  # one of ours says all in its message
        log.exception("handler_failed", message=message.id, delivery=delivery, detail=repr(error), exc_info=trace)
        return Outcome.RETRY if delivery < MAX_DELIVERIES else Outcome.DELIVERY_LIMIT
    return Outcome.DONE


async def drain(tasks: Iterable[asyncio.Task[None]], within_s: float) -> None:
    """Wait for `tasks`, then cancel those left and wait for them. A task that drains itself is not waited for."""
    others = set(tasks) - {asyncio.current_task()}
    if not others:
        return
    _, late = await asyncio.wait(others, timeout=within_s)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=CANCEL_S)
