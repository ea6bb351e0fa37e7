"""How a client names a pair."""

from __future__ import annotations

import pytest

from bff.catalogue import Catalogue
from bff.errors import InvalidPairError, UnknownPairError
from tests.support.bff import BTC, ETH, MAJORS

CATALOGUE = Catalogue([MAJORS])


@pytest.mark.parametrize("slug", ["ETH-USD", "eth-usd", "Eth-uSd"])
def test_a_slug_finds_its_feed_in_any_case(slug):
    found = CATALOGUE.find(slug)
    assert (found.pair, found.index, found.group.name) == (ETH, 1, "majors")


def test_stale_is_a_heartbeat_and_the_contracts_limit_of_age():
    assert CATALOGUE.find("BTC-USD").stale_after_ms == 60_000 + 60_000


def test_an_unknown_pair_names_the_known_ones():
    with pytest.raises(UnknownPairError) as caught:
        CATALOGUE.find("XRP-USD")
    assert caught.value.known == (BTC, ETH, "TON/USD")
    assert str(caught.value) == "XRP/USD is not published here; known: BTC/USD, ETH/USD, TON/USD"


@pytest.mark.parametrize(
    "slug", ["", "BTC", "BTC-", "-USD", "BTC-USD-EUR", "BTC/USD", "BTC-BTC", "B-USD", "BTC USD", "₿-USD"]
)
def test_what_is_no_pair_is_refused(slug):
    with pytest.raises(InvalidPairError):
        CATALOGUE.find(slug)
