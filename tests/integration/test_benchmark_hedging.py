"""The hedging benchmark measures what it says: every side in turns, and each gets the quotes that it wants."""

from __future__ import annotations

from benchmarks import hedging


def test_every_side_has_its_turns_and_gets_the_quotes_it_wants() -> None:
    found = hedging.measure(rounds=2, fetches=2)
    assert {scene: list(sides) for scene, sides in found.items()} == {
        "one of three is slow once in ten": ["without hedging", "with hedging"],
        "one of five never answers, four wanted": ["the four alone", "without hedging", "with hedging"],
    }
    for sides in found.values():
        for side in sides.values():
            assert [len(samples) for samples in side.rounds] == [2, 2]
            assert all(each >= 2 for each in side.requests)
