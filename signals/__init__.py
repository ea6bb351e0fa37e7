"""Signals: numbers that are no prices, from reporters whose silence is an error.

A generator serves a number that it makes anew in each period (`generator`). A strategy pulls such signals and submits a
decision, signed, once in each period (`strategy`, `producer`). The trader keeps the register, and publishes the median
of the strategies' decisions, or nothing (`registry`, `trader`). The rules of silence are `core.reporting`'s.
"""
