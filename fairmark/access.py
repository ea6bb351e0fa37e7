"""The way to the chain that the settings name: keys, the record of the deployment, the contract's client.

Apart from `fairmark.assemble`, so that a command on the chain starts without importing every service.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import SecretStr

from contracts.client import OracleClient
from contracts.deployments import DeploymentRecord, read_record
from contracts.fees import GWEI, FeePolicy
from contracts.keys import is_keystore, read_key, refuse_development_key
from contracts.report import LocalSigner
from core.errors import ConfigurationError, StartError
from core.settings import Settings, secret
from core.types import Mode
from fairmark.basics import kept_secret


def deployment_record(settings: Settings) -> DeploymentRecord:
    """The record of the contract that the services use. Raises `StartError` when nothing was deployed."""
    folder = settings.chain.deployments_dir
    record = read_record(folder, settings.chain.chain_id)
    if record is None:
        raise StartError(
            f"no deployment for chain {settings.chain.chain_id} in {folder}: run `fairmark deploy` first, "
            "or name the folder with chain.deployments_dir"
        )
    return record


def fee_policy(settings: Settings) -> FeePolicy:
    own = settings.chain.submission
    return FeePolicy(max_fee=int(own.max_fee_gwei * GWEI), bump_percent=own.bump_percent)


@contextlib.asynccontextmanager
async def chain_client(settings: Settings, mode: Mode, url: str | None = None) -> AsyncIterator[OracleClient]:
    """The contract's client over the configured nodes, or over `url` alone, while the context lasts.

    Raises `StartError` when nothing was deployed, `DeploymentMismatchError` or `RpcUnavailableError`.
    """
    client = await OracleClient.connect(
        url or settings.chain.rpc_urls,
        deployment_record(settings),
        mode,
        timeout_s=settings.chain.request_timeout_s,
        max_lag_s=settings.chain.max_lag_s,
        fees=fee_policy(settings),
    )
    try:
        yield client
    finally:
        await client.close()


def fetcher_key(settings: Settings, name: str) -> str:
    """The key a fetcher signs with. Raises `ConfigurationError` saying how to give it, or `KeyRefusedError`."""
    fetcher = settings.fetchers.get(name)
    if fetcher is None:
        raise ConfigurationError([f"fetchers.{name}: not configured; known: {', '.join(sorted(settings.fetchers))}"])
    key = secret(fetcher.key, fetcher.key_file, f"fetchers.{name}.key")
    return _opened(key, fetcher.key_password, fetcher.key_password_file, f"fetchers.{name}.key_password")


def strategy_key(settings: Settings, name: str, *, make: bool = True) -> str:
    """The key a strategy signs with: as given, else from a file in data_dir. make: it, where it is missing.

    Raises `ConfigurationError`, `KeyRefusedError` or `StartError`.
    """
    own = settings.strategies.get(name)
    if own is None or (own.key is None and own.key_file is None):
        path = settings.data_dir / "strategies" / f"{name}.key"
        if not make and not path.exists():
            raise ConfigurationError([f"strategies.{name}.address: missing, and its key is not here: no {path}"])
        return kept_secret(settings, path)
    key = secret(own.key, own.key_file, f"strategies.{name}.key")
    return _opened(key, own.key_password, own.key_password_file, f"strategies.{name}.key_password")


def aggregator_key(settings: Settings) -> str:
    """The key that pays for rounds. Raises `ConfigurationError` or `KeyRefusedError`."""
    own = settings.aggregator
    key = secret(own.key, own.key_file, "aggregator.key")
    return _opened(key, own.key_password, own.key_password_file, "aggregator.key_password")


def deployer_key(settings: Settings) -> str:
    """The key that deploys and governs. Raises `ConfigurationError` or `KeyRefusedError`."""
    own = settings.chain
    key = secret(own.deployer_key, own.deployer_key_file, "chain.deployer_key")
    return _opened(key, own.deployer_key_password, own.deployer_key_password_file, "chain.deployer_key_password")


def _opened(key: str, password: SecretStr | None, password_file: Path | None, what: str) -> str:
    return read_key(key, secret(password, password_file, what)) if is_keystore(key) else key


def reporter_address(settings: Settings, name: str) -> str:
    """A fetcher's or a strategy's on-chain identity: as configured, else from its key.

    Raises `ConfigurationError`, or `DevelopmentKeyError` where everybody has that key and the chain is not for
    development.
    """
    fetcher = settings.fetchers.get(name)
    if fetcher is not None:
        address = fetcher.address or LocalSigner(fetcher_key(settings, name)).address
    else:
        configured = settings.strategies[name].address
        address = configured or LocalSigner(strategy_key(settings, name, make=False)).address
    refuse_development_key(address, settings.chain.chain_id)
    return address


def reporter_signer(settings: Settings, name: str, key: str, address: str | None) -> LocalSigner:
    """Who signs on chain as `name`. address: as configured. Raises `ConfigurationError` or `DevelopmentKeyError`."""
    signer = LocalSigner(key)
    refuse_development_key(signer.address, settings.chain.chain_id)
    if address is not None and address.lower() != signer.address.lower():
        kind = "fetchers" if name in settings.fetchers else "strategies"
        raise ConfigurationError([f"{kind}.{name}.address: {address} is not the address of its key, {signer.address}"])
    return signer
