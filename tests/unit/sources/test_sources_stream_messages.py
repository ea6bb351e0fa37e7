"""Every kind of message of every streamed exchange, as documented or recorded, to the very values it carries."""

# ruff: noqa: E501 - a message is one line, as it comes

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from core.types import FailureCode, Pair
from sources import Reading, load_catalogue
from sources.latest import Line, Track
from sources.stream_control import Heard
from sources.stream_reader import MAX_REPEATS, StreamReader, Trade, Update
from sources.stream_take import MAX_BOOK_AGE_MS

ENTRIES = load_catalogue()
NOW = 1_710_328_245_391
D = Decimal


class Ear:
    """A reader of one pair of one exchange, and what it handed on."""

    def __init__(self, source: str, pair: str) -> None:
        self.out: list[Update] = []
        self.track = Track(Line())
        self.reader = StreamReader(ENTRIES[source], {Pair(pair): self.track}, self.out.append)

    def says(self, *texts: str, at_ms: int = NOW) -> list[Heard]:
        return [self.reader.feed(text.encode(), at_ms) for text in texts]

    def looks(self) -> list[tuple[Decimal, Decimal | None, Decimal | None, int | None]]:
        """last, bid, ask, time of each reading."""
        tickers = [each.ticker for each in self.out if isinstance(each, Reading)]
        return [(each.last, each.bid, each.ask, each.time_ms) for each in tickers]

    def trades(self) -> list[tuple[Decimal, Decimal, int | None, str, int]]:
        found = [each for each in self.out if isinstance(each, Trade)]
        return [(each.price, each.size, each.time_ms, each.id, each.missed) for each in found]


