"""python -m tests.support.first_round URL RECORD SECRETS: one round by the reporters whose keystores lie in SECRETS.

What fetchers and an aggregator do, for a test that has none of them running.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from contracts import LocalSigner, OracleClient, read_record
from contracts.keys import read_key
from contracts.report import in_signer_order, median_hints, sign_report
from core.types import Mode


async def main(url: str, record_file: Path, secrets: Path) -> None:
    record = read_record(record_file.parent, int(record_file.stem))
    assert record is not None
    password = (secrets / "password").read_text().strip()
    by = [LocalSigner(read_key((secrets / f"fetcher-{n}.json").read_text(), password)) for n in "abc"]
    client = await OracleClient.connect(url, record, Mode.LIVE)
    try:
        state = await client.group_state("majors")
        moment = state.block_timestamp * 1000
        reports = in_signer_order(
            {
                one.address: sign_report(
                    one,
                    client.domain,
                    group="majors",
                    group_hash=state.group_hash,
                    previous_moment=0,
                    moment=moment,
                    prices=tuple(10**8 for _ in state.feeds),
                )
                for one in by
            }
        )
        calldata = client.build_submission("majors", reports, median_hints(reports, state.feeds))
        sender = client.sender(read_key((secrets / "submitter.json").read_text(), password))
        receipt = await client.wait_receipt(await client.submit(calldata, sender), 10)
        assert receipt.ok
    finally:
        await client.close()


asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
