"""Which strict feeds are in error, as the aggregator has it: shown beside their standing prices."""

from __future__ import annotations

import asyncio

import msgspec
from pydantic import TypeAdapter, ValidationError

from bff.chain_reader import ChainReader
from bff.documents import FeedStanding
from bff.errors import AggregatorUnavailableError, RecordNotFoundError
from bff.upstream import Aggregator
from core import codec
from core.logs import Logger
from core.types import Pair

_STANDINGS = TypeAdapter(list[FeedStanding])


class StrictWatch:
    """Asks the aggregator for its strict feeds' standings, and tells the reader, which writes the prices."""

    def __init__(self, aggregator: Aggregator, reader: ChainReader, poll_ms: int, logger: Logger) -> None:
        self._aggregator = aggregator
        self._reader = reader
        self._poll_s = poll_ms / 1000
        self._log = logger

    async def run(self) -> None:
        """Until cancelled. While the aggregator does not answer, what it said last stands: it makes no rounds then."""
        while True:
            await self.look()
            await asyncio.sleep(self._poll_s)

    async def look(self) -> None:
        try:
            said = _STANDINGS.validate_python(codec.decode_digits(await self._aggregator.standings()))
            errors = {Pair(one.feed): tuple(one.troubles) for one in said if one.error}
        except (AggregatorUnavailableError, RecordNotFoundError):
            return  # told in `/health`
        except (msgspec.MsgspecError, ValidationError, LookupError, TypeError, ValueError) as error:
            self._log.warning("standings_unreadable", error=str(error)[:200])
            return
        self._reader.note_troubles(errors)
