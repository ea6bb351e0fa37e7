"""The tables of the market's database, revision by revision: see `core.migrations`."""
