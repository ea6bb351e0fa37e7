"""Keys: made encrypted, never overwritten, never printed; opened only with their password."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_account import Account
from typer.testing import CliRunner

from contracts.errors import DevelopmentKeyError, KeyRefusedError
from contracts.keys import DEVELOPMENT_ADDRESSES, encrypt, keystore_address, new_key, read_key
from contracts.report import LocalSigner
from core.errors import ConfigurationError
from core.settings import Settings, load
from fairmark import access
from fairmark.cli.app import app
from fairmark.cli.keys import keys_new  # noqa: F401 - registers the command
from tests.conftest import PROJECT

KEY = "0x" + "11" * 32
RUN = CliRunner()


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("swordfish\n")
    return file


def test_a_keystore_opens_with_its_password_only_and_wallets_read_it():
    keystore = encrypt(KEY, "swordfish")
    assert read_key(keystore, "swordfish") == KEY
    assert keystore_address(keystore) == LocalSigner(KEY).address
    assert bytes(Account.decrypt(json.loads(keystore), "swordfish")) == bytes.fromhex(KEY[2:])
    for wrong in ("herring", None):
        with pytest.raises(KeyRefusedError):
            read_key(keystore, wrong)
    with pytest.raises(KeyRefusedError):
        encrypt(KEY, "")
    assert read_key(f" {KEY}\n", None) == KEY
    assert new_key() != new_key()


def test_the_known_accounts_are_those_of_their_phrase():
    Account.enable_unaudited_hdwallet_features()
    phrase = "test test test test test test test test test test test junk"
    for index in (0, 1, 19):
        address = Account.from_mnemonic(phrase, account_path=f"m/44'/60'/0'/0/{index}").address
        assert address.lower() in DEVELOPMENT_ADDRESSES
    assert len(DEVELOPMENT_ADDRESSES) == 40


def test_new_and_show(tmp_path: Path, password: Path):
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    made = RUN.invoke(app, ["keys", "new", *map(str, files), "--password-file", str(password)])
    assert made.exit_code == 0, made.output
    addresses = made.stdout.split()
    assert len(set(addresses)) == 2
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    shown = RUN.invoke(app, ["keys", "show", str(files[0]), "--verify", "--password-file", str(password)])
    assert shown.stdout.split() == addresses[:1]
    key = read_key(files[0].read_text(), "swordfish")
    assert key[2:] not in made.output + shown.output
    again = RUN.invoke(app, ["keys", "new", str(files[0]), "--password-file", str(password)])
    assert again.exit_code != 0
    assert "never overwritten" in str(again.exception)
    assert read_key(files[0].read_text(), "swordfish") == key


def settings(tmp_path: Path, **environ: str) -> Settings:
    return load(PROJECT / "fairmark.toml", {f"FAIRMARK_{name}": value for name, value in environ.items()})


def test_a_services_key_file_may_be_a_keystore(tmp_path: Path, password: Path):
    file = tmp_path / "submitter.json"
    file.write_text(encrypt(KEY, "swordfish"))
    found = settings(tmp_path, AGGREGATOR__KEY_FILE=str(file), AGGREGATOR__KEY_PASSWORD_FILE=str(password))
    assert access.aggregator_key(found) == KEY
    with pytest.raises(ConfigurationError, match="AGGREGATOR__KEY_PASSWORD"):
        access.aggregator_key(settings(tmp_path, AGGREGATOR__KEY_FILE=str(file)))


def test_a_development_key_reports_on_development_chains_only(tmp_path: Path):
    known = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"
    at_home = settings(tmp_path, FETCHERS__FETCHER_A__KEY=known)
    assert access.reporter_address(at_home, "fetcher-a") == LocalSigner(known).address
    abroad = settings(tmp_path, FETCHERS__FETCHER_A__KEY=known, CHAIN__CHAIN_ID="8453")
    with pytest.raises(DevelopmentKeyError):
        access.reporter_address(abroad, "fetcher-a")
