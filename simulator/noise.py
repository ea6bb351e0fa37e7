"""Seeded randomness that can be read anywhere without being drawn in order: a pure function of its labels."""

from __future__ import annotations

from hashlib import blake2b

UNIT = 1 << 31
"""`noise` lies in [-UNIT, UNIT)."""


def noise(seed: int, *labels: str | int) -> int:
    """An integer, uniform in [-UNIT, UNIT), that depends on `seed` and `labels` and on nothing else."""
    text = "\x1f".join(map(str, (seed, *labels))).encode()
    return int.from_bytes(blake2b(text, digest_size=4).digest(), "big") - UNIT


def happens(probability: float, seed: int, *labels: str | int) -> bool:
    """Whether an event of this probability (0 to 1) takes place, decided by `seed` and `labels`."""
    return noise(seed, *labels) + UNIT < probability * 2 * UNIT
