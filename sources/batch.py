"""Requests for several pairs of one source, asked in the same turn of the event loop, sent as one.

A round asks a source for all its feeds at once; where the source answers for many markets (`[batch]` in its catalogue
file), one request brings them all. Whoever asks alone goes on alone: a batch costs nobody time who does not need it. A
pair that is missing or broken in the body fails alone. Where a source refuses the batch as a whole (one delisted symbol
is enough for some), its askers are told to ask one by one, and batches rest for a while; so they do where two in a row
brought nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import httpx
from msgspec import Struct

from core.types import FailureCode, Pair
from sources.batch_body import Found, read_batch
from sources.entries import SourceEntry
from sources.errors import NoRoomError, ParseError, RequestError
from sources.limits import Priority
from sources.parse import Ticker

REST_S = 60.0
"""So long a source is asked pair by pair after it refused a batch."""
THREAD_BYTES = 128 * 1024
"""A longer body is taken apart in a thread: its parts take up to some milliseconds each, and the loop runs between."""
MAX_BYTES = "fairmark_max_bytes"
"""The extension of a request that says how long its body may be."""

_UNFIT = frozenset(
    {
        FailureCode.HTTP_STATUS,
        FailureCode.REDIRECTED,
        FailureCode.MALFORMED,
        FailureCode.EMPTY,
        FailureCode.TOO_LARGE,
    }
)
"""The source answered, and it is the batch that is of no use; the same pair alone may be."""
_FAULTS_IN_A_ROW = 2
"""After so many batches that brought nothing at all, batches rest as well: it may be their endpoint alone."""
_KEPT_REQUESTS = 64

Send = Callable[[httpx.Request, float, Priority], Awaitable[tuple[bytes, int]]]
"""A request, its deadline (the event loop's time) and priority to a body and our clock when it was complete, in ms."""
Answer = tuple[Ticker, int]


class _Ask(Struct, eq=False):
    """answer: None where it is to be asked for alone."""

    pair: Pair
    deadline: float
    priority: Priority
    answer: asyncio.Future[Answer | None] | None = None


class Batcher:
    """One source's batches. Use it on one event loop; `close` it there.

    send: brings a body in, with all that goes for single requests (retries, rests, limits). note: is told what each
    batch brought.
    """

    def __init__(
        self, entry: SourceEntry, *, base_url: str, headers: dict[str, str], send: Send, note: Callable[[Found], None]
    ) -> None:
        if entry.batch is None:
            raise ValueError(f"{entry.name} declares no batch")
        self._entry = entry
        self._form = entry.batch
        self._base_url = base_url.rstrip("/")
        self._headers = headers
        self._send = send
        self._note = note
        self._waiting: list[_Ask] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: dict[str, httpx.Request] = {}
        self._rest_until = 0.0
        self._faults = 0

    async def join(self, pair: Pair, deadline: float, priority: Priority = Priority.JOB) -> Answer | None:
        """The ticker of `pair` and our clock at its receipt; None: ask for it alone.

        deadline: the event loop's time. Raises `RequestError`, `ParseError` as a single request would.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now < self._rest_until or now >= deadline:
            return None
        ask = _Ask(pair, deadline, priority)
        self._waiting.append(ask)
        first = len(self._waiting) == 1
        try:
            # one turn of the loop, in which the others ask; a bare yield, as most who ask are alone
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if ask.answer is not None:
                ask.answer.cancel()
            elif ask in self._waiting:
                self._waiting.remove(ask)
            raise
        finally:
            if first:
                self._flush()  # before any of the others wakes up: they yielded later
        if ask.answer is None:
            return None
        try:
            async with asyncio.timeout_at(deadline):
                return await ask.answer
        except TimeoutError:
            detail = f"no complete answer within {(deadline - now) * 1000:.0f} ms"
            raise RequestError(FailureCode.TIMEOUT, detail) from None

    async def close(self) -> None:
        """End what is under way; whoever waits for it is cancelled."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if len(waiting) < self._form.at_least:
            return
        by_pair: dict[Pair, list[_Ask]] = {}
        for ask in waiting:
            by_pair.setdefault(ask.pair, []).append(ask)
        # in the catalogue's order, so that the same pairs make the same request; what is not served goes alone
        pairs = [pair for pair in self._entry.pairs if pair in by_pair]
        for chunk in _chunks(pairs, self._form.max_symbols or len(self._entry.pairs)):
            if len(chunk) >= self._form.at_least:
                self._start(chunk, [ask for pair in chunk for ask in by_pair[pair]])

    def _start(self, pairs: Sequence[Pair], asks: list[_Ask]) -> None:
        loop = asyncio.get_running_loop()
        answers = [loop.create_future() for _ in asks]
        for ask, answer in zip(asks, answers, strict=True):
            ask.answer = answer
        task = loop.create_task(self._run(pairs, asks))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def given_up(_: object) -> None:
            if all(answer.done() for answer in answers):
                task.cancel()

        for answer in answers:
            answer.add_done_callback(given_up)

    async def _run(self, pairs: Sequence[Pair], asks: list[_Ask]) -> None:
        try:
            deadline, priority = max(ask.deadline for ask in asks), min(ask.priority for ask in asks)
            body, received_ms = await self._send(self._request(pairs), deadline, priority)
            found = await self._read(pairs, body)
            self._note(found)
        except (RequestError, ParseError) as error:
            unfit = error.failure in _UNFIT
            self._faults += 1
            if unfit or self._faults >= _FAULTS_IN_A_ROW:
                self._rest_until = asyncio.get_running_loop().time() + REST_S
                self._faults = 0
            _tell(asks, None if unfit else error)
        except asyncio.CancelledError:
            for ask in asks:
                if ask.answer is not None:
                    ask.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - it is told to those who asked, and a source's failure is theirs
            _tell(asks, error)
        else:
            self._faults = 0
            for ask in asks:
                each = found[ask.pair]
                _tell([ask], (each, received_ms) if isinstance(each, Ticker) else each)

    async def _read(self, pairs: Sequence[Pair], body: bytes) -> Found:
        if len(body) > THREAD_BYTES:
            return await asyncio.to_thread(read_batch, self._entry, pairs, body)
        return read_batch(self._entry, pairs, body)

    def _request(self, pairs: Sequence[Pair]) -> httpx.Request:
        path = self._entry.batch_path(pairs)
        request = self._requests.get(path)
        if request is None:
            if len(self._requests) >= _KEPT_REQUESTS:
                self._requests.pop(next(iter(self._requests)))
            extensions = {MAX_BYTES: self._form.max_bytes}
            request = httpx.Request("GET", self._base_url + path, headers=self._headers, extensions=extensions)
            self._requests[path] = request
        return request


def _chunks(pairs: list[Pair], size: int) -> list[list[Pair]]:
    return [pairs[start : start + size] for start in range(0, len(pairs), size)]


def _tell(asks: list[_Ask], answer: Answer | Exception | None) -> None:
    for ask in asks:
        if ask.answer is None or ask.answer.done():  # gave up meanwhile
            continue
        if isinstance(answer, NoRoomError):
            ask.answer.set_exception(NoRoomError(str(answer)))
        elif isinstance(answer, RequestError):  # one for each: an exception that is raised twice grows two tracebacks
            error = RequestError(answer.failure, str(answer), retry_after_s=answer.retry_after_s)
            ask.answer.set_exception(error)
        elif isinstance(answer, ParseError):
            ask.answer.set_exception(type(answer)(str(answer)))
        elif isinstance(answer, Exception):
            ask.answer.set_exception(RuntimeError(f"{type(answer).__name__}: {answer}"))
        else:
            ask.answer.set_result(answer)
            continue
        ask.answer.exception()  # seen: one who is cancelled in this very turn never fetches it