# By exchange: its pair, one message after the other with what it is, the looks of the market, and the trades.
SAID: dict[str, tuple[str, list[tuple[str, Heard]], list[object], list[object]]] = {
    "binance": (
        "BTC/USDT",
        [
            ('{"result":null,"id":1}', Heard.ACKNOWLEDGED),
            ('{"stream":"btcusdt@bookTicker","data":{"u":400,"s":"BTCUSDT","b":"25.35190000","B":"31.21","a":"25.36520000","A":"40.66"}}', Heard.DATA),
            ('{"stream":"btcusdt@ticker","data":{"e":"24hrTicker","E":1672515782136,"s":"BTCUSDT","c":"25.36","b":"25.35","a":"25.37","v":"10000","q":"18","C":1672515782100}}', Heard.DATA),
            ('{"stream":"btcusdt@bookTicker","data":{"u":401,"s":"BTCUSDT","b":"25.355","B":"1","a":"25.365","A":"2"}}', Heard.DATA),
            ('{"stream":"btcusdt@bookTicker","data":{"u":401,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"2"}}', Heard.REPEATED),
            ('{"stream":"btcusdt@trade","data":{"e":"trade","E":1672515782137,"s":"BTCUSDT","t":12345,"p":"25.3601","q":"100","T":1672515782136,"m":true}}', Heard.DATA),
            ('{"stream":"btcusdt@trade","data":{"e":"trade","E":1672515782139,"s":"BTCUSDT","t":12348,"p":"25.3602","q":"0.5","T":1672515782138,"m":true}}', Heard.DATA),
            ('{"stream":"ethusdt@bookTicker","data":{"u":400,"s":"ETHUSDT","b":"1","B":"1","a":"2","A":"2"}}', Heard.OTHER),
            ('{"error":{"code":2,"msg":"Invalid request"},"id":3}', Heard.REJECTED),
            ('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1672515782139}}', Heard.LEAVE),
        ],
        [
            (D("25.36"), D("25.35"), D("25.37"), 1672515782136),
            (D("25.36"), D("25.355"), D("25.365"), None),
            (D("25.3601"), D("25.355"), D("25.365"), 1672515782136),
            (D("25.3602"), D("25.355"), D("25.365"), 1672515782138),
        ],
        [(D("25.3601"), D("100"), 1672515782136, "12345", 0), (D("25.3602"), D("0.5"), 1672515782138, "12348", 2)],
    ),
    "bitget": (
        "BTC/USDT",
        [
            ('{"event":"subscribe","arg":{"instType":"SPOT","channel":"ticker","instId":"BTCUSDT"}}', Heard.ACKNOWLEDGED),
            ('{"action":"snapshot","arg":{"instType":"SPOT","channel":"ticker","instId":"BTCUSDT"},"data":[{"instId":"BTCUSDT","lastPr":"27000.5","open24h":"27000","bidPr":"26999.9","askPr":"27000.6","baseVolume":"42244.0983","quoteVolume":"1139","ts":"1695702438029"}],"ts":1695702438031}', Heard.DATA),
            ('{"action":"snapshot","arg":{"instType":"SPOT","channel":"trade","instId":"BTCUSDT"},"data":[{"ts":"1695709835800","price":"1","size":"1","side":"buy","tradeId":"10"}],"ts":1}', Heard.OTHER),
            ('{"action":"update","arg":{"instType":"SPOT","channel":"trade","instId":"BTCUSDT"},"data":[{"ts":"1695709835822","price":"26293.4","size":"0.0013","side":"buy","tradeId":"1000000000"},{"ts":"1695709835821","price":"26293.5","size":"0.0014","side":"sell","tradeId":"999999999"}],"ts":1}', Heard.DATA),
            ("pong", Heard.OTHER),
            ('{"event":"error","arg":{"instType":"SPOT"},"code":30001,"msg":"no such channel"}', Heard.REJECTED),
        ],
        [
            (D("27000.5"), D("26999.9"), D("27000.6"), 1695702438029),
            (D("26293.4"), D("26999.9"), D("27000.6"), 1695709835822),
            (D("26293.5"), D("26999.9"), D("27000.6"), 1695709835821),
        ],
        [
            (D("26293.4"), D("0.0013"), 1695709835822, "1000000000", 0),
            (D("26293.5"), D("0.0014"), 1695709835821, "999999999", 0),
        ],
    ),
    "bitstamp": (
        "BTC/USD",
        [
            ('{"event":"bts:subscription_succeeded","channel":"order_book_btcusd","data":{}}', Heard.ACKNOWLEDGED),
            ('{"data":{"timestamp":"1643643584","microtimestamp":"1643643584684047","bids":[["38440.88","1.5"],["38440.00","2"]],"asks":[["38452.37","0.6"]]},"channel":"order_book_btcusd","event":"data"}', Heard.DATA),
            ('{"data":{"id":21565524,"timestamp":"1643643585","amount":0.02,"amount_str":"0.02000000","price":38441.9,"price_str":"38441.90","type":1,"microtimestamp":"1643643585123999","buy_order_id":1,"sell_order_id":2},"channel":"live_trades_btcusd","event":"trade"}', Heard.DATA),
            ('{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}', Heard.OTHER),
            ('{"event":"bts:error","channel":"","data":{"code":null,"message":"Bad subscription string."}}', Heard.REJECTED),
            ('{"event":"bts:request_reconnect","channel":"","data":""}', Heard.LEAVE),
        ],
        [(D("38441.90"), D("38440.88"), D("38452.37"), 1643643585123)],
        [(D("38441.90"), D("0.02000000"), 1643643585123, "21565524", 0)],
    ),
    "bybit": (
        "BTC/USDT",
        [
            ('{"success":true,"ret_msg":"subscribe","conn_id":"23","req_id":"1","op":"subscribe"}', Heard.ACKNOWLEDGED),
            ('{"topic":"tickers.BTCUSDT","ts":1673853746003,"type":"snapshot","cs":2588407389,"data":{"symbol":"BTCUSDT","lastPrice":"21109.77","highPrice24h":"21426.99","volume24h":"6780.866843","turnover24h":"141946527.22"}}', Heard.DATA),
            ('{"topic":"orderbook.1.BTCUSDT","ts":1673853746103,"type":"snapshot","data":{"s":"BTCUSDT","b":[["21109.76","0.4"]],"a":[["21109.78","0.1"]],"u":77398,"seq":7961638724},"cts":1673853746100}', Heard.DATA),
            ('{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[{"T":1672304486865,"s":"BTCUSDT","S":"Buy","v":"0.001","p":"21109.79","L":"PlusTick","i":"20f43950-d8dd","BT":false}]}', Heard.DATA),
            ('{"success":true,"ret_msg":"pong","conn_id":"0970","op":"ping"}', Heard.OTHER),
            ('{"success":false,"ret_msg":"error:handler not found","conn_id":"23","op":"subscribe"}', Heard.REJECTED),
        ],
        [
            (D("21109.77"), D("21109.76"), D("21109.78"), 1673853746103),
            (D("21109.79"), D("21109.76"), D("21109.78"), 1672304486865),
        ],
        [(D("21109.79"), D("0.001"), 1672304486865, "20f43950-d8dd", 0)],
    ),
    "coinbase": (
        "BTC/USD",
        [
            ('{"type":"subscriptions","channels":[{"name":"ticker","product_ids":["BTC-USD"]}]}', Heard.ACKNOWLEDGED),
            ('{"type":"ticker","sequence":37475248783,"product_id":"BTC-USD","price":"1285.22","volume_24h":"245532.79269678","volume_30d":"9788783.60","best_bid":"1285.04","best_ask":"1285.27","side":"buy","time":"2022-10-19T23:28:22.061769Z","trade_id":370843401}', Heard.DATA),
            ('{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"BTC-USD","time":"2014-11-07T08:19:28.464459Z"}', Heard.OTHER),
            ('{"type":"match","trade_id":10,"sequence":50,"time":"2014-11-07T08:19:27.028459Z","product_id":"BTC-USD","size":"5.23512","price":"400.23","side":"sell"}', Heard.DATA),
            ('{"type":"match","trade_id":12,"sequence":52,"time":"2014-11-07T08:19:27.030000Z","product_id":"BTC-USD","size":"1","price":"400.25","side":"sell"}', Heard.DATA),
            ('{"type":"error","message":"Failed to subscribe","reason":"BTC-XYZ is not a valid product"}', Heard.REJECTED),
        ],
        [
            (D("1285.22"), D("1285.04"), D("1285.27"), 1666222102061),
            (D("400.23"), D("1285.04"), D("1285.27"), 1415348367028),
            (D("400.25"), D("1285.04"), D("1285.27"), 1415348367030),
        ],
        [(D("400.23"), D("5.23512"), 1415348367028, "10", 0), (D("400.25"), D("1"), 1415348367030, "12", 1)],
    ),
    "cryptocom": (
        "BTC/USD",
        [
            ('{"id":1,"method":"subscribe","code":0}', Heard.ACKNOWLEDGED),
            ('{"id":-1,"method":"subscribe","code":0,"result":{"instrument_name":"BTC_USD","subscription":"ticker.BTC_USD","channel":"ticker","data":[{"h":"51790.00","l":"47895.50","a":"51174.500000","i":"BTC_USD","v":"879.5","c":"0.03","b":"51170.00","bs":"0.1","k":"51180.00","ks":"0.4","t":1613580710768}]}}', Heard.DATA),
            ('{"id":1587523073344,"method":"public/heartbeat","code":0}', Heard.ANSWERED),
            ('{"id":-1,"method":"subscribe","code":0,"result":{"instrument_name":"BTC_USD","subscription":"trade.BTC_USD","channel":"trade","data":[{"d":"2030407068","t":1613581138462,"p":"51327.500000","q":"0.000100","s":"SELL","i":"BTC_USD"}]}}', Heard.DATA),
            ('{"id":2,"method":"subscribe","code":40003,"message":"Unknown symbol"}', Heard.REJECTED),
        ],
        [
            (D("51174.500000"), D("51170.00"), D("51180.00"), 1613580710768),
            (D("51327.500000"), D("51170.00"), D("51180.00"), 1613581138462),
        ],
        [(D("51327.500000"), D("0.000100"), 1613581138462, "2030407068", 0)],
    ),
    "gate": (
        "BTC/USDT",
        [
            ('{"time":1606292218,"channel":"spot.tickers","event":"subscribe","result":{"status":"success"}}', Heard.ACKNOWLEDGED),
            ('{"time":1669107766,"time_ms":1669107766406,"channel":"spot.tickers","event":"update","result":{"currency_pair":"BTC_USDT","last":"15743.4","lowest_ask":"15744.4","highest_bid":"15743.5","base_volume":"9110.473081735","quote_volume":"145082083.2"}}', Heard.DATA),
            ('{"time":1606293275,"time_ms":1606293275723,"channel":"spot.book_ticker","event":"update","result":{"t":1606293275123,"u":48733182,"s":"BTC_USDT","b":"19177.79","B":"0.0003341504","a":"19179.38","A":"0.09"}}', Heard.DATA),
            ('{"time":1606292218,"time_ms":1606292218231,"channel":"spot.trades","event":"update","result":{"id":309143071,"create_time":1606292218,"create_time_ms":"1606292218213.4578","side":"sell","currency_pair":"BTC_USDT","amount":"16.4700000000","price":"0.4705000000"}}', Heard.DATA),
            ('{"time":1545404023,"channel":"spot.pong","event":"","result":null}', Heard.OTHER),
            ('{"time":1,"channel":"spot.tickers","event":"subscribe","error":{"code":2,"message":"unknown currency pair: X"},"result":{"status":"fail"}}', Heard.REJECTED),
        ],
        [
            (D("15743.4"), D("15743.5"), D("15744.4"), 1669107766000),
            (D("15743.4"), D("19177.79"), D("19179.38"), 1606293275123),
            (D("0.4705000000"), D("19177.79"), D("19179.38"), 1606292218213),
        ],
        [(D("0.4705000000"), D("16.4700000000"), 1606292218213, "309143071", 0)],
    ),
    "gemini": (
        "BTC/USD",
        [
            ('{"id":"1","status":200}', Heard.ACKNOWLEDGED),
            ('{"u":1751505576085,"E":1751508438600117161,"s":"btcusd","b":"118530.98","B":"0.41","a":"118531.00","A":"1.2"}', Heard.DATA),
            ('{"E":1751508438600117161,"s":"btcusd","t":2840140956529623,"p":"118530.99","q":"0.00022","m":true}', Heard.DATA),
            ('{"id":"2","status":400,"error":{"code":-1121,"msg":"Invalid symbol."}}', Heard.REJECTED),
        ],
        [(D("118530.99"), D("118530.98"), D("118531.00"), 1751508438600)],
        [(D("118530.99"), D("0.00022"), 1751508438600, "2840140956529623", 0)],
    ),
    "kraken": (
        "BTC/USD",
        [
            ('{"channel":"status","type":"update","data":[{"version":"2.0.0","system":"online"}]}', Heard.OTHER),
            ('{"method":"subscribe","result":{"channel":"ticker","symbol":"BTC/USD"},"success":true,"time_in":"2023-09-25T09:04:31.742599Z"}', Heard.ACKNOWLEDGED),
            ('{"channel":"ticker","type":"snapshot","data":[{"symbol":"BTC/USD","bid":0.10025,"bid_qty":740.0,"ask":0.10036,"ask_qty":1361.44813783,"last":0.10035,"volume":997038.98383185}]}', Heard.DATA),
            ('{"channel":"heartbeat"}', Heard.OTHER),
            ('{"method":"pong","time_in":"2023-09-24T14:10:23.799685Z"}', Heard.OTHER),
            ('{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":0.5117,"qty":40.0,"ord_type":"market","trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"},{"symbol":"BTC/USD","side":"sell","price":0.5118,"qty":1,"ord_type":"market","trade_id":4665908,"timestamp":"2023-09-25T07:49:37.709706Z"}]}', Heard.DATA),
            ('{"error":"Currency pair not supported XYZ/USD","method":"subscribe","success":false,"symbol":"XYZ/USD"}', Heard.REJECTED),
        ],
        [
            (D("0.10035"), D("0.10025"), D("0.10036"), None),
            (D("0.5117"), D("0.10025"), D("0.10036"), 1695628177708),
            (D("0.5118"), D("0.10025"), D("0.10036"), 1695628177709),
        ],
        [
            (D("0.5117"), D("40.0"), 1695628177708, "4665906", 0),
            (D("0.5118"), D("1"), 1695628177709, "4665908", 1),
        ],
    ),
    "okx": (
        "BTC/USDT",
        [
            ('{"event":"subscribe","arg":{"channel":"tickers","instId":"BTC-USDT"},"connId":"a4d3ae55"}', Heard.ACKNOWLEDGED),
            ('{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instType":"SPOT","instId":"BTC-USDT","last":"9999.99","lastSz":"0.1","askPx":"9999.99","askSz":"11","bidPx":"8888.88","bidSz":"5","volCcy24h":"2222","vol24h":"3333","ts":"1597026383085"}]}', Heard.DATA),
            ('{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474","px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897","count":"3"}]}', Heard.DATA),
            ("pong", Heard.OTHER),
            ('{"event":"error","code":"60012","msg":"Invalid request","connId":"a4d3ae55"}', Heard.REJECTED),
            ('{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade."}', Heard.LEAVE),
        ],
        [
            (D("9999.99"), D("8888.88"), D("9999.99"), 1597026383085),
            (D("42219.9"), D("8888.88"), D("9999.99"), 1630048897897),
        ],
        [(D("42219.9"), D("0.12060306"), 1630048897897, "130639474", 0)],
    ),
}  # fmt: skip


