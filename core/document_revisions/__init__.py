"""Revisions of a table of documents, whatever its name, applied by `core.migrations.upgrade` when it is opened.

A revision stands as it is once it is released: a change of the table is a further one.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
