"""Every line says which mode it speaks of, and none tells a secret."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator

from core.logs import configure_logging, get_logger
from core.types import Mode


@contextlib.contextmanager
def logging_to_memory(style: str, mode: str) -> Iterator[io.StringIO]:
    """What goes to standard error; afterwards the root logger is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with contextlib.redirect_stderr(io.StringIO()) as written:
        configure_logging("info", style, mode)
        try:
            yield written
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)


def test_our_lines_carry_service_mode_and_context() -> None:
    with logging_to_memory("json", "live") as stderr:
        get_logger("bff", Mode.TEST).info("asked", pair="BTC/USD")
    line = json.loads(stderr.getvalue())
    assert (line["service"], line["mode"], line["event"], line["pair"]) == ("bff", "test", "asked", "BTC/USD")
    assert line["timestamp"].endswith("Z")


def test_other_libraries_lines_carry_the_mode_too() -> None:
    with logging_to_memory("json", "live") as stderr:
        logging.getLogger("somebody").warning("spoke")
    line = json.loads(stderr.getvalue())
    assert (line["mode"], line["event"], line["level"]) == ("live", "spoke", "warning")


def test_secrets_are_blotted_out() -> None:
    with logging_to_memory("json", "live") as stderr:
        get_logger("x", Mode.LIVE).info("started", submit_key="0xabc", token="t", authorization="Bearer t", keys=4)
    line = json.loads(stderr.getvalue())
    assert (line["submit_key"], line["token"], line["authorization"], line["keys"]) == ("***", "***", "***", 4)


def _fail_with(password: str) -> None:
    raise ValueError(f"broken with {len(password)} letters")


def test_a_traceback_shows_no_local_variables() -> None:
    with logging_to_memory("console", "test") as stderr:
        try:
            _fail_with("".join(["hun", "ter2"]))
        except ValueError:
            get_logger("x", Mode.TEST).exception("failed")
    assert "ValueError: broken with 7 letters" in stderr.getvalue()
    assert "hunter2" not in stderr.getvalue()