def test_every_streamed_exchange_is_here() -> None:
    assert set(SAID) == {name for name, entry in ENTRIES.items() if entry.stream is not None}


@pytest.mark.parametrize("source", sorted(SAID))
def test_each_message_is_what_it_is_and_carries_what_it_carries(source: str) -> None:
    pair, said, looks, trades = SAID[source]
    ear = Ear(source, pair)
    assert ear.says(*(text for text, _ in said)) == [heard for _, heard in said]
    assert ear.looks() == looks
    assert ear.trades() == trades
    assert [each.ticker.last for each in ear.track.readings] == [look[0] for look in looks]  # type: ignore[index]
    for update in ear.out:
        assert (update.source, update.pair, update.received_ms) == (source, pair, NOW)
    assert (ear.reader.missed, ear.reader.gaps) == (
        sum(trade[4] for trade in trades),  # type: ignore[index]
        sum(bool(trade[4]) for trade in trades),  # type: ignore[index]
    )


VOLUMES: dict[str, list[Decimal | None]] = {
    "binance": [D(10000)] * 4,
    "bitget": [D("42244.0983")] * 3,
    "bitstamp": [None],
    "bybit": [D("6780.866843")] * 2,
    "coinbase": [D("245532.79269678")] * 3,
    "cryptocom": [D("879.5")] * 2,
    "gate": [D("9110.473081735")] * 3,
    "gemini": [None],
    "kraken": [D("997038.98383185")] * 3,
    "okx": [D(3333)] * 2,
}
"""Of each reading that the messages above make: the last that was told, since a book or a trade tells none."""


