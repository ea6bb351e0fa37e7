"""DIA: GET /v1/assetQuotation/Ethereum/0x0000000000000000000000000000000000000000. JSON numbers, whole seconds."""

from __future__ import annotations

from simulator.venues.shape import Json, Market, Venue

_NATIVE = "0x0000000000000000000000000000000000000000"


def _body(m: Market) -> Json:
    return {
        "Symbol": m.base,
        "Name": m.symbol,
        "Address": _NATIVE,
        "Blockchain": m.symbol,
        "Price": m.last,
        "PriceYesterday": m.open,
        "VolumeYesterdayUSD": m.turnover,
        "Time": f"{m.iso[:19]}Z",
        "Source": "diadata.org",
        "Signature": "0x00",
    }


VENUE = Venue(
    name="dia",
    path=f"/v1/assetQuotation/{{symbol}}/{_NATIVE}",
    body=_body,
    refuse=lambda _symbol, _now: (404, {"errorcode": 404, "errormessage": "no quotation available"}),
    book=False,
)
