"""What is fast, measured: `python -m benchmarks` runs all, `python -m benchmarks fetch`, `refresh` or `chain` one.

Each measures its sides in one run on the same machine, on the loopback only, and ends by itself. Results that were
written down stand in docs/benchmarks.md.
"""