@pytest.mark.parametrize("source", sorted(SAID))
def test_each_reading_carries_the_volume_of_24_hours_that_its_stream_told_last(source: str) -> None:
    pair, said, *_ = SAID[source]
    ear = Ear(source, pair)
    ear.says(*(text for text, _ in said))
    assert [each.ticker.volume for each in ear.track.readings] == VOLUMES[source]


def test_digits_stay_digits_where_a_float_would_lose_them() -> None:
    ear = Ear("kraken", "BTC/USD")
    ear.says(
        '{"channel":"ticker","data":[{"symbol":"BTC/USD","bid":0.1,"ask":0.30000000000000004,"last":12345678901234.000001}]}'
    )
    assert [str(value) for value in ear.looks()[0][:3]] == ["12345678901234.000001", "0.1", "0.30000000000000004"]


def test_a_refusal_and_a_heartbeats_answer_carry_their_words() -> None:
    ear = Ear("cryptocom", "BTC/USD")
    ear.says('{"id":1587523073344,"method":"public/heartbeat","code":0}')
    assert ear.reader.answer == '{"id":1587523073344,"method":"public/respond-heartbeat"}'
    ear.says('{"id":2,"method":"subscribe","code":40003,"message":"Unknown symbol"}')
    assert ear.reader.detail == "Unknown symbol"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", FailureCode.EMPTY),
        ("not json", FailureCode.MALFORMED),
        ('{"stream":"btcusdt@bookTicker","data":{"u":1,"b":"1"}}', FailureCode.MALFORMED),
        ('{"stream":"btcusdt@bookTicker","data":{"u":1,"b":"1","a":[]}}', FailureCode.MALFORMED),
        ('{"stream":"btcusdt@bookTicker","data":{"u":"x","b":"1","a":"2"}}', FailureCode.MALFORMED),
        ('{"stream":"btcusdt@bookTicker","data":{"u":1,"b":"NaN","a":"2"}}', FailureCode.MALFORMED),
        ('{"stream":"btcusdt@bookTicker","data":{"u":1,"b":"0","a":"2"}}', FailureCode.INVALID_PRICE),
        ('{"stream":"btcusdt@bookTicker","data":{"u":1,"b":"1","a":"-2"}}', FailureCode.INVALID_PRICE),
        ('{"stream":"btcusdt@bookTicker","data":{"u":1,"b":"1","a":"Infinity"}}', FailureCode.INVALID_PRICE),
        ('{"stream":"btcusdt@trade","data":{"t":1,"p":"1","q":"1e19","T":1672515782136}}', FailureCode.INVALID_PRICE),
        ('{"stream":"btcusdt@trade","data":{"t":1,"p":"1","q":"1","T":1672515782}}', FailureCode.MALFORMED),
        ('{"stream":"btcusdt@trade","data":{"t":1,"p":"1","q":"1","T":1e999}}', FailureCode.MALFORMED),
        ('{"x":' + "[" * 5_000 + "]" * 5_000 + "}", FailureCode.MALFORMED),
    ],
)  # fmt: skip
def test_a_lie_about_the_shape_is_bad_and_changes_nothing(text: str, code: FailureCode) -> None:
    ear = Ear("binance", "BTC/USDT")
    assert ear.says(text) == [Heard.BAD]
    assert ear.reader.code is code
    assert len(ear.reader.detail) <= 200
    assert not ear.out
    ok = '{"stream":"btcusdt@ticker","data":{"E":1672515782136,"c":"25.36","b":"25.35","a":"25.37"}}'
    assert ear.says(ok) == [Heard.DATA]


