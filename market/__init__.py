"""Market data: ticks in, a window of the last minutes, minutes out, prices and statistics over HTTP.

A tick's way: `market.ingest` (a source's queue, its workers, the collector) → `market.window` (the last minutes) and
`market.minutes` (one row a minute, pair and exchange) → `market.statistics` and `market.api`.
"""
