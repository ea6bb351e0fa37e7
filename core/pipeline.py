"""Validation as a list of small pure rules: each takes what is left, and returns what it accepts and what it rejects.

A rule sees all that is left at once, so that it can judge one by the others; and what was rejected before it, in order.
Which rules there are is code; the order in which they stand is configuration (`validation` in the settings), and every
rule stands in it: a limit that shall never bind is set wide, a rule is not left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Generic, TypeVar

from core.errors import ConfigurationError

Item = TypeVar("Item")
Rejection = TypeVar("Rejection")
Context = TypeVar("Context")

Rule = Callable[[Sequence[Item], Context, Sequence[Rejection]], tuple[Sequence[Item], Sequence[Rejection]]]
"""(what is left, what it is judged by, what was rejected so far) to (accepted, rejected): together, what was left."""


class Pipeline(Generic[Item, Context, Rejection]):
    """Rules in their order. Pure: the same items and context always give the same outcome."""

    def __init__(self, rules: Mapping[str, Rule[Item, Context, Rejection]]) -> None:
        """rules: by name, in the order in which they stand."""
        self._rules = tuple(rules.items())

    @property
    def order(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._rules)

    def ordered(self, order: Sequence[str], place: str = "validation") -> Pipeline[Item, Context, Rejection]:
        """The same rules in another order. Raises `ConfigurationError` unless `order` names each of them once."""
        if problems := order_problems(order, self.order, place):
            raise ConfigurationError(problems)
        rules = dict(self._rules)
        return Pipeline({name: rules[name] for name in order})

    def sift(
        self, items: Sequence[Item], context: Context, without: Collection[str] = ()
    ) -> tuple[list[Item], list[Rejection]]:
        """What every rule accepts, in its order, and what any rejected, by rule. without: rules to pass over."""
        rejected: list[Rejection] = []
        for name, rule in self._rules:
            if name in without:
                continue
            items, out = rule(items, context, rejected)
            if out:
                rejected += out
        return list(items), rejected


def order_problems(order: Sequence[str], known: Sequence[str], place: str) -> list[str]:
    """What is wrong with a configured order of rules, in words; nothing where it names each of `known` once."""
    problems = [f"{place}: {name} is no rule; the rules are {', '.join(known)}" for name in order if name not in known]
    problems += [
        f"{place}: {name} is missing: every rule stands, where is yours to say" for name in known if name not in order
    ]
    twice = [name for name in dict.fromkeys(order) if order.count(name) > 1]
    return problems + [f"{place}: {name} is named twice" for name in twice]