def test_of_several_items_a_bad_one_tells_and_the_others_are_read() -> None:
    ear = Ear("okx", "BTC/USDT")
    item = '{"instId":"BTC-USDT","tradeId":"%d","px":"%s","sz":"1","ts":"1630048897897"}'
    items = ",".join([item % (1, "5"), item % (2, "0"), item % (3, "6")])
    assert ear.says('{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[' + items + "]}") == [Heard.BAD]
    assert [trade[0] for trade in ear.trades()] == [D(5), D(6)]


def test_after_a_reconnect_the_old_connections_state_and_numbers_are_forgotten() -> None:
    ear = Ear("binance", "BTC/USDT")
    book = '{"stream":"btcusdt@bookTicker","data":{"u":400,"b":"25.35","a":"25.37"}}'
    last = '{"stream":"btcusdt@ticker","data":{"E":1672515782136,"c":"25.36","b":"25.35","a":"25.37"}}'
    assert ear.says(last, book, book) == [Heard.DATA, Heard.DATA, Heard.REPEATED]
    ear.reader.forget()
    assert not ear.track.readings
    ear.out.clear()
    assert ear.says(book) == [Heard.DATA]
    assert not ear.out, "a book whose last price is not known any more"


def gemini_book(number: int, bid: str, ask: str) -> str:
    return f'{{"u":{number},"E":{NOW}000000,"s":"btcusd","b":"{bid}","B":"0.41","a":"{ask}","A":"1.2"}}'


