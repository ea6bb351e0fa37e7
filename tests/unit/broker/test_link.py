"""What of a RabbitMQ connection needs no server: how a URL is shown, how long to wait before the next attempt."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.link import BACKOFF_CAP_S, backoff_s, shown


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("amqp://guest:secret@rabbit:5673/prices", "amqp://guest@rabbit:5673/prices"),
        ("amqp://rabbit", "amqp://rabbit:5672"),
        ("amqps://user:secret@rabbit/", "amqps://user@rabbit:5671/"),
        ("amqp://user:secret@rabbit/?heartbeat=3", "amqp://user@rabbit:5672/"),
        ("amqp://user:sec/ret@rabbit/", "(not a URL)"),
        ("user:secret", "(not a URL)"),
        ("", "(not a URL)"),
    ],
)
def test_a_url_is_shown_without_its_password(url, text):
    assert shown(url) == text


@given(
    st.text(min_size=8, alphabet=st.characters(categories=["L"])), st.sampled_from([":", "@", "/", "?", "#", "%", ""])
)
def test_no_password_is_ever_shown(secret, odd):
    assert secret not in shown(f"amqp://user:{odd}{secret}@rabbit:5672/")


@given(st.integers(0, 10_000), st.integers())
def test_backoff_is_jittered_doubling_and_capped(failures, seed):
    wait = backoff_s(random.Random(seed), failures)
    assert 0 <= wait <= min(BACKOFF_CAP_S, 0.1 * 2**failures if failures < 20 else BACKOFF_CAP_S)
