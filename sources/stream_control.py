"""What a message is that carries no data: an acknowledgement, a refusal, something to answer, or nothing of ours.

Most such messages are nothing of ours (order books, heartbeats), and come by the thousand. Which bytes a message must
hold to mean anything is read off the declared expressions, once; one without them is only checked to be JSON.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import product
from typing import Any

import jmespath
import msgspec
from jmespath.exceptions import JMESPathError

from core.codec import decode_digits
from sources.stream_entries import StreamFormat, fill

Tokens = frozenset[bytes]
_MOST_CLAUSES = 16
"""An expression that has more alternatives than this is always evaluated."""


class Heard(StrEnum):
    """What a message was."""

    DATA = "data"
    REPEATED = "repeated"  # its number is not above the last one's
    RENUMBERED = "renumbered"  # one repeated too many: its numbers will not rise above the last one's any more
    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    ANSWERED = "answered"  # it wants an answer: see `StreamReader.answer`
    LEAVE = "leave"  # the exchange asks us to connect anew
    OTHER = "other"  # a heartbeat, another pair's, a greeting
    BAD = "bad"


class Control:
    """The declared expressions of one stream, in the order in which they are asked."""

    def __init__(self, format_: StreamFormat) -> None:
        answer = format_.answer
        self._answer = answer.send if answer else ""
        declared = (
            (Heard.ANSWERED, answer.when if answer else None),
            (Heard.REJECTED, format_.rejected),
            (Heard.ACKNOWLEDGED, format_.acknowledged),
            (Heard.LEAVE, format_.leave),
        )
        self._expressions = [(heard, jmespath.compile(text)) for heard, text in declared if text is not None]
        clauses = {clause for _, expression in self._expressions for clause in needed(expression.parsed)}
        # a clause that another one is part of adds nothing
        self._clauses = tuple(tuple(clause) for clause in clauses if not any(other < clause for other in clauses))

    def read(self, raw: bytes) -> tuple[Heard, str]:
        """What `raw` is, and the answer or the refusal in words. Raises `msgspec.DecodeError` where it is not JSON."""
        if not any(all(token in raw for token in clause) for clause in self._clauses):
            _any_json(raw)
            return Heard.OTHER, ""
        tree = decode_digits(raw)
        if isinstance(tree, dict):
            for heard, expression in self._expressions:
                if found := _search(expression, tree):
                    return heard, self._words(tree) if heard is Heard.ANSWERED else str(found)
        return Heard.OTHER, ""

    def _words(self, tree: dict[str, Any]) -> str:
        return fill(self._answer, {key: str(value) for key, value in tree.items() if isinstance(value, int)})


def needed(node: Any) -> set[Tokens]:
    """Alternatives of bytes, one of which a message must hold in full for the JMESPath `node` to be truthy there.

    A message may hide them behind escapes (`"\\u0069d"`): no exchange does, and then it is nothing of ours.
    """
    found = _needed(node)
    return found if len(found) <= _MOST_CLAUSES else {frozenset()}


def _needed(node: Any) -> set[Tokens]:
    kind, children = node["type"], node["children"]
    if kind == "field":
        return {frozenset([_quoted(node["value"])])}
    if kind == "literal" and isinstance(node["value"], str):
        return {frozenset([_quoted(node["value"])])}
    if kind == "or_expression":
        return _needed(children[0]) | _needed(children[1])
    # a field that is absent equals another absent one, and null; it equals nothing else
    equals = (
        kind == "comparator"
        and node["value"] == "eq"
        and any(child.get("value") is not None for child in children if child["type"] == "literal")
    )
    if equals or kind in {"and_expression", "subexpression"}:
        return {left | right for left, right in product(*map(_needed, children))}
    # a negation, a comparison, a function: nothing is known of what it needs
    return {frozenset()}


def _quoted(text: str) -> bytes:
    return msgspec.json.encode(text)


_any_json = msgspec.json.Decoder(msgspec.Raw).decode


def _search(expression: Any, tree: Any) -> Any:
    try:
        return expression.search(tree)
    except (JMESPathError, TypeError, ValueError, ArithmeticError, AttributeError, KeyError):
        return None  # another message's fields under the same names


__all__ = ["Control", "Heard", "needed"]