def gemini_trade(number: int, price: str) -> str:
    return f'{{"E":{NOW}000000,"s":"btcusd","t":{number},"p":"{price}","q":"0.1","m":true}}'


def bitstamp_book(_: int, bid: str, ask: str) -> str:
    data = f'{{"microtimestamp":"{NOW}000","bids":[["{bid}","1"]],"asks":[["{ask}","1"]]}}'
    return f'{{"data":{data},"channel":"order_book_btcusd","event":"data"}}'


def bitstamp_trade(number: int, price: str) -> str:
    data = f'{{"id":{number},"amount_str":"0.1","price_str":"{price}","microtimestamp":"{NOW}000"}}'
    return f'{{"data":{data},"channel":"live_trades_btcusd","event":"trade"}}'


@pytest.mark.parametrize(
    ("source", "book", "trade"),
    [("gemini", gemini_book, gemini_trade), ("bitstamp", bitstamp_book, bitstamp_trade)],
)
def test_a_book_that_died_is_not_shown_beside_later_trades(
    source: str, book: Callable[[int, str, str], str], trade: Callable[[int, str], str]
) -> None:
    ear = Ear(source, "BTC/USD")
    ear.says(book(900, "70000", "70002"))
    ear.says(trade(1, "70001"), at_ms=NOW + MAX_BOOK_AGE_MS)
    ear.says(trade(2, "73501"), at_ms=NOW + MAX_BOOK_AGE_MS + 1)
    ear.says(book(901, "73500", "73502"), trade(3, "73502"), at_ms=NOW + MAX_BOOK_AGE_MS + 2)
    assert [look[:3] for look in ear.looks()] == [
        (D(70001), D(70000), D(70002)),
        (D(73501), None, None),
        (D(73501), D(73500), D(73502)),
        (D(73502), D(73500), D(73502)),
    ]


