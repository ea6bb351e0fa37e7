"""Every problem document that the BFF itself answers with, in one place."""

from __future__ import annotations

from collections.abc import Sequence

from bff.documents import Price
from bff.errors import InvalidPairError, UnknownPairError
from bff.upstream import RefreshOutcome
from core.problems import Problem

RETRY_SOON = {"Retry-After": "1"}
RETRY_LATER = {"Retry-After": "5"}


def invalid_pair(error: InvalidPairError) -> Problem:
    fault = {"where": "path.pair", "what": str(error)}
    return Problem(422, error.code, "The request is not valid", str(error), errors=[fault])


def unknown_pair(error: UnknownPairError) -> Problem:
    return Problem(404, error.code, "No such pair", str(error), known=list(error.known))


def unknown_group(group: str, known: Sequence[str]) -> Problem:
    detail = f"there is no group {group[:40]!r}; known: {', '.join(known)}"
    return Problem(404, "unknown_group", "No such group", detail, known=list(known))


def no_reading() -> Problem:
    detail = "the chain was not read yet: /health tells why"
    return Problem(503, "no_reading", "No price yet", detail, headers=RETRY_SOON)


def price_unset(pair: str) -> Problem:
    detail = f"{pair} was never priced on this contract: its first round is still to come"
    return Problem(503, "price_unset", "No price yet", detail, headers=RETRY_LATER)


def attempt_failed(outcome: RefreshOutcome, last: Price | None) -> Problem:
    code = outcome.code or "attempt_failed"
    detail = outcome.detail or f"the attempt ended without a round: {code}"
    return _not_refreshed(503, code, "The refresh brought no new price", detail, outcome.id, last)


def feed_not_updated(pair: str, outcome: RefreshOutcome, last: Price | None) -> Problem:
    if (why := outcome.held.get(pair)) is not None:
        detail = f"round {outcome.round} was accepted, but the breaker holds the answer for {pair}: {why}"
        return _not_refreshed(503, "answer_held", "The new price waits to be confirmed", detail, outcome.id, last)
    why = outcome.feeds_without_answer.get(pair, "too few reporters had a price for it")
    detail = f"round {outcome.round} was accepted, but left {pair} alone: {why}"
    return _not_refreshed(503, "feed_not_updated", "The refresh brought no new price", detail, outcome.id, last)


def still_running(outcome: RefreshOutcome, timeout_ms: int, last: Price | None) -> Problem:
    detail = f"attempt {outcome.id} has not ended within {timeout_ms} ms; it goes on: see /v1/attempts/{outcome.id}"
    return _not_refreshed(504, "refresh_timeout", "The refresh takes too long", detail, outcome.id, last)


def not_read_back(outcome: RefreshOutcome, timeout_ms: int, last: Price | None) -> Problem:
    detail = f"round {outcome.round} was accepted, but our node does not show it within {timeout_ms} ms"
    return _not_refreshed(504, "refresh_timeout", "The refresh takes too long", detail, outcome.id, last)


def chain_unavailable(why: str, outcome: RefreshOutcome, last: Price | None) -> Problem:
    detail = f"round {outcome.round} was accepted, but {why}"
    return _not_refreshed(503, "chain_unavailable", "The new price cannot be read", detail, outcome.id, last)


def aggregator_unavailable(why: str, last: Price | None) -> Problem:
    return _not_refreshed(503, "aggregator_unavailable", "No refresh now; reads go on", why, None, last)


def _not_refreshed(status: int, code: str, title: str, detail: str, attempt: str | None, last: Price | None) -> Problem:
    answer = None if last is None else last.model_dump(mode="json")
    return Problem(status, code, title, detail, headers=RETRY_SOON, attempt=attempt, last=answer)
