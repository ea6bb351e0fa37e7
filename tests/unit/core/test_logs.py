"""Every line says which mode it speaks of, and none tells a secret."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from core.logs import configure_logging, get_logger
from core.types import Mode


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Standard error, and the root logger as it was before."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)


def test_our_lines_carry_service_mode_and_context(stderr: io.StringIO) -> None:
    configure_logging("info", "json", "live")
    get_logger("bff", Mode.TEST).info("asked", pair="BTC/USD")
    line = json.loads(stderr.getvalue())
    assert (line["service"], line["mode"], line["event"], line["pair"]) == ("bff", "test", "asked", "BTC/USD")
    assert line["timestamp"].endswith("Z")


def test_other_libraries_lines_carry_the_mode_too(stderr: io.StringIO) -> None:
    configure_logging("info", "json", "live")
    logging.getLogger("somebody").warning("spoke")
    line = json.loads(stderr.getvalue())
    assert (line["mode"], line["event"], line["level"]) == ("live", "spoke", "warning")


def test_secrets_are_blotted_out(stderr: io.StringIO) -> None:
    configure_logging("info", "json", "live")
    get_logger("x", Mode.LIVE).info("started", submit_key="0xabc", token="t", authorization="Bearer t", keys=4)
    line = json.loads(stderr.getvalue())
    assert (line["submit_key"], line["token"], line["authorization"], line["keys"]) == ("***", "***", "***", 4)


def _fail_with(password: str) -> None:
    raise ValueError(f"broken with {len(password)} letters")


def test_a_traceback_shows_no_local_variables(stderr: io.StringIO) -> None:
    configure_logging("info", "console", "test")
    try:
        _fail_with("".join(["hun", "ter2"]))
    except ValueError:
        get_logger("x", Mode.TEST).exception("failed")
    assert "ValueError: broken with 7 letters" in stderr.getvalue()
    assert "hunter2" not in stderr.getvalue()