def test_a_repeated_book_is_no_sign_of_a_living_one() -> None:
    ear = Ear("gemini", "BTC/USD")
    ear.says(gemini_book(900, "70000", "70002"), gemini_trade(1, "70001"))
    late = NOW + MAX_BOOK_AGE_MS + 1
    assert ear.says(gemini_book(3, "73500", "73502"), gemini_trade(2, "73501"), at_ms=late) == [
        Heard.REPEATED,
        Heard.DATA,
    ]
    assert ear.looks()[-1][:3] == (D(73501), None, None)


@pytest.mark.parametrize("first", [900, 10**18], ids=["begun anew", "one absurd number"])
def test_numbers_that_do_not_rise_any_more_are_told_though_another_kinds_still_do(first: int) -> None:
    ear = Ear("gemini", "BTC/USD")
    ear.says(gemini_book(first, "70000", "70002"))
    heard = []
    for number in range(1, MAX_REPEATS + 1):
        heard += ear.says(gemini_book(number, "73500", "73502"))
        assert ear.says(gemini_trade(number, "73501")) == [Heard.DATA]
    assert heard == [Heard.REPEATED] * (MAX_REPEATS - 1) + [Heard.RENUMBERED]
    assert ear.reader.detail == f"{MAX_REPEATS} messages of BTC/USD in a row are not above number {first}"
    ear.reader.forget()
    assert ear.says(gemini_book(1, "73500", "73502"), gemini_book(1, "1", "2")) == [Heard.DATA, Heard.REPEATED]


def test_repetitions_between_messages_that_are_read_are_not_counted_together() -> None:
    ear = Ear("gemini", "BTC/USD")
    for number in range(3 * MAX_REPEATS):
        book = gemini_book(number, "70000", "70002")
        assert ear.says(book, book) == [Heard.DATA, Heard.REPEATED]


def test_of_several_items_one_whose_numbers_do_not_rise_any_more_tells() -> None:
    ear = Ear("kraken", "BTC/USD")
    item = '{"symbol":"BTC/USD","price":%s,"qty":1,"trade_id":%d,"timestamp":"2023-09-25T07:49:37.7Z"}'
    say = '{"channel":"trade","type":"update","data":[%s]}'
    numbers = [900, *range(1, MAX_REPEATS + 1), 901]
    items = ",".join(item % (0 if number == 1 else 5, number) for number in numbers)
    assert ear.says(say % items) == [Heard.BAD], "a bad one is not counted"
    items = ",".join(item % (5, number) for number in (902, *numbers[1:], 903))
    assert ear.says(say % items) == [Heard.RENUMBERED]


def test_a_message_that_only_holds_another_kinds_bytes_is_not_bad() -> None:
    ear = Ear("coinbase", "BTC/USD")
    assert ear.says('{"type":"status","products":[{"type":"ticker"}]}') == [Heard.OTHER]
    assert ear.says('["ticker"]') == [Heard.OTHER]
