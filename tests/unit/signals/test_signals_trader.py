"""The trader over its own interface: medians of slots, errors that name the reporter, and what ends them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.clock import rfc3339
from core.errors import CyclicFeedsError
from core.reporting import Policy, Schedule, Trouble, TroubleCode
from core.signals import SignalRange
from signals.registry import SignalFeed
from tests.support.signals import PERIOD_MS, START_MS, Desk, Speaker, feed

KEYS = ["0x" + f"{n:064x}" for n in (11, 12, 13)]
STEP = PERIOD_MS


async def strategies(desk: Desk, *names: str) -> list[Speaker]:
    speakers = [Speaker(desk, name, key) for name, key in zip(names, KEYS, strict=False)]
    for one in speakers:
        assert (await one.register()).status_code == 200
    return speakers


async def both_produce(one: Speaker, other: Speaker, values: tuple[str, str] = ("0.5", "-0.25")) -> None:
    for speaker, value in zip((one, other), values, strict=True):
        assert (await speaker.produce(value)).status_code == 200


async def test_the_answer_is_the_lower_median_of_the_slot_and_may_be_negative() -> None:
    desk = Desk()
    alpha, beta = await strategies(desk, "alpha", "beta")
    await alpha.produce("0.1")
    assert (await desk.signal())["code"] == "signal_unset"  # beta is awaited
    desk.pass_ms(STEP)
    await both_produce(alpha, beta)
    found = await desk.signal()
    assert (found["state"], found["value"]) == ("ok", "-0.2500")
    assert found["of"] == rfc3339(START_MS + STEP)
    assert found["contributors"] == ["alpha", "beta"]


@pytest.mark.parametrize(
    ("value", "shown"), [("0", "0.00000000"), ("-0.000000001", "0.00000000"), ("-0.00000012", "-0.00000012")]
)
async def test_a_value_is_shown_in_plain_digits_however_small(value: str, shown: str) -> None:
    desk = Desk(feed(range=SignalRange(decimals=8)))
    (alpha,) = await strategies(desk, "alpha")
    await alpha.produce(value)
    assert (await desk.signal())["value"] == shown
    assert [one["value"] for one in (await desk.http.get("/v1/reporters")).json()] == [shown]
    asked = {"jsonrpc": "2.0", "id": 1, "method": "signal_value"}
    assert (await desk.http.post("/", json=asked)).json()["result"]["value"] == shown


async def test_an_answer_waits_for_every_leg_and_never_mixes_two_slots() -> None:
    desk = Desk()
    alpha, beta = await strategies(desk, "alpha", "beta")
    desk.pass_ms(STEP)
    await both_produce(alpha, beta)
    desk.pass_ms(STEP)
    await alpha.produce("0.9")
    found = await desk.signal()
    assert (found["value"], found["of"]) == ("-0.2500", rfc3339(START_MS + STEP))
    await beta.produce("0.8")
    found = await desk.signal()
    assert (found["value"], found["of"]) == ("0.8000", rfc3339(START_MS + 2 * STEP))


async def test_silence_is_an_error_within_two_periods_until_the_reporter_is_taken_off_or_returns() -> None:
    desk = Desk()
    alpha, beta = await strategies(desk, "alpha", "beta")
    desk.pass_ms(STEP)
    await both_produce(alpha, beta)
    heard = desk.clock.now_ms()
    desk.pass_ms(STEP)
    await alpha.produce("0.9")
    desk.pass_ms(STEP // 2)
    found = await desk.signal()
    assert (found["status"], found["code"], found["value"]) == (503, "feed_in_error", None)
    (trouble,) = found["troubles"]
    assert (trouble["reporter"], trouble["code"], trouble["since"]) == ("beta", "reporter_stopped", rfc3339(heard))
    assert await desk.states() == {"alpha": "running", "beta": "stopped"}

    assert (await desk.by_hand("deregister", "beta")).json()["state"] == "deregistered"
    found = await desk.signal()
    assert (found["state"], found["value"], found["contributors"]) == ("ok", "0.9000", ["alpha"])

    beta.instance = "second"
    assert (await beta.register()).json()["state"] == "waiting"
    desk.pass_ms(STEP // 2)
    await both_produce(alpha, beta, ("0.1", "0.2"))
    assert (await desk.signal())["value"] == "0.1000"


async def test_a_return_without_deregistration_ends_the_error_with_its_first_production_not_before() -> None:
    desk = Desk()
    alpha, beta = await strategies(desk, "alpha", "beta")
    desk.pass_ms(STEP)
    await both_produce(alpha, beta)
    desk.pass_ms(2 * STEP)
    beta.instance = "second"
    await alpha.produce("0.3")
    assert (await beta.register()).json()["state"] == "stopped"
    assert (await desk.signal())["code"] == "feed_in_error"
    await beta.produce("0.4")
    assert (await desk.signal())["value"] == "0.3000"


async def test_who_leaves_counts_no_more_and_nobody_left_is_an_error() -> None:
    desk = Desk()
    alpha, beta = await strategies(desk, "alpha", "beta")
    desk.pass_ms(STEP)
    await both_produce(alpha, beta)
    assert (await beta.leave()).json()["state"] == "deregistered"
    assert (await desk.signal())["state"] == "ok"
    left_ms = desk.clock.now_ms()
    await alpha.leave()
    (trouble,) = (await desk.signal())["troubles"]
    assert (trouble["reporter"], trouble["code"], trouble["since"]) == ("decision", "no_quorum", rfc3339(left_ms))


async def test_a_reporters_own_trouble_is_the_feeds_and_says_where_it_began() -> None:
    desk = Desk()
    alpha, beta = await strategies(desk, "alpha", "beta")
    desk.pass_ms(STEP)
    await both_produce(alpha, beta)
    desk.pass_ms(STEP)
    dead = Trouble(who="gen-1", code=TroubleCode.UNREACHABLE, since_ms=START_MS + 7, detail="refused")
    await alpha.produce("0.5")
    await beta.produce(trouble=dead)
    found = await desk.signal()
    assert (found["code"], found["value"]) == ("feed_in_error", None)
    (trouble,) = found["troubles"]
    assert (trouble["reporter"], trouble["via"], trouble["since"]) == ("gen-1", ["beta"], rfc3339(START_MS + 7))
    desk.pass_ms(STEP)
    await both_produce(alpha, beta, ("0.6", "0.7"))
    assert (await desk.signal())["value"] == "0.6000"


async def test_old_data_is_an_error_although_its_reporter_speaks() -> None:
    desk = Desk()
    (alpha,) = await strategies(desk, "alpha")
    old = START_MS - 2 * STEP
    desk.pass_ms(STEP)
    await alpha.produce("0.5", data_ms=old)
    assert (await desk.signal())["state"] == "ok"
    desk.pass_ms(50)
    found = await desk.signal()
    one = found["troubles"][0]
    assert (one["reporter"], one["code"], one["since"]) == ("alpha", "data_outdated", rfc3339(old))


async def test_under_quorum_the_feed_goes_on_and_says_who_is_missing() -> None:
    desk = Desk(feed(policy=Policy.QUORUM, needed=1))
    alpha, beta = await strategies(desk, "alpha", "beta")
    desk.pass_ms(STEP)
    await both_produce(alpha, beta)
    desk.pass_ms(STEP)
    await alpha.produce("0.9")
    desk.pass_ms(STEP // 2)
    found = await desk.signal()
    assert (found["state"], found["value"], found["contributors"]) == ("ok", "0.9000", ["alpha"])
    assert [one["reporter"] for one in found["troubles"]] == ["beta"]
    desk.pass_ms(STEP)
    assert (await desk.signal())["troubles"][-1]["code"] == "no_quorum"


async def test_feeds_follow_feeds_in_their_values_and_in_their_errors() -> None:
    desk = Desk(feed("decision"), feed("portfolio", feeds=("decision",)))
    alpha, beta = await strategies(desk, "alpha", "beta")
    desk.pass_ms(STEP)
    await both_produce(alpha, beta)
    assert (await desk.signal("portfolio"))["value"] == "-0.2500"
    desk.pass_ms(STEP + STEP // 2)
    (first, *_) = (await desk.signal("portfolio"))["troubles"]
    assert first["via"] == ["decision"]
    assert first["reporter"] in ("alpha", "beta")


def test_feeds_in_a_circle_are_refused_at_start() -> None:
    with pytest.raises(CyclicFeedsError, match="decision"):
        Desk(feed("decision", feeds=("portfolio",)), feed("portfolio", feeds=("decision",)))


async def restarted(desk: Desk, *feeds: SignalFeed) -> Desk:
    """Another trader over the same documents."""
    await desk.service.trader.keep()
    again = Desk(*feeds, documents=desk.documents, clock=desk.clock)
    await again.service.trader.load()
    await again.service.registry.load()
    return again


async def test_a_restart_serves_what_was_published_last_under_the_same_rules() -> None:
    desk = Desk()
    alpha, beta = await strategies(desk, "alpha", "beta")
    desk.pass_ms(STEP)
    await both_produce(alpha, beta)
    desk.pass_ms(STEP)  # a new slot, for which nobody has produced
    before = await desk.signal()
    again = await restarted(desk)
    found = await again.signal()
    assert (found["state"], found["value"], found["of"]) == ("ok", "-0.2500", rfc3339(START_MS + STEP))
    assert {**found, "since": None} == {**before, "since": None}
    for speaker in (alpha, beta):
        speaker.desk = again
    await alpha.produce("0.9")
    assert (await again.signal())["of"] == rfc3339(START_MS + STEP)
    await beta.produce("0.8")
    assert (await again.signal())["value"] == "0.8000"
    again.pass_ms(2 * STEP)
    assert (await again.signal())["code"] == "feed_in_error"
    still = await restarted(again)
    assert ((await still.signal())["code"], (await still.signal())["value"]) == ("feed_in_error", None)


async def test_an_answer_that_fits_the_feed_no_more_is_forgotten() -> None:
    desk = Desk()
    (alpha,) = await strategies(desk, "alpha")
    await alpha.produce("-0.5")
    desk.pass_ms(STEP)
    narrow = SignalRange(decimals=4, minimum=Decimal(0), maximum=Decimal(1))
    assert (await (await restarted(desk)).signal())["value"] == "-0.5000"
    assert (await (await restarted(desk, feed(range=narrow))).signal())["code"] == "signal_unset"
    assert (await (await restarted(desk, feed(schedule=Schedule(7 * STEP)))).signal())["code"] == "signal_unset"
    desk.clock.advance(-3 * STEP)  # a clock that was ahead: else nothing would be published until it is there again
    assert (await (await restarted(desk)).signal())["code"] == "signal_unset"


async def test_a_restart_forgets_nobody() -> None:
    desk = Desk()
    alpha, beta = await strategies(desk, "alpha", "beta")
    desk.pass_ms(STEP)
    await both_produce(alpha, beta)
    await beta.leave()
    again = Desk(documents=desk.documents, clock=desk.clock)
    assert (await again.signal())["code"] == "store_unavailable"  # nobody knows yet who is missing
    await again.service.registry.load()
    again.pass_ms(2 * STEP)
    assert await again.states() == {"alpha": "stopped", "beta": "deregistered"}
    assert [one["reporter"] for one in (await again.signal())["troubles"]] == ["alpha", "decision"]
    alpha.desk = again
    await alpha.produce("0.75")
    assert (await again.signal())["value"] == "0.7500"


async def test_health_names_the_reporter_and_since_when() -> None:
    desk = Desk()
    await strategies(desk, "alpha")
    desk.pass_ms(2 * STEP)
    dependencies = (await desk.http.get("/health")).json()["dependencies"]
    assert dependencies["feeds"]["detail"] == (
        f"feed_in_error: decision: alpha: reporter_stopped since {rfc3339(START_MS)}"
    )
    assert 'fairmark_signal_feed_in_error{feed="decision"} 1.0' in (await desk.http.get("/metrics")).text


async def test_a_default_schedule_is_a_minute() -> None:
    assert Schedule().period_ms == 60_000
