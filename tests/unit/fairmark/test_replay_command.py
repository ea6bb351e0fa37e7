"""`fairmark replay` as it is called."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from core.errors import ConfigurationError
from fairmark.cli import ask, replaying  # noqa: F401 - importing registers the commands; of one alone no name is asked
from fairmark.cli.app import app
from fairmark.replay.errors import BadRowError, ReplayError

CONFIG = Path(__file__).resolve().parents[3] / "fairmark.toml"
HEAD = "time,source,pair,price,volume\n"
LINES = "".join(
    f"2024-03-13T11:10:{second:02d}Z,{source},BTC/USD,{73_000 + second + index},1\n"
    for second in range(10, 13)
    for index, source in enumerate(("kraken", "gemini", "bitstamp", "okx"))
)


def replay(*arguments: str, config: Path = CONFIG) -> Result:
    return CliRunner().invoke(app, ["replay", *arguments, "--config", str(config)], catch_exceptions=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_answers_go_to_standard_output_and_the_summary_to_standard_error(folder: Path) -> None:
    (folder / "day.csv").write_text(HEAD + LINES)
    done = replay("day.csv", "--feed", "btc-usd", "--reference", "okx:BTC/USD", "--exclude-reference")
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        "time,feed,price,state,sources\n"
        "2024-03-13T11:10:10.000Z,BTC/USD,73011.00000000,ok,3\n"
        "2024-03-13T11:10:11.000Z,BTC/USD,73012.00000000,ok,3\n"
        "2024-03-13T11:10:12.000Z,BTC/USD,73013.00000000,ok,3\n"
    )
    assert "BTC/USD: 3 answers: 3 ok, 0 degraded, 0 unavailable" in done.stderr
    assert "error in bps against the reference: p50 0.27, p99 0.27, max 0.27, over 3 answers" in done.stderr
    assert "12 quotes in" in done.stderr


def test_rejected_quotes_are_written_with_their_reasons(folder: Path) -> None:
    (folder / "day.csv.gz").write_bytes(
        gzip.compress((HEAD + LINES + "2024-03-13T11:10:12Z,luno,BTC/USD,73005,0\n").encode())
    )
    done = replay("day.csv.gz", "--feed", "BTC/USD", "-o", "answers.csv")
    assert (done.exit_code, done.stdout) == (0, "")
    with (folder / "day.rejected.csv").open(newline="") as file:
        [rejected] = list(csv.DictReader(file))
    assert rejected == {
        "time": "2024-03-13T11:10:12.000Z",
        "feed": "BTC/USD",
        "source": "luno",
        "pair": "BTC/USD",
        "price": "73005",
        "code": "not_traded",
        "detail": "the source says that nothing was traded",
    }
    assert len((folder / "answers.csv").read_text().splitlines()) == 4
    assert "rejected 1 of luno BTC/USD: not_traded" in done.stderr


def test_the_rules_are_the_configured_feeds_and_can_be_tried_otherwise(folder: Path) -> None:
    (folder / "day.csv").write_text(HEAD + LINES)
    wanted = replay("day.csv", "--feed", "BTC/USD", "--set", "wanted_sources=5", "--every", "2s")
    assert [line.split(",")[3:] for line in wanted.stdout.splitlines()[1:]] == [["degraded", "4"]] * 2
    least = replay("day.csv", "--feed", "BTC/USD", "--set", "min_sources=5", "--set", "wanted_sources=5")
    assert {line.split(",")[2] for line in least.stdout.splitlines()[1:]} == {""}
    low = replay("day.csv", "--feed", "BTC/USD", "--set", "max_price=2000")
    assert {line.split(",")[3] for line in low.stdout.splitlines()[1:]} == {"unavailable"}


def test_a_rule_that_is_none_is_refused_by_name(folder: Path) -> None:
    (folder / "day.csv").write_text(HEAD + LINES)
    done = replay("day.csv", "--feed", "BTC/USD", "--set", "max_jumps=3")
    assert isinstance(done.exception, ConfigurationError)
    assert "max_jumps" in str(done.exception)


def test_a_pair_that_is_no_feed_yet_has_a_feeds_default_rules_and_says_so(folder: Path) -> None:
    rows = "".join(f"1710328245,{source},BTC/USDC,73000,1\n" for source in ("kraken", "gemini", "binance"))
    (folder / "new.csv").write_text(HEAD + rows)
    done = replay("new.csv", "--feed", "BTC/USDC")
    assert done.stdout.splitlines()[1] == "2024-03-13T11:10:45.000Z,BTC/USDC,73000.00000000,ok,3"
    assert "BTC/USDC is no feed of" in done.stderr


def test_a_bad_row_ends_it_with_file_line_and_column(folder: Path) -> None:
    (folder / "day.csv").write_text(HEAD + LINES + "2024-03-13T11:10:13Z,kraken,BTC/USD,one,1\n")
    done = replay("day.csv", "--feed", "BTC/USD")
    assert isinstance(done.exception, BadRowError)
    assert str(done.exception) == "day.csv, line 14, column price: 'one' is no number"


def test_a_feed_that_the_file_has_no_quotes_of_is_named(folder: Path) -> None:
    (folder / "day.csv").write_text(HEAD + LINES)
    done = replay("day.csv", "--feed", "BTC/USD", "--feed", "ETH/USD")
    assert done.exit_code == 0, done.output
    assert "no quote of day.csv prices ETH: ETH/USD has no answers" in done.stderr
    assert "prices BTC" not in done.stderr


def test_memory_does_not_grow_with_the_file(folder: Path) -> None:
    def lines(count: int) -> Iterator[str]:
        yield HEAD
        for number in range(count):
            source = ("kraken", "gemini", "bitstamp", "okx", "wrong")[number % 5]
            price = 73_000 + number % 97 + (9_000 if source == "wrong" else 0)
            yield f"{1_710_328_245 + number // 1000}.{number % 1000:03d},{source},BTC/USD,{price},1\n"

    def most_mib(count: int) -> float:
        with gzip.open(folder / "day.csv.gz", "wt") as file:
            file.writelines(lines(count))
        command = ["replay", "day.csv.gz", "--feed", "BTC/USD", "--reference", "okx:BTC/USD", "--out", "answers.csv"]
        process = subprocess.Popen([sys.executable, "-m", "fairmark", *command, "--config", CONFIG], cwd=folder)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return used.ru_maxrss / 1024

    # kept rows would take 30 MiB
    assert most_mib(220_000) - most_mib(20_000) < 10


@pytest.mark.parametrize(
    "arguments",
    [
        ("--out", "day.csv"),
        ("--out", "./day.csv"),
        ("--out", "link.csv"),
        ("--rejected", "day.csv"),
        ("--out", "found.csv", "--rejected", "found.csv"),
    ],
)
def test_neither_the_history_nor_a_finding_is_written_over(folder: Path, arguments: tuple[str, ...]) -> None:
    (folder / "day.csv").write_text(HEAD + LINES)
    (folder / "link.csv").symlink_to("day.csv")
    done = replay("day.csv", "--feed", "BTC/USD", *arguments)
    assert (done.exit_code, "name another" in done.stderr) == (2, True), done.stderr
    assert (folder / "day.csv").read_text() == HEAD + LINES


def test_a_full_disk_is_an_error_and_no_stack_trace(folder: Path) -> None:
    (folder / "day.csv").write_text(HEAD + LINES)
    done = replay("day.csv", "--feed", "BTC/USD", "--out", "/dev/full")
    assert isinstance(done.exception, ReplayError)
    assert str(done.exception) == "what was found: cannot be written: No space left on device"


def test_a_feed_or_a_reference_that_is_named_twice_counts_once(folder: Path) -> None:
    (folder / "day.csv").write_text(HEAD + LINES)
    twice = ("--reference", "kraken:BTC/USD", "--reference", "kraken:btc-usd", "--reference", "okx:BTC/USD")
    done = replay("day.csv", "--feed", "BTC/USD", "--feed", "btc-usd", *twice, "--reference", "bitstamp:BTC/USD")
    assert len(done.stdout.splitlines()) == 4
    # the answer is 73011, and so 0.14 bps from bitstamp's 73012; with kraken twice it would be level with gemini's
    assert "p50 0.14, p99 0.14" in done.stderr


def test_a_reference_that_the_file_has_no_quotes_of_is_named(folder: Path) -> None:
    (folder / "day.csv").write_text(HEAD + LINES)
    done = replay("day.csv", "--feed", "BTC/USD", "--reference", "Kraken:BTC/USD", "--reference", "okx:BTC/USD")
    assert "no quote of day.csv is of the reference Kraken:BTC/USD\n" in done.stderr
    assert "reference okx" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--every", "0s"), "no duration"),
        (("--every", "fast"), "no duration"),
        (("--reference", "kraken"), "no reference"),
        (("--reference", "kraken:BTC"), "no reference"),
        (("--set", "wanted_sources"), "NAME=VALUE"),
    ],
)
def test_a_wrong_call_is_refused(folder: Path, arguments: tuple[str, ...], says: str) -> None:
    (folder / "day.csv").write_text(HEAD + LINES)
    done = replay("day.csv", "--feed", "BTC/USD", *arguments)
    assert done.exit_code == 2
    assert says in done.stderr


def trades_and_books(recordings: Path) -> Iterator[str]:
    """Six minutes of Binance: each trade as a quote of `binance`, each book's mid as one of `book`."""
    with gzip.open(recordings / "binance_spot_trades" / "btcusdt_20240808.gz", "rt") as file:
        for line in file:
            ns, _, message = line.partition(" ")
            told = json.loads(message).get("data", {})
            at = f"{int(ns) // 1_000_000 / 1000:.3f}"
            if told.get("e") == "trade":
                yield f"{at},binance,BTC/USDT,{told['p']},{told['q']}\n"
            elif "b" in told and "u" in told and not isinstance(told["b"], list):
                yield f"{at},book,BTC/USDT,{(Decimal(told['b']) + Decimal(told['a'])) / 2},\n"


@pytest.mark.needs_recordings
def test_six_recorded_minutes_of_trades_stay_near_the_recorded_books(folder: Path, recordings: Path) -> None:
    (folder / "binance.csv").write_text(HEAD + "".join(trades_and_books(recordings)))
    done = replay(
        "binance.csv",
        *("--feed", "BTC/USDT", "--reference", "book:BTC/USDT", "--exclude-reference", "--rejected", "refused.csv"),
        *("--set", "min_sources=1", "--set", "wanted_sources=1"),
    )
    assert done.exit_code == 0, done.output
    answers = list(csv.DictReader(done.stdout.splitlines()))
    assert len(answers) > 300
    assert {each["state"] for each in answers} == {"ok"}
    assert {55_000 < Decimal(each["price"]) < 65_000 for each in answers} == {True}
    errors = done.stderr.split("reference: ")[1].split(",")
    assert Decimal(errors[0].removeprefix("p50 ")) < 1
    assert Decimal(errors[2].removeprefix(" max ")) < 20
