"""Documents that are made from definitions are never behind them."""

from pathlib import Path

from fairmark.settings_table import settings_table

PROJECT = Path(__file__).resolve().parents[3]


def test_the_settings_table_is_up_to_date() -> None:
    committed = (PROJECT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert committed == settings_table(), "run `fairmark config docs > docs/settings.md`"
