"""The command line's own small rules."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from core.types import FailureCode, Mode, Pair, Quote, SourceFailure
from fairmark.cli import ask, banner
from fairmark.cli.app import DEFAULT_CONFIG, UNLIMITED, output
from fairmark.cli.source_table import LONGEST_ERROR, source_table
from fairmark.probe import Answered

PROJECT = Path(__file__).resolve().parents[3]
DOGE = Pair("DOGE/USDT")
GOOD = Answered(
    outcome=Quote(
        pair=DOGE,
        source="coinpaprika",
        price=Decimal("0.15008120000000"),
        bid=Decimal("0.15008000000000"),
        ask=Decimal("0.15009000000000"),
        received_ms=65_300,
        source_time_ms=5_000,
    ),
    latency_ms=1234.4,
)
BAD = Answered(
    outcome=SourceFailure(pair=DOGE, source="kraken", code=FailureCode.CONNECTION, detail="[Errno -3]\n" + "x" * 300),
    latency_ms=5.2,
)


class TestWhereToAsk:
    def test_as_told(self) -> None:
        assert ask._base("http://somewhere:1/", Path("missing.toml")) == "http://somewhere:1"

    def test_without_a_configuration_where_fairmark_is_by_default(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert ask._base(None, DEFAULT_CONFIG) == "http://127.0.0.1:8000"

    def test_as_configured(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("FAIRMARK_BFF__PORT", "9000")
        (tmp_path / "fairmark.toml").write_text((PROJECT / "fairmark.toml").read_text())
        assert ask._base(None, DEFAULT_CONFIG) == "http://127.0.0.1:9000"


def test_the_banner_names_a_command_that_can_be_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "fairmark"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert banner.command() == "fairmark"
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    assert banner.command() == os.path.join(".venv", "bin", "fairmark")  # noqa: PTH118
    monkeypatch.chdir("/")
    assert (Path("/") / banner.command()) == tmp_path / ".venv" / "bin" / "fairmark"


@pytest.mark.parametrize("arguments", [("version",), ("price", "nonsense"), ("explain", "x"), ("config", "check")])
def test_a_small_question_does_not_load_the_services(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from fairmark.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'web3', 'sqlalchemy', 'pika', 'fairmark.assemble'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


class TestSourceTable:
    def rows(self, width: int) -> list[str]:
        console = Console(width=width, color_system=None, file=io.StringIO())
        with console.capture() as caught:
            console.print(source_table([GOOD, BAD], Mode.LIVE, width))
        return [" ".join(line.split()) for line in caught.get().splitlines()]

    def test_at_80_columns_no_number_is_broken_and_the_error_is_folded(self) -> None:
        rows = self.rows(80)
        assert "source pair price age latency error" in rows
        assert "coinpaprika DOGE/USDT 0.15008120000000 60.3 s 1234 ms" in rows
        assert any(row.startswith("kraken DOGE/USDT 5 ms connection") for row in rows)
        assert len(rows) < 20

    def test_a_pipe_gets_one_line_each_with_bid_ask_and_a_short_error(self) -> None:
        rows = self.rows(UNLIMITED)
        assert "coinpaprika DOGE/USDT 0.15008120000000 0.15008000000000 0.15009000000000 60.3 s 1234 ms" in rows
        (bad,) = [row for row in rows if row.startswith("kraken")]
        detail = bad.removeprefix("kraken DOGE/USDT 5 ms connection ")
        assert detail.startswith("[Errno -3] xxx")
        assert (len(detail), detail[-1]) == (LONGEST_ERROR, "…")


def test_an_output_that_is_no_terminal_has_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert output().width == UNLIMITED


LISTED = "/v1/groups/majors/attempts?limit=50"
FAILED = {
    "id": "f" * 32,
    "cause": "heartbeat",
    "state": "failed",
    "code": "no_quorum",
    "detail": "1 valid reports, 3 are needed",
    "started_ms": 1_710_328_275_000,
    "round": None,
}


@pytest.fixture
def service() -> Iterator[str]:
    """A BFF with two groups: one attempt of `majors` made its round 7, the next failed; `others` has had no round."""
    own = {"index": 0, "aggregate": "median", "trust": {}}
    feeds = [{"pair": "BTC/USD", "group": "majors", **own}, {"pair": "SOL/USD", "group": "others", **own}]
    record = {
        "id": "0" * 32,
        "group": "majors",
        "cause": "request",
        "mode": "test",
        "state": "accepted",
        "code": None,
        "detail": "",
        "moment": 1_710_328_245_000,
        "started_ms": 1_710_328_245_000,
        "round": 7,
        "block": 9,
        "gas_used": 210_000,
        "transaction": "0x12",
        "answers": {"BTC/USD": {"price": "60006.0", "contributors": 3, "spread_bps": 1, "reporter": "0xaa"}},
        "feeds_without_answer": {},
        "reports": [],
        "refusals": [],
        "timings_ms": {},
    }
    unset = {"type": "about:blank", "title": "No price yet", "status": 503, "detail": "never", "code": "price_unset"}
    replies: dict[str, object] = {
        "/v1/feeds": {"mode": "test", "chain_id": 31337, "contract": f"0x{'c' * 40}", "feeds": feeds},
        f"/v1/attempts/{'0' * 32}": record,
        "/v1/groups/majors/rounds/7": record,
        "/v1/prices/BTC-USD": {"round": 7},
        LISTED: [FAILED, record],
        "/v1/groups/others/attempts?limit=50": [],
    }

    class Replies(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(replies.get(self.path, unset)).encode()
            self.send_response(200 if self.path in replies else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing to standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Replies) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_attempt_is_explained_for_feeds_of_its_own_group_only(service: str) -> None:
    with pytest.raises(ask.AskError, match="is of group majors; SOL/USD is of others"):
        ask.explain("sol-usd", attempt="0" * 32, url=service)


@pytest.mark.parametrize(
    "named",
    [{"round_": 1, "attempt": "0" * 32}, {"round_": 1, "attempts": True}, {"attempt": "0" * 32, "attempts": True}],
)
def test_one_attempt_or_the_list_is_explained_at_a_time(service: str, named: dict[str, Any]) -> None:
    with pytest.raises(typer.BadParameter, match="one of --round, --attempt and --attempts"):
        ask.explain("sol-usd", url=service, **named)


class TestWhatFailedSinceTheRound:
    def test_it_is_told_after_the_tree(self, service: str, capsys: pytest.CaptureFixture[str]) -> None:
        ask.explain("btc-usd", url=service)
        shown = capsys.readouterr().out.splitlines()
        assert shown[0].startswith("BTC/USD 60006.0 — lower median of 3 reporters")
        assert shown[-2:] == [
            "since round 7: 1 attempt failed, at 2024-03-13T11:11:15.000Z: no_quorum, 1 valid reports, 3 are needed",
            f"  fairmark explain BTC/USD --attempt {'f' * 32}",
        ]

    @pytest.mark.parametrize("named", [{"round_": 7}, {"attempt": "0" * 32}])
    def test_not_where_a_round_or_an_attempt_is_named(
        self, service: str, capsys: pytest.CaptureFixture[str], named: dict[str, Any]
    ) -> None:
        ask.explain("btc-usd", url=service, **named)
        shown = capsys.readouterr().out
        assert "round 7 of majors" in shown
        assert "since round" not in shown
        ask.explain("btc-usd", url=service, json=True, **named)
        assert "failed_since" not in json.loads(capsys.readouterr().out)

    def test_as_json_it_stands_beside_the_record(self, service: str, capsys: pytest.CaptureFixture[str]) -> None:
        ask.explain("btc-usd", url=service, json=True)
        shown = json.loads(capsys.readouterr().out)
        assert (shown["id"], shown["failed_since"]) == ("0" * 32, [FAILED])


def test_the_newest_attempts_are_listed(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    ask.explain("btc-usd", attempts=True, url=service)
    assert capsys.readouterr().out.splitlines() == [
        f"{'f' * 32}  2024-03-13T11:11:15.000Z  heartbeat  failed no_quorum",
        f"{'0' * 32}  2024-03-13T11:10:45.000Z  request    accepted round 7",
    ]
    ask.explain("btc-usd", attempts=True, url=service, json=True)
    assert [one["id"] for one in json.loads(capsys.readouterr().out)] == ["f" * 32, "0" * 32]


def test_before_the_first_round_it_is_said_where_the_attempts_are(service: str) -> None:
    with pytest.raises(ask.AskError, match=r"\(price_unset\); `fairmark explain SOL/USD --attempts` lists"):
        ask.explain("sol-usd", url=service)
