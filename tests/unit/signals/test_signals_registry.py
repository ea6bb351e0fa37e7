"""Who may say what to a trader: keys, times, ranges, circles."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.signals import PERIOD_MS, START_MS, Desk, Speaker, feed

KEY, OTHER = "0x" + "11" * 32, "0x" + "22" * 32


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
async def alpha(desk: Desk) -> Speaker:
    speaker = Speaker(desk, "alpha", KEY)
    assert (await speaker.register()).status_code == 200
    desk.pass_ms(PERIOD_MS)
    return speaker


async def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_registering_needs_the_token(desk: Desk) -> None:
    speaker = Speaker(desk, "alpha", KEY)
    assert await refused(await speaker.send(speaker.registration(), token="guess")) == (401, "unauthorized")
    assert await desk.states() == {}


async def test_producing_needs_the_key_and_no_token(alpha: Speaker) -> None:
    thief = Speaker(alpha.desk, "alpha", OTHER)
    assert await refused(await thief.produce("0.5")) == (403, "wrong_key")
    assert await refused(await thief.register(instance="thief")) == (403, "wrong_key")
    assert await refused(await alpha.send(alpha.production("0.5"), signature="0x00")) == (403, "wrong_key")
    assert (await alpha.send(alpha.production("0.5"), token="none")).status_code == 200


async def test_a_message_is_taken_once(alpha: Speaker) -> None:
    message = alpha.production("0.5")
    assert (await alpha.send(message)).status_code == 200
    assert await refused(await alpha.send(message)) == (409, "replayed")
    assert await refused(await alpha.produce("0.6")) == (409, "already_produced")
    assert await refused(await alpha.produce("0.6", at_ms=START_MS)) == (409, "replayed")
    assert await refused(await alpha.produce("0.6", at_ms=START_MS - 60_000)) == (422, "mismatched")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"to": "another"}, "mismatched"),
        ({"slot_ms": START_MS + 1}, "mismatched"),
        ({"slot_ms": START_MS + 3 * PERIOD_MS}, "mismatched"),
        ({"slot_ms": START_MS - PERIOD_MS}, "mismatched"),
        ({"data_ms": START_MS + 10 * PERIOD_MS}, "mismatched"),
        ({"feed": "nothing"}, "unknown_feed"),
        ({"name": "gamma"}, "unknown_reporter"),
    ],
)
async def test_a_production_that_does_not_fit_is_refused(alpha: Speaker, changes: dict[str, Any], code: str) -> None:
    assert (await refused(await alpha.produce("0.5", **changes)))[1] == code
    assert (await alpha.desk.states())["alpha"] == "waiting"


@pytest.mark.parametrize("value", ["1.0001", "-2"])
async def test_a_value_out_of_the_declared_range_is_refused(alpha: Speaker, value: str) -> None:
    assert await refused(await alpha.produce(value)) == (422, "mismatched")


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 1_000, b'{"type":"production/1"}'])
async def test_a_body_that_is_no_message_is_refused(alpha: Speaker, body: bytes) -> None:
    from signals.messages import digest

    headers = {"x-fairmark-signature": alpha.signer.sign(digest(body))}
    answer = await alpha.desk.http.post("/v1/reporters", content=body, headers=headers)
    assert await refused(answer) == (422, "message_refused")


async def test_another_period_and_a_circle_are_refused(desk: Desk) -> None:
    speaker = Speaker(desk, "alpha", KEY)
    assert await refused(await speaker.register(period_ms=2 * PERIOD_MS)) == (422, "mismatched")
    assert await refused(await speaker.register(depends=("gen", "trader/decision"))) == (409, "cyclic")
    assert await desk.states() == {}


async def test_a_configured_name_is_for_its_address_alone() -> None:
    desk = Desk(feed(addresses={"alpha": Speaker(Desk(), "alpha", KEY).signer.address}))
    assert await refused(await Speaker(desk, "alpha", OTHER).register()) == (403, "wrong_key")
    assert await refused(await Speaker(desk, "beta", OTHER).register()) == (403, "wrong_key")
    assert (await Speaker(desk, "alpha", KEY).register()).status_code == 200


async def test_who_is_taken_off_by_hand_stays_off_until_registered_by_hand_or_started_again(alpha: Speaker) -> None:
    desk = alpha.desk
    assert await refused(await desk.by_hand("deregister", "alpha", token="guess")) == (401, "unauthorized")
    assert await refused(await desk.by_hand("deregister", "nobody")) == (404, "unknown_reporter")
    assert (await desk.by_hand("deregister", "alpha")).status_code == 200
    assert await refused(await alpha.produce("0.5")) == (409, "reporter_deregistered")
    assert await refused(await alpha.register()) == (409, "reporter_deregistered")
    assert (await desk.by_hand("register", "alpha")).json()["state"] == "waiting"
    assert (await alpha.produce("0.5")).json()["state"] == "running"


async def test_whoever_is_taken_off_by_hand_is_put_back_by_none_of_its_instances(alpha: Speaker) -> None:
    assert (await alpha.register(instance="second")).status_code == 200
    assert (await alpha.desk.by_hand("deregister", "alpha")).json()["state"] == "deregistered"
    for instance in ("first", "second"):
        assert await refused(await alpha.register(instance=instance)) == (409, "reporter_deregistered")
    assert (await alpha.register(instance="third")).json()["state"] == "waiting"


async def test_an_instance_leaves_for_itself_alone(alpha: Speaker) -> None:
    assert (await alpha.produce("0.5")).status_code == 200
    alpha.instance = "second"
    await alpha.register()
    alpha.instance = "first"
    assert (await alpha.leave()).json()["state"] == "running"
    alpha.instance = "second"
    assert (await alpha.leave()).json()["state"] == "deregistered"
    assert await refused(await alpha.register()) == (409, "reporter_deregistered")
    assert (await alpha.register(instance="first")).json()["state"] == "waiting"
