"""A file of recorded quotes: what is read, and how a row that cannot be read is named."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import pytest

from core.types import Pair
from fairmark.replay.errors import BadRowError, ReplayError
from fairmark.replay.rows import Market, Row, rows

HEAD = "time,source,pair,price,volume"
AT = 1_710_328_245_390


def read(folder: Path, *lines: str, head: str = HEAD) -> list[Row]:
    path = folder / "quotes.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return list(rows(path))


@pytest.mark.parametrize(
    "time",
    [
        "2024-03-13T11:10:45.390Z",
        "2024-03-13T12:10:45.390+01:00",
        "2024-03-13 11:10:45.390",
        "2024-03-13T11:10:45.390999Z",
        "1710328245.390",
        "1710328245.3909",
        "1.710328245390E9",
    ],
)
def test_a_time_is_iso_8601_in_utc_unless_it_says_otherwise_or_unix_seconds(tmp_path: Path, time: str) -> None:
    assert read(tmp_path, f"{time},kraken,BTC/USDC,64000.10,0.5") == [
        (AT, Market("kraken", Pair("BTC/USDC")), Decimal("64000.10"), Decimal("0.5"))
    ]


def test_a_first_row_without_a_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRowError, match="is no time"):
        read(tmp_path, ",kraken,BTC/USDC,1,1")


def test_whole_unix_seconds(tmp_path: Path) -> None:
    assert read(tmp_path, "1710328245,kraken,BTC/USDC,1,1")[0][0] == 1_710_328_245_000


def test_an_empty_volume_is_unknown_and_a_zero_is_zero(tmp_path: Path) -> None:
    found = read(tmp_path, "1710328245,a,BTC/USD,1,", "1710328245,a,BTC/USD,1,0.000")
    assert [volume for *_, volume in found] == [None, Decimal(0)]


def test_gzip_is_known_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    path.write_bytes(gzip.compress(f"{HEAD}\n1710328245,a,BTC/USD,1,1\n".encode()))
    assert len(list(rows(path))) == 1


def test_columns_may_stand_in_another_order_and_beside_others(tmp_path: Path) -> None:
    [row] = read(tmp_path, "x,7,BTC/USD,a,2,1710328245", head="note,price,pair,source,volume,time")
    assert row == (1_710_328_245_000, Market("a", Pair("BTC/USD")), Decimal(7), Decimal(2))


def test_a_mark_of_byte_order_and_lines_of_windows_and_blank_lines_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    path.write_bytes(f"\ufeff{HEAD}\r\n1710328245,a,BTC/USD,1,1\r\n\r\n1710328246,a,BTC/USD,2,1\r\n".encode())
    assert [price for _, _, price, _ in rows(path)] == [1, 2]


def test_a_price_that_can_be_none_is_a_row_all_the_same(tmp_path: Path) -> None:
    found = read(tmp_path, *(f"1710328245,a,BTC/USD,{price},1" for price in ("0", "-3", "NaN", "1e40")))
    assert [str(price) for _, _, price, _ in found] == ["0", "-3", "NaN", "1E+40"]


@pytest.mark.parametrize(
    ("bad", "column", "says"),
    [
        ("yesterday,a,BTC/USD,1,1", "time", "no time"),
        (",a,BTC/USD,1,1", "time", "no time"),
        ("1710328245390,a,BTC/USD,1,1", "time", "give seconds"),
        ("NaN,a,BTC/USD,1,1", "time", "no time"),
        ("-5,a,BTC/USD,1,1", "time", "between the years"),
        ("1e99999,a,BTC/USD,1,1", "time", "between the years"),
        ("1e999999,a,BTC/USD,1,1", "time", "between the years"),
        ("1710328245,,BTC/USD,1,1", "source", "no source's name"),
        ("1710328245,a,BTCUSD,1,1", "pair", "no pair"),
        ("1710328245,a,BTC/USD,one,1", "price", "no number"),
        ("1710328245,a,BTC/USD,,1", "price", "no number"),
        ("1710328245,a,BTC/USD,1_000,1", "price", "no number"),
        ("1710328245,a,BTC/USD,\u0663,1", "price", "no number"),
        ("1710328245,a,BTC/USD,1,much", "volume", "no number"),
        ("1710328245,a,BTC/USD,1,9e999999", "volume", "no volume"),
        ("1710328245,a,BTC/USD,1,-1", "volume", "no volume"),
        ("1710328245,a,BTC/USD,1,NaN", "volume", "no volume"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_column(tmp_path: Path, bad: str, column: str, says: str) -> None:
    with pytest.raises(BadRowError, match=says) as caught:
        read(tmp_path, "1710328245,a,BTC/USD,1,1", bad)
    assert str(caught.value).startswith(f"{tmp_path / 'quotes.csv'}, line 3, column {column}: ")


@pytest.mark.parametrize("bad", ["1710328245,a,BTC/USD,1", "1710328245,a,BTC/USD,1,1,1"])
def test_a_row_of_another_length_is_named_by_its_line(tmp_path: Path, bad: str) -> None:
    with pytest.raises(BadRowError, match=r"line 2: \d columns where the header has 5"):
        read(tmp_path, bad)


@pytest.mark.parametrize("head", ["", "\n"])
def test_an_empty_file_is_told_what_it_should_begin_with(tmp_path: Path, head: str) -> None:
    with pytest.raises(ReplayError, match="nothing on the first line, which names the columns time,source,pair"):
        read(tmp_path, head=head)


@pytest.mark.parametrize("head", ["time,source,pair,price", "1710328245,a,BTC/USD,1,1"])
def test_a_file_without_the_header_is_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(BadRowError, match="line 1, column"):
        read(tmp_path, head=head)


def test_a_quotation_mark_that_never_ends_and_bytes_that_are_no_text_are_errors_of_a_line(tmp_path: Path) -> None:
    with pytest.raises(BadRowError, match="is no CSV"):
        read(tmp_path, '1710328245,"a,BTC/USD,1,1')
    path = tmp_path / "latin.csv"
    path.write_bytes(HEAD.encode() + b"\n1710328245,\xe9,BTC/USD,1,1\n")
    with pytest.raises(BadRowError, match="UTF-8"):
        list(rows(path))


def test_a_file_that_is_not_there_or_cut_short_says_so(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="No such file"):
        list(rows(tmp_path / "none.csv"))
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress((HEAD + "\n" + "1710328245,a,BTC/USD,1,1\n" * 5_000).encode())[:60])
    with pytest.raises(ReplayError, match="gzip stream is broken"):
        list(rows(path))
