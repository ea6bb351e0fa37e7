"""Which sources pass on others' prices, as the catalogue declares it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sources import CatalogueError, load_catalogue
from sources.entries import CATALOGUE


def with_relays(folder: Path, relays: str) -> Path:
    for name in ("kraken", "gemini"):
        shutil.copy(CATALOGUE / f"{name}.toml", folder)
    path = folder / "gemini.toml"
    path.write_text(path.read_text().replace("[ticker]", f"relays = {relays}\n[ticker]", 1))
    return folder


def test_a_relay_names_the_sources_it_passes_on(tmp_path: Path) -> None:
    assert load_catalogue(with_relays(tmp_path, '["kraken"]'))["gemini"].relays == ["kraken"]


@pytest.mark.parametrize(("relays", "whom"), [('["krakken"]', "krakken"), ('["gemini"]', "gemini")])
def test_what_is_no_other_source_is_a_mistake(tmp_path: Path, relays: str, whom: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(with_relays(tmp_path, relays))
    assert caught.value.problems == [f"gemini.toml: relays: {whom!r} is no other source of the catalogue"]
