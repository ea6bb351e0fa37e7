"""What pays for rounds: the submitter's balance, watched so that it is filled before it is empty."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from aggregator.errors import LowBalanceError
from aggregator.metrics import Metrics
from contracts.errors import ContractError
from contracts.transactions import TransactionSender
from core.logs import Logger

WEI = Decimal(10**18)


class Purse:
    """low: in the chain's coin, below which it warns. poll_s: between looks."""

    def __init__(
        self, sender: TransactionSender, *, low: Decimal, poll_s: float, metrics: Metrics, logger: Logger
    ) -> None:
        self._sender = sender
        self._low = low
        self._poll_s = poll_s
        self._gauge = metrics.balance
        metrics.low_balance.set(float(low))
        self._log = logger
        self._balance: Decimal | None = None

    async def look(self) -> Decimal:
        """The balance, in the chain's coin. Raises `RpcUnavailableError`."""
        self._balance = balance = await self._sender.balance() / WEI
        self._gauge.set(float(balance))
        return balance

    async def check(self) -> str:
        """For `/health`. Raises `LowBalanceError`."""
        if self._balance is None:
            return "not read yet"
        if self._balance < self._low:
            raise LowBalanceError(
                f"{self._sender.address} has {self._balance:f}, less than {self._low:f}: send it more"
            )
        return f"{self._balance:f}"

    async def run(self) -> None:
        """Look every `poll_s`, for ever."""
        while True:
            try:
                balance = await self.look()
            except ContractError as error:
                self._log.warning("balance_not_read", error=str(error))
            else:
                if balance < self._low:
                    self._log.warning("low_balance", address=self._sender.address, balance=f"{balance:f}")
            await asyncio.sleep(self._poll_s)
